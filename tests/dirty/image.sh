#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The dirty guest under penumbra: every tracker of the software engines, three rounds, by the oracle; and
# check.py finds what a VMM would have lost.
#
#   image.sh PENUMBRA IMAGE
. "$(dirname "$0")/../cli/lib.sh"
image=$2
check=$(dirname "$0")/check.py

printf '\n\n\nq' > "$work/keys"
"$penumbra" run --dirty-log help | sed -n 's/^\([a-z-]*\) .*: under \(.*\)/\1 \2/p' | tr -d , |
    while read -r tracker mmus; do for mmu in $mmus; do echo "$mmu $tracker"; done; done |
    grep -E '^(shadow|tdp) ' > "$work/trackers"
while read -r mmu tracker; do
    [ "$tracker" = mincore ] && continue
    rc=0
    "$penumbra" run -m 64M --mmu "$mmu" --kernel "$image" --dirty-log "$tracker" --dirty-verify \
        --stats "$work/s.json" < "$work/keys" > "$work/out" 2> "$work/err" || rc=$?
    grep -q "this host's kernel" "$work/err" && continue
    [ "$rc" -eq 1 ] || fail "$mmu, $tracker: exit code $rc: $(cat "$work/err" "$work/out")"
    grep -q 'round 4' "$work/out" || fail "$mmu, $tracker: it did not write four rounds: $(cat "$work/out")"
    cp "$work/out" "$work/said"
    [ "$(grep -c '"by": "guest"' "$work/s.json")" -eq 4 ] || fail "$mmu, $tracker: not four harvests"
    grep '"missed": ' "$work/s.json" | grep -qv ': 0\b' && fail "$mmu, $tracker: pages missed"
done < "$work/trackers"
grep -q "^region 1000000 4000000" "$work/said" || fail "which memory it writes: $(cat "$work/said")"

# An image as it should be after two rounds, and four that a VMM could have made of it.
python3 - "$work/right" << 'END'
import struct, sys
base, n = 0x1000000, 16 * 512 + 20
def writes(p, r):
    return p in (0, n - 1, r) or (p < n - n // 4 and (p % 37 == r % 37 or p // 512 == r))
with open(sys.argv[1], "wb") as f:
    f.truncate(base + n * 4096)
    for r in (1, 2):
        for p in filter(lambda p: writes(p, r), range(n)):
            f.seek(base + p * 4096)
            w = (0x796472616E746565, base + p * 4096, r)
            f.write(struct.pack("<4Q", *w, sum(w) % 2**64))
END
end=$(printf %x $((0x1000000 + (16 * 512 + 20) * 4096)))
python3 "$check" 2 "$work/right" "1000000-$end" > "$work/out" || fail "a right image: $(cat "$work/out")"
# wrong WHAT REGEX SKIP SEEK: a page of the right image is copied over another, and that is found.
wrong() {
    cp --sparse=always "$work/right" "$work/wrong"
    dd if="$work/right" of="$work/wrong" bs=4096 count=1 skip="$3" seek="$4" conv=notrunc status=none
    python3 "$check" 2 "$work/wrong" "1000000-$end" > "$work/out" && fail "$1 is not found"
    grep -q "$2" "$work/out" || fail "$1: $(cat "$work/out")"
}
wrong 'a page that was lost' 'missed: nothing' 0 4098          # page 2 of the region, round 2
wrong 'a page at a wrong offset' 'at a wrong offset' 4096 4098 # page 0 there
wrong 'a page where none was written' 'wrote none there' 4096 12000
python3 "$check" 3 "$work/right" "1000000-$end" > "$work/out" && fail "an older round is not found"
grep -q 'of round 2, and not 3' "$work/out" || fail "an older round: $(cat "$work/out")"
exit $bad
