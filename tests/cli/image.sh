#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# penumbra image: what it refuses; with a release, a disk of it: the same bytes twice (as root, and as an ordinary user), found by --disk alone, a login at the
# serial console, a network, a clean end; and the same by firmware (SeaBIOS), which finds GRUB on the disk.
#
#   image.sh PENUMBRA [RELEASE]
. "$(dirname "$0")/lib.sh"

says() {
    refused "$@"
    [ -z "$(find "$work" -name 'x*')" ] || fail "penumbra ${*:2}: a file is left behind"
}
if [ $# -lt 2 ]; then
    says 2 image
    says 2 image "$work/x"
    says 2 image "$work/x" y --release bookworm
    says 2 image "$work/x" --release 'book worm'
    says 2 image "$work/x" --release bookworm --packages 'a;b'
    says 2 image "$work/x" --release bookworm --kernel-package --help
    says 2 image "$work/x" --release bookworm --size 2
    says 2 image "$work/x" --release bookworm --size 64M
    says 1 image "$work/nowhere/x" --release bookworm
    # Without a kernel beside it a disk is a disk.
    truncate -s 1M "$work/disk"
    run run --disk "$work/disk,ro" --append "pages=16 swaps=1 flips=1 switches=1 compute=1"
    [ "$rc" -eq 0 ] && grep -q 'done, checksum' "$work/out" || fail "a disk alone: $(cat "$work/err")"
    # With one it is booted, with its command line; --kernel wins.
    echo rubbish > "$work/disk.vmlinuz"
    echo 'root=/dev/vda1' > "$work/disk.cmdline"
    refused 2 run --disk "$work/disk,ro"
    grep -q 'disk.vmlinuz' "$work/err" || fail "the kernel beside a disk: $(cat "$work/err")"
    exit $bad
fi
command -v mmdebstrap > /dev/null || skip "needs mmdebstrap"
command -v fakeroot > /dev/null && command -v newuidmap > /dev/null || skip "needs fakeroot and newuidmap"
# As nobody, with sub-ids that only a mount namespace has.
as_nobody() {
    [ "$(id -u)" -eq 0 ] || { "$@"; return; }
    setpriv --reuid=nobody --regid=nogroup --clear-groups test -x "$penumbra" || { echo "not as nobody, who cannot come to $penumbra"; "$@"; return; }
    echo nobody:100000:65536 > "$work/subid"
    mkdir "$work/home" && chown nobody "$work/home" "$work" && chmod 755 "$work" # root of its user namespace is somebody else
    unshare --mount sh -c 'mount --bind "$0/subid" /etc/subuid && mount --bind "$0/subid" /etc/subgid &&
        exec setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME="$0/home" TMPDIR="$0/home" "$@"' "$work" "$@"
}
"$penumbra" image "$work/one" --release "$2" --size 1G || fail "no image of $2"
as_nobody "$penumbra" image "$work/two" --release "$2" --size 1G || fail "no image of $2 by an ordinary user"
cmp "$work/one" "$work/two" || fail "$2: two images of the same packages differ"
[ -r /usr/share/seabios/bios-256k.bin ] || skip "no SeaBIOS: apt-get install seabios"
for how in "--mmu shadow" "--firmware /usr/share/seabios/bios-256k.bin --mmu shadow" "--firmware /usr/share/seabios/bios-256k.bin --mmu tdp -c 2"; do
python3 - "$penumbra" "$work/one" "$2" $how <<'EOF' || fail "$2: the guest, $how"
import subprocess, sys
penumbra, disk, release, *how = sys.argv[1:]
guest = subprocess.Popen([penumbra, "run", "--disk", disk, "-m", "512M", "--net", "user,open", "--timeout", "600", *how],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
seen = b""
def until(text):
    global seen
    while text not in seen:
        byte = guest.stdout.read(1)
        assert byte, seen[-2000:]
        seen += byte
    seen = b""
def type(line):
    guest.stdin.write(line.encode() + b"\n")
    guest.stdin.flush()
until(b"login: ")
type("root")
until(b"# ")
type("grep CODENAME /etc/os-release; echo address $(ip -4 -o address show scope global | grep -c 10.0.2.)")
until(b"VERSION_CODENAME=" + release.encode())
until(b"address 1")
until(b"# ")
type("poweroff")
guest.stdout.read()
assert guest.wait() == 0, guest.returncode
EOF
done
dd if="$work/one" of="$work/root" bs=1M skip=1 status=none
PATH=$PATH:/usr/sbin e2fsck -fn "$work/root" > "$work/fsck" 2>&1 || fail "$2: the file system is not clean: $(cat "$work/fsck")"
exit $bad
