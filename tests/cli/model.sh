#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# --tlb and --cost: the guest is the same with every model; the figures have the order that the
# structures give them; broken profiles are refused by one line that names the member.
. "$(dirname "$0")/lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
small="pages=64 swaps=50 flips=20 switches=20 compute=1000"

field() { sed -n "s/.*\"$2\": \"\{0,1\}\([0-9a-z.]*\).*/\1/p" "$1" | head -n 1; }
# The counters that no model may move.
table() { grep -E '"(guest_insns|ram_digest|digest|pf_[a-z_]*|sp_[a-z]*|root_[a-z]*|mmu_[a-z_]*|ept_[a-z]*)":' "$1"; }

for mmu in shadow tdp; do
    run run --mmu $mmu --append "$small" --stats "$work/off.json" --ram-digest --event-digest
    mv "$work/out" "$work/off.out"
    for model in none skylake icelake zen3 infinite; do
        run run --mmu $mmu --tlb $model --append "$small" --stats "$work/$model.json" --ram-digest --event-digest
        [ "$rc" -eq 0 ] || fail "$mmu $model: exit code $rc: $(cat "$work/err")"
        cmp -s "$work/out" "$work/off.out" || fail "$mmu $model: serial output differs"
        diff <(table "$work/off.json") <(table "$work/$model.json") > "$work/diff" ||
            fail "$mmu $model: the guest or its tables differ: $(head -n 4 "$work/diff")"
        grep -q "\"tlb\": \"$model\"" "$work/$model.json" || fail "$mmu $model: the report names no model"
    done
    run run --mmu $mmu --tlb skylake --block-len 1 --append "$small" --stats "$work/single.json"
    diff <(grep '"model_' "$work/skylake.json") <(grep '"model_' "$work/single.json") > "$work/diff" ||
        fail "$mmu: the model depends on the length of blocks: $(head -n 4 "$work/diff")"
    last=0 # misses by falling size
    for model in infinite icelake skylake none; do
        n=$(field "$work/$model.json" model_l1d_miss)
        [ "$n" -ge "$last" ] || fail "$mmu: fewer data TLB misses with $model: $n after $last"
        last=$n
    done
    [ "$(field "$work/none.json" model_l2_hit)" -eq 0 ] || fail "$mmu: none has a second level"
done
# Every exit for a fault is one of what the hypervisor does about it.
sum_of() {
    local file=$1 sum=0 name
    shift
    for name in "$@"; do sum=$((sum + $(field "$file" "$name"))); done
    echo $sum
}
for model in none skylake infinite; do
    run run --mmu shadow --tlb $model --append "workload=cow" --stats "$work/x.json"
    want=$(sum_of "$work/x.json" model_shadow_fault model_inject pf_mmio pf_mmio_spte mmu_pte_write)
    [ "$(field "$work/x.json" model_exit_fault)" -eq "$want" ] || fail "$model: exits for faults, not $want"
    [ "$(field "$work/x.json" model_walk_fault)" -eq "$want" ] || fail "$model: walks that fault, not $want"
    run run --mmu tdp --tlb $model --append "workload=cow" --stats "$work/x.json"
    want=$(sum_of "$work/x.json" model_violation pf_mmio pf_mmio_spte)
    [ "$(field "$work/x.json" model_exit_fault)" -eq "$want" ] || fail "tdp, $model: exits for faults, not $want"
done
refs=$(field "$work/none.json" model_refs)
[ "$refs" -gt "$(($(field "$work/infinite.json" model_refs) * 20))" ] || fail "none and infinite: $refs references"

# Nodes: the guest is on vCPU 0 and in low memory, near it or not; who made the tables was vCPU 0.
all=$(sum_of "$work/x.json" model_guest_remote model_table_remote)
[ "$all" -eq 0 ] || fail "without nodes $all remote references"
for mmu in shadow tdp; do
    for cpus in "128M/0,128M/1" "128M/1,128M/0"; do
        run run --mmu $mmu --tlb none -m 256M -c 2 --numa-guest "$cpus" --append "$small" --stats "$work/x.json"
        [ "$rc" -eq 0 ] || fail "$mmu, nodes $cpus: exit code $rc: $(cat "$work/err")"
        want=0
        [ "$mmu $cpus" != "tdp 128M/1,128M/0" ] || want=$(sum_of "$work/x.json" model_guest_l1 model_guest_l2 model_guest_l3 model_guest_l4 model_guest_l5)
        [ "$(field "$work/x.json" model_guest_remote)" -eq "$want" ] || fail "$mmu, nodes $cpus: remote entries of the guest's, not $want"
        [ "$(field "$work/x.json" model_table_remote)" -eq 0 ] || fail "$mmu, nodes $cpus: tables are not where they were made"
        grep -q "\"remote_ref\": $((want * 15))\.0" "$work/x.json" || fail "$mmu, nodes $cpus: $want remote references have another price"
    done
