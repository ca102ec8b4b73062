#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The causes of faults: those of a guest whose faults are known by construction, in their order and
# at their addresses; totals by cause are those by outcome and the run's counters; a Linux guest's
# causes are what it does. Figures and reports are the same in text, JSON and CSV.
#
#   causes.sh PENUMBRA GUEST.elf GUEST.bin    the guest of causes.S
#   causes.sh PENUMBRA linux                  Debian's kernel
. "$(dirname "$0")/lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
cat > "$work/check.py" << 'E'
"""check.py totals STATS CSV OUTCOMES | linux MMU CSV | figures JSON STATS"""
import collections, csv, json, re, sys


def totals(stats, table, outcomes):
    """Of every outcome, the faults of all causes are its counter."""
    counters, got = json.load(open(stats))["counters"], collections.Counter()
    listed = dict(re.findall(r"^PN_OUTCOME\((\w+), \w+, (\w+),", open(outcomes).read(), re.M))
    del listed["tracked_code"]  # no fault: outcomes.inc
    for r in csv.DictReader(open(table)):
        got[r["outcome"]] += int(r["faults"])
    want = {name: counters[counter] for name, counter in listed.items() if counters[counter]}
    assert got == want, (got, want)


def linux(mmu, table):
    """By cause, outcome, process and function."""
    faults, of, functions = collections.Counter(), collections.defaultdict(set), collections.defaultdict(set)
    programs = set()
    for r in csv.DictReader(open(table)):
        faults[r["cause"]] += int(r["faults"])
        functions[r["cause"]].add(r["function"])
        if r["process"] != "?":
            tgid, name = r["process"].split(" ", 1)
            of[tgid].add(r["cause"])
            programs |= {tgid} if name == "busybox" else set()
    want = {"demand", "copy_on_write", "device", "first_access"}
    if mmu == "shadow":
        want |= {"fork", "exec", "exit", "munmap", "mmap", "text_poke", "context_switch", "kernel_map", "sync",
                 "flush", "flood", "reuse", "split", "new_table"}
        assert functions["text_poke"] <= {"native_set_pte", "__text_poke", "text_poke_memcpy"}, functions["text_poke"]
    assert want <= faults.keys(), want - faults.keys()
    assert (faults["unknown"] + faults["table_write"]) * 100 < sum(faults.values()), faults
    # The script starts 150 programs one after another. Each was started, used memory, and ended.
    assert len(programs) >= 150, len(programs)
    want &= {"demand", "copy_on_write", "exec", "exit"}
    for tgid in programs:
        assert want <= of[tgid], (tgid, want - of[tgid])


def figures(study, stats):
    study, counters = json.load(open(study)), json.load(open(stats))["counters"]
    assert study["cost"] == "kvm", study["cost"]
    for table in study["tables"]:
        assert all(r["cycles"] > 0 and r["apart"] <= r["last"] - r["first"] for r in table["rows"])
    refs = [sum(r["refs"] for r in t["rows"]) for t in study["tables"]]
    assert refs[0] == refs[1] > study["faults"], refs
    unsync, unused, pages = study["reports"]
    assert [r["report"] for r in study["reports"]] == ["unsync", "unused", "working_set"]
    assert sum(r["unsyncs"] for r in unsync["rows"]) == counters["sp_unsync"] > 0, counters["sp_unsync"]
    assert all(0 < r["unused"] <= r["zapped"] <= r["built"] for r in unused["rows"])
    assert pages["rows"][-1]["total"] == sum(r["new"] for r in pages["rows"]) > 64, pages["rows"][-1]


globals()[sys.argv[1]](*sys.argv[2:])
E
check() {
    python3 "$work/check.py" "$@" > "$work/why" 2>&1 || fail "$about: $1: $(tail -n 1 "$work/why")"
}
# studied ARG...: faults of $work/t, which has all that they need.
studied() {
    run faults "$work/t" "$@"
    [ "$rc" -eq 0 ] && [ ! -s "$work/err" ] || fail "$about: exit code $rc: $(cat "$work/err")"
}
# totals: by cause, of the run whose statistics are $work/s.json.
totals() {
    studied --by outcome,cause --csv "$work/f.csv"
    check totals "$work/s.json" "$work/f.csv" "$top/include/penumbra/outcomes.inc"
}

if [ "$2" = linux ]; then
    need_guest
    for mmu in shadow tdp; do
        about="a boot under $mmu"
        run run --mmu $mmu -m 256M --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" \
            --append "console=ttyS0 panic=-1 pn.script" --trace "$work/t" --trace-tasks --stats "$work/s.json"
        [ "$rc" -eq 0 ] || fail "$about: exit code $rc: $(cat "$work/err")"
        totals
        studied --symbols "$cache/vmlinuz" --by cause,outcome,process,function --csv "$work/f.csv"
        check linux $mmu "$work/f.csv"
    done
    exit $bad
fi

