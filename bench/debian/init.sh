#!/bin/sh
# SPDX-License-Identifier: MIT
# The first process of a guest that `penumbra bench debian.*` boots, in place of systemd: pn.debian=NAME:N on the
# kernel's command line says what it runs. It prints the lines of bench/workload.h, and powers off.
#
#     workload: begin name=debian-sqlite n=N
#     workload: time ns=N                                     by pn-linux, which marks the measured part
#     workload: end name=debian-sqlite ops=N checksum=HEX
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TZ=UTC
here=/usr/local/lib/penumbra
job=$(sed -n 's/.*pn\.debian=\([a-z]*:[0-9]*\).*/\1/p' /proc/cmdline)
name=${job%:*} n=${job#*:}
end() {
    poweroff -ff
    sleep 60
}
die() {
    echo "workload: error: $name: $*"
    end
}
. $here/programs.sh
[ -n "$name" ] || die "no pn.debian=NAME:N on the command line"
type "run_$name" > /dev/null || die "this disk has no such program: make it anew"
mkdir -p /var/tmp/bench && cd /var/tmp/bench || die "/var/tmp"
mount -t tmpfs -o mode=755 run /run 2> /dev/null
mkdir -p /dev/shm && mount -t tmpfs shm /dev/shm
echo "workload: begin name=debian-$name n=$n"
: > out
"set_up_$name" > log 2>&1 || die "its set-up: $(tail -n 1 log)"
sync
# The begin mark, the program, the end mark; what it prints is in `out`, and what must be equal in `same`.
pn-linux -m time "$here/program" "$name" "$n" || die "$(tail -n 1 log)"
[ ! -f figures ] || sed 's/^/workload: note /' figures
[ -s same ] || die "it left no result"
echo "workload: end name=debian-$name ops=$n checksum=$(md5sum < same | cut -c 1-16)"
end
