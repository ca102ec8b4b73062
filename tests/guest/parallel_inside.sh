#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A guest whose vCPUs are threads, looked into while it runs: the monitor stops it, shows both vCPUs, checks the MMU and
# lets it go on; it is saved, and goes on from there under the other MMU; gdb stops both vCPUs, steps and watches; what
# needs one vCPU after another is refused with a line.
#
#   parallel_inside.sh PENUMBRA ADDRESS_OF
. "$(dirname "$0")/../cli/lib.sh"
address_of=$2
need_guest
host=(--clock host --parallel -c 2)
guest=(-m 256M --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" --append "console=ttyS0 panic=-1 nokaslr pn.script")

# ask COMMAND...: the monitor's answer is $work/said.
ask() { timeout 60 "$penumbra" monitor "$work/mon" "$@" > "$work/said" 2>&1 || fail "$mmu: $*: $(tail -n 3 "$work/said")"; }
# has REGEX: the answer has such a line.
has() { grep -qE -- "$1" "$work/said" || fail "$mmu: no '$1' in: $(tail -n 5 "$work/said")"; }

mmu=shadow
"$penumbra" run --mmu $mmu "${host[@]}" "${guest[@]}" --monitor "$work/mon" > "$work/a.out" 2> "$work/a.err" < /dev/null &
pid=$!
until [ -S "$work/mon" ]; do kill -0 $pid 2> /dev/null || break; sleep 0.02; done
until grep -q GUEST "$work/a.out"; do kill -0 $pid 2> /dev/null || break; sleep 0.02; done # its script has begun
ask stop
ask info status
has '^VM status: paused$'
ask info cpus
has 'CPU #0: rip 0x' && has 'CPU #1: rip 0x'
cp "$work/said" "$work/before"
ask info registers
has '^vCPU 0, '
ask info cpus
cmp -s "$work/before" "$work/said" || fail "$mmu: a vCPU goes on while the guest stands"
ask dump
ask audit
ask cont
ask snapshot save "$work/saved"
ask audit
wait $pid || fail "$mmu: exit code $?: $(tail -n 3 "$work/a.err")"
grep -q GUEST-DONE "$work/a.out" || fail "$mmu: who was looked into did not finish"

mmu=tdp
run run --restore "$work/saved" --mmu $mmu --parallel --timeout 100
[ $rc -eq 0 ] || fail "$mmu: restored: exit code $rc: $(tail -n 3 "$work/err")"
grep -q GUEST-DONE "$work/out" || fail "$mmu: who was restored did not finish"

if command -v gdb > /dev/null && sys=$("$address_of" "$cache/vmlinuz" __x64_sys_newuname); then
    timeout 100 "$penumbra" run --mmu $mmu "${host[@]}" "${guest[@]}" --gdb "$work/socket" -S > "$work/out" 2> "$work/err" < /dev/null &
    pid=$!
    until [ -S "$work/socket" ]; do kill -0 $pid 2> /dev/null || break; sleep 0.02; done
    timeout 90 gdb -nx -batch -ex "set pagination off" -ex "set confirm off" -ex "target remote $work/socket" -ex "hbreak *$sys" -ex continue \
        -ex "info threads" -ex "p \$pc" -ex "stepi 20" -ex delete -ex "watch -l *(long *)(\$rsp - 8)" -ex continue -ex delete -ex detach > "$work/said" 2>&1
    has "Breakpoint 1, $sys"
    has "vCPU 0" && has "vCPU 1"
    has "Old value"
    rc=0
    wait $pid || rc=$?
    [ $rc -eq 0 ] && grep -q GUEST-DONE "$work/out" || fail "$mmu: who was debugged: exit code $rc: $(tail -n 3 "$work/err")"
fi

refused 2 run "${host[@]}" --gdb "$work/s2" --checkpoints 4
refused 2 run "${host[@]}" --profile "$work/p"
exit $bad
