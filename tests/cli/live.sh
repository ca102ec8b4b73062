#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `penumbra faults --live`: while a run stands, its totals are the monitor's; at the end of the run they are those
# of its trace. What cannot be followed is refused in a line.
. "$(dirname "$0")/lib.sh"
cat > "$work/check.py" << 'E2'
"""check.py MONITOR LIVE: the faults by outcome of both, JSON."""
import json, sys

want = {name: n for name, n in json.load(open(sys.argv[1]))["result"].items() if n and name != "tracked_code"}
got = {r["outcome"]: r["faults"] for r in json.load(open(sys.argv[2]))["tables"][0]["rows"]}
assert got == want and sum(got.values()) > 0, (got, want)
E2
ask() {
    "$penumbra" monitor "$work/mon" "$@"
}
for cpus in 1 2; do
    timeout 250 "$penumbra" run -c $cpus --append "pages=256 swaps=100000000" --trace "$work/t" --monitor "$work/mon" \
        --trace-events page_fault,fault_outcome,walker_error > "$work/console" 2> "$work/run.err" &
    pid=$!
    until ask info status > "$work/out" 2> "$work/err" || ! kill -0 $pid 2> /dev/null; do sleep 0.05; done
    # From its first fault on: as it goes, three times; then while it stands.
    until grep -q '^Faults by outcome' < <("$penumbra" faults --live "$work/mon" --updates 1 2> "$work/err") || ! kill -0 $pid 2> /dev/null; do
        sleep 0.05
    done
    run faults --live "$work/mon" --every 0.05 --updates 3
    [ "$rc" -eq 0 ] && [ ! -s "$work/err" ] && [ "$(grep -c '^Faults by outcome' "$work/out")" -eq 3 ] ||
        fail "$cpus vCPUs, three updates: exit code $rc: $(cat "$work/err")"
    ask stop
    for again in first second; do
        ask --json faults > "$work/faults.json"
        run faults --live "$work/mon" --updates 1 --json "$work/live.json"
        [ "$rc" -eq 0 ] || fail "$cpus vCPUs, it stands: exit code $rc: $(cat "$work/err")"
        python3 "$work/check.py" "$work/faults.json" "$work/live.json" > "$work/why" 2>&1 ||
            fail "$cpus vCPUs, $again: $(tail -n 1 "$work/why")"
        [ $again = second ] || { ask cont && ask stop; }
    done
    ask info trace > "$work/out" 2>&1 && grep -q '\.part: [0-9]* events, 0 lost$' "$work/out" ||
        fail "info trace: $(cat "$work/out")"
    # To the end: the same as of the file.
    ask cont
    timeout 60 "$penumbra" faults --live "$work/mon" --every 0.05 --by outcome,page --csv "$work/live.csv" \
        > "$work/live.out" 2> "$work/live.err" &
    live=$!
    until grep -q '^Faults by' "$work/live.out" || ! kill -0 $live 2> /dev/null; do sleep 0.05; done
    ask quit
    wait $live || fail "$cpus vCPUs, to the end: exit code $?: $(cat "$work/live.err")"
    wait $pid
    run faults "$work/t" --by outcome,page --csv "$work/t.csv"
    [ "$rc" -eq 0 ] && [ -s "$work/t.csv" ] && cmp -s "$work/t.csv" "$work/live.csv" ||
        fail "$cpus vCPUs, the end: $(diff "$work/t.csv" "$work/live.csv" | head -n 4)"
    [ "$(sed -n 1p "$work/out")" = "$(grep ' faults in ' "$work/live.out" | tail -n 1)" ] || fail "$cpus vCPUs: the answers differ"
done
# What cannot be followed.
refused 1 faults --live "$work/nobody"
refused 2 faults --live "$work/mon" "$work/t"
refused 2 faults --every 1 "$work/t"
refused 2 faults --live "$work/mon" --narrate 1
for to in "" --trace; do
    "$penumbra" run --append "swaps=100000000" --monitor "$work/mon" ${to:+"$to" -} > "$work/console" 2> "$work/run.err" &
    pid=$!
    until ask info status > "$work/out" 2> "$work/err" || ! kill -0 $pid 2> /dev/null; do sleep 0.05; done
    refused 1 faults --live "$work/mon"
    grep -qE 'no events are recorded|in no regular file' "$work/err" || fail "${to:-no trace}: $(cat "$work/err")"
    ask quit
    wait $pid
done
exit $bad
