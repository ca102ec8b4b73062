#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# penumbra migrate: a guest that moves while it runs, from either MMU to the other, in every way
# there is (streams, compression, throttle, post-copy, TLS), ends as one that stayed: instructions,
# time, memory, console. What a side says wrong is refused with one line, and the guest goes on.
#
#   migrate.sh PENUMBRA [linux]    the embedded guest, or Debian's kernel in the middle of checksums
. "$(dirname "$0")/lib.sh"

same() { grep -E '"(guest_insns|guest_ns|ram_digest)":' "$1"; }

# alone ARG...: what the guest comes to when it stays.
alone() {
    run run "$@" --stats "$work/whole.json" --ram-digest
    [ "$rc" -eq 0 ] || fail "the guest alone: exit code $rc: $(head -n 3 "$work/err")"
    mv "$work/out" "$work/whole.out"
}

# source ARG..., destination N ARG...: in the background, as $source and ${dest[N]}, with a monitor.
source() {
    "$penumbra" run --monitor "$work/mon0" "$@" > "$work/0.out" 2> "$work/0.err" < /dev/null &
    source=$!
}
destination() {
    local n=$1
    shift
    "$penumbra" run --incoming "unix:$work/in$n" --monitor "$work/mon$n" --stats "$work/$n.json" --ram-digest "$@" \
        > "$work/$n.out" 2> "$work/$n.err" < /dev/null &
    dest[n]=$!
    until [ -S "$work/in$n" ]; do kill -0 "${dest[n]}" 2> /dev/null || break; sleep 0.02; done
}
# there N: monitor N listens, and the guest is there. said N LINE: run N has said it, or one before it: the guest
# runs on while it moves.
there() { until [ -S "$work/mon$1" ]; do kill -0 "${2:-$source}" 2> /dev/null || break; sleep 0.02; done; }
said() { until grep -q "$2" "$work"/[0-$1].out; do kill -0 "$3" 2> /dev/null || break; sleep 0.02; done; }

# as_alone WHAT LAST: the runs' consoles, one behind another, and the last one's end are as of who stayed.
as_alone() {
    local n all=()
    for ((n = 0; n <= $2; n++)); do all+=("$work/$n.out"); done
    [ "$(same "$work/whole.json" | wc -l)" -eq 3 ] || fail "$1: there is nothing to compare with"
    diff <(same "$work/whole.json") <(same "$work/$2.json") > "$work/diff" ||
        fail "$1: not as the guest that stayed: $(cat "$work/diff")"
    cat "${all[@]}" | cmp -s - "$work/whole.out" || fail "$1: its console is another"
}
# both WHAT: they have ended well.
both() {
    wait "$source" || fail "$1: the source: exit code $?: $(cat "$work/0.err")"
    wait "${dest[1]}" || fail "$1: the destination: exit code $?: $(cat "$work/1.err")"
}

