#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A whole Debian with systemd on a disk, for the tests of disks: made by mmdebstrap from the mirror that apt has
# here, in a cache beside the guests of scripts/guest.sh. Needs root, or what mmdebstrap takes for it.
#
#   distro.sh SUITE    prints the folder .cache/debian-SUITE, which then holds disk.raw (ext4, the root file system),
#                        vmlinuz and initrd.img, stock ones, and key: root's for ssh
#
# root has no password on the console. PENUMBRA_CACHE is as for guest.sh.
set -euo pipefail
top=$(dirname "$(dirname "$(readlink -f "$0")")")
die() { echo "distro: $*" >&2; exit 1; }
# shellcheck source=scripts/suite.sh
. "$top/scripts/suite.sh"
[[ ${1:-} =~ ^[a-z]+$ ]] || die "usage: distro.sh SUITE"
suite=$1 cache=$(dirname "${PENUMBRA_CACHE:-$top/.cache/guest}")/debian-$1
size=1500M
packages=systemd-sysv,dbus,udev,kmod,initramfs-tools,linux-image-cloud-amd64,iproute2,openssh-server,e2fsprogs

# Sets up what is in the folder $1.
configure() {
    printf '/dev/vda / ext4 errors=remount-ro 0 1\n' > "$1/etc/fstab"
    printf 'penumbra\n' > "$1/etc/hostname"
    printf '[Match]\nName=e*\n[Network]\nDHCP=yes\n' > "$1/etc/systemd/network/80-dhcp.network"
    chroot "$1" passwd -q -d root
    chroot "$1" systemctl -q enable systemd-networkd
    mkdir -p -m 0700 "$1/root/.ssh"
    cp "$2/key.pub" "$1/root/.ssh/authorized_keys"
}

make_disk() {
    local work=$1 mirror
    for tool in mmdebstrap mkfs.ext4 ssh-keygen; do
        command -v $tool > /dev/null || die "needs $tool"
    done
    mirror=$(debian_mirror) || exit
    ssh-keygen -q -t ed25519 -N '' -C penumbra -f "$work/key"
    unshare --mount mmdebstrap --mode=root --variant=minbase --include="$packages" --quiet \
        --aptopt='Acquire::Languages "none"' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$work/root" "$mirror" >&2 || die "mmdebstrap cannot make $suite from $mirror"
    configure "$work/root" "$work"
    cp "$work"/root/boot/vmlinuz-* "$work/vmlinuz" 2> /dev/null || cp "$work"/root/usr/lib/modules/*/vmlinuz "$work/vmlinuz"
    cp "$work"/root/boot/initrd.img-* "$work/initrd.img"
    mkfs.ext4 -q -d "$work/root" -L penumbra "$work/disk.raw" "$size" >&2
    rm -rf "$work/root"
}

mkdir -p "$(dirname "$cache")"
exec 9> "$cache.lock"
flock 9
if [ ! -f "$cache/disk.raw" ]; then
    work=$(mktemp -d "$cache.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    make_disk "$work"
    chmod 0755 "$work"
    rm -rf "$cache"
    mv "$work" "$cache"
    trap - EXIT
fi
echo "$cache"
