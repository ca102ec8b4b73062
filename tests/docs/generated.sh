#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What docs/ holds that is generated is what docs/generate.sh makes now: the reference from
# the program's tables, the picture from its modelled cycles.
#
#   generated.sh PENUMBRA
. "$(dirname "$0")/../lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
work_folder
"$top/docs/generate.sh" "$1" "$work" || fail "docs/generate.sh"
(cd "$work" && find . -type f | sort) > "$work.list"
[ "$(wc -l < "$work.list")" -ge 5 ] || fail "docs/generate.sh makes too little: $(cat "$work.list")"
while read -r file; do
    diff -u "$top/docs/$file" "$work/$file" > "$work.diff" || fail "docs/$file: run 'make reference': $(head -n 20 "$work.diff")"
done < "$work.list"
rm -f "$work.list" "$work.diff"
exit $bad
