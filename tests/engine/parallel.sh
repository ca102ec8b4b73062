#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# vCPUs that are threads: what processors promise each other holds, and a run ends as others do.
#
#   parallel.sh PENUMBRA LITMUS [long]
. "$(dirname "$0")/../cli/lib.sh"
litmus=$2 long=${3-}

bytes "$work/fault" 0f 0b      # UD2 without an IDT
bytes "$work/loop" eb fe
bytes "$work/halt" fa f4 eb fd # HLT with interrupts off

# guest CODE NAME ARG...: it ends with that exit code; of litmus.S: 2 * check + 1.
guest() {
    local want=$1 name=$2
    shift 2
    if [ -n "$long" ]; then # without the limit of run
        rc=0
        "$penumbra" run -m 64M --format flat --kernel "$name" --quiet "$@" < /dev/null 2> "$work/err" || rc=$?
        echo "$*: exit code $rc"
    else
        run run -m 64M --format flat --kernel "$name" --timeout 60 --quiet "$@"
    fi
    [ $rc -eq "$want" ] || fail "$(basename "$name") $*: exit code $rc: check $((rc >> 1)): $(tail -n 3 "$work/err")"
}

for mmu in shadow tdp; do
    how=(--mmu $mmu --clock host --parallel)
    guest 1 "$litmus" "${how[@]}" -c 2
    [ -z "$long" ] || continue
    guest 1 "$litmus" "${how[@]}" -c 2 --block-len 1 --sandbox on
    guest 1 "$litmus" --mmu $mmu -c 2 # the guest itself, one vCPU after another
    guest 3 "$work/fault" "${how[@]}" -c 8
    guest 4 "$work/loop" "${how[@]}" -c 8 --max-insns 1000000
    guest 4 "$work/loop" "${how[@]}" -c 2 --timeout 0.2
    guest 3 "$work/halt" "${how[@]}" -c 2
    grep -q 'halted' "$work/err" || fail "$mmu: no word of the halt: $(cat "$work/err")"
done

# no LINE ARG...: refused with a line that says so.
no() {
    refused 2 run --kernel "$litmus" --format flat --parallel "${@:2}"
    grep -qF -- "$1" "$work/err" || fail "not '$1': $(cat "$work/err")"
}
host=(--clock host)
if [ -z "$long" ]; then
    no '--parallel needs --clock host'
    no 'not under --mmu kvm' --mmu kvm "${host[@]}"
    no '--parallel does not go with --tlb' "${host[@]}" --tlb infinite
    no '--parallel does not go with' "${host[@]}" --record "$work/record"
    no '--parallel: not with a guest that is a hypervisor' "${host[@]}" --cpu x86-64-v3,+svm,vendor=amd
    [ ! -e "$work/record" ] || fail "a recording was begun all the same"
fi
exit $bad
