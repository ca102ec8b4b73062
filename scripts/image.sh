#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A Debian guest on a disk: packages into a file system (mmdebstrap), that into a raw image with a boot loader,
# and its kernel and initramfs beside it, where `penumbra run --disk F` finds them.
#
#   image.sh F --release bookworm|trixie [--packages NAME,...] [--kernel-package NAME] [--size SIZE]
#
# Makes F (MBR, GRUB, one partition with ext4, root without a password at the serial console),
# F.vmlinuz, F.initrd and F.cmdline. Packages come from apt's mirror here, checked against the archive's signatures. As
# root mmdebstrap runs in a chroot; as another user in a user namespace (newuidmap, and fakeroot for
# the file system). The same packages give the same bytes: times are those of the archive's release,
# or SOURCE_DATE_EPOCH. In the source tree scripts/image.sh, installed penumbra-image.
set -euo pipefail
top=$(dirname "$(dirname "$(readlink -f "$0")")")
suites=$top/scripts/suite.sh
[ -f "$suites" ] || suites=$top/share/penumbra/guest/suite.sh

die() { echo "penumbra: image: $*" >&2; exit 1; }
usage() { echo "penumbra: image: $*" >&2; exit 2; }
# shellcheck source=scripts/suite.sh
. "$suites"

file='' release='' packages='' kernel=linux-image-cloud-amd64 size=2G
name='^[a-z0-9][a-z0-9.+-]*$'
while [ $# -gt 0 ]; do
    case $1 in
    --release | --packages | --kernel-package | --size)
        [ $# -gt 1 ] || usage "$1 needs a value"
        case $1 in
        --release) release=$2 ;;
        --packages) packages=$2 ;;
        --kernel-package) kernel=$2 ;;
        --size) size=$2 ;;
        esac
        shift
        ;;
    --help)
        sed -n '3,/^set /{/^#/!d;s/^# \{0,1\}//;p}' "$0"
        exit
        ;;
    -*) usage "unknown option $1: see --help" ;;
    *)
        [ -z "$file" ] || usage "one file, not $1, too"
        file=$1
        ;;
    esac
    shift
done
[ -n "$file" ] || usage "needs the file to make: see --help"
[[ $release =~ $name ]] || usage "--release bookworm or trixie"
[[ $kernel =~ $name ]] || usage "--kernel-package $kernel: no name of a package"
[[ -z $packages || $packages =~ ^[a-z0-9][a-z0-9.+-]*(,[a-z0-9][a-z0-9.+-]*)*$ ]] || usage "--packages NAME,NAME: $packages"
[[ $size =~ ^[1-9][0-9]*[MG]$ ]] || usage "--size $size: not a size such as 2G"
mib=${size%?}
[ "${size: -1}" = M ] || mib=$((mib * 1024))
[ "$mib" -ge 512 ] && [ "$mib" -le 1048576 ] || usage "--size $size: from 512M to 1024G"
for one in mmdebstrap mke2fs debugfs; do
    PATH=$PATH:/usr/sbin command -v $one > /dev/null || die "needs $one: apt-get install mmdebstrap e2fsprogs"
done
fake=()
if [ "$(id -u)" -ne 0 ]; then
    command -v fakeroot > /dev/null || die "needs fakeroot, or root"
    command -v newuidmap > /dev/null || die "needs newuidmap, or root: apt-get install uidmap"
    for one in /etc/subuid /etc/subgid; do
        grep -qE "^($(id -un)|$(id -u)):" $one 2> /dev/null ||
            die "you have no line in $one, or be root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)"
    done
    unshare --user true 2> /dev/null || die "needs user namespaces, which this host does not let you have, or root"
    fake=(fakeroot)
fi
[ -d "$(dirname "$file")" ] || die "$(dirname "$file"): no such folder"

work=$(mktemp -d "${TMPDIR:-/tmp}/penumbra-image.XXXXXX")
chmod 755 "$work" # root of the user namespace is somebody else, and reads the set-up
parts=("$file.part" "$file.vmlinuz.part" "$file.initrd.part" "$file.cmdline.part")
trap 'rm -rf "$work" "${parts[@]}"' EXIT
mirror=$(debian_mirror) || exit 1

# Times: those of the release, unless the caller has others.
if [ -z "${SOURCE_DATE_EPOCH-}" ]; then
    apt_of "$work" "$release" amd64
    apt-get "${apt[@]}" update > "$work/log" 2>&1 || die "$release: $(grep '^E:' "$work/log" | head -n 1)"
    SOURCE_DATE_EPOCH=$(date -d "$(cat "$work"/apt/lists/*Release | sed -n 's/^Date: //p' | head -n 1)" +%s)
fi
export SOURCE_DATE_EPOCH E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH
uuid=$(echo "$release $packages $kernel $size $SOURCE_DATE_EPOCH" | sha256sum |
    sed 's/^\(.\{8\}\)\(.\{4\}\).\(.\{3\}\).\(.\{3\}\)\(.\{12\}\).*/\1-\2-4\3-8\4-\5/')
