# SPDX-License-Identifier: MIT
"""The Linux workloads in a guest of penumbra's beside something else, in turn: what bench/vs_qemu and
bench/vs_native share. Times are by the guest's clock, which is the host's there, a boot's by the host;
ratios are of the runs of one turn; an interval is the 95% one of the median, by resampling (seeded: it
repeats)."""
import argparse
import json
import math
import os
import random
import re
import statistics
import subprocess
import sys
import time

# Each kind of work once; what lmbench measures of processes is in `penumbra bench linux.*`.
SINGLE = ["integer", "simd", "touch", "stream", "chase", "memset", "churn", "syscall", "fork", "ctx"]
# Of bench/linux, what has work for several processors by itself: it is done once, on however many there are.
SHARED = ["threads", "build", "pipe"]
RESAMPLES = 2000
TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Failed(Exception):
    pass


def run(command, limit=600):
    """Output and seconds of a command, which has no input."""
    begun = time.monotonic()
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit)
    except subprocess.TimeoutExpired:
        raise Failed(f"no end after {limit} s: {' '.join(command)}")
    except OSError as e:
        raise Failed(f"{command[0]}: {e.strerror}")
    text = done.stdout.decode(errors="replace").replace("\r", "")
    if done.returncode:
        raise Failed(f"exit code {done.returncode} from: {' '.join(command)}\n{text[-500:]}")
    return text, time.monotonic() - begun


def times(text, names):
    """Nanoseconds of each workload, from pn-linux's lines; and its checksums."""
    if "workload: error" in text:
        raise Failed(re.search("workload: error.*", text)[0])
    ns = [int(v) for v in re.findall(r"^workload: time ns=(\d+)", text, re.M)]
    ends = re.findall(r"^workload: end name=linux-(\w+) .*checksum=(\w+)", text, re.M)
    if [e[0] for e in ends] != names or len(ns) != len(names) or 0 in ns:
        raise Failed(f"not every workload was timed: {text[-500:]}")
    return dict(zip(names, ns)), dict(ends)


def words(names, scale):
    """pn-linux's arguments; scale: {name: n}."""
    return [f"{n}:{scale[n]}" if n in scale else n for n in names]


def interval(turns):
    """95% of the medians of resampled turns."""
    r = random.Random(1)
    medians = sorted(statistics.median(r.choices(turns, k=len(turns))) for _ in range(RESAMPLES))
    return medians[int(RESAMPLES * 0.025)], medians[int(RESAMPLES * 0.975)]


def mean(ratios):
    """Geometric mean of the workloads' medians; turns are resampled for all of them at once."""
    def of(index):
        return math.exp(statistics.mean(math.log(statistics.median(v[i] for i in index)) for v in ratios.values()))
    n = len(next(iter(ratios.values())))
    r = random.Random(1)
    means = sorted(of([r.randrange(n) for _ in range(n)]) for _ in range(RESAMPLES))
    return of(range(n)), means[int(RESAMPLES * 0.025)], means[int(RESAMPLES * 0.975)]


def arguments(doc, boot):
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = SINGLE + ["boot"] if boot else SINGLE
    p.add_argument("--penumbra", default=f"{TOP}/build/release/src/cli/penumbra", help="the program (default: build/release's)")
    p.add_argument("--guest", help="what scripts/guest.sh --workloads prints (default: it is asked)")
    p.add_argument("--mmu", default="shadow", help="shadow or tdp (default: shadow)")
    p.add_argument("--workloads", default=",".join(default), help="NAME[:N],... (default: %(default)s)")
    p.add_argument("--cpus", type=int, help="vCPUs that are threads, and as many processes of each workload at once, but one of "
                   f"{', '.join(SHARED)}, which keep two busy (default: 1)")
    p.add_argument("--repeat", type=int, default=5, help="turns (default: 5)")
    p.add_argument("--memory", default="512M")
    p.add_argument("--append", default="", help="more words for the kernel")
    p.add_argument("--json", help="a result file, too")
    return p


def parse(p):
    o = p.parse_args()
    if o.repeat < 1:
        p.error(f"--repeat {o.repeat}: at least one turn")
    o.cpus_given = o.cpus is not None
    o.cpus = o.cpus if o.cpus_given else 1
    if not 1 <= o.cpus <= 64:
        p.error(f"--cpus {o.cpus}: from 1 to 64 vCPUs")
    if not os.access(o.penumbra, os.X_OK):
        p.error(f"{o.penumbra} is no program: --penumbra")
    o.scale = dict(w.split(":", 1) for w in o.workloads.split(",") if ":" in w)
    o.names = [w.split(":")[0] for w in o.workloads.split(",")]
    if not o.guest:
        o.guest = run([f"{TOP}/scripts/guest.sh", "--workloads"])[0].strip().splitlines()[-1]
    for name in "vmlinuz", "initrd-pn-linux.gz":
        if not os.path.exists(f"{o.guest}/{name}"):
            p.error(f"{o.guest} has no {name}: scripts/guest.sh --workloads")
    return o


