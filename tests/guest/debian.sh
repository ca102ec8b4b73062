#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Debian with systemd from a disk, with its own kernel and initramfs: to a login on the console and by ssh; apt
# installs a package from a repository of this host's; a clean shutdown, after which e2fsck finds nothing.
#
#   debian.sh PENUMBRA SUITE MMU
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1 suite=$2 mmu=$3
. "$here/../lib.sh"
for one in ssh e2fsck dpkg-deb; do
    command -v $one > /dev/null || skip "needs $one"
done
work_folder
distro=$("$here/../../scripts/distro.sh" "$suite" 2> "$work/err") || skip "scripts/distro.sh $suite: $(tail -n 1 "$work/err")"
cp --sparse=always "$distro/disk.raw" "$work/disk" || exit 1
# A repository with one package, whose program says a word.
repo=$work/repo tree=$work/tree
mkdir -p "$repo" "$tree/DEBIAN" "$tree/usr/bin"
printf '#!/bin/sh\necho installed\n' > "$tree/usr/bin/pn-word"
chmod 755 "$tree/usr/bin/pn-word"
printf 'Package: pn-word\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: of a test\n' > "$tree/DEBIAN/control"
dpkg-deb --root-owner-group -b "$tree" "$repo/pn-word.deb" > /dev/null || exit 1
{
    dpkg-deb -f "$repo/pn-word.deb"
    printf 'Filename: ./pn-word.deb\nSize: %s\nSHA256: %s\n' "$(stat -c %s "$repo/pn-word.deb")" "$(sha256sum < "$repo/pn-word.deb" | cut -d' ' -f1)"
} > "$repo/Packages"
server() { exec python3 -u -m http.server --bind 127.0.0.1 --directory "$repo" 0; }
server > "$work/http" 2>&1 &
http=$!
trap 'kill $http 2> /dev/null; rm -rf "$work"' EXIT
until grep -q '^Serving' "$work/http" || ! kill -0 $http; do sleep 0.05; done
served=$(sed -n 's/^Serving .* port \([0-9]*\) .*/\1/p' "$work/http")
patient="systemd.default_timeout_start_sec=900 systemd.default_device_timeout_sec=900" # this host may be busy
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
python3 "$here/debian.py" "$port" "$distro/key" "$served" "$penumbra" run --mmu "$mmu" -m 512M --timeout 1500 --clock host --disk "$work/disk" \
    --net "user,open,hostfwd=tcp::$port-:22" --device rng --kernel "$distro/vmlinuz" --initrd "$distro/initrd.img" \
    --append "console=ttyS0 root=/dev/vda rw $patient" || fail "$suite under $mmu"
e2fsck -fn "$work/disk" > "$work/fsck" 2>&1 || fail "e2fsck: $(cat "$work/fsck")"
grep -q 'orphan\|recover' "$work/fsck" && fail "not shut down cleanly: $(cat "$work/fsck")"
exit $bad
