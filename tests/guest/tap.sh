#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# --net tap=NAME with Linux's virtio_net, in namespaces of our own, where nothing is anybody else's: the guest
# reaches a server of the host's through the interface, and gets what is sent to it.
#
#   tap.sh PENUMBRA
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1
. "$here/../lib.sh"
if [ "${2-}" != inside ]; then
    command -v ip > /dev/null || skip "needs iproute2"
    [ -c /dev/net/tun ] || skip "there is no /dev/net/tun"
    unshare --user --map-root-user --net ip tuntap add pn0 mode tap 2> /dev/null ||
        skip "no tap interface in a user namespace here"
    exec unshare --user --map-root-user --net "$0" "$penumbra" inside
fi
need_guest --drivers
work_folder
ip link set lo up && ip tuntap add pn0 mode tap && ip address add 10.0.2.2/24 dev pn0 && ip link set pn0 up || fail "no interface"
mkdir "$work/www" || exit 1
initrd_with_drivers "$work/initrd" "$cache" "$here/net.guest"
head -c 1M < <(yes "$(seq 1 1000)") > "$work/www/image"
sum=$(sha256sum < "$work/www/image" | cut -d' ' -f1)
python3 -m http.server --bind 10.0.2.2 --directory "$work/www" 8000 > /dev/null 2>&1 &
http=$!
trap 'kill $http 2> /dev/null; rm -rf "$work"' EXIT
until (exec 3<> /dev/tcp/10.0.2.2/8000) 2> /dev/null; do read -rt 0.05 _ <> <(:); done
"$penumbra" run -m 128M --timeout 200 --kernel "$cache/vmlinuz" --initrd "$work/initrd" --net tap=pn0 \
    --append "console=ttyS0 panic=-1 quiet pn.script pn.port=8000" < /dev/null > "$work/out" 2> "$work/err" &
pid=$!
until grep -q GUEST-LISTENS "$work/out" || ! kill -0 $pid 2> /dev/null; do read -rt 0.05 _ <> <(:); done
python3 - "$work/www/image" <<'EOF' || fail "nobody takes the data"
import socket, sys
for attempt in range(400):  # until nc listens
    try:
        with socket.create_connection(("10.0.2.15", 7777), 60) as s:
            s.sendall(open(sys.argv[1], "rb").read())
            s.shutdown(socket.SHUT_WR)
            if s.recv(1) == b"":
                sys.exit(0)
    except ConnectionError:
        pass
sys.exit(1)
EOF
wait $pid || fail "exit code $?: $(cat "$work/err")"
grep -q "^got $sum" "$work/out" || fail "the guest got something else"
grep -q "^fetched $sum" "$work/out" || fail "$(grep ^fetched "$work/out")"
[ $bad -eq 0 ] || tail -n 5 "$work/out"
exit $bad
