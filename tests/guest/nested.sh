#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A hypervisor inside: Debian's kernel loads its own kvm-amd or kvm-intel, and penumbra in it boots Debian's kernel once
# more, on two vCPUs; KVM translates by nested paging (1: NPT, EPT) or by its own shadow paging (0). Without EPT kvm-intel
# runs real mode, in which a second vCPU begins, as virtual-8086 mode with CR4.VME.
#
# Under shadow and tdp the outer guest and the inner one go the same way: instructions, console, memory at the end. So they do
# with nested=shadow.
#
#   nested.sh PENUMBRA svm|vmx 0|1 [--merged] [OPTION...]
#
# --merged: with nested=shadow, too. Without nested paging that option changes nothing.
# Options of scripts/guest.sh name another kernel for both. Such a one is not compared: newer kernels look at accessed bits that
# they cleared without a flush (README.md).
#
# Exit: 0, 1 with what is wrong, 77 when the guest's packages are not there (skipped).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1 by=$2 nested=$3
shift 3
case $by in
    svm) cpu=max,vendor=amd,+svm module=kvm-amd parameter=npt ;;
    vmx) cpu=max,vendor=intel,+vmx module=kvm-intel parameter=ept ;;
esac
inner_cpus=2 merged=
[ "${1-}" != --merged ] || { merged=1 && shift; }
. "$here/../lib.sh"
. "$here/inner.sh"
need_guest "$@"
work_folder

make_outer $module

# counter FILE NAME: a counter of that run.
counter() {
    grep -o "\"$2\": *[0-9]*" "$1" | grep -o '[0-9]*$' | head -n 1
}

word=N
[ "$nested" = 1 ] && word=Y
# boot NAME MMU [OPTION...]: its files are $work/NAME.*
boot() {
    local rc=0 name=$1
    "$penumbra" run --mmu "${@:2}" --cpu $cpu -m 1G -c 2 --timeout 500 --kernel "$cache/vmlinuz" --initrd "$outer.gz" \
        --append "console=ttyS0 panic=-1 quiet lab=$parameter=$nested inner=$inner_cpus" --stats "$work/$name.stats" --ram-digest \
        < /dev/null > "$work/serial" 2> "$work/err" || rc=$?
    tr -d '\r' < "$work/serial" > "$work/$name.said"
    [ $rc -eq 0 ] || fail "$name: exit code $rc: $(cat "$work/err")"
    [ $by = svm ] || grep -q '^OUTER APICV Y$' "$work/$name.said" || fail "$name: kvm-intel has no APICv"
    for line in "OUTER NESTED $word" "INNER UP $inner_cpus" "INNER DOWN" "OUTER CODE 0"; do
        grep -q "^$line\$" "$work/$name.said" || fail "$name: it did not say: $line"
    done
    entries_of "$work/$name.stats"
    [ $by = svm ] || [ "$(counter "$work/$name.stats" virtual_interrupts)" -gt 100 ] || fail "$name: hardly a virtual interrupt"
    [ $bad -eq 0 ] || tail -n 40 "$work/$name.said"
    grep -E '"(guest_insns|guest_ns|ram_digest)":' "$work/$name.stats" > "$work/$name.same"
}
# like NAME: that run went the same way as tdp's.
like() {
    [ "$(wc -l < "$work/tdp.same")" -eq 3 ] && diff "$work/$1.same" "$work/tdp.same" || fail "$1 and tdp went different ways"
    cmp "$work/$1.said" "$work/tdp.said" || fail "$1 and tdp print different bytes"
}
boot tdp tdp
boot shadow shadow
[ $# -gt 0 ] || like shadow
[ -n "$merged" ] || exit $bad
boot merged tdp --mmu-opt nested=shadow
[ "$nested" = 0 ] || [ "$(counter "$work/merged.stats" merged_leaves)" -gt 100 ] || fail "merged: hardly a merged leaf"
[ $# -gt 0 ] || like merged
exit $bad
