#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Guests on this host's /dev/kvm: the embedded one under every MMU, dirty logs, handovers, and
# the flat guests that check a vCPU's whole state and the instructions KVM cannot emulate.
#
#   guests.sh PENUMBRA STATE INSNS PART
. "$(dirname "$0")/../cli/lib.sh"
state=$2 insns=$3
. "$(dirname "$0")/../lab/results.sh"
[ -r /dev/kvm ] && [ -w /dev/kvm ] || {
    echo "SKIPPED: /dev/kvm is not usable here"
    exit 77
}
small="pages=256 swaps=100 flips=256 switches=40 compute=200000 tables=1"

# micro NAME ARG...: the embedded guest, briefly.
micro() {
    local name=$1
    shift
    run run -m 64M --append "$small" --stats "$work/$name.json" "$@"
    cp "$work/out" "$work/$name.out"
    [ $rc -eq 0 ] || fail "$name: exit code $rc: $(tail -n 3 "$work/err")"
}

flat() {
    local guest=$1
    shift
    run run -m 64M --format flat --kernel "$guest" --timeout 60 --stats "$work/flat.json" "$@"
    [ $rc -eq 1 ] || fail "$(basename "$guest") $*: exit code $rc: check $((rc >> 1)): $(tail -n 3 "$work/err")"
}

case $4 in
same)
    micro shadow --ram-digest
    micro kvm --mmu kvm --ram-digest
    cmp "$work/shadow.out" "$work/kvm.out" || fail "serial output differs"
    [ "$(value "$work/shadow.json" ram_digest)" = "$(value "$work/kvm.json" ram_digest)" ] ||
        fail "memory at the end differs"
    grep -q '^penumbra: --mmu kvm: KVM (.*), MMU: .*; known by' "$work/err" || fail "which MMU is not said"
    [ "$(value "$work/kvm.json" tlb_miss)" = null ] || fail "a counter that KVM does not count is not null"
    [ "$(foreign "$work/kvm.json" exits)" -gt 100 ] || fail "KVM's own counters are not there"
    grep -q '"clock": "host"' "$work/kvm.json" || fail "the clock is not the host's"
    micro two --mmu kvm -c 2
    cmp "$work/shadow.out" "$work/two.out" || fail "serial output differs with -c 2"
    grep -q '"vcpu1": {' "$work/two.json" || fail "no counters of the second vCPU"
    ;;
handover)
    for a in shadow tdp kvm; do
        for b in shadow tdp kvm; do
            flat "$state" --mmu $a --handover $b
            grep -q "\"from\": \"$a\"" "$work/flat.json" || fail "$a to $b: no handover"
            micro $a-$b --mmu $a --handover $b --ram-digest
            cmp "$work/shadow-shadow.out" "$work/$a-$b.out" || fail "$a to $b: serial output differs"
            [ "$(value "$work/shadow-shadow.json" ram_digest)" = "$(value "$work/$a-$b.json" ram_digest)" ] ||
                fail "$a to $b: memory differs"
        done
    done
    micro many --mmu kvm --handover shadow --handover kvm --handover tdp --handover kvm \
        --handover shadow --handover kvm
    cmp "$work/shadow-shadow.out" "$work/many.out" || fail "many handovers: serial output differs"
    [ "$(grep -c '"from": ' "$work/many.json")" -eq 6 ] || fail "not six handovers"
    micro timed --mmu kvm --handover shadow@10 --handover kvm@10.5
    cmp "$work/shadow-shadow.out" "$work/timed.out" || fail "timed handovers: serial output differs"
    [ "$(grep -c '"from": ' "$work/timed.json")" -eq 2 ] || fail "not two timed handovers"
    ;;
dirty)
    micro wp --dirty-log wp --dirty-verify --dirty-pages
    want=$(frames "$work/wp")
    [ "$(echo "$want" | wc -l)" -ge 7 ] || fail "too few harvests"
    for t in tdp:wp tdp:dbit kvm:bitmap kvm:clear kvm:ring; do
        name=${t/:/-}
        micro $name --mmu ${t%:*} --dirty-log ${t#*:} --dirty-verify --dirty-pages
        [ "$(frames "$work/$name")" = "$want" ] || fail "$t: other pages than shadow's"
        grep '"missed": ' "$work/$name.json" | grep -qv ': 0\b' && fail "$t: pages missed"
        micro live-$name --mmu ${t%:*} --dirty-log ${t#*:} --dirty-every 2 --dirty-verify
        grep '"missed": ' "$work/live-$name.json" | grep -qv ': 0\b' && fail "live, $t: pages missed"
    done
    for t in bitmap ring; do
        [ "$(grep -c '"by": "time"' "$work/live-kvm-$t.json")" -ge 3 ] || fail "$t: too few live harvests"
        micro two-$t -c 2 --mmu kvm --dirty-log $t --dirty-every 2 --dirty-verify
    done
    refused 2 run --mmu kvm --dirty-log wp
    refused 2 run --mmu shadow --dirty-log ring
    refused 2 run --dirty-log nosuch
    refused 2 run --dirty-every 5
    refused 2 run --dirty-verify
    refused 2 run --dirty-log wp --handover shadow
    refused 2 run --handover magic
    refused 2 run --handover shadow@soon
    refused 2 run --mmu shadow --handover kvm --max-insns 100
    run run --dirty-log help
    [ $rc -eq 0 ] && grep -q '^ring' "$work/out" || fail "--dirty-log help"
    ;;
insns)
    flat "$insns"
    flat "$insns" --mmu kvm
    if grep -q '(kvm_pvm)' "$work/err"; then
        [ "$(foreign "$work/flat.json" penumbra_emulated)" -gt 2000 ] ||
            fail "the software CPU did not run what KVM cannot emulate"
    fi
    flat "$state" --mmu kvm
    ;;
mips)
    # Instructions per second of the compute loop: two runs that differ in its length
    # only; the difference in instructions is counted under shadow (and is linear).
    one="pages=16 swaps=1 flips=16 switches=2 compute"
    run run -m 64M --append "$one=1000000" --stats "$work/a.json"
    run run -m 64M --append "$one=2000000" --stats "$work/b.json"
    each=$((($(value "$work/b.json" guest_insns) - $(value "$work/a.json" guest_insns)) / 1000000))
    [ $each -ge 8 ] || fail "$each instructions a round"
    best=0
    for try in 1 2 3; do
        for n in 1 301; do
            run run --mmu kvm -m 64M --append "$one=${n}000000" --stats "$work/$n.json"
            [ $rc -eq 0 ] || fail "compute=${n}000000: exit code $rc"
        done
        took=$((($(value "$work/301.json" host_ns) - $(value "$work/1.json" host_ns)) / 1000))
        mips=$((300000000 * each / took))
        [ $mips -le $best ] || best=$mips
        [ $best -le 1000 ] || break
    done
    echo "user loop on /dev/kvm: $best million instructions per second"
    [ $best -gt 1000 ] || fail "the user loop does not run natively"
    ;;
esac
exit $bad
