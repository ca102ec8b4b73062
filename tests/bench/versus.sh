#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# bench/vs_native and bench/vs_qemu: each workload is timed on both sides, with one checksum; medians, intervals
# and means are what they say; bad arguments and a side that fails are one line.
#
#   versus.sh PENUMBRA PN-LINUX
# Exit: 0, 1 with what is wrong, 77 when the guest's packages are not there (skipped).
set -uo pipefail
penumbra=$1 program=$2
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
work_folder
need_guest --add "$program"
bench=$here/../../bench
export PYTHONDONTWRITEBYTECODE=1

PYTHONPATH=$bench python3 - << 'END' || fail "the figures are not what they say"
import math
import versus

assert versus.interval([3.0] * 5) == (3.0, 3.0)
low, high = versus.interval([1.0, 1.1, 1.2, 1.3, 9.0])
assert 1.0 <= low <= 1.2 <= high <= 9.0 and low < high, (low, high)
assert versus.interval([1.0, 2.0]) == versus.interval([1.0, 2.0])
g, low, high = versus.mean({"a": [2.0, 2.0, 2.0], "b": [8.0, 8.0, 8.0]})
assert math.isclose(g, 4) and math.isclose(low, 4) and math.isclose(high, 4)
good = "workload: begin name=linux-sort n=1\nworkload: time ns=7\nworkload: end name=linux-sort ops=1 checksum=ab\n"
assert versus.times(good, ["sort"]) == ({"sort": 7}, {"sort": "ab"})
for bad in "", good.replace("ns=7", "ns=0"), good.replace("sort", "fork"), good + "workload: error: x\n":
    try:
        versus.times(bad, ["sort"])
        raise SystemExit(f"taken for a result: {bad}")
    except versus.Failed:
        pass
END

words=(--penumbra "$penumbra" --guest "$cache" --memory 128M --repeat 2 --workloads integer:1000,syscall:100,fork:2)
# versus NAME LABEL ARG...: a table and a result.
versus() {
    local name=$1 label=$2
    shift 2
    "$bench/$name" "${words[@]}" "$@" --json "$work/$name.json" > "$work/out" 2> "$work/err" < /dev/null || fail "$name: $(cat "$work/out" "$work/err")"
    [ "$(grep -cE '^(integer|syscall|fork) +[0-9.]+ +[0-9.]+ +[0-9.]+  [0-9.]+ to [0-9.]+$' "$work/out")" -eq 3 ] || fail "$name: $(cat "$work/out")"
    grep -q "penumbra ms *$label ms" "$work/out" && grep -q '^geometric mean: [0-9.]* ([0-9.]* to [0-9.]*)' "$work/out" || fail "$name: $(cat "$work/out")"
    python3 - "$work/$name.json" << 'END' || fail "$name: the result does not add up"
import json, statistics, sys
j = json.load(open(sys.argv[1]))
assert sorted(j["workloads"]) == ["fork", "integer", "syscall"] and j["host"]["cpus"] > 0
for w in j["workloads"].values():
    assert len(w["ratios"]) == 2 and w["low"] <= w["ratio"] <= w["high"]
    assert w["ratio"] == statistics.median(a / b for a, b in zip(w["penumbra_ns"], w["other_ns"]))
END
}
versus vs_native native --program "$program"
# MTTCG, and vCPUs that are threads. On a busy host QEMU's timer is late for what the kernel checks of it.
versus vs_qemu qemu --cpus 2 --append no_timer_check
! ls "$bench"/*.part "$work"/*.part 2> /dev/null || fail "a part stays"

# refused CODE WORDS NAME ARG...
refused() {
    local code=$1 words=$2 rc=0
    shift 2
    "$bench/$1" --penumbra "$penumbra" --guest "$cache" "${@:2}" > "$work/out" 2> "$work/err" < /dev/null || rc=$?
    [ $rc -eq "$code" ] && tail -n 3 "$work/err" | grep -q "$words" || fail "$*: exit code $rc: $(cat "$work/err")"
}
refused 2 'at least one turn' vs_native --repeat 0 --program "$program"
refused 2 "from 1 to 64" vs_qemu --cpus 0
refused 2 'does not boot' vs_native --workloads boot --program "$program"
refused 2 'is no program' vs_native --program /nonexistent
refused 2 'has no vmlinuz' vs_qemu --guest "$work"
refused 2 'a path, or a suite' vs_qemu --qemu 'x;y'
refused 1 'no such workload' vs_native --workloads nothing --program "$program"
exit $bad
