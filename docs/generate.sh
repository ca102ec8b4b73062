#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The parts of docs/ that are generated: reference/ from the program's tables, winners.svg and
# three pictures of studies.md from its modelled cycles, which are the same on every host for a guest that the same compiler made.
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
trap 'rm -f "$result" "$result"*.json' EXIT
# bench NAME ARG...: into $result.NAME.json
bench() {
    "$penumbra" bench "${@:2}" --repeat 1 --warmup 0 --json "$result.$1.json" > /dev/null < /dev/null
}
bench all touch chase remap protect cow ctxsw split demand compute --mmu shadow,tdp
bench fork cow:pages=512 --mmu shadow,tdp
bench unsync remap:batch=1 --mmu shadow:unsync=0/1
for page in 4K 2M; do
    bench $page chase:bytes=64M,page=$page,steps=100000 --mmu shadow,tdp:large_pages=0/1
done
compiler=$("$here/compiler.sh" "$penumbra")
python3 "$here/winners.py" "$result.all.json" "$compiler" > "$out/winners.svg"
python3 "$here/studies.py" fork "$compiler" "$result.fork.json" > "$out/study-fork.svg"
python3 "$here/studies.py" unsync "$compiler" "$result.unsync.json" > "$out/study-unsync.svg"
python3 "$here/studies.py" huge-pages "$compiler" "$result.4K.json" "$result.2M.json" > "$out/study-huge-pages.svg"
