#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# penumbra run --firmware: Debian's SeaBIOS boots a disk of ours, which finds the shadow RAM and the ROM as read-only as they
# are to be; the same bytes and digests twice, and under either MMU of ours. A file that is no firmware is refused. A snapshot
# goes on in the firmware that it was made in.
#
#   firmware.sh PENUMBRA DISK [MMU...]    DISK: of boot_sector.S. MMUs other than shadow and tdp: what the guest says is compared
. "$(dirname "$0")/lib.sh"
disk=$2 bios=/usr/share/seabios/bios-256k.bin
[ -r $bios ] || skip "no $bios: apt-get install seabios"
mmus=("${@:3}")
[ ${#mmus[@]} -gt 0 ] || mmus=(shadow tdp)

# boots MMU NAME: into $work/NAME.out and .json
boots() {
    run run --mmu "$1" --firmware $bios -m 32M --disk "$disk,ro" --timeout 100 --stats "$work/$2.json" "${@:3}"
    [ "$rc" -eq 0 ] || fail "$1: exit code $rc: $(tail -n 3 "$work/out" "$work/err")"
    cp "$work/out" "$work/$2.out"
    tr -d '\r' < "$work/out" | sed -n '/^Booting from Hard Disk/,$p' > "$work/said"
    diff -u "$work/said" - << 'EOF' || fail "$1: the guest says otherwise"
Booting from Hard Disk...
from the second sector
kept
kept
a jump
EOF
}
for mmu in "${mmus[@]}"; do
    case $mmu in
    shadow | tdp) boots "$mmu" "$mmu" -c 2 --ram-digest --event-digest ;;
    kvm) need_kvm && boots kvm kvm ;;
    esac
done
[ ${#mmus[@]} -gt 1 ] || exit $bad
boots shadow again -c 2 --ram-digest --event-digest
python3 - "$work" <<'EOF' || fail "digests"
import json, sys
shadow, again, tdp = (json.load(open(f"{sys.argv[1]}/{n}.json")) for n in ("shadow", "again", "tdp"))
assert shadow["ram_digest"] == again["ram_digest"] and shadow["events"]["digest"] == again["events"]["digest"]
assert shadow["ram_digest"] == tdp["ram_digest"] and shadow["guest_insns"] == tdp["guest_insns"]
assert shadow["config"]["kernel"] == "none" and shadow["config"]["firmware"], shadow["config"]
EOF
cmp -s "$work/shadow.out" "$work/tdp.out" || fail "shadow and tdp print different bytes"

# What it writes for who debugs it; and without a disk it says so.
run run --firmware $bios -m 32M --firmware-log "$work/log"
[ "$rc" -eq 0 ] && grep -q 'No bootable device' "$work/out" || fail "no disk: exit code $rc: $(cat "$work/out" "$work/err")"
grep -q 'Running on QEMU (i440fx)' "$work/log" || fail "its log: $(head -n 5 "$work/log")"

# No firmware.
refuse() { # WORDS ARGUMENT...
    refused 2 run "${@:2}"
    grep -qF -- "$1" "$work/err" || fail "${*:2}: not '$1' but $(cat "$work/err")"
}
truncate -s 64K "$work/zeros" && truncate -s 65537 "$work/odd" && truncate -s 4K "$work/short" && truncate -s 16M "$work/large"
refuse 'no jump 16 bytes before its end' --firmware "$work/zeros"
refuse 'not a multiple of 4K' --firmware "$work/odd"
refuse 'not a multiple of 4K' --firmware "$work/short"
refuse 'larger than' --firmware "$work/large"
refused 1 run --firmware "$work/none"
refuse 'does not go with --kernel' --firmware $bios --kernel "$work/zeros"
refuse 'does not go with --append' --firmware $bios --append quiet
refuse '--dirty-log wp: not with --firmware' --firmware $bios --dirty-log wp

# A snapshot; the loader on this disk waits for ever.
cp $bios "$work/bios"
printf '\xeb\xfe' > "$work/waits" && truncate -s 1M "$work/waits"
printf '\x55\xaa' | dd of="$work/waits" bs=1 seek=510 conv=notrunc status=none
"$penumbra" run --firmware "$work/bios" -m 32M --disk "$work/waits" --monitor "$work/mon" > "$work/out" 2> "$work/err" < /dev/null &
pid=$!
until grep -q 'Booting from Hard Disk' "$work/out"; do kill -0 $pid 2> /dev/null || break; read -rt 0.05 _ <> <(:); done
printf 'snapshot save %s\nquit\n' "$work/snap" | "$penumbra" monitor "$work/mon" > "$work/said"
wait $pid
run run --restore "$work/snap" --mmu tdp --timeout 1
[ "$rc" -eq 4 ] || fail "a snapshot does not go on: exit code $rc: $(cat "$work/err" "$work/said")"
printf x | dd of="$work/bios" bs=1 seek=100 conv=notrunc status=none
refused 2 run --restore "$work/snap"
grep -q 'the firmware .* is not what it was' "$work/err" || fail "other firmware: $(cat "$work/err")"
exit $bad
