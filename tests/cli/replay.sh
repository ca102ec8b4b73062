#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# penumbra replay: into the MMU that was recorded every counter of the MMU is the run's; into others
# it comes to what a run under them counts, as far as docs/replay.md says. Recording changes no counter
# of the MMU.
#
#   replay.sh PENUMBRA [linux]    the embedded guest, or Debian's kernel on one vCPU and two
. "$(dirname "$0")/lib.sh"
cat > "$work/check.py" << 'E2'
"""check.py STATS REPLAY [STATS-WITHOUT-RECORDING]: all counters that replay has are the run's."""
import json, sys

run, replay = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))
one = replay["results"][0]
assert replay["schema"] == "penumbra-replay-1" and replay["recording"]["state"] == "whole"
assert one["equal"] is True and one["error"] is None and one["label"] == run["mmu"], one
for name, value in one["counters"].items():
    assert run["counters"][name] in (value, None), (name, value, run["counters"][name])
assert len(one["counters"]) > 60 and one["counters"]["pf_taken"] > 50 and one["accesses"] > 100, one
if len(sys.argv) > 3:
    plain = json.load(open(sys.argv[3]))["counters"]
    for name in one["counters"]:
        a, b = plain[name] or 0, run["counters"][name] or 0
        # The software CPU may translate, and so fetch, a few blocks more; a fetch is a TLB miss and its walk.
        fetched = name.startswith(("tlb_miss", "tlb_fill", "walk_refs", "gpte_reads")) and run["guest_insns"] > 10**9
        assert abs(a - b) <= (b * 0.001 if fetched else 0), (name, a, b)
E2
# recorded WHAT ARG...: record, replay, compare; the recording stays in $work/rec.
recorded() {
    about=$1
    shift
    run run "$@" --timeout 110 --record "$work/rec" --stats "$work/s.json"
    [ "$rc" -eq 0 ] || fail "$about: run: exit code $rc: $(cat "$work/err")"
    run run "$@" --timeout 110 --stats "$work/plain.json"
    run replay "$work/rec" --json "$work/r.json"
    [ "$rc" -eq 0 ] && [ ! -s "$work/err" ] || fail "$about: exit code $rc: $(cat "$work/err")"
    grep -q 'every counter is what it was' "$work/out" || fail "$about: $(cat "$work/out")"
    python3 "$work/check.py" "$work/s.json" "$work/r.json" "$work/plain.json" > "$work/why" 2>&1 ||
        fail "$about: $(tail -n 1 "$work/why")"
}

# near REPLAY STATS SHARE: what the shadow MMU does is what it did in that run, but for this share.
near() {
    python3 - "$@" << 'E2'
import json, sys

replay, run = json.load(open(sys.argv[1]))["results"][0]["counters"], json.load(open(sys.argv[2]))["counters"]
for name in "pf_taken", "pf_fixed", "pf_guest", "pf_tracked", "sp_created", "sp_zapped", "sp_unsync", "mmu_sync", "mmu_pte_write", "gpte_ad_set":
    assert abs(replay[name] - run[name]) <= float(sys.argv[3]) * run[name] + 2, (name, replay[name], run[name])
E2
}

