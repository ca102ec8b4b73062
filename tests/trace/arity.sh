#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# An emit with the fields that events.inc gives the event compiles; with one more, one less, or
# for an event that there is not, it does not.
#
#   arity.sh COMPILER INCLUDE-FOLDER
set -euo pipefail
try() {
    printf '#include "penumbra/events.h"\nvoid f(struct pn_ring *r) { %s }\n' "$1" |
        "$cc" -std=gnu11 -D_GNU_SOURCE -fsyntax-only -I "$include" -x c - 2> /dev/null
}
cc=$1 include=$2
bad=0
for emit in 'pn_emit(r, invlpg, 1, 2);' 'pn_emit(r, nmi);'; do
    try "$emit" || { echo "FAIL: does not compile: $emit"; bad=1; }
done
for emit in 'pn_emit(r, invlpg, 1);' 'pn_emit(r, invlpg, 1, 2, 3);' 'pn_emit(r, nmi, 1);' 'pn_emit(r, none, 1);'; do
    ! try "$emit" || { echo "FAIL: compiles: $emit"; bad=1; }
done
exit $bad