if [ "${2:-}" = linux ]; then
    need_guest
    guest=(-m 256M --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" --append "console=ttyS0 panic=-1 pn.script")
    alone "${guest[@]}"
    there_too=()
    # through WHAT ARG...: shadow -> tdp -> shadow, in the middle of the kernel's start and of a checksum.
    through() {
        local what=$1
        shift
        rm -f "$work"/mon* "$work"/in*
        source --mmu shadow "${guest[@]}"
        destination 1 --mmu tdp "${there_too[@]}"
        destination 2 --mmu shadow
        there 0
        said 0 'Freeing unused kernel' "$source"
        run migrate "$work/mon0" "unix:$work/in1" --verify "$@"
        [ "$rc" -eq 0 ] || fail "$what: the first move: $(cat "$work/err")"
        said 1 'step gzip' "${dest[1]}"
        there 1 "${dest[1]}"
        run migrate "$work/mon1" "unix:$work/in2" --verify "$@"
        [ "$rc" -eq 0 ] || {
            fail "$what: the second move: $(cat "$work/err")"
            kill "${dest[2]}" 2> /dev/null # nobody may ever come
        }
        both "$what"
        wait "${dest[2]}" || fail "$what: the last: exit code $?: $(cat "$work/2.err")"
        as_alone "$what" 2
    }
    through plain
    through "streams, compressed" --streams 2 --compress zstd --downtime 20
    through post-copy --post-copy --downtime 1 --compress lz4
    there_too=(--trace "$work/there.trace" --trace-tasks) # it reads the guest's memory before the guest runs
    through "post-copy, its tasks traced there" --post-copy --downtime 1
    exit $bad
fi

guest=(-m 64M --append "workload=dirty bytes=16777216 order=random rounds=12000")
alone "${guest[@]}"
# Where this host's kernel says what is written, a guest without a log of its own runs on meanwhile, too.
rounds=1
run run -m 16M --append "pages=16" --dirty-log pagemap-scan
[ "$rc" -ne 0 ] || rounds=2
# moves WHAT FROM TO [SOURCE-ARG... --] ARG...
moves() {
    local what=$1 from=$2 to=$3 more=()
    shift 3
    if [[ " $* " == *" -- "* ]]; then
        while [ "$1" != -- ]; do more+=("$1"); shift; done
        shift
    fi
    rm -f "$work"/mon* "$work"/in*
    source --mmu "$from" "${guest[@]}" "${more[@]}"
    destination 1 --mmu "$to"
    there 0
    run migrate "$work/mon0" "unix:$work/in1" "$@"
    [ "$rc" -eq 0 ] && grep -q '^the guest has moved: ' "$work/out" || {
        fail "$what: $(cat "$work/err")"
        kill "${dest[1]}" 2> /dev/null # nobody may ever come
    }
    [ "$(sed -n 's/^the guest has moved: \([0-9]*\) .*/\1/p' "$work/out")" -ge $rounds ] || [[ " $* " == *" --post-copy "* ]] ||
        fail "$what: the guest stood for all of it: $(cat "$work/out")"
    both "$what"
    grep -q '^penumbra: the guest has moved: ' "$work/0.err" || fail "$what: the source does not say so: $(cat "$work/0.err")"
    [ ! -s "$work/1.err" ] || fail "$what: the destination says: $(cat "$work/1.err")"
    as_alone "$what" 1
}
moves "shadow to tdp" shadow tdp
moves "tdp to shadow, streams, lz4" tdp shadow --streams 3 --compress lz4
moves "zstd, throttled" shadow shadow --compress zstd --downtime 1 --throttle --verify
moves "post-copy" shadow tdp --post-copy --downtime 1 --streams 2
moves "post-copy, tdp" tdp tdp --post-copy --downtime 1 --compress zstd
for log in wp pml ring; do
    moves "a run with --dirty-log $log" tdp shadow --dirty-log $log --dirty-every 5 --dirty-verify -- --verify
done

# TLS: an authority, and certificates of it. Another authority's is refused, and so is who has none.
pem() {
    mkdir -p "$work/$1"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=ca $1" \
        -keyout "$work/$1/ca-key.pem" -out "$work/$1/ca-cert.pem" 2> /dev/null
    local who
    for who in server client; do
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=localhost" \
            -keyout "$work/$1/$who-key.pem" -out "$work/$1/$who.csr" 2> /dev/null
        openssl x509 -req -in "$work/$1/$who.csr" -CA "$work/$1/ca-cert.pem" -CAkey "$work/$1/ca-key.pem" \
            -CAcreateserial -days 30 -extfile <(printf 'subjectAltName=DNS:localhost\n') \
            -out "$work/$1/$who-cert.pem" 2> /dev/null
    done
}
pem one
pem other
# refuses WHAT WORD SOURCE-WORD DESTINATION-ARG... -- ARG...: both sides say why, and the guest goes on.
refuses() {
    local what=$1 here=$2 there=$3 more=()
    shift 3
    while [ "$1" != -- ]; do more+=("$1"); shift; done
    shift
    rm -f "$work"/in1 "$work/mon1"
    destination 1 "${more[@]}"
    run migrate "$work/mon0" "unix:$work/in1" "$@"
    [ "$rc" -eq 1 ] && [ "$(wc -l < "$work/err")" -eq 1 ] && grep -q "$here" "$work/err" ||
        fail "$what: the source: exit code $rc: $(cat "$work/err")"
    ! wait "${dest[1]}" || fail "$what: the destination ended well"
    [ "$(wc -l < "$work/1.err")" -eq 1 ] && grep -q "$there" "$work/1.err" || fail "$what: the destination: $(cat "$work/1.err")"
    [ ! -s "$work/1.out" ] || fail "$what: the guest ran there"
}
rm -f "$work"/mon* "$work"/in*
source --mmu shadow "${guest[@]}" --stats "$work/0.json" --ram-digest
there 0
"$penumbra" monitor "$work/mon0" stop
refuses "another authority" 'TLS' 'TLS' --incoming-tls "$work/one" -- --tls "$work/other"
refuses "no TLS here" 'the peer has closed' 'TLS' --incoming-tls "$work/one" --
refuses "no TLS there" 'TLS' 'is none of a migration' -- --tls "$work/one"
refuses "a destination that cannot take post-copy" 'post-copy does not go with' 'post-copy does not go with' \
    --shared-memory -- --post-copy
refuses "a command line that does not do" 'its command line does not do' 'tlb' --tlb /nonexistent --
# What a device has outside its state does not move, and nobody makes a destination open files.
truncate -s 1M "$work/disk"
"$penumbra" run -m 16M --disk "$work/disk,ro" --append compute=1000000000 --monitor "$work/mon8" > /dev/null 2>&1 < /dev/null &
until [ -S "$work/mon8" ]; do kill -0 $! 2> /dev/null || break; sleep 0.02; done
refused 1 migrate "$work/mon8" "unix:$work/in1"
grep -q "a device 'disk' cannot be moved" "$work/err" || fail "a disk: $(cat "$work/err")"
echo quit | "$penumbra" monitor "$work/mon8" > /dev/null
# Nobody there; nonsense from there and to there.
refused 1 migrate "$work/mon0" "unix:$work/nobody"
refused 1 migrate "$work/mon0" tcp:localhost:1
refused 2 migrate "$work/mon0" "$work/nobody"
refused 2 migrate "$work/mon0" tcp:localhost:0
refused 2 migrate "$work/mon0"
refused 2 migrate "$work/mon0" unix:x --streams 99
refused 2 migrate "$work/mon0" unix:x --compress rar
refused 1 migrate "$work/mon0" unix:x --tls /nonexistent
refused 2 run --incoming unix:x -m 64M
refused 2 run --incoming unix:x --restore y
refused 2 run --incoming nowhere
refused 2 run --incoming-tls "$work/one"
refused 2 run --incoming unix:x --incoming-tls /nonexistent
for text in 'GET / HTTP/1.0' ''; do
    destination 1
    printf '%s\r\n%064d' "$text" 0 | timeout 20 python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(sys.stdin.buffer.read()); s.shutdown(socket.SHUT_WR); s.recv(9)' \
        "$work/in1"
    rc=0
    wait "${dest[1]}" || rc=$?
    [ "$rc" -eq 7 ] && [ "$(wc -l < "$work/1.err")" -eq 1 ] && grep -q 'none of a migration' "$work/1.err" ||
        fail "nonsense: exit code $rc: $(cat "$work/1.err")"
done
# Over TCP and TLS the certificate is of the host; then, after all that was refused, it moves.
for port in 24817 31055 27400 29981; do
    "$penumbra" run --mmu tdp --incoming "tcp:localhost:$port" --incoming-tls "$work/one" --stats "$work/1.json" --ram-digest \
        > "$work/1.out" 2> "$work/1.err" < /dev/null &
    dest[1]=$!
    until grep -q "$(printf ':%04X 0*:0000 0A' "$port")" /proc/net/tcp /proc/net/tcp6; do kill -0 "${dest[1]}" 2> /dev/null || break; sleep 0.02; done
    kill -0 "${dest[1]}" 2> /dev/null && break
done
run migrate "$work/mon0" "tcp:localhost:$port" --tls "$work/one" --streams 2
[ "$rc" -eq 0 ] || fail "TCP and TLS: $(cat "$work/err" "$work/1.err")"
both "TCP and TLS"
as_alone "TCP and TLS" 1
exit $bad
