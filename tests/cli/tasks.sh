#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A Linux guest looked at from outside, against its own record: the tasks and mappings that the monitor
# lists are those of its /proc; the faults of run --trace-tasks belong to the processes and mappings
# that it names itself; and it runs as it does without.
#
#   tasks.sh PENUMBRA [GUEST-OPTION...]
. "$(dirname "$0")/lib.sh"
shift
need_guest "$@"
cat > "$work/check.py" <<'E2'
"""check.py monitor SOCKET CONSOLE | faults MMU CONSOLE CSV | isolated CONSOLE CSV"""
import collections, csv, json, re, socket, sys, time


def section(text, name):
    return re.search(name + r"-BEGIN\r?\n(.*?)" + name + "-END", text, re.S).group(1).replace("\r", "").splitlines()


def monitor(path, console):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.settimeout(60)
    f = s.makefile("rb")

    def ask(line):
        s.sendall(line.encode() + b"\n")
        answer = json.loads(f.readline())
        assert answer["ok"], answer
        return answer["result"]

    s.sendall(b"json on\n")
    f.readline()
    ask("stop")
    try:
        compare(ask, open(console, errors="replace").read())
    finally:
        ask("cont")


def compare(ask, text):
    shell = int(re.search(r"SHELL-PID (\d+)", text).group(1))
    # Tasks: thread group, number and name. The kernel starts and ends workers as it likes.
    theirs = {}
    for line in section(text, "TASKS"):
        tgid, pid, comm = re.match(r"/proc/(\d+)/task/(\d+)/comm:(.*)", line).groups()
        theirs[int(pid)] = (int(tgid), comm[:15])  # of threads of the kernel it tells more
    ours = {t["pid"]: (t["tgid"], t["comm"]) for t in ask("info tasks") if t["pid"]}
    for pid in theirs.keys() & ours.keys():
        if not ours[pid][1].startswith("kworker"):
            assert ours[pid] == theirs[pid], (pid, ours[pid], theirs[pid])
    assert shell in ours and 1 in ours and 2 in ours
    for pid in theirs.keys() ^ ours.keys():
        name = (ours.get(pid) or theirs[pid])[1]
        assert name.startswith("kworker") or name in ("grep", "cat", "cryptomgr_test"), (pid, name)
    assert len(ours) > 20, ours
    # Mappings of the shell, and of a dd, which has more of them than one node of the tree holds.
    for pid, name in (shell, "MAPS"), (int(re.search(r"DD-PID (\d+)", text).group(1)), "MORE"):
        want = []
        for line in section(text, name):
            where, rights, _, _, _, *file = line.split(None, 5)
            start, end = where.split("-")
            if int(start, 16) < 1 << 63:  # the vsyscall page is none
                want.append((int(start, 16), int(end, 16), rights, file[0].strip() if file else "[anon]"))
        got = [(int(v["start"], 16), int(v["end"], 16), v["rights"], v["name"]) for v in ask("info vmas %d" % pid)]
        assert got == want, (name, got, want)
    cr3 = {t["pid"]: t["cr3"] for t in ask("info tasks")}
    assert cr3[shell] and not cr3[2], cr3
    assert ask("explain $rip")["region"]["name"] in ("[kernel text]", "[modules]", "busybox")


def faults(mmu, console, table):
    text = open(console, errors="replace").read()
    rows = list(csv.DictReader(open(table)))
    names, own, regions = collections.defaultdict(set), collections.Counter(), collections.defaultdict(set)
    for r in rows:
        if r["process"] == "?":
            continue
        tgid, name = r["process"].split(" ", 1)
        names[int(tgid)].add(name)
        regions[int(tgid)].add(r["region"])
        if r["outcome"] == "guest_pf":
            own[int(tgid)] += int(r["faults"])
    checked = 0
    # Each names itself, and tells its own count of faults as it ends.
    for pid, faults in re.findall(r"RECORD (\d+)\r?\n.*?Minor \(reclaiming a frame\) page faults: (\d+)", text, re.S):
        pid, faults = int(pid), int(faults)
        assert "dd" in names[pid], (pid, names[pid])
        # busybox starts its own parts as /proc/self/exe
        assert names[pid] <= {"sh", "busybox", "exe", "dd"}, (pid, names[pid])
        assert {"busybox", "[heap]", "[stack]", "[anon]"} & regions[pid] >= {"busybox", "[stack]"}, regions[pid]
        assert abs(own[pid] - faults) <= 0.1 * faults + 20, (pid, own[pid], faults)
        checked += 1
    assert checked == 5, checked
    unknown = sum(int(r["faults"]) for r in rows if r["process"] == "?")
    all_faults = sum(int(r["faults"]) for r in rows)
    print("unknown", unknown, "of", all_faults)
    # Under tdp the first access to a range of memory is the one hidden fault of it.
    more = ("[vmalloc]", "[vmemmap]", "[kernel stack]", "[per-CPU]", "[kernel data]") if mmu == "shadow" else ()
    for wanted in ("[kernel text]", "[direct map]") + more:
        assert any(r["region"] == wanted for r in rows), wanted
    assert unknown * 50 < all_faults, (unknown, all_faults)
    # What a process does in user space is in its mappings.
    lost = sum(int(r["faults"]) for r in rows if r["cpl"] == "3" and r["region"] == "?")
    assert lost == 0, lost


