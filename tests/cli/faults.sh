#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# penumbra faults: the faults of a guest whose faults are known are those that it shows; its totals
# are the run's counters, under both MMUs; what it counts together is what the trace's lines say;
# functions are those that a Linux guest names itself, wherever KASLR has moved it.
#
#   faults.sh PENUMBRA [linux]    small guests, or Debian's kernel
. "$(dirname "$0")/lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
cat > "$work/check.py" <<'E'
"""check.py totals STATS FAULTS OUTCOMES | lines TEXT CSV | names CONSOLE CSV"""
import base64, bisect, collections, csv, gzip, json, re, sys


def totals(stats, faults, outcomes):
    """Every outcome's faults are its counter; all tables hold every fault."""
    counters, study = json.load(open(stats))["counters"], json.load(open(faults))
    listed = dict(re.findall(r"^PN_OUTCOME\((\w+), \w+, (\w+),", open(outcomes).read(), re.M))
    del listed["tracked_code"]  # no fault: outcomes.inc
    by_outcome, by_function = study["tables"]
    got = {row["outcome"]: row["faults"] for row in by_outcome["rows"]}
    want = {name: counters[counter] for name, counter in listed.items() if counters[counter]}
    assert got == want, (got, want)
    assert study["faults"] == sum(want.values()) == counters["pf_taken"] + counters["pf_mmio_spte"]
    assert study["own"] == counters["pf_guest"] and study["untold"] == 0
    for table in by_outcome, by_function:
        assert table["beyond"] == 0 and sum(row["faults"] for row in table["rows"]) == study["faults"]
        assert sum(row["own"] for row in table["rows"]) == study["own"]


def lines(text, table):
    """The rows by outcome, access, page and rip are what the lines of the trace say."""
    want, error = collections.Counter(), None
    for line in open(text):
        field = dict(word.split("=") for word in line.split()[3:])
        if line.split()[2] == "page_fault":
            error = field["error"].split(",")
        else:
            access = "write" if "write" in error else \
                "fetch" if "fetch" in error or field["gva"] == field["rip"] else "read"
            want[field["outcome"], access, hex(int(field["gva"], 16) & ~0xfff), field["rip"]] += 1
    got = {(r["outcome"], r["access"], r["page"], r["rip"]): int(r["faults"]) for r in csv.DictReader(open(table))}
    assert got == want, (len(got), len(want))


def names(console, table):
    """Each function is the one that the guest's own /proc/kallsyms has there."""
    packed = re.search(r"SYMBOLS-BEGIN\s+(.*?)\s+SYMBOLS-END", open(console, errors="replace").read(), re.S)
    at = collections.defaultdict(set)
    for line in gzip.decompress(base64.b64decode(packed.group(1))).decode().splitlines():
        address, name = line.split()
        at[int(address, 16)].add(name)
    starts = sorted(at)
    named = 0
    for row in csv.DictReader(open(table)):
        rip, function = int(row["rip"], 16), row["function"]
        if function == "(user space)":
            assert rip < 1 << 47, row
        elif function != "(unknown)":
            assert function in at[starts[bisect.bisect(starts, rip) - 1]], row
            named += 1
        else:
            assert not starts[0] <= rip < starts[-1], row
    assert named > 200, named
    assert starts[0] - 0xffffffff81000000 > 0, "the kernel was not moved"


globals()[sys.argv[1]](*sys.argv[2:])
E
check() {
    python3 "$work/check.py" "$@" > "$work/why" 2>&1 || fail "$about: $1: $(tail -n 1 "$work/why")"
}
# totals: of $mmu's run, whose trace and statistics are $work/t and $work/s.json.
totals() {
    run faults "$work/t" --json "$work/f.json"
    [ "$rc" -eq 0 ] || fail "$about: exit code $rc: $(cat "$work/err")"
    check totals "$work/s.json" "$work/f.json" "$top/include/penumbra/outcomes.inc"
}

if [ "${2:-}" = linux ]; then
    need_guest
    guest=(-m 256M --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" --timeout 110 --trace "$work/t"
        --stats "$work/s.json" --trace-events page_fault,fault_outcome,walker_error)
    for mmu in shadow tdp; do
        about="a boot under $mmu"
        run run --mmu $mmu "${guest[@]}" --append "console=ttyS0 panic=-1 pn.script"
        [ "$rc" -eq 0 ] || fail "$about: exit code $rc: $(cat "$work/err")"
        totals
    done
    about="functions"
    cat > "$work/input" << 'E'
