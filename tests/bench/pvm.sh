#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# bench/pvm, small: a table of six rows whose ratios are those of its own figures, from runs
# in which both MMUs execute the same instructions.
#
#   pvm.sh PENUMBRA PN-LINUX [GUEST-OPTION]...
# Exit: 0, 1 with what is wrong, 77 when the guest's packages are not there (skipped).
set -uo pipefail
penumbra=$1 program=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
. "$here/lib.sh"
work_folder
need_guest "$@" --add "$program"
"$here/../../bench/pvm" --penumbra "$penumbra" --guest "$cache" --quick --json "$work/r.json" \
    > "$work/table" 2> "$work/err" || fail "exit code $?: $(cat "$work/err")"
cat "$work/table"
[ "$(wc -l < "$work/table")" -eq 8 ] || fail "not a head and six rows"
[ "$(grep -cE '^\|( [^|]+ \|){8}$' "$work/table")" -eq 7 ] || fail "a row has other than 8 cells"
for row in fork exec sh "page fault" "protection fault" mmap; do
    grep -q "^| $row | " "$work/table" || fail "no row $row"
done
# shadow / tdp, EPT / shadow and their ratio, within what the digits shown allow.
awk -F'|' 'NR > 2 {
    if ($3 <= 0 || $5 / ($4 / $3) < 0.9 || $5 / ($4 / $3) > 1.1 || $8 / ($7 / $6) < 0.99 ||
        $8 / ($7 / $6) > 1.01 || $9 / ($5 / $8) < 0.95 || $9 / ($5 / $8) > 1.05) {
        print "FAIL: not its own ratios: " $0
        exit 1
    }
}' "$work/table" || bad=1
[ "$(value "$work/r.json" workload | wc -l)" -eq 18 ] || fail "not 18 results"
value "$work/r.json" guest_insns | paste - - | awk '$1 != $2 { exit 1 }' ||
    fail "the MMUs ran other instructions: $(value "$work/r.json" guest_insns)"
[ "$(value "$work/r.json" insns)" = "$(value "$work/r.json" guest_insns)" ] ||
    fail "the guest runs other instructions with a model"
# Wrong arguments are a line.
"$here/../../bench/pvm" --penumbra "$penumbra" --guest /nosuch > "$work/table" 2> "$work/err" &&
    fail "no guest, and no failure"
[ "$(wc -l < "$work/err")" -eq 1 ] && [ ! -s "$work/table" ] || fail "no guest: $(cat "$work/err")"
exit $bad
