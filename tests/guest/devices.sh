#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux's drivers of virtio's smaller devices, under both MMUs: a console's ports, which are Unix sockets here,
# a vsock, both ways, and memory that comes and goes.
#
#   devices.sh PENUMBRA VSOCK    VSOCK: the program of vsock.c
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1
. "$here/../lib.sh"
need_guest --drivers
work_folder
initrd_with_drivers "$work/initrd" "$cache" "$here/devices.guest" "$2"

# boot NAME ARG...
boot() {
    local name=$1 host
    shift
    : > "$work/out"
    rm -f "$work"/vsock_2000
    python3 "$here/devices.py" "$work/hvc" "$work/port" "$work/vsock" "$work/mon" "$work/out" 2> "$work/host" &
    host=$!
    "$penumbra" run -m 128M --timeout 200 --kernel "$cache/vmlinuz" --initrd "$work/initrd" --device balloon --device "vsock,$work/vsock" --device mem,512M --monitor "$work/mon" \
        --device "console,hvc=$work/hvc,port=first:$work/port,port=second:$work/second" --append "console=ttyS0 panic=-1 quiet pn.script memhp_default_state=online" \
        "$@" < /dev/null > "$work/out" 2> "$work/err" || {
        fail "$name: exit code $?: $(cat "$work/err")"
        kill $host 2> /dev/null
    }
    wait $host || fail "$name: the host's side: $(cat "$work/host")"
    grep -q '^GUEST-DONE' "$work/out" || fail "$name: $(tail -n 3 "$work/out")"
    [ ! -e "$work/port" ] || fail "$name: the port's socket is left behind"
}

boot shadow --mmu shadow
boot tdp --mmu tdp --clock host
exit $bad
