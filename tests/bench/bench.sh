#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# penumbra bench, compare and merge: results, models, shards, progress. Bad input: bad_input.sh.
. "$(dirname "$0")/../cli/lib.sh"
. "$(dirname "$0")/lib.sh"

# What does not depend on the time of day.
steady() { grep -E '"(workload|params|label|mmu|kind|guest_insns|taken|exits|tlb_misses|references|checksum|memory_digest|ops|insns|cycles|mean)":' "$1"; }

run bench "${tiny[@]}" "${soft[@]}" --repeat 6 --budget 100 --json "$work/a.json" --html "$work/a.html"
[ "$rc" -eq 0 ] || fail "bench: exit code $rc: $(cat "$work/err")"
grep -q '"schema": "penumbra-bench-3"' "$work/a.json" || fail "no schema"
[ "$(value "$work/a.json" workload | wc -l)" -eq 6 ] || fail "not 6 results"
[ "$(value "$work/a.json" repeatable | sort -u)" = true ] || fail "counters differ between repetitions"
[ "$(value "$work/a.json" kind | sort -u)" = '"simulated"' ] || fail "not simulated"
grep -q "^The simulator's own speed: " "$work/out" || fail "the table does not say that times are simulated"
# The modelled answer comes first. Every ratio is to the first MMU, whose own is 1.
[ "$(grep -nE "^(Modelled|The simulator)" "$work/out" | sed 's/^[0-9]*:\(.\).*/\1/' | tr -d '\n')" = MT ] ||
    fail "the modelled figures do not come first"
[ "$(grep -cE '^  shadow +[0-9.]+ +1\.000 ' "$work/out")" -eq 3 ] || fail "the first MMU's ratio is not 1"
read -r winner times < <(sed -nE 's/^remap.*: ([a-z]+) wins, [a-z]+ takes ([0-9.]+) times.*/\1 \2/p' "$work/out")
awk -v winner="$winner" -v times="$times" '/^remap/ { in_remap = 1 } in_remap && $1 == "tdp" {
        exit !(winner == (($3 < 1) ? "tdp" : "shadow") && (($3 < 1) ? 1 / $3 : $3) / times < 1.01 &&
            (($3 < 1) ? 1 / $3 : $3) / times > 0.99) }' "$work/out" ||
    fail "the winner '$winner $times' is not what the ratio says: $(cat "$work/out")"
grep -q 'Chart.js' "$work/a.html" || fail "no charts in the page"
for m in median low high guest_insns tlb_misses exits shadow_pages table_bytes per_miss; do
    [ "$(value "$work/a.json" $m | wc -l)" -eq 6 ] || fail "not 6 of $m"
done
value "$work/a.json" guest_insns | grep -qv '^[1-9]' && fail "instructions are not counted"
# Where it comes from: the command, and the hashes of what went in.
grep -qF '"command": [  "penumbra",  "bench",  "touch:bytes=64K,rounds=1",' < <(tr -d '\n' < "$work/a.json") ||
    fail "the command is not told"
printf kernel > "$work/kernel" && printf initrd > "$work/initrd"
run bench linux.boot --kernel "$work/kernel" --initrd "$work/initrd" --mmu shadow --json "$work/inputs.json"
[ "$(tr -d ' \n' < "$work/inputs.json" | grep -o '"inputs":{.*}}' | grep -o '[0-9a-f]\{16\}' | tr '\n' ' ')" = \
    'e211a415621edc60 f8bce0ba7ab6d1e1 ' ] || fail "the inputs' hashes are not told: $(cat "$work/inputs.json")"
