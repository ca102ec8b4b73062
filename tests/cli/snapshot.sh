#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# penumbra snapshot: a guest that was saved in the middle and goes on from there, under either
# MMU, ends as one that was never stopped: instructions, time, memory, console. Every way to
# damage a snapshot is refused by the section's name, and nothing starts. A save that fails or is
# killed leaves nothing, or the whole.
#
#   snapshot.sh PENUMBRA [linux]    the embedded guest and all faults, or Debian's kernel
. "$(dirname "$0")/lib.sh"

same() { grep -E '"(guest_insns|guest_ns|ram_digest)":' "$1"; }

# goes_on WHAT MMU DIR: restored under MMU, it ends as $work/whole.
goes_on() {
    [ "$(same "$work/whole.json" | wc -l)" -eq 3 ] || fail "$1: there is nothing to compare with"
    run snapshot restore "$3" --mmu "$2" --stats "$work/r.json" --ram-digest
    [ "$rc" -eq 0 ] || fail "$1, under $2: exit code $rc: $(head -n 3 "$work/err")"
    diff <(same "$work/whole.json") <(same "$work/r.json") > "$work/diff" ||
        fail "$1, under $2: not as the run that was not stopped: $(cat "$work/diff")"
    tail -c "$(stat -c %s "$work/out")" "$work/whole.out" | cmp -s - "$work/out" ||
        fail "$1, under $2: its console does not end as that one's"
}

# background ARG...: a run with a monitor, as $pid; returns when the socket is there.
background() {
    "$penumbra" run --monitor "$work/mon" "$@" > "$work/a.out" 2> "$work/a.err" < /dev/null &
    pid=$!
    until [ -S "$work/mon" ]; do kill -0 $pid 2> /dev/null || break; sleep 0.02; done
}

# said LINE: the guest of background has said it.
said() { until grep -q "$1" "$work/a.out"; do kill -0 $pid 2> /dev/null || break; sleep 0.02; done; }

if [ "${2:-}" = linux ]; then
    need_guest
    # from CPUS MMU LINE: saved when the guest has said LINE, restored under both.
    from() {
        local guest=(-m 256M -c "$1" --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz"
            --append "console=ttyS0 panic=-1 pn.script" --ram-digest)
        run run --mmu "$2" "${guest[@]}" --stats "$work/whole.json"
        mv "$work/out" "$work/whole.out"
        background --mmu "$2" "${guest[@]}" --stats "$work/a.json"
    said "$3"
        run snapshot save "$work/mon" "$work/s"
        [ "$rc" -eq 0 ] || fail "-c $1: save: $(cat "$work/err")"
        wait $pid || fail "-c $1: the saved guest's exit code"
        diff <(same "$work/whole.json") <(same "$work/a.json") > "$work/diff" ||
            fail "-c $1: to be saved changed the guest: $(cat "$work/diff")"
        cmp -s "$work/whole.out" "$work/a.out" || fail "-c $1: to be saved changed the console"
        goes_on "Linux, -c $1, from $2" shadow "$work/s"
        goes_on "Linux, -c $1, from $2" tdp "$work/s"
        rm -r "$work/s"
    }
    from 1 shadow 'Freeing unused kernel'
    from 2 tdp 'step gzip'
    exit $bad
fi

guest=(-m 64M --append "pages=64 swaps=50 flips=20 switches=20 compute=800000000")
run run "${guest[@]}" --stats "$work/whole.json" --ram-digest
mv "$work/out" "$work/whole.out"
for mmu in shadow tdp; do
    background --mmu $mmu "${guest[@]}" --stats "$work/a.json" --ram-digest
    "$penumbra" monitor "$work/mon" stop
    run snapshot save "$work/mon" "$work/$mmu"
    [ "$rc" -eq 0 ] || fail "$mmu: save: $(cat "$work/err")"
    refused 1 snapshot save "$work/mon" "$work/$mmu"
    grep -q 'exists: --force replaces a snapshot' "$work/err" || fail "a second save: $(cat "$work/err")"
    run snapshot save "$work/mon" "$work/$mmu" --force
    [ "$rc" -eq 0 ] || fail "$mmu: save --force: $(cat "$work/err")"
    "$penumbra" monitor "$work/mon" cont
    said 'dirty bits'
    run monitor "$work/mon" snapshot save "$work/other-$mmu"
    [ "$rc" -eq 0 ] || fail "$mmu: the monitor's save: $(cat "$work/out")"
    mkdir -p "$work/full" && touch "$work/full/mine"
    refused 1 snapshot save "$work/mon" "$work/full" --force
    [ -e "$work/full/mine" ] || fail "a folder of somebody else's was replaced"
    wait $pid || fail "$mmu: the saved guest's exit code: $(cat "$work/a.err")"
    diff <(same "$work/whole.json") <(same "$work/a.json") > "$work/diff" ||
        fail "$mmu: to be saved changed the guest: $(cat "$work/diff")"
    goes_on "from $mmu" shadow "$work/$mmu"
    goes_on "from $mmu" tdp "$work/$mmu"
    goes_on "from $mmu, the second" tdp "$work/other-$mmu"
