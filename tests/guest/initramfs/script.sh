#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# What every boot test runs inside: each step says what it found, the last line says that
# all were right. Steps are chosen for their memory management: fork, exec, copy on write,
# page cache, large buffers, pipes.
fail() {
    echo "GUEST-FAIL: $*"
    poweroff -f
}

echo GUEST-READY
mount | grep -q '^proc on /proc type proc' || fail mount
[ -d /sys/kernel ] || fail sysfs
ps | grep -q '[s]cript.sh' || fail ps
echo "step mount and ps: ok"
if grep -qw la57 /proc/cpuinfo; then echo "paging: 5 levels"; else echo "paging: 4 levels"; fi

sum=$(dd if=/dev/zero bs=1M count=16 2>/dev/null | sha256sum | cut -d' ' -f1)
[ "$sum" = 080acf35a507ac9849cfcba47dc2ad83e01b75663a516279c8b9d243b719643e ] || fail "sha256 $sum"
echo "step dd and sha256sum: ok"

seq 1 60000 > /tmp/numbers
before=$(sha256sum < /tmp/numbers)
gzip /tmp/numbers || fail gzip
[ "$(stat -c %s /tmp/numbers.gz)" -lt 200000 ] || fail "gzip size"
gunzip /tmp/numbers.gz || fail gunzip
[ "$(sha256sum < /tmp/numbers)" = "$before" ] || fail "gzip round trip"
echo "step gzip: ok"

total=$(awk '{ s += $1; n[$1 % 97]++ } END { print s, n[0] }' /tmp/numbers)
[ "$total" = "1800030000 618" ] || fail "awk $total"
echo "step awk: ok"

i=0
while [ $i -lt 150 ]; do
    /bin/busybox true || fail "fork $i"
    i=$((i + 1))
done
n=$(for j in $(seq 1 40); do (echo $((j * j))) & done | awk '{ s += $1 } END { print s }')
[ "$n" = 22140 ] || fail "subshells $n"
i=0
while [ $i -lt 20 ]; do
    echo x | cat | cat | grep -q x || fail "pipe $i"
    i=$((i + 1))
done
echo "step fork and pipes: ok"

# A fifo between two processes, and a file that is mapped, truncated and written again.
mkfifo /tmp/fifo
(seq 1 5000 > /tmp/fifo) &
[ "$(wc -l < /tmp/fifo)" = 5000 ] || fail fifo
wait
dd if=/dev/zero of=/tmp/big bs=64k count=128 2>/dev/null || fail "dd to tmpfs"
cp /tmp/big /tmp/big2 && cmp /tmp/big /tmp/big2 || fail cmp
rm /tmp/big /tmp/big2
echo "step files: ok"
echo GUEST-DONE
