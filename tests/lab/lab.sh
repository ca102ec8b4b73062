#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The lab: a real KVM with a real TDP or shadow MMU, on any machine.
# QEMU's software CPU emulates AMD SVM with nested paging; Debian's cloud kernel, booted in it,
# loads kvm-amd with npt=1 or npt=0; a script runs inside.
#
#   lab.sh --guest ROOT --npt 0|1 --out DIR [--mem MIB] [--cpus N] [--timeout S]
#          [--add FILE[:NAME]]... [--drive FILE] -- SCRIPT
#
# QEMU is what tests/lab/qemu.sh names. ROOT: the unpacked packages of scripts/guest.sh, of any suite. Each FILE is put into
# /lab inside; a library (*.so.N) where it is here; both bring the libraries that ldd names. The drive is virtio's, and read alone. SCRIPT (a shell file) runs in
# /lab; what it writes to /lab/out comes back into DIR, its output into DIR/log.
# Exit: the script's own; 99 when the lab itself failed.
set -euo pipefail

die() { echo "lab: $*" >&2; exit 99; }

guest= npt= out= mem=1536 cpus=1 limit=600 add=() drive=()
while [ $# -gt 0 ]; do
    case $1 in
    --guest) guest=$2; shift 2 ;;
    --npt) npt=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --mem) mem=$2; shift 2 ;;
    --cpus) cpus=$2; shift 2 ;;
    --timeout) limit=$2; shift 2 ;;
    --add) add+=("$2"); shift 2 ;;
    --drive) drive=(-drive "file=$2,format=raw,if=virtio,readonly=on"); shift 2 ;;
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
qemu=$("$(dirname "$0")/qemu.sh" --npt "$npt") || exit 99

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,dev,proc,sys,tmp,lab/out,modules} "$out"

cp "$busybox" "$root/bin/"
for m in irqbypass kvm kvm-amd; do
    module=$(find "$guest" -name "$m.ko" -o -name "$m.ko.xz" | head -n 1)
    case $module in
    *.xz) "$busybox" unxz -c "$module" > "$root/modules/$m.ko" ;;
    *.ko) cp "$module" "$root/modules/" ;;
    *) die "no $m.ko in $guest" ;;
    esac
done

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

cat > "$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t debugfs debug /sys/kernel/debug 2>/dev/null
mount -t tracefs trace /sys/kernel/tracing 2>/dev/null
npt=$(sed -n 's/.*lab_npt=\([01]\).*/\1/p' /proc/cmdline)
insmod /modules/irqbypass.ko
insmod /modules/kvm.ko
insmod /modules/kvm-amd.ko npt=$npt || echo "LAB-NO-KVM"
cd /lab
sh /lab/script > /tmp/log 2>&1
echo $? > /tmp/code
stty -F /dev/ttyS1 raw -echo
{ cp /tmp/log /tmp/code /lab/out/; tar -C /lab/out -c . ; } > /dev/ttyS1
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
timeout "$limit" taskset -c "$host_cpu" "$qemu" -machine accel=tcg -cpu max -smp "$cpus" -m "$mem" \
    -display none -no-reboot -nodefaults -serial "file:$out/console" \
    "${drive[@]}" -serial "file:$work/result.tar" -kernel "$kernel" -initrd "$work/initrd" \
    -append "console=ttyS0 panic=-1 quiet lab_npt=$npt" </dev/null ||
    die "QEMU ended with code $? (console: $out/console): $(tail -n 1 "$out/console")"
tar -C "$out" -xf "$work/result.tar" 2>/dev/null || die "no result (console: $out/console)"
[ -f "$out/code" ] || die "the script did not end (console: $out/console)"
exit "$(cat "$out/code")"
