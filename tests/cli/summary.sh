#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# --summary speaks of what the MMU that ran can do, and of nothing else; page_budget can be seen in it.
. "$(dirname "$0")/lib.sh"
small="pages=64 swaps=50 flips=20 switches=20 compute=1000"

# has|lacks WORDS: a row or heading of the last summary (it is on standard error).
has() { grep -qi "$1" "$work/err" || fail "$about: nothing of '$1': $(cat "$work/err")"; }
lacks() { ! grep -i "$1" "$work/err" || fail "$about: it has that row"; }
row() { tr -d ',' < "$work/err" | sed -n "s/^ *$1  *\([0-9]*\)$/\1/p"; }

about="--mmu shadow"
run run --append "$small" --summary
for words in '^Shadow pages$' unsync flooding 'guest tables' 'shadow entries' 'code'; do has "$words"; done
for words in 'second-level' 'EPT' 'recovered' 'dirty' 'MMIO'; do lacks "$words"; done
[ "$(row 'reclaimed to keep the page budget')" -eq 0 ] || fail "reclaimed, and there was room"

about="--mmu shadow, little room"
run run --mmu-opt page_budget=64 --append "pages=16384 swaps=10" --summary
[ "$(row 'reclaimed to keep the page budget')" -gt 0 ] || fail "page_budget=64 is not to be seen: $(cat "$work/err")"

about="--mmu tdp"
run run --mmu tdp --append "$small" --summary
for words in '^Second-level tables$' 'EPT violations' 'second-level entries' 'code'; do has "$words"; done
for words in 'shadow' 'unsync' 'flooding' 'prefetch' 'guest tables followed' 'dirty' 'MMIO'; do
    sed -i '/^penumbra/d' "$work/err"
    lacks "$words"
done

about="--dirty-log"
run run --mmu tdp --dirty-log wp --dirty-every 1 --append "$small" --summary
has 'first write since a dirty harvest'

about="a handover"
run run --handover tdp@0.05 --append "$small" --summary
for words in '^Shadow pages, and second-level tables$' 'EPT violations' 'unsync' '^  shadow and second-level entries read'; do has "$words"; done
lacks '^  s[a-z-]* entries read' # one counter, one row

# --stats help explains every counter that --stats has, one a line: name, kind, sentence.
run run --append "$small" --stats "$work/s.json"
sed -n '/"counters"/,/}/s/^ *"\([a-z0-9_]*\)": [0-9n].*/\1/p' "$work/s.json" > "$work/names"
run run --stats help
sed -En 's/^  ([a-z0-9_]+) +(sum|now|model) +[^ ].+$/\1/p' "$work/out" | diff - "$work/names" ||
    fail "--stats help does not explain the counters of --stats"
[ "$(wc -l < "$work/names")" -gt 80 ] || fail "only $(wc -l < "$work/names") counters"
cp "$work/out" "$work/counters"
run bench --json help
cmp "$work/out" "$work/counters" || fail "bench --json help says something else"
exit $bad
