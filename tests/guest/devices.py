# SPDX-License-Identifier: MIT
# The host's side of devices.sh: talks to the ports of the guest's console, and over its vsock; gives it
# memory, and takes it back.
#
#   devices.py HVC PORT VSOCK MONITOR OUTPUT    OUTPUT: what the guest prints
import socket, sys, time


def at(path):
    while True:
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(300)
        try:
            s.connect(path)
            return s
        except OSError:
            time.sleep(0.05)


def until(s, end):
    got = b""
    while not got.endswith(end):
        piece = s.recv(65536)
        if not piece:
            sys.exit(f"cut off after {len(got)} bytes")
        got += piece
    return got


def until_count(s, count):
    got = b""
    while len(got) < count:
        piece = s.recv(count - len(got))
        if not piece:
            sys.exit("cut off")
        got += piece
    return got


def says(output, words):
    while words not in open(output, "rb").read():
        time.sleep(0.02)


def vsock(path, output):
    door = socket.socket(socket.AF_UNIX)
    door.bind(path + "_2000")
    door.listen(1)
    door.settimeout(300)
    says(output, b"GUEST-LISTENS")
    s = at(path)
    s.sendall(b"CONNECT 1000\n")
    if not until(s, b"\n").startswith(b"OK "):
        sys.exit("the guest's port is not open")
    data = bytes(range(48, 58)) * 30000
    for i in range(0, len(data), 50000):
        s.sendall(data[i:i + 50000])
        if until_count(s, 50000) != data[i:i + 50000]:
            sys.exit("the guest sent other bytes back")
    s.sendall(b".")
    until(s, b".")
    if s.recv(1):
        sys.exit("the guest's end is not seen")
    peer, _ = door.accept()
    peer.settimeout(300)
    if until(peer, b"\n99999\n") != b"".join(b"%d\n" % i for i in range(100000)):
        sys.exit("the guest sent other numbers")
    peer.sendall(b"done\n")
    if peer.recv(1):
        sys.exit("the guest does not close")


terminal, port = at(sys.argv[1]), at(sys.argv[2])
port.sendall(b"to the port\n")
want = b"".join(b"%d\n" % i for i in range(1, 50001))
if until(port, b"\n50000\n") != want:
    sys.exit("the port gave other bytes")
terminal.sendall(b"to the terminal\n")
until(terminal, b"from the terminal\r\n")
port.sendall(b"all read\n")
vsock(sys.argv[3], sys.argv[5])
monitor = at(sys.argv[4])
says(sys.argv[5], b"GUEST-WANTS-MEMORY")
monitor.sendall(b"plug 256M\n")
says(sys.argv[5], b"GUEST-HAS-MEMORY")
monitor.sendall(b"plug 0\n")