(echo SYMBOLS"-"BEGIN; grep -i ' [tw] ' /proc/kallsyms | cut -d' ' -f1,3 | gzip | base64; echo SYMBOLS"-"END)
for i in 1 2 3 4 5; do /bin/busybox true; done
poweroff -f
E
    timeout 120 "$penumbra" run "${guest[@]}" --append "console=ttyS0 quiet panic=-1" < "$work/input" > "$work/console" 2> "$work/err" ||
        fail "$about: $(cat "$work/err")"
    run faults "$work/t" --symbols "$cache/vmlinuz" --by function,rip --csv "$work/f.csv"
    check names "$work/console" "$work/f.csv"
    run faults "$work/t" --symbols "$cache/vmlinuz"
    grep -q ' clear_page_' "$work/out" || fail "no page is cleared: $(cat "$work/out")"
    exit $bad
fi

# Under both MMUs the six faults of seven instructions: read, write, a read that faults no more,
# MMIO twice, and a #PF that there is no handler for. The boot tables end at 4 GiB.
bytes "$work/flat" 8a 04 25 00 00 30 00 88 04 25 00 00 50 00 8a 04 25 00 00 30 00 \
    b8 00 00 d4 fe 8a 18 8a 18 48 b8 00 00 00 40 01 00 00 00 8a 18
printf '%s\n' "0000000000100000 T reads_and_writes" "000000000010001a t device" "000000000010001e T last" > "$work/map"
cat > "$work/want" << 'E'
outcome,reason,access,function,faults,own,first,last
mapped,-,read,reads_and_writes,1,0,0,0
mapped,-,write,reads_and_writes,1,0,1,1
mapped,-,fetch,reads_and_writes,1,0,0,0
mmio,-,read,device,1,0,4,4
mmio_cached,-,read,device,1,0,5,5
guest_pf,not_present,read,last,1,1,7,7
E
for mmu in shadow tdp; do
    about="six faults under $mmu"
    run run --mmu $mmu --kernel "$work/flat" --format flat --flat-bits 64 --trace "$work/t"
    run faults "$work/t" --by outcome,reason,access,function --symbols "$work/map" --csv "$work/f.csv"
    [ "$rc" -eq 0 ] && cmp -s "$work/want" "$work/f.csv" || fail "$about: $(diff "$work/want" "$work/f.csv")"
    grep -q '^6 faults in 7 ns of guest time: 1 (16.7%) are the guest.s own, 5 (83.3%) are hidden' "$work/out" ||
        fail "$about: $(head -n 1 "$work/out")"
    run faults "$work/t" --rip device --symbols "$work/map" --by page
    grep -q '^ *2  100.0%  *0  0xfed40000$' "$work/out" || fail "$about: --rip: $(cat "$work/out")"
    run faults "$work/t" --gva 0x500000-0x5fffff --by rip,cpl,vcpu,cr3
    grep -q ' 0x100007 0   0    0x82000$' "$work/out" || fail "$about: --gva: $(cat "$work/out")"
    run faults "$work/t" --outcome mmio,mmio_cached --from 5 --by outcome
    grep -q '^1 faults' "$work/out" || fail "$about: --outcome, --from: $(cat "$work/out")"
    run faults "$work/t" --cr3 0x82fff
    grep -q '^6 faults' "$work/out" || fail "$about: --cr3: $(cat "$work/out")"
    # In words: each once, in order, as the events have it; a run tells the same of itself.
    run faults "$work/t" --symbols "$work/map" --narrate 100
    mv "$work/out" "$work/told"
    sed -n -e 's/^Fault \([0-9]*\), .* \(reads\|writes\|fetches its code at\) \(0x[0-9a-f]*\) at CPL 0\.$/\1 \2 \3/p' \
        -e 's/^  Outcome \([a-z_]*\): .*/\1/p' "$work/told" | paste -d' ' - - > "$work/story"
    cat > "$work/want-story" << 'E'
1 fetches its code at 0x100000 mapped
2 reads 0x300000 mapped
3 writes 0x500000 mapped
4 reads 0xfed40000 mmio
5 reads 0xfed40000 mmio_cached
6 reads 0x140000000 guest_pf
E
    cmp -s "$work/want-story" "$work/story" || fail "$about: --narrate: $(diff "$work/want-story" "$work/story")"
    grep -qE "^  The guest's tables: the walk reads 2 entries: level 4 is 0x[0-9a-f]+, level 3 is 0x0, which is not present: it gets a #PF \(0\)\.\$" \
        "$work/told" || fail "$about: the guest's #PF is not told: $(tail -n 7 "$work/told")"
    grep -q ', last, reads 0x140000000' "$work/told" || fail "$about: no function is named"
    run faults "$work/t" --outcome mmio --narrate 1
    [ "$(grep -c '^Fault ' "$work/out")" = 1 ] && grep -q '^  Cause device: ' "$work/out" ||
        fail "$about: --outcome --narrate: $(cat "$work/out")"
    run faults "$work/t" --narrate 2
    mv "$work/out" "$work/two"
    [ "$(grep -c '^Fault ' "$work/two")" = 2 ] || fail "$about: --narrate 2: $(cat "$work/two")"
    run run --mmu $mmu --kernel "$work/flat" --format flat --flat-bits 64 --explain-faults 2
    diff <(grep '^Fault\|^  ' "$work/two") <(grep '^Fault\|^  ' "$work/err") > "$work/why" ||
        fail "$about: run --explain-faults: $(cat "$work/why")"
    run faults "$work/t" --vcpu 1 --narrate 1
    [ "$rc" -eq 0 ] && [ "$(cat "$work/out")" = "No faults." ] || fail "$about: none to narrate: $(cat "$work/out")"
    run faults "$work/t" --vcpu 1
    [ "$rc" -eq 0 ] && grep -q '^No faults' "$work/out" || fail "$about: --vcpu 1: $(cat "$work/out")"
