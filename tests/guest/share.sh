#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# --share with Linux's 9p: a guest reads and writes a folder of this host's, and reaches nothing else, under both
# MMUs and both clocks.
#
#   share.sh PENUMBRA
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1
. "$here/../lib.sh"
need_guest --kernel-package linux-image-amd64 --suite bookworm --drivers # cloud kernels have no 9p
work_folder
mkdir "$work/notes" || exit 1
initrd_with_drivers "$work/initrd" "$cache" "$here/share.guest"
echo "a note" > "$work/notes/note"
echo secret > "$work/secret"

# boot NAME ARG...
boot() {
    local name=$1
    shift
    rm -rf "$work/shared" && mkdir "$work/shared" && head -c 3M < <(yes "$(seq 1 1000)") > "$work/shared/image"
    ln -s "$work/secret" "$work/shared/outside"
    "$penumbra" run -m 256M --timeout 300 --kernel "$cache/vmlinuz" --initrd "$work/initrd" --share "$work/shared" \
        --share "$work/notes,ro,tag=notes" --append "console=ttyS0 panic=-1 quiet pn.script" "$@" < /dev/null \
        > "$work/out" 2> "$work/err" || fail "$name: exit code $?: $(cat "$work/err")"
    grep -q '^GUEST-DONE' "$work/out" || fail "$name: $(tail -n 3 "$work/out")"
    grep -q "^read $(sha256sum < "$work/shared/image" | cut -d' ' -f1)" "$work/out" || fail "$name: the guest read something else"
    seq 1 100000 | cmp - "$work/shared/x/y/z/moved" || fail "$name: the folder lacks what was written"
    [ ! -e "$work/notes/new" ] || fail "$name: the folder of notes was written"
}

boot shadow --mmu shadow
boot tdp --mmu tdp --clock host -c 2
exit $bad
