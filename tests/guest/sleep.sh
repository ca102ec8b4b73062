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
need_guest
work_folder

# The words of what it prints are not those that the console echoes.
printf '%s\n' 'seq 1 60000 > /tmp/numbers' \
    'echo +5 > /sys/class/rtc/rtc0/wakealarm' \
    'echo slept "$(cat /sys/power/mem_sleep)" $(echo mem > /sys/power/state; echo $?)' \
    'echo numbers "$(awk "{ s += \$1 } END { print s }" /tmp/numbers)" of $(grep -c ^processor /proc/cpuinfo)' \
    'exit' |
    "$penumbra" run --mmu "$mmu" -m 128M -c 2 --timeout 300 --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" \
        --append "console=ttyS0 panic=-1 no_console_suspend" > "$work/serial" 2> "$work/err"
rc=$?
[ $rc -eq 0 ] || fail "exit code $rc: $(cat "$work/err")"
tr -d '\r' < "$work/serial" > "$work/lines"
for line in 'ACPI: PM: Preparing to enter system sleep state S3$' 'ACPI: PM: Waking up from system sleep state S3$' \
    '^slept s2idle \[deep\] 0$' '^numbers 1800030000 of 2$'; do
    grep -q -- "$line" "$work/lines" || fail "not on the console: $line"
done
[ $bad -eq 0 ] || tail -n 40 "$work/lines"
exit $bad