done
[ "$want" -gt 0 ] || fail "no remote reference at all"

# The reach of a TLB: within it no walks, beyond it one for nearly every load.
chase() {
    run run --mmu "$1" --tlb skylake --append "workload=chase bytes=$2 page=$3 steps=400000" -m 128M --stats "$work/c.json"
    [ "$rc" -eq 33 ] || [ "$rc" -eq 0 ] || [ "$rc" -eq 1 ] || fail "chase: exit code $rc"
    walks=$(field "$work/c.json" model_walk_data)
}
for mmu in shadow tdp; do
    chase $mmu 1M 4K
    [ "$walks" -lt 20000 ] || fail "$mmu: $walks walks within reach"
    chase $mmu 48M 4K
    [ "$walks" -gt 300000 ] || fail "$mmu: $walks walks beyond reach"
    chase $mmu 48M 2M
    [ "$walks" -lt 20000 ] || fail "$mmu: $walks walks with 2M pages"
done

run run --tlb help
[ "$rc" -eq 0 ] && grep -q '^skylake ' "$work/out" && grep -q '^kvm .*costs' "$work/out" || fail "--tlb help"
run run --tlb skylake --append "$small" --summary
grep -q '^Modelled: TLB skylake, costs kvm' "$work/err" || fail "--summary says nothing of the model"
run run --mmu shadow --handover tdp@0.05 --tlb skylake --append "$small" --stats "$work/h.json"
[ "$rc" -eq 0 ] && [ "$(field "$work/h.json" model_guest_l1)" -gt 0 ] || fail "a handover with a model"

# A profile of one's own.
cp "$top/bench/profiles/skylake.json" "$work/own.json"
run run --tlb "$work/own.json" --append "$small" --stats "$work/own-stats.json"
[ "$rc" -eq 0 ] || fail "an own profile: $(cat "$work/err")"

refused 2 run --mmu kvm --tlb skylake
refused 2 run --handover kvm@1 --tlb skylake
refused 2 run --cost kvm
refused 2 run --tlb nosuch
grep -q 'skylake, icelake' "$work/err" || fail "no list of models"
refused 2 run --tlb kvm
refused 1 run --tlb "$work/nosuch.json"
refused 1 run --tlb "$work"/
refused 2 run --tlb skylake --cost skylake

# broken WORD SED-EXPRESSION: that change of skylake.json is refused, and WORD is in the line.
broken() {
    sed "$2" "$top/bench/profiles/skylake.json" > "$work/broken.json"
    cmp -s "$work/broken.json" "$top/bench/profiles/skylake.json" && fail "no change: $2"
    refused 2 run --tlb "$work/broken.json"
    grep -q "broken.json: .*$1" "$work/err" || fail "not named: $1: $(cat "$work/err")"
}
broken "not JSON" '$d'
broken "'schema'" 's/penumbra-tlb-1/penumbra-tlb-9/'
broken "'name'" 's/"name": "skylake"/"name": 7/'
broken "'source'" 's/"source": \[/"source": [ 5,/'
broken "'tags'" 's/"pcid": true/"pcid": 1/'
broken "no such member" 's/"nested_tlb"/"nested"/'
broken "no such member" 's/"ways": 12/"wyas": 12/'
broken "l2\[0\].*power of two" 's/1536/1537/'
broken "entries: from 1 to 65536" 's/1536/100000000000/'
broken "entries: from 1 to 65536" 's/1536/99999999/'
broken "entries: from 1 to 65536" 's/1536/-4/'
broken "ways: from 1" 's/"ways": 12/"ways": 0/'
broken "replacement: lru" 's/"plru"/"random"/'
broken "pages" 's/"4K", "2M"/"4K", "4K"/'
broken "pages" 's/"1G"/"1T"/'
broken "walk_cache.2" 's/"2": {"entries": 32/"2": {"entries": 33/'
broken "no such member" 's/"walk_cache": {"2"/"walk_cache": {"9"/'
sed 's/"exit": {"cycles": 1150/"exit": {"cycles": -1/' "$top/bench/profiles/cost-kvm.json" > "$work/cost.json"
refused 2 run --tlb none --cost "$work/cost.json"
grep -q "prices.exit.*cycles" "$work/err" || fail "a price below 0: $(cat "$work/err")"
grep -v '"gpte_sync"' "$top/bench/profiles/cost-kvm.json" > "$work/cost.json"
refused 2 run --tlb none --cost "$work/cost.json"
grep -q "prices.gpte_sync" "$work/err" || fail "a price that is missing: $(cat "$work/err")"
exit $bad
