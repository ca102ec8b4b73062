#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Debian with systemd from a disk by the lab's KVM (inside_debian.sh), for ctest: a login, a network, ssh's greeting, a clean end.
#
#   debian.sh --penumbra P --suite S --npt N --out DIR
# Exit: 0, 1, 77 when something is not there.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
penumbra='' npt='' out='' suite=''
while [ $# -gt 0 ]; do
    case $1 in
    --penumbra) penumbra=$2 ;;
    --suite) suite=$2 ;;
    --npt) npt=$2 ;;
    --out) out=$2 ;;
    *) echo "debian.sh: unknown option $1"; exit 1 ;;
    esac
    shift 2
done
need_lab "$npt"
need_guest --drivers # for the lab's own disk
work_folder
distro=$("$here/../../scripts/distro.sh" "$suite" 2> "$work/err") || skip "scripts/distro.sh $suite: $(tail -n 1 "$work/err")"
slirp=$(PATH=$PATH:/usr/sbin ldconfig -p | sed -n 's/.*libslirp\.so\.0 .*=> //p' | head -n 1)
[ -f "$slirp" ] || skip "no libslirp"
rm -rf "$out"
mkdir -p "$out"
add=()
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
    add+=(--add "$cache/drivers/$module.ko")
done
rc=0
"$here/lab.sh" --guest "$host/root" --npt "$npt" --out "$out" --timeout 1500 "${lab_host[@]}" --add "$penumbra:penumbra" --add "$slirp" \
    --add "$distro/vmlinuz" --add "$distro/initrd.img" "${add[@]}" --drive "$distro/disk.raw" -- "$here/inside_debian.sh" || rc=$?
cat "$out/log" 2> /dev/null
[ $rc -eq 0 ] || fail "the lab: exit code $rc"
exit $bad
