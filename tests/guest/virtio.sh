#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux's own virtio drivers: a disk that is read, written, flushed and discarded, one that is
# read-only, random bytes, a balloon; packed rings and split ones, MSI-X and INTA, under both MMUs
# and both clocks. Under virtual time two runs are equal, what is on the disk too.
#
#   virtio.sh PENUMBRA
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1
. "$here/../lib.sh"
need_guest --drivers
work_folder
initrd_with_drivers "$work/initrd" "$cache" "$here/virtio.guest"
head -c 16M < <(yes "$(seq 1 1000)") > "$work/image"
sum=$(sha256sum < "$work/image" | cut -d' ' -f1)

# boot NAME DISK ARG...: a run with a fresh copy of the image; its files are $work/NAME.*
boot() {
    local name=$1 disk=$2 append=${append-} format=${format-raw}
    shift 2
    rm -f "$work/disk"
    qemu-img convert -q -f raw -O "$format" "$work/image" "$work/disk"
    "$penumbra" run -m 256M --timeout 300 --kernel "$cache/vmlinuz" --initrd "$work/initrd" --disk "$work/disk$disk" \
        --disk "$work/image,ro" --device rng --device balloon --append "console=ttyS0 panic=-1 quiet pn.script $append" \
        --stats "$work/$name.json" --ram-digest "$@" < /dev/null > "$work/$name.out" 2> "$work/$name.err" ||
        fail "$name: exit code $?: $(cat "$work/$name.err")"
    grep -q '^GUEST-DONE' "$work/$name.out" || { fail "$name: $(tail -n 3 "$work/$name.out")"; return; }
    grep -q "^read $sum" "$work/$name.out" || fail "$name: the guest read something else"
    [ "$format" = raw ] || { qemu-img convert -q -f "$format" -O raw "$work/disk" "$work/raw" && mv "$work/raw" "$work/disk"; }
    # The numbers are 3,388,895 bytes, in whole blocks from 1 MiB on.
    seq 1 500000 | cmp -s - <(tail -c +$(((1 << 20) + 1)) "$work/disk" | head -c 3388895) || fail "$name: the image lacks what was written"
}
field() { python3 -c 'import json, sys; j = json.load(open(sys.argv[1])); print(*[j[k] for k in sys.argv[2:]])' "$work/$1.json" "${@:2}"; }

boot shadow '' --mmu shadow
grep -q '^features .\{34\}1' "$work/shadow.out" || fail "no packed rings: $(grep ^features "$work/shadow.out")"
grep -q '^interrupts .*MSI' "$work/shadow.out" || fail "no MSI-X: $(grep ^interrupts "$work/shadow.out")"
boot tdp '' --mmu tdp
[ "$(field shadow guest_insns ram_digest disks)" = "$(field tdp guest_insns ram_digest disks)" ] ||
    fail "shadow and tdp differ: $(field shadow guest_insns ram_digest disks), $(field tdp guest_insns ram_digest disks)"
cmp "$work/shadow.out" "$work/tdp.out" || fail "shadow and tdp print different bytes"
append=pci=nomsi boot split ,split --mmu shadow
grep -q '^features .\{34\}0' "$work/split.out" || fail "packed rings: $(grep ^features "$work/split.out")"
grep -q '^interrupts .*IO-APIC' "$work/split.out" || fail "no INTA: $(grep ^interrupts "$work/split.out")"
boot host '' --mmu shadow --clock host
format=qcow2 boot qcow2 ,qcow2 --mmu tdp
[ "$(field tdp guest_insns ram_digest disks)" = "$(field qcow2 guest_insns ram_digest disks)" ] ||
    fail "raw and qcow2 differ: $(field qcow2 guest_insns ram_digest disks)"
format=qcow2 boot qcow2-host ,qcow2 --mmu shadow --clock host
boot smp '' --mmu tdp -c 2
# The kernel's own checks of what drivers get and give back: red zones, poison.
append="slub_debug=FZPU page_poison=1" boot checks '' --mmu tdp --clock host
grep -q 'BUG\|corrupted\|overwritten' "$work/checks.out" && fail "checks: $(grep 'BUG\|corrupted\|overwritten' "$work/checks.out")"
[ $bad -eq 0 ] || tail -n 20 "$work"/*.out
exit $bad
