# SPDX-License-Identifier: MIT
# Sourced: what a hypervisor in a guest boots. The test that sources this has work_folder of lib.sh.
# shellcheck shell=bash disable=SC2154

# pack FOLDER: what is in it becomes the initrd of that name.
pack() {
    (cd "$1" && find . | cpio -o -H newc -R 0:0 --quiet | gzip -1) > "$1.gz"
}

# make_inner BUSYBOX: $inner.gz, an initrd that says how many CPUs it has, works, and powers off.
make_inner() {
    inner=$work/inner
    mkdir -p "$inner"/{bin,proc}
    cp "$1" "$inner/bin/"
    cat > "$inner/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
echo "INNER UP $(/bin/busybox grep -c ^processor /proc/cpuinfo)"
i=0; while [ $i -lt 30 ]; do /bin/busybox true; i=$((i+1)); done
echo "INNER DOWN"
/bin/busybox poweroff -f
INIT
    chmod +x "$inner/init"
    pack "$inner"
}

# make_outer MODULE: $outer.gz, an initrd for the kernel of need_guest, $cache: it loads MODULE, kvm-amd or kvm-intel, and
# $penumbra boots that kernel with make_inner's initrd. lab= on its command line is a parameter of the module, inner= how
# many vCPUs there are.
make_outer() {
    local busybox m file
    busybox=$(ls "$cache"/root/bin/busybox "$cache"/root/usr/bin/busybox 2> /dev/null | head -n 1)
    outer=$work/outer
    make_inner "$busybox"
    mkdir -p "$outer"/{bin,dev,proc,sys,tmp,lab}
    cp "$busybox" "$outer/bin/"
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
    --append "console=ttyS0 quiet panic=-1" --timeout 300 < /dev/null
echo "OUTER CODE $?"
poweroff -f
INIT
    chmod +x "$outer/init"
    for m in irqbypass kvm "$1"; do
        file=$(find "$cache/root" -name "$m.ko" -o -name "$m.ko.xz" | head -n 1)
        case $file in
            *.xz) "$busybox" unxz -c "$file" > "$outer/$m.ko" ;;
            *) cp "$file" "$outer/" ;;
        esac
    done
    cp "$cache/vmlinuz" "$inner.gz" "$outer/lab/"
    cp "$penumbra" "$outer/lab/penumbra"
    ldd "$penumbra" | grep -o '/[^ ]*' | while read -r lib; do
        mkdir -p "$outer$(dirname "$lib")"
        cp -L "$lib" "$outer$lib"
    done
    pack "$outer"
}

# entries_of STATS: how often the run of that file entered its hypervisor's guest; it fails below 1000.
entries_of() {
    local entries
    entries=$(grep -o '"world_entries": *[0-9]*' "$1" | grep -o '[0-9]*$' | head -n 1)
    [ "${entries:-0}" -gt 1000 ] || fail "$1: the guest was entered ${entries:-0} times"
}
