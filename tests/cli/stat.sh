#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# penumbra stat: exits and counters are those of the run, under both MMUs. What it makes of KVM's events
# tests/inspect/test_exits.c says.
. "$(dirname "$0")/lib.sh"
cat > "$work/check.py" << 'E2'
"""check.py STAT STATS MMU"""
import json, sys

study, stats, mmu = json.load(open(sys.argv[1])), json.load(open(sys.argv[2])), sys.argv[3]
counters = stats["counters"]
for name, value in study["counters"].items():
    assert counters.get(name, value) == value, (name, value, counters[name])
assert len(study["counters"]) > 20 and study["counters"]["pf_taken"] > 100
rows = {row["name"]: row for row in study["rows"]}
want = {"IO_INSTRUCTION": counters["io_exits"]}
if mmu == "tdp":
    want |= {"EPT_VIOLATION": counters["ept_violation"], "EPT_MISCONFIG": counters["ept_misconfig"]}
else:
    want |= {"EXCEPTION_NMI": counters["pf_taken"] + counters["pf_mmio_spte"], "INVLPG": counters["invlpg"]}
for name, samples in want.items():
    assert rows.get(name, {"samples": 0})["samples"] == samples, (name, samples, rows)
others = rows.keys() - want.keys() - {"HLT", "VMCALL"} - ({"CR_ACCESS"} if mmu == "shadow" else set())
assert not others, others
assert study["samples"] == sum(row["samples"] for row in study["rows"])
assert study["time_ns"] == sum(row["time_ns"] for row in study["rows"])
E2
for mmu in shadow tdp; do
    about="the embedded guest under $mmu"
    run run --mmu $mmu --dirty-log wp --dirty-every 1 --append "pages=64 swaps=50 flips=20 switches=20 compute=1000" \
        --trace "$work/t" --stats "$work/s.json"
    run stat "$work/t" --json "$work/x.json" --csv "$work/x.csv"
    [ "$rc" -eq 0 ] && [ ! -s "$work/err" ] || fail "$about: exit code $rc: $(cat "$work/err")"
    python3 "$work/check.py" "$work/x.json" "$work/s.json" $mmu > "$work/why" 2>&1 || fail "$about: $(tail -n 1 "$work/why")"
    [ "$(wc -l < "$work/x.csv")" -gt 2 ] && head -n 1 "$work/x.csv" | grep -q '^name,samples,time_ns,' || fail "$about: CSV"
    run stat "$work/t" --event ioport
    samples=$(sed -n 's/.*"io_exits": \([0-9]*\).*/\1/p' "$work/s.json" | head -n 1)
    grep -q "^Total Samples:$samples, Total events handled time:0.00us.$" "$work/out" && grep -Eq '^ +0x3f8:POUT +[0-9]+ ' "$work/out" ||
        fail "$about: ports: $(head -n 12 "$work/out")"
done

about="filters"
run stat "$work/t" --vcpu 1
[ "$rc" -eq 0 ] && grep -q 'VCPU 1:' "$work/out" && grep -q '^Total Samples:0,' "$work/out" || fail "$about: --vcpu 1: $(cat "$work/out")"
run stat "$work/t" --top 1
[ "$(grep -c '%' "$work/out")" -eq 2 ] && grep -q 'prints more' "$work/out" || fail "$about: --top 1: $(cat "$work/out")"
"$penumbra" stat - --json - < "$work/t" 2> "$work/err" | python3 -c 'import json, sys; json.load(sys.stdin)' || fail "standard input, or output"
grep -q '^Total Samples' "$work/err" || fail "no text beside the JSON"
head -c 3000 "$work/t" > "$work/cut"
run stat "$work/cut"
[ "$rc" -eq 7 ] && grep -q '^Total Samples' "$work/out" || fail "a cut trace: exit code $rc"
run run --append "pages=16 swaps=1 flips=1 switches=1 compute=1" --trace "$work/few" --trace-events page_fault,pio
run stat "$work/few"
[ "$rc" -eq 0 ] && grep -q 'recorded without ept_violation' "$work/err" || fail "few events: exit code $rc: $(cat "$work/err")"
refused 2 stat
refused 2 stat a b
refused 1 stat /nonexistent/t
refused 2 stat "$0"
refused 2 stat "$work/t" --json "$work/t"
refused 1 stat "$work/t" --json /nonexistent/x
refused 2 stat "$work/t" --event frobnicate
refused 2 stat "$work/t" --key frobnicate
for how in json csv; do
    run stat "$work/t" --$how /dev/full
    [ "$rc" -eq 1 ] && grep -q 'cannot write /dev/full: No space' "$work/err" || fail "a full disk: exit code $rc: $(cat "$work/err")"
done
exit $bad
