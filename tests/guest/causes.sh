#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Causes of faults on a real Linux: a program that changes rights, splits and collapses huge pages, and reads
# a file until the kernel takes memory back. What each of them costs the shadow MMU has its name.
#
#   causes.sh PENUMBRA PROGRAM [OPTION of scripts/guest.sh]...
#
# PROGRAM: causes, built from causes.c. Exit: 0, 1 with what is wrong, 77 when the guest's packages are not
# there (skipped).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
penumbra=$1 program=$2
shift 2
. "$here/../lib.sh"
need_guest "$@"
work_folder

# FUSE is a module of some kernels, and a part of others.
mkdir -p "$work/tree/bin"
cp "$program" "$work/tree/bin/causes"
file=$(find "$cache/root/" -name 'fuse.ko*')
case $file in
*.xz) xz -dc "$file" > "$work/tree/bin/fuse.ko" ;;
?*) cp "$file" "$work/tree/bin/fuse.ko" ;;
esac
(cd "$work/tree" && find bin | cpio --quiet -o -H newc) | gzip -n | cat "$cache/initrd.gz" - > "$work/initrd.gz"
cat > "$work/check.py" << 'E2'
"""check.py CONSOLE CSV: by cause, outcome, process and function."""
import collections, csv, re, sys

text = open(sys.argv[1], errors="replace").read().replace("\r", "")
assert re.search(r"^CAUSES-DONE$", text, re.M), text[-300:]
steps = set(re.findall(r"^STEP (\w+) ", text, re.M))
assert steps == {"mprotect", "split", "collapse", "khugepaged", "reclaim"}, steps
assert int(re.search(r"^KSWAPD (\d+) pages", text, re.M).group(1)) > 1000
faults = collections.Counter()
of = collections.defaultdict(set)  # functions by process and cause
for r in csv.DictReader(open(sys.argv[2])):
    name = r["process"].split(" ", 1)[-1].rstrip("0123456789")
    faults[r["cause"]] += int(r["faults"])
    of[name, r["cause"]].add(r["function"])
# Each where it happens: of these functions one at least, in which Linux does this and nothing else. By
# khugepaged's time the table may be out of the MMU's sight: it looks at the new page's memory anyway.
for where, functions in {
    ("causes", "mprotect"): {"__ptep_modify_prot_start", "ptep_modify_prot_start", "change_pte_range", "change_protection_range"},
    ("causes", "thp_split"): {"pmdp_invalidate", "__split_huge_pmd_locked"},
    ("causes", "thp_collapse"): {"pmdp_collapse_flush"},
    ("khugepaged", "thp_collapse"): of["khugepaged", "thp_collapse"],
    ("kswapd", "reclaim"): {"ptep_clear_flush", "try_to_unmap_one", "ptep_test_and_clear_young", "pmdp_test_and_clear_young"},
}.items():
    assert of[where] & functions, (where, of[where])
    print(*where, *sorted(of[where] & functions))
# No other cause has them.
for (name, cause), functions in of.items():
    for function in functions & {"pmdp_invalidate", "pmdp_collapse_flush", "ptep_clear_flush_young"}:
        assert cause in ("thp_split", "thp_collapse", "reclaim", "sync", "reuse"), (name, cause, function)
assert faults["reuse"] > 0 and faults["exit"] > 0 and faults["demand"] > 1000, faults
assert (faults["unknown"] + faults["table_write"]) * 50 < sum(faults.values()), faults
E2
# study COMMAND OPTION...: what a guest that does this faults on, in $work/f.csv.
study() {
    printf '%s\n' "$1" 'poweroff -f' > "$work/input"
    timeout 250 "$penumbra" run -m 128M --kernel "$cache/vmlinuz" --initrd "$work/initrd.gz" \
        --append "console=ttyS0 quiet panic=-1" --trace "$work/t" --trace-tasks "${@:2}" \
        < "$work/input" > "$work/console" 2> "$work/err" ||
        fail "$1: exit code $?: $(cat "$work/err")"
    "$penumbra" faults "$work/t" --symbols "$cache/vmlinuz" --by cause,outcome,process,function --csv "$work/f.csv" > "$work/out" 2>&1 ||
        fail "faults: $(cat "$work/out")"
}
study 'insmod /bin/fuse.ko 2> /dev/null; causes 160'
python3 "$work/check.py" "$work/console" "$work/f.csv" > "$work/why" 2>&1 || fail "$(tail -n 1 "$work/why")"
cat "$work/why"
# With room for few shadow pages, the MMU takes some back that Linux still uses.
! grep -q '^recycle,' "$work/f.csv" || fail "recycled with room for all"
study causes --mmu-opt page_budget=64
grep -q '^recycle,' "$work/f.csv" || fail "nothing is recycled with room for 64 shadow pages"
exit $bad
