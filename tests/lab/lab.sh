#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The lab: a real KVM with a real TDP or shadow MMU, on any machine.
# A software CPU has AMD's SVM with nested paging: QEMU's, or ours. Debian's cloud kernel, booted on it,
# loads kvm-amd with npt=1 or npt=0; a script runs inside. Ours has Intel's VMX, too (--vendor intel): then it is
# kvm-intel, with ept=1 or ept=0.
#
#   lab.sh --guest ROOT --npt 0|1 --out DIR [--host PENUMBRA] [--mem MIB] [--cpus N] [--timeout S]
#          [--add FILE[:NAME]]... [--drive FILE] [--wire SOCKET] [--vendor intel] -- SCRIPT
#
# QEMU is what tests/lab/qemu.sh names. PENUMBRA: hosts the lab instead; ROOT is then of scripts/guest.sh --drivers. ROOT: the unpacked packages of scripts/guest.sh, of any suite. Each FILE is put into
# /lab inside; a library (*.so.N) where it is here; both bring the libraries that ldd names. The drive is virtio's, and read alone; what comes by
# the Unix socket reaches /dev/wire inside, a port of a console of ours, and the other way round. SCRIPT (a shell file) runs in
# /lab; what it writes to /lab/out comes back into DIR, its output into DIR/log.
# Exit: the script's own; 99 when the lab itself failed.
set -euo pipefail

die() { echo "lab: $*" >&2; exit 99; }

guest= npt= out= ours= mem=1536 cpus=1 limit=600 add=() drive= wire= vendor=amd module=kvm-amd parameter=npt by=svm
while [ $# -gt 0 ]; do
    case $1 in
    --guest) guest=$2; shift 2 ;;
    --npt) npt=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --host) ours=$2; shift 2 ;;
    --mem) mem=$2; shift 2 ;;
    --cpus) cpus=$2; shift 2 ;;
    --timeout) limit=$2; shift 2 ;;
    --add) add+=("$2"); shift 2 ;;
    --drive) drive=$2; shift 2 ;;
    --wire) wire=$2; shift 2 ;;
    --vendor) [ "$2" = intel ] || die "--vendor takes intel"; vendor=$2 module=kvm-intel parameter=ept by=vmx; shift 2 ;;
    --) shift; break ;;
    *) die "unknown option $1" ;;
    esac
done
script=${1:-}
[ -n "$guest" ] && [ -n "$out" ] && [ -f "$script" ] || die "see the top of $0"
case $npt in 0 | 1) ;; *) die "--npt takes 0 or 1" ;; esac
# Newer packages have the kernel beside its modules, all below /usr, and modules packed.
kernel=$(ls "$guest"/boot/vmlinuz-* "$guest"/usr/lib/modules/*/vmlinuz 2>/dev/null | head -n 1) || true
busybox=$(ls "$guest"/bin/busybox "$guest"/usr/bin/busybox 2>/dev/null | head -n 1) || true
[ -f "$kernel" ] && [ -f "$busybox" ] || die "no kernel or no busybox in $guest"
[ -z "$wire" ] || [ -n "$ours" ] || die "--wire wants --host"
[ $vendor = amd ] || [ -n "$ours" ] || die "--vendor wants --host"
[ -n "$ours" ] || qemu=$("$(dirname "$0")/qemu.sh" --npt "$npt") || exit 99

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,dev,proc,sys,tmp,lab/out,modules} "$out"

cp "$busybox" "$root/bin/"
for m in irqbypass kvm $module; do
    module=$(find "$guest" -name "$m.ko" -o -name "$m.ko.xz" | head -n 1)
    case $module in
    *.xz) "$busybox" unxz -c "$module" > "$root/modules/$m.ko" ;;
    *.ko) cp "$module" "$root/modules/" ;;
    *) die "no $m.ko in $guest" ;;
    esac
done

# Where the result goes, and the wire.
if [ -z "$ours" ]; then
    drivers=
    devices='ln -s ttyS1 /dev/result && stty -F /dev/result raw -echo'
else
    drivers='virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk virtio_console'
    devices="for driver in $drivers; do [ ! -f /modules/\$driver.ko ] || insmod /modules/\$driver.ko; done
ln -s \$(ls /dev/vd? | tail -n 1) /dev/result
ln -s vport\$(ls /sys/class/virtio-ports | sed -n 's/^vport//p' | tail -n 1) /dev/wire"
    for driver in $drivers; do # what is missing is a part of newer kernels
        cp "$guest/../drivers/$driver.ko" "$root/modules/" 2> /dev/null || [ "$driver" != virtio_blk ] || die "no drivers beside $guest"
    done
fi

# A program's libraries keep their paths, so that its interpreter finds them.
add_libraries() {
    { ldd "$1" 2>/dev/null || true; } | { grep -o '/[^ ]*' || true; } | while read -r lib; do
        [ -e "$root$lib" ] && continue
        mkdir -p "$root$(dirname "$lib")"
        cp -L "$lib" "$root$lib"
    done
}
for entry in "${add[@]}"; do
    file=${entry%%:*} name=${entry#*:}
    [ "$name" = "$entry" ] && name=$(basename "$file")
    if [[ $file = *.so.* ]]; then # one that a program opens by its name
        mkdir -p "$root$(dirname "$file")"
        cp -L "$file" "$root$file"
        add_libraries "$file"
        continue
    fi
    cp -L "$file" "$root/lab/$name"
    if [ -x "$file" ]; then
        add_libraries "$file"
    fi
done
cp "$script" "$root/lab/script"

echo "$devices" > "$root/devices"
cat > "$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t debugfs debug /sys/kernel/debug 2>/dev/null
mount -t tracefs trace /sys/kernel/tracing 2>/dev/null
parameter=$(sed -n 's/.*lab=\([a-z]*=[01]\).*/\1/p' /proc/cmdline)
insmod /modules/irqbypass.ko
insmod /modules/kvm.ko
insmod /modules/kvm-*.ko $parameter || echo "LAB-NO-KVM"
. /devices
cd /lab
sh /lab/script > /tmp/log 2>&1
echo $? > /tmp/code
{ cp /tmp/log /tmp/code /lab/out/; tar -C /lab/out -c . ; } > /dev/result
sync
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc -R 0:0 --quiet | gzip -1) > "$work/initrd"

