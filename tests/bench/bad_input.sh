#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every kind of bad input to penumbra bench, compare and merge; no space; an interrupt.
. "$(dirname "$0")/../cli/lib.sh"
. "$(dirname "$0")/lib.sh"

run bench "${tiny[@]}" "${soft[@]}" --repeat 1 --json "$work/a.json"
[ "$rc" -eq 0 ] || fail "bench: exit code $rc: $(cat "$work/err")"
for i in 1 2 3; do
    run bench "${tiny[@]}" "${soft[@]}" --repeat 1 --shard $i/3 --json "$work/s$i.json"
    [ "$rc" -eq 0 ] || fail "shard $i: exit code $rc: $(cat "$work/err")"
done

# Bad input: one line, a documented code, nothing left behind.
refused 2 bench nosuch
refused 2 bench touch:nosuch=1
refused 2 bench --list touch nosuch
refused 2 bench --list linux.nosuch
refused 2 bench touch:bytes=1
refused 2 bench touch:bytes=1M,bytes=2M
refused 2 bench touch touch
refused 2 bench linux.fork
refused 2 bench linux.nosuch --kernel a --initrd b
refused 2 bench linux.fork:bytes=1 --kernel a --initrd b
refused 2 bench linux.fork --kernel a --initrd b --append $'two\nlines'
refused 2 bench linux.fork --kernel a --initrd b --append "$(printf '%200s' x)"
refused 2 bench debian.nosuch
refused 2 bench debian.gcc:bytes=1
refused 2 bench touch --disk a
refused 2 bench touch --append quiet
refused 1 bench debian.gcc --disk "$work/nosuch"
PENUMBRA_CACHE=$work/guest refused 1 bench debian.gcc
grep -q "debian-bench/disk: no disk with Debian's programs yet: 'make debian-disk'" "$work/err" || fail "no disk: $(cat "$work/err")"
refused 2 bench --mmu nosuch
refused 2 bench --mmu shadow,shadow
refused 2 bench --mmu ""
refused 2 bench --mmu shadow:unsync=2
refused 2 bench --mmu kvm:unsync=0
refused 2 bench nosuch --mmu shadow:nosuch=1
refused 2 bench --repeat 0
refused 2 bench --shard 3/2
refused 2 bench --shard x
refused 2 bench --budget -1
refused 2 bench --total 0
refused 2 bench "${tiny[0]}" --tlb nosuch
refused 1 bench "${tiny[0]}" --tlb "$work/nosuch.json"
refused 2 bench "${tiny[0]}" --cost nosuch
refused 2 bench "${tiny[0]}" --cost kvm --tlb off
echo '{ "schema": ' > "$work/profile.json"
refused 2 bench "${tiny[0]}" --tlb "$work/profile.json"
refused 2 bench "${tiny[0]}" --cost "$work/profile.json"
echo '{}' > "$work/profile.json"
refused 2 bench "${tiny[0]}" --tlb "$work/profile.json"
refused 2 bench "${tiny[0]}" --cost "$work/profile.json"
refused 2 compare "$work/a.json"
refused 1 compare "$work/a.json" "$work/nosuch.json"
refused 2 compare "$work/a.json" "$work/a.json" "$work/a.json"
refused 2 compare "$work/a.json" "$work/a.json" "$work/a.json" "$work/a.json" --exact
refused 2 compare "$work/a.json" "$work/a.json" --fail-above x
head -c 3000 "$work/a.json" > "$work/cut.json"
refused 2 compare "$work/a.json" "$work/cut.json"
for schema in penumbra-bench-1 penumbra-bench-99 penumbra-stats-2; do
    sed "s/penumbra-bench-3/$schema/" "$work/a.json" > "$work/other.json"
    refused 2 compare "$work/other.json" "$work/a.json"
    grep -q "$schema', not penumbra-bench-3" "$work/err" || fail "the schema is not named: $(cat "$work/err")"
done
echo '[]' > "$work/array.json"
refused 2 compare "$work/array.json" "$work/a.json"
sed 's/"exits": [0-9]*/"exits": "many"/' "$work/a.json" > "$work/broken.json"
refused 2 compare "$work/broken.json" "$work/a.json"
sed 's/^    "cycles": [0-9.e+]*/    "cycles": null/' "$work/a.json" > "$work/broken.json"
refused 2 compare "$work/broken.json" "$work/a.json"
grep -q 'damaged: result 0: modelled' "$work/err" || fail "a damaged model is not named: $(cat "$work/err")"

