#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `penumbra same`: a snapshot beside itself is all copies; of two moments of a guest the pages in place are
# those that `snapshot diff` does not name; sums add up; text and JSON say one thing.
#
#   same.sh PENUMBRA
. "$(dirname "$0")/lib.sh"

# A guest that edits page tables to the end of the test, saved when it does, and again when memory differs.
"$penumbra" run -m 64M --append "pages=512 swaps=4000000000" --monitor "$work/mon" \
    < /dev/null > "$work/a.out" 2> "$work/a.err" &
pid=$!
lives() { kill -0 $pid 2> /dev/null || { fail "the guest ended: $(cat "$work/a.err")"; exit 1; }; }
until [ -S "$work/mon" ] && grep -q 'demand faults' "$work/a.out"; do lives; sleep 0.02; done
run snapshot save "$work/mon" "$work/first"
[ "$rc" -eq 0 ] || fail "save: $(cat "$work/err")"
until grep -q '^ram: [0-9]* pages* differ' "$work/diff" 2> /dev/null; do
    lives
    run snapshot save "$work/mon" "$work/second" --force
    [ "$rc" -eq 0 ] || fail "save: $(cat "$work/err")"
    run snapshot diff "$work/second" "$work/first"
    cp "$work/out" "$work/diff"
done
"$penumbra" monitor "$work/mon" quit > /dev/null
wait

for name in first second; do
    run same "$work/$name" "$work/first" --json "$work/$name.json"
    [ "$rc" -eq 0 ] || fail "$name: exit code $rc: $(cat "$work/err")"
    cp "$work/out" "$work/$name.text"
done
run same "$work/first" --json "$work/alone.json"
python3 - "$work" << 'END' || fail "it does not add up"
import json, re, sys

w = sys.argv[1]
read = lambda name: json.load(open(f"{w}/{name}.json"))
alone, same, both = (read(n) for n in ("alone", "first", "second"))
text = open(f"{w}/second.text").read()
differ = re.search(r"^ram: ([0-9]+) pages? differ", open(f"{w}/diff").read(), re.M)
for j in (alone, same, both):
    for s in j["snapshots"]:
        assert s["pages"] == s["zeros"] + s["alone"] + s["within"] + s["between"] == 64 << 8, s
        assert s["contents"] <= s["pages"] - s["zeros"] and s["in_place"] <= s["pages"]
one = alone["snapshots"][0]
assert one["between"] == 0 and one["alone"] > 100 and one["zeros"] > 1000 and one["in_place"] == one["pages"]
assert alone["contents"] == one["contents"] == same["contents"]
for s in same["snapshots"]:  # twice the same
    assert s["between"] == s["pages"] - s["zeros"] == one["alone"] + one["within"] and s["in_place"] == s["pages"]
second, first = both["snapshots"]
assert second["in_place"] == second["pages"]
assert first["pages"] - first["in_place"] == int(differ[1]) > 0, (first, differ)
assert both["contents"] >= max(second["contents"], first["contents"])
assert both["contents"] < second["contents"] + first["contents"]
assert f'{first["between"]:,}' in text and f"{w}/first\n" in text
copies = sum(s["pages"] - s["zeros"] for s in both["snapshots"])
assert f'{100 * (copies - both["contents"]) / copies:.1f}% of' in text, text
END

refused() { # CODE WORDS ARG...
    run same "${@:3}"
    [ "$rc" -eq "$1" ] && grep -q "$2" "$work/err" && [ "$(wc -l < "$work/err")" -le 2 ] || fail "same ${*:3}: exit code $rc: $(cat "$work/err")"
}
refused 2 'which snapshots'
refused 1 'No such file' "$work/none"
refused 1 'none/x' "$work/first" --json "$work/none/x"
printf x >> "$work/second/memory.bin"
refused 7 'memory' "$work/first" "$work/second"
exit $bad
