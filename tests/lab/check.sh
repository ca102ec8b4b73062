#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Judge what inside.sh brought out of the lab.
#
#   check.sh npt N DIR      one lab: N is 0 or 1
#   check.sh both DIR1 DIR0 the labs with npt=1 and npt=0 beside each other
set -uo pipefail
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../guest/slept.sh"
. "$(dirname "$0")/results.sh"

# same A B: two files are equal, but for carriage returns.
same() { cmp -s "$1" "$2" || fail "$1 and $2 differ"; }

check_codes() {
    local f want
    for f in "$1"/*.code; do
        case $f in
        */flat-*) want=1 ;; # the debug-exit port's 0
        *) want=0 ;;
        esac
        [ "$(cat "$f")" = $want ] || fail "$(basename "$f" .code): exit code $(cat "$f"): $(grep '^penumbra: [^-]' "${f%.code}.err" | head -n 3)"
    done
}

check_host() {
    local dir=$1 mmu=$2
    grep -q "^  its MMU *$mmu, because /sys/module/kvm_amd/parameters/npt is" "$dir/host.out" ||
        fail "penumbra host does not say $mmu: $(grep MMU "$dir/host.out")"
    grep -q "\"mmu\": \"$mmu\"" "$dir/host-json.out" || fail "penumbra host --json does not say $mmu"
    grep -q '^--mmu kvm *works here' "$dir/host.out" || fail "penumbra host: --mmu kvm"
    grep -q "^penumbra: --mmu kvm: KVM (kvm_amd), MMU: $mmu; known by" "$dir/micro-kvm.err" ||
        fail "penumbra run does not say $mmu"
    grep -q "\"mmu_detail\": \".*MMU: $mmu" "$dir/micro-kvm.json" || fail "--stats does not say $mmu"
    grep -q "^KVM (kvm_amd), MMU: $mmu" "$dir/micro-kvm.err" || fail "--summary does not say $mmu"
}

check_micro() {
    local dir=$1 f digest
    digest=$(value "$dir/micro-shadow.json" ram_digest)
    [ -n "$digest" ] || fail "no digest of memory"
    for f in "$dir"/micro-*.json "$dir"/handover-*.json; do
        same "$dir/micro-shadow.out" "${f%.json}.out"
        [ "$(value "$f" ram_digest)" = "$digest" ] || fail "$f: memory differs"
    done
    for f in "$dir"/dirty-*.out "$dir"/live-*.out; do
        same "$dir/micro-shadow.out" "$f"
    done
    grep -q '^rip [0-9a-f]*: [a-z].* \[[0-9a-f ]*[0-9a-f]\]$' "$dir/micro-kvm.err" ||
        fail "the dump does not show the instruction: $(grep '^rip' "$dir/micro-kvm.err")"
    [ "$(foreign "$dir/micro-kvm.json" io_exits)" -gt 100 ] || fail "KVM's own counters are not there"
    [ "$(value "$dir/micro-kvm.json" tlb_miss)" = null ] || fail "a counter that KVM does not count is not null"
}

check_dirty() {
    local dir=$1 f want
    want=$(frames "$dir/dirty-shadow-wp")
    [ "$(echo "$want" | wc -l)" -ge 7 ] || fail "too few harvests"
    for f in "$dir"/dirty-*.json; do
        [ "$(frames "${f%.json}")" = "$want" ] || fail "$f: other pages than under shadow"
    done
    for f in "$dir"/dirty-*.json "$dir"/live-*.json; do
        grep -q '"missed": ' "$f" || fail "$f was not verified"
        grep '"missed": ' "$f" | grep -qv '"missed": 0\b' && fail "$f: pages missed"
    done
    for f in "$dir"/live-*.json; do
        [ "$(grep -c '"by": "time"' "$f")" -ge 3 ] || fail "$f: too few harvests while the guest ran"
    done
}

check_linux() {
    local n
    for n in 1 2; do
        grep -q '^GUEST-DONE' "$1/linux-$n.out" || fail "Linux with -c $n did not reach the end of its script"
        [ "$(value "$1/linux-$n.json" reason)" = poweroff ] || fail "Linux with -c $n did not power off"
        [ "$(grep -c '"vcpu[0-9]*": {' "$1/linux-$n.json")" -eq $n ] || fail "Linux with -c $n: counters of $n vCPUs"
    done
    for line in "Hypervisor detected: KVM" "kvm-clock: Using msrs" "Switched to clocksource kvm-clock"; do
        grep -q "$line" "$1/linux-1.out" || fail "not on Linux's console: $line"
    done
    [ "$(foreign "$1/linux-1.json" penumbra_posted_writes)" -gt 0 ] || fail "no write was posted"
}

