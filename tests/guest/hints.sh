#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A guest with a balloon is moved: pages that Linux says are free stay behind, and it has them again over there; all
# other memory has come.
#
#   hints.sh PENUMBRA
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1
. "$here/../lib.sh"
need_guest --drivers
work_folder
initrd_with_drivers "$work/initrd" "$cache" "$here/hints.guest"
mkfifo "$work/keys"

# moves FROM TO OPTION...: Return: pages that were left out, in $free.
moves() {
    local from=$1 to=$2 what="$*" source destination
    shift 2
    rm -f "$work"/mon "$work"/in
    "$penumbra" run -m 192M --timeout 300 --mmu "$from" --dirty-log wp --kernel "$cache/vmlinuz" --initrd "$work/initrd" --device rng --device balloon \
        --monitor "$work/mon" --append "console=ttyS0 panic=-1 quiet pn.script" < /dev/null > "$work/0.out" 2> "$work/0.err" &
    source=$!
    "$penumbra" run --incoming "unix:$work/in" --timeout 300 --mmu "$to" < "$work/keys" > "$work/1.out" 2> "$work/1.err" &
    destination=$!
    exec 8> "$work/keys"
    until grep -q GUEST-READY "$work/0.out" && [ -S "$work/in" ]; do kill -0 $source 2> /dev/null || break; sleep 0.05; done
    "$penumbra" migrate "$work/mon" "unix:$work/in" --verify "$@" > "$work/said" 2> "$work/err" || {
        fail "$what: $(cat "$work/err")"
        kill $source $destination 2> /dev/null
    }
    echo go >&8
    exec 8>&-
    wait $source || fail "$what: the source: exit code $?: $(cat "$work/0.err")"
    wait $destination || fail "$what: the destination: exit code $?: $(cat "$work/1.err")"
    grep -q '^GUEST-DONE' "$work/1.out" || fail "$what: $(tail -n 3 "$work/0.out" "$work/1.out")"
    free=$(sed -n 's/.*, \([0-9]*\) pages left out that the guest said were free.*/\1/p' "$work/said")
    echo "$what: $(cat "$work/said")"
    [ "${free:-0}" -ge 5000 ] || fail "$what: pages that are free are sent: $(cat "$work/said")"
}
moves shadow tdp --compress zstd
moves tdp shadow --post-copy --downtime 1
exit $bad
