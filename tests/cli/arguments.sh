#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Bad command lines: one line, the documented exit code. Good ones: what they print.
. "$(dirname "$0")/lib.sh"

refused 2 frob
refused 2 run --frob
refused 2 run -Z
refused 2 run --kernel
refused 2 run --mmu
refused 2 run extra
refused 2 run --mmu magic
refused 2 run --mmu-opt nosuch=1
refused 2 run --mmu-opt unsync
refused 2 run --mmu-opt unsync=banana
refused 2 run --mmu-opt page_budget=1
refused 2 run --cpu nosuchcpu
refused 2 run --cpu x86-64-v3,+nosuchfeature
refused 2 run -m 0
refused 2 run -m 512
refused 2 run -m -1
refused 2 run -m 12Q
refused 2 run -m 1M
refused 2 run -m 65G
refused 2 run -m 99999999999999999999
refused 2 run -c 0
refused 2 run -c many
refused 2 run --numa nowhere
refused 2 run --numa bind=4096
refused 2 run --hugepages 3M
refused 2 run --clock sundial
refused 2 run --seed x
refused 2 run --block-len 0
refused 2 run --max-insns 0
refused 2 run --timeout 0
refused 2 run --timeout soon
refused 2 run --format exe
refused 2 run --format flat
refused 2 run --flat-bits 8
refused 2 run --trace-events nosuch
refused 2 run --trace-limit 1
refused 2 run --initrd "$0"
refused 2 run --event-digest
refused 1 run --stats /nonexistent/s.json
refused 1 run --trace /nonexistent/t
refused 2 host extra
refused 2 trace
refused 2 trace a b
refused 1 trace /nonexistent/t
refused 2 trace "$0"
refused 2 trace /dev/null
refused 2 trace "$work"

run
[ "$rc" -eq 2 ] && grep -q Usage "$work/err" || fail "no command: usage, exit code 2"
for c in --help "run --help" "host --help" "trace --help"; do
    run $c
    [ "$rc" -eq 0 ] && grep -q Usage "$work/out" && [ ! -s "$work/err" ] || fail "$c"
done
for o in mmu mmu-opt kernel initrd append cpu memory cpus stats trace clock max-insns timeout \
    numa hugepages seed; do
    run run --help
    grep -q -- "--$o\b" "$work/out" || fail "run --help does not tell of --$o"
done
run --version
[ "$rc" -eq 0 ] && grep -q '^penumbra [0-9]' "$work/out" || fail "--version"
run run --mmu-opt help
[ "$rc" -eq 0 ] && grep -q unsync "$work/out" || fail "--mmu-opt help"
run run --cpu help
[ "$rc" -eq 0 ] && grep -q x86-64-v3 "$work/out" || fail "--cpu help"
run run --trace-events help
[ "$rc" -eq 0 ] && grep -q page_fault "$work/out" || fail "--trace-events help"
run host
[ "$rc" -eq 0 ] && grep -q '^--mmu shadow *works here' "$work/out" || fail "host"
run host --json
[ "$rc" -eq 0 ] && grep -q '"schema": "penumbra-host-1"' "$work/out" || fail "host --json"
exit $bad
