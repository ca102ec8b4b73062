#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux suspends to RAM and its clock's alarm wakes it, on two vCPUs; it finds its files again.
#
#   sleep.sh PENUMBRA MMU
#
# Exit: 0, 1 with what is wrong, 77 when the guest's packages are not there (skipped).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1 mmu=$2
. "$here/../lib.sh"
. "$here/slept.sh"
need_guest
work_folder

rc=0
# A pipe: what it prints comes when it comes, as from a terminal.
cat "$here/sleep.input" | "$penumbra" run --mmu "$mmu" -m 128M -c 2 --timeout 300 --kernel "$cache/vmlinuz" \
    --initrd "$cache/initrd.gz" --append "console=ttyS0 panic=-1 no_console_suspend" > "$work/serial" 2> "$work/err" || rc=$?
[ $rc -eq 0 ] || fail "exit code $rc: $(cat "$work/err")"
slept "$work/serial"
[ $bad -eq 0 ] || tail -n 40 "$work/serial"
exit $bad
