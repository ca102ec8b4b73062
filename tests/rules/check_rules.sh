#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The house rules that a machine can check (DESIGN.md, sections 3 and 7):
# - a room includes only itself, the rooms below it, and include/penumbra
# - only src/engine/kvm*.c includes <linux/kvm.h> (and bench/startup/least.c, a VMM of its own)
# - only the decoder and encoder files of src/cpu include Zydis
# - exit() and its kin stand in src/cli alone
# - every source names its licence
# Files over 800 lines are named, but are no error.
#
#   check_rules.sh [TREE]
set -euo pipefail
cd "${1:-$(dirname "$0")/../..}"

# room: the rooms whose headers it may include (its own and include/penumbra always).
declare -A may=(
    [base]=""
    [trace]="base"
    [mmu]="base"
    [dev]="base"
    [cpu]="mmu base"
    [engine]="cpu mmu base"
    [machine]="engine cpu mmu dev base"
    [inspect]="machine engine cpu mmu dev trace base"
    [cli]="inspect machine engine cpu mmu dev trace base bench"
    [bench]="inspect machine engine cpu mmu dev trace base"
)
zydis_files='src/cpu/(decode|disasm|shape|lower|emit|encode)[a-z_]*\.[ch]'
kvm_files='src/engine/kvm[a-z_]*\.[ch]'

bad=0
complain() {
    echo "$*"
    bad=1
}

# The room a path belongs to, or nothing.
room_of() {
    case $1 in
    mmu/*) echo mmu ;;
    bench/*) echo bench ;;
    src/*/*) echo "$1" | cut -d/ -f2 ;;
    esac
}

# The room that an include names. Paths are written from src/ or from the top, or the
# file lies beside its includer.
room_of_include() {
    local from=$1 name=$2
    case $name in
    penumbra/*) echo include ;;
    mmu/*) echo mmu ;;
    bench/*) echo bench ;;
    */*) [ -d "src/${name%%/*}" ] && echo "${name%%/*}" || room_of "$from" ;;
    *) room_of "$from" ;;
    esac
}

files=$(find include src mmu bench tests -type f \( -name '*.[chS]' -o -name '*.inc' \) | sort)

while IFS=: read -r file line text; do
    room=$(room_of "$file")
    [ -n "$room" ] || continue
    name=$(sed -E 's/.*#[[:space:]]*include[[:space:]]*"([^"]*)".*/\1/' <<<"$text")
    target=$(room_of_include "$file" "$name")
    [ "$target" = include ] || [ "$target" = "$room" ] && continue
    case " ${may[$room]-} " in
    *" $target "*) ;;
    *) complain "$file:$line: room $room may not include $name (room $target)" ;;
    esac
done < <(grep -nHE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' $files || true)

# include/penumbra stands alone.
while IFS=: read -r file line text; do
    complain "$file:$line: include/penumbra includes only penumbra/: $text"
done < <(grep -nHE '#[[:space:]]*include[[:space:]]*"' include/penumbra/* | grep -v '"penumbra/' || true)

while IFS=: read -r file line _; do
    [[ $file =~ ^$kvm_files$ || $file =~ ^tests/ || $file == bench/startup/least.c ]] ||
        complain "$file:$line: only src/engine/kvm*.c includes <linux/kvm.h>"
done < <(grep -nHE '#[[:space:]]*include[[:space:]]*<linux/kvm' $files || true)

while IFS=: read -r file line _; do
    [[ $file =~ ^$zydis_files$ || $file =~ ^tests/ ]] ||
        complain "$file:$line: only the decoder and encoder files of src/cpu include Zydis"
done < <(grep -nHE '#[[:space:]]*include[[:space:]]*[<"]Zydis' $files || true)

while IFS=: read -r file line text; do
    case $file in src/cli/* | tests/* | bench/*) continue ;; esac
    complain "$file:$line: ends the process outside src/cli:$text"
done < <(grep -nHE '(^|[^a-zA-Z0-9_.>])(exit|_exit|_Exit|quick_exit)[[:space:]]*\(' $files |
    grep -vE '^[^:]*:[0-9]+:[[:space:]]*(\*|/\*|//)' || true)

for file in $files; do
    head -n 1 "$file" | grep -q 'SPDX-License-Identifier: MIT' || complain "$file:1: no SPDX line"
done

for file in $files; do
    lines=$(wc -l < "$file")
    [ "$lines" -le 800 ] || echo "note: $file has $lines lines; does it hold one subject?"
done

exit $bad
