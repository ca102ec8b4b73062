#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# --stats, --trace and what they promise: every counter, equal digests of equal runs, with a TLB
# model and without.
. "$(dirname "$0")/lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
small="pages=64 swaps=50 flips=20 switches=20 compute=1000"

run run --append "$small" --tlb skylake --stats "$work/a.json" --trace "$work/a.trace" --ram-digest --summary
[ "$rc" -eq 0 ] || fail "exit code $rc: $(cat "$work/err")"
cp "$work/out" "$work/a.out"
for key in schema version revision command inputs mmu_options host mmu guest_insns host_ns exit reason code counters config events digest; do
    grep -q "\"$key\":" "$work/a.json" || fail "stats lack $key"
done
grep -q '"schema": "penumbra-stats-2"' "$work/a.json" || fail "stats schema"
awk -F"[(), ]+" '/^PN_STAT\(/ { print $2 } /^PN_STAT_LEVELS\(/ { for (l = $3; l <= 5; l++) print $2 "_l" l }' \
    "$top/include/penumbra/stats.inc" > "$work/names"
while read -r name; do
    grep -q "\"$name\": [0-9]" "$work/a.json" || fail "stats lack the counter $name"
done < "$work/names"
grep -q '"label": "modelled"' "$work/a.json" || fail "stats lack the model"
grep -q 'mapped and retried' "$work/err" || fail "no summary"
[ "$(sed -n 's/.*"pf_taken": \([0-9]*\).*/\1/p' "$work/a.json")" -ge 64 ] || fail "no page faults counted"

run run --append "$small" --stats "$work/b.json" --event-digest --ram-digest
grep -q '"model_refs": null' "$work/b.json" && ! grep -q '"model":' "$work/b.json" || fail "a model without --tlb"
digest() { sed -n "s/.*\"$2\": \"\([0-9a-f]*\)\".*/\1/p" "$1"; }
[ -n "$(digest "$work/a.json" digest)" ] || fail "no digest"
[ "$(digest "$work/a.json" digest)" = "$(digest "$work/b.json" digest)" ] || fail "event digests differ"
[ "$(digest "$work/a.json" ram_digest)" = "$(digest "$work/b.json" ram_digest)" ] || fail "memory digests differ"
cmp "$work/a.out" "$work/out" || fail "serial output differs"

run trace "$work/a.trace" --digest
[ "$(cat "$work/out")" = "$(digest "$work/a.json" digest)" ] || fail "penumbra trace --digest"
run trace "$work/a.trace" --event page_fault
n=$(wc -l < "$work/out")
[ "$n" -ge 64 ] && ! grep -qv ' page_fault ' "$work/out" || fail "trace --event: $n lines"
run trace "$work/a.trace" --event page_fault --gva 0x100000000000-0x10000003ffff
grep -q 'gva=0x10000000' "$work/out" || fail "trace --gva"
run trace "$work/a.trace" --count
grep -q '[0-9] page_fault$' "$work/out" || fail "trace --count"
run trace "$work/a.trace" --list
grep -q '^page_fault gva' "$work/out" || fail "trace --list"
refused 2 trace "$work/a.trace" --event nosuch
refused 2 trace "$work/a.trace" --gva 5-4

# Where a result comes from: the command, what was read, every option in effect.
flat() { tr -d ' \n' < "$1"; }
printf kernel > "$work/kernel"
run run --kernel "$work/kernel" --format flat --max-insns 1 --mmu-opt unsync=0 --tlb skylake --stats "$work/from.json"
flat "$work/from.json" | grep -qF '"command":["penumbra","run","--kernel","'"$work/kernel"'","--format","flat",' || fail "the command is not told"
flat "$work/from.json" | grep -qF '"inputs":{"kernel":{"bytes":6,"xxh3":"e211a415621edc60"},"initrd":null}' || fail "the kernel's hash is not told"
flat "$work/from.json" | grep -q '"mmu_options":{[^}]*"unsync":0,' || fail "the option in effect is not told"
flat "$work/a.json" | grep -q '"mmu_options":{[^}]*"unsync":1,' || fail "an option's default is not told"
flat "$work/from.json" | grep -q '"profiles":{"tlb":{"name":"skylake","xxh3":"[0-9a-f]\{16\}","profile":{' || fail "the model is not told"

