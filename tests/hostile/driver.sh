#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A hostile driver (driver.c) of every virtio device, in a guest with the real VMM: whatever it does, the VMM goes on, the guest's other
# memory is as it was, and so is a disk that is read-only. Under virtual time two runs are equal, disk contents too.
#
#   driver.sh PENUMBRA DRIVER [ROUNDS [SEED]]
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1 driver=$2 rounds=${3:-400} seed=${4:-1}
. "$here/../lib.sh"
need_guest
work_folder
mkdir "$work/tree" "$work/share" && cp "$driver" "$work/tree/driver" && cp "$here/driver.guest" "$work/tree/script.sh" || exit 1
(cd "$work/tree" && find . | cpio --quiet -o -H newc | gzip -1 | cat "$cache/initrd.gz" - > "$work/initrd")
head -c 4M < <(yes disk) > "$work/image"

# attack NAME ATTACKED ARG...: with that many devices
attack() {
    local name=$1 devices=$2
    shift 2
    cp "$work/image" "$work/disk"
    cp "$work/image" "$work/pmem"
    "$penumbra" run -m 192M --timeout 300 --kernel "$cache/vmlinuz" --initrd "$work/initrd" --disk "$work/disk" --disk "$work/image,ro" \
        --device rng --device balloon --stats "$work/$name.json" --ram-digest "$@" \
        --append "console=ttyS0 panic=-1 quiet pn.script pn.seed=$seed pn.rounds=$rounds" < /dev/null > "$work/out" 2> "$work/err" ||
        fail "$name: exit code $?: $(cat "$work/err")"
    grep -q GUEST-DONE "$work/out" && grep -q "^ATTACKED $devices ANSWERED [1-9]" "$work/out" && ! grep -q GUEST-FAIL "$work/out" || fail "$name: $(tail -n 5 "$work/out")"
    grep -a ATTACKED "$work/out"
    cmp -s "$work/image" <(head -c 4M < <(yes disk)) || fail "$name: a disk that is read-only was written"
    [ "$(stat -c %s "$work/disk")" -eq 4194304 ] || fail "$name: the disk has another size"
}
others=(--device "pmem,$work/pmem" --device mem,256M --device "vsock,$work/vsock" --device "console,hvc=$work/hvc,port=a:$work/a" --net user --share "$work/share")
attack one 4 --mmu shadow
attack two 4 --mmu shadow
same() { grep -E '"(guest_insns|guest_ns|ram_digest|digest)":' "$work/$1.json"; }
diff <(same one) <(same two) > "$work/diff" || fail "two runs differ: $(cat "$work/diff")"
attack host 10 --mmu tdp --clock host "${others[@]}"
attack parallel 10 --mmu shadow --clock host --parallel -c 2 "${others[@]}"
exit $bad
