#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every kind of result and comparison is as its JSON Schema (bench/schema) says.
. "$(dirname "$0")/../cli/lib.sh"
. "$(dirname "$0")/lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)

# make NAME ARG...: penumbra bench's result.
make() {
    local name=$1
    shift
    run bench "$@" --repeat 1 --warmup 0 --json "$work/$name.json"
}
make plain "${tiny[@]}" --mmu shadow,tdp
make sweep chase:bytes=64K "${tiny[0]}" --mmu shadow:unsync=0/1 --tlb off
make failed touch:bytes=64M,rounds=1 -m 16M --mmu shadow
printf kernel > "$work/kernel" && printf initrd > "$work/initrd"
make linux linux.boot --kernel "$work/kernel" --initrd "$work/initrd" --mmu tdp
make s1 "${tiny[@]}" --mmu shadow --shard 1/2
make s2 "${tiny[@]}" --mmu shadow --shard 2/2
run merge -o "$work/merged.json" "$work/s1.json" "$work/s2.json"
sed 's/"gpte_reads": \([0-9]*\)/"gpte_reads": 9\1/' "$work/plain.json" > "$work/changed.json"
run compare "$work/plain.json" "$work/changed.json" --exact --json "$work/exact.json"
run compare "$work/plain.json" "$work/merged.json" --fail-above 5 --json "$work/gate.json"
[ -s "$work/exact.json" ] && [ -s "$work/gate.json" ] && [ -s "$work/merged.json" ] || fail "a file is missing"
rm "$work/changed.json"
rc=0
python3 "$top/tests/bench/schema.py" "$top/bench/schema" "$top/bench/harness/result_fields.inc" "$work"/*.json || rc=$?
[ "$rc" -ne 77 ] || exit 77
[ "$rc" -eq 0 ] || fail "a file is not as its schema says"
exit $bad
