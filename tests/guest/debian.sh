#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Debian with systemd from a disk, with its own kernel and initramfs: to a login on the console and by ssh, and a clean
# shutdown, after which e2fsck finds nothing.
#
#   debian.sh PENUMBRA SUITE MMU
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1 suite=$2 mmu=$3
. "$here/../lib.sh"
command -v ssh e2fsck > /dev/null || skip "needs ssh and e2fsck"
work_folder
distro=$("$here/../../scripts/distro.sh" "$suite" 2> "$work/err") || skip "scripts/distro.sh $suite: $(tail -n 1 "$work/err")"
cp --sparse=always "$distro/disk.raw" "$work/disk" || exit 1
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
python3 "$here/debian.py" "$port" "$distro/key" "$penumbra" run --mmu "$mmu" -m 512M --timeout 1500 --clock host --disk "$work/disk" \
    --net "user,hostfwd=tcp::$port-:22" --device rng --kernel "$distro/vmlinuz" --initrd "$distro/initrd.img" \
    --append "console=ttyS0 root=/dev/vda rw" || fail "$suite under $mmu"
e2fsck -fn "$work/disk" > "$work/fsck" 2>&1 || fail "e2fsck: $(cat "$work/fsck")"
grep -q 'orphan\|recover' "$work/fsck" && fail "not shut down cleanly: $(cat "$work/fsck")"
exit $bad
