#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A guest moves from this host's /dev/kvm to every MMU, and to it, while it runs, and ends as one that stayed.
#
#   migrate.sh PENUMBRA
. "$(dirname "$0")/../cli/lib.sh"
need_kvm
vendor=intel
grep -q AuthenticAMD /proc/cpuinfo && vendor=amd
guest=(-m 64M --append "pages=500 swaps=50 flips=20 switches=20 compute=400000000")
digest() { grep '"ram_digest":' "$1"; }
run run "${guest[@]}" --stats "$work/whole.json" --ram-digest
mv "$work/out" "$work/whole.out"

# moves FROM TO ARG...
moves() {
    local what="$*" from=$1 to=$2
    shift 2
    rm -f "$work/mon" "$work/in"
    local cpu=(--pv none)
    [ "$from" = kvm ] || cpu=(--cpu default,vendor=$vendor)
    "$penumbra" run --mmu "$from" "${cpu[@]}" "${guest[@]}" --monitor "$work/mon" > "$work/a.out" 2> "$work/a.err" < /dev/null &
    local source=$!
    "$penumbra" run --mmu "$to" --incoming "unix:$work/in" --stats "$work/b.json" --ram-digest \
        > "$work/b.out" 2> "$work/b.err" < /dev/null &
    local dest=$!
    until [ -S "$work/mon" ] && [ -S "$work/in" ]; do kill -0 $source $dest 2> /dev/null || break; sleep 0.02; done
    until grep -q 'page table edits' "$work/a.out"; do kill -0 $source 2> /dev/null || break; sleep 0.02; done
    run migrate "$work/mon" "unix:$work/in" "$@"
    [ "$rc" -eq 0 ] || {
        fail "$what: $(cat "$work/err")"
        kill $dest # nobody may ever come
    }
    wait $source || fail "$what: the source: $(cat "$work/a.err")"
    wait $dest || fail "$what: the destination: $(cat "$work/b.err")"
    cat "$work/a.out" "$work/b.out" | cmp -s - "$work/whole.out" || fail "$what: the console differs"
    [ "$(digest "$work/whole.json")" = "$(digest "$work/b.json")" ] || fail "$what: memory at the end differs"
}
for to in shadow tdp kvm; do moves kvm $to --verify; done
moves shadow kvm --verify --streams 2 --compress lz4
moves tdp kvm
moves kvm kvm --post-copy --downtime 1
exit $bad