done

for mmu in shadow tdp; do
    about="the embedded guest under $mmu"
    run run --mmu $mmu --dirty-log wp --dirty-every 1 --append "pages=64 swaps=50 flips=20 switches=20 compute=1000" \
        --trace "$work/t" --stats "$work/s.json"
    totals
    "$penumbra" trace "$work/t" --event page_fault,fault_outcome > "$work/text"
    run faults "$work/t" --by outcome,access,page,rip --csv "$work/f.csv"
    check lines "$work/text" "$work/f.csv"
    "$penumbra" faults - --json - < "$work/t" 2> "$work/err" | python3 -c 'import json, sys; json.load(sys.stdin)' ||
        fail "$about: standard input, or output"
    grep -q 'faults in' "$work/err" || fail "$about: no text beside the JSON"
done

# What is damaged, cut or foreign ends as in penumbra trace; what could be read is counted.
about="a broken trace"
head -c 3000 "$work/t" > "$work/cut"
{ head -c 3000 "$work/t" && head -c 500 /dev/zero && tail -c +3501 "$work/t"; } > "$work/garbled"
for file in cut garbled; do
    run trace "$work/$file"
    want=$rc
    run faults "$work/$file"
    [ "$rc" -eq "$want" ] && [ "$rc" -eq 7 ] || fail "$file: exit code $rc, not $want"
done
refused 2 faults
refused 2 faults a b
refused 1 faults /nonexistent/t
refused 2 faults "$0"
refused 2 faults /dev/null
refused 1 faults "$work"
refused 1 faults "$work/t" --symbols /nonexistent/map
refused 2 faults "$work/t" --symbols "$0"
refused 2 faults "$work/t" --symbols "$work/t"
refused 1 faults "$work/t" --json /nonexistent/x
refused 2 faults "$work/t" --json "$work/t"
refused 2 faults "$work/t" --csv "$work/map" --symbols "$work/map"
# says WORDS ARG...: refused, in a line with these words.
says() {
    local words=$1
    shift
    refused 2 faults "$work/t" "$@"
    grep -qF -- "$words" "$work/err" || fail "no '$words': faults $*: $(cat "$work/err")"
}
says "did you mean outcome?" --by outcom
says "'help' lists what there is" --by frobnicate
says "page twice" --by page,page
says "more than 4 keys" --by outcome,page,cr3,rip,vcpu
says "did you mean guest_pf?" --outcome guest_fp
says "needs --symbols" --rip somewhere
says "did you mean device?" --rip devise --symbols "$work/map"
says "--kaslr needs --symbols" --kaslr 0
says "not an offset" --kaslr much --symbols "$work/map"
says "not a value of CR3" --cr3 here
says "not a number of at least 1" --top 0
says "does not go with" --narrate 1 --by page
refused 2 run --explain-faults 1 --trace "$work/x"
TMPDIR=/nonexistent refused 1 run --explain-faults 1
says "did you mean --symbols?" --simbols x
run run --append "pages=16 swaps=1 flips=1 switches=1 compute=1" --trace "$work/none" --trace-events tlb_flush
refused 2 faults "$work/none"
run run --append "pages=16 swaps=1 flips=1 switches=1 compute=1" --trace "$work/half" --trace-events page_fault
run faults "$work/half"
[ "$rc" -eq 0 ] && grep -q 'recorded without fault_outcome' "$work/err" && grep -q '(100.0%) is not known' "$work/out" ||
    fail "page_fault alone: exit code $rc: $(cat "$work/err" "$work/out")"
for list in by outcome; do
    run faults "$work/t" --$list help
    [ "$rc" -eq 0 ] && [ "$(wc -l < "$work/out")" -ge 9 ] || fail "--$list help"
done
run faults "$work/t" --by page --top 3
[ "$(grep -c '^ .* 0x[0-9a-f]*$' "$work/out")" -eq 3 ] || fail "--top 3: $(cat "$work/out")"
run faults "$work/t" --csv /dev/full
[ "$rc" -eq 1 ] && grep -q 'cannot write /dev/full: No space' "$work/err" ||
    fail "a full disk: exit code $rc: $(cat "$work/err")"
exit $bad
