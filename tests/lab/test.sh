#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# One lab and its verdict, for ctest; --both compares two that have run.
#
#   test.sh --penumbra P --npt N --out DIR [--add FILE]...
#   test.sh --both DIR1 DIR0
# Exit: 0, 1, 77 when QEMU or the guest's packages are not there.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"

if [ "${1-}" = --both ]; then
    [ -f "$2/code" ] && [ -f "$3/code" ] || skip "the labs did not run"
    exec "$here/check.sh" both "$2" "$3"
fi
penumbra='' npt='' out='' add=()
while [ $# -gt 0 ]; do
    case $1 in
    --penumbra) penumbra=$2 ;;
    --npt) npt=$2 ;;
    --out) out=$2 ;;
    --add) add+=(--add "$2") ;;
    *) echo "test.sh: unknown option $1"; exit 1 ;;
    esac
    shift 2
done
need_qemu
need_guest
rm -rf "$out"
mkdir -p "$out"
# One CPU: with two on a busy host, one waits for the other's locks while that one does not run.
"$here/lab.sh" --guest "$cache/root" --npt "$npt" --out "$out" --timeout 900 \
    --add "$penumbra:penumbra" --add "$cache/vmlinuz" --add "$cache/initrd.gz" --add "$here/inside_events.sh" \
    "${add[@]}" -- "$here/inside.sh"
rc=$?
cat "$out/progress" 2>/dev/null
[ $rc -ne 99 ] || exit 1
"$here/check.sh" npt "$npt" "$out" && [ $rc -eq 0 ]