# Each member is explained.
for name in $(sed -n 's/^  "\([a-z_]*\)":.*/\1/p' "$work/a.json"); do
    grep -qF "\`$name\`" "$top/bench/FORMATS.md" || fail "bench/FORMATS.md does not explain $name of --stats"
done

# Another guest, another digest; a damaged file is found.
run run --append "$small pages=65" --stats "$work/c.json" --event-digest
[ "$(digest "$work/a.json" digest)" != "$(digest "$work/c.json" digest)" ] || fail "digests of different runs are equal"
size=$(stat -c %s "$work/a.trace")
cp "$work/a.trace" "$work/whole.trace"
printf '\xff' | dd of="$work/a.trace" bs=1 seek=$((size - 20)) conv=notrunc 2>/dev/null
for how in --digest --count "--event nmi"; do
    run trace "$work/a.trace" $how
    [ "$rc" -eq 7 ] && grep -q '^penumbra: .*: damaged, behind ' "$work/err" || fail "a damaged trace passes $how: $rc"
done
head -c $((size - 1000)) "$work/whole.trace" > "$work/cut.trace"
for how in --digest --count "--event nmi"; do
    run trace "$work/cut.trace" $how
    [ "$rc" -eq 7 ] && grep -q ': incomplete: it ends after ' "$work/err" || fail "a cut trace passes $how: $rc"
done
[ ! -s "$work/out" ] || fail "the digest of a cut trace"

# Through pipes.
"$penumbra" run --append "$small" --trace - < /dev/null 2> "$work/err" | "$penumbra" trace - --digest > "$work/out"
[ "$(cat "$work/out")" = "$(digest "$work/b.json" digest)" ] && grep -q 'guest: done' "$work/err" || fail "--trace -: $(cat "$work/err")"
"$penumbra" run --append "$small" --trace >("$penumbra" trace - --digest > "$work/out"; : > "$work/ended") < /dev/null > /dev/null
for _ in $(seq 600); do [ -e "$work/ended" ] && break; sleep 0.1; done
[ "$(cat "$work/out")" = "$(digest "$work/b.json" digest)" ] || fail "--trace PIPE"
grep -q '[0-9] page_fault$' < <("$penumbra" trace - --count < "$work/whole.trace") || fail "trace - of a file"

# A disk that fills up: what it took is a trace. (tests/trace does it without a file system.)
if unshare -rm true 2> /dev/null; then
    mkdir "$work/disk"
    unshare -rm sh -c "mount -t tmpfs -o size=64k none $work/disk
        '$penumbra' run --mmu tdp --append 'pages=2000 swaps=2000' --trace $work/disk/t > /dev/null 2> $work/err
        echo \$? > $work/rc
        '$penumbra' trace $work/disk/t --count > $work/out 2>> $work/err" < /dev/null || fail "a trace of a full disk"
    [ "$(cat "$work/rc")" -eq 1 ] && grep -q 'No space left on device; it holds the first [0-9]' "$work/err" &&
        grep -q 'events were lost when' "$work/err" && grep -q paging_element "$work/out" || fail "a full disk: $(cat "$work/err")"
fi

# kill -9: what was written is there and is called incomplete.
"$penumbra" run --mmu tdp --append "compute=1000000000000" --trace "$work/killed.trace" < /dev/null > /dev/null 2> "$work/err" &
pid=$!
for _ in $(seq 600); do
    part=$(find "$work" -name 'killed.trace.*.part' -size +8k)
    [ -z "$part" ] || break
    sleep 0.1
done
kill -9 "$pid"
wait "$pid" 2> /dev/null
run trace "$part" --count
[ "$rc" -eq 7 ] && grep -q 'incomplete' "$work/err" && grep -q page_fault "$work/out" || fail "after kill -9: $rc: $(cat "$work/err")"
rm -f "$part"

# Losses are counted and said.
run run --append "$small" --trace "$work/d.trace" --trace-limit 6K --stats "$work/d.json"
grep -q 'events were lost' "$work/err" || fail "losses are not said"
[ "$(sed -n 's/.*"lost": \([0-9]*\).*/\1/p' "$work/d.json")" -gt 0 ] || fail "losses are not counted"
[ "$(stat -c %s "$work/d.trace")" -le 6300 ] || fail "the limit is not kept"
[ -z "$(find "$work" -name '*.part')" ] || fail "files left behind"
exit $bad
