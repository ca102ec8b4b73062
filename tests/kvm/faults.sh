#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What goes wrong around KVM ends within a second, in one clear line, with nothing left behind
# (tests/kvm/shim.c makes it go wrong).
. "$(dirname "$0")/../cli/lib.sh"
. "$(dirname "$0")/../lab/results.sh"
shim=$2
need_kvm
bytes "$work/spin" eb fe
bytes "$work/io" ec eb fd # in al, dx; jmp: an exit after the other

# Another process of ours, or a file, after a run?
left_behind() {
    [ -z "$(find "$work" -name '*.part')" ] || fail "$1: files left behind"
    [ -z "$(jobs -r)" ] || fail "$1: processes left behind"
}

# broken MODE CODE WORDS ARG...: a run that the shim breaks. One that does not end gives 124.
broken() {
    local mode=$1 want=$2 words=$3
    shift 3
    rc=0
    PN_SHIM=$mode LD_PRELOAD=$shim timeout 20 "$penumbra" run --mmu kvm "$@" \
        --stats "$work/stats.json" < /dev/null > "$work/out" 2> "$work/err" || rc=$?
    [ $rc -eq "$want" ] || fail "$mode: exit code $rc, not $want: $(head -n 3 "$work/err")"
    grep -q "^penumbra: .*$words" "$work/err" ||
        fail "$mode: no line says '$words': $(head -n 3 "$work/err")"
    left_behind "$mode"
}

broken absent 1 '/dev/kvm is absent'
broken denied 1 'permission denied: join the group kvm'
broken nodriver 1 'no driver behind it'
broken api 1 'not API version 12'
broken novm 1 'KVM_CREATE_VM.*busy'
broken novcpu 1 'KVM_CREATE_VCPU: Cannot allocate memory'
broken nomem 1 'memslot.*Cannot allocate memory'
cpu=max,vendor=intel,+vmx
! grep -q AuthenticAMD /proc/cpuinfo || cpu=max,vendor=amd,+svm
broken nonested 2 "--cpu: ${cpu##*,}: this host's KVM has no state of a guest's guests (KVM_CAP_NESTED_STATE)" --cpu $cpu
broken unoffered 2 "--cpu: ${cpu##*,}: this host's KVM does not offer it to guests (kvm_.*'s parameter nested)" --cpu $cpu
io=(--kernel "$work/io" --format flat --timeout 10)
broken runfails 1 'KVM_RUN: Input/output error, at rip 1000' "${io[@]}"
broken fault 1 'the host has no memory for what the guest uses in rip 1000' "${io[@]}"
broken internal 1 'KVM internal error 3 at rip 1000' "${io[@]}"
grep -q '^rip ' "$work/err" && grep -q '^cr0 ' "$work/err" || fail "internal: no registers"
broken again 4 '--timeout reached' "${io[@]}" --timeout 0.5
[ "$(foreign "$work/stats.json" penumbra_redelivered)" = 1 ] || fail "KVM_RUN is not called once more"
broken missed 6 'the dirty log missed [1-9][0-9]* pages in harvest' --dirty-log bitmap --dirty-verify --append "pages=16"
broken dies 1 'vCPU 0: its thread died' "${io[@]}"
broken dies 1 'its thread died' "${io[@]}" -c 2
broken stuck 1 'vCPU 0 does not come out of the kernel' "${io[@]}" --timeout 0.5

# What `penumbra host` makes of it.
for mode in absent denied nodriver api novm; do
    PN_SHIM=$mode LD_PRELOAD=$shim "$penumbra" host > "$work/out" 2>&1 || fail "host, $mode"
    grep -q '^/dev/kvm *not usable: ' "$work/out" || fail "host, $mode: $(grep kvm "$work/out")"
    grep -q '^--mmu kvm *does not work here: ' "$work/out" || fail "host, $mode: --mmu kvm"
    grep -q '^--mmu shadow *works here' "$work/out" || fail "host, $mode: --mmu shadow"
done

