#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# penumbra snapshot save --parent: what was written since another snapshot, for either MMU and each of its
# trackers; restored, compared and merged it is the full one of the same moment. A parent that is not the
# one, or is not there, is refused with one line. A save that fails takes no page from the next.
. "$(dirname "$0")/lib.sh"

guest=(-m 64M --append "pages=2000 swaps=50 flips=20 switches=20 compute=100000000")
same() { grep -E '"(guest_insns|guest_ns|ram_digest)":' "$1"; }
mon() { "$penumbra" monitor "$work/mon" "$@" > "$work/mon.out" || fail "monitor $*: $(cat "$work/mon.out")"; }
# save NAME ARG...
save() {
    local name=$1
    shift
    run snapshot save "$work/mon" "$work/$name" "$@"
    [ "$rc" -eq 0 ] || fail "save $name $*: $(cat "$work/err")"
}
# equal A B
equal() {
    run snapshot diff "$work/$1" "$work/$2"
    [ "$rc" -eq 0 ] && [ ! -s "$work/out" ] || fail "$1 and $2 differ: $(head -n 3 "$work/out" "$work/err")"
}
# begin_guest ARG...: it stands, with a monitor.
begin_guest() {
    "$penumbra" run --monitor "$work/mon" "${guest[@]}" "$@" > "$work/a.out" 2> "$work/a.err" < /dev/null &
    pid=$!
    until [ -S "$work/mon" ]; do kill -0 $pid 2> /dev/null || break; sleep 0.02; done
    mon stop
}
# on LINE: the guest goes on until it has said it, and stands.
on() {
    mon cont
    until grep -q "$1" "$work/a.out"; do kill -0 $pid 2> /dev/null || break; sleep 0.01; done
    mon stop
}
end_guest() {
    mon cont
    wait $pid || fail "the guest's exit code: $(cat "$work/a.err")"
}

run run "${guest[@]}" --ram-digest --stats "$work/whole.json"
[ "$(same "$work/whole.json" | wc -l)" -eq 3 ] || fail "nothing to compare with"
for of in shadow:wp tdp:dbit; do
    begin_guest --mmu "${of%:*}" --dirty-log "${of#*:}" --dirty-verify --dirty-every 20 --ram-digest --stats "$work/a.json"
    save base
    on 'page table edits'
    mkdir "$work/there"
    refused 1 snapshot save "$work/mon" "$work/there" --parent "$work/base" # what fails takes nothing
    rmdir "$work/there"
    save child --parent "$work/base"
    save full
    equal child full
    on 'dirty bits'
    (cd "$work" && "$penumbra" snapshot save mon grandchild --parent child > /dev/null) || fail "save beside"
    save second --parent "$work/base"
    save last
    equal grandchild last
    equal second last
    end_guest
    grep '"missed": ' "$work/a.json" | grep -qv ': 0\b' && fail "$of: pages missed"
    diff <(same "$work/whole.json") <(same "$work/a.json") > "$work/diff" ||
        fail "$of: to be saved changed the guest: $(cat "$work/diff")"
    for mmu in shadow tdp; do
        run snapshot restore "$work/grandchild" --mmu $mmu --stats "$work/r.json" --ram-digest
        [ "$rc" -eq 0 ] || fail "restore of a chain, under $mmu: $(head -n 3 "$work/err")"
        diff <(same "$work/whole.json") <(same "$work/r.json") > "$work/diff" ||
            fail "$of, restored under $mmu: not as the run that was not stopped: $(cat "$work/diff")"
    done
    run snapshot merge "$work/grandchild" "$work/merged"
    [ "$rc" -eq 0 ] || fail "merge: $(cat "$work/err")"
    equal merged last
    [ "$of" = tdp:dbit ] || rm -r "$work"/{base,child,full,grandchild,second,last,merged}
done
run snapshot info "$work/grandchild"
grep -q '^parent     child; 3 snapshots in all$' "$work/out" || fail "info: $(cat "$work/out")"
grep -q '"inherited": 0,' "$work/merged/manifest.json" || fail "what was merged stands on something"

