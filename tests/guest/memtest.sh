#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# memtest86+ 6.10, 64-bit and 32-bit: a bzImage that is not Linux finds no error in 64 MiB, and
# cannot tell shadow from tdp.
#
#   memtest.sh PENUMBRA start    its first tests, under both MMUs
#   memtest.sh PENUMBRA pass     a whole pass: 64-bit under tdp, 32-bit under shadow. 160 s of its 220 to 245 wait for
#                                bits to fade
# Exit: 0, 1 with what is wrong, 77 when the package is not there (skipped).
set -uo pipefail
penumbra=$1 how=$2
. "$(dirname "$0")/../lib.sh"
need_guest --kernel-package memtest86+ --suite bookworm
work_folder

# memtest BITS MMU INSNS: its console is $work/BITS-MMU.
memtest() {
    "$penumbra" run --mmu "$2" -m 64M --kernel "$cache/root/boot/memtest86+$1.bin" --max-insns "$3" \
        --append "console=ttyS0,115200 nopause nobench" < /dev/null > "$work/$1-$2" 2> "$work/err"
    local rc=$?
    [ $rc -eq 4 ] || fail "$1 under $2: exit code $rc, not 4 (a limit): $(cat "$work/err")"
    grep -aq 'Errors: 0 ' "$work/$1-$2" || fail "$1 under $2 shows no number of errors"
    ! grep -aq 'Errors: *[1-9]' "$work/$1-$2" || fail "$1 under $2 finds errors"
}

if [ "$how" = start ]; then
    for bits in x64 ia32; do
        memtest $bits shadow 3e9
        memtest $bits tdp 3e9
        grep -aq '\[Moving inversions, 8 bit pattern\]' "$work/$bits-shadow" || fail "$bits came no further"
        cmp "$work/$bits-shadow" "$work/$bits-tdp" || fail "$bits prints different bytes under shadow and tdp"
    done
else
    memtest x64 tdp 260e9
    memtest ia32 shadow 260e9
    for run in x64-tdp ia32-shadow; do
        grep -aq 'Status: Pass' "$work/$run" || fail "$run: no whole pass"
    done
fi
exit $bad