# QEMU on one host CPU: its #VMEXIT and its VMRUN change the word of pending interrupts by an `and`
# and an `or` that have no lock prefix, while another thread raises the lab's timer in that word.
# On two host CPUs a timer interrupt is lost now and then, and the lab stands still for good when
# its guest makes no exit after that (one vCPU spins with PAUSE until the other has run).
# npt=1 and npt=0 take different CPUs where there are two.
mapfile -t host_cpus < <(taskset -pc $$ | sed 's/.*: //' | tr , '\n' |
    while IFS=- read -r first last; do seq "$first" "${last:-$first}"; done)
host_cpu=${host_cpus[$((npt % ${#host_cpus[@]}))]}
# Not with -icount: under QEMU 7.2 a guest of two vCPUs then stops in its first seconds, more often
# than not.
# On a busy host QEMU's timer is late for what the kernel checks of it: it panicked (IO-APIC + timer).
append="console=ttyS0 panic=-1 quiet no_timer_check lab=$parameter=$npt"
if [ -z "$ours" ]; then
    timeout "$limit" taskset -c "$host_cpu" "$qemu" -machine accel=tcg -cpu max -smp "$cpus" -m "$mem" \
        -display none -no-reboot -nodefaults -serial "file:$out/console" \
        ${drive:+-drive "file=$drive,format=raw,if=virtio,readonly=on"} -serial "file:$work/result.tar" \
        -kernel "$kernel" -initrd "$work/initrd" \
        -append "$append" </dev/null ||
        die "QEMU ended with code $? (console: $out/console): $(tail -n 1 "$out/console")"
else
    truncate -s 256M "$work/result.tar"
    timeout "$limit" "$ours" run --mmu tdp --cpu max,vendor=$vendor,+$by --clock host -c "$cpus" -m "${mem}M" \
        ${drive:+--disk "$drive,ro"} --disk "$work/result.tar" ${wire:+--device "console,port=wire:$wire"} \
        --kernel "$kernel" --initrd "$work/initrd" --append "$append" \
        </dev/null > "$out/console" 2> "$work/err" ||
        die "penumbra ended with code $? (console: $out/console): $(tail -n 1 "$work/err")"
fi
tar -C "$out" -xf "$work/result.tar" 2>/dev/null || die "no result (console: $out/console)"
[ -f "$out/code" ] || die "the script did not end (console: $out/console)"
exit "$(cat "$out/code")"
