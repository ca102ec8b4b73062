#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Debian's cloud kernel and busybox as a guest: download the packages, unpack them into a
# cache, build the initramfs. Nothing is installed. Quick when the cache is up to date.
#
#   guest.sh               prints the cache folder, which then holds
#                            vmlinuz, initrd.gz, root/ (the unpacked packages)
#   guest.sh --add FILE    also makes initrd-NAME.gz there (NAME: the file's), the same with the
#                            program FILE in /bin
#   guest.sh --workloads   --add of pn-linux, the program of penumbra bench linux.*
#
# In the source tree scripts/guest.sh, installed penumbra-guest. PENUMBRA_CACHE: another folder
# than .cache/guest in the tree, or penumbra/guest in the user's cache. apt-get verifies what it downloads
# against the archive's signatures; the packages' SHA-256 stay in the folder's manifest.
set -euo pipefail
top=$(dirname "$(dirname "$(readlink -f "$0")")")
init=$top/tests/guest/initramfs
if [ -d "$init" ]; then # the source tree
    cache=${PENUMBRA_CACHE:-$top/.cache/guest}
    workloads=$(ls -t "$top"/build/*/bench/linux/pn-linux 2>/dev/null | head -n 1)
else # an installed tree
    init=$top/share/penumbra/guest
    cache=${PENUMBRA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/penumbra/guest}
    workloads=$top/libexec/penumbra/pn-linux
fi

die() { echo "guest: $*" >&2; exit 1; }

add=
while [ $# -gt 0 ]; do
    case $1 in
    --add)
        add=${2:-}
        [ -f "$add" ] || die "--add: no such file: $add"
        shift 2
        ;;
    --workloads)
        add=$workloads
        [ -f "$add" ] || die "--workloads: pn-linux is not built: it needs a static libc"
        shift
        ;;
    *) die "unknown option $1" ;;
    esac
done

# The kernel package that the meta-package stands for, newest version first.
kernel_package() {
    apt-cache show linux-image-cloud-amd64 2>/dev/null |
        sed -n 's/^Depends: *\(linux-image-[^ ,]*\).*/\1/p;' | head -n 1
}

fetch() {
    local work=$1 kernel
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
        die "needs apt-get and dpkg-deb (Debian)"
    kernel=$(kernel_package)
    if [ -z "$kernel" ] && [ "$(id -u)" -eq 0 ]; then
        apt-get update -q >&2 || die "apt-get update failed"
        kernel=$(kernel_package)
    fi
    [ -n "$kernel" ] || die "apt knows no linux-image-cloud-amd64: run apt-get update"
    echo "guest: downloading $kernel and busybox-static" >&2
    if ! (cd "$work" && apt-get -o APT::Sandbox::User=root download -q "$kernel" busybox-static >&2); then
        # The lists may be older than the archive.
        [ "$(id -u)" -eq 0 ] && apt-get update -q >&2 || die "download failed"
        kernel=$(kernel_package)
        (cd "$work" && apt-get -o APT::Sandbox::User=root download -q "$kernel" busybox-static >&2) ||
            die "download failed"
    fi
    mkdir "$work/root"
    for deb in "$work"/*.deb; do
        dpkg-deb -x "$deb" "$work/root" || die "cannot unpack $deb"
    done
    (cd "$work" && sha256sum ./*.deb > manifest && rm ./*.deb)
    set -- "$work"/root/boot/vmlinuz-*
    [ -f "$1" ] && [ -x "$work/root/bin/busybox" ] || die "the packages lack what they should hold"
    cp "$1" "$work/vmlinuz"
}

# Reproducible: the same packages and scripts give the same bytes.
build_initrd() {
    local out=$1 tree
    command -v cpio >/dev/null || die "needs cpio: apt-get install cpio"
    tree=$(mktemp -d)
    mkdir -p "$tree"/{bin,dev,etc,proc,root,sys,tmp}
    cp "$cache/root/bin/busybox" "$tree/bin/"
    "$tree/bin/busybox" --list | while read -r applet; do
        [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
    done
    cp "$init/init" "$init/script.sh" "$tree/"
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

mkdir -p "$(dirname "$cache")"
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
if [ -n "$add" ]; then
    add_program "$cache/initrd-$(basename "$add").gz" "$add"
fi
echo "$cache"