if [ "${2:-}" = linux ]; then
    need_guest
    boot=(-m 256M --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" --append "console=ttyS0 panic=-1 pn.script")
    recorded "Linux, shadow" --mmu shadow "${boot[@]}"
    recorded "Linux, tdp, two vCPUs" --mmu tdp -c 2 "${boot[@]}"
    cp "$work/rec" "$work/tdp"
    recorded "Linux, shadow, two vCPUs" --mmu shadow -c 2 "${boot[@]}"
    about="Linux: tdp's accesses under shadow"
    run replay "$work/tdp" --mmu shadow --json "$work/r.json"
    near "$work/r.json" "$work/s.json" 0.01 > "$work/why" 2>&1 || fail "$about: $(tail -n 1 "$work/why")"
    exit $bad
fi

guest=(--append "pages=64 swaps=50 flips=20 switches=20 compute=1000")
recorded "tdp" --mmu tdp "${guest[@]}"
recorded "tdp, D bits" --mmu tdp --mmu-opt ad=ept --dirty-log dbit --dirty-every 1 "${guest[@]}"
recorded "tdp, small pages, a TLB model" --mmu tdp --mmu-opt large_pages=0 --tlb skylake "${guest[@]}"
recorded "shadow, a TLB model, a dirty log" --mmu shadow --tlb skylake --dirty-log wp --dirty-every 1 "${guest[@]}"
for opt in policy=kvm-6.1 policy=kvm-6.12 policy=xen-1 policy=xen-2 policy=xen-3 policy=flush policy=agile unsync=0 prefetch=0 page_budget=64 cached_roots=0 flood_threshold=0; do
    recorded "shadow:$opt" --mmu shadow --mmu-opt $opt "${guest[@]}"
done
recorded "shadow" --mmu shadow "${guest[@]}"

about="other MMUs"
run replay "$work/rec" --mmu shadow:unsync=0/1,shadow:page_budget=64,tdp --json "$work/r.json" --csv "$work/r.csv"
[ "$rc" -eq 0 ] && [ "$(grep -c '^shadow:unsync=[01] ' "$work/out")" -eq 2 ] && grep -q '^tdp ' "$work/out" ||
    fail "$about: exit code $rc: $(cat "$work/out" "$work/err")"
[ "$(wc -l < "$work/r.csv")" -eq 5 ] && grep -q '^mmu,accesses,tlb_hits,fetches,host_ns,cpu_ns,tlb_miss,' "$work/r.csv" || fail "$about: CSV"
python3 - "$work/r.json" > "$work/why" 2>&1 << 'E2' || fail "$about: $(tail -n 1 "$work/why")"
import json, sys

one = {r["label"]: r["counters"] for r in json.load(open(sys.argv[1]))["results"]}
assert one["shadow:unsync=0"]["sp_unsync"] == 0 < one["shadow:unsync=1"]["sp_unsync"]
assert one["shadow:unsync=0"]["pf_tracked"] > one["shadow:unsync=1"]["pf_tracked"]
assert one["tdp"]["ept_violation"] > 0 == one["tdp"]["pf_tracked"] and one["shadow:unsync=1"]["ept_violation"] == 0
E2
about="the page"
run replay "$work/rec" --mmu shadow:page_budget=64/128/256,tdp --html "$work/r.html"
[ "$rc" -eq 0 ] && grep -q '"schema":"penumbra-replay-1"' "$work/r.html" && ! grep -qE '(src|href)="?(https?:)?//' "$work/r.html" ||
    fail "$about: exit code $rc: $(cat "$work/err")"
run replay "$work/rec" --html /dev/full
[ "$rc" -eq 1 ] && grep -q 'cannot write /dev/full: No space' "$work/err" || fail "$about: a full disk: exit code $rc: $(cat "$work/err")"
run replay "$work/rec" --mmu-opt unsync=0 --counters
[ "$rc" -eq 0 ] && grep -Eq '^ +shadow:unsync=0$' "$work/out" && grep -q '^pf_tracked ' "$work/out" || fail "--mmu-opt: $(cat "$work/out" "$work/err")"
"$penumbra" replay - --json - < "$work/rec" 2> "$work/err" | python3 -c 'import json, sys; json.load(sys.stdin)' || fail "standard input, or output"

# With a TLB model every access is there, so that another kind of MMU comes to what a run under it does.
about="tdp's accesses, recorded with a TLB model, under shadow"
run run --mmu tdp --tlb skylake "${guest[@]}" --record "$work/all"
run run --mmu shadow "${guest[@]}" --stats "$work/s.json"
run replay "$work/all" --mmu shadow --tlb off --json "$work/r.json"
[ "$rc" -eq 0 ] || fail "$about: exit code $rc: $(cat "$work/err")"
near "$work/r.json" "$work/s.json" 0.02 > "$work/why" 2>&1 || fail "$about: $(tail -n 1 "$work/why")"

about="what is no recording, or half of one"
head -c 2000 "$work/rec" > "$work/cut"
run replay "$work/cut"
[ "$rc" -eq 7 ] && grep -Eq 'incomplete' "$work/err" || fail "$about: cut: exit code $rc: $(cat "$work/err")"
size=$(wc -c < "$work/rec")
for at in $((size / 2)) $((size - 9)); do
    cp "$work/rec" "$work/bent"
    printf '\252\125\252' | dd of="$work/bent" bs=1 seek=$at conv=notrunc 2> /dev/null
    run replay "$work/bent"
    [ "$rc" -eq 7 ] && [ "$(wc -l < "$work/err")" -eq 1 ] && grep -q 'damaged' "$work/err" || fail "$about: bent at $at: exit code $rc: $(cat "$work/err")"
done
head -c 30 "$work/rec" > "$work/cut"
refused 7 replay "$work/cut"
refused 2 replay
refused 2 replay a b
refused 1 replay /nonexistent/r
refused 2 replay "$0"
refused 2 replay "$work/rec" --mmu kvm
refused 2 replay "$work/rec" --tlb skylake
refused 2 replay "$work/rec" --mmu shadow --mmu-opt unsync=0
refused 2 replay "$work/rec" --mmu-opt tdp_levels=5
refused 2 replay "$work/rec" --mmu-opt unsync
grep -q "not NAME=VALUE" "$work/err" || fail "--mmu-opt without a value: $(cat "$work/err")"
refused 2 replay "$work/rec" --json "$work/rec"
refused 2 replay "$work/rec" --html "$work/rec"
refused 2 run --record "$work/x" --handover tdp@1
refused 1 run --record /nonexistent/x
exit $bad
