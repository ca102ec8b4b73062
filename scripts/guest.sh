#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A Debian kernel and busybox as a guest: download the packages, unpack them into a
# cache, build the initramfs. Nothing is installed. Quick when the cache is up to date.
#
#   guest.sh               prints the cache folder, which then holds vmlinuz, initrd.gz,
#                            root/ (the unpacked packages, without the drivers of devices)
#   guest.sh --add FILE    also makes initrd-NAME.gz there (NAME: the file's), the same with the
#                            program FILE in /bin
#   guest.sh --drivers     also has drivers/ there: the kernel's modules for virtio's devices and what stands on them
#   guest.sh --workloads   --add of pn-linux, the program of penumbra bench linux.*
#   guest.sh --kernel-package NAME [--suite SUITE [--arch ARCH]]
#                          another kernel than linux-image-cloud-amd64, in a folder of its own:
#                            guest-NAME-SUITE, without "linux-image-". SUITE: another of Debian's
#                            (bookworm, trixie-backports) than apt has here, from the same mirror;
#                            ARCH: i386 for linux-image-686 and linux-image-686-pae. memtest86+ and
#                            xen-hypervisor-4.17-amd64 are NAMEs, too: the folder's vmlinuz is then
#                            memtest86+, or Xen
#
# In the source tree scripts/guest.sh, installed penumbra-guest. PENUMBRA_CACHE: another folder
# than .cache/guest in the tree, or penumbra/guest in the user's cache. apt-get verifies what it downloads
# against the archive's signatures; the packages' SHA-256 stay in the folder's manifest.
set -euo pipefail
top=$(dirname "$(dirname "$(readlink -f "$0")")")
init=$top/tests/guest/initramfs suites=$top/scripts/suite.sh
if [ -d "$init" ]; then # the source tree
    cache=${PENUMBRA_CACHE:-$top/.cache/guest}
    workloads=$(ls -t "$top"/build/*/bench/linux/pn-linux 2> /dev/null | head -n 1) || true # not built: --workloads says it
else # an installed tree
    init=$top/share/penumbra/guest suites=$top/share/penumbra/guest/suite.sh
    cache=${PENUMBRA_CACHE:-${XDG_CACHE_HOME:-~/.cache}/penumbra/guest}
    workloads=$top/libexec/penumbra/pn-linux
fi

die() { echo "guest: $*" >&2; exit 1; }
# shellcheck source=scripts/suite.sh
. "$suites"

add= drivers='' package='' suite='' arch=amd64
while [ $# -gt 0 ]; do
    case $1 in
    --kernel-package | --suite | --arch)
        [[ ${2:-} =~ ^[a-z0-9][a-z0-9.+-]*$ ]] || die "$1 needs a name"
        case $1 in
        --kernel-package) package=$2 ;;
        --suite) suite=$2 ;;
        --arch) arch=$2 ;;
        esac
        shift 2
        ;;
    --add)
        add=${2:-}
        [ -f "$add" ] || die "--add: no such file: $add"
        shift 2
        ;;
    --drivers)
        drivers=1
        shift
        ;;
    --workloads)
        add=$workloads
        [ -f "$add" ] || die "--workloads: pn-linux is not built: it needs a static libc"
        shift
        ;;
    --help | -h)
        sed -n '3,/^set /{/^#/!d;s/^# \{0,1\}//;p}' "$0"
        exit
        ;;
    *) die "unknown option $1: see --help" ;;
    esac
done

[ -n "$package" ] || [ -z "$suite" ] || die "--suite needs --kernel-package"
[ -n "$suite" ] || [ "$arch" = amd64 ] || die "--arch needs --suite"
if [ -n "$package" ]; then
    cache+=-${package#linux-image-}${suite:+-$suite}
fi
package=${package:-linux-image-cloud-amd64}

# The binary that the unpacked packages have in /bin, or in /usr/bin (Debian 13).
busybox_in() {
    local path
    for path in "$1/bin/busybox" "$1/usr/bin/busybox"; do
        [ ! -f "$path" ] || { echo "$path" && return; }
    done
    return 1
}

# Where the kernel is: /boot, or since Linux 6.19 beside its modules.
kernel_in() {
    local path
    for path in "$1"/boot/vmlinuz-* "$1"/usr/lib/modules/*/vmlinuz "$1"/boot/memtest86+x64.bin \
        "$1"/boot/xen-*.gz; do
        [ ! -f "$path" ] || { echo "$path" && return; }
    done
    return 1
}

# The packages of the kernel that NAME stands for: itself, or of the newest version what it depends on.
# Since Linux 6.19 an image is nothing but dependences on its parts.
kernel_packages() {
    local parts image
    parts=$(apt-cache "${apt[@]}" show --no-all-versions "$1" 2>/dev/null |
        sed -n 's/^Depends: //p' | tr ',|' '\n\n' |
        sed -n 's/^ *\(linux-\(image\|binary\|modules\)-[0-9]*\.[^ ]*\).*/\1/p') || return 1
    image=$(grep -m 1 '^linux-image-' <<<"$parts") || image=
    if [ -n "$image" ]; then
        kernel_packages "$image"
    else
        echo "$1" "$parts"
    fi
}

download() {
    local names
    names=$(kernel_packages "$package") || return 1
    echo "guest: downloading" $names busybox-static >&2
    # shellcheck disable=SC2086
    (cd "$1" && apt-get "${apt[@]}" download -q $names busybox-static >&2)
}