# The whole chain can be moved; a part of it cannot be another.
mkdir "$work/moved" && cp -r "$work"/{base,child,grandchild} "$work/moved"
equal moved/grandchild last
# broken CODE LINE: every use of the chain says so.
broken() {
    local code=$1
    shift
    refused "$code" snapshot restore "$work/moved/grandchild"
    grep -qE -- "$*" "$work/err" || fail "restore does not say '$*': $(cat "$work/err")"
    for what in info verify; do refused "$code" snapshot $what "$work/moved/grandchild"; done
    refused "$code" snapshot merge "$work/moved/grandchild" "$work/none"
    refused "$code" snapshot diff "$work/moved/grandchild" "$work/last"
    [ ! -e "$work/none" ] || fail "half a merge"
    rm -rf "$work/moved/base" "$work/moved/child"
    cp -r "$work"/{base,child} "$work/moved"
}
rm -r "$work/moved/base"
broken 1 'grandchild: its parent .*/base/manifest.json: No such file'
rm -r "$work/moved/child"
cp -r "$work/full" "$work/moved/child"
broken 7 'moved/child: not what .*/grandchild was made on'
sed -i 's/penumbra-snapshot-2/penumbra-snapshot-3/' "$work/moved/base/manifest.json"
broken 2 'moved/base: manifest.json: penumbra-snapshot-3, and not'
sed -i 's/"guest_ns": /"guest_ns": 1/' "$work/moved/child/manifest.json"
broken 7 'moved/child: manifest.json: damaged'
truncate -s -1 "$work/moved/base/state.bin"
broken 7 'moved/base: section .*: cut short'
printf x | dd of="$work/moved/base/memory.bin" bs=1 seek=100 conv=notrunc 2> /dev/null
refused 7 snapshot restore "$work/moved/grandchild"
grep -q 'its parent .*/base: memory.bin, chunk 0: damaged' "$work/err" || fail "a chunk of a parent: $(cat "$work/err")"
run snapshot verify "$work/moved/grandchild"
[ "$rc" -eq 7 ] && grep -q '/base: memory.bin, chunk 0: damaged' "$work/out" || fail "verify of a parent: $(cat "$work/out")"
refused 7 snapshot merge "$work/moved/grandchild" "$work/none"
ls -d "$work"/none* "$work"/*.part 2> /dev/null && fail "a merge that failed leaves something"

# What is no parent. nothing WHAT LINE ARG...
nothing() {
    local what=$1 line=$2
    shift 2
    refused 1 snapshot save "$work/mon" "$work/none" "$@"
    grep -qE -- "$line" "$work/err" || fail "$what: $(cat "$work/err")"
    ls -d "$work"/none* 2> /dev/null && fail "$what: something is left"
}
begin_guest --dirty-log wp
save mine
nothing "nothing there" 'gone/manifest.json: No such file' --parent "$work/gone"
nothing "of another run" 'base: not one of the last 64 snapshots' --parent "$work/base"
cp -r "$work/mine" "$work/spoilt"
sed -i 's/"guest_ns": /"guest_ns": 1/' "$work/spoilt/manifest.json"
nothing "changed" 'spoilt/manifest.json: damaged|spoilt: manifest.json: damaged' --parent "$work/spoilt"
save mine2 --parent "$work/mine"
refused 1 snapshot save "$work/mon" "$work/mine" --force --parent "$work/mine2"
grep -q 'is what it would stand on' "$work/err" || fail "an ancestor is replaced: $(cat "$work/err")"
mon quit
wait $pid
begin_guest
save untracked
nothing "no log" 'no dirty log: begin it with --dirty-log' --parent "$work/untracked"
mon quit
wait $pid
refused 2 snapshot info "$work/mine" --parent "$work/mine2"
refused 2 snapshot merge "$work/mine"
refused 1 snapshot merge "$work/mine2" "$work/mine"

# Two runs that go on from one snapshot, and save at once into one folder: one of them has it.
"$penumbra" run --restore "$work/mine2" --dirty-log wp --monitor "$work/mon" > /dev/null 2>&1 < /dev/null &
pid=$!
"$penumbra" run --restore "$work/mine2" --dirty-log wp --monitor "$work/mon2" > /dev/null 2>&1 < /dev/null &
pid2=$!
until [ -S "$work/mon" ] && [ -S "$work/mon2" ]; do kill -0 $pid $pid2 2> /dev/null || break; sleep 0.02; done
"$penumbra" snapshot save "$work/mon2" "$work/both" --parent "$work/mine2" > /dev/null 2>&1 &
other=$!
rc1=0 rc2=0
"$penumbra" snapshot save "$work/mon" "$work/both" --parent "$work/mine2" > /dev/null 2>&1 || rc1=$?
wait $other || rc2=$?
[ $((rc1 + rc2)) -eq 1 ] || fail "two savers at once: $rc1 and $rc2"
run snapshot verify "$work/both"
[ "$rc" -eq 0 ] || fail "two savers at once: $(cat "$work/err")"
kill $pid $pid2
wait $pid $pid2 2> /dev/null
rm -f "$work/mon" "$work/mon2"

# Restored, with a log, and saved on what it began from.
"$penumbra" run --restore "$work/mine2" --mmu tdp --dirty-log dbit --monitor "$work/mon" > "$work/a.out" 2> "$work/a.err" < /dev/null &
pid=$!
until [ -S "$work/mon" ]; do kill -0 $pid 2> /dev/null || break; sleep 0.02; done
mon stop
save mine3 --parent "$work/mine2"
save mine4
equal mine3 mine4
mon quit
wait $pid
exit $bad
