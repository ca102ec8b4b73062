# SPDX-License-Identifier: MIT
# Sourced by findings about KVM. What they need is downloaded into a temporary folder: QEMU,
# whose software CPU has AMD's SVM, and Debian's cloud kernel, whose KVM runs inside. The host
# has apt-get of Debian 12, dpkg-deb, cpio, a C compiler with a static C library, and no KVM.
set -euo pipefail
qemu_version='1:7.2+dfsg-7+deb12u18+b3' kernel_version='6.1.176-1'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
die() { echo "$(basename "$0"): $*" >&2; exit 2; }

# The packages and all that they depend on, unpacked in $work/root. Nothing is installed.
download() {
    mkdir -p "$work"/{archives/partial,root}
    : > "$work/status"
    apt-get -q -y -o Debug::NoLocking=1 -o APT::Sandbox::User=root -o "Dir::State::status=$work/status" \
        -o "Dir::Cache::archives=$work/archives" --no-install-recommends --download-only install \
        "qemu-system-x86=$qemu_version" "linux-image-cloud-amd64=$kernel_version" > "$work/log" 2>&1 ||
        die "apt-get: $(grep -m 1 '^E:' "$work/log")"
    for deb in "$work"/archives/*.deb; do
        dpkg-deb -x "$deb" "$work/root"
    done
}

# in_kvm NPT: run the program of standard input, C with a function void finding(void), as the
# first process of the kernel, which has loaded its KVM. What it prints is in $work/out.
in_kvm() {
    local root=$work/root tree=$work/tree modules
    download
    modules=$(echo "$root"/lib/modules/*/kernel/arch/x86/kvm)
    mkdir -p "$tree/dev"
    cp "$modules"/{kvm,kvm-amd}.ko "$root"/lib/modules/*/kernel/virt/lib/irqbypass.ko "$tree"
    cat - > "$work/finding.c"
    cat > "$work/init.c" <<'C'
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>
void finding(void);
static void module(const char *path, const char *options) {
    if (syscall(SYS_finit_module, open(path, O_RDONLY), options, 0))
        perror(path);
}
int main(void) {
    mount("dev", "/dev", "devtmpfs", 0, "");
    freopen("/dev/ttyS0", "w", stdout);
    module("/irqbypass.ko", "");
    module("/kvm.ko", "");
    module("/kvm-amd.ko", getenv("npt")[0] == '1' ? "npt=1" : "npt=0");
    finding();
    fflush(stdout);
    tcdrain(1);
    reboot(RB_POWER_OFF);
}
C
    cc -static -O1 -o "$tree/init" "$work/init.c" "$work/finding.c" || die "the program does not compile"
    (cd "$tree" && find . | cpio -o -H newc -R 0:0 --quiet) > "$work/initrd"
    QEMU_MODULE_DIR=$root/usr/lib/x86_64-linux-gnu/qemu timeout 120 "$root/lib64/ld-linux-x86-64.so.2" \
        --library-path "$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu" \
        "$root/usr/bin/qemu-system-x86_64" -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" \
        -machine accel=tcg -cpu max -m 512 -display none -nodefaults -no-reboot -serial "file:$work/out" \
        -kernel "$root"/boot/vmlinuz-* -initrd "$work/initrd" -append "console=ttyS0 quiet panic=-1 npt=$1" \
        < /dev/null || die "QEMU ended with code $?"
    sed -i 's/\r$//' "$work/out"
}

# expect LINE...: the lines that stand behind "finding: " are these.
expect() {
    printf '%s\n' "$@" > "$work/want"
    sed -n 's/^finding: //p' "$work/out" > "$work/got"
    cat "$work/got"
    cmp -s "$work/want" "$work/got" || { echo "$(basename "$0"): the behaviour has changed" >&2; exit 1; }
}
