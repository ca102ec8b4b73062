#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# penumbra trace --to: each export holds every event of the trace, with its fields, in the order of
# time; its faults are those of the counters and of penumbra faults, under both MMUs. The real
# babeltrace2 reads ctf, the real trace-cmd tracecmd. ctf2 is read by its own description (export.py); by babeltrace2 2.1, too, where this host or
# the cache has one (babeltrace.sh), and PENUMBRA_CTF2=babeltrace2 fetches one.
#
#   export.sh PENUMBRA [linux]    small guests, or Debian's kernel
. "$(dirname "$0")/lib.sh"
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
command -v babeltrace2 > /dev/null || skip "babeltrace2 is not installed"
command -v trace-cmd > /dev/null || skip "trace-cmd is not installed"

ctf2=$("$here/babeltrace.sh" ${PENUMBRA_CTF2:+--download} 2> /dev/null) || ctf2=
[ -n "$ctf2" ] || [ -z "${PENUMBRA_CTF2-}" ] || skip "no babeltrace2 of 2.1 or newer"

# shown FORMAT [ARG...]: $work/t in the format, to standard output; of ctf, what babeltrace2 makes of it, and of
# tracecmd trace-cmd.
shown() {
    local format=$1 rc=0
    shift
    if [ "$format" = tracecmd ]; then
        "$penumbra" trace "$work/t" --to tracecmd -o "$work/dat" "$@" 2> "$work/err" || rc=$?
        trace-cmd report -t -i "$work/dat" 2>> "$work/err" || rc=$?
    elif [[ $format != ctf* ]]; then
        "$penumbra" trace "$work/t" --to "$format" -o - "$@" 2> "$work/err" || rc=$?
    else
        rm -rf "$work/folder"
        "$penumbra" trace "$work/t" --to "$format" -o "$work/folder" "$@" > "$work/err" 2>&1 || rc=$?
        if [ "$format" = ctf ]; then
            babeltrace2 --clock-seconds "$work/folder" 2>> "$work/err" || rc=$?
        elif [ -n "$ctf2" ]; then
            "$ctf2" --clock-seconds "$work/folder" 2>> "$work/err" || rc=$?
        else
            python3 "$here/export.py" decode "$work/folder" 2>> "$work/err" || rc=$?
        fi
    fi
    [ "$rc" -eq 0 ] && [ ! -s "$work/err" ] || fail "$about: --to $format: exit code $rc: $(head -n 5 "$work/err")" >&2
    return $bad
}
exported() {
    shown "$@" > "$work/$1"
}
check() {
    python3 "$here/export.py" "$@" > "$work/why" 2>&1 || fail "$about: $1 $2: $(tail -n 1 "$work/why" | cut -c 1-800)"
    return $bad
}
# agree ctf|ctf2...: every export of $work/t has the faults of the counters in $work/s.json. All events of a
# boot are a gigabyte of text: no file holds them.
agree() {
    run faults "$work/t" --json "$work/f.json"
    for format in "$@" ftrace tracecmd perfetto folded; do
        only=()
        [ $format != tracecmd ] || only=(--event fault_outcome) # trace-cmd takes its time
        shown $format "${only[@]}" | check counts $format /dev/stdin "$work/s.json" "$work/f.json" "$top/include/penumbra/outcomes.inc" ||
            fail "$about: $format"
    done
}

if [ "${2:-}" = linux ]; then
    need_guest
    for mmu in shadow tdp; do
        about="a boot under $mmu"
        run run --mmu $mmu -m 256M --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" --timeout 110 --trace "$work/t" \
            --stats "$work/s.json" --append "console=ttyS0 panic=-1 pn.script"
        [ "$rc" -eq 0 ] || fail "$about: exit code $rc: $(cat "$work/err")"
        agree ctf
        exported folded --symbols "$cache/vmlinuz"
        grep -Eq '^cr3 0x[0-9a-f]+;clear_page_[a-z]+;mapped [0-9]+$' "$work/folded" || fail "$about: no page is cleared: $(head -n 3 "$work/folded")"
    done
    exit $bad
fi

for mmu in shadow tdp; do
    about="the embedded guest under $mmu"
    run run --mmu $mmu --dirty-log wp --dirty-every 1 --append "pages=64 swaps=50 flips=20 switches=20 compute=1000" \
        --trace "$work/t" --stats "$work/s.json"
    agree ctf ctf2
    "$penumbra" trace "$work/t" > "$work/text"
    for format in ctf ctf2 ftrace tracecmd perfetto; do
        exported $format
        check $format "$work/text" "$work/$format"
    done
