#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Studies of a trace of 10 million events: each takes 3 s and 256 MiB at most, on one core.
#
#   faults_speed.sh PENUMBRA
. "$(dirname "$0")/lib.sh"
need_guest
printf '%s\n' 'for i in 1 2 3; do sh /script.sh; rm -f /tmp/fifo; done' 'poweroff -f' > "$work/input"
timeout 500 "$penumbra" run --mmu tdp -m 256M --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" \
    --append "console=ttyS0 quiet panic=-1" --trace "$work/t" --trace-tasks < "$work/input" > "$work/out" 2> "$work/err" ||
    fail "the run: exit code $?: $(cat "$work/err")"
events=$("$penumbra" trace "$work/t" --count | awk '{ n += $1 } END { print n }')
[ "$events" -ge 10000000 ] || fail "$events events are less than 10 million"
# study NAME ARG...: user and system time, and the most memory that was resident.
study() {
    local name=$1 line
    shift
    line=$(python3 - "$penumbra" faults "$work/t" "$@" << 'E2'
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds, mib = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
print("%.2f s, %.0f MiB" % (seconds, mib))
sys.exit(seconds > 3 or mib > 256)
E2
    ) || fail "$name of $events events takes $line"
    echo "$name: $line"
}
echo "$events events"
study outcomes
study "causes, processes, functions" --symbols "$cache/vmlinuz" --by cause,process,function
study "pages, costs, reports" --by page,cr3 --figures --report unsync,unused,working_set
study "a page with charts" --symbols "$cache/vmlinuz" --html "$work/html"
exit $bad
