#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# run --profile and --perf-map. The shares of a guest that is made of three known functions are those that its
# instructions say; a Linux guest's are of the processes and functions that its script starts. What
# the guest does is the same with and without.
#
#   profile.sh PENUMBRA GUEST.elf | linux
. "$(dirname "$0")/lib.sh"
guest=$2
cat > "$work/read.py" <<'E2'
"""rows(FILE): [(process, function, part, count)] of folded stacks, or of pprof's format."""
import collections, gzip, json, sys


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def fields(data):
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        assert key & 7 in (0, 2), key
        value, at = varint(data, at)
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        yield key >> 3, value
    assert at == len(data)


def packed(data):
    at, out = 0, []
    while at < len(data):
        value, at = varint(data, at)
        out.append(value)
    return out


def pprof(path):
    """By github.com/google/pprof, proto/profile.proto."""
    whole = list(fields(gzip.open(path).read()))
    every = lambda number: [v for n, v in whole if n == number]
    strings = [s.decode() for s in every(6)]
    assert strings[0] == "" and len(set(strings)) == len(strings)
    function = {dict(fields(f))[1]: strings[dict(fields(f))[2]] for f in every(5)}
    location = {}
    for l in map(lambda l: dict(fields(l)), every(4)):
        location[l[1]] = function[dict(fields(l[4]))[1]]
    types = [tuple(strings[dict(fields(t))[i]] for i in (1, 2)) for t in every(1)]
    assert types == [("samples", "count"), ("time", "nanoseconds")], types
    period, = every(12)
    assert len(every(9)) == len(every(10)) == len(every(11)) == 1
    out = []
    for sample in every(2):
        s = list(fields(sample))
        part, name, process = (location[i] for i in packed(next(v for n, v in s if n == 1)))
        count, ns = packed(next(v for n, v in s if n == 2))
        assert ns == count * period
        for label in (dict(fields(v)) for n, v in s if n == 3):
            assert strings[label[1]] == "pid" and label[3] > 0
        out.append((process, name, part, count))
    return out


def rows(path):
    if path.endswith(".gz"):
        return pprof(path)
    out = []
    for line in open(path):
        stack, count = line.rsplit(" ", 1)
        process, function, part = stack.split(";")
        out.append((process, function, part, int(count)))
    assert len(set(r[:3] for r in out)) == len(out)
    return out


def share(all, function=None, part=None):
    """Of all samples those in one of the functions, and in the part."""
    n = sum(r[3] for r in all)
    return sum(r[3] for r in all if (not function or r[1] in function) and (not part or r[2] == part)) / n


def check_sums(all, report):
    assert report["samples"] == sum(report["parts"].values()) == sum(r[3] for r in all), report
    by = collections.Counter()
    for r in all:
        by[r[2]] += r[3]
    assert by == {"[%s]" % p: n for p, n in report["parts"].items() if n}, by
E2

# alike A B: two results are of one guest run.
alike() {
    python3 -c 'import json, sys
a, b = (json.load(open(f)) for f in sys.argv[1:])
for member in "counters", "events", "guest_insns", "guest_ns", "exit", "ram_digest":
    assert a[member] == b[member], member' "$1" "$2" || fail "a profile changes the guest: $1"
}

