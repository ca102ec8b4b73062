#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# bench/nested, small: switches for each fault are the published formulas', under both MMUs; a hypercall
# per fault costs two exits, whatever it maps; memory that is used again needs fewer exits per touch.
#
#   nested.sh PENUMBRA
# Exit: 0, or 1 with what is wrong.
set -uo pipefail
penumbra=$1
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
work_folder
"$here/../../bench/nested" --penumbra "$penumbra" --quick > "$work/table" 2> "$work/err" ||
    fail "exit code $?: $(cat "$work/err")"
cat "$work/table"
awk -F'|' '
function near(a, b) { return a > b * 0.98 && a < b * 1.07 }
function bad(what) { print "FAIL: " what ": " $0; failed = 1 }
NF == 12 && $4 > 0 {
    first++
    if ($9 > 0 && !near($8, $9)) bad("not as published")
    if ($11 > 0 && !near($10, $11)) bad("not as published, direct")
    if ($3 ~ /hypercall/ && !near($5, 2)) bad("not two exits")
    if ($3 ~ /npt/ && !near($5, 1)) bad("not one exit")
}
NF == 9 && $4 > 0 {
    second++
    if ($4 == 1) once[$2, $3] = $5
    else if ($5 > once[$2, $3] / 2) bad("as many exits when used again")
    if ($6 < 4 || $6 > 124) bad("references")
}
END { exit failed || first != 36 || second != 18 }' "$work/table" || fail "not the table that it should be"
"$here/../../bench/nested" --penumbra /nosuch > "$work/table" 2> "$work/err" && fail "no program, and no failure"
[ "$(wc -l < "$work/err")" -eq 1 ] && [ ! -s "$work/table" ] || fail "no program: $(cat "$work/err")"
# Faults are told apart by world: L2 has its own, one for each page at least.
"$penumbra" run --quiet -m 64M --cpu max,vendor=amd,+svm --append "workload=nested pages=64 way=shadow" \
    --trace "$work/trace" < /dev/null > "$work/out" 2> "$work/err" || fail "traced: $(cat "$work/err")"
"$penumbra" faults "$work/trace" --by world > "$work/out" || fail "faults by world"
grep -Eq ' own$' "$work/out" || fail "no faults of the guest's own: $(cat "$work/out")"
inner=$(sed -n 's/^ *\([0-9,]*\) .* 0x[0-9a-f]*000$/\1/p' "$work/out" | tr -d ,)
[ "${inner:-0}" -ge 64 ] || fail "${inner:-no} faults of the second guest: $(cat "$work/out")"
# Where there is no SVM the guest says what to do.
"$penumbra" run --quiet -m 64M --append "workload=nested" < /dev/null > "$work/out" 2> /dev/null
[ $? -eq 39 ] || fail "no SVM: another exit code"
grep -q "error: no SVM here: .*--cpu max,vendor=amd,+svm" "$work/out" || fail "no SVM: $(cat "$work/out")"
exit $bad
