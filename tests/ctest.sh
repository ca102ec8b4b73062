#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# ctest for make test and CI: on a host that has no /dev/kvm without the tests of the label
# host-kvm, and then the first and the last line say so. Where /dev/kvm is there, they run;
# one that cannot use it skips itself with its reason, and CI fails.
#
#   tests/ctest.sh PRESET [ARGUMENT-OF-CTEST...]
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
preset=$1
shift
[ ! -e /dev/kvm ] || exec ctest --preset "$preset" "$@"

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
[ "$count" != 0 ] || exec ctest --preset "$preset" "${args[@]}"
note="tests: this host has no /dev/kvm: $count tests of it (label host-kvm) are left out;"
note+=" the lab (label lab) runs the KVM engine under QEMU all the same"
echo "$note"
rc=0
ctest --preset "$preset" "${args[@]}" -LE "$exclude" || rc=$?
echo "$note"
exit $rc