sed 's/"tlb": {/"tlb": 7, "old": {/' "$work/a.json" > "$work/broken.json"
refused 2 compare "$work/broken.json" "$work/a.json"
grep -q 'damaged: settings.tlb' "$work/err" || fail "a damaged model of the settings is not named: $(cat "$work/err")"
refused 1 compare "$work/a.json" "$work/a.json" --json /nosuch/c.json
cp "$work/a.json" "$work/b.json"
ln -s b.json "$work/to_b.json"
refused 2 compare "$work/a.json" "$work/b.json" --json "$work/a.json"
refused 2 compare "$work/a.json" "$work/b.json" --json "$work/to_b.json"
grep -q 'to_b.json would replace a result' "$work/err" && cmp "$work/a.json" "$work/b.json" ||
    fail "compare --json replaces a result: $(cat "$work/err")"
rm "$work/to_b.json" "$work/b.json"

# merge: what it refuses changes no file. unmerged PATTERN ARG...: one line, with PATTERN.
files() { (cd "$work" && sha256sum -- *.json *.html); }
unmerged() {
    local pattern=$1 before
    shift
    before=$(files)
    refused 2 merge "$@"
    grep -q -e "$pattern" "$work/err" || fail "merge $*: no '$pattern': $(cat "$work/err")"
    [ "$(files)" = "$before" ] || fail "merge $*: refused, but files changed"
}
echo page > "$work/page.html"
echo old > "$work/old.json"
ln "$work/s1.json" "$work/link.json"
s=("$work/s1.json" "$work/s2.json" "$work/s3.json")
new=(-o "$work/out.json")
unmerged "no output: write 'penumbra merge -o OUT.json IN.json...'" "${s[@]}"
unmerged 'no output' "$work/out.json" "${s[@]}" --force
unmerged 'no files to merge' "${new[@]}"
unmerged 's1.json is one of the files to merge' -o "${s[@]}" "$work/s1.json"
unmerged 's1.json is one of the files to merge' -o "$work/s1.json" "${s[@]}" --force
unmerged 'link.json is one of the files to merge' -o "$work/link.json" "${s[@]}" --force
unmerged 's2.json is one of the files to merge' "${new[@]}" "${s[@]}" --force --html "$work/s2.json"
unmerged 'old.json exists' -o "$work/old.json" "${s[@]}"
unmerged 'page.html exists' "${new[@]}" "${s[@]}" --html "$work/page.html"
unmerged 'are one file' "${new[@]}" "${s[@]}" --html "$work/out.json"
unmerged ': shard 2 of 3 is missing (--partial' "${new[@]}" "${s[0]}" "${s[2]}"
unmerged ': shards 1, 3 of 3 are missing' "${new[@]}" "${s[1]}"
unmerged ': shard 2 of 3 is missing' -o "$work/old.json" "${s[0]}" "${s[2]}" --force
unmerged 's1.json: shard 1 of 3 stands in .*s1.json too' "${new[@]}" "${s[@]}" "${s[0]}"
unmerged 'shard 1 of 3 stands in' "${new[@]}" "${s[0]}" "${s[0]}" --partial
sed 's/"of": 3/"of": 4/' "${s[1]}" > "$work/four.json"
unmerged 's1.json is one of 3 shards, .*four.json one of 4' "${new[@]}" "${s[0]}" "$work/four.json" --partial
sed 's/"repeat": 1/"repeat": 2/' "${s[1]}" > "$work/twice.json"
unmerged 'different settings' "${new[@]}" "${s[0]}" "$work/twice.json" "${s[2]}" --partial
unmerged 'a.json is no shard' "${new[@]}" "${s[@]}" "$work/a.json"
for shard in '{"index": 4, "of": 3}' '{"index": [], "of": 1}' '{"index": [1, "2"], "of": 3}' \
    '{"index": 1, "of": 4000000000}' '{"of": 1}' '7' 'null'; do
    sed "s/\"settings\": {/&\"shard\": $shard,/" "$work/a.json" > "$work/damaged.json"
    unmerged 'damaged: settings.shard' "${new[@]}" "$work/damaged.json" --partial
done
unmerged 'cut off' "${new[@]}" "$work/cut.json"
[ ! -e "$work/out.json" ] || fail "a refused merge left its file"
run merge -o "$work/old.json" "${s[@]}" --html "$work/page.html" --force
[ "$rc" -eq 0 ] && grep -q '^[^ ]*old.json: 6 results of 3 shards$' "$work/err" ||
    fail "merge --force: exit code $rc: $(cat "$work/err")"
grep -q penumbra-bench-3 "$work/old.json" && grep -q Chart.js "$work/page.html" || fail "--force replaces nothing"