fetch() {
    local work=$1
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
        die "needs apt-get and dpkg-deb (Debian)"
    if [ -n "$suite" ]; then
        apt_of "$work" "$suite" "$arch"
    fi
    # The lists may be older than the archive, or missing.
    if [ -n "$suite" ] || ! download "$work"; then
        [ -n "$suite" ] || [ "$(id -u)" -eq 0 ] || die "apt cannot give $package: run apt-get update"
        apt-get "${apt[@]}" update -q >&2 || die "apt-get update failed"
        download "$work" || die "apt cannot give $package${suite:+ of $suite}"
    fi
    rm -rf "$work/apt"
    mkdir "$work/root"
    for deb in "$work"/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/root" --no-same-owner \
            --exclude='*/kernel/drivers' --exclude='*/kernel/sound' --exclude='*/kernel/net' ||
            die "cannot unpack $deb"
    done
    (cd "$work" && sha256sum ./*.deb > manifest && rm ./*.deb)
    cp "$(kernel_in "$work/root")" "$work/vmlinuz" && busybox_in "$work/root" >/dev/null ||
        die "the packages lack what they should hold"
}

# Reproducible: the same packages and scripts give the same bytes.
build_initrd() {
    local out=$1 tree
    command -v cpio >/dev/null || die "needs cpio: apt-get install cpio"
    tree=$(mktemp -d)
    mkdir -p "$tree"/{bin,dev,etc,proc,root,sys,tmp}
    cp "$(busybox_in "$cache/root")" "$tree/bin/"
    cp "$init/init" "$init/script.sh" "$tree/"
    if [ "$arch" = i386 ]; then # no host has to run it: it makes its links itself
        sed -i '2i /bin/busybox --install -s /bin' "$tree/init"
    else
        "$tree/bin/busybox" --list | while read -r applet; do
            [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
        done
    fi
    chmod 0755 "$tree/init" "$tree/script.sh" "$tree/bin/busybox"
    find "$tree" -exec touch -h -d @0 {} +
    (cd "$tree" && find . | LC_ALL=C sort |
        cpio --quiet -o -H newc --reproducible --owner=0:0) | gzip -n -9 > "$out.part"
    mv "$out.part" "$out"
    rm -rf "$tree"
}

# The kernel unpacks one archive after another: the common one, then this one's.
add_program() {
    local out=$1 program=$2 tree
    tree=$(mktemp -d)
    mkdir "$tree/bin"
    cp "$program" "$tree/bin/"
    chmod 0755 "$tree"/bin "$tree"/bin/*
    find "$tree" -exec touch -h -d @0 {} +
    (cd "$tree" && find bin | LC_ALL=C sort |
        cpio --quiet -o -H newc --reproducible --owner=0:0) | gzip -n -9 |
        cat "$cache/initrd.gz" - > "$out.part"
    mv "$out.part" "$out"
    rm -rf "$tree"
}

# Modules of virtio's devices, and of what stands on them.
drivers_wanted=('*/virtio*.ko*' '*/*failover.ko*' '*/9p*.ko*' '*/netfs.ko*' '*/fscache.ko*' 'drivers/nvdimm/*.ko*'
    'net/vmw_vsock/vsock.ko*' 'net/vmw_vsock/vmw_vsock_virtio*.ko*')

# The packages again, and of them those.
fetch_drivers() {
    local work=$1 deb version
    [ -z "$suite" ] || { apt_of "$work" "$suite" "$arch" && apt-get "${apt[@]}" update -q >&2; } || die "apt-get update failed"
    download "$work" || die "apt cannot give $package${suite:+ of $suite}"
    version=$(basename "$(find "$cache/root" -path '*/modules/*' -prune | head -n 1)")
    mkdir "$work/all" "$work/drivers"
    for deb in "$work"/linux-*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/all" --no-same-owner --wildcards \
            "${drivers_wanted[@]/#/*/$version/kernel/}" 2> /dev/null || true
    done
    find "$work/all" -name '*.ko*' -exec mv -t "$work/drivers" {} +
    find "$work/drivers" -name '*.xz' -exec unxz {} +
    [ -f "$work/drivers/virtio_blk.ko" ] || die "apt has another kernel by now than $cache: remove that folder"
    rm -rf "$cache/drivers"
    mv "$work/drivers" "$cache/drivers"
    echo "${drivers_wanted[@]}" > "$cache/drivers.list"
}

mkdir -p "$(dirname "$cache")" 2> /dev/null && [ -w "$(dirname "$cache")" ] ||
    die "cannot write to $(dirname "$cache"): PENUMBRA_CACHE=FOLDER names another"
exec 9>"$(dirname "$cache")/.lock"
flock 9
if [ ! -f "$cache/vmlinuz" ]; then
    work=$(mktemp -d "$cache.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    fetch "$work"
    chmod 0755 "$work"
    rm -rf "$cache"
    mv "$work" "$cache"
    trap - EXIT
fi
stamp=$(cat "$init/init" "$init/script.sh" "$0" | sha256sum)
if [ ! -f "$cache/initrd.gz" ] || [ "$(cat "$cache/initrd.stamp" 2>/dev/null)" != "$stamp" ]; then
    build_initrd "$cache/initrd.gz"
    echo "$stamp" > "$cache/initrd.stamp"
fi
if [ -n "$drivers" ] && [ "${drivers_wanted[*]}" != "$(cat "$cache/drivers.list" 2>/dev/null)" ]; then
    work=$(mktemp -d "$cache.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    fetch_drivers "$work"
    rm -rf "$work"
    trap - EXIT
fi
if [ -n "$add" ]; then
    add_program "$cache/initrd-$(basename "$add").gz" "$add"
fi
echo "$cache"
