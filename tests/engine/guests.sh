#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Flat guests under both soft engines, one instruction at a time and as many as fit.
#
#   guests.sh PENUMBRA TSC FERR BIOS ODD HYPERCALL STEP
. "$(dirname "$0")/../cli/lib.sh"
tsc=$2 ferr=$3 bios=$4 odd=$5 hypercall=$6 step=$7

# guest CODE NAME ARG...: it ends with that exit code, 2 * check + 1.
guest() {
    local want=$1 name=$2
    shift 2
    run run -m 64M --format flat --kernel "$name" --timeout 60 "$@"
    [ $rc -eq "$want" ] || fail "$(basename "$name") $*: exit code $rc: check $((rc >> 1)): $(tail -n 3 "$work/err")"
}

# A jump to the reset vector; INT 19h would do the same.
bytes "$work/again" ea f0 ff 00 f0

for mmu in shadow tdp; do
    for len in 1 64; do
        how=(--mmu $mmu --block-len $len)
        guest 1 "$tsc" "${how[@]}"
        guest 1 "$ferr" "${how[@]}"
        guest 1 "$bios" "${how[@]}" --flat-bits 16 --flat-addr 0x7c00
        [ "$(cat "$work/out")" = B ] || fail "$mmu: no B at the console by INT 10h"
        guest 0 "$work/again" "${how[@]}" --flat-bits 16 --flat-addr 0x7c00 --quiet
        guest 1 "$step" "${how[@]}" --cpu x86-64-v1,+popcnt
        for vendor in intel amd; do
            guest 1 "$odd" "${how[@]}" --cpu x86-64-v1,vendor=$vendor
            guest 1 "$hypercall" "${how[@]}" --pv all --cpu x86-64-v1,vendor=$vendor
            # Without the interface it is #UD, and nothing was sent.
            guest 3 "$hypercall" "${how[@]}" --pv none --cpu x86-64-v1,vendor=$vendor
        done
    done
done
exit $bad
