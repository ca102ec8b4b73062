#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A save of a guest whose memory still comes: postcopy_save.py PENUMBRA

The guest has moved by post-copy and runs at the destination; somebody between the two sides keeps back what
comes by itself, so that pages are missing for as long as the test wants. A save that is asked for then, live or
not, waits, and has every page: what goes on from it, and the guest that moved, end as one that stayed."""
import json, os, select, shutil, socket, struct, subprocess, sys, tempfile, threading

penumbra = os.path.abspath(sys.argv[1])
work = tempfile.mkdtemp(prefix="pn-postcopy-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
guest = ["-m", "64M", "--append", "workload=dirty bytes=16777216 order=random rounds=6000"]
HEAD = struct.Struct("<IIQQQQ")  # src/machine/migrate_record.c
LAST = 3  # src/machine/migrate_records.inc
WAIT = 60


def require(ok, what, *more):
    if not ok:
        sys.exit(f"FAIL: {what}: {' '.join(map(str, more))[:600]}")


def run(*args):
    return subprocess.Popen([penumbra, *args], cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def ends(p, name):
    out, err = p.communicate(timeout=WAIT)
    require(p.returncode == 0, name, p.returncode, err)
    return out


def until(p, true):
    while not true():
        require(p.poll() is None, "it ended early", p.returncode, p.stderr.read() if p.poll() is not None else "")


def result(name):
    with open(f"{work}/{name}.json") as f:
        j = json.load(f)
    return [j["guest_insns"], j["guest_ns"], j["ram_digest"]]


class Records:
    """Bytes of one stream, to the end of its first `last`: with post-copy, what is missing comes after it."""

    def __init__(self):
        self.data, self.last = b"", False

    def passes(self, data):
        """Return: what may pass, and what is kept back."""
        if self.last:
            return b"", data
        self.data += data
        passed = 0
        while not self.last and len(self.data) - passed >= HEAD.size:
            _, kind, size = HEAD.unpack_from(self.data, passed)[:3]
            if len(self.data) - passed < HEAD.size + size:
                break
            passed += HEAD.size + size
            self.last = kind == LAST
        now, self.data = self.data[:passed], self.data[passed:]
        if self.last:
            kept, self.data = self.data, b""
            return now, kept
        return now, b""


class Between(threading.Thread):
    """Passes all on but what a data stream has after its first `last`; that, once it is released."""

    def __init__(self, here, there):
        super().__init__(daemon=True)
        self.there, self.pairs, self.kept, self.streams = there, {}, {}, {}
        self.go = False
        self.wake_r, self.wake_w = os.pipe()
        self.door = socket.socket(socket.AF_UNIX)
        self.door.bind(here)
        self.door.listen(4)

    def release(self):
        os.write(self.wake_w, b"x")

    def run(self):
        while True:
            for s in select.select([self.door, self.wake_r, *self.pairs], [], [])[0]:
                if s is self.door:
                    a, b = self.door.accept()[0], socket.socket(socket.AF_UNIX)
                    b.connect(self.there)
                    if self.pairs:  # the first connection is control
                        self.streams[a] = Records()
                    self.pairs[a], self.pairs[b] = b, a
                elif s is self.wake_r:
                    os.read(self.wake_r, 1)
                    self.go = True
                    for a, data in self.kept.items():
                        self.pairs[a].sendall(data)
                elif s in self.pairs:
                    self.pass_on(s)

    def pass_on(self, s):
        try:
            data = s.recv(1 << 16)
            if data and s in self.streams and not self.go:
                data, kept = self.streams[s].passes(data)
                self.kept[s] = self.kept.get(s, b"") + kept
                if not data:
                    return
            elif data and s in self.streams:
                data = self.streams[s].data + data
                self.streams[s].data = b""
            if data:
                self.pairs[s].sendall(data)
                return
        except OSError:
            pass
        other = self.pairs.pop(s)
        self.pairs.pop(other, None)
        s.close()
        other.close()


def connections(path):
    with open("/proc/net/unix") as f:
        return sum(line.split()[-1] == path for line in f)


def saved(how):
    name = "live" if how else "still"
    a = run("run", "--monitor", f"{work}/{name}.a", "--mmu", "shadow", *guest)
    b = run("run", "--incoming", f"unix:{work}/{name}.in", "--monitor", f"{work}/{name}.b", "--mmu", "tdp", "--stats",
            f"{name}.json", "--ram-digest")
    require(a.stdout.readline().startswith("workload: begin"), f"{name}: the guest does not begin")
    until(b, lambda: os.path.exists(f"{work}/{name}.in"))
    between = Between(f"{work}/{name}.between", f"{work}/{name}.in")
    between.start()
    m = run("migrate", f"{name}.a", f"unix:{name}.between", "--post-copy", "--downtime", "1", "--streams", "1")
    # It is the destination's now, and stands where it touches what is kept back.
    until(m, lambda: any(between.kept.values()))
    until(b, lambda: os.path.exists(f"{work}/{name}.b"))
    until(b, lambda: connections(f"{work}/{name}.b") == 1)  # the listening one
    save = run("snapshot", "save", f"{work}/{name}.b", f"{work}/{name}", *how)
    until(b, lambda: connections(f"{work}/{name}.b") > 1 or save.poll() is not None)
    require(save.poll() is None and not os.path.exists(f"{work}/{name}"), f"{name}: it did not wait")
    between.release()
    ends(save, f"{name}: the save")
    ends(m, f"{name}: the move")
    for p in (a, b):
        ends(p, f"{name}: the guest")
    require(result(name) == whole, f"{name}: the guest that moved ends as another", result(name), whole)
    ends(run("snapshot", "verify", name), f"{name}: verify")
    ends(run("snapshot", "restore", name, "--mmu", "shadow", "--stats", "back.json", "--ram-digest"), f"{name}: restored")
    require(result("back") == whole, f"{name}: what was saved ends as another", result("back"), whole)


try:
    probe = run("run", *guest, "--stats", "whole.json", "--ram-digest")
    ends(probe, "the guest alone")
    whole = result("whole")
    saved([])
    saved(["--live"])
finally:
    shutil.rmtree(work)
