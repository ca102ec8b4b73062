# SPDX-License-Identifier: MIT
"""A client of the gdb stub that lies, sends rubbish and leaves; and the guest runs on.

    client.py PENUMBRA MMU WORK

The guest is the embedded one. At the end it has done what it does without any client: the
same instructions, the same events.
"""
import json
import os
import random
import socket
import stat
import subprocess
import sys
import time

penumbra, mmu, work = sys.argv[1:]
path = os.path.join(work, "socket")
append = "pages=64 swaps=50 flips=20 switches=20 compute=100000000"


def start(*options, name):
    return subprocess.Popen(
        [penumbra, "run", "--mmu", mmu, "-q", "--event-digest", "--stats", f"{work}/{name}.json", "--timeout", "100",
         "--append", append, *options],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def come():
    for _ in range(1000):
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(path)
            s.settimeout(20)
            return s
        except OSError:
            s.close()
            time.sleep(0.01)
    raise SystemExit("nobody listens")


def framed(data):
    return b"$" + data + b"#%02x" % (sum(data) & 255)


def answer(s):
    """The data of the next packet."""
    got = b""
    while b"#" not in got or len(got.split(b"#", 1)[1]) < 2:
        more = s.recv(1)
        if not more:
            raise SystemExit(f"the stub left: {got}")
        got += more
    body, checksum = got.split(b"$", 1)[1].split(b"#", 1)
    assert int(checksum, 16) == sum(body) & 255, got
    return body


def ask(s, data):
    s.sendall(framed(data))
    return answer(s)


def expect(s, data, want):
    got = ask(s, data)
    if got != want:
        raise SystemExit(f"{data[:60]}: {got[:60]}, not {want}")


guest = start("--gdb", path, "-S", name="with")

# Who comes first finds the guest standing, before its first instruction.
s = come()
assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, oct(os.stat(path).st_mode)
expect(s, b"?", b"T05thread:1;")
first = ask(s, b"p10")

# Lengths and numbers that lie.
LIES = (b"m100000", b"m100000,", b"m,10", b"m100000,ffffffffffffffff", b"m100000,100000000000000000", b"mxyz,1",
        b"m-1,1", b"M100000,4:00", b"M100000,4:0000000000", b"M100000,1:zz", b"M100000,ffffffff:00", b"X100000,9:ab",
        b"p", b"pffffffffffffffff", b"p10000", b"P10", b"P10=", b"P10=00", b"P10=" + b"0" * 18, b"Pffff=00", b"G00",
        b"Hg5", b"Hx1", b"H", b"Hg", b"Hc-2", b"T5", b"T", b"Z0,1", b"Z0,1,", b"Z0,1,10000", b"Z2,0,0",
        b"Z9", b"z0,zz,1", b"vCont;x", b"vCont;s:9", b"vContrubbish", b"vCont;c;", b"s12345678901234567",
        b"qXfer:features:read:target.xml:", b"qXfer:features:read:target.xml:0", b"qXfer:features:read:target.xml:z,1",
        b"qThreadExtraInfo,9", b"Qqemu.PhyMemMode:2")


def lie(s):
    for packet in LIES:
        got = ask(s, packet)
        assert got[:1] == b"E" and len(got) == 3, (packet, got)


lie(s)
# What is not known.
for packet in (b"", b"R", b"!", b"bs", b"bc", b"bsx", b"b", b"vMustReplyEmpty", b"Z9,0,0", b"QNonStop:1", b"jThreadsInfo", b"\xff\xfe"):
    expect(s, packet, b"")
expect(s, b"m7fffffffff00,4", b"E0e")
# The monitor's answer to "help", and to half a byte.
got = ask(s, b"qRcmd,68656c70")
while got[:1] == b"O" and got != b"OK":
    assert bytes.fromhex(got[1:].decode()).isascii(), got
    got = answer(s)
assert got == b"OK", got
assert ask(s, b"qRcmd,6")[:1] == b"E"
assert ask(s, b"qXfer:features:read:target.xml:ffffff,fff") == b"l"
# As many breakpoints as there is room for.
for i in range(256):
    expect(s, b"Z0,%x,1" % (0x7000000 + i), b"OK")
expect(s, b"Z0,8000000,1", b"E1c")
for i in range(256):
    expect(s, b"z0,%x,1" % (0x7000000 + i), b"OK")
expect(s, b"z0,9000000,1", b"OK")
# A packet too long, a wrong checksum, one cut short by the next: the good one after it counts.
s.sendall(b"$" + b"a" * 100000 + b"#00" + b"$g#00" + b"$m1000" + framed(b"p10"))
assert answer(s) == first
# Half a packet, then the rest.
s.sendall(b"$p1")
time.sleep(0.05)
s.sendall(b"0#d1")
assert answer(s) == first
# The last answer again.
s.sendall(b"-")
assert answer(s) == first
# The second client waits until the first is gone.
other = come()
other.sendall(framed(b"?"))
other.settimeout(0.2)
try:
    raise SystemExit(f"two clients at once: {other.recv(10)}")
except socket.timeout:
    other.settimeout(20)

# It leaves in the middle of a packet, with a breakpoint set where the guest will come: the
# next client stops the guest by coming.
entry = int.from_bytes(bytes.fromhex(first.decode()), "little")
expect(s, b"Z0,%x,1" % entry, b"OK")
s.sendall(b"$m1000")
s.close()
assert answer(other) == b"T05thread:1;"
other.close()

# Ctrl-C stops it, detaching lets it go.
s = come()
ask(s, b"?")
expect(s, b"QStartNoAckMode", b"OK")
s.sendall(framed(b"vCont;c"))
time.sleep(0.05)
s.sendall(b"\x03")
assert answer(s) == b"T02thread:1;"
expect(s, b"D", b"OK")
assert s.recv(10) == b""

# They come, send rubbish, and leave, while the guest runs or stands.
rng = random.Random(7)
letters = b"$#+-\x03}*mMgGpPzZcsvHTqQDk:;,=0123456789abcdef"
for i in range(60):
    s = come()
    s.sendall(bytes(rng.choice(letters.replace(b"k", b"").replace(b"M", b"").replace(b"G", b"").replace(b"P", b""))
                    for _ in range(rng.randrange(2000))))
    if i % 3 == 0:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    s.close()

code = guest.wait()
assert code == 0, code
assert not os.path.exists(path)
assert start(name="without").wait() == 0
runs = [json.load(open(f"{work}/{name}.json", encoding="utf-8")) for name in ("with", "without")]
for key in ("guest_insns", "guest_ns"):
    assert runs[0][key] == runs[1][key], (key, runs[0][key], runs[1][key])
digests = [run["events"]["digest"] for run in runs]
assert digests[0] == digests[1], digests

# One that goes back, lies there, wants to change what was, and leaves in the past; the next one goes on.
guest = start("--gdb", path, "-S", "--checkpoints", "4", "--checkpoint-distance", "20000000", name="back")
s = come()
got = ask(s, b"qSupported:xmlRegisters=i386")
assert b"ReverseStep+;ReverseContinue+" in got, got
expect(s, b"bs", b"T05thread:1;replaylog:begin;")
expect(s, b"Z0,%x,1" % entry, b"OK")
for _ in range(3):
    expect(s, b"s", b"T05thread:1;")
expect(s, b"bs", b"T05thread:1;")
lie(s)
expect(s, b"bsx", b"")
for packet in (b"P10=0000000000000000", b"M100000,1:90", b"X100000,1:a", b"G" + ask(s, b"g"), b"c100000"):
    expect(s, packet, b"E1e")
expect(s, b"bc", b"T05thread:1;")
assert ask(s, b"p10") == first
expect(s, b"bc", b"T05thread:1;replaylog:begin;")
s.sendall(framed(b"z0,%x,1" % entry) + framed(b"c") + b"\x03")  # it may have come to the present before that
assert answer(s) == b"OK"
assert answer(s) in (b"T02thread:1;", b"T05thread:1;replaylog:end;")
s.sendall(framed(b"bs") + framed(b"bs"))
s.close()
s = come()
ask(s, b"?")
expect(s, b"bs", b"T05thread:1;")
expect(s, b"D", b"OK")
assert guest.wait() == 0
back = json.load(open(f"{work}/back.json", encoding="utf-8"))
assert (back["guest_insns"], back["events"]["digest"]) == (runs[1]["guest_insns"], digests[1]), back["events"]

# Killed by the client.
guest = start("--gdb", path, "-S", name="killed")
s = come()
s.sendall(framed(b"k"))
assert guest.wait() == 0
# A guest that ends tells who is there.
guest = start("--gdb", path, "-S", "--max-insns", "1000", name="ends")
s = come()
assert ask(s, b"c") == b"W04"
assert guest.wait() == 4
