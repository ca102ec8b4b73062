#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Faults in a module of a Linux guest are named as the guest itself names them in /proc/kallsyms, and
# modules are those of its /proc/modules.
#
#   modules.sh PENUMBRA [GUEST-OPTION...]
. "$(dirname "$0")/lib.sh"
shift
need_guest "$@"
cat > "$work/check.py" <<'E2'
"""check.py CONSOLE CSV INFO"""
import bisect, csv, json, re, sys

console, table, info = sys.argv[1:]
text = open(console, errors="replace").read().replace("\r", "")
symbols = {}
for line in re.search(r"SYMBOLS-BEGIN\n(.*?)SYMBOLS-END", text, re.S).group(1).splitlines():
    at, kind, name, module = re.match(r"([0-9a-f]{16}) (.) (\S+)\t\[(\w+)\]", line).groups()
    if kind in "tTwW":
        symbols.setdefault((module, int(at, 16)), set()).add(name)
got = json.loads(open(info).read())["result"]
texts = [(int(t["from"], 16), int(t["to"], 16)) for m in got for t in m["text"]]
starts = sorted(at for _, at in symbols)
# Each fault in a module is in the function that the guest has there. Init's text has gone since.
named = 0
for r in csv.DictReader(open(table)):
    m = re.fullmatch(r"(\S+) \[(\w+)\]", r["function"])
    rip = int(r["rip"], 16)
    if any(a <= rip <= b for a, b in texts):
        assert m, r
        at = starts[bisect.bisect_right(starts, rip) - 1]
        assert m.group(1) in symbols.get((m.group(2), at), ()), (r, hex(at), symbols.get((m.group(2), at)))
        named += int(r["faults"])
    elif m:
        assert "init" in m.group(1) and m.group(2).startswith("lz4hc"), r
assert named > 0, "no fault in a module"
# The list, its addresses too.
want = re.findall(r"^(\w+) \d+ \d+ \S+ \w+ 0x([0-9a-f]+)", text, re.M)
assert [m["name"] for m in got] == [name for name, _ in want] and len(want) == 2, (want, got)
for m, (_, at) in zip(got, want):
    assert any(int(t["from"], 16) == int(at, 16) for t in m["text"]), (m, at)
    assert all(int(t["from"], 16) <= int(t["to"], 16) for t in m["text"]), m
print(named, "faults in modules")
E2
mkdir -p "$work/tree/bin"
for name in lz4hc_compress lz4hc; do
    file=$(find "$cache/root/" -name "$name.ko*")
    case $file in
    *.xz) xz -dc "$file" > "$work/tree/bin/$name.ko" ;;
    ?*) cp "$file" "$work/tree/bin/$name.ko" ;;
    *) fail "the guest's kernel has no module $name" ;;
    esac
done
(cd "$work/tree" && find bin | cpio --quiet -o -H newc) | gzip -n | cat "$cache/initrd.gz" - > "$work/initrd.gz"
cat > "$work/input" << 'E2'
insmod /bin/lz4hc_compress.ko && insmod /bin/lz4hc.ko
echo SYMBOLS"-"BEGIN; grep '\[lz4' /proc/kallsyms; echo SYMBOLS"-"END; cat /proc/modules
echo ALL"-"SAID
E2
mkfifo "$work/keys"
exec {keys}<> "$work/keys"
cat "$work/input" >&$keys
timeout 250 "$penumbra" run --mmu-opt prefetch=0 -m 256M --kernel "$cache/vmlinuz" --initrd "$work/initrd.gz" \
    --append "console=ttyS0 quiet panic=-1" --trace "$work/t" --trace-tasks --trace-events page_fault,fault_outcome \
    --monitor "$work/mon" < "$work/keys" > "$work/console" 2> "$work/err" &
pid=$!
until grep -q '^ALL-SAID' "$work/console" || ! kill -0 $pid 2> /dev/null; do sleep 0.1; done
"$penumbra" monitor "$work/mon" --json "info modules" > "$work/info" 2>> "$work/err"
echo "poweroff -f" >&$keys
wait $pid || fail "exit code $?: $(cat "$work/err")"
run faults "$work/t" --symbols "$cache/vmlinuz" --by function,rip --csv "$work/f.csv"
[ "$rc" -eq 0 ] || fail "faults: exit code $rc: $(cat "$work/err")"
python3 "$work/check.py" "$work/console" "$work/f.csv" "$work/info" > "$work/why" 2>&1 ||
    fail "$(tail -n 1 "$work/why"): $(tail -n 5 "$work/console")"
cat "$work/why"

# One function alone, by its module.
name=$(python3 -c 'import csv, sys; print(next(r["function"] for r in csv.DictReader(open(sys.argv[1])) if r["function"].endswith("]")))' \
    "$work/f.csv")
run faults "$work/t" --rip "$name" --by function --csv "$work/one.csv"
[ "$rc" -eq 0 ] && python3 - "$work/f.csv" "$work/one.csv" "$name" << 'E2' || fail "--rip '$name': exit code $rc: $(cat "$work/err")"
import csv, sys

every, one = (list(csv.DictReader(open(f))) for f in sys.argv[1:3])
assert [r["function"] for r in one] == [sys.argv[3]], one
assert int(one[0]["faults"]) == sum(int(r["faults"]) for r in every if r["function"] == sys.argv[3]) > 0, one
E2
exit $bad
