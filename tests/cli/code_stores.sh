#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A guest that stores data beside its own code: N stores are N code_stores and N events, under both
# MMUs. No counter of the MMU, no fault and no exit comes of them, and --summary has them under the
# software CPU.
. "$(dirname "$0")/lib.sh"

# le32 N: its four bytes for printf.
le32() { printf '\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)); }

# guest N M: N times MOV, then M bytes by REP STOSB, all to the page of the code; then the end.
guest() {
    printf '%b' "\xb9$(le32 "$1")" '\x89\x0d\x00\x08\x10\x00' '\xe2\xf8' '\xbf\x00\x09\x10\x00' \
        "\xb9$(le32 "$2")" '\xfc\xf3\xaa' '\x30\xc0\xe6\xf4' > "$work/guest"
}
counter() { sed -n "s/.*\"$1\": \([0-9]*\).*/\1/p" "$2" | head -n 1; }

for mmu in shadow tdp; do
    for counts in "1 1" "700 0" "1000 300"; do
        read -r n m <<<"$counts"
        guest "$n" "$m"
        run run --mmu $mmu --kernel "$work/guest" --format flat --flat-addr 0x100000 --flat-bits 32 --timeout 20 \
            --trace "$work/trace" --stats "$work/stats" --summary
        [ "$rc" -eq 1 ] || fail "$mmu: exit code $rc: $(cat "$work/err")"
        [ "$(counter code_stores "$work/stats")" -eq $((n + m)) ] ||
            fail "$mmu: $((n + m)) stores, $(counter code_stores "$work/stats") counted"
        events=$("$penumbra" trace "$work/trace" | grep -c ' code_store ')
        [ "$events" -eq $((n + m)) ] || fail "$mmu: $((n + m)) stores, $events events"
        grep -q "stores beside translated code *$((n + m))$" < <(tr -d ',' < "$work/err" | grep -A 9 '^Software CPU') ||
            fail "$mmu: the summary has not $((n + m)) under the software CPU: $(cat "$work/err")"
        # What the MMU counted; the rest of the trace but for the software CPU's own events.
        sed -n 's/^ *"\(tlb_[a-z]*\|pf_[a-z_]*\|gpte_[a-z_0-9]*\|walk_refs[a-z_0-9]*\|sp_[a-z]*\|mmu_[a-z_]*\|large_[a-z]*\|ept_[a-z]*\|pages_[a-z0-9]*\)": /\1 /p' \
            "$work/stats" > "$work/mmu.$n"
        "$penumbra" trace "$work/trace" | awk '{ print $3 }' | grep -vE '^(code_store|code_write|exit)$' > "$work/events.$n"
    done
    [ "$(wc -l < "$work/mmu.1")" -ge 40 ] || fail "only $(wc -l < "$work/mmu.1") counters of the MMU"
    for n in 700 1000; do
        diff "$work/mmu.1" "$work/mmu.$n" || fail "$mmu: $n stores, and the MMU counts otherwise"
        diff "$work/events.1" "$work/events.$n" || fail "$mmu: $n stores, and other events"
    done
done
exit $bad