done
# What the description of CTF 2 says, without babeltrace2.
"$penumbra" trace "$work/t" --to ctf2 -o "$work/second" 2> "$work/err" || fail "ctf2: $(cat "$work/err")"
python3 "$here/export.py" decode "$work/second" > "$work/ctf2" 2> "$work/err" || fail "ctf2: $(tail -n 1 "$work/err")"
check ctf2 "$work/text" "$work/ctf2"
"$penumbra" trace "$work/t" --to ctf -o "$work/first" 2> "$work/err" && cmp "$work/first/vcpu0" "$work/second/vcpu0" ||
    fail "ctf and ctf2 have different streams"
rm -rf "$work/folder" && mv "$work/first" "$work/folder"
# Every event that events.inc has is described, with words for what has words.
for word in '"no_fault" = 0' '"tracked_table" = ' '"triple-fault" = ' '"flood" = 0' 'name = "kvm_tdp_spte"' 'x64 _old_spte'; do
    grep -qF -- "$word" "$work/folder/metadata" || fail "no $word in the metadata"
done
while read -r name; do
    grep -q "name = \"$name\"" "$work/folder/metadata" || fail "the metadata lacks $name"
done < <(sed -n 's/^PN_EVENT(\([a-z_]*\),.*/\1/p' "$top/include/penumbra/events.inc")

about="several vCPUs"
run run -c 2 --mmu tdp --append "pages=64 swaps=5 flips=2 switches=2 compute=1000" --trace "$work/t"
"$penumbra" trace "$work/t" > "$work/text"
for format in ctf ctf2 ftrace tracecmd perfetto; do
    exported $format
    check $format "$work/text" "$work/$format"
done
[ -s "$work/folder/vcpu1" ] || fail "no stream of the second vCPU"

about="a part of a trace"
run run --append "pages=64 swaps=5 flips=2 switches=2 compute=1000" --trace "$work/t"
"$penumbra" trace "$work/t" --event page_fault,fault_outcome --to 1000 --gva 0x100000-0x1fffff > "$work/text"
[ -s "$work/text" ] || fail "no events"
for format in ctf ctf2 ftrace tracecmd perfetto; do
    exported $format --event page_fault,fault_outcome --to 1000 --gva 0x100000-0x1fffff
    check $format "$work/text" "$work/$format"
done
run faults "$work/t" --to 1000 --json "$work/f.json"
exported folded --to 1000
[ "$(awk '{ n += $NF } END { print n }' "$work/folded")" -eq "$(sed -n 's/^ "faults": \([0-9]*\),$/\1/p' "$work/f.json")" ] || fail "$about: folded"
exported ctf --event nmi
[ ! -s "$work/ctf" ] || fail "no events: $(head -n 2 "$work/ctf")"

about="trace-cmd's filters"
"$penumbra" trace "$work/t" --to tracecmd -o "$work/dat"
for filter in gva guest_rip; do
    trace-cmd report -t -F "page_fault: $filter == 0x100000" -i "$work/dat" > "$work/out" 2> "$work/err"
    [ "$(grep -c page_fault "$work/out")" -eq 1 ] && [ "$(wc -l < "$work/out")" -eq 2 ] || fail "$about: $filter: $(head -n 4 "$work/out" "$work/err")"
done

about="pipes"
for format in ftrace tracecmd perfetto folded; do
    "$penumbra" trace "$work/t" --to $format -o - | cat > "$work/piped"
    "$penumbra" trace - --to $format -o "$work/o" < "$work/t" && cmp -s "$work/o" "$work/piped" && [ -s "$work/o" ] ||
        fail "$format from standard input"
done

# Times that are further apart than an event of the ring buffer's can tell.
about="long waits"
run run --append "pages=16 swaps=2 flips=2 switches=2 compute=800000000" --trace "$work/t"
"$penumbra" trace "$work/t" > "$work/text"
exported tracecmd
check tracecmd "$work/text" "$work/tracecmd"

# What is damaged or cut ends as in penumbra trace, and what could be read is written.
about="a broken trace"
head -c 3000 "$work/t" > "$work/cut"
{ head -c 3000 "$work/t" && head -c 500 /dev/zero && tail -c +3501 "$work/t"; } > "$work/garbled"
for file in cut garbled; do
    for format in ctf ftrace tracecmd perfetto folded; do
        rm -rf "$work/o"
        run trace "$work/$file" --to $format -o "$work/o"
        [ "$rc" -eq 7 ] && [ -e "$work/o" ] || fail "$file as $format: exit code $rc: $(cat "$work/err")"
    done
done

