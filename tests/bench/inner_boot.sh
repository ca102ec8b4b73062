#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# bench/inner_boot: one turn by either vendor's virtualization gives a row for each L0, and the ratios that belong to it; bad
# arguments, a guest that does not come to its end, are one line.
#
#   inner_boot.sh PENUMBRA
# Exit: 0, 1 with what is wrong, 77 when the guest's packages are not there (skipped).
set -uo pipefail
penumbra=$1
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
work_folder
need_guest
bench=$here/../../bench/inner_boot

r='[0-9]+\.[0-9]+' of='[0-9.]+ \([0-9.]+ to [0-9.]+\)'
# rows QEMU ARG...: what the rows of merged, tdp and shadow have in QEMU's column.
rows() {
    local qemu=$1 name
    shift
    "$bench" --penumbra "$penumbra" --repeat 1 "$@" > "$work/out" 2> "$work/err" < /dev/null || fail "$*: $(cat "$work/err")"
    for name in tdp shadow "tdp, nested=shadow"; do
        grep -qE "^$name +$r  $qemu +$of\$" "$work/out" || fail "$*: no row of $name: $(cat "$work/out")"
    done
    [ "$(grep -cE "^(tdp|shadow), as L1 +$r\$" "$work/out")" -eq 2 ] || fail "$*: $(cat "$work/out")"
}
rows "$of" --by svm
[ "$(grep -cE "^QEMU +$r\$" "$work/out")" -eq 1 ] || fail "no row of QEMU's: $(cat "$work/out")"
rows - --by vmx --nested-paging 0

# refused CODE WORDS ARG...
refused() {
    local code=$1 words=$2 rc=0
    shift 2
    "$bench" "$@" > "$work/out" 2> "$work/err" < /dev/null || rc=$?
    [ $rc -eq "$code" ] && grep -q -- "$words" "$work/err" || fail "$*: exit code $rc: $(cat "$work/err")"
}
refused 2 'at least one turn' --penumbra "$penumbra" --repeat 0
refused 2 '/no/such is no program' --penumbra /no/such
printf '#!/bin/sh\nexit 3\n' > "$work/fails" && chmod +x "$work/fails"
refused 1 'inner_boot: exit code 3 from' --penumbra "$work/fails" --by vmx --repeat 1
exit $bad
