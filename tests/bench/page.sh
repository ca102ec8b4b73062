#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The result page in a browser: the numbers that it shows are those of the JSON. Also a page
# that `penumbra merge` made of it.
#
#   page.sh PENUMBRA CHECK_PAGE
# Exit: 0, 1 with what is wrong, or 77: no browser here.
set -uo pipefail
penumbra=$1 check=$2
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
if [ -z "$browser" ]; then
    echo "skipped: no chromium here"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$penumbra" bench --quick --repeat 2 --warmup 0 --budget 0.2 --mmu shadow,tdp --json "$work/r.json" \
    --html "$work/r.html" > /dev/null < /dev/null || exit 1
# Every workload is in it.
for w in $(sed -n 's/^WORKLOAD(\([a-z]*\),.*/\1/p' "$(dirname "$0")/../../bench/workloads.inc"); do
    grep -q "\"workload\": \"$w\"" "$work/r.json" || {
        echo "FAIL: no result of $w"
        exit 1
    }
done
"$penumbra" merge -o "$work/m.json" "$work/r.json" --html "$work/m.html" 2> /dev/null || exit 1
if grep -qE '(src|href)="?(https?:)?//' "$work/r.html"; then
    echo "FAIL: the page loads something from elsewhere"
    exit 1
fi
for p in r m; do
    timeout 100 "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
        --disable-background-networking --disable-component-update --disable-sync \
        --disable-default-apps --no-first-run --user-data-dir="$work/profile-$p" --dump-dom \
        "file://$work/$p.html" > "$work/$p.dom" 2> "$work/$p.err" < /dev/null || {
        echo "FAIL: the browser ended with $?"
        tail -n 5 "$work/$p.err"
        exit 1
    }
    "$check" "$work/$p.json" "$work/$p.dom" || exit 1
done
# A number that is changed is found: the check can fail.
for what in 'data-field="time_ns.median">' 'data-field="modelled.cycles">' 'data-field="h1">' 'data-rate="'; do
    sed -E "0,/$what/s//&9/" "$work/r.dom" > "$work/wrong.dom"
    if "$check" "$work/r.json" "$work/wrong.dom" > /dev/null; then
        echo "FAIL: a wrong number passes: $what"
        exit 1
    fi
done
