#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# How memory comes out of a snapshot: mapped, or when it is touched, with the working set ahead of the
# guest. It ends as one that was never stopped, whatever else is done with it meanwhile. What is
# damaged is refused, or found when it is touched: then the guest is stopped, and has gone on with
# nothing else than the snapshot's.
#
#   snapshot_memory.sh PENUMBRA
. "$(dirname "$0")/lib.sh"

same() { grep -E '"(guest_insns|guest_ns|ram_digest)":' "$1"; }

# background ARG...: a run with a monitor, as $pid; returns when the socket is there.
background() {
    "$penumbra" run --monitor "$work/mon" "$@" > "$work/a.out" 2> "$work/a.err" < /dev/null &
    pid=$!
    until [ -S "$work/mon" ]; do kill -0 $pid 2> /dev/null || break; sleep 0.02; done
}

# goes_on WHAT ARG...: restored so, it ends as $work/whole.
goes_on() {
    local what=$1
    shift
    [ "$(same "$work/whole.json" | wc -l)" -eq 3 ] || fail "$what: there is nothing to compare with"
    run snapshot restore "$@" --stats "$work/r.json" --ram-digest
    [ "$rc" -eq 0 ] || fail "$what: exit code $rc: $(head -n 3 "$work/err")"
    diff <(same "$work/whole.json") <(same "$work/r.json") > "$work/diff" ||
        fail "$what: not as the run that was not stopped: $(cat "$work/diff")"
    tail -c "$(stat -c %s "$work/out")" "$work/whole.out" | cmp -s - "$work/out" ||
        fail "$what: its console does not end as that one's"
}

guest=(-m 64M --append "pages=64 swaps=20 flips=10 switches=10 compute=80000000")
run run "${guest[@]}" --stats "$work/whole.json" --ram-digest
mv "$work/out" "$work/whole.out"
background "${guest[@]}" --dirty-log wp
"$penumbra" monitor "$work/mon" stop > "$work/log"
for how in "packed" "raw --raw" "live --raw --live"; do
    # shellcheck disable=SC2086 # words
    run snapshot save "$work/mon" "$work"/$how
    [ "$rc" -eq 0 ] || fail "save $how: $(cat "$work/err")"
done
"$penumbra" monitor "$work/mon" cont > "$work/log"
until grep -q 'page table edits' "$work/a.out"; do kill -0 $pid 2> /dev/null || break; sleep 0.02; done
"$penumbra" monitor "$work/mon" stop > "$work/log"
run snapshot save "$work/mon" "$work/child" --parent "$work/packed"
[ "$rc" -eq 0 ] || fail "save --parent: $(cat "$work/err")"
run snapshot save "$work/mon" "$work/onraw" --parent "$work/raw"
[ "$rc" -eq 0 ] || fail "save --parent, of a raw one: $(cat "$work/err")"
refused 1 snapshot save "$work/mon" "$work/no" --raw --parent "$work/packed"
grep -q 'is not raw' "$work/err" || fail "save --raw --parent of a packed one: $(cat "$work/err")"
run snapshot save "$work/mon" "$work/rawchild" --raw --parent "$work/raw"
[ "$rc" -eq 0 ] || fail "save --raw --parent: $(cat "$work/err")"
# Over a clone of the parent's file, where the file system has that: two of them, made here, if one may.
cloned=''
for kind in btrfs xfs; do
    command -v mkfs.$kind > /dev/null && truncate -s 400M "$work/img" && mkfs.$kind -q -f "$work/img" > "$work/log" 2>&1 &&
        mkdir -p "$work/mnt" && mount -o loop "$work/img" "$work/mnt" 2> "$work/log" || continue
    run snapshot save "$work/mon" "$work/mnt/one" --raw --force
    run snapshot save "$work/mon" "$work/mnt/two" --raw --parent "$work/mnt/one"
    [ "$rc" -eq 0 ] || fail "$kind: $(cat "$work/err")"
    run snapshot save "$work/mon" "$work/mnt/three" --raw --live --parent "$work/mnt/two"
    [ "$rc" -eq 0 ] || fail "$kind, live: $(cat "$work/err")"
    for one in two three; do
        run snapshot verify "$work/mnt/$one"
        [ "$rc" -eq 0 ] || fail "$kind: verify $one: $(cat "$work/out")"
        run snapshot info "$work/mnt/$one"
        grep -q ' [1-9][0-9]* by sharing' "$work/out" || fail "$kind: $one shares nothing: $(cat "$work/out")"
    done
    cp -r "$work/mnt/three" "$work/cloned"
    umount "$work/mnt"
    cloned=cloned
    break
