#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Boots with eight vCPUs that are threads, one after another, under shadow and tdp: each comes to its end.
#
#   parallel.sh PENUMBRA [BOOTS]
. "$(dirname "$0")/../cli/lib.sh"
boots=${2-30}
need_guest
for i in $(seq "$boots"); do
    mmu=$([ $((i % 2)) = 1 ] && echo shadow || echo tdp)
    run run --mmu "$mmu" --clock host --parallel -c 8 -m 512M --timeout 110 --kernel "$cache/vmlinuz" \
        --initrd "$cache/initrd.gz" --append "console=ttyS0 panic=-1 pn.script"
    [ $rc -eq 0 ] || fail "boot $i, $mmu: exit code $rc: $(tail -n 3 "$work/err")"
    grep -q GUEST-DONE "$work/out" || fail "boot $i, $mmu: the script did not finish: $(tail -n 3 "$work/out")"
done
echo "$boots boots"
exit $bad
