#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# penumbra run --monitor: every command answers, in text and in JSON; a client that sends rubbish, half
# lines or too much, or leaves, does the guest nothing: it ends as without a monitor, instruction for
# instruction. penumbra dump and diff, run --explain and --dump-mmu.
#
#   monitor.sh PENUMBRA
. "$(dirname "$0")/lib.sh"

guest=(--device balloon --numa-guest 128M,384M --append "pages=64 swaps=50 flips=20 switches=20 compute=1000000000" --stats "$work/s.json"
    --ram-digest --event-digest --trace-events page_fault,fault_outcome,invlpg)

# client MMU NAME: penumbra in the background, and monitor_client.py's part NAME that talks to it.
client() {
    local rc=0
    "$penumbra" run --mmu "$1" "${guest[@]}" --monitor "$work/mon" > /dev/null 2> "$work/err" < /dev/null &
    local pid=$!
    python3 "$(dirname "$0")/monitor_client.py" "$work/mon" "$2" "$work" || {
        fail "$1, $2: the client failed"
        kill $pid
    }
    wait $pid || rc=$?
    [ "$rc" -eq 0 ] || fail "$1, $2: exit code $rc: $(cat "$work/err")"
    [ ! -e "$work/mon" ] || fail "$1, $2: the socket stays"
}

# What must not change: all that a run counts but the host's time.
digest() {
    python3 -c 'import json, sys
j = json.load(open(sys.argv[1]))
print(j["guest_insns"], j["guest_ns"], j["ram_digest"], j["events"]["digest"], sorted(j["counters"].items()))' "$work/s.json"
}

for mmu in shadow tdp; do
    run run --mmu $mmu "${guest[@]}"
    [ "$rc" -eq 0 ] || fail "$mmu: exit code $rc: $(cat "$work/err")"
    want=$(digest)
    for what in commands rubbish; do
        client $mmu $what
        [ "$(digest)" = "$want" ] || fail "$mmu, $what: the guest went another way"
    done
done
client shadow ends

# penumbra monitor is a client, too.
"$penumbra" run "${guest[@]}" --monitor "$work/mon" > /dev/null 2> "$work/err" < /dev/null &
pid=$!
until [ -S "$work/mon" ]; do sleep 0.05; done
run monitor "$work/mon" x/2xb '$rip'
[ "$rc" -eq 0 ] && grep -q '^[0-9a-f]\{16\}: 0x.. 0x..$' "$work/out" || fail "penumbra monitor: $(cat "$work/out")"
run monitor --json "$work/mon" stop
[ "$rc" -eq 0 ] && [ "$(cat "$work/out")" = '{"command":"stop","ok":true,"result":[]}' ] || fail "--json: $(cat "$work/out")"
run monitor "$work/mon" frobnicate
[ "$rc" -eq 1 ] && grep -q '^Error: no command' "$work/out" || fail "a bad command: exit code $rc"
grep -q '^VM status: paused$' < <(printf 'info status\nquit\n' | "$penumbra" monitor "$work/mon") || fail "standard input"
wait $pid
refused 1 monitor "$work/mon" stop
# At a terminal: lines are edited, completed and remembered, and each answer comes at once.
"$penumbra" run "${guest[@]}" --monitor "$work/mon" > /dev/null 2> "$work/err" < /dev/null &
python3 "$(dirname "$0")/monitor_terminal.py" "$penumbra" "$work/mon" > "$work/why" 2>&1 || {
    fail "at a terminal: $(tail -n 1 "$work/why")"
    kill $!
}
wait $! || fail "at a terminal: the guest's exit code is $?: $(cat "$work/err")"
refused 2 monitor

# At the end of a run: explain, a dump, an audit, the dump's text, what differs from another.
small=(--append "pages=16 swaps=2 flips=2 switches=2 compute=10")
for mmu in shadow tdp; do
    run run --mmu $mmu "${small[@]}" --explain 0x100000 --explain 0xfed00000 --dump-mmu "$work/$mmu.json" --audit
    # Drawn: each entry of the two walks that are told is lit once, and nothing else.
    "$penumbra" run --mmu $mmu "${small[@]}" --explain 0x100000 --explain-svg "$work/$mmu.svg" < /dev/null > /dev/null 2> "$work/told" ||
        fail "$mmu: --explain-svg: $(cat "$work/told")"
    entries=$(grep -c '^ *level [1-5]  entry' "$work/told")
    lit=$(lit_entries "$work/$mmu.svg")
    [ "$entries" -ge 7 ] && [ "$lit" = "$entries" ] || fail "$mmu: $lit entries are lit, $entries told: $(cat "$work/told")"
    [ "$rc" -eq 0 ] && grep -q '^  It leads to gpa 0x100000, a page of 4 KiB' "$work/err" &&
        grep -q '^  It ends at level 3: the entry is not present' "$work/err" || fail "$mmu: --explain: $(cat "$work/err")"
    run dump "$work/$mmu.json"
    [ "$rc" -eq 0 ] && grep -q '^guest 0x0-0x' "$work/out" && grep -q '^table gfn ' "$work/out" || fail "$mmu: dump"
    run run --mmu $mmu "${small[@]}" --dump-mmu "$work/again.json"
    run diff "$work/$mmu.json" "$work/again.json"
    [ "$rc" -eq 0 ] && [ ! -s "$work/out" ] || fail "$mmu: two equal runs differ: $(head -n 3 "$work/out")"
done
run diff "$work/shadow.json" "$work/tdp.json" --json "$work/diff.json"
[ "$rc" -eq 9 ] && grep -q '^- root mmu shadow' "$work/out" && ! grep -q '^[-+] guest' "$work/out" ||
    fail "two MMUs: exit code $rc: $(head -n 3 "$work/out")"
run run --append "pages=8 swaps=2 flips=2 switches=2 compute=10" --dump-mmu "$work/other.json"
run diff "$work/shadow.json" "$work/other.json"
[ "$rc" -eq 9 ] && grep -q '^[-+] guest 0x' "$work/out" || fail "two guests: exit code $rc"

refused 2 dump
refused 2 diff "$work/shadow.json"
refused 2 dump "$0"
refused 2 dump /dev/null
refused 1 dump /nonexistent/x
refused 2 diff "$work/shadow.json" "$work/s.json"
refused 1 diff "$work/shadow.json" /nonexistent/x
sed 's/"from": "0x[0-9a-f]*"/"from": "yes"/' "$work/shadow.json" > "$work/bad.json"
refused 2 dump "$work/bad.json"
head -c 2000 "$work/shadow.json" > "$work/cut.json"
refused 2 dump "$work/cut.json"
refused 1 run --monitor /nonexistent/x
refused 2 run --explain here
refused 1 run --dump-mmu /nonexistent/x
exit $bad
