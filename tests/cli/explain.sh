#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `penumbra explain`: of a recording what the run itself says at its end, under its own MMU; of a
# snapshot what the guest's tables say; under each MMU the same answers for the guest.
#
#   explain.sh PENUMBRA SCHEMA
. "$(dirname "$0")/lib.sh"
schema=$2
guest=(--append "pages=64 compute=0")
ways=(--gva 0x100000 --gva 0x7000000000)

# The host's addresses differ from process to process.
told() {
    sed 's/host address 0x[0-9a-f]*/host address/' "$1"
}

# guests FILE MMU: what is said of the guest, and not of the MMU.
guests() {
    awk -v mmu="$2" '/^gva /{ on = $NF == mmu } /^The (shadow|second|frame|TLB)/{ skip = 1 }
        /^(gva|The guest|References)/{ skip = 0 } /this MMU/{ next } on && !skip' "$1" | sed 's/ under --mmu .*//'
}

for mmu in shadow tdp; do
    run run --mmu $mmu "${guest[@]}" --record "$work/rec" --stats "$work/s.json" --explain 0x100000 --explain 0x7000000000
    [ "$rc" -eq 0 ] || fail "$mmu: exit code $rc: $(cat "$work/err")"
    cp "$work/err" "$work/itself"
    run explain "$work/rec" "${ways[@]}" --mmu $mmu --json "$work/j" --svg "$work/svg"
    # Drawn: each entry of the first address's walks is lit once.
    entries=$(sed '/^gva 0x7000000000/,$d' "$work/out" | grep -c '^ *level [1-5]  entry')
    lit=$(lit_entries "$work/svg")
    [ "$entries" -ge 7 ] && [ "$lit" = "$entries" ] || fail "$mmu: $lit entries are lit, $entries told"
    [ "$rc" -eq 0 ] && [ ! -s "$work/err" ] || fail "$mmu: exit code $rc: $(cat "$work/err")"
    [ "$(told "$work/itself")" = "$(told "$work/out")" ] ||
        fail "$mmu: replay and run differ: $(diff <(told "$work/itself") <(told "$work/out") | head -n 5)"
    python3 - "$work/j" "$schema" $mmu << 'END' || fail "$mmu: JSON"
import json, sys
import jsonschema
answers, schema = (json.load(open(f)) for f in sys.argv[1:3])
assert [(a["gva"], a["mmu"]) for a in answers] == [(g, sys.argv[3]) for g in ("0x100000", "0x7000000000")]
for answer in answers:
    jsonschema.validate(answer, schema)
costs = answers[0]["costs"]
assert costs["nested"] == (costs["shadow"]["native"] + 1) * 25 - 1 == 124, costs
END
    run explain "$work/rec" "${ways[@]}"
    [ "$(guests "$work/out" shadow)" = "$(guests "$work/out" tdp)" ] || fail "$mmu: the guest differs between MMUs"
    [ "$(guests "$work/out" tdp | wc -l)" -gt 10 ] || fail "$mmu: nothing is said of the guest"
done

# On the loader's tables, and when no vCPU was there yet.
run explain "$work/rec" --gva 0x7000000000 --mmu tdp
grep 'CR3' "$work/out" > "$work/last"
run explain "$work/rec" --gva 0x7000000000 --at 20 --mmu tdp
grep 'CR3' "$work/out" > "$work/first" && ! cmp -s "$work/first" "$work/last" || fail "at 20: $(head -n 3 "$work/out" "$work/err")"
run explain "$work/rec" --gva 0x7000000000 --time 2us --mmu tdp
grep 'CR3' "$work/out" | cmp -s - "$work/first" || fail "at 2 us: $(head -n 3 "$work/out" "$work/err")"
end=$(sed -n 's/^ *"guest_ns": \([0-9]*\),*/\1/p' "$work/s.json")
run explain "$work/rec" --gva 0x7000000000 --time $((end - 100000)) --mmu tdp
grep 'CR3' "$work/out" | cmp -s - "$work/last" || fail "shortly before the end, $end ns: $(head -n 3 "$work/out" "$work/err")"
refused 2 explain "$work/rec" --gva 0 --time 1000s
grep -q 'ends soon after [0-9]' "$work/err" || fail "too late: $(cat "$work/err")"
[ ! -s "$work/out" ] || fail "too late, and it answers"
refused 2 explain "$work/rec" --gva 0 --time soon
refused 2 explain "$work/rec" --gva 0 --time 1us --at 30
refused 2 explain "$work/rec" --gva 0 --at 2
grep -q 'not begun' "$work/err" || fail "no paging yet: $(cat "$work/err")"
refused 2 explain "$work/rec" --gva 0 --at 1000000000
grep -q 'operations' "$work/err" || fail "too late: $(cat "$work/err")"
[ ! -s "$work/out" ] || fail "too late, and it answers"
refused 2 explain "$work/rec" --gva 0 --at 1
refused 2 explain "$work/rec" --gva 0 --cpu 3
refused 2 explain "$work/rec"
refused 2 explain "$work/rec" --gva nothing
refused 2 explain "$work/rec" --gva 0 --mmu kvm
refused 2 explain --gva 0
refused 1 explain "$work/rec" --gva 0 --svg "$work/none/svg"
refused 1 explain "$work/none" --gva 0
refused 2 explain "$work/j" --gva 0
head -c 3000 "$work/rec" > "$work/cut"
run explain "$work/cut" --gva 0 --mmu tdp
[ "$rc" -eq 7 ] || fail "a cut recording: exit code $rc: $(cat "$work/err")"

# A snapshot: what the monitor says of the guest is what it says.
"$penumbra" run -m 64M --append "pages=64 swaps=50 flips=20 switches=20 compute=100000000000" --monitor "$work/mon" \
    > "$work/guest" 2> "$work/guest.err" < /dev/null &
pid=$!
until grep -q 'dirty bits' "$work/guest"; do
    kill -0 $pid 2> /dev/null || { fail "no guest: $(cat "$work/guest.err")" && exit 1; }
    sleep 0.05
done
"$penumbra" monitor "$work/mon" stop > /dev/null
"$penumbra" monitor "$work/mon" explain 0x100000 > "$work/live"
run snapshot save "$work/mon" "$work/snap"
[ "$rc" -eq 0 ] || fail "no snapshot: $(cat "$work/err")"
"$penumbra" monitor "$work/mon" quit > /dev/null
wait $pid
run explain "$work/snap" --gva 0x100000
[ "$rc" -eq 0 ] || fail "a snapshot: exit code $rc: $(cat "$work/err")"
"$penumbra" explain "$work/snap" --gva 0x100000 --mmu tdp --svg - 2> /dev/null | grep -q '</svg>' || fail "a snapshot is not drawn"
sed -n '/^The guest/,/^The frame/p' "$work/live" > "$work/want"
for mmu in shadow tdp; do
    guests "$work/out" $mmu | sed -n '/^The guest/,$p' > "$work/have"
    grep -vxF -f "$work/have" "$work/want" | grep -v '^The frame' && fail "a snapshot under $mmu: $(cat "$work/have")"
done
refused 2 explain "$work/snap" --gva 0 --at 5
refused 2 run --mmu kvm --audit
refused 2 explain "$work/snap" --gva 0 --time 5us
printf x >> "$work/snap/state.bin"
refused 7 explain "$work/snap" --gva 0
exit $bad
