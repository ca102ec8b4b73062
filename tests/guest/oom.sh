#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A guest whose balloon has taken most of its memory, and which then needs more than is left, gets pages back, and kills no
# process (VIRTIO_BALLOON_F_DEFLATE_ON_OOM).
#
#   oom.sh PENUMBRA
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1
. "$here/../lib.sh"
need_guest --drivers
work_folder
mkdir "$work/tree" && cp -r "$cache/drivers" "$work/tree/" && cp "$here/oom.guest" "$work/tree/script.sh" || exit 1
(cd "$work/tree" && find . | cpio --quiet -o -H newc | gzip -1 | cat "$cache/initrd.gz" - > "$work/initrd")

# presses MMU ARG...
presses() {
    local what="$*" run
    rm -f "$work/mon"
    "$penumbra" run --mmu "$@" -m 224M --timeout 300 --kernel "$cache/vmlinuz" --initrd "$work/initrd" --device balloon --monitor "$work/mon" \
        --append "console=ttyS0 panic=-1 quiet pn.script" < /dev/null > "$work/out" 2> "$work/err" &
    run=$!
    until grep -q GUEST-READY "$work/out" || ! kill -0 $run 2> /dev/null; do sleep 0.05; done
    echo "balloon 112M" | python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(sys.stdin.buffer.read())
s.shutdown(socket.SHUT_WR)
while s.recv(4096):
    pass' "$work/mon" || fail "$what: the monitor"
    wait $run || fail "$what: exit code $?: $(cat "$work/err")"
    grep -q '^GUEST-DONE' "$work/out" || fail "$what: $(tail -n 3 "$work/out")"
    echo "$what: $(grep 'came back' "$work/out")"
}
presses tdp
presses shadow --clock host
exit $bad
