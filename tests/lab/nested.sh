#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A guest of KVM's that is a hypervisor itself, in the lab on our own CPU (inside_nested.sh): small ones and Linux, saved,
# restored, handed over and moved while their guests run, for ctest.
#
#   nested.sh --penumbra P --by svm|vmx --out DIR [--kvm NAME] [--parts "small linux"] [--npt 0]
# NAME: the guest of scripts/guests.txt whose KVM it is. The small one is svm's, and needs npt=1. Exit: 0, 1, 77 when something is not there.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
. "$here/../guest/inner.sh"
penumbra='' by='' out='' kvm='' parts='small linux' npt=1
while [ $# -gt 0 ]; do
    case $1 in
    --penumbra) penumbra=$2 ;;
    --by) by=$2 ;;
    --out) out=$2 ;;
    --kvm) kvm=$2 ;;
    --parts) parts=$2 ;;
    --npt) npt=$2 ;;
    *) echo "nested.sh: unknown option $1"; exit 1 ;;
    esac
    shift 2
done
vendor=() module=kvm-amd
[ "$by" = svm ] || { vendor=(--vendor intel) module=kvm-intel; }
unset PENUMBRA_LAB_QEMU # QEMU's SVM does not carry a KVM that is one's guest
need_lab "$npt" $kvm
rm -rf "$out"
mkdir -p "$out"
work_folder
make_outer $module
echo "$by $parts" > "$work/by"
"$here/lab.sh" --guest "$host/root" --npt "$npt" --mem 2500 --timeout 1000 --out "$out" "${lab_host[@]}" "${vendor[@]}" --add "$penumbra" \
    --add "$host/vmlinuz" --add "$outer.gz" --add "$work/by" -- "$here/inside_nested.sh" ||
    fail "exit code $? (console: $out/console): $(grep FAIL "$out/log" || tail -n 5 "$out/log" 2> /dev/null)"
exit $bad
