#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# --handover between the MMUs of the software CPU: the guest does the same as under one of
# them, and the report says which MMU each part ran under.
. "$(dirname "$0")/lib.sh"
small="pages=64 swaps=50 flips=20 switches=20 compute=1000"

same() { grep -E '"(guest_insns|guest_ns|ram_digest)":' "$1"; }

for mmu in shadow tdp; do
    run run --mmu $mmu --append "$small" --stats "$work/$mmu.json" --ram-digest
    mv "$work/out" "$work/$mmu.out"
done
for parts in "shadow tdp" "tdp shadow" "shadow tdp shadow" "tdp shadow tdp" "shadow shadow" "tdp tdp shadow"; do
    read -ra mmu <<< "$parts"
    args=(--mmu "${mmu[0]}" --handover "${mmu[1]}@0.05")
    [ -z "${mmu[2]-}" ] || args+=(--handover "${mmu[2]}@0.09")
    run run "${args[@]}" --append "$small" --stats "$work/h.json" --ram-digest --summary
    [ "$rc" -eq 0 ] || fail "$parts: exit code $rc: $(head -n 3 "$work/err")"
    cmp -s "$work/out" "$work/shadow.out" || fail "$parts: the console is not as under shadow alone"
    diff <(same "$work/shadow.json") <(same "$work/h.json") > "$work/diff" ||
        fail "$parts: not as under shadow alone: $(cat "$work/diff")"
    # Each part, in the head line and with the words of its engine.
    grep -q -- "--mmu ${parts// /, then }: poweroff, exit code 0" "$work/err" ||
        fail "$parts: the head line does not say so: $(grep -m 1 -- --mmu "$work/err")"
    grep -q "(null)" "$work/err" && fail "$parts: the summary prints (null)"
    for i in 1 2; do
        [ -n "${mmu[$i]-}" ] || continue
        words=$(sed -n 's/^  "mmu_detail": "\(.*\)",*$/\1/p' "$work/${mmu[$i]}.json")
        grep -A 1 "^From ${mmu[$((i - 1))]} to ${mmu[$i]} at " "$work/err" | grep -qF "  $words" ||
            fail "$parts: the summary does not say what MMU part $i ran under"
        grep -A 5 "\"to\": \"${mmu[$i]}\"" "$work/h.json" | grep -qF "\"mmu_detail\": \"$words\"" ||
            fail "$parts: --stats does not say what MMU part $i ran under"
    done
done
grep -q '^Counters are sums over all MMUs' "$work/err" || fail "the summary does not say what its counters cover"
run run --append "$small" --summary
grep -q 'Counters are sums' "$work/err" && fail "a run under one MMU says that its counters are sums"

# The handovers that the guest did not live to see.
run run --append "$small" --handover tdp@0.05 --handover shadow@100000
[ "$rc" -eq 0 ] && [ "$(cat "$work/err")" = "penumbra: warning: the guest ended before its handover number 2" ] ||
    fail "a handover that is never reached: $(cat "$work/err")"
# One that fails is no such handover.
run run --append "$small" --handover kvm@0.05
! { [ "$rc" -eq 1 ] && grep -q 'ended before its handover' "$work/err"; } || fail "a handover that fails: $(head -n 3 "$work/err")"
# Before anything runs: a hypervisor goes to KVM only where that has guests of guests; with VMX never.
[ "$(cat /sys/module/kvm_amd/parameters/nested 2> /dev/null)" = 1 ] ||
    refused 2 run --append "$small" --cpu max,vendor=amd,+svm --handover tdp@1 --handover kvm@2
refused 2 run --append "$small" --cpu max,vendor=intel,+vmx --handover kvm@1
refused 2 run --handover magic
refused 2 run --handover shadow@soon
refused 2 run --dirty-log wp --handover tdp
exit $bad