def isolated(console, table):
    """The shell has two CR3s, that of the kernel and that of user space in the page behind it."""
    shell = re.search(r"SHELL-PID (\d+)", open(console, errors="replace").read()).group(1) + " sh"
    spaces = sorted(int(r["cr3"], 16) for r in csv.DictReader(open(table)) if r["process"] == shell)
    assert any(s + 0x1000 in spaces for s in spaces if not s & 0x1000), [hex(s) for s in spaces]


globals()[sys.argv[1]](*sys.argv[2:])
E2
cat > "$work/input" << 'E2'
for i in 1 2 3 4 5; do /bin/busybox time -v sh -c 'echo RECORD $$; exec dd if=/dev/zero of=/dev/null bs=1M count=2' 2>&1; done
mkfifo /tmp/fifo; sleep 100000000 > /tmp/fifo & dd if=/tmp/fifo bs=1M of=/dev/null &
sleep 1
echo SHELL"-"PID $$; echo DD"-"PID $!
echo TASKS"-"BEGIN; grep . /proc/[0-9]*/task/[0-9]*/comm; echo TASKS"-"END
echo MAPS"-"BEGIN; cat /proc/$$/maps; echo MAPS"-"END; echo MORE"-"BEGIN; cat /proc/$!/maps; echo MORE"-"END
echo ALL"-"SAID
E2
guest=(-m 256M --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" --append)
for mmu in shadow tdp; do
    append="console=ttyS0 quiet panic=-1"
    [ $mmu = tdp ] || append+=" pti=on"
    about="a boot under $mmu"
    : > "$work/console" # that of the boot before says all, too
    mkfifo "$work/keys"
    exec {keys}<> "$work/keys"
    cat "$work/input" >&$keys
    timeout 250 "$penumbra" run --mmu $mmu "${guest[@]}" "$append" --trace "$work/t" --trace-tasks --monitor "$work/mon" \
        --trace-events page_fault,fault_outcome < "$work/keys" > "$work/console" 2> "$work/err" &
    pid=$!
    until grep -q '^ALL-SAID' "$work/console" || ! kill -0 $pid 2> /dev/null; do sleep 0.1; done
    python3 "$work/check.py" monitor "$work/mon" "$work/console" > "$work/why" 2>&1 ||
        fail "$about: the monitor: $(tail -n 1 "$work/why")"
    echo "poweroff -f" >&$keys
    wait $pid || fail "$about: $(cat "$work/err")"
    exec {keys}>&-
    rm "$work/keys"
    run faults "$work/t" --by process,region,outcome,cpl --csv "$work/f.csv"
    python3 "$work/check.py" faults $mmu "$work/console" "$work/f.csv" > "$work/why" 2>&1 ||
        fail "$about: faults: $(tail -n 1 "$work/why")"
    [ $mmu = shadow ] || continue
    run faults "$work/t" --by process,cr3 --csv "$work/f.csv"
    python3 "$work/check.py" isolated "$work/console" "$work/f.csv" > "$work/why" 2>&1 ||
        fail "$about: page-table isolation: $(tail -n 1 "$work/why")"
done

# The working set has processes and regions, too.
about="the working set"
run run --mmu tdp "${guest[@]}" "console=ttyS0 panic=-1 pn.script" --trace-tasks \
    --dirty-log accessed --dirty-every 20 --trace "$work/a" --trace-events page_accessed,dirty_harvest,task,region --max-insns 1000000000
run dirty-rate "$work/a" --json "$work/a.json"
[ "$rc" -eq 0 ] || fail "$about: exit code $rc: $(cat "$work/err")"
python3 - "$work/a.json" << 'END' || fail "$about: nobody is known"
import json, sys

rate = json.load(open(sys.argv[1]))
regions = {r["name"]: r["pages"] for r in rate["region"]}
assert regions["[kernel text]"] > 1000 and regions.get("?", 0) * 20 < rate["stores"], regions
assert sum(regions.values()) == rate["stores"] == sum(p["pages"] for p in rate["process"])
assert any(p["name"].startswith("1 ") for p in rate["process"])
END
exit $bad
