#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A KVM's counters in the lab beside ours: of its shadow paging (npt=0) and --mmu shadow with the policy
# that holds for its version, and, of the default one alone, of its TDP (npt=1) and --mmu tdp. The same workloads and
# the same boot of Linux, each between its marks. Prints the tables of bench/FINDINGS.md in Markdown; a
# difference of 5% that is not listed in counters_MMU.explained is a failure.
#
# penumbra is the lab's host: on QEMU's software CPU KVM counts otherwise (bench/FINDINGS.md).
#
#   counters.sh PENUMBRA COUNTERS OUT [NAME of scripts/guests.txt, of the kernel whose KVM it is]
#   COUNTERS: the program of counters.c
# Exit: 0, 1, 77 when the guest's packages are not there.
set -uo pipefail
penumbra=$1 counters=$2 out=$3 name=${4-}
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
unset PENUMBRA_LAB_QEMU
need_lab 0 "$name"
need_guest

# The version is that of the folder of modules. What changed between the policies came with 6.4 and 6.13.
version=$(find "$host/root" -path '*/modules/[0-9]*' -prune -printf '%f\n' | head -n 1)
older() { [ "$(printf '%s\n' "$version" "$1" | sort -V | head -n 1)" = "$version" ]; }
if older 6.4; then
    policy=kvm-6.1
elif older 6.13; then
    policy=kvm-6.12
else
    policy=kvm-7.3
fi
echo "KVM of Linux $version, --mmu-opt policy=$policy"

# compare MMU CONFIGURATION NPT
compare() {
    local mmu=$1 dir=$out/$1 points
    rm -rf "$dir"
    mkdir -p "$dir"
    cp "$here/counters_$mmu.points" "$dir/points"
    cat "$here/counters_$mmu.explained" > "$dir/explained" 2> /dev/null
    mapfile -t points < <(sed '/^#/d' "$dir/points")
    "$penumbra" bench --mmu "$2" "${points[@]}" --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" -m 128M \
        --warmup 0 --repeat 1 --pin off --timeout 600 --json "$dir/ours.json" > "$dir/ours.txt" 2>&1 < /dev/null || {
        fail "penumbra bench --mmu $2 ended with code $?: $(tail -n 5 "$dir/ours.txt")"
        return
    }
    "$here/lab.sh" --guest "$host/root" --npt "$3" --out "$dir" --timeout 800 "${lab_host[@]}" --add "$penumbra:penumbra" \
        --add "$cache/vmlinuz" --add "$cache/initrd.gz" --add "$dir/points" -- "$here/counters_inside.sh" || {
        fail "the lab ended with code $?: $(tail -n 5 "$dir/log")"
        return
    }
    "$counters" "$mmu" "$dir/points" "$dir/explained" "$dir/kvm.json" "$dir/ours.json" || bad=1
}
compare shadow "shadow:policy=$policy" 0
[ -n "$name" ] || compare tdp tdp 1
exit $bad