def program(o, names):
    """pn-linux's arguments for workloads of one part (parts)."""
    at_once = [f"-j{o.cpus}"] if o.cpus > 1 and names[0] not in SHARED else []
    return at_once + words(names, o.scale)


def parts(o):
    """The workloads that one run does, after another."""
    names = [n for n in o.names if n != "boot"]
    both = [names] if o.cpus == 1 else [[n for n in names if (n in SHARED) == s] for s in (False, True)]
    return [names for names in both if names]


def kernel(o, names):
    """The kernel's command line for these workloads; [\"boot\"]: the test script."""
    what = "pn.script" if names == ["boot"] else "pn.bench=" + ",".join(program(o, names))
    return f"console=ttyS0 panic=-1 quiet {what} {o.append}".strip()


def in_penumbra(o, names, seed):
    """A boot is by the virtual clock, as a user boots; workloads have the host's, which they read. The seed decides where
    Linux puts things: with one for all turns all would measure one layout, and the interval would say nothing of others."""
    clock = [] if names == ["boot"] and o.cpus == 1 else ["--clock", "host"]
    clock += ["--parallel", "-c", str(o.cpus)] if o.cpus > 1 else []
    return [o.penumbra, "run", "--mmu", o.mmu, "--seed", str(seed), *clock, "-m", o.memory, "--kernel", f"{o.guest}/vmlinuz",
            "--initrd", f"{o.guest}/initrd-pn-linux.gz", "--append", kernel(o, names)]


def turn(o, command):
    """Nanoseconds of every workload on one side. command(names): what runs them."""
    ns, sums = {}, {}
    for names in parts(o):
        a, b = times(run(command(names))[0], names)
        ns.update(a)
        sums.update(b)
    if "boot" in o.names:
        text, seconds = run(command(["boot"]))
        if "GUEST-DONE" not in text:
            raise Failed("the guest's script did not finish")
        ns["boot"] = seconds * 1e9
    return ns, sums


def compare(o, schema, label, command, facts):
    """Turns of penumbra and of the other, a table, a result."""
    ours, theirs = [], []
    for i in range(o.repeat):
        pair = [None, None]
        for side in (0, 1) if i % 2 == 0 else (1, 0):
            pair[side] = turn(o, command if side else lambda names: in_penumbra(o, names, i + 1))
        if pair[0][1] != pair[1][1]:
            raise Failed(f"the checksums differ: {pair[0][1]}, {pair[1][1]}")
        ours.append(pair[0][0])
        theirs.append(pair[1][0])
        print(f"turn {i + 1} of {o.repeat}", file=sys.stderr)
    ratios = {n: [a[n] / b[n] for a, b in zip(ours, theirs)] for n in o.names}
    print(f"{'workload':<10} {'penumbra ms':>12} {label + ' ms':>12} {'ratio':>7}  95%")
    rows = {}
    for n, r in ratios.items():
        low, high = interval(r)
        a, b = (statistics.median(t[n] for t in side) / 1e6 for side in (ours, theirs))
        rows[n] = {"ratio": statistics.median(r), "low": low, "high": high, "ratios": r,
                   "penumbra_ns": [t[n] for t in ours], "other_ns": [t[n] for t in theirs]}
        print(f"{n:<10} {a:12.1f} {b:12.1f} {rows[n]['ratio']:7.3f}  {low:.3f} to {high:.3f}")
    several = {n: r for n, r in ratios.items() if n != "boot"}
    if several:
        g, low, high = mean(several)
        print(f"geometric mean{' without boot' if 'boot' in ratios else ''}: {g:.3f} ({low:.3f} to {high:.3f}); below 1: penumbra is faster")
    if o.json:
        host = json.loads(run([o.penumbra, "host", "--json"])[0])["host"]
        result = {"schema": schema, "host": host, "mmu": o.mmu, "memory": o.memory, "append": o.append, "cpus": o.cpus,
                  "workloads": rows, **facts}
        if several:
            result["geometric_mean"] = {"ratio": g, "low": low, "high": high}
        with open(o.json + ".part", "w") as f:
            json.dump(result, f, indent=2)
        os.replace(o.json + ".part", o.json)


def main(work):
    try:
        work()
    except (Failed, OSError) as e:
        print(f"{os.path.basename(sys.argv[0])}: {e}", file=sys.stderr)
        sys.exit(1)
