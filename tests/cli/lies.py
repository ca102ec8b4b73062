#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Snapshots and peers that are whole and lie: every digest is right, and what is said is not.

    lies.py PENUMBRA

A snapshot of another version, of any section of another version or without it, of another CPU model, another
memory size; a migration whose peer says such things, or pages that are others, records in another order, what
was said in an earlier session. Each is refused by what is wrong with it, in one line; nothing starts, and a guest
that was to move ends where it was as one that was never asked."""
import ctypes, json, os, re, shutil, socket, struct, subprocess, sys, tempfile, threading

penumbra = os.path.abspath(sys.argv[1])
work = tempfile.mkdtemp(prefix="pn-lies-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
xxhash = ctypes.CDLL("libxxhash.so.0")
xxhash.XXH3_64bits.restype = xxhash.XXH3_64bits_withSeed.restype = ctypes.c_uint64
MAGIC, HEAD = 0x474D4E50, struct.Struct("<IIQQQQ")
KINDS = "HELLO JOIN PAGES LAST MISSING STATE END READY GO RUNNING NEED DONE ALIVE REFUSED".split()
bad = 0


def fail(what, *more):
    global bad
    bad = 1
    print(f"FAIL: {what}: {' '.join(map(str, more))[:500]}")


def xxh3(data, seed=0):
    return xxhash.XXH3_64bits_withSeed(data, ctypes.c_size_t(len(data)), ctypes.c_uint64(seed))


def call(*args):
    return subprocess.run([penumbra, *args], cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)


def one_line(what, got, codes, pattern):
    """got: exit code, stdout, stderr."""
    code, out, err = got
    if code not in codes or out or err.count("\n") != 1 or not re.search(pattern, err):
        fail(what, f"exit code {code}, not '{pattern}': {out}{err}")


# ---- Snapshots ----


def snapshot(name, change, state=None):
    """A copy of `whole`, with another manifest whose digest is right."""
    shutil.rmtree(f"{work}/lie", ignore_errors=True)
    shutil.copytree(f"{work}/whole", f"{work}/lie")
    with open(f"{work}/lie/manifest.json") as f:
        manifest = json.load(f)
    change(manifest)
    del manifest["xxh3"]
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    manifest["xxh3"] = f"{xxh3(text.encode()):016x}"
    with open(f"{work}/lie/manifest.json", "w") as f:
        json.dump(manifest, f)
    if state is not None:
        with open(f"{work}/lie/state.bin", "wb") as f:
            f.write(state)


def refused(what, pattern):
    r = call("snapshot", "restore", "lie", "--mmu", "tdp")
    one_line(f"a snapshot, {what}", (r.returncode, r.stdout, r.stderr), (2, 7), pattern)


def put(path, value):
    def change(manifest):
        at = manifest
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
    return change


def snapshots():
    manifest = json.load(open(f"{work}/whole/manifest.json"))
    state = open(f"{work}/whole/state.bin", "rb").read()
    snapshot("as it is", lambda m: None)
    r = call("snapshot", "verify", "lie")
    if r.returncode:
        return fail("the digest of a manifest is made otherwise", r.stdout, r.stderr)
    at = 0
    for i, s in enumerate(manifest["sections"]):
        name, version = s["name"], s["version"]
        snapshot(name, put(["sections", i, "version"], version + 1))
        refused(f"{name} of another version", f"section {name}: version {version + 1}, and not {version}$")
        snapshot(name, lambda m: m["sections"].pop(i), state[:at] + state[at + s["bytes"]:])
        refused(f"without {name}", f"section {name}: there is none$")
        snapshot(name, put(["sections", i], dict(s, bytes=s["bytes"] - 1, xxh3=f"{xxh3(state[at:at + s['bytes'] - 1]):016x}")),
                 state[:at + s["bytes"] - 1] + state[at + s["bytes"]:])
        refused(f"{name} a byte shorter", f"section {name}: ")
        at += s["bytes"]
    ram = manifest["machine"]["memory"]
    for what, path, value, pattern in (
            ("another version", ["schema"], "penumbra-snapshot-3", "penumbra-snapshot-3, and not penumbra-snapshot-2$"),
            ("more memory", ["machine", "memory"], ram * 2, f"memory.bin: not the memory of a guest of {ram * 2 // 4096} pages$"),
            ("less memory", ["machine", "memory"], ram // 2, f"memory.bin: not the memory of a guest of {ram // 8192} pages$"),
            ("another CPU model", ["machine", "cpu"], "x86-64-v2", "section cpuid: leaf 0x[0-9a-f]+ subleaf [0-9]+: e[a-d]x was "),
            ("another vendor", ["machine", "cpu"], "default,vendor=amd", "section cpuid: the guest has seen a processor of GenuineIntel"),
            ("a CPU model that there is not", ["machine", "cpu"], "z80", "z80"),
            ("two vCPUs", ["machine", "cpus"], 2, "section (vcpu1: there is none|[a-z0-9_.]+: )"),
            ("memory of more pages", ["memory", "pages"], 1 << 40, "manifest.json"),
            ("a region of more pages", ["memory", "regions", 0, "pages"], ram // 4096 + 1, "manifest.json: what it says of memory is not possible$"),
            ("more stored pages", ["memory", "stored"], manifest["memory"]["stored"] + 1, "memory.bin|manifest.json")):
        snapshot(what, put(path, value))
        refused(what, pattern)


# ---- Migrations ----


class Run:
    def __init__(self, name, *args):
        self.name = name
        self.err, self.out = open(f"{work}/{name}.err", "w+"), open(f"{work}/{name}.out", "w+")
        self.p = subprocess.Popen([penumbra, "run", *args], cwd=work, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err)

    def wait_for(self, path):
        while not os.path.exists(f"{work}/{path}"):
            if self.p.poll() is not None:
                sys.exit(f"FAIL: {self.name} ended early: {self.said()}")

    def said(self):
        self.err.seek(0)
        return self.err.read()

    def end(self):
        code = self.p.wait(timeout=100)
        self.out.seek(0)
        got = code, self.out.read(), self.said()
        self.err.close()
        self.out.close()
        return got


class Liar:
    """Between both sides. It knows the session, as both of its peers say it, so its digests are right. lie: called
    with ("source" or "destination", stream, kind, bytes); what it returns, [(kind, bytes)], is said instead."""

    def __init__(self, lie):
        self.lie, self.session, self.streams, self.lock = lie, {}, 0, threading.Lock()
        self.door = socket.socket(socket.AF_UNIX)
        self.door.bind(f"{work}/between")
        self.door.listen(8)
        self.tape = []  # what the source has said, byte for byte
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                source = self.door.accept()[0]
            except OSError:
                return
            destination = socket.socket(socket.AF_UNIX)
            try:
                destination.connect(f"{work}/b.in")
            except OSError:
                source.close()
                continue
            number, self.streams = self.streams, self.streams + 1
            self.tape.append([])
            for who, a, b in (("source", source, destination), ("destination", destination, source)):
                threading.Thread(target=self.pass_on, args=(who, number, a, b), daemon=True).start()

    def key(self, stream):
        return xxh3(struct.pack("<QQQ", self.session["source"], self.session["destination"], stream))

    def pass_on(self, who, stream, a, b):
        count = 0
        try:
            while True:
                head = self.read(a, HEAD.size)
                _, kind, size, *_ = HEAD.unpack(head)
                data = self.read(a, size)
                if who == "source":
                    self.tape[stream].append(head + data)
                kind = KINDS[kind]
                if kind == "HELLO":
                    self.session[who] = int(json.loads(data)["session"], 16)
                key = 0 if kind == "HELLO" or len(self.session) < 2 else self.key(stream)
                with self.lock:
                    records = self.lie(who, stream, kind, data)
                for kind, data in records:
                    kind = KINDS.index(kind) if kind in KINDS else 99
                    head = struct.pack("<IIQQQ", MAGIC, kind, len(data), count, xxh3(data, key))
                    b.sendall(head + struct.pack("<Q", xxh3(head, key)) + data)
                    count += 1
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    @staticmethod
    def read(s, size):
        data = b""
        while len(data) < size:
            more = s.recv(min(65536, size - len(data)))
            if not more:
                raise OSError("closed")
            data += more
        return data

    def end(self):
        self.door.close()
        os.remove(f"{work}/between")


def liar(kind, change, by="source"):
    """Changes the first record of a kind: change(bytes) -> [(kind, bytes)]."""
    done = []

    def lie(who, stream, k, data):
        if who != by or k != kind or done:
            return [(k, data)]
        done.append(1)
        return change(data)
    return lie


def json_of(kind, change):
    """HELLO or STATE with another manifest."""
    def lie(data):
        if kind == "HELLO":
            j = json.loads(data)
            change(j)
            return [(kind, json.dumps(j).encode())]
        size = struct.unpack("<I", data[:4])[0]
        j = json.loads(data[4:4 + size])
        change(j)
        text = json.dumps(j).encode()
        return [(kind, struct.pack("<I", len(text)) + text + data[4 + size:])]
    return lie


def both(change):
    hello, state = liar("HELLO", json_of("HELLO", change)), liar("STATE", json_of("STATE", change))
    return lambda who, stream, k, data: (hello if k == "HELLO" else state)(who, stream, k, data)


def other_page(data):
    """One of its pages is another; they are as they are, one behind another."""
    return [("PAGES", data[:-1] + bytes([data[-1] ^ 1]))]


def page_number(number):
    return lambda data: [("PAGES", data[:16] + struct.pack("<Q", number * 2 + 1) + data[24:])]


LIES = (
    ("another version", liar("HELLO", json_of("HELLO", put(["schema"], "penumbra-migration-2"))),
     "it speaks penumbra-migration-2, and not penumbra-migration-1"),
    ("another version of the destination", liar("HELLO", json_of("HELLO", put(["schema"], "penumbra-migration-2")), "destination"),
     "penumbra-migration-2"),
    ("another version of the state", liar("STATE", json_of("STATE", put(["schema"], "penumbra-snapshot-9"))),
     "the state is penumbra-snapshot-9, and not penumbra-snapshot-2"),
    ("a section of another version", liar("STATE", json_of("STATE", put(["sections", 2, "version"], 9))), "section vcpu0: version 9, and not 1"),
    ("another CPU model", both(put(["machine", "cpu"], "x86-64-v2")), "section cpuid: leaf 0x[0-9a-f]+ "),
    ("another CPU model in its hello", liar("HELLO", json_of("HELLO", put(["machine", "cpu"], "x86-64-v2"))), "of another machine than its hello"),
    ("more memory in its hello", liar("HELLO", json_of("HELLO", put(["machine", "memory"], 32 << 20))), "of another machine than its hello"),
    ("less memory in its hello", liar("HELLO", json_of("HELLO", put(["machine", "memory"], 2 << 20))), "no pages of its own|of another machine than its hello"),
    ("no memory", liar("HELLO", json_of("HELLO", put(["machine", "memory"], 0))), "no guest has 0 bytes of memory"),
    ("a thousand streams", liar("HELLO", json_of("HELLO", put(["streams"], 1000))), "its hello is not as it should be"),
    ("a page that is another", liar("PAGES", other_page), "not those that were sent"),
    ("pages left out", liar("PAGES", lambda data: []), "not those that were sent"),
    ("a page that there is not", liar("PAGES", page_number(1 << 40)), "no pages of its own"),
    ("another digest of all pages", liar("END", lambda data: [("END", bytes([data[0] ^ 1]) + data[1:])]), "not those that were sent"),
    ("END before the state", liar("STATE", lambda data: [("END", bytes(8)), ("STATE", data)]), "no such record belongs here"),
    ("a second state", liar("STATE", lambda data: [("STATE", data), ("STATE", data)]), "a second state"),
    ("GO too early", liar("STATE", lambda data: [("GO", b""), ("STATE", data)]), "no such record belongs here"),
    ("post-copy's record", liar("STATE", lambda data: [("MISSING", bytes(64)), ("STATE", data)]), "no such record belongs here"),
    ("a kind that there is not", liar("STATE", lambda data: [("?", b"")]), "is of a kind or size that there is not"),
    ("a record that is too long", liar("STATE", lambda data: [("GO", bytes(9))]), "is of a kind or size that there is not"),
    ("RUNNING, and not READY", liar("READY", lambda data: [("RUNNING", b"")], "destination"), ""),
    ("DONE, and not READY", liar("READY", lambda data: [("DONE", b"")], "destination"), ""),
    ("NEED, and not READY", liar("READY", lambda data: [("NEED", bytes(8))], "destination"), ""),
)


def tries(what, lie, pattern):
    """The guest stands at a.mon. Return: what the source has said."""
    b = Run("b", "--incoming", "unix:b.in", "--mmu", "tdp", "--incoming-stall", "20")
    b.wait_for("b.in")
    between = Liar(lie)
    m = call("migrate", "a.mon", "unix:between", "--stall", "20")
    between.end()
    got = b.end()
    one_line(f"a move, {what}: the source", (m.returncode, m.stdout, m.stderr), (1,), "the guest goes on here$")
    one_line(f"a move, {what}: the destination", got, (1, 2, 7), "^penumbra: ")
    if not re.search(pattern, m.stderr + got[2]):
        fail(f"a move, {what}", f"nobody says '{pattern}':", m.stderr, got[2])
    return between.tape


def replayed(tape):
    """What was said in another session, once more."""
    b = Run("b", "--incoming", "unix:b.in", "--mmu", "tdp", "--incoming-stall", "20")
    b.wait_for("b.in")
    socks = [socket.socket(socket.AF_UNIX) for _ in tape]
    try:
        for s in socks:
            s.settimeout(20)
        socks[0].connect(f"{work}/b.in")
        socks[0].sendall(tape[0][0])
        Liar.read(socks[0], HEAD.size)  # its hello
        for s, stream in list(zip(socks, tape))[1:]:
            s.connect(f"{work}/b.in")
            for record in stream:
                s.sendall(record)
        for record in tape[0][1:]:
            socks[0].sendall(record)
    except OSError:
        pass
    one_line("a move that is played once more", b.end(), (7,), "is damaged, or of another session$")
    for s in socks:
        s.close()


def result(name):
    j = json.load(open(f"{work}/{name}.json"))
    return [j["guest_insns"], j["guest_ns"], j["ram_digest"]]


def main():
    guest = ["-m", "16M", "--append", "workload=dirty bytes=4194304 order=random rounds=6000", "--ram-digest"]
    r = call("run", *guest, "--stats", "alone.json")
    if r.returncode:
        sys.exit(f"FAIL: the guest alone: {r.stderr}")
    a = Run("a", "--monitor", "a.mon", "--stats", "a.json", *guest)
    a.wait_for("a.mon")
    call("monitor", "a.mon", "stop")
    r = call("snapshot", "save", "a.mon", "whole")
    if r.returncode:
        sys.exit(f"FAIL: save: {r.stderr}")
    snapshots()
    for what, lie, pattern in LIES:
        tape = tries(what, lie, pattern)
        if what == "DONE, and not READY":
            whole = tape  # all was said, and nothing of it wrong
    replayed(whole)
    call("monitor", "a.mon", "cont")
    code, _, said = a.end()
    if code or result("a") != result("alone"):
        fail("the guest that was to move is another", code, said, result("a"), result("alone"))
    return bad


try:
    sys.exit(main())
finally:
    shutil.rmtree(work)
