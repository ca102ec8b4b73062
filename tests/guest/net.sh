#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# --net user with Linux's virtio_net: a guest reaches its gateway; through a forwarded port this host sends
# it what it gets whole; a server of this host it reaches with 'open' alone.
#
#   net.sh PENUMBRA
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1
. "$here/../lib.sh"
need_guest --drivers
work_folder
mkdir "$work/www" || exit 1
initrd_with_drivers "$work/initrd" "$cache" "$here/net.guest"
head -c 1M < <(yes "$(seq 1 1000)") > "$work/www/image"
sum=$(sha256sum < "$work/www/image" | cut -d' ' -f1)
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

server=$(free_port)
python3 -m http.server --bind 127.0.0.1 --directory "$work/www" "$server" > /dev/null 2>&1 &
http=$!
trap 'kill $http 2> /dev/null; rm -rf "$work"' EXIT
until (exec 3<> "/dev/tcp/127.0.0.1/$server") 2> /dev/null; do sleep 0.05; done

# boot NAME NET WANT ARG...: what is fetched is WANT.
boot() {
    local name=$1 net=$2 want=$3 port pid
    shift 3
    port=$(free_port)
    : > "$work/out" # the boot before said that it listens, too
    "$penumbra" run -m 128M --timeout 200 --kernel "$cache/vmlinuz" --initrd "$work/initrd" --net "$net,hostfwd=tcp::$port-:7777" \
        --append "console=ttyS0 panic=-1 quiet pn.script pn.port=$server" "$@" < /dev/null > "$work/out" 2> "$work/err" &
    pid=$!
    until grep -q GUEST-LISTENS "$work/out" || ! kill -0 $pid 2> /dev/null; do sleep 0.05; done
    python3 - "$port" "$work/www/image" <<'PY' || fail "$name: nobody takes the data"
import socket, sys
for attempt in range(400):  # until nc listens
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60) as s:
        try:
            s.sendall(open(sys.argv[2], "rb").read())
            s.shutdown(socket.SHUT_WR)
            if s.recv(1) == b"":
                sys.exit(0)
        except ConnectionError:
            pass
sys.exit(1)
PY
    wait $pid || fail "$name: exit code $?: $(cat "$work/err")"
    grep -q "^got $sum" "$work/out" || fail "$name: the guest got something else"
    grep -q "^fetched $want" "$work/out" || fail "$name: not fetched $want: $(grep ^fetched "$work/out")"
    [ $bad -eq 0 ] || tail -n 5 "$work/out"
}

boot open user,open "$sum" --mmu shadow
boot restricted user,split nothing --mmu tdp --clock host
exit $bad
