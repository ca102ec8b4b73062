#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The page of penumbra faults --html in a browser: its numbers are those of --json, rows, frames and
# cuts filter, and the commands that it shows find as many faults.
#
#   page.sh PENUMBRA
. "$(dirname "$0")/lib.sh"
here=$(cd "$(dirname "$0")" && pwd)
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || skip "no chromium here"

# probe PROBE: the page $work/p.html, with $work/p.json and the probe behind it; what it finds in $wrong.
probe() {
    ! grep -qE '(src|href)="?(https?:)?//' "$work/p.html" || fail "$about: the page loads something from elsewhere"
    {
        cat "$work/p.html"
        printf '<script>const study = %s;\n' "$(cat "$work/p.json")"
        cat "$here/$1"
        echo '</script>'
    } > "$work/probe.html"
    timeout 100 "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking \
        --disable-component-update --disable-sync --disable-default-apps --no-first-run --window-size=1280,1000 \
        --user-data-dir="$work/profile" --dump-dom "file://$work/probe.html" > "$work/dom" 2> "$work/browser" < /dev/null ||
        fail "$about: the browser ended with $?: $(tail -n 3 "$work/browser")"
    wrong=$(sed -n 's/.*<body[^>]* data-wrong="\([^"]*\)".*/\1/p' "$work/dom")
    [ "$wrong" = nothing ] || fail "$about: ${wrong:-the probe did not end}"
}
# probed [ARG...]: the page of $work/t's faults; what the probe says besides in $commands, $took.
probed() {
    run faults "$work/t" --html "$work/p.html" --json "$work/p.json" "$@"
    [ "$rc" -eq 0 ] || fail "$about: exit code $rc: $(cat "$work/err")"
    probe page_probe.js
    commands=$(sed -n 's/.*<body[^>]* data-commands="\([^"]*\)".*/\1/p' "$work/dom")
    took=$(sed -n 's/.*<body[^>]* data-took="\([^"]*\)".*/\1/p' "$work/dom")
}

for mmu in shadow tdp; do
    about="the embedded guest under $mmu"
    run run --mmu $mmu --append "pages=64 swaps=50 flips=20 switches=20 compute=1000" --trace "$work/t"
    probed
    # The command for what was cut out finds what the page has.
    want=${commands##*=}
    read -ra words <<< "${commands%=*}"
    run "${words[@]:1}"
    [ "$rc" -eq 0 ] && [ "$(sed -n '1s/^\([0-9,]*\) faults in .*/\1/p' "$work/out" | tr -d ,)" = "$want" ] ||
        fail "$about: '$commands' found $(head -n 1 "$work/out")"
done

about="the page of a replay"
run run --mmu shadow --append "pages=64 swaps=20 flips=20" --record "$work/rec"
for mmus in shadow:page_budget=64/128/256,shadow:page_budget=64/128/256+prefetch=0 shadow:policy=kvm-7.3/xen-1/agile,tdp shadow; do
    run replay "$work/rec" --mmu $mmus --html "$work/p.html" --json "$work/p.json"
    [ "$rc" -eq 0 ] || fail "$about: exit code $rc: $(cat "$work/err")"
    probe replay_probe.js
done

for log in wp:page_fault,fault_outcome accessed:page_accessed; do
    about="the page of dirty-rate, ${log%%:*}"
    run run --dirty-log "${log%%:*}" --dirty-every 2 --append "pages=64 swaps=50 flips=20 compute=10000000" --trace "$work/d" \
        --trace-events "dirty_harvest,${log#*:}"
    run dirty-rate "$work/d" --html "$work/p.html" --json "$work/p.json"
    [ "$rc" -eq 0 ] || fail "$about: exit code $rc: $(cat "$work/err")"
    probe dirty_probe.js
done

about="names that are hostile"
printf '0000000000100000 T </script><b>&"x\n' > "$work/map"
run faults "$work/t" --symbols "$work/map" --html "$work/h.html"
[ "$rc" -eq 0 ] && [ "$(grep -o '</script>' "$work/h.html" | wc -l)" -eq 2 ] || fail "$about: a name ends the script"
run faults "$work/t" --vcpu 7 --html "$work/h.html"
[ "$rc" -eq 0 ] && grep -q '"faults": 0, ' "$work/h.html" || fail "no faults: exit code $rc"
refused 2 faults "$work/t" --html "$work/t"
run faults "$work/t" --html /dev/full
[ "$rc" -eq 1 ] && grep -q 'cannot write /dev/full: No space' "$work/err" || fail "a full disk: exit code $rc: $(cat "$work/err")"
exit $bad
