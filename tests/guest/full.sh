#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The host's disk is full: the guest's writes are errors, and what it wrote before is there; with `pause` the guest stands until there is
# room, and hears of nothing.
#
#   full.sh PENUMBRA
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
if [ -z "${PENUMBRA_FULL-}" ]; then # a file system of its own
    as=(--map-root-user)
    [ "$(id -u)" -ne 0 ] || as=()
    unshare "${as[@]}" --mount true 2> /dev/null || skip "no mount namespaces here"
    PENUMBRA_FULL=1 exec unshare "${as[@]}" --mount "$0" "$@"
fi
penumbra=$1
need_guest --drivers
work_folder
mkdir "$work/small" || exit 1
initrd_with_drivers "$work/initrd" "$cache" "$here/full.guest"
mount -t tmpfs -o size=16m none "$work/small" || skip "no tmpfs"
pid=
trap 'kill $pid 2> /dev/null; umount "$work/small"; rm -rf "$work"' EXIT

begin() { # OPTION-OF-DISK ARG...
    local option=$1
    shift
    umount "$work/small"
    mount -t tmpfs -o size=16m none "$work/small" || fail "no tmpfs"
    truncate -s 16M "$work/small/disk"
    head -c 12M /dev/zero > "$work/small/other"
    "$penumbra" run -m 192M --timeout 300 --kernel "$cache/vmlinuz" --initrd "$work/initrd" --disk "$work/small/disk$option" \
        --append "console=ttyS0 panic=-1 quiet pn.script" "$@" < /dev/null > "$work/out" 2> "$work/err" &
    pid=$!
}
ended() { # WHAT WORD
    wait $pid || fail "$1: exit code $?: $(cat "$work/err")"
    grep -q "^$2" "$work/out" && grep -q '^GUEST-SAME' "$work/out" || fail "$1: not $2 and the same: $(tail -n 4 "$work/out")"
}
for clock in virtual host; do
    begin '' --clock $clock
    ended "errors, --clock $clock" GUEST-ERROR
    rm -f "$work/mon"
    begin ,pause --clock $clock --monitor "$work/mon"
    until grep -q 'has no room' "$work/err"; do kill -0 $pid 2> /dev/null || break; sleep 0.05; done
    printf 'info status\nsnapshot save %s\n' "$work/snap" | "$penumbra" monitor "$work/mon" > "$work/said"
    grep -q paused "$work/said" && grep -q 'has room' "$work/said" && [ ! -e "$work/snap" ] || fail "it does not stand: $(cat "$work/said")"
    rm "$work/small/other"
    echo cont | "$penumbra" monitor "$work/mon" > /dev/null
    ended "pause, --clock $clock" GUEST-WROTE
done
rc=0
"$penumbra" run --disk "$work/small/disk,pause" < /dev/null > /dev/null 2> "$work/err" || rc=$?
[ $rc -eq 2 ] && grep -q 'needs --monitor' "$work/err" || fail "pause without a monitor: exit code $rc: $(cat "$work/err")"
exit $bad