refused 1 bench "${tiny[2]}" "${soft[@]}" --repeat 1 --json /nosuch/a.json
run bench "${tiny[2]}" "${soft[@]}" --repeat 1 --json /dev/full
[ "$rc" -eq 1 ] && grep -q 'cannot write /dev/full: No space left' "$work/err" ||
    fail "no space: exit code $rc: $(cat "$work/err")"
run bench "${tiny[2]}" "${soft[@]}" --repeat 1 --json "$work/kept.json" --html /dev/full
[ "$rc" -eq 1 ] && grep -q 'cannot write /dev/full: No space left' "$work/err" ||
    fail "no space for the page: exit code $rc: $(cat "$work/err")"
run compare "$work/a.json" "$work/kept.json"
[ "$rc" -eq 0 ] || fail "no space for the page: the result is not kept"
refused 1 merge -o /dev/full "$work/a.json"
rc=0
"$penumbra" compare "$work/a.json" "$work/a.json" > /dev/full 2> "$work/err" || rc=$?
[ "$rc" -eq 1 ] && grep -q 'cannot write: No space left' "$work/err" || fail "no space for a comparison: $rc"
run bench touch:bytes=64M,rounds=1 -m 16M --mmu shadow --repeat 1 --warmup 0 --json "$work/f.json"
[ "$rc" -eq 1 ] && grep -q 'under --mmu shadow' "$work/err" || fail "a failing guest: exit code $rc"
[ "$(value "$work/f.json" error)" != null ] || fail "a failure is not in the result"

# A full file system: one line, and no part of a file.
mkdir "$work/small"
cat > "$work/in_small" << 'SCRIPT'
mount -t tmpfs -o size=8k tmpfs "$2/small" || exit 77
"$1" bench exit:count=10 --mmu shadow,tdp --repeat 1 --warmup 0 --json "$2/small/r.json" \
    < /dev/null > "$2/out" 2> "$2/err"
rc=$?
[ -z "$(ls "$2/small")" ] || echo "files left behind: $(ls "$2/small")" >> "$2/err"
exit $rc
SCRIPT
rc=0
unshare -rm sh "$work/in_small" "$penumbra" "$work" 2> "$work/why" || rc=$?
if [ -s "$work/why" ]; then
    echo "no small file system to test with: $(head -n 1 "$work/why")"
else
    [ "$rc" -eq 1 ] && [ "$(wc -l < "$work/err")" -eq 1 ] && grep -q 'r.json: No space left' "$work/err" ||
        fail "a full file system: exit code $rc: $(cat "$work/err")"
fi

# Each run has a process of its own, which nobody else starts, and whose end is no other's.
refused 2 measure
"$penumbra" bench chase:steps=1000000000 exit:count=10 --mmu shadow --warmup 0 --repeat 1 --tlb off \
    --json "$work/killed.json" < /dev/null > "$work/out" 2> "$work/err" &
until run_pid=$(pgrep -P $! -f '^penumbra measure$'); do
    kill -0 $! || break
    sleep 0.1
done
kill -ABRT "$run_pid"
wait $!
rc=$?
[ "$rc" -eq 1 ] && grep -q 'chase .* its process ended by signal 6' "$work/err" ||
    fail "a run that crashed: exit code $rc: $(cat "$work/err")"
[ "$(value "$work/killed.json" error | tail -n 1)" = null ] || fail "the run after a crash failed, too"

# A signal ends it as it ends a run, and keeps what is finished.
# On a terminal penumbra says at which point it is.
bench="$penumbra bench exit:count=10 chase:steps=1000000000 --mmu shadow --warmup 0 --repeat 1"
for sig in INT TERM; do
    : > "$work/terminal" # the run before said it, too
    script -qefc "echo \$\$ > $work/pid; exec $bench --json $work/i.json > $work/out" "$work/err" \
        < /dev/null > "$work/terminal" &
    until grep -q '\[2/2\] chase' "$work/terminal"; do
        kill -0 $! || break
        sleep 0.1
    done
    kill -$sig "$(cat "$work/pid")"
    wait $!
    rc=$?
    [ "$rc" -eq $((128 + $(kill -l $sig))) ] || fail "SIG$sig: exit code $rc"
    [ "$(value "$work/i.json" workload)" = '"exit"' ] || fail "SIG$sig: the finished result is not kept"
    [ "$(value "$work/i.json" interrupted)" = true ] || fail "SIG$sig: the result does not say so"
    grep -q 'interrupted: 1 of 2' "$work/err" || fail "SIG$sig: $(cat "$work/err")"
    rm "$work/i.json" "$work/terminal" "$work/pid"
done
[ -z "$(find "$work" -name '*.part')" ] || fail "files left behind"
exit $bad
