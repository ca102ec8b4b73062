#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A guest that is moved between the soft engines, at moments that it does not choose, notices
# nothing: same memory at the end, same number of instructions.
#
#   moves.sh PENUMBRA OWED SIPI
. "$(dirname "$0")/../cli/lib.sh"
owed=$2 sipi=$3

# go NAME ARG...
go() {
    local name=$1
    shift
    run run -m 64M --cpu max --format flat --kernel "$owed" --timeout 60 --ram-digest \
        --stats "$work/$name.json" "$@"
    [ $rc -eq 1 ] || fail "$name: exit code $rc: check $((rc >> 1)): $(tail -n 3 "$work/err")"
}
value() { grep -o "\"$2\": [^,]*" "$work/$1.json" | head -n 1; }

go stays --mmu shadow
for first in shadow tdp; do
    for offset in 000 001 002 005; do
        moves=() mmu=$first
        for ((i = 2; i < 18; i++)); do
            [ $mmu = shadow ] && mmu=tdp || mmu=shadow
            moves+=(--handover "$mmu@0.$(printf %03d $((i * 40)))$offset")
        done
        go moved --mmu $first "${moves[@]}"
        [ "$(grep -c '"from": ' "$work/moved.json")" -eq 16 ] || fail "$first, +$offset ns: not 16 moves"
        for what in ram_digest guest_insns; do
            [ -n "$(value stays $what)" ] || fail "no $what"
            [ "$(value stays $what)" = "$(value moved $what)" ] ||
                fail "$first, +$offset ns: $what: $(value stays $what), moved $(value moved $what)"
        done
    done
done

# A processor that nobody has started yet is still that after a move.
for moves in "" "--handover tdp" "--handover tdp --handover shadow"; do
    run run -m 64M -c 2 --format flat --kernel "$sipi" --timeout 60 $moves
    [ $rc -eq 1 ] || fail "SIPI without INIT $moves: exit code $rc: $(tail -n 3 "$work/err")"
done
exit $bad
