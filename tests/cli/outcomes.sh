#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Each outcome of outcomes.inc is one event and one counter: under both MMUs their numbers agree,
# every page_fault has its fault_outcome, the families' counters are sums, and no field of an
# event that comes often is 0 always. tracked_code is no fault: its event is code_store. The TLB
# model has an exit for each fault that a hypervisor sees.
#
#   outcomes.sh PENUMBRA [linux]    the embedded guest with a dirty log, or Debian's kernel
. "$(dirname "$0")/lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
if [ "${2:-}" = linux ]; then
    need_guest
    guest=(-m 256M --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" --append "console=ttyS0 panic=-1 pn.script")
    expect=(mapped mapped_split tracked_table mmio mmio_cached guest_pf)
else
    guest=(--tlb skylake --dirty-log wp --dirty-every 1 --append "pages=64 swaps=50 flips=20 switches=20 compute=1000")
    expect=(mapped dirty_log tracked_table guest_pf)
fi
often="page_fault,fault_outcome,walker_error,set_spte,get_page,sync_page,unsync_page,prepare_zap_page,mark_mmio_spte,pte_write,root_switch,ept_violation,ept_misconfig,exception,interrupt,mmio,pio,code_write,code_store"

counter() { sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p" "$work/$mmu.json" | head -n 1; }
sum_is() {
    local name=$1 sum=0 part
    shift
    for part in "$@"; do sum=$((sum + $(counter "$part"))); done
    [ "$(counter "$name")" -eq $sum ] || fail "$mmu: $name is $(counter "$name"), its parts are $sum"
}

for mmu in shadow tdp; do
    run run --mmu $mmu "${guest[@]}" --timeout 110 --trace "$work/$mmu.tr" --trace-events $often --stats "$work/$mmu.json"
    [ "$rc" -eq 0 ] || fail "$mmu: exit code $rc: $(cat "$work/err")"
    "$penumbra" trace "$work/$mmu.tr" > "$work/text" || fail "$mmu: the trace cannot be read"
    awk '$3 == "fault_outcome" { sub("outcome=", "", $5); n[$5]++ } $3 == "page_fault" { n["page_fault"]++ }
        $3 == "code_store" { n["code_store"]++ }
        END { for (o in n) print o, n[o] }' "$work/text" > "$work/count"
    events() { awk -v o="$1" '$1 == o { n = $2 } END { print n + 0 }' "$work/count"; }
    all=0
    while IFS='(, ' read -r _ name _ own _; do
        if [ "$name" = tracked_code ]; then
            [ "$(events tracked_code)" -eq 0 ] || fail "$mmu: faults that came to tracked_code"
            [ "$(events code_store)" -eq "$(counter "$own")" ] ||
                fail "$mmu: $(events code_store) events code_store, $own is $(counter "$own")"
            continue
        fi
        [ "$(events "$name")" -eq "$(counter "$own")" ] ||
            fail "$mmu: $(events "$name") events of $name, $own is $(counter "$own")"
        all=$((all + $(events "$name")))
    done < <(grep '^PN_OUTCOME(' "$top/include/penumbra/outcomes.inc")
    [ "$(events page_fault)" -eq $all ] || fail "$mmu: $(events page_fault) events page_fault, $all outcomes"
    [ "$(counter pf_taken)" -eq $((all - $(counter pf_mmio_spte))) ] || fail "$mmu: pf_taken is $(counter pf_taken), outcomes $all"
    sum_is pf_fixed pf_mapped pf_split pf_uncached
    if [ $mmu = tdp ]; then # every other fault is an exit
        sum_is ept_violation pf_fixed pf_mmio pf_dirty_log
        sum_is ept_misconfig pf_mmio_spte
    fi
    case $mmu-${2:-} in
    tdp-) sum_is model_exit_fault ept_violation ept_misconfig ;;
    shadow-) sum_is model_exit_fault pf_taken pf_mmio_spte ;;
    esac
    for name in "${expect[@]}" code_store; do
        case $mmu-$name in
        tdp-tracked_table | tdp-mapped_split) continue ;; # it shadows no tables
        esac
        [ "$(events "$name")" -gt 0 ] || fail "$mmu: no fault came to $name"
    done
    # A field that is 0 in all of 100 events says nothing. Some events are the kernel's alone, so
    # of CPL page_fault speaks.
    awk '{ n[$3]++; for (i = 4; i <= NF; i++) { split($i, f, "="); if (f[1] == "cpl" && $3 != "page_fault") continue; if (f[2] != "0" && f[2] != "0x0") said[$3, f[1]] = 1; has[$3, f[1]] = 1 } }
        END { for (k in has) { split(k, p, SUBSEP); if (n[p[1]] >= 100 && !(k in said)) print p[1], p[2] } }' \
        "$work/text" > "$work/silent"
    if [ "${2:-}" = linux ] && [ -s "$work/silent" ]; then
        fail "$mmu: fields that are 0 always: $(cat "$work/silent")"
    fi
done
exit $bad
