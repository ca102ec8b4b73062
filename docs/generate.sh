#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The parts of docs/ that are generated: reference/ from the program's tables, winners.svg from
# its modelled cycles, which are the same on every host for a guest that the same compiler made.
#
#   generate.sh PENUMBRA [FOLDER]    into FOLDER, or this one
set -euo pipefail
penumbra=$(readlink -f "$1")
here=$(dirname "$(readlink -f "$0")")
out=${2:-$here}
mkdir -p "$out/reference"
for page in commands counters events choices; do
    "$penumbra" "--help=$page" > "$out/reference/$page.md"
done
result=$(mktemp)
trap 'rm -f "$result"' EXIT
"$penumbra" bench touch chase remap protect cow ctxsw split demand compute --mmu shadow,tdp --repeat 1 --warmup 0 \
    --json "$result.json" > /dev/null < /dev/null
compiler=$(readelf -p .comment "$penumbra" | sed -n 's/.*] *\(GCC\|clang\).* \([0-9]*\)\.[0-9.]*.*/\1 \2/p' | head -n 1)
python3 "$here/winners.py" "$result.json" "$compiler" > "$out/winners.svg"
rm -f "$result.json"
