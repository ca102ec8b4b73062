#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# KVM's dirty trackers, snapshots and moves in one lab (inside_dirty.sh), for ctest. On a host with nothing else to
# do it takes 7 to 13 minutes.
#
#   dirty.sh --penumbra P --npt N --out DIR [--kvm NAME] [--part trackers|linux|jobs]
# NAME: the guest of scripts/guests.txt whose kernel's KVM it is. Exit: 0, 1, 77 when something is not there.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
penumbra='' npt='' out='' kvm='' part='trackers linux jobs'
while [ $# -gt 0 ]; do
    case $1 in
    --penumbra) penumbra=$2 ;;
    --npt) npt=$2 ;;
    --out) out=$2 ;;
    --kvm) kvm=$2 ;;
    --part) part=$2 ;;
    *) echo "dirty.sh: unknown option $1"; exit 1 ;;
    esac
    shift 2
done
need_lab "$npt" "$kvm"
need_guest
rm -rf "$out"
mkdir -p "$out"
work_folder
"$here/../guest/jobs_image.sh" "$cache/initrd.gz" 1 "$work/jobs" > "$work/log" 2>&1 ||
    skip "tests/guest/jobs_image.sh: $(tail -n 1 "$work/log")"
echo "$part" > "$work/part"
rc=0
"$here/lab.sh" --guest "$host/root" --npt "$npt" --out "$out" --timeout 3000 "${lab_host[@]}" --add "$penumbra:penumbra" \
    --add "$cache/vmlinuz" --add "$cache/initrd.gz" --add "$work/jobs.gz" --add "$work/jobs.want" --add "$work/part" \
    -- "$here/inside_dirty.sh" || rc=$?
cat "$out/progress" 2> /dev/null
[ $rc -eq 0 ] || fail "the lab: exit code $rc: $(tail -n 2 "$out/log" 2> /dev/null)"
[ "$part" = jobs ] && exit $bad
least=60 # harvests that all parts have; one alone has fewer
case $part in trackers | linux) least=20 ;; esac
[ "$(grep -h '"missed": ' "$out"/*.json | grep -c ': 0\b')" -ge $least ] || fail "too few harvests were compared"
! grep -h '"missed": ' "$out"/*.json | grep -v ': 0\b' || fail "pages were missed"
exit $bad