done
# A processor without XSAVE.
background -m 64M --cpu x86-64-v2 --append "pages=16 swaps=1 flips=1 switches=1 compute=200000000"
run snapshot save "$work/mon" "$work/v2"
[ "$rc" -eq 0 ] || fail "x86-64-v2: save: $(cat "$work/err")"
wait $pid
run snapshot restore "$work/v2" --mmu tdp
[ "$rc" -eq 0 ] && grep -q 'guest: done' "$work/out" || fail "x86-64-v2: restored: exit code $rc: $(cat "$work/err")"
ls -d "$work"/*.part 2> /dev/null && fail "a folder of a save stays"

# Live: the guest runs on while its memory is written, as if nobody had asked; it is of the moment of the save.
for mmu in shadow tdp; do
    background --mmu $mmu "${guest[@]}" --stats "$work/a.json" --ram-digest --dirty-log wp
    "$penumbra" monitor "$work/mon" info snapshot > "$work/log"
    grep -q '^there was no live save$' "$work/log" || fail "info snapshot: $(cat "$work/log")"
    run snapshot save "$work/mon" "$work/live-$mmu" --live
    [ "$rc" -eq 0 ] && grep -q 'the guest stood for [0-9.]* ms$' "$work/out" && grep -q "/live-$mmu is written$" "$work/out" ||
        fail "$mmu: save --live: $(cat "$work/out" "$work/err")"
    refused 1 snapshot save "$work/mon" "$work/live-$mmu" --live
    said 'page table edits'
    run snapshot save "$work/mon" "$work/live-child-$mmu" --live --parent "$work/live-$mmu"
    [ "$rc" -eq 0 ] || fail "$mmu: save --live --parent: $(cat "$work/out" "$work/err")"
    wait $pid || fail "$mmu: the exit code of the guest that was saved live: $(cat "$work/a.err")"
    diff <(same "$work/whole.json") <(same "$work/a.json") > "$work/diff" ||
        fail "$mmu: to be saved live changed the guest: $(cat "$work/diff")"
    goes_on "live, from $mmu" shadow "$work/live-$mmu"
    goes_on "live and incremental, from $mmu" tdp "$work/live-child-$mmu"
done
background -m 64M --shared-memory --append "compute=100000000000"
refused 1 snapshot save "$work/mon" "$work/shared" --live
grep -q -- '--shared-memory' "$work/err" && [ ! -e "$work/shared" ] || fail "live, of shared memory: $(cat "$work/err")"
kill -9 $pid
wait $pid 2> /dev/null
rm -f "$work/mon"
ls -d "$work"/*.part 2> /dev/null && fail "a folder of a live save stays"

# What can be known of one, and of two.
run snapshot info "$work/tdp"
[ "$rc" -eq 0 ] && grep -q '^memory     64M$' "$work/out" && grep -q 'dev.pit.0' "$work/out" || fail "info: $(cat "$work/out" "$work/err")"
run snapshot verify "$work/tdp"
[ "$rc" -eq 0 ] && [ "$(cat "$work/out")" = "$work/tdp is whole" ] || fail "verify: $(cat "$work/out" "$work/err")"
run snapshot diff "$work/tdp" "$work/tdp"
[ "$rc" -eq 0 ] && [ ! -s "$work/out" ] || fail "diff of one with itself: $(cat "$work/out")"
run snapshot diff "$work/tdp" "$work/other-tdp"
[ "$rc" -eq 9 ] && grep -q '^machine: now_max' "$work/out" || fail "diff of two moments: $rc: $(cat "$work/out")"

# Usage.
refused 2 snapshot
refused 2 snapshot frob
refused 2 snapshot info
refused 2 snapshot info "$work/tdp" --force
refused 2 snapshot info "$work/tdp" --live
refused 2 run --restore "$work/tdp" -m 64M
refused 2 run --restore "$work/tdp" --cpus 2
refused 2 run --restore "$work/tdp" --kernel "$0"
refused 1 run --restore /nonexistent
refused 1 snapshot save "$work/nobody" "$work/x"

# Damage. broken FILE: a copy of the snapshot, with FILE to be spoilt at $path.
broken() {
    rm -rf "$work/b"
    cp -r "$work/tdp" "$work/b"
    path=$work/b/$1
}
# flip AT: another byte there.
flip() {
    local byte
    byte=$(od -An -tu1 -j "$1" -N 1 "$path")
    printf "$(printf '\\x%02x' $((byte ^ 16)))" | dd of="$path" bs=1 seek="$1" conv=notrunc 2> /dev/null
}
# says CODE NAME: restore, verify, info or all three refuse it, and name the part.
says() {
    refused "$1" snapshot restore "$work/b" --mmu shadow
    grep -qF -- "$2" "$work/err" || fail "restore does not name '$2': $(cat "$work/err")"
    run snapshot verify "$work/b"
    [ "$rc" -eq "$1" ] && grep -qF -- "$2" "$work/out" "$work/err" ||
        fail "verify does not name '$2': $rc: $(cat "$work/out" "$work/err")"
}
at=0
while read -r name bytes; do
    for place in $at $((at + bytes / 2)) $((at + bytes - 1)); do
        broken state.bin
        flip $place
        says 7 "section $name: damaged"
    done
    broken state.bin
    truncate -s $((at + bytes - 1)) "$path"
    says 7 "section $name: cut short"
    at=$((at + bytes))
done < <(python3 -c 'import json, sys
for s in json.load(open(sys.argv[1]))["sections"]: print(s["name"], s["bytes"])' "$work/tdp/manifest.json")
[ "$at" -eq "$(stat -c %s "$work/tdp/state.bin")" ] || fail "the sections are not all of state.bin"
broken state.bin
echo >> "$path"
says 7 'state.bin: more bytes'
size=$(stat -c %s "$work/tdp/memory.bin")
for place in 0 100 $((size / 3)); do
    broken memory.bin
    flip $place
    says 7 'memory.bin, chunk '
done
broken memory.bin
flip $((size - 1))
says 7 'memory.bin, index: damaged'
for cut in -1 0 $((size / 2)); do
    broken memory.bin
    truncate -s $cut "$path"
    says 7 'memory.bin: '
done
size=$(stat -c %s "$work/tdp/manifest.json")
for ((place = 60; place < size; place += size / 40)); do
    broken manifest.json
    flip $place
    says 7 'manifest.json: damaged'
done
broken manifest.json
truncate -s $((size / 2)) "$path"
says 7 'manifest.json: damaged'
broken manifest.json
sed -i 's/penumbra-snapshot-2/penumbra-snapshot-1/' "$path"
says 2 'penumbra-snapshot-1, and not penumbra-snapshot-2'
for file in manifest.json state.bin memory.bin; do
    broken $file
    rm "$path"
    says 1 $file
done

# Two savers at once: one of them has it.
long=(-m 64M --append "compute=100000000000")
background "${long[@]}"
pid1=$pid
"$penumbra" run --monitor "$work/mon2" "${long[@]}" > /dev/null 2>&1 < /dev/null &
pid2=$!
until [ -S "$work/mon2" ]; do sleep 0.02; done
"$penumbra" snapshot save "$work/mon2" "$work/both" > /dev/null 2>&1 &
other=$!
rc1=0 rc2=0
"$penumbra" snapshot save "$work/mon" "$work/both" > /dev/null 2>&1 || rc1=$?
wait $other || rc2=$?
[ $((rc1 + rc2)) -eq 1 ] || fail "two savers at once: $rc1 and $rc2"
run snapshot verify "$work/both"
[ "$rc" -eq 0 ] || fail "two savers at once: $(cat "$work/err")"
kill -9 $pid1 $pid2
rm -f "$work/mon"
wait $pid1 $pid2 2> /dev/null

# A full disk is one line, and the guest runs on.
if unshare -rm true 2> /dev/null; then
    mkdir "$work/disk"
    unshare -rm bash -c "mount -t tmpfs -o size=16k none $work/disk
        '$penumbra' run --monitor $work/mon --append 'pages=2000 compute=50000000' > $work/a.out 2> $work/a.err < /dev/null &
        until [ -S $work/mon ]; do sleep 0.02; done
        '$penumbra' snapshot save $work/mon $work/disk/s > $work/out 2> $work/err
        echo \$? > $work/rc
        ls $work/disk > $work/left
        wait" || fail "a full disk: the guest's exit code: $(cat "$work/a.err")"
    [ "$(cat "$work/rc")" -eq 1 ] && [ "$(wc -l < "$work/err")" -eq 1 ] && grep -q 'No space left on device' "$work/err" &&
        grep -q 'guest: done' "$work/a.out" && [ ! -s "$work/left" ] || fail "a full disk: $(cat "$work/err" "$work/left")"
fi

# kill -9 at any moment of a save: nothing is there, or the whole.
for i in $(seq 12); do
    rm -rf "$work"/k "$work"/k.*.part
    background -m 256M --append "pages=20000 compute=100000000000"
    "$penumbra" snapshot save "$work/mon" "$work/k" $([ $((i % 2)) -eq 0 ] || echo --live) > /dev/null 2>&1 &
    saver=$!
    sleep "0.0$((RANDOM % 90 + 10))"
    kill -9 $pid
    wait $pid $saver 2> /dev/null
    rm -f "$work/mon"
    [ -e "$work/k" ] || continue
    run snapshot verify "$work/k"
    [ "$rc" -eq 0 ] || fail "kill -9: half a snapshot: $(cat "$work/err")"
done
exit $bad
