#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# penumbra bench debian.*: programs of a Debian guest do the same under both MMUs, and their page says who wins and why.
#
#   debian.sh PENUMBRA    makes the disk where there is none (make debian-disk)
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1
. "$here/../lib.sh"
. "$here/lib.sh"
work_folder
disk=$("$here/../../scripts/bench_image.sh" 2> "$work/err") || skip "no disk: $(tail -n 1 "$work/err")"
# Each of the list, small; one for which the disk has no program.
timeout 1500 "$penumbra" bench debian --quick --mmu shadow,tdp --tlb off --repeat 1 --warmup 0 --timeout 600 --disk "$disk" --json "$work/all.json" \
    < /dev/null > "$work/out" 2> "$work/err" || fail "exit code $?: $(cat "$work/err")"
[ "$(value "$work/all.json" checksum | sort -u | wc -l)" = "$(grep -c '^DEBIAN' "$here/../../bench/debian/debian.inc")" ] || fail "results: $(cat "$work/out")"
# With a model: a sentence for each.
timeout 1500 "$penumbra" bench debian.sqlite debian.gcc --quick --mmu shadow,tdp --repeat 1 --warmup 0 --timeout 600 --disk "$disk" --json "$work/two.json" \
    --html "$work/two.html" < /dev/null > "$work/out" 2> "$work/err" || fail "two: exit code $?: $(cat "$work/err")"
for one in sqlite gcc; do
    grep -qE "\"debian.$one: (shadow|tdp) wins, (shadow|tdp) takes [0-9.]+ times as many cycles, because (shadow|tdp) pays more for [^\"]*\\.\"" \
        "$work/two.html" || fail "$one: no sentence on the page"
done
grep -q '"disk": {' "$work/two.json" || fail "the result does not name its disk"
exit $bad
