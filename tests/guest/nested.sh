#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A hypervisor inside: Debian's kernel loads its own kvm-amd or kvm-intel, and penumbra in it boots Debian's kernel once
# more, on two vCPUs; KVM translates by nested paging (1: NPT, EPT) or by its own shadow paging (0). Without EPT kvm-intel
# runs real mode, in which a second vCPU begins, as virtual-8086 mode with CR4.VME.
#
# Under shadow and tdp the outer guest and the inner one go the same way: instructions, console, memory at the end.
#
#   nested.sh PENUMBRA svm|vmx 0|1 [OPTION...]
#
# Options of scripts/guest.sh name another kernel for both. Such a one is not compared: newer kernels look at accessed bits that
# they cleared without a flush (README.md).
#
# Exit: 0, 1 with what is wrong, 77 when the guest's packages are not there (skipped).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1 by=$2 nested=$3
shift 3
case $by in
    svm) cpu=max,vendor=amd,+svm module=kvm-amd parameter=npt ;;
    vmx) cpu=max,vendor=intel,+vmx module=kvm-intel parameter=ept ;;
esac
inner_cpus=2
. "$here/../lib.sh"
need_guest "$@"
work_folder

# folder: what is in it becomes the initrd of that name.
pack() {
    (cd "$1" && find . | cpio -o -H newc -R 0:0 --quiet | gzip -1) > "$1.gz"
}

busybox=$(ls "$cache"/root/bin/busybox "$cache"/root/usr/bin/busybox 2> /dev/null | head -n 1)
inner=$work/inner outer=$work/outer
mkdir -p "$inner"/{bin,proc} "$outer"/{bin,dev,proc,sys,tmp,lab}
cp "$busybox" "$inner/bin/"
cp "$busybox" "$outer/bin/"
cat > "$inner/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
echo "INNER UP $(/bin/busybox grep -c ^processor /proc/cpuinfo)"
i=0; while [ $i -lt 30 ]; do /bin/busybox true; i=$((i+1)); done
echo "INNER DOWN"
/bin/busybox poweroff -f
INIT
cat > "$outer/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
lab=$(sed -n 's/.*lab=\([^ ]*\).*/\1/p' /proc/cmdline)
insmod /irqbypass.ko && insmod /kvm.ko && insmod /kvm-*.ko $lab
cpus=$(sed -n 's/.*inner=\([0-9]\).*/\1/p' /proc/cmdline)
echo "OUTER NESTED $(cat /sys/module/kvm_*/parameters/${lab%=*})"
[ ! -e /sys/module/kvm_intel ] || echo "OUTER APICV $(cat /sys/module/kvm_intel/parameters/enable_apicv)"
/lab/penumbra run --mmu kvm -m 128M -c $cpus --kernel /lab/vmlinuz --initrd /lab/inner.gz \
    --append "console=ttyS0 quiet panic=-1" --timeout 120 < /dev/null
echo "OUTER CODE $?"
poweroff -f
INIT
chmod +x "$inner/init" "$outer/init"
pack "$inner"
for m in irqbypass kvm $module; do
    file=$(find "$cache/root" -name "$m.ko" -o -name "$m.ko.xz" | head -n 1)
    case $file in
        *.xz) "$busybox" unxz -c "$file" > "$outer/$m.ko" ;;
        *) cp "$file" "$outer/" ;;
    esac
done
cp "$cache/vmlinuz" "$inner.gz" "$penumbra" "$outer/lab/"
ldd "$penumbra" | grep -o '/[^ ]*' | while read -r lib; do
    mkdir -p "$outer$(dirname "$lib")"
    cp -L "$lib" "$outer$lib"
done
pack "$outer"

# counter FILE NAME: a counter of that run.
counter() {
    grep -o "\"$2\": *[0-9]*" "$1" | grep -o '[0-9]*$' | head -n 1
}

word=N
[ "$nested" = 1 ] && word=Y
# boot MMU: its files are $work/MMU.*
boot() {
    local rc=0 entries
    "$penumbra" run --mmu "$1" --cpu $cpu -m 1G -c 2 --timeout 500 --kernel "$cache/vmlinuz" --initrd "$outer.gz" \
        --append "console=ttyS0 panic=-1 quiet lab=$parameter=$nested inner=$inner_cpus" --stats "$work/$1.stats" --ram-digest \
        < /dev/null > "$work/serial" 2> "$work/err" || rc=$?
    tr -d '\r' < "$work/serial" > "$work/$1.said"
    [ $rc -eq 0 ] || fail "$1: exit code $rc: $(cat "$work/err")"
    [ $by = svm ] || grep -q '^OUTER APICV Y$' "$work/$1.said" || fail "$1: kvm-intel has no APICv"
    for line in "OUTER NESTED $word" "INNER UP $inner_cpus" "INNER DOWN" "OUTER CODE 0"; do
        grep -q "^$line\$" "$work/$1.said" || fail "$1: it did not say: $line"
    done
    entries=$(counter "$work/$1.stats" world_entries)
    [ "${entries:-0}" -gt 1000 ] || fail "$1: its guest was entered ${entries:-0} times"
    [ $by = svm ] || [ "$(counter "$work/$1.stats" virtual_interrupts)" -gt 100 ] || fail "$1: hardly a virtual interrupt"
    [ $bad -eq 0 ] || tail -n 40 "$work/$1.said"
    grep -E '"(guest_insns|guest_ns|ram_digest)":' "$work/$1.stats" > "$work/$1.same"
}
boot tdp
boot shadow
[ $# -eq 0 ] || exit $bad
[ "$(wc -l < "$work/tdp.same")" -eq 3 ] && diff "$work/shadow.same" "$work/tdp.same" || fail "shadow and tdp went different ways"
cmp "$work/shadow.said" "$work/tdp.said" || fail "shadow and tdp print different bytes"
exit $bad
