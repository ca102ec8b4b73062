#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A process under a shadow stack of Linux's, on --cpu max, under shadow and tdp.
#
#   shstk.sh PENUMBRA PROGRAM [OPTION of scripts/guest.sh]...
#
# PROGRAM: shstk, built from shstk.c. Exit: 0, 1 with what is wrong, 77 when the guest's
# packages are not there (skipped).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1 program=$2
shift 2
. "$here/../lib.sh"
need_guest "$@" --add "$program"
work_folder

for mmu in shadow tdp; do
    printf '%s\n' 'grep -c user_shstk /proc/cpuinfo' shstk exit |
        "$penumbra" run --mmu $mmu --cpu max -m 256M -c 2 --timeout 300 --kernel "$cache/vmlinuz" \
            --initrd "$cache/initrd-shstk.gz" --append "console=ttyS0 panic=-1" > "$work/serial" 2> "$work/err"
    rc=$?
    [ $rc -eq 0 ] || fail "$mmu: exit code $rc: $(cat "$work/err")"
    tr -d '\r' < "$work/serial" > "$work/lines"
    grep -qx 2 "$work/lines" || fail "$mmu: /proc/cpuinfo tells of no user_shstk"
    grep -qx SHSTK-DONE "$work/lines" || fail "$mmu: $(tail -n 8 "$work/lines")"
done
exit $bad