done
[ "$cloned" ] || echo "no file system that shares blocks: needs root, a loop device and mkfs.btrfs or mkfs.xfs"
"$penumbra" monitor "$work/mon" cont > "$work/log"
wait $pid || fail "the saved guest's exit code"

# A raw one is the same guest, from a save, a live save, and a merge.
for one in raw live; do
    run snapshot verify "$work/$one"
    [ "$rc" -eq 0 ] || fail "verify $one: $(cat "$work/out")"
    run snapshot diff "$work/packed" "$work/$one"
    [ "$rc" -eq 0 ] || fail "$one is another: $(cat "$work/out")"
done
run snapshot merge --raw "$work/packed" "$work/merged"
cmp -s "$work/raw/memory.bin" "$work/merged/memory.bin" || fail "merge --raw is not what save --raw is"
run snapshot merge --raw "$work/child" "$work/mergedchild"
[ "$(du -k "$work/raw/memory.bin" | cut -f 1)" -lt 8192 ] || fail "a raw file's zeros take room"

set=$work/set
for mmu in shadow tdp; do
    for one in "raw eager" "raw map" "raw lazy" "packed lazy" "child lazy" "onraw lazy" "mergedchild map" "rawchild map" ${cloned:+"$cloned map"}; do
        goes_on "$one, under $mmu" "$work/${one% *}" --restore-memory "${one#* }" --mmu $mmu
    done
    for one in packed raw; do
        goes_on "recording of $one" "$work/$one" --restore-memory lazy --record-working-set "$set-$one" --mmu $mmu
        goes_on "working set of $one, lazy" "$work/$one" --restore-memory lazy --working-set "$set-$one" --mmu $mmu
    done
    goes_on "working set, mapped" "$work/raw" --restore-memory map --working-set "$set-raw" --mmu $mmu
done
[ "$(stat -c %s "$set-raw")" -gt 4096 ] || fail "a working set of no pages"

# What is done with such a guest: a dirty log, a save, a live one, a move.
for how in "raw map" "packed lazy"; do
    from=$work/${how% *} memory=(--restore-memory "${how#* }")
    goes_on "$how, with a dirty log" "$from" "${memory[@]}" --dirty-log wp --dirty-verify
    for live in "" --live; do
        background --restore "$from" "${memory[@]}" --stopped --gdb "$work/gdb"
        # shellcheck disable=SC2086 # a word, or none
        run snapshot save "$work/mon" "$work/again" $live
        [ "$rc" -eq 0 ] || fail "$how, save $live: $(cat "$work/out" "$work/err")"
        run snapshot diff "$work/packed" "$work/again"
        [ "$rc" -eq 0 ] || fail "$how, save $live: another guest: $(cat "$work/out")"
        kill -9 $pid
        wait $pid 2> /dev/null
        rm -rf "$work/mon" "$work/again" "$work/gdb"
    done
    "$penumbra" run --incoming "unix:$work/here" --stats "$work/r.json" --ram-digest > "$work/b.out" 2> "$work/b.err" &
    to=$!
    until [ -S "$work/here" ]; do kill -0 $to 2> /dev/null || break; sleep 0.02; done
    background --restore "$from" "${memory[@]}"
    run migrate --verify "$work/mon" "unix:$work/here"
    [ "$rc" -eq 0 ] || fail "$how: migrate: $(cat "$work/err")"
    wait $pid $to || fail "$how: the guest that moved: $(cat "$work/a.err" "$work/b.err")"
    diff <(same "$work/whole.json") <(same "$work/r.json") > "$work/diff" || fail "$how: moved: $(cat "$work/diff")"
    rm -f "$work/mon" "$work/here"
done

