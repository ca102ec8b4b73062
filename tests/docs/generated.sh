#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What docs/ holds that is generated is what docs/generate.sh makes now: the reference from
# the program's tables, the picture from its modelled cycles.
#
# A program by another compiler than the picture's has a guest of other instructions. Then the picture's
# words are the same, and its numbers are near.
#
#   generated.sh PENUMBRA
. "$(dirname "$0")/../lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
work_folder
"$top/docs/generate.sh" "$1" "$work" || fail "docs/generate.sh"
compiler() { grep -o 'for a guest by [^.]*' "$1"; }
near() {
    python3 - "$1" "$2" << 'PYTHON'
import re, sys
number = re.compile(r"(?<![#\w])\d+(?:\.\d+)?")
texts = [re.sub("for a guest by [^.]*", "", open(name, encoding="utf-8").read()) for name in sys.argv[1:]]
if number.sub("N", texts[0]) != number.sub("N", texts[1]):
    sys.exit("other words or shapes")
for a, b in zip(*(map(float, number.findall(text)) for text in texts)):
    if abs(a - b) > max(0.1 * a, 10 if a >= 15 else 0.2):
        sys.exit(f"{a} is now {b}")
PYTHON
}
(cd "$work" && find . -type f | sort) > "$work.list"
[ "$(wc -l < "$work.list")" -ge 5 ] || fail "docs/generate.sh makes too little: $(cat "$work.list")"
while read -r file; do
    if [[ $file = *.svg ]] && [ "$(compiler "$top/docs/$file")" != "$(compiler "$work/$file")" ]; then
        near "$top/docs/$file" "$work/$file" 2> "$work.diff" || fail "docs/$file is not near: $(cat "$work.diff")"
        continue
    fi
    diff -u "$top/docs/$file" "$work/$file" > "$work.diff" || fail "docs/$file: run 'make reference': $(head -n 20 "$work.diff")"
done < "$work.list"
rm -f "$work.list" "$work.diff"
exit $bad
