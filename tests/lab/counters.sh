#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# KVM's counters under npt=0, in the lab, beside those of --mmu shadow here: the same workloads,
# each between its marks. Prints the table of bench/FINDINGS.md in Markdown; a difference of 5%
# that counters.explained does not list is a failure.
#
#   counters.sh PENUMBRA COUNTERS OUT      COUNTERS: the program of counters.c
# Exit: 0, 1, 77 when QEMU or the guest's packages are not there.
set -uo pipefail
penumbra=$1 counters=$2 out=$3
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
need_qemu
need_guest
rm -rf "$out"
mkdir -p "$out"
mapfile -t points < <(sed '/^#/d' "$here/counters.points")
"$penumbra" bench --mmu shadow "${points[@]}" -m 128M --warmup 0 --repeat 1 --pin off \
    --json "$out/shadow.json" > "$out/shadow.txt" 2>&1 < /dev/null || {
    echo "FAIL: penumbra bench --mmu shadow ended with code $?"
    tail -n 5 "$out/shadow.txt"
    exit 1
}
"$here/lab.sh" --guest "$cache/root" --npt 0 --out "$out" --timeout 800 \
    --add "$penumbra:penumbra" --add "$here/counters.points" -- "$here/counters_inside.sh" || {
    echo "FAIL: the lab ended with code $?"
    tail -n 5 "$out/log"
    exit 1
}
exec "$counters" "$here/counters.points" "$here/counters.explained" "$out/kvm.json" "$out/shadow.json"
