#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# ctest for make test and CI. A test that should run and cannot is a failure here: its reason comes
# last. On a host that has no /dev/kvm the tests of the label host-kvm should not run, and on one whose
# processor is not AMD's those of host-amd: they are left out, and then the first and the last lines say so.
#
#   tests/ctest.sh PRESET [ARGUMENT-OF-CTEST...]
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
preset=$1
shift

# As ctest, and then what was skipped, with the line that each of these tests ended with.
run() {
    local rc=0 log skipped
    log=$(mktemp)
    ctest --preset "$preset" "$@" | tee "$log" || rc=$?
    skipped=$(sed -n 's/^[ \t]*[0-9]* - \([^ ]*\) (\(Skipped\|Not Run\|Disabled\)).*/\1/p' "$log")
    rm -f "$log"
    [ -n "$skipped" ] || return $rc
    echo "tests: these should run and cannot:"
    for name in $skipped; do
        echo "  $name: $(awk -v name="$name" '
            / Testing: / { on = $NF == name }
            on && !reason && tolower($0) ~ /^skipped: / { reason = substr($0, 10) }
            END { print reason ? reason : "it says no reason" }' \
            "build/$preset/Testing/Temporary/LastTest.log")"
    done
    return $((rc ? rc : 1))
}

# What this host has not, and what is left out for it: label, words.
without=()
[ -e /dev/kvm ] || without+=("host-kvm|no /dev/kvm|of it|the lab (label lab) runs the KVM engine all the same")
grep -q AuthenticAMD /proc/cpuinfo ||
    without+=("host-amd|no processor of AMD's|that compare with one|what manuals leave open is another thing on others")
[ ${#without[@]} -gt 0 ] || { run "$@"; exit; }

# ctest leaves out what several -LE all match, so they have to be one.
exclude='' args=() notes=()
while [ $# -gt 0 ]; do
    case $1 in
    -LE | --label-exclude)
        exclude+="|$2"
        shift
        ;;
    *) args+=("$1") ;;
    esac
    shift
done
for entry in "${without[@]}"; do
    IFS='|' read -r label what which why <<< "$entry"
    count=$(ctest --preset "$preset" "${args[@]}" -N -L "$label" | sed -n 's/^Total Tests: //p')
    [ "$count" != 0 ] || continue
    exclude+="|$label"
    notes+=("tests: this host has $what: $count tests $which (label $label) are left out; $why")
    echo "${notes[-1]}"
done
rc=0
run "${args[@]}" ${exclude:+-LE "${exclude#|}"} || rc=$?
[ ${#notes[@]} -eq 0 ] || printf '%s\n' "${notes[@]}"
exit $rc
