#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# Inside the lab: the workloads of a counters_MMU.points on its KVM. The host's own paging is kept
# out of KVM's counts: no huge page is put together behind the guest's back, and a page that is
# read first gets its memory at once, not the shared page of zeroes that the first write replaces.
thp=/sys/kernel/mm/transparent_hugepage
echo 0 > $thp/use_zero_page
echo 3600000 > $thp/khugepaged/scan_sleep_millisecs
cd /lab || exit 99
./penumbra bench --mmu kvm $(sed '/^#/d' points) --kernel vmlinuz --initrd initrd.gz -m 128M \
    --warmup 0 --repeat 1 --pin off --timeout 600 --json out/kvm.json < /dev/null