if [ "$guest" = linux ]; then
    need_guest
    boot=(--kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" -m 256M --append "console=ttyS0 panic=-1 pn.script")
    run run "${boot[@]}" --profile "$work/linux" --stats "$work/linux.json" --event-digest --ram-digest
    [ "$rc" -eq 0 ] && grep -q GUEST-DONE "$work/out" || fail "linux: $(tail -n 3 "$work/err")"
    run run "${boot[@]}" --stats "$work/plain.json" --event-digest --ram-digest
    alike "$work/linux.json" "$work/plain.json"
    cat >> "$work/read.py" <<'E2'
all = rows(sys.argv[1])
check_sums(all, json.load(open(sys.argv[1] + ".json"))["profile"])
process = collections.Counter()
for r in all:
    process[r[0]] += r[3]
n = sum(process.values())
# The script's programs; what ran before the first of them.
for name in "sh", "sha256sum", "awk", "gzip", "swapper/0":
    assert process[name] > n / 500, (name, process)
# sha256sum computes in its own program; a shell that forks is in the kernel, a third of it in what makes, fills and
# drops an address space. (A few hundred samples: a fifth is four standard deviations below.)
mine = lambda name: [r for r in all if r[0] == name]
assert share(mine("sha256sum"), ["busybox"], "[code]") > 0.4, mine("sha256sum")
shell = mine("sh")
mm = ("copy_p", "copy_t", "copy_m", "dup_", "do_exit", "exit_", "mm_", "mmput", "vm_", "vma_", "anon_vma", "mas_", "mt_", "mtree_",
      "unmap_", "zap_", "free_", "release_", "tlb_", "asm_exc_page_fault", "exc_page_fault", "do_user_addr_fault",
      "handle_mm", "__handle_mm", "do_anon", "do_wp", "wp_", "do_set_pte", "do_fault", "filemap_", "next_uptodate",
      "alloc_page", "get_page_from", "clear_page", "put_page", "page_", "__page_", "_compound_head", "folio_", "lru_",
      "add_mm_", "__mod_", "__mem_cgroup", "kmem_cache", "__kmem_cache", "native_set_", "native_flush", "ptep_", "pmd_",
      "pud_", "__pud", "pfn_", "load_new_mm", "switch_mm")
assert sum(r[3] for r in shell if r[1].startswith(mm)) > 0.2 * sum(r[3] for r in shell), shell
assert share(shell, ["busybox"]) < 0.6, shell
# Functions have names.
assert sum(r[3] for r in all if r[1].startswith("0x")) < n / 20, [r for r in all if r[1].startswith("0x")]
E2
    python3 "$work/read.py" "$work/linux" || fail "linux: the shares"
    exit $bad
fi

run_guest() { run run --quiet --kernel "$guest" -m 128M "$@"; }
cat >> "$work/read.py" <<'E2'
for path in sys.argv[1:]:
    all = rows(path)
    check_sums(all, json.load(open(path + ".json"))["profile"])
    heavy, light = share(all, ["heavy"], "[code]"), share(all, ["light"], "[code]")
    assert 2.4 < heavy / light < 3.7, (heavy, light)
    mine = [r for r in all if r[1] in ("heavy", "light")]
    assert share(mine, part="[code]") > 0.9, mine
    mine = [r for r in all if r[1] == "misses"]
    assert share(mine, part="[miss]") > 0.5, mine
    assert share(all, ["heavy", "light", "misses"]) > 0.9, all
E2
for mmu in shadow tdp; do
    for file in "$mmu" "$mmu.pb.gz"; do
        run_guest --mmu $mmu --profile "$work/$file" --stats "$work/$file.json" --event-digest --ram-digest
        [ "$rc" -eq 1 ] && [ ! -s "$work/err" ] || fail "$file: exit code $rc: $(head -n 3 "$work/err")"
    done
    run_guest --mmu $mmu --stats "$work/plain.json" --event-digest --ram-digest
    alike "$work/$mmu.json" "$work/plain.json"
done
python3 "$work/read.py" "$work/shadow" "$work/tdp" "$work/shadow.pb.gz" "$work/tdp.pb.gz" || fail "the shares"

# perf's map: every block has its function, and %p is the process.
run_guest --perf-map "$work/perf-%p.map" --stats "$work/map.json" --event-digest --ram-digest
alike "$work/map.json" "$work/shadow.json"
python3 - "$work"/perf-*.map <<'E2' || fail "perf's map"
import re, sys
path, = sys.argv[1:]
assert re.search(r"/perf-\d+\.map$", path), path
lines = [re.fullmatch(r"([0-9a-f]+) ([0-9a-f]+) guest:(\S+)", l.rstrip("\n")).groups() for l in open(path)]
blocks = sorted((int(a, 16), int(s, 16)) for a, s, _ in lines)
assert all(a + s <= b for (a, s), (b, _) in zip(blocks, blocks[1:]))
assert {n for _, _, n in lines} == {"_start", "heavy", "light", "misses"}, lines
E2

refused 2 run --kernel "$guest" --mmu kvm --profile "$work/x"
grep -q 'perf kvm' "$work/err" || fail "kvm: $(cat "$work/err")"
refused 2 run --kernel "$guest" --mmu kvm --perf-map "$work/x"
refused 2 run --kernel "$guest" --clock host --parallel --profile "$work/x"
grep -q 'perf record' "$work/err" || fail "parallel: $(cat "$work/err")"
refused 2 run --kernel "$guest" --profile-rate 10
refused 2 run --kernel "$guest" --profile "$work/x" --profile-rate 0
refused 2 run --incoming "unix:$work/s" --profile "$work/x"
refused 2 run --kernel "$guest" --perf-map "$work/x" --handover tdp@1
refused 1 run --kernel "$guest" --profile "$work/no/folder"
[ ! -e "$work/x" ] || fail "a refused run left a file"
exit $bad
