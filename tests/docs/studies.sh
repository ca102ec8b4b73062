#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The study of Linux's own patching (docs/studies.md) holds for the kernel that is booted: more than
# half of the faults of a boot are text_poke's, and one table goes out of sync for nearly all of them.
# The picture is made from it.
#
#   studies.sh PENUMBRA
. "$(dirname "$0")/../cli/lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
need_guest
run run --mmu shadow --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" --append "console=ttyS0 quiet pn.off" --timeout 110 \
    --trace "$work/t" --trace-tasks
[ "$rc" -eq 0 ] || fail "exit code $rc: $(cat "$work/err")"
run faults "$work/t" --symbols "$cache/vmlinuz" --by cause --csv "$work/causes.csv"
run faults "$work/t" --symbols "$cache/vmlinuz" --report unsync --csv "$work/unsync.csv"
python3 "$top/docs/studies.py" text-poke 6.1 "$work/causes.csv" > "$work/picture.svg" || fail "no picture"
python3 - "$work" "$top/docs/study-text-poke.svg" > "$work/why" 2>&1 << 'PYTHON' || fail "$(tail -n 1 "$work/why")"
import csv, sys, xml.dom.minidom
work, committed = sys.argv[1:]
causes = {r["cause"]: int(r["faults"]) for r in csv.DictReader(open(f"{work}/causes.csv"))}
assert max(causes, key=causes.get) == "text_poke" and causes["text_poke"] > sum(causes.values()) / 2, causes
first = next(csv.DictReader(open(f"{work}/unsync.csv")))
assert int(first["unsyncs"]) > 0.9 * causes["text_poke"], (first, causes)
assert first["function"] == "native_set_pte", first
count = [len(xml.dom.minidom.parse(name).getElementsByTagName("rect")) for name in (f"{work}/picture.svg", committed)]
assert count[0] == count[1] == 9, count
PYTHON
exit $bad
