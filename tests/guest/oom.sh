#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What a balloon takes this host has back. And a guest whose balloon has taken most of its memory, and which then needs more
# than is left, gets pages back, and kills no process (VIRTIO_BALLOON_F_DEFLATE_ON_OOM).
#
#   oom.sh PENUMBRA
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1
. "$here/../lib.sh"
need_guest --drivers
work_folder
initrd_with_drivers "$work/initrd" "$cache" "$here/oom.guest"

mkfifo "$work/keys"
# until_it_says WORD; resident: KiB of guest memory that this host holds
until_it_says() { until grep -q "$1" "$work/out" || ! kill -0 $run 2> /dev/null; do sleep 0.05; done; }
resident() { echo "info hostmem" | "$penumbra" monitor "$work/mon" | sed -n 's/.*: 229376 KiB, resident \([0-9]*\) KiB.*/\1/p'; }

# presses MMU ARG...
presses() {
    local what="$*" run before after
    rm -f "$work/mon"
    : > "$work/out"
    "$penumbra" run --mmu "$@" -m 224M --timeout 300 --kernel "$cache/vmlinuz" --initrd "$work/initrd" --device balloon --monitor "$work/mon" \
        --append "console=ttyS0 panic=-1 quiet pn.script" < "$work/keys" > "$work/out" 2> "$work/err" &
    run=$!
    exec 8> "$work/keys"
    until_it_says GUEST-FILLED
    before=$(resident)
    echo go >&8
    until_it_says GUEST-READY
    echo "balloon 112M" | "$penumbra" monitor "$work/mon" > /dev/null || fail "$what: the monitor"
    until_it_says GUEST-INFLATED
    after=$(resident)
    echo on >&8
    exec 8>&-
    wait $run || fail "$what: exit code $?: $(cat "$work/err")"
    grep -q '^GUEST-DONE' "$work/out" || fail "$what: $(tail -n 3 "$work/out")"
    echo "$what: resident ${before:-?} KiB, with the balloon ${after:-?} KiB; $(grep 'came back' "$work/out")"
    [ "${before:-0}" -ge 120000 ] && [ "${after:-999999}" -le 116000 ] || fail "$what: this host does not have its memory back"
}
presses tdp --trace "$work/trace" --trace-events page_discard
"$penumbra" trace "$work/trace" > "$work/events" || fail "trace: exit code $?"
pages=$(grep -c ' page_discard .* size=4096 host=1 ' "$work/events")
[ "$pages" -ge 28672 ] || fail "$pages pages are said to be given up: $(tail -n 3 "$work/events")"
presses shadow --clock host
exit $bad
