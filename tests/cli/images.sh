#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Images that are none: one line and exit code 2 (1 where the file itself fails).
. "$(dirname "$0")/lib.sh"

refused 1 run --kernel /nonexistent/vmlinuz
refused 1 run --kernel "$work"
: > "$work/empty"
refused 2 run --kernel "$work/empty"
refused 2 run --kernel /etc/passwd
head -c 100000 /dev/urandom > "$work/noise"
refused 2 run --kernel "$work/noise"

need_guest
kernel=$cache/vmlinuz
refused 1 run --kernel "$kernel" --initrd /nonexistent/initrd
for size in 64 600 4096 100000 4000000; do
    head -c $size "$kernel" > "$work/cut"
    refused 2 run --kernel "$work/cut"
done
# xloadflags, bit 0: the kernel has a 64-bit entry.
cp "$kernel" "$work/k32"
printf '\x00' | dd of="$work/k32" bs=1 seek=$((0x236)) conv=notrunc 2>/dev/null
refused 2 run --kernel "$work/k32"
# A damaged payload: the compressed kernel no longer unpacks.
cp "$kernel" "$work/damaged"
dd if=/dev/urandom of="$work/damaged" bs=4096 seek=800 count=200 conv=notrunc 2>/dev/null
refused 2 run --kernel "$work/damaged"
head -c 200M /dev/zero > "$work/huge"
refused 2 run --kernel "$kernel" --initrd "$work/huge" -m 128M
refused 2 run --kernel "$kernel" -m 4M
refused 2 run --kernel "$kernel" --append "$(head -c 100000 /dev/zero | tr '\0' x)"
exit $bad
