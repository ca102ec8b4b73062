#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Guests on this host's /dev/kvm: the embedded one under every MMU, dirty logs, handovers, and
# the flat guests that check a vCPU's whole state and the instructions KVM cannot emulate.
#
#   guests.sh PENUMBRA STATE INSNS CLOCK TIMERS OWED PART
. "$(dirname "$0")/../cli/lib.sh"
state=$2 insns=$3 clock=$4 timers=$5 owed=$6
. "$(dirname "$0")/../lab/results.sh"
need_kvm
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

case $7 in
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
            flat "$clock" --mmu $a --handover $b --pv pvclock
            flat "$owed" --mmu $a --handover $b --hpet on
            micro $a-$b --mmu $a --handover $b --ram-digest
            cmp "$work/shadow-shadow.out" "$work/$a-$b.out" || fail "$a to $b: serial output differs"
            [ "$(value "$work/shadow-shadow.json" ram_digest)" = "$(value "$work/$a-$b.json" ram_digest)" ] ||
                fail "$a to $b: memory differs"
        done
    done
    flat "$timers" --mmu kvm $(for i in 1 2 3 4 5 6; do echo --handover shadow --handover kvm; done)
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
    for t in tdp:wp tdp:dbit tdp:pml kvm:bitmap kvm:clear kvm:ring kvm:uffd-wp kvm:pagemap-scan; do
        name=${t/:/-}
        # Without huge pages: where the host puts one together, KVM maps what is read next anew,
        # writable, and logs it as written.
        micro $name --mmu ${t%:*} --dirty-log ${t#*:} --dirty-verify --dirty-pages --hugepages off
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
    refused 2 run --mmu shadow --dirty-log bitmap
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
        least=2000 # on Intel's processors this KVM does all but a few itself
        grep -q AuthenticAMD /proc/cpuinfo || least=0
        [ "$(foreign "$work/flat.json" penumbra_emulated)" -gt $least ] ||
            fail "the software CPU did not run what KVM cannot emulate"
    fi
    flat "$state" --mmu kvm
    ;;
linux)
    # Debian's kernel comes up, or the run ends at once and says why it would not.
    need_guest
    guest=(--mmu kvm --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" -m 256M)
    run run "${guest[@]}" --append "console=ttyS0 panic=-1 pn.script"
    if grep -q 'its MMU *shadow (software)' < <("$penumbra" host); then
        [ $rc -eq 1 ] && grep -q '^penumbra: Linux does not boot here: KVM without VMX or SVM' "$work/err" ||
            fail "Linux without VMX and SVM: exit code $rc: $(tail -n 3 "$work/err")"
        run run "${guest[@]}" --timeout 1
        [ $rc -eq 4 ] && grep -q '^penumbra: warning: Linux does not boot here' "$work/err" &&
            grep -q '^penumbra: KVM emulated [0-9.]* million instructions' "$work/err" ||
            fail "Linux with a limit: exit code $rc: $(tail -n 3 "$work/err")"
    else
        [ $rc -eq 0 ] && grep -q '^GUEST-DONE' "$work/out" || fail "Linux: exit code $rc: $(tail -n 3 "$work/err")"
    fi
    ;;
trace)
    # KVM's tracepoints where tracefs can be had (a mount of our own, as root); else why not.
    little="pages=16 swaps=1 flips=16 switches=2 compute=1000"
    if [ ! -e /sys/kernel/tracing/instances ]; then
        run run --mmu kvm -m 64M --append "$little" --trace "$work/none.tr"
        [ $rc -eq 0 ] && grep -q "^penumbra: no events of KVM's: " "$work/err" || fail "without tracefs: code $rc"
        # Accesses to devices are faults then: five of the HPET.
        bytes "$work/device" bb 00 00 d0 fe 8b 03 8b 03 8b 03 89 03 8b 03 b0 00 e6 f4 eb fe # mov ebx, 0xfed00000; mov eax, [ebx]...
        run run --mmu kvm --hpet on --kernel "$work/device" --format flat --flat-bits 64 --trace "$work/none.tr" --stats "$work/none.json"
        run faults "$work/none.tr" --by outcome,access,cause --csv "$work/none.csv"
        printf '%s\n' mmio,read,device,4,0 mmio,write,device,1,0 | cmp -s - <(tail -n +2 "$work/none.csv" | cut -d, -f1-5) ||
            fail "devices without tracefs: $(cat "$work/none.csv" "$work/err")"
    fi
    cat > "$work/traced" <<'SCRIPT'
mount -t tracefs none /sys/kernel/tracing 2>/dev/null && [ -d /sys/kernel/tracing/events/kvm ] || exit 100
"$1" run --mmu kvm -m 64M --append "$2" --trace "$3/kvm.tr" --stats "$3/kvm.json" < /dev/null > "$3/out" 2> "$3/err" || exit 101
find /sys/kernel/tracing/instances -name 'penumbra-*' > "$3/left"
SCRIPT
    rc=0
    unshare -m sh "$work/traced" "$penumbra" "$little" "$work" 2>/dev/null || rc=$?
    if [ $rc -eq 0 ]; then
        "$penumbra" trace --count "$work/kvm.tr" > "$work/count" || fail "the event file cannot be read"
        pio=$(awk '$2 == "pio" { print $1 }' "$work/count")
        [ "${pio:-0}" = "$(value "$work/kvm.json" io_exits)" ] ||
            fail "$pio events of port accesses: $(grep io_exits "$work/kvm.json")"
        awk '$2 == "kvm_userspace_exit" || $2 == "set_spte" { n++ } END { exit n != 2 }' "$work/count" ||
            fail "tracepoints are missing: $(cat "$work/count")"
        # The study counts what KVM does: the guest's own faults, and those that it fixed.
        run faults "$work/kvm.tr" --by outcome --csv "$work/f.csv"
        for pair in guest_pf:pf_guest mapped:pf_fixed; do
            got=$(sed -n "s/^${pair%:*},\([0-9]*\),.*/\1/p" "$work/f.csv") want=$(foreign "$work/kvm.json" "${pair#*:}")
            [ "${got:-0}" = "$want" ] && [ "$want" -gt 0 ] || fail "faults: $got of ${pair%:*}, KVM counts $want ${pair#*:}"
        done
        [ ! -s "$work/left" ] || fail "a tracing instance is left behind"
    elif [ $rc -eq 101 ]; then
        fail "traced run: $(tail -n 2 "$work/err")"
    fi
    ;;
mips)
    # The user loop is native: the quickest of many short runs, each shorter than a time slice.
    run bench compute:rounds=500000 --mmu kvm --repeat 25 --json "$work/mips.json"
    [ $rc -eq 0 ] || fail "bench compute: exit code $rc: $(tail -n 2 "$work/err")"
    ops=$(value "$work/mips.json" ops)
    least=$(sed -n '/"samples": \[/,/]/p' "$work/mips.json" | grep -o '[0-9][0-9]*' | sort -n | head -n 1)
    mips=$((${ops:-0} * 1000 / ${least:-1}))
    echo "user loop on /dev/kvm: $mips million instructions per second"
    [ $mips -gt 1000 ] || fail "the user loop does not run natively"
    ;;
esac
exit $bad