# What runs under npt=1 alone.
check_once() {
    grep -q '^GUEST-DONE' "$1/linux-moves.out" || fail "Linux did not outlive its handovers"
    [ "$(grep -c '"from": ' "$1/linux-moves.json")" -eq 3 ] || fail "Linux: not three handovers"
    grep -q "Linux version" "$1/pv-none.out" || fail "--pv none: Linux says nothing"
    ! grep -q "Hypervisor detected: KVM" "$1/pv-none.out" || fail "--pv none: Linux finds KVM"
}

check_snapshot() {
    local n mmu
    # What was said after the save is the same, and so is memory at the end.
    n=$(stat -c %s "$1/restored-micro.out")
    [ "$n" -gt 0 ] && tail -c "$n" "$1/saved-micro.out" | cmp -s - "$1/restored-micro.out" ||
        fail "a snapshot under KVM: its console does not end as that of the saved guest"
    [ "$(value "$1/restored-micro.json" ram_digest)" = "$(value "$1/saved-micro.json" ram_digest)" ] ||
        fail "a snapshot under KVM: memory at the end differs"
    grep -q '^GUEST-DONE' "$1/restored-linux.out" || fail "a snapshot of Linux under KVM did not reach the end of its script"
    [ "$(value "$1/restored-linux.json" reason)" = poweroff ] || fail "a snapshot of Linux under KVM did not power off"
    grep -q '"mmu": "kvm"' "$1/restored-linux.json" || fail "the snapshot of Linux was not under KVM"
    for mmu in shadow tdp kvm; do
        n=$(stat -c %s "$1/kvmsaved-micro-$mmu.out")
        [ "$n" -gt 0 ] && tail -c "$n" "$1/kvmsaved-micro.out" | cmp -s - "$1/kvmsaved-micro-$mmu.out" ||
            fail "saved under KVM, restored under $mmu: its console does not end as that of the saved guest"
        [ "$(value "$1/kvmsaved-micro-$mmu.json" ram_digest)" = "$(value "$1/kvmsaved-micro.json" ram_digest)" ] ||
            fail "saved under KVM, restored under $mmu: memory at the end differs"
    done
    for mmu in shadow kvm; do
        grep -q '^GUEST-DONE' "$1/kvmsaved-linux-$mmu.out" || fail "Linux, saved under KVM, restored under $mmu, did not reach the end"
        [ "$(value "$1/kvmsaved-linux-$mmu.json" reason)" = poweroff ] || fail "Linux, saved under KVM, did not power off under $mmu"
    done
}

check_moves() {
    cat "$1"/moved-micro.[0-4] | cmp -s - "$1/moved-alone.out" || fail "moved from KVM: its console is not that of the guest that stayed"
    [ "$(value "$1/moved-micro-4.json" ram_digest)" = "$(value "$1/moved-alone.json" ram_digest)" ] ||
        fail "moved from KVM: memory at the end differs"
    [ "$(grep -c '^the guest has moved' "$1/moved-micro.log")" -eq 4 ] || fail "the guest did not move four times"
    [ "$(grep -c '^the guest has moved' "$1/moved-linux.log")" -eq 3 ] || fail "Linux did not move three times"
    grep -q '^GUEST-DONE' "$1"/moved-linux.[0-3] || fail "Linux, moved from KVM and back, did not reach the end of its script"
    [ "$(value "$1/moved-linux-3.json" reason)" = poweroff ] || fail "Linux, moved from KVM and back, did not power off"
}

check_events() {
    [ -f "$1/events.log" ] || fail "no tracepoints were recorded"
    ! grep FAIL "$1/events.log" || fail "KVM's tracepoints"
}

check_npt() {
    local mmu=shadow
    [ "$1" = 0 ] || mmu=TDP
    check_codes "$2"
    check_host "$2" $mmu
    check_micro "$2"
    check_dirty "$2"
    check_linux "$2"
    check_snapshot "$2"
    check_moves "$2"
    slept "$2/sleep.out"
    [ "$1" = 0 ] || check_once "$2"
    check_events "$2"
}

check_both() {
    local f
    same "$1/micro-kvm.out" "$2/micro-kvm.out"
    [ "$(value "$1/micro-kvm.json" ram_digest)" = "$(value "$2/micro-kvm.json" ram_digest)" ] ||
        fail "memory at the end differs between npt=1 and npt=0"
    for f in bitmap clear ring; do
        [ "$(frames "$1/dirty-kvm-$f")" = "$(frames "$2/dirty-kvm-$f")" ] ||
            fail "--dirty-log $f: other pages under npt=1 than under npt=0"
    done
    [ "$(foreign "$1/micro-kvm.json" mmu_pte_write)" = 0 ] ||
        fail "writes to guest tables were emulated under TDP"
    [ "$(foreign "$2/micro-kvm.json" mmu_pte_write)" -gt 0 ] ||
        fail "no writes to guest tables were emulated under KVM's shadow paging"
}

case ${1-} in
npt) check_npt "$2" "$3" ;;
both) check_both "$2" "$3" ;;
*)
    sed -n '3,7p' "$0"
    exit 2
    ;;
esac
exit $bad
