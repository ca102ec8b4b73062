#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# penumbra bench, compare and merge: results, shards, and every kind of bad input.
. "$(dirname "$0")/../cli/lib.sh"

tiny=(touch:bytes=64K,rounds=1 remap:pages=8,rounds=1 exit:count=10)
soft=(--mmu shadow,tdp --warmup 0)

# value FILE MEMBER: the numbers of a member, in order (the JSON has one per line).
value() { sed -n "s/^ *\"$2\": \([^,]*\),\{0,1\}\$/\1/p" "$1"; }
# What does not depend on the time of day.
steady() { grep -E '"(workload|params|label|mmu|kind|guest_insns|taken|exits|tlb_misses|references|checksum|ops)":' "$1"; }

run bench "${tiny[@]}" "${soft[@]}" --repeat 4 --json "$work/a.json" --html "$work/a.html"
[ "$rc" -eq 0 ] || fail "bench: exit code $rc: $(cat "$work/err")"
grep -q '"schema": "penumbra-bench-1"' "$work/a.json" || fail "no schema"
[ "$(value "$work/a.json" workload | wc -l)" -eq 6 ] || fail "not 6 results"
[ "$(value "$work/a.json" repeatable | sort -u)" = true ] || fail "counters differ between repetitions"
[ "$(value "$work/a.json" kind | sort -u)" = '"simulated"' ] || fail "not simulated"
grep -q 'shadow simulated' "$work/out" || fail "the table does not say that times are simulated"
grep -q 'Chart.js' "$work/a.html" || fail "no charts in the page"
for m in median low high guest_insns tlb_misses exits shadow_pages table_bytes per_miss; do
    [ "$(value "$work/a.json" $m | wc -l)" -eq 6 ] || fail "not 6 of $m"
done
value "$work/a.json" guest_insns | grep -qv '^[1-9]' && fail "instructions are not counted"
# Both MMUs run the same instructions.
for i in 1 3 5; do
    [ "$(value "$work/a.json" guest_insns | sed -n "${i}p")" = \
        "$(value "$work/a.json" guest_insns | sed -n "$((i + 1))p")" ] || fail "instructions differ"
done

# A result is no different from itself.
run compare "$work/a.json" "$work/a.json" --fail-above 0
[ "$rc" -eq 0 ] || fail "compare with itself: exit code $rc"
[ "$(grep -c 'no difference$' "$work/out")" -eq 6 ] || fail "compare with itself: $(cat "$work/out")"
# Three times slower is found: exit code 5. (Samples stand alone on their lines.)
sed -E 's/^ {5}([1-9][0-9]*)(,?)$/     \10\2/' "$work/a.json" > "$work/slow.json"
run compare "$work/a.json" "$work/slow.json" --fail-above 100
[ "$rc" -eq 5 ] || fail "a slower result: exit code $rc"
[ "$(grep -c 'beyond the limit$' "$work/out")" -eq 6 ] || fail "a slower result: $(cat "$work/out")"
run compare "$work/slow.json" "$work/a.json" --fail-above 0
[ "$rc" -eq 0 ] || fail "a faster result: exit code $rc"
run compare "$work/a.json" "$work/slow.json"
[ "$rc" -eq 0 ] || fail "without a limit: exit code $rc"

# Two shards are the whole.
for i in 1 2; do
    run bench "${tiny[@]}" "${soft[@]}" --repeat 4 --shard $i/2 --json "$work/s$i.json"
    [ "$rc" -eq 0 ] || fail "shard $i: exit code $rc"
done
run merge "$work/m.json" "$work/s2.json" "$work/s1.json"
[ "$rc" -eq 0 ] || fail "merge: exit code $rc: $(cat "$work/err")"
cmp <(steady "$work/a.json") <(steady "$work/m.json") || fail "the merged shards are not the whole"
run compare "$work/a.json" "$work/m.json"
grep -q ' 0 in one file alone' "$work/out" || fail "the merged shards are not the whole"

# Bad input: one line, a documented code, nothing left behind.
refused 2 bench nosuch
refused 2 bench touch:nosuch=1
refused 2 bench touch:bytes=1
refused 2 bench touch:bytes=1M,bytes=2M
refused 2 bench touch touch
refused 2 bench linux.fork
refused 2 bench linux.nosuch --kernel a --initrd b
refused 2 bench linux.fork:bytes=1 --kernel a --initrd b
refused 2 bench --mmu nosuch
refused 2 bench --mmu shadow,shadow
refused 2 bench --mmu ""
refused 2 bench --repeat 0
refused 2 bench --shard 3/2
refused 2 bench --shard x
refused 2 bench --budget -1
refused 2 compare "$work/a.json"
refused 1 compare "$work/a.json" "$work/nosuch.json"
refused 2 compare "$work/a.json" "$work/a.json" --fail-above x
head -c 3000 "$work/a.json" > "$work/cut.json"
refused 2 compare "$work/a.json" "$work/cut.json"
sed 's/penumbra-bench-1/penumbra-bench-99/' "$work/a.json" > "$work/other.json"
refused 2 compare "$work/other.json" "$work/a.json"
grep -q 'penumbra-bench-99' "$work/err" || fail "the schema is not named"
echo '[]' > "$work/array.json"
refused 2 compare "$work/array.json" "$work/a.json"
sed 's/"exits": [0-9]*/"exits": "many"/' "$work/a.json" > "$work/broken.json"
refused 2 compare "$work/broken.json" "$work/a.json"
refused 2 merge "$work/out.json" "$work/s1.json" "$work/s1.json"
refused 2 merge "$work/out.json" "$work/cut.json"
[ ! -e "$work/out.json" ] || fail "a failed merge left its file"
refused 1 bench "${tiny[2]}" "${soft[@]}" --repeat 1 --json /nosuch/a.json
run bench "${tiny[2]}" "${soft[@]}" --repeat 1 --json /dev/full
[ "$rc" -eq 1 ] && grep -q 'cannot write /dev/full: No space left' "$work/err" ||
    fail "no space: exit code $rc: $(cat "$work/err")"
run bench touch:bytes=64M,rounds=1 -m 16M --mmu shadow --repeat 1 --warmup 0 --json "$work/f.json"
[ "$rc" -eq 1 ] && grep -q 'under --mmu shadow' "$work/err" || fail "a failing guest: exit code $rc"
[ "$(value "$work/f.json" error)" != null ] || fail "a failure is not in the result"

# An interrupt keeps what is finished.
"$penumbra" bench exit:count=10 chase:steps=1000000000 --mmu shadow --warmup 0 --repeat 1 \
    --json "$work/i.json" < /dev/null > "$work/out" 2> "$work/err" &
pid=$!
sleep 4
kill -INT $pid
wait $pid
rc=$?
[ "$rc" -eq 130 ] || fail "interrupted: exit code $rc"
[ "$(value "$work/i.json" workload)" = '"exit"' ] || fail "interrupted: the finished result is not kept"
[ "$(value "$work/i.json" interrupted)" = true ] || fail "interrupted: the result does not say so"
grep -q 'interrupted: 1 of 2' "$work/err" || fail "interrupted: $(cat "$work/err")"
[ -z "$(find "$work" -name '*.part')" ] || fail "files left behind"
exit $bad
