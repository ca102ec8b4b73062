#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `point keep` and `point reset` of the monitor: a guest that runs goes back to where it was.
#
#   point.sh PENUMBRA
. "$(dirname "$0")/lib.sh"

# background ARG...: a guest that computes for ever, standing.
background() {
    "$penumbra" run -m 64M "$@" --append "pages=64 swaps=50 flips=20 switches=20 compute=100000000000" \
        --monitor "$work/mon" > "$work/guest" 2> "$work/guest.err" < /dev/null &
    pid=$!
    until [ -S "$work/mon" ]; do
        kill -0 $pid 2> /dev/null || { fail "no monitor: $(cat "$work/guest.err")" && exit 1; }
        sleep 0.05
    done
    until grep -q 'dirty bits' "$work/guest"; do sleep 0.05; done
    ask stop > /dev/null
}
ask() {
    "$penumbra" monitor "$work/mon" "$*"
}
seen() {
    ask info registers
    ask xp /64xg 0x100000
}

for mmu in shadow tdp; do
    background --mmu $mmu --dirty-log wp
    ask point reset > "$work/out" && fail "$mmu: a reset without a point"
    grep -q "'point keep'" "$work/out" || fail "$mmu: it does not say what to do: $(cat "$work/out")"
    ask point keep > /dev/null || fail "$mmu: no point: $(ask point keep)"
    seen > "$work/then"
    for _ in 1 2; do
        ask cont > /dev/null
        ask stop > /dev/null
        seen > "$work/later"
        cmp -s "$work/then" "$work/later" && fail "$mmu: the guest did nothing"
        ask point reset > "$work/out" || fail "$mmu: $(cat "$work/out")"
        grep -q '^[0-9]* pages, [0-9.]* us$' "$work/out" || fail "$mmu: it does not say what it did: $(cat "$work/out")"
        seen > "$work/now"
        diff "$work/then" "$work/now" > "$work/diff" || fail "$mmu: not where it was: $(cat "$work/diff")"
    done
    ask audit > "$work/out" || fail "$mmu: $(cat "$work/out")"
    ask quit > /dev/null
    wait $pid || fail "$mmu: exit code $?"
done

# refused WHY ARG...: no point there, for that reason.
refused_point() {
    local why=$1
    shift
    background "$@"
    ask point keep > "$work/out" && fail "$*: a point"
    grep -q "$why" "$work/out" || fail "$*: $(cat "$work/out")"
    ask quit > /dev/null
    wait $pid
}
refused_point 'begin it with --dirty-log' --mmu shadow
refused_point 'its time only goes on' --mmu tdp --clock host --dirty-log wp
refused_point 'traced' --mmu tdp --dirty-log wp --trace "$work/t.trace"
exit $bad