# Each member that the list of them has is in the file, and a README explains it.
top=$(cd "$(dirname "$0")/../.." && pwd)
while read -r path; do
    name=${path##*.}
    grep -q "\"$name\": " "$work/a.json" || fail "the result lacks $path"
    grep -qF "\`$name\`" "$top"/bench/*.md || fail "no README in bench/ explains $path"
done < <(sed -nE 's/^(KEY|FIELD|MODELLED)\("([^"]*)".*/\2/p' "$top/bench/harness/result_fields.inc")
# Both MMUs run the same instructions.
for i in 1 3 5; do
    [ "$(value "$work/a.json" guest_insns | sed -n "${i}p")" = \
        "$(value "$work/a.json" guest_insns | sed -n "$((i + 1))p")" ] || fail "instructions differ"
done

# What is modelled: in each result, under its label, and the same for both MMUs' guests.
for m in cycles_by_cost insns memory_digest; do
    [ "$(value "$work/a.json" $m | grep -vc null)" -eq 6 ] || fail "not 6 of $m"
done
[ "$(grep -c '"tlb": "skylake"' "$work/a.json")" -eq 6 ] || fail "the model is not named"
grep -q "^Modelled: .* TLBs of 'skylake' and prices of 'kvm'" "$work/out" ||
    fail "the table does not say what is modelled"
for i in 1 3 5; do
    [ "$(value "$work/a.json" memory_digest | sed -n "${i}p")" = \
        "$(value "$work/a.json" memory_digest | sed -n "$((i + 1))p")" ] || fail "memory differs"
done
[ "$(value "$work/a.json" insns)" = "$(value "$work/a.json" guest_insns)" ] ||
    fail "the guest runs other instructions with a model"
run bench "${tiny[0]}" --mmu shadow --repeat 1 --tlb off --json "$work/off.json"
[ "$rc" -eq 0 ] && [ "$(value "$work/off.json" modelled)" = null ] || fail "--tlb off models"
grep -q 'odelled:' "$work/out" && fail "--tlb off prints modelled figures"
grep -qE '^  shadow .* -  +1$' "$work/out" || fail "one run has an interval: $(cat "$work/out")"
# --quiet: the tables alone.
grep -q '^ratio: ' "$work/out" || fail "the table does not say what a ratio is"
run bench exit:count=10 --mmu shadow --repeat 1 -q
[ "$rc" -eq 0 ] && grep -q '^  shadow ' "$work/out" && ! grep -q '^ratio: ' "$work/out" || fail "-q: $(cat "$work/out")"
# --list: all, or those named.
run bench --list
grep -q '^chase: ' "$work/out" && grep -q '^linux.boot ' "$work/out" && grep -q '^skylake ' "$work/out" || fail "--list"
run bench --list chase:bytes=1M linux.fork
[ "$(grep -oE '^[a-z.]+:?' "$work/out" | tr '\n' ' ')" = 'chase: linux.fork ' ] || fail "--list chase linux.fork: $(cat "$work/out")"
run bench exit:count=10 --mmu shadow --shard 2/2 --json "$work/none.json"
[ "$rc" -eq 0 ] && [ "$(cat "$work/err")" = "penumbra: shard 2 of 2 is empty: there are fewer points" ] || fail "an empty shard: $(cat "$work/err")"
# Where the time is used up each point runs once, under each MMU and with the model.
run bench "${tiny[@]}" --mmu shadow,tdp --repeat 9 --total 0.001 --json "$work/once.json"
[ "$rc" -eq 0 ] && [ "$(value "$work/once.json" cycles_by_cost | wc -l)" -eq 6 ] || fail "--total: exit code $rc"
[ "$(grep -cE '^     [1-9][0-9]*$' "$work/once.json")" -eq 6 ] || fail "--total: not one run each"
run bench dirty:bytes=64K,rounds=2 --mmu shadow --repeat 1 --warmup 0 --json "$work/d.json"
[ "$(value "$work/d.json" dirty_tracker)" = '"wp"' ] || fail "the dirty log's tracker is not named"
grep -q 'dirty log: wp, [0-9.]* us a harvest$' "$work/out" || fail "the table does not name the dirty log's tracker"

# A result is no different from itself.
run compare "$work/a.json" "$work/a.json" --fail-above 0
[ "$rc" -eq 0 ] || fail "compare with itself: exit code $rc"
[ "$(grep -c 'no difference$' "$work/out")" -eq 6 ] || fail "compare with itself: $(cat "$work/out")"
grep -q '^modelled cycles: 6 pairs under the same models, 0 with more in B, 0 with fewer' "$work/out" ||
    fail "compare with itself: modelled cycles: $(cat "$work/out")"
# Modelled cycles that differ are found, and count for the limit.
sed -E 's/^    "cycles": ([0-9]+)/    "cycles": 9\1/' "$work/a.json" > "$work/dear.json"
run compare "$work/a.json" "$work/dear.json" --fail-above 5
[ "$rc" -eq 5 ] && [ "$(grep -c 'B has more, beyond the limit$' "$work/out")" -eq 6 ] ||
    fail "more modelled cycles: exit code $rc: $(cat "$work/out")"
run compare --help
grep -q '; 8 the gate compared nothing' < <(tr -s ' \n' ' ' < "$work/out") || fail "compare --help: another exit code"
# Those of another model do not, whatever its name, and the gate does not pass then.
sed 's/"entries": 1536/"entries": 16/' "$work/dear.json" > "$work/model.json"
run compare "$work/a.json" "$work/model.json" --fail-above 5
[ "$rc" -eq 8 ] && grep -q '^modelled cycles: 0 pairs' "$work/out" || fail "another model: exit code $rc"
grep -q '^The TLB models differ: A has skylake [0-9a-f]\{16\}, B has skylake ' "$work/out" ||
    fail "a model of other content is not named: $(cat "$work/out")"
# A result keeps its model: a profile that gives the same figures.
"$(dirname "$0")/model_of.py" "$work/a.json" > "$work/kept.json" || fail "no model in the result"
run bench "${tiny[@]}" "${soft[@]}" --repeat 1 --tlb "$work/kept.json" --json "$work/again.json"
run compare "$work/a.json" "$work/again.json" --exact --json "$work/exact.json"
[ "$rc" -eq 0 ] && grep -q '^exact figures: 6 pairs, 0 differ' "$work/out" ||
    fail "the model that a result keeps gives other figures: exit code $rc: $(cat "$work/out" "$work/err")"
grep -q '"schema": "penumbra-compare-1"' "$work/exact.json" || fail "no JSON of the comparison"
# Exact figures have a gate that needs one run. It names what differs.
sed 's/"gpte_reads": \([0-9]*\)/"gpte_reads": 9\1/' "$work/again.json" > "$work/counter.json"
run compare "$work/a.json" "$work/counter.json" --exact
[ "$rc" -eq 5 ] && grep -q ' tdp    counters.gpte_reads: [0-9]* and 9[0-9]*$' "$work/out" ||
    fail "a counter that differs: exit code $rc: $(cat "$work/out")"
# A time gate that cannot tell does not pass.
run compare "$work/a.json" "$work/again.json" --fail-above 10
[ "$rc" -eq 8 ] && grep -q 'too few samples: a limit needs [5-9] of each' "$work/err" ||
    fail "too few samples for a limit: exit code $rc: $(cat "$work/err")"
run bench remap:pages=9,rounds=1 "${soft[@]}" --quick --json "$work/quick.json"
run compare "$work/a.json" "$work/quick.json" --fail-above 10
[ "$rc" -eq 8 ] && grep -q 'shadow only in A: B has pages=9 (A: 8)$' "$work/out" ||
    fail "points that do not pair: exit code $rc: $(cat "$work/out")"
# A thousand times slower is found: exit code 5. (Samples stand alone on their lines.)
sed -E 's/^ {5}([1-9][0-9]*)(,?)$/     \1000\2/' "$work/a.json" > "$work/slow.json"
run compare "$work/a.json" "$work/slow.json" --fail-above 100
[ "$rc" -eq 5 ] || fail "a slower result: exit code $rc"
[ "$(grep -c 'beyond the limit$' "$work/out")" -eq 6 ] || fail "a slower result: $(cat "$work/out")"
run compare "$work/slow.json" "$work/a.json" --fail-above 0
[ "$rc" -eq 0 ] || fail "a faster result: exit code $rc"
run compare "$work/a.json" "$work/slow.json"
[ "$rc" -eq 0 ] || fail "without a limit: exit code $rc"
# Several files of each side: a host that is slow in every other invocation is no difference.
a=$work/a.json s=$work/slow.json
run compare "$a" "$s" "$a" "$s" "$s" "$a" "$a" "$s" --fail-above 10
[ "$rc" -eq 8 ] && [ "$(grep -c 'no difference$' "$work/out")" -eq 6 ] || fail "a host that changes: exit code $rc: $(cat "$work/out")"
run compare "$a" "$a" "$a" "$a" "$s" "$s" "$s" "$s" --json "$work/files.json"
[ "$rc" -eq 0 ] && [ "$(grep -c 'B is slower$' "$work/out")" -eq 6 ] || fail "four slower files: exit code $rc: $(cat "$work/out")"
grep -q '^A: 4 files from .*/a.json on; B: 4 from .*/slow.json on; a sample is the median of one$' "$work/out" ||
    fail "what a sample is is not said: $(cat "$work/out")"
[ "$(grep -c '^  ".*slow.json"' "$work/files.json")" -eq 8 ] && [ "$(grep -c '"xxh3"' "$work/files.json")" -eq 8 ] || fail "the files are not in the JSON of the comparison"

# MMU configurations: each with its options, under its label; a sweep says so. They pair by
# the options in effect.
run bench "${tiny[1]}" --mmu shadow,shadow:unsync=0,tdp:page_budget=64/128 --repeat 1 --json "$work/conf.json"
[ "$rc" -eq 0 ] || fail "configurations: exit code $rc: $(cat "$work/err")"
# The first one is the host's KVM's.
[ "$(value "$work/conf.json" mmu | tail -n +2 | tr '\n' ' ')" = \
    '"shadow" "shadow:unsync=0" "tdp:page_budget=64" "tdp:page_budget=128" ' ] ||
    fail "configurations: $(value "$work/conf.json" mmu)"
[ "$(value "$work/conf.json" unsync | tr '\n' ' ')" = '1 0 1 1 ' ] || fail "the options in effect are not told"
[ "$(grep -A 2 '"mmu_sweep": {' "$work/conf.json" | grep -c '"parameter": "page_budget"')" -eq 2 ] ||
    fail "a sweep of an option is not told"
for mmu in shadow:unsync=0 tdp:page_budget=128; do
    grep -q "^  $mmu " "$work/out" || fail "the table has no $mmu"
done
run bench "${tiny[1]}" --mmu shadow:unsync=1,shadow:prefetch=8+unsync=0 --repeat 1 --json "$work/same.json"
run compare "$work/conf.json" "$work/same.json"
grep -q '^2 without a difference\|2 with too few samples, 2 in one file alone' "$work/out" ||
    fail "configurations do not pair by their options: $(cat "$work/out")"

# Two shards are the whole.
for i in 1 2; do
    run bench "${tiny[@]}" "${soft[@]}" --repeat 6 --shard $i/2 --json "$work/s$i.json"
    [ "$rc" -eq 0 ] || fail "shard $i: exit code $rc"
done
run merge -o "$work/m.json" "$work/s2.json" "$work/s1.json"
[ "$rc" -eq 0 ] || fail "merge: exit code $rc: $(cat "$work/err")"
[ "$(cat "$work/err")" = "$work/m.json: 6 results of 2 shards" ] || fail "merge says: $(cat "$work/err")"
cmp <(steady "$work/a.json") <(steady "$work/m.json") || fail "the merged shards are not the whole"
run compare "$work/a.json" "$work/m.json"
grep -q ' 0 in one file alone' "$work/out" || fail "the merged shards are not the whole"
# A partial merge says which shards it has, and can be completed.
shards() { tr -d ' \n' < "$1" | grep -o '"shard":{[^}]*}'; }
run merge --partial --output="$work/part.json" "$work/s2.json" --html "$work/part.html"
[ "$rc" -eq 0 ] || fail "a partial merge: exit code $rc: $(cat "$work/err")"
grep -q 'part.json: 2 results of 1 of 2 shards$' "$work/err" || fail "a partial merge says: $(cat "$work/err")"
[ "$(shards "$work/part.json")" = '"shard":{"index":[2],"of":2}' ] ||
    fail "a partial merge is not marked: $(shards "$work/part.json")"
run merge -o "$work/m.json" --force "$work/part.json" "$work/s1.json"
[ "$rc" -eq 0 ] || fail "a completed merge: exit code $rc: $(cat "$work/err")"
[ "$(shards "$work/m.json")" = '"shard":{"index":[1,2],"of":2}' ] ||
    fail "a whole lacks its shards: $(shards "$work/m.json")"
cmp <(steady "$work/a.json") <(steady "$work/m.json") || fail "a completed merge is not the whole"
# A result that is no shard is a whole: merge makes its page. The result may be a pipe.
"$penumbra" merge -o /dev/stdout "$work/a.json" --html "$work/again.html" 2> "$work/err" | cat > "$work/out"
[ "$(cat "$work/err")" = "/dev/stdout: 6 results" ] || fail "a merge of a whole says: $(cat "$work/err")"
grep -q 'Chart.js' "$work/again.html" || fail "no page of a whole"
cmp <(steady "$work/a.json") <(steady "$work/out") || fail "a whole through a pipe differs"

# On a terminal: which point and run, and how long it still takes.
script -qec "'$penumbra' bench ${tiny[0]} ${soft[*]} --repeat 3" /dev/null < /dev/null > "$work/tty" 2>&1 ||
    fail "on a terminal: exit code $?"
grep -q '\[1/1\] touch bytes=64K rounds=1  tdp  run 3 of 3  about 0:0[0-9] left' "$work/tty" ||
    fail "no progress on a terminal"
grep -q 'modelled run  about' "$work/tty" || fail "no progress of a modelled run"
exit $bad