# Usage.
refused 2 run --restore-memory map
refused 2 run --restore "$work/packed" --restore-memory map
grep -q 'merge --raw' "$work/err" || fail "a map of what cannot be mapped: $(cat "$work/err")"
refused 2 run --restore "$work/packed" --working-set "$set-packed"
refused 2 run --restore "$work/raw" --restore-memory map --record-working-set "$work/no"
refused 2 run --restore "$work/raw" --restore-memory eager --working-set "$set-raw"
for more in --shared-memory "--hugepages 2M" "--numa local" "--dirty-log soft-dirty"; do
    # shellcheck disable=SC2086 # words
    refused 2 run --restore "$work/raw" --restore-memory map $more
    grep -q -- "${more%% *}" "$work/err" || fail "map, $more: $(cat "$work/err")"
done
refused 2 run --restore "$work/packed" --restore-memory lazy --working-set "$set-raw"
grep -q 'of another snapshot' "$work/err" || fail "another's working set: $(cat "$work/err")"
refused 1 run --restore "$work/packed" --restore-memory lazy --working-set "$work/nothing"

# flip FILE AT: another byte there.
flip() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    printf "$(printf '\\x%02x' $((byte ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2> /dev/null
}

# A working set is a hint: of its pages those that are the snapshot's are used; the rest of the file is checked.
cp "$set-packed" "$work/bad"
for ((at = 4096; at < $(stat -c %s "$work/bad") - 8192; at += 4096)); do flip "$work/bad" $((at + 77)); done
goes_on "a working set of wrong pages" "$work/packed" --restore-memory lazy --working-set "$work/bad"
cp "$set-packed" "$work/bad"
flip "$work/bad" $(($(stat -c %s "$work/bad") - 2))
refused 7 run --restore "$work/packed" --restore-memory lazy --working-set "$work/bad"
truncate -s 5000 "$work/bad"
refused 7 run --restore "$work/packed" --restore-memory lazy --working-set "$work/bad"

# stopped WHAT CODE LINE ARG...: the guest is stopped, with that line, and has said nothing wrong.
stopped() {
    local what=$1 code=$2 line=$3
    shift 3
    run snapshot restore "$@"
    [ "$rc" -eq "$code" ] && grep -q "$line" "$work/err" && [ "$(wc -l < "$work/err")" -eq 1 ] || fail "$what: $rc: $(cat "$work/err")"
    ! grep -q 'guest: done' "$work/out" || fail "$what: the guest went on to its end"
    grep -qF "$(cat "$work/out")" "$work/whole.out" || fail "$what: the guest said something else: $(cat "$work/out")"
}
cp -r "$work/packed" "$work/b"
flip "$work/b/memory.bin" 1000
stopped "a damaged chunk, lazy" 7 'the guest is stopped: .*/b: memory.bin, chunk 0: damaged$' "$work/b" --restore-memory lazy
cp -r "$work/raw" "$work/br"
page=$(python3 -c 'import struct, sys
f = open(sys.argv[1], "rb"); print(struct.unpack("<I", f.read()[-4:])[0])' "$set-raw")
flip "$work/br/memory.bin" $((page * 4096 + 100))
stopped "a damaged page, lazy" 7 'the guest is stopped: .*/br: memory.bin, chunk [0-9]*: damaged$' "$work/br" --restore-memory lazy
refused 7 run --restore "$work/br" --restore-memory eager
run snapshot verify "$work/br"
[ "$rc" -eq 7 ] || fail "verify of a raw one with a damaged page: $rc"
truncate -s -1 "$work/br/memory.bin"
refused 7 run --restore "$work/br" --restore-memory map
# The file is cut while the guest runs.
background -m 16M --append "compute=100000000000"
run snapshot save "$work/mon" "$work/long" --raw
[ "$rc" -eq 0 ] || fail "save --raw: $(cat "$work/err")"
kill -9 $pid
wait $pid 2> /dev/null
rm "$work/mon"
background --restore "$work/long" --restore-memory map
"$penumbra" monitor "$work/mon" stop > "$work/log"
truncate -s 0 "$work/long/memory.bin"
"$penumbra" monitor "$work/mon" cont > "$work/log" 2>&1
rc=0
wait $pid || rc=$?
[ "$rc" -eq 7 ] && grep -q 'mapped from cannot be read' "$work/a.err" || fail "a file that was cut: $rc: $(cat "$work/a.err")"
exit $bad
