#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Ends the writers of snapshots at random calls to the kernel (chop.c), by kill -9 or by an error:

    killed.py PENUMBRA SHIM POINTS [SEED]

At each point a run is killed inside `save --parent`, or inside one that replaces a snapshot, and a merge is killed; a
save fails by no space or an I/O error, and the same run saves again; a merge fails so; and a read of a snapshot fails by
an I/O error while it is restored, verified, merged or compared. Half of the saves are live, where the copy that writes
may die alone. Whatever happens, what was there before is whole, no half of anything has a name, and the next save has every page: it
is compared with a full one of the same moment."""
import errno, json, os, random, re, shutil, subprocess, sys, tempfile

penumbra, shim, points = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), int(sys.argv[3])
seed = int(sys.argv[4]) if len(sys.argv) > 4 else 1
rnd = random.Random(seed)
work = tempfile.mkdtemp(prefix="pn-killed-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
plan = f"{work}/plan"
guest = ["-m", "32M", "--append", "workload=dirty bytes=8388608 order=random rounds=1048576"]
tally = {}


def note(what):
    tally[what] = tally.get(what, 0) + 1


def require(ok, what, *more):
    if not ok:
        sys.exit(f"FAIL: seed {seed}, {what}: {' '.join(map(str, more))[:500]}")


def call(*args, shimmed=False):
    env = dict(os.environ, PN_CHOP=plan, LD_PRELOAD=shim) if shimmed else None
    return subprocess.run([penumbra, *args], cwd=work, env=env, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=120)


def good(*args, **more):
    r = call(*args, **more)
    require(r.returncode == 0, " ".join(args), r.returncode, r.stderr)
    return r


def chop(at, how="kill"):
    with open(plan, "w") as f:
        f.write(f"{at} {how} {rnd.randrange(257)}")


def counted():
    with open(plan + ".count") as f:
        return int(f.read())


class Run:
    """A run that stands, under the shim."""

    def __init__(self, *args):
        self.err = open(f"{work}/run.err", "w+")
        # The shim's way to end a run is no call that a sandbox lets through.
        self.p = subprocess.Popen([penumbra, "run", "--sandbox", "off", "--monitor", "mon", *args], cwd=work, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=self.err,
                                  env=dict(os.environ, PN_CHOP=plan, LD_PRELOAD=shim))
        while not os.path.exists(f"{work}/mon"):
            require(self.p.poll() is None, "a run that ended early", open(f"{work}/run.err").read())
        # The file is there a moment before anybody listens at it.
        while "refused" in (r := call("monitor", "mon", "stop")).stderr:
            require(self.p.poll() is None, "a run that ended early", open(f"{work}/run.err").read())
        require(r.returncode == 0, "monitor mon stop", r.returncode, r.stderr)

    def on(self):
        """Let it write for a while: until its clock has moved."""
        good("monitor", "mon", "cont")
        good("monitor", "mon", "info", "registers")
        good("monitor", "mon", "stop")

    def save(self, name, *args):
        return call("snapshot", "save", "mon", name, *args)

    def end(self):
        self.p.kill()
        self.p.wait()
        self.err.close()
        if os.path.exists(f"{work}/mon"):
            os.remove(f"{work}/mon")


def parts():
    return [n for n in os.listdir(work) if n.endswith(".part")]


def gone(*names):
    for n in names:
        shutil.rmtree(f"{work}/{n}", ignore_errors=True)


def whole(name):
    good("snapshot", "verify", name)


def same(a, b):
    r = call("snapshot", "diff", a, b)
    require(r.returncode == 0, f"{a} and {b} differ", r.stdout, r.stderr)


def either_way():
    """While the guest stands, or live."""
    return rnd.choice([[], ["--live"]])


def next_save_has_all(run, parent):
    chop(0)
    require(run.save("next", "--parent", parent).returncode == 0, "the next save fails")
    require(run.save("full").returncode == 0, "a full save fails")
    same("next", "full")
    memory = json.load(open(f"{work}/next/manifest.json"))["memory"]
    require(0 < memory["pages"] - memory["inherited"] < memory["pages"] / 2, "nothing was written, or all", memory)
    gone("next", "full")


def kill_a_save(calls, replace):
    """The run dies in the middle; another goes on from what is there."""
    chop(0)
    run = Run("--restore", "base", "--dirty-log", rnd.choice(["wp", "dbit"]), "--mmu", "tdp")
    run.on()
    before = None
    if replace:
        require(run.save("child", "--parent", "base").returncode == 0, "a save")
        before = open(f"{work}/child/manifest.json").read()
        run.on()
    chop(rnd.randrange(1, calls + 1))
    r = run.save("child", "--parent", "base", *(["--force"] if replace else []), *either_way())
    if "was killed" in r.stderr: # of a live save the copy alone: the run lives on
        require(run.p.poll() is None, "the run has died with its copy")
        note("killed: the copy that wrote")
        next_save_has_all(run, "base")
    else:
        killed = run.p.wait() if counted() >= int(open(plan).read().split()[0]) else run.end()
        require(killed in (-9, None), "not killed", killed)
    run.end()
    whole("base")
    if os.path.exists(f"{work}/child"):
        whole("child")
        note("killed: the new one is there" if open(f"{work}/child/manifest.json").read() != before else
             "killed: the old one is there")
    else:
        require(not replace, "a snapshot that was to be replaced is gone")
        note("killed: nothing new")
    run = Run("--restore", "base", "--dirty-log", "wp")
    run.on()
    next_save_has_all(run, "base")
    run.end()
    gone("child", *parts())


def fail_a_save(run, calls):
    """The run lives on, and loses nothing."""
    run.on()
    how = rnd.choice([errno.ENOSPC, errno.EIO])
    chop(rnd.randrange(1, calls + 1), how)
    r = run.save("child", "--parent", "base", *either_way())
    require(run.p.poll() is None, "the run has died of an error")
    if r.returncode:
        require(r.returncode == 1 and r.stderr.count("\n") == 1 and os.strerror(how) in r.stderr, "a failed save",
                r.returncode, r.stderr)
        note("failed: " + os.strerror(how))
    else:
        note("failed: too late to matter")
    # To remove what is half done may have been what failed.
    require(len(parts()) <= 1 and (not parts() or r.returncode == 0 or counted() > 1), "folders stay", parts())
    if os.path.exists(f"{work}/child"):
        whole("child")
    whole("base")
    next_save_has_all(run, "base")
    gone("child", *parts())


def fail_a_read():
    """One line, which names the file; nothing starts, or the guest of a lazy restore is stopped."""
    words = rnd.choice([["restore", "top"], ["restore", "top", "--restore-memory", "lazy"], ["verify", "top"],
                        ["merge", "top", "merged"], ["diff", "top", "base"]])
    limit = ["--max-insns", "1000000", "--sandbox", "off"] if words[0] == "restore" else []
    env = dict(os.environ, PN_CHOP=plan, LD_PRELOAD=shim)

    def go(at):
        return subprocess.run([penumbra, "snapshot", *words, *limit], cwd=work, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=120, env=dict(env, PN_CHOP_READ=str(at)))
    chop(0)
    go(0)
    with open(plan + ".reads") as f:
        reads = int(f.read())
    os.remove(plan + ".reads")
    gone("merged")
    require(reads > 5, "the shim does not see what is read", *words, reads)
    at = rnd.randrange(1, reads + 1)
    r = go(at)
    what = f"read {at} of {reads} fails: {' '.join(words)}"
    said = r.stderr + (r.stdout if words[0] == "verify" else "")
    late = "lazy" in words and "Input/output error" not in said  # it did not need that read this time
    require(late or r.returncode in (1, 7), what, r.returncode, r.stdout, r.stderr)
    require(late or re.search(r"(manifest\.json|state\.bin|memory\.bin|working set).*Input/output error", said), what, r.stdout, r.stderr)
    require(words[0] != "restore" or late or r.stderr.count("\n") == 1, what, r.stderr)
    require(not os.path.exists(f"{work}/merged") and not parts(), what, "something is left", parts())
    note("a read failed: " + words[0])


def break_a_merge(calls, how):
    chop(rnd.randrange(1, calls + 1), how)
    r = call("snapshot", "merge", "top", "merged", shimmed=True)
    require(r.returncode == -9 if how == "kill" else r.returncode in (0, 1), "a merge", r.returncode, r.stderr)
    note(f"merge: {'killed' if how == 'kill' else 'failed' if r.returncode else 'too late to matter'}")
    if os.path.exists(f"{work}/merged"):
        same("merged", "top")
    for n in ("base", "top"):
        whole(n)
    gone("merged", *parts())
    good("snapshot", "merge", "top", "merged")
    same("merged", "top")
    gone("merged")


def main():
    chop(0)
    run = Run(*guest, "--dirty-log", "wp")
    run.on()
    require(run.save("base").returncode == 0, "the first save")
    run.on()
    require(run.save("top", "--parent", "base").returncode == 0, "the first child")
    saves = counted()
    good("snapshot", "merge", "top", "merged", shimmed=True)
    merges = counted()
    gone("merged")
    require(saves > 20 and merges > 20, "the shim is not there", saves, merges)
    for i in range(points):
        fail_a_save(run, saves)
        break_a_merge(merges, "kill")
        break_a_merge(merges, rnd.choice([errno.ENOSPC, errno.EIO]))
        fail_a_read()
        mon = f"{work}/mon"
        os.rename(mon, mon + ".kept")
        kill_a_save(saves, rnd.randrange(2))
        os.rename(mon + ".kept", mon)
    run.end()
    print(f"{points} points of {saves} calls of a save and {merges} of a merge, seed {seed}:")
    for what, n in sorted(tally.items()):
        print(f"  {n:4} {what}")
    return 0


try:
    sys.exit(main())
finally:
    shutil.rmtree(work, ignore_errors=True)
