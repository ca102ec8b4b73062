#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The result page in a browser: the numbers that it shows are those of the JSON. Also a page
# that `penumbra merge` made of it. Both themes and a narrow screen.
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

"$penumbra" bench --quick --repeat 1 --warmup 0 --mmu shadow,tdp --json "$work/r.json" \
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
# dom PAGE [OPTION...]: what the page becomes in the browser, into PAGE.dom.
dom() {
    local page=$1
    shift
    timeout 100 "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
        --disable-background-networking --disable-component-update --disable-sync \
        --disable-default-apps --no-first-run --user-data-dir="$work/profile-$page" --dump-dom "$@" \
        "file://$work/$page.html" > "$work/$page.dom" 2> "$work/$page.err" < /dev/null || {
        echo "FAIL: the browser ended with $?"
        tail -n 5 "$work/$page.err"
        exit 1
    }
}
for p in r m; do
    dom $p
    "$check" "$work/$p.json" "$work/$p.dom" || exit 1
done
# Used by a reader, in both themes, on a wide and on a narrow screen (probe.js).
# preferredColorScheme: 0 dark, 1 light. 6 runs of a point are what an interval needs.
"$penumbra" bench --quick chase remap protect --repeat 6 --warmup 0 --budget 100 --mmu shadow,tdp \
    --html "$work/p.html" > /dev/null < /dev/null || exit 1
here=$(cd "$(dirname "$0")" && pwd)
# probe PAGE THEME WIDTH SCHEME: what is wrong, "nothing" or no word, into $found.
probe() {
    local theme=$2 width=$3 page=$2$3
    {
        cat "$1"
        printf '<script>const theme = "%s", width = %d;\n' "$theme" "$width"
        cat "$here/probe.js"
        echo '</script>'
    } > "$work/$page.html"
    dom "$page" --window-size="$width,900" --blink-settings=preferredColorScheme="$4"
    found=$(sed -n 's/.*data-wrong="\([^"]*\)".*/\1/p' "$work/$page.dom")
}
for p in 'dark 1280 0' 'dark 500 0' 'light 1280 1' 'light 500 1'; do
    read -r theme width scheme <<< "$p"
    probe "$work/p.html" "$theme" "$width" "$scheme"
    if [ "$found" != nothing ]; then
        echo "FAIL: $theme, $width pixels: ${found:-the probe did not end}"
        exit 1
    fi
done
sed 's/position: sticky/position: static/; s/prefers-color-scheme: dark/print/' "$work/p.html" > "$work/plain.html"
probe "$work/plain.html" dark 500 0
case $found in
*'dark: ground'*'first column scrolls away'*) ;;
*) echo "FAIL: a page without theme and fixed columns passes: $found" && exit 1 ;;
esac
# A number that is changed is found: the check can fail.
for what in 'data-field="time_ns.median">' 'data-field="modelled.cycles">' 'data-field="h1">' 'data-rate="'; do
    sed -E "0,/$what/s//&9/" "$work/r.dom" > "$work/wrong.dom"
    if "$check" "$work/r.json" "$work/wrong.dom" > /dev/null; then
        echo "FAIL: a wrong number passes: $what"
        exit 1
    fi
done
