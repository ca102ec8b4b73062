#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# --device pmem with Linux's drivers: ext4 with DAX on a file of this host's, which has afterwards what the guest wrote;
# programs run from it; a second one keeps nothing; handed over to another MMU in between.
#
#   pmem.sh PENUMBRA
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1
. "$here/../lib.sh"
command -v mkfs.ext4 debugfs > /dev/null || skip "no e2fsprogs"
need_guest --drivers
work_folder
mkdir "$work/files" || exit 1
initrd_with_drivers "$work/initrd" "$cache" "$here/pmem.guest"
head -c 3M < <(yes "$(seq 1 1000)") > "$work/files/image"
sum=$(sha256sum < "$work/files/image" | cut -d' ' -f1)
truncate -s 4M "$work/empty"

# boot NAME ARG...
boot() {
    local name=$1
    shift
    rm -f "$work/p" && mkfs.ext4 -q -b 4096 -d "$work/files" "$work/p" 64M || exit 1
    "$penumbra" run -m 256M --timeout 300 --kernel "$cache/vmlinuz" --initrd "$work/initrd" --device "pmem,$work/p" \
        --device "pmem,$work/empty,snapshot" --append "console=ttyS0 panic=-1 quiet pn.script" "$@" < /dev/null \
        > "$work/out" 2> "$work/err" || fail "$name: exit code $?: $(cat "$work/err")"
    grep -q '^GUEST-DONE' "$work/out" || fail "$name: $(tail -n 3 "$work/out")"
    grep -q "^read $sum" "$work/out" || fail "$name: the guest read something else"
    debugfs -R 'cat numbers' "$work/p" 2> /dev/null | cmp - <(seq 1 100000) || fail "$name: the file lacks what was written"
    e2fsck -fn "$work/p" > "$work/fsck" 2>&1 || fail "$name: e2fsck: $(cat "$work/fsck")"
    cmp -n 4194304 "$work/empty" /dev/zero || fail "$name: what was to be lost was written"
}

boot shadow --mmu shadow
boot tdp --mmu tdp --clock host
boot both --mmu shadow --handover tdp@900
exit $bad
