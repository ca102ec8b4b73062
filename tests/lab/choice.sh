#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Which QEMU hosts the lab (qemu.sh), by version: of this host, or unpacked; and what the container of
# another Debian (scripts/debian.sh) refuses. Nothing is downloaded and nothing starts.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
work_folder

# qemu FILE VERSION: a program that says that it is that QEMU.
qemu() {
    mkdir -p "$(dirname "$1")"
    printf '#!/bin/sh\necho "QEMU emulator version %s (Debian 1)"\n' "$2" > "$1"
    chmod +x "$1"
}
# chosen NPT SUITE: what qemu.sh prints, then its exit code.
chosen() {
    PATH=$work/bin:$PATH PENUMBRA_CACHE=$work/cache/guest PENUMBRA_LAB_QEMU=$2 "$here/qemu.sh" --npt "$1" 2> "$work/err"
    echo $?
}
# is WHAT GOT WANT
is() { [ "$2" = "$3" ] || fail "$1: $2 $(cat "$work/err")"; }

host=$work/bin/qemu-system-x86_64
qemu "$work/cache/qemu-bookworm/qemu" 7.2.22
qemu "$work/cache/qemu-trixie/qemu" 10.0.13
qemu "$host" 7.2.22
is "QEMU 7.2 here, npt=0" "$(chosen 0 installed)" "$host
0"
qemu "$host" 10.0.13
is "QEMU 10 here, npt=1" "$(chosen 1 installed)" "$host
0"
is "QEMU 10 here, npt=0" "$(chosen 0 installed)" "$work/cache/qemu-bookworm/qemu
0"
is "trixie's, npt=1" "$(chosen 1 trixie)" "$work/cache/qemu-trixie/qemu
0"
is "trixie's, npt=0" "$(chosen 0 trixie)" 1
grep -qx 'lab: npt=0 needs QEMU 7.2: the software CPU of QEMU 10 makes no exit for reads of CR3' "$work/err" ||
    fail "trixie's, npt=0: $(cat "$work/err")"
is "no suite's name" "$(chosen 1 ../x)" 1

# refuses CODE WORDS ARG...: debian.sh ends with one line.
refuses() {
    local code=$1 words=$2 rc=0
    shift 2
    "$here/../../scripts/debian.sh" "$@" > "$work/out" 2> "$work/err" || rc=$?
    [ $rc -eq "$code" ] && [ "$(wc -l < "$work/err")" -eq 1 ] && grep -q -- "$words" "$work/err" && [ ! -s "$work/out" ] ||
        fail "debian.sh $*: exit code $rc: $(cat "$work/out" "$work/err")"
}
refuses 2 'unknown option --frob: see --help' --frob
refuses 2 'the last option needs a value' --suite
refuses 2 '--suite needs the name of a suite' --suite ../x
refuses 2 '--folder has to be outside the source tree' --folder "$here/x"
[ "$(id -u)" -eq 0 ] || refuses 1 'needs root' true
exit $bad