about="events that were lost"
run run --append "pages=64 swaps=50 flips=20 switches=20 compute=1000" --trace "$work/t" --trace-limit 4096
run trace "$work/t" --to ctf -o "$work/lost"
lost=$(sed -n 's/.*: \([0-9]*\) events were lost.*/\1/p' "$work/err")
babeltrace2 "$work/lost" > /dev/null 2> "$work/babeltrace"
[ -n "$lost" ] && grep -q " $lost events" "$work/babeltrace" || fail "$about: '$lost', not $(cat "$work/babeltrace")"
run trace "$work/t" --to ftrace -o -
grep -q "^# lost when it was recorded: $lost events" "$work/out" || fail "$about: ftrace"

# Outputs that are there: a file is replaced in the end, a folder must be empty.
about="outputs"
run run --append "pages=16 swaps=1 flips=1 switches=1 compute=1" --trace "$work/t"
echo old > "$work/o.txt"
exported ftrace
run trace "$work/t" --to ftrace -o "$work/o.txt"
[ "$rc" -eq 0 ] && cmp -s "$work/o.txt" "$work/ftrace" || fail "a file that was there"
mkdir "$work/empty"
run trace "$work/t" --to ctf -o "$work/empty/"
[ "$rc" -eq 0 ] && [ -s "$work/empty/metadata" ] || fail "an empty folder: $(cat "$work/err")"
refused 1 trace "$work/t" --to ctf -o "$work/empty"
grep -q "cannot write $work/empty: there is something already" "$work/err" || fail "a full folder: $(cat "$work/err")"
refused 1 trace "$work/t" --to ctf -o "$work/o.txt"
refused 1 trace "$work/t" --to ctf -o "$work/nowhere/o"
refused 1 trace "$work/t" --to ftrace -o "$work/nowhere/o"
refused 1 trace "$work/t" --to folded -o "$work/nowhere/o"
for format in ftrace tracecmd perfetto folded; do
    refused 1 trace "$work/t" --to $format -o /dev/full
    grep -q 'cannot write /dev/full: No space left on device' "$work/err" || fail "$format: a full disk: $(cat "$work/err")"
done
if unshare -rm true 2> /dev/null; then
    mkdir "$work/disk"
    run run --append "pages=64 swaps=50" --trace "$work/big"
    unshare -rm sh -c "mount -t tmpfs -o size=64k none $work/disk
        '$penumbra' trace $work/big --to ctf -o $work/disk/o 2> $work/err
        echo \$? > $work/rc; ls -A $work/disk > $work/left" < /dev/null
    [ "$(cat "$work/rc")" -eq 1 ] && grep -q "cannot write $work/disk/o: No space left on device" "$work/err" && [ ! -s "$work/left" ] ||
        fail "ctf: a full disk: exit code $(cat "$work/rc"): $(cat "$work/err" "$work/left")"
fi
# says WORDS ARG...: refused, in a line with these words.
says() {
    local words=$1
    shift
    refused 2 trace "$work/t" "$@"
    grep -qF -- "$words" "$work/err" || fail "no '$words': trace $*: $(cat "$work/err")"
}
says "--to ctf needs -o" --to ctf
says "-o needs --to FORMAT" -o "$work/o"
says "-o needs --to FORMAT" -o "$work/o" --to 100
says "did you mean folded?" --to foldet -o "$work/o"
says "neither a format nor a time" --to frobnicate -o "$work/o"
says "not a time" --to 1parsec
says "--to ctf makes a folder" --to ctf -o -
says "--to ctf2 makes a folder" --to ctf2 -o -
says "would replace the trace" --to ftrace -o "$work/t"
says "one of them" --to ftrace -o "$work/o" --count
says "--event does nothing with --to folded" --to folded -o "$work/o" --event nmi
says "--symbols does nothing with --to ctf" --to ctf -o "$work/o" --symbols "$work/t"
says "--symbols needs --to folded" --symbols "$work/t"
refused 2 trace "$work/t" --to folded -o "$work/o" --symbols "$0"
refused 2 trace "$0" --to ctf -o "$work/o"
run run --append "pages=16 swaps=1 flips=1 switches=1 compute=1" --trace "$work/none" --trace-events tlb_flush
refused 2 trace "$work/none" --to folded -o "$work/o"
run trace --to help
[ "$rc" -eq 0 ] && [ "$(grep -Ec '^  (ctf|ctf2|ftrace|tracecmd|perfetto|folded) ' "$work/out")" -eq 6 ] || fail "--to help: $(cat "$work/out")"
[ -z "$(find "$work" -name '*.part')" ] || fail "files left behind: $(find "$work" -name '*.part')"
exit $bad
