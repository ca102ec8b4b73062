#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# Inside the lab, from inside.sh: KVM's tracepoints in the event file, as many as KVM counts for
# itself; then tracefs taken away. Ends with 1 when something is wrong, and says what.
cd /lab || exit 99
bad=0
fail() {
    echo "FAIL: $*"
    bad=1
}
npt=$(cat /sys/module/kvm_amd/parameters/npt)
small="pages=200 swaps=200 flips=100 switches=50 compute=1000"

# The number of that name; of KVM's own counters when there are two.
value() { sed -n "s/^ *\"$2\": \([0-9]*\).*/\1/p" "$1" | tail -n 1; }
events() { awk -v e="$1" '$2 == e { n = $1 } END { print n + 0 }' out/count; }
same() { [ "$2" -gt 0 ] && [ "$2" = "$3" ] || fail "$1: $2 events, KVM counted $3"; }

./penumbra run --mmu kvm -m 64M --timeout 200 --append "$small" --trace /tmp/kvm.tr \
    --stats out/kvm.json < /dev/null > out/kvm.out 2> out/kvm.err || fail "traced run: $(cat out/kvm.err)"
grep -q 'done, checksum' out/kvm.out || fail "the guest did not end"
grep -q "no events" out/kvm.err && fail "no events: $(cat out/kvm.err)"
./penumbra trace --count /tmp/kvm.tr > out/count || fail "the event file cannot be read"
cat out/count
same kvm_exit "$(events kvm_exit)" "$(value out/kvm.json exits)"
same pio "$(events pio)" "$(value out/kvm.json io_exits)"
# The study of these faults has as many of each kind as KVM counts. What is none of them is tried again.
./penumbra faults /tmp/kvm.tr --by outcome --csv out/faults.csv > out/faults.out 2>&1 || fail "faults: $(cat out/faults.out)"
cat out/faults.csv
faults() { awk -F, -v o="$1" '$1 == o || o == "all" { n += $2 } END { print n + 0 }' out/faults.csv; }
kvm() { v=$(value out/kvm.json "$1") && echo "${v:-0}"; }
same faults "$(faults all)" "$(kvm pf_taken)"
same mapped "$(faults mapped)" "$(kvm pf_fixed)"
[ "$(faults guest_pf)" = "$(kvm pf_guest)" ] || fail "faults: $(faults guest_pf) of the guest's own"
[ "$(faults tracked_table)" = "$(kvm pf_emulate)" ] || fail "faults: $(faults tracked_table) of tables"
case $npt in
N | 0)
    same page_fault "$(events page_fault)" "$(value out/kvm.json pf_taken)"
    same walker_error "$(events walker_error)" "$(value out/kvm.json pf_guest)"
    [ "$(events kvm_tdp_fault)" = 0 ] || fail "TDP faults without TDP"
    for e in get_page set_spte sync_page unsync_page; do
        [ "$(events $e)" -gt 0 ] || fail "no $e"
    done
    ;;
*)
    same kvm_tdp_fault "$(events kvm_tdp_fault)" "$(value out/kvm.json pf_taken)"
    [ "$(events page_fault)" = 0 ] || fail "shadow faults with TDP"
    [ "$(events set_spte)" -gt 0 ] || fail "no set_spte"
    ;;
esac
./penumbra trace /tmp/kvm.tr | awk '$1 < last { n++ } { last = $1 } END { exit n > 0 }' ||
    fail "events are not in order of time"

# A choice of events, and several vCPUs.
./penumbra run --mmu kvm -m 64M -c 2 --timeout 200 --append "$small" --trace /tmp/few.tr \
    --trace-events kvm_exit,pio < /dev/null > /dev/null 2>&1 || fail "traced run of two vCPUs"
./penumbra trace --count /tmp/few.tr | awk '$2 != "kvm_exit" && $2 != "pio" { exit 1 }' ||
    fail "other events than asked for"
[ -z "$(ls /sys/kernel/tracing/instances)" ] || fail "an instance is left behind: $(ls /sys/kernel/tracing/instances)"

# A killed process leaves one; the next removes it.
./penumbra run --mmu kvm -m 64M --timeout 200 --trace /tmp/kill.tr < /dev/null > /dev/null 2>&1 &
tries=0
until [ -n "$(ls /sys/kernel/tracing/instances)" ] || [ $((tries += 1)) -gt 600 ]; do
    sleep 0.1
done
kill -9 $!
wait $! 2>/dev/null
./penumbra run --mmu kvm -m 64M --append "$small" --trace /tmp/few.tr < /dev/null > /dev/null 2>&1 ||
    fail "the run after a killed one"
[ -z "$(ls /sys/kernel/tracing/instances)" ] || fail "a killed process's instance stays"

umount -l /sys/kernel/tracing /sys/kernel/debug
./penumbra run --mmu kvm -m 64M --append "$small" --trace /tmp/none.tr < /dev/null > out/none.out 2>&1 ||
    fail "run without tracefs"
grep -q "no events of KVM's: tracefs is not mounted" out/none.out || fail "nothing said about tracefs"
exit $bad
