#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# One lab and its verdict, for ctest; --both compares two that have run.
#
#   test.sh --penumbra P --npt N --out DIR [--kvm NAME] [--qemu SUITE] [--add FILE]...
#   test.sh --both DIR1 DIR0
# NAME: the guest of scripts/guests.txt whose kernel's KVM it is, else the default one's; SUITE: the QEMU
# (tests/lab/qemu.sh) that hosts it, else P does. The Linux that runs on that KVM is the default one.
# Exit: 0, 1, 77 when QEMU or the guest's packages are not there.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"

if [ "${1-}" = --both ]; then
    [ -f "$2/code" ] && [ -f "$3/code" ] || skip "the labs did not run"
    exec "$here/check.sh" both "$2" "$3"
fi
penumbra='' npt='' out='' kvm='' add=()
while [ $# -gt 0 ]; do
    case $1 in
    --penumbra) penumbra=$2 ;;
    --npt) npt=$2 ;;
    --out) out=$2 ;;
    --kvm) kvm=$2 ;;
    --qemu) export PENUMBRA_LAB_QEMU=$2 ;;
    --add) add+=(--add "$2") ;;
    *) echo "test.sh: unknown option $1"; exit 1 ;;
    esac
    shift 2
done
need_lab "$npt" "$kvm"
need_guest
[ -r /usr/share/seabios/bios-256k.bin ] || skip "no SeaBIOS: apt-get install seabios"
rm -rf "$out"
mkdir -p "$out"
work_folder

# saved NAME LINE ARG..: a guest under shadow, saved when it has said LINE. It has seen a CPUID that the lab's
# KVM has, too: QEMU's processor is one of AMD's without PCIDs and IBRS.
saved() {
    local name=$1 line=$2 pid
    shift 2
    "$penumbra" run --monitor "$work/mon" --cpu x86-64-v2,vendor=amd,-pcid,-invpcid,-spec_ctrl --ram-digest \
        --stats "$out/saved-$name.json" "$@" < /dev/null > "$out/saved-$name.out" 2> "$work/err" &
    pid=$!
    until grep -q "$line" "$out/saved-$name.out"; do
        kill -0 $pid 2> /dev/null || break
        sleep 0.05
    done
    "$penumbra" snapshot save "$work/mon" "$work/saved-$name" > "$work/log" 2>&1 &&
        wait $pid || fail "$name is not saved: $(cat "$work/err" "$work/log")"
}
saved micro 'dirty bits' -m 64M --append "pages=64 swaps=50 flips=20 switches=20 compute=200000000"
saved linux 'Freeing unused kernel' -m 128M --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" \
    --append "console=ttyS0 panic=-1 pn.script"
[ $bad -eq 0 ] || exit 1
tar -C "$work" -cf "$work/snapshots.tar" saved-micro saved-linux
# One CPU: with two on a busy host, one waits for the other's locks while that one does not run.
"$here/lab.sh" --guest "$host/root" --npt "$npt" --out "$out" --timeout 1500 "${lab_host[@]}" \
    --add "$penumbra:penumbra" --add "$cache/vmlinuz" --add "$cache/initrd.gz" --add "$here/inside_events.sh" \
    --add "$work/snapshots.tar" --add /usr/share/seabios/bios-256k.bin \
    "${add[@]}" -- "$here/inside.sh"
rc=$?
cat "$out/progress" 2>/dev/null
[ $rc -ne 99 ] || exit 1
"$here/check.sh" npt "$npt" "$out" && [ $rc -eq 0 ]