# The same without a shim: another user, another /dev.
if [ "$(id -u)" -eq 0 ] && [ "$(stat -c %a /dev/kvm)" != 666 ]; then
    cp "$penumbra" "$work/penumbra"
    chmod 755 "$work" "$work/penumbra"
    rc=0
    setpriv --reuid 65534 --regid 65534 --clear-groups "$work/penumbra" run --mmu kvm \
        < /dev/null > "$work/out" 2> "$work/err" || rc=$?
    [ $rc -eq 1 ] && grep -q 'permission denied' "$work/err" ||
        fail "another user: exit code $rc: $(head -n 2 "$work/err")"
fi
if unshare -Urm true 2>/dev/null; then
    rc=0
    unshare -Urm sh -c 'mount -t tmpfs none /dev && exec "$0" run --mmu kvm' "$penumbra" \
        < /proc/self/mounts > "$work/out" 2> "$work/err" || rc=$?
    [ $rc -eq 1 ] && grep -q '/dev/kvm is absent' "$work/err" ||
        fail "another /dev: exit code $rc: $(head -n 2 "$work/err")"
fi

# Memory that the host does not have.
rc=0
(ulimit -v 400000 && exec "$penumbra" run --mmu kvm -m 1G) < /dev/null > "$work/out" 2> "$work/err" || rc=$?
[ $rc -eq 1 ] && grep -q '^penumbra: .*[Mm]emory' "$work/err" && [ "$(wc -l < "$work/err")" -eq 1 ] ||
    fail "no memory: exit code $rc: $(head -n 2 "$work/err")"

# A signal while guests of each kind run: busy, at a port, halted.
bytes "$work/busy" $hello eb fe
bytes "$work/at_port" $hello ec eb fd
bytes "$work/halted" $hello fb f4 eb fd
for guest in busy at_port halted; do
    for sig in TERM INT HUP; do
        begin run --mmu kvm -c 2 --kernel "$work/$guest" --format flat --stats "$work/sig.json"
        by_signal $sig $((128 + $(kill -l $sig))) "SIG$sig, $guest"
        grep -q '"reason": "quit"' "$work/sig.json" || fail "SIG$sig, $guest: no stats"
        left_behind "SIG$sig"
    done
done

# A closed console, and one that nobody reads.
"$penumbra" run --mmu kvm < /dev/null 2> "$work/err" | head -c 10 > /dev/null
rc=${PIPESTATUS[0]}
[ $rc -eq 1 ] && grep -q "console" "$work/err" || fail "closed console: exit code $rc"
bytes "$work/talk" 66 ba f8 03 b0 41 ee eb fd # mov dx,3f8; mov al,'A'; out; jmp
mkfifo "$work/fifo"
exec {unread}<> "$work/fifo"
"$penumbra" run --mmu kvm --kernel "$work/talk" --format flat < /dev/null > "$work/fifo" 2> "$work/err" &
pid=$!
# Until nobody can write any more: how many bytes that takes depends on how they were written.
full='import select, sys; sys.exit(bool(select.select([], [int(sys.argv[1])], [], 0)[1]))'
until python3 -c "$full" "$unread"; do
    [ -e "/proc/$pid" ] || break
    sleep 0.05
done
by_signal TERM 143 "unread console"
exec {unread}<&-

# How guests end: as under the other MMUs.
run run --mmu kvm --kernel "$work/spin" --format flat --timeout 0.4
[ $rc -eq 4 ] || fail "timeout: exit code $rc"
bytes "$work/dead" fa f4 eb fd
for cpus in 1 2; do
    run run --mmu kvm -c $cpus --kernel "$work/dead" --format flat --timeout 20
    [ $rc -eq 3 ] && grep -q 'nothing can wake it' "$work/err" || fail "halted for good: exit code $rc"
done
bytes "$work/triple" 0f 0b
run run --mmu kvm --kernel "$work/triple" --format flat --timeout 20
[ $rc -eq 3 ] && grep -q 'triple fault' "$work/err" && grep -q 'ud2' "$work/err" ||
    fail "triple fault: exit code $rc"
bytes "$work/exit" b0 07 e6 f4 eb fe
run run --mmu kvm --kernel "$work/exit" --format flat --timeout 20
[ $rc -eq 15 ] || fail "debug exit: exit code $rc"
run run --mmu kvm --kernel "$work/exit" --format flat --max-insns 10
[ $rc -eq 2 ] || fail "--max-insns: exit code $rc"
exit $bad
