#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Spoils migrations at random places, from between the two sides:

    migrate_faults.py PENUMBRA POINTS [SEED]

After so many bytes, either way, somebody between them closes the connection, says nothing more, changes a
byte, says something twice or leaves it out; or kill -9 ends one side. POINTS are those of kill -9, half of them at
either side; each of the others comes half as often. Whatever happens, the guest ends once,
as one that stayed (instructions, time, memory), and who did not get it says why in one line. Where kill -9
ended the side that had it, it does not end at all. Only where the answer of a peer that was given the guest does
not come does it stand at the source, which says so."""
import json, os, random, select, shutil, socket, subprocess, sys, tempfile, threading

penumbra, points = os.path.abspath(sys.argv[1]), int(sys.argv[2])
seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
rnd = random.Random(seed)
work = tempfile.mkdtemp(prefix="pn-migrate-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
guest = ["-m", "16M", "--append", "workload=dirty bytes=4194304 order=random rounds=30000"]
tally = {}
STALL = "1"


def require(ok, what, *more):
    if not ok:
        sys.exit(f"FAIL: seed {seed}, {what}: {' '.join(map(str, more))[:600]}")


class Run:
    def __init__(self, name, *args):
        self.name = name
        for old in (f"{work}/{name}.json", f"{work}/{name}", f"{work}/{name}.in"):
            if os.path.exists(old):
                os.remove(old)
        self.err = open(f"{work}/{name}.err", "w+")
        self.p = subprocess.Popen([penumbra, "run", "--stats", f"{name}.json", "--ram-digest", *args], cwd=work,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.err)

    def wait_for(self, path):
        while not os.path.exists(f"{work}/{path}"):
            require(self.p.poll() is None, f"{self.name} ended early", self.said())

    def said(self):
        self.err.seek(0)
        return self.err.read()

    def end(self):
        code = self.p.wait(timeout=60)
        said = self.said()
        self.err.close()
        return code, said

    def result(self):
        """What the guest came to; None: it did not end here."""
        if not os.path.exists(f"{work}/{self.name}.json"):
            return None
        with open(f"{work}/{self.name}.json") as f:
            j = json.load(f)
        if j["exit"]["reason"] in ("migrated", "quit"):
            return None
        return [j["guest_insns"], j["guest_ns"], j["ram_digest"]]


class Between(threading.Thread):
    """Passes bytes on, until `at` of them have passed that way; then it does `how`."""

    def __init__(self, how, at, to_source, act):
        super().__init__(daemon=True)
        self.how, self.at, self.to_source, self.act = how, at, to_source, act
        self.door = socket.socket(socket.AF_UNIX)
        path = f"{work}/between"
        if os.path.exists(path):
            os.remove(path)
        self.door.bind(path)
        self.door.listen(16)
        self.stop_r, self.stop_w = os.pipe()
        self.passed, self.silent, self.struck = 0, False, False
        self.pairs = {}

    def close_all(self):
        for s in list(self.pairs):
            s.close()
        self.pairs = {}

    def strike(self, data):
        """Return: what passes instead."""
        self.struck = True
        cut = max(0, len(data) - max(1, self.passed - self.at))
        if self.how == "close":
            self.close_all()
            self.door.close()
            return None
        if self.how == "stall":
            self.silent = True
            return b""
        if self.how == "flip":
            return data[:cut] + bytes([data[cut] ^ 0x40]) + data[cut + 1:]
        if self.how == "twice":
            return data + data[cut:]
        if self.how == "leave-out":
            return data[:cut] + data[cut + 1:]
        self.act()  # kill -9
        return data

    def run(self):
        while True:
            socks = [] if self.silent else list(self.pairs)
            doors = [] if self.door.fileno() < 0 or self.silent else [self.door]
            ready = select.select(socks + doors + [self.stop_r], [], [])[0]
            if self.stop_r in ready:
                return
            for s in ready:
                if s is self.door:
                    a = self.door.accept()[0]
                    b = socket.socket(socket.AF_UNIX)
                    try:
                        b.connect(f"{work}/b.in")
                    except OSError:
                        a.close()
                        b.close()
                        continue
                    self.pairs[a], self.pairs[b] = (b, False), (a, True)
                elif s in self.pairs:
                    self.pass_on(s)

    def pass_on(self, s):
        other, from_destination = self.pairs[s]
        try:
            data = s.recv(65536)
        except OSError:
            data = b""
        if data and from_destination == self.to_source and not self.struck:
            self.passed += len(data)
            if self.passed > self.at:
                data = self.strike(data)
                if data is None:
                    return
        try:
            if data:
                other.sendall(data)
        except OSError:
            data = b""
        if not data and not self.silent:
            for one in (s, other):
                self.pairs.pop(one, None)
                one.close()

    def end(self):
        os.write(self.stop_w, b"x")
        self.join()
        self.close_all()
        self.door.close()
        os.close(self.stop_r)
        os.close(self.stop_w)


def one(how, at, to_source, options):
    a = Run("a", "--monitor", "a.mon", "--mmu", rnd.choice(["shadow", "tdp"]), *guest)
    b = Run("b", "--incoming", "unix:b.in", "--incoming-stall", STALL, "--mmu", rnd.choice(["shadow", "tdp"]))
    a.wait_for("a.mon")
    b.wait_for("b.in")
    victim = {"kill-source": a, "kill-destination": b}.get(how)
    between = Between(how, at, to_source, lambda: victim.p.kill())
    between.start()
    m = subprocess.run([penumbra, "migrate", "a.mon", "unix:between", "--stall", STALL, *options], cwd=work,
                       capture_output=True, text=True, timeout=60)
    unsure = "nobody knows" in m.stderr
    if unsure:
        subprocess.run([penumbra, "monitor", "a.mon", "quit"], cwd=work, capture_output=True, timeout=60)
    a_code, a_said = a.end()
    if not between.struck or how == "stall" or a_code == 0:
        pass
    b_done = b.p.poll()
    if b_done is None and "has moved" not in a_said and not unsure and not between.struck:
        b.p.kill()  # nobody came
    b_code, b_said = b.end()
    between.end()
    what = f"{how} at {at} {'to' if to_source else 'from'} the source, {' '.join(options)}"
    ends = [r.result() for r in (a, b)]
    found = [e for e in ends if e]
    moved = "has moved" in a_said
    detail = (a_code, a_said, b_code, b_said, m.returncode, m.stderr)
    require(len(found) <= 1, f"{what}: the guest ended twice", *detail)
    if found:
        require(found[0] == whole, f"{what}: the guest ended as another", found[0], whole, *detail)
    elif victim:
        require(victim is b and (moved or unsure) or victim is a, f"{what}: the guest is lost", *detail)
    elif not unsure:
        require(False, f"{what}: the guest is lost", *detail)
    require(unsure or victim is a or (m.returncode == 0) == moved, f"{what}: the client was told something else", *detail)
    if b_code and victim is not b:
        require(b_code in (1, 2, 7) and b_said.count("\n") == 1 and b_said.startswith("penumbra: "),
                f"{what}: the destination's line", *detail)
    kind = "unsure" if unsure else "moved" if moved else "stayed" if ends[0] else "ended over there" if found else "killed"
    tally[f"{how}: {kind}"] = tally.get(f"{how}: {kind}", 0) + 1
    return between.passed


try:
    r = Run("whole", *guest)
    require(r.end()[0] == 0, "the guest alone")
    whole = r.result()
    sizes = {to: one("none", 1 << 60, to, []) for to in (False, True)}
    hows = ["close", "stall", "flip", "twice", "leave-out", "kill-source", "kill-destination"]
    for how in hows * (points // 2):
        to_source = rnd.random() < 0.3
        size = sizes[to_source]
        # The ends of what is said are where the guest is handed over.
        at = rnd.randrange(size) if rnd.random() < 0.5 else max(0, size - 1 - rnd.randrange(min(size, 200)))
        options = [o for o, p in ((["--streams", "2"], 0.3), (["--compress", "lz4"], 0.3), (["--downtime", "1", "--throttle"], 0.3))
                   if rnd.random() < p for o in o]
        one(how, at, to_source, options)
    for line in sorted(tally):
        print(f"{tally[line]:4} {line}")
finally:
    shutil.rmtree(work)