elf=$2 bin=$3
# Part of the guest, page, outcome, cause, faults, own: in their order.
cat > "$work/shadow" << 'E'
demand,0x40000000,guest_pf,demand,1,1
demand,0x40000000,mapped,demand,1,0
first,0x40001000,mapped,first_access,1,0
first,0x40002000,mapped,first_access,1,0
dirty,0x40002000,mapped,first_write,1,0
store,0x203000,mapped,table_write,1,0
flushed,0x40001000,mapped,flush,1,0
synced,0x40001000,mapped,sync,1,0
again,0x203000,mapped,sync,1,0
upper,0x204000,tracked_table,table_write,3,0
flooded,0x40002000,mapped,flood,1,0
string,0x204000,mapped,reuse,1,0
string,0x204000,tracked_table,table_write,1,0
anew,0x40002000,mapped,new_table,1,0
large,0x40400000,mapped,first_access,1,0
inner,0x40600000,mapped,new_table,1,0
alias,0x8040002000,mapped,context_switch,1,0
device,0xfed40000,mmio,device,1,0
device,0xfed40000,mmio_cached,device,1,0
E
cat > "$work/tdp" << 'E'
demand,0x40000000,guest_pf,demand,1,1
demand,0x40000000,mapped,first_access,1,0
device,0xfed40000,mmio,device,1,0
device,0xfed40000,mmio_cached,device,1,0
E
for mmu in shadow tdp; do
    about="the guest of causes.S under $mmu"
    options=()
    [ $mmu = tdp ] || options=(--mmu-opt prefetch=0)
    run run --mmu $mmu "${options[@]}" --kernel "$bin" --format flat --flat-bits 64 --trace "$work/t" --stats "$work/s.json"
    [ "$rc" -eq 1 ] || fail "$about: exit code $rc: $(cat "$work/err")" # as the debug-exit port has it
    totals
    studied --symbols "$elf" --by function,page,outcome,cause --csv "$work/f.csv"
    # In the order of time, without the parts that only prepare.
    tail -n +2 "$work/f.csv" | sort -t, -k7,7n -s | grep -vE '^(_start|settle|last),' | cut -d, -f1-6 > "$work/got"
    cmp -s "$work/$mmu" "$work/got" || fail "$about: $(diff "$work/$mmu" "$work/got")"

    # Source lines as binutils reads them.
    about="lines of the guest of causes.S under $mmu"
    studied --symbols "$elf" --by rip,line --csv "$work/f.csv"
    tail -n +2 "$work/f.csv" | cut -d, -f1 | addr2line -e "$elf" | sed 's|.*/||; s/ (discriminator.*//' > "$work/want"
    tail -n +2 "$work/f.csv" | cut -d, -f2 | cmp -s - "$work/want" && grep -q '^causes.S:[1-9]' "$work/want" ||
        fail "$about: $(cat "$work/f.csv" "$work/want")"

    about="a dirty log under $mmu"
    run run --mmu $mmu --dirty-log wp --dirty-every 1 --append "pages=64 swaps=50 flips=20 switches=20 compute=1000" \
        --trace "$work/t" --stats "$work/s.json"
    totals
    studied --by outcome,cause --cause dirty_log --csv "$work/f.csv"
    grep -q '^dirty_log,dirty_log,' "$work/f.csv" && ! grep -qvE '^(outcome|dirty_log|mapped_split),' "$work/f.csv" ||
        fail "$about: $(cat "$work/f.csv")"
done

about="few events"
run run --append "pages=16 swaps=1 flips=1 switches=1 compute=1" --trace "$work/t" --trace-events page_fault,fault_outcome
run faults "$work/t" --by cause
[ "$rc" -eq 0 ] && grep -q 'recorded without some events' "$work/err" || fail "$about: exit code $rc: $(cat "$work/err")"
! grep -q first_access "$work/out" || fail "$about: nobody knows what was first: $(cat "$work/out")"
refused 2 faults "$work/t" --cause frok
grep -q 'did you mean fork?' "$work/err" || fail "$about: $(cat "$work/err")"
refused 2 faults "$work/t" --cost kvm
refused 2 faults "$work/t" --by line
refused 2 faults "$work/t" --by line --symbols "$bin"
printf '0000000000100000 T _start\n' > "$work/map"
refused 2 faults "$work/t" --by line --symbols "$work/map"
strip -g -o "$work/stripped" "$elf"
refused 2 faults "$work/t" --by line --symbols "$work/stripped"
grep -q 'no debug information in it' "$work/err" || fail "an ELF without debug information: $(cat "$work/err")"
refused 2 faults "$work/t" --figures --cost kvn
refused 1 faults "$work/t" --figures --cost ./nonexistent.json
for list in cause report; do
    run faults --$list help
    [ "$rc" -eq 0 ] && [ "$(wc -l < "$work/out")" -ge 3 ] || fail "--$list help"
done

about="figures"
run run --append "pages=64 swaps=50 flips=20 switches=20 compute=1000" --trace "$work/t" --stats "$work/s.json"
studied --figures --json "$work/f.json" --report unsync,unused,working_set
check figures "$work/f.json" "$work/s.json"
studied --report working_set --csv "$work/f.csv"
[ "$(head -n 1 "$work/f.csv")" = from,pages,new,total ] || fail "$about: $(head -n 1 "$work/f.csv")"
exit $bad