cmdline="root=/dev/vda1 rw console=ttyS0"

# What the guest has beyond its packages.
cat > "$work/setup" <<EOF
set -eu
root=\$1
echo penumbra > "\$root/etc/hostname"
echo "127.0.0.1 localhost penumbra" > "\$root/etc/hosts"
echo "/dev/vda1 / ext4 errors=remount-ro 0 1" > "\$root/etc/fstab"
printf '[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n' > "\$root/etc/systemd/network/80-penumbra.network"
rm -f "\$root/etc/resolv.conf"
echo "nameserver 10.0.2.3" > "\$root/etc/resolv.conf"
chroot "\$root" passwd -d root > /dev/null
chroot "\$root" systemctl -q enable systemd-networkd serial-getty@ttyS0
mkdir -p "\$root/boot/grub"
cp -r "\$root/usr/lib/grub/i386-pc" "\$root/boot/grub/"
cat > "\$root/boot/grub/grub.cfg" <<'GRUB'
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=1
menuentry "Debian" {
    search --no-floppy --fs-uuid --set=root $uuid
    linux /vmlinuz $cmdline
    initrd /initrd.img
}
GRUB
chroot "\$root" grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o /boot/grub/core.img \\
    biosdisk part_msdos ext2 search search_fs_uuid serial terminal normal linux echo reboot halt
rm -f "\$root"/var/log/apt/* "\$root"/var/log/*.log "\$root/var/cache/ldconfig/aux-cache"
EOF
mmdebstrap --quiet --variant=minbase --format=tar \
    --include="$kernel,initramfs-tools,zstd,systemd-sysv,udev,dbus,iproute2,kmod,e2fsprogs,login,passwd,grub-pc-bin,grub-common${packages:+,$packages}" \
    --customize-hook="sh $work/setup \"\$1\"" "$release" "$work/root.tar" "$mirror" 2> "$work/log" ||
    die "$release: $(grep -E '^E:|error' "$work/log" | head -n 1)"

# The file system, and what boots it: sector 0 loads GRUB from those behind it, up to the partition.
mkdir "$work/root"
truncate -s "${mib}M" "$file.part"
# What fakeroot's chmod touches its user can read, as a file of mode 0 that tar has made he cannot.
"${fake[@]}" sh -c 'tar -xf "$1/root.tar" -C "$1/root" --numeric-owner --exclude="./dev/*" &&
    find "$1/root" ! -type l ! -perm -400 -printf "%m %p\n" | while read -r mode one; do chmod "$mode" "$one"; done &&
    PATH=$PATH:/usr/sbin mke2fs -q -t ext4 -O ^metadata_csum_seed,^orphan_file -U "$4" -L root -E "offset=1048576,hash_seed=$4,root_owner=0:0" \
        -d "$1/root" "$2" "$3k" 2> "$1/log"' sh "$work" "$file.part" "$(((mib - 1) * 1024))" "$uuid" ||
    die "$file: the file system: $(grep -v '^mke2fs' "$work/log" | head -n 1): is --size $size too small?"
# Times of the extraction are in the inodes: those of the release instead.
find "$work/root" -mindepth 1 -printf "sif \"/%P\" atime @$SOURCE_DATE_EPOCH\nsif \"/%P\" ctime @$SOURCE_DATE_EPOCH\n" > "$work/times"
PATH=$PATH:/usr/sbin debugfs -w -f "$work/times" "$file.part?offset=1048576" > /dev/null 2> "$work/log" ||
    die "$file: times: $(tail -n 1 "$work/log")"
grub=$work/root/boot/grub
[ "$(stat -c %s "$grub/core.img")" -lt 1048064 ] || die "GRUB does not fit before the partition"
put() { dd of="$file.part" bs=1 seek="$1" conv=notrunc status=none; }
head -c 440 "$grub/i386-pc/boot.img" | put 0
sectors=$(((mib - 1) * 2048)) # little-endian, behind: active, CHS, type 83, CHS, first sector 2048
printf "$(printf '\\x%02x' 128 254 255 255 131 254 255 255 0 8 0 0 \
    $((sectors & 255)) $((sectors >> 8 & 255)) $((sectors >> 16 & 255)) $((sectors >> 24 & 255)))" | put 446
printf '\x55\xaa' | put 510
dd if="$grub/core.img" of="$file.part" bs=512 seek=1 conv=notrunc status=none

cp -L "$work/root/vmlinuz" "$file.vmlinuz.part" 2> /dev/null || cp "$(ls "$work"/root/boot/vmlinuz-* | tail -n 1)" "$file.vmlinuz.part"
cp "$(ls "$work"/root/boot/initrd.img-* | tail -n 1)" "$file.initrd.part"
echo "$cmdline" > "$file.cmdline.part"
chmod 644 "$file.vmlinuz.part" "$file.initrd.part"
for one in "${parts[@]}"; do mv "$one" "${one%.part}"; done
