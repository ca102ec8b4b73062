#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The power goes: penumbra is killed while a guest writes to ext4, with one vCPU, and with four that are threads. What the guest had flushed is there at the next boot, and
# e2fsck finds nothing once the journal has been played back.
#
#   flush.sh PENUMBRA ROUNDS [SEED]
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1 rounds=$2
. "$here/../lib.sh"
command -v mkfs.ext4 e2fsck > /dev/null || skip "no e2fsprogs"
need_guest --drivers
work_folder
initrd_with_drivers "$work/initrd" "$cache" "$here/flush.guest"
mkfs.ext4 -q -J size=4 "$work/disk" 32M || exit 1

want=(0 0 0 0) RANDOM=${3:-7}
hows=("--mmu shadow --clock host" "--mmu shadow --clock host --parallel -c 4" "--mmu tdp" "--mmu tdp --clock host --parallel -c 4" "--mmu shadow"
    "--mmu tdp --clock host")
for ((round = 0; round < rounds && bad == 0; round++)); do
    how=${hows[round % ${#hows[@]}]} writers=1
    [[ $how != *-c* ]] || writers=4
    until=$((want[0] + 5 + RANDOM % 60))
    : > "$work/out"
    "$penumbra" run -m 128M --timeout 900 $how --kernel "$cache/vmlinuz" --initrd "$work/initrd" --disk "$work/disk" \
        --append "console=ttyS0 panic=-1 quiet pn.script pn.want=$(IFS=,; echo "${want[*]:0:writers}")" < /dev/null > "$work/out" 2> "$work/err" &
    pid=$!
    until grep -q "^flushed 0 $until" "$work/out" || ! kill -0 $pid 2> /dev/null; do sleep 0.02; done
    kill -KILL $pid 2> /dev/null || fail "round $round: it ended: $(tail -n 2 "$work/out" "$work/err")"
    wait $pid 2> /dev/null
    for ((i = 0; i < writers; i++)); do
        last=$(sed -n "s/^flushed $i \([0-9]*\)\r*\$/\1/p" "$work/out" | tail -n 1)
        want[i]=${last:-${want[i]}}
    done
    cp --sparse=always "$work/disk" "$work/copy"
    e2fsck -E journal_only -p "$work/copy" > "$work/fsck" 2>&1
    e2fsck -fn "$work/copy" >> "$work/fsck" 2>&1 || fail "round $round: e2fsck: $(cat "$work/fsck")"
done
echo "$round rounds, ${want[*]} records of 4 writers were flushed"
exit $bad
