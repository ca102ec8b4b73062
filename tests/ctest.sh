#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# ctest for make test and CI. A test that should run and cannot is a failure here: its reason comes
# last. On a host that has no /dev/kvm the tests of the label host-kvm should not run: they are left
# out, and then the first and the last line say so.
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

if [ -e /dev/kvm ]; then
    run "$@"
    exit
fi

# ctest leaves out what several -LE all match, so they have to be one.
exclude=host-kvm args=()
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
count=$(ctest --preset "$preset" "${args[@]}" -N -L host-kvm | sed -n 's/^Total Tests: //p')
if [ "$count" = 0 ]; then
    run "${args[@]}"
    exit
fi
note="tests: this host has no /dev/kvm: $count tests of it (label host-kvm) are left out;"
note+=" the lab (label lab) runs the KVM engine under QEMU all the same"
echo "$note"
rc=0
run "${args[@]}" -LE "$exclude" || rc=$?
echo "$note"
exit $rc
