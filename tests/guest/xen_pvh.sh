#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Xen as a hypervisor with VMX or SVM: Xen 4.17 with Debian's kernel as PV dom0, which starts a PVH guest by xl: the same kernel,
# to its end.
#
#   xen_pvh.sh PENUMBRA svm|vmx MMU
#
# Debian's xen-utils and what they need are unpacked beside the guests (xen-utils-bookworm), and so are dom0's modules; nothing is
# installed.
# Exit: 0, 1 with what is wrong, 77 when the packages are not there (skipped).
set -uo pipefail
penumbra=$1 by=$2 mmu=$3
top=$(cd "$(dirname "$0")/../.." && pwd)
case $by in
    svm) cpu=max,vendor=amd,+svm ;;
    vmx) cpu=max,vendor=intel,+vmx ;;
esac
. "$top/tests/lib.sh"
die() { skip "$*"; }
. "$top/scripts/suite.sh"
. "$top/tests/unpack.sh"
. "$top/tests/guest/inner.sh"
need_guest --kernel-package linux-image-amd64 --suite bookworm
dom0=$cache
need_guest --kernel-package xen-hypervisor-4.17-amd64 --suite bookworm
tools=$(dirname "$cache")/xen-utils-bookworm
work_folder

# Sets up $tools: root, and the modules that dom0 needs.
get_tools() {
    local image module
    [ ! -d "$tools" ] || return 0
    part=$(mktemp -d "$tools.XXXXXX") # where it is made
    trap 'rm -rf "$work" "$part"' EXIT
    unpack_program "$part" bookworm xen-utils-4.17
    image=$(basename "$(ls "$dom0"/root/boot/vmlinuz-*)")
    mkdir "$part/image"
    (cd "$part/image" && apt_of "$part" bookworm amd64 && apt-get "${apt[@]}" update -q >&2 &&
        apt-get "${apt[@]}" download -q "linux-image-${image#vmlinuz-}" >&2) || die "apt cannot give dom0's modules"
    dpkg-deb -x "$part"/image/*.deb "$part/image"
    for module in xen-privcmd xen-evtchn xen-gntdev xen-gntalloc xenfs; do
        find "$part/image" -name "$module.ko" -exec cp {} "$part/" \;
    done
    rm -rf "$part/image" "$part/apt"
    mv "$part" "$tools"
}

# A program of the tools', and what it needs, goes into $work/root.
add() {
    local root=$tools/root where=usr/lib/xen-4.17/lib/x86_64-linux-gnu file
    mkdir -p "$work/root$(dirname "$1")"
    cp -L "$root$1" "$work/root$1"
    "$root/$lib/ld-linux-x86-64.so.2" --library-path "$root/$lib:$root/$where" --list "$root$1" |
        grep -o "$root/[^ ]*" | while read -r file; do
        cp -L "$file" "$work/root/$lib/"
    done
    cp -L "$root/$lib/ld-linux-x86-64.so.2" "$work/root/lib64/"
}

get_tools
busybox=$(ls "$dom0"/root/bin/busybox "$dom0"/root/usr/bin/busybox 2> /dev/null | head -n 1)
root=$work/root
make_inner "$busybox"
mkdir -p "$root"/{bin,dev,proc,sys,tmp,lib64,lab,mods,etc/xen,run,var/log} "$root/$lib"
cp "$busybox" "$root/bin/"
cat > "$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/usr/sbin:/usr/lib/xen-4.17/bin LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts; mount -t devpts devpts /dev/pts
for m in xen-privcmd xen-evtchn xen-gntdev xen-gntalloc xenfs; do insmod /mods/$m.ko; done
mount -t xenfs xenfs /proc/xen
mkdir -p /run/xen /run/xenstored /var/lib/xenstored /var/log/xen /var/lib/xen
ln -sf /run /var/run
xenstored --pid-file /run/xenstored.pid && xen-init-dom0
xenconsoled --log=guest --log-dir=/var/log/xen --pid-file=/run/xenconsoled.pid
xl create /lab/pvh.cfg
i=0
while xl list inner > /dev/null 2>&1 && [ $i -lt 100 ]; do sleep 1; i=$((i+1)); done
cat /var/log/xen/*inner*
echo "OUTER DONE"
poweroff -f
INIT
cat > "$root/lab/pvh.cfg" <<'CONFIG'
name = "inner"
type = "pvh"
kernel = "/lab/vmlinuz"
ramdisk = "/lab/inner.gz"
extra = "console=hvc0 panic=-1"
memory = 128
vcpus = 2
on_poweroff = "destroy"
on_reboot = "destroy"
on_crash = "destroy"
CONFIG
chmod +x "$root/init"
cp "$dom0/vmlinuz" "$inner.gz" "$root/lab/"
cp "$tools"/*.ko "$root/mods/"
for program in xenstored xenconsoled xl xen-init-dom0 libxl-save-helper; do
    file=$(cd "$tools/root" && find usr/lib/xen-4.17/bin usr/sbin -name "$program" | head -n 1)
    [ -n "$file" ] || die "no $program in xen-utils"
    add "/$file"
done
cp -L "$tools/root/$lib/libgcc_s.so.1" "$root/$lib/" # for pthread_cancel
: > "$root/etc/xen/xl.conf"
pack "$root"
rc=0
"$penumbra" run --mmu "$mmu" --cpu $cpu -m 1G --timeout 800 --kernel "$cache/vmlinuz" --module "$dom0/vmlinuz,console=hvc0 quiet" \
    --module "$root.gz" --append "console=com1 com1=115200,8n1 dom0_mem=512M" --stats "$work/stats" < /dev/null \
    > "$work/serial" 2> "$work/err" || rc=$?
tr -d '\r' < "$work/serial" > "$work/said"
[ $rc -eq 0 ] || fail "exit code $rc: $(cat "$work/err")"
for line in "INNER UP 2" "INNER DOWN" "OUTER DONE"; do
    grep -aq "^$line\$" "$work/said" || fail "it did not say: $line"
done
entries_of "$work/stats"
[ $bad -eq 0 ] || tail -n 40 "$work/said"
exit $bad
