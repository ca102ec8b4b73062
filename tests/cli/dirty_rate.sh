#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `penumbra dirty-rate`: the pages of its harvests are those of the run; every first store has a writer; text
# and JSON say one thing.
#
#   dirty_rate.sh PENUMBRA GUEST.elf
. "$(dirname "$0")/lib.sh"
guest=$2

for mmu in shadow tdp; do
    run run --mmu $mmu -m 64M --dirty-log wp --dirty-every 2 --trace "$work/w.trace" --stats "$work/s.json" \
        --trace-events page_fault,fault_outcome,dirty_harvest --append "pages=64 swaps=50 flips=20 switches=20 compute=10000000"
    [ "$rc" -eq 0 ] || fail "$mmu: the run: $(cat "$work/err")"
    run dirty-rate "$work/w.trace" --symbols "$guest" --json "$work/$mmu.json"
    [ "$rc" -eq 0 ] || fail "$mmu: exit code $rc: $(cat "$work/err")"
    python3 - "$work/$mmu.json" "$work/s.json" "$work/out" << 'END' || fail "$mmu: it does not add up"
import json, re, sys

rate, stats = (json.load(open(p)) for p in sys.argv[1:3])
text = open(sys.argv[3]).read()
log, n = stats["dirty_log"], stats["counters"]
assert rate["schema"] == "penumbra-dirty-rate-1"
assert rate["pages"] == log["pages"] == sum(h["pages"] for h in rate["harvests"]) > 100
assert 1 < len(rate["harvests"]) <= len(log["harvests"])
assert rate["stores"] == n["pf_dirty_log"] > 50, (rate["stores"], n["pf_dirty_log"])
assert sum(h["stores"] for h in rate["harvests"]) == rate["stores"]
assert all(h["stores"] <= h["pages"] for h in rate["harvests"])
assert sum(f["pages"] for f in rate["function"]) == rate["stores"]
assert any(re.fullmatch("[a-z_]+", f["name"]) for f in rate["function"]), rate["function"][:5]
assert rate["region"] is None and rate["process"] is None  # nobody told
seconds = (rate["to_ns"] - rate["from_ns"]) / 1e9
assert abs(rate["pages_per_s"] - rate["pages"] / seconds) < 1
assert f'{rate["pages"]:,} pages in {len(rate["harvests"])} harvests' in text
assert f'{rate["function"][0]["name"]}\n' in text
END
done
# The working set: with every page that is accessed, and by whom; the same under both MMUs.
for mmu in shadow tdp; do
    run run --mmu $mmu -m 64M --dirty-log accessed --dirty-every 2 --trace "$work/a.trace" --stats "$work/s.json" \
        --trace-events page_accessed,dirty_harvest --append "pages=64 swaps=50 flips=20 switches=20 compute=10000000"
    [ "$rc" -eq 0 ] || fail "$mmu: the run: $(cat "$work/err")"
    run dirty-rate "$work/a.trace" --symbols "$guest" --json "$work/$mmu-a.json" --html "$work/$mmu.html"
    [ "$rc" -eq 0 ] || fail "$mmu, accessed: exit code $rc: $(cat "$work/err")"
    python3 - "$work/$mmu-a.json" "$work/s.json" "$work/$mmu.json" "$work/$mmu.html" << 'END' || fail "$mmu, accessed: it does not add up"
import json, sys

rate, stats, written = (json.load(open(p)) for p in sys.argv[1:4])
page = open(sys.argv[4]).read()
assert rate["of"] == "accesses" and written["of"] == "stores"
assert rate["pages"] == stats["dirty_log"]["pages"] == sum(h["pages"] for h in rate["harvests"])
assert len(rate["harvests"]) == len(written["harvests"])
for all, some in zip(rate["harvests"], written["harvests"]):
    assert all["at_ns"] == some["at_ns"] and all["pages"] >= some["pages"], (all, some)
assert rate["pages"] > written["pages"]  # what is read alone, and code
assert sum(f["pages"] for f in rate["function"]) == rate["stores"] > written["stores"]
assert stats["counters"]["pf_dirty_log"] == 0
assert '"of":"accesses"' in page.replace(" ", "") and "@DATA@" not in page and "new Chart(" in page
END
done
cmp -s <(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["function"])' "$work/shadow-a.json") \
    <(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["function"])' "$work/tdp-a.json") || fail "the working sets differ"
run dirty-rate "$work/a.trace" --json "$work/x" --html "$work/x"
[ "$rc" -eq 2 ] && grep -q 'are one file' "$work/err" || fail "one file for both: exit code $rc: $(cat "$work/err")"
run run -m 64M --trace "$work/none.trace" --append "pages=16 swaps=1 flips=1 switches=1 compute=10"
run dirty-rate "$work/none.trace"
[ "$rc" -eq 2 ] && grep -q 'no harvest' "$work/err" || fail "a trace without harvests: exit code $rc: $(cat "$work/err")"
run dirty-rate
[ "$rc" -eq 2 ] || fail "no file: exit code $rc"
exit $bad
