#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The embedded guest's workloads on a real KVM in the lab (tests/lab/lab.sh), with TDP and
# with KVM's own shadow paging: same operations and checksums as under shadow here.
#
#   lab.sh PENUMBRA
# Exit: 0, 1 with what is wrong, 77 when there is no lab here (skipped).
set -uo pipefail
penumbra=$1
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
need_lab 1
need_lab 0
work_folder

# Hypervisors are left out: the lab's KVM has no SVM for its guests.
grep -v '^nested' "$here/cases.txt" > "$work/cases.txt"
while read -r c; do
    "$penumbra" run --mmu shadow -m 64M --append "workload=$c" < /dev/null 2> /dev/null |
        grep '^workload: end '
done < "$work/cases.txt" > "$work/want"
[ "$(wc -l < "$work/want")" -eq "$(wc -l < "$work/cases.txt")" ] || {
    echo "FAIL: not every workload ends under shadow here"
    exit 1
}

cat > "$work/script" << 'SCRIPT'
while read -r c; do
    ./penumbra run --mmu kvm -m 64M --append "workload=$c" < /dev/null 2> err > log || {
        echo "code $?: $c"
        cat log err
    }
    grep '^workload: end ' log
done < cases.txt > /lab/out/ends
SCRIPT
for npt in 1 0; do
    "$here/../lab/lab.sh" --guest "$host/root" --npt $npt --out "$work/npt$npt" --timeout 600 "${lab_host[@]}" \
        --add "$penumbra" --add "$work/cases.txt" -- "$work/script" || {
        echo "FAIL: the lab ended with code $? under npt=$npt"
        bad=1
    }
    diff "$work/want" "$work/npt$npt/ends" || {
        echo "FAIL: npt=$npt is not as shadow"
        cat "$work/npt$npt/log"
        bad=1
    }
done
exit $bad
