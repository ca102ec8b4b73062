# SPDX-License-Identifier: MIT
# The host's side of devices.sh: talks to the ports of the guest's console.
#
#   devices.py HVC PORT
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


terminal, port = at(sys.argv[1]), at(sys.argv[2])
port.sendall(b"to the port\n")
want = b"".join(b"%d\n" % i for i in range(1, 50001))
if until(port, b"\n50000\n") != want:
    sys.exit("the port gave other bytes")
terminal.sendall(b"to the terminal\n")
until(terminal, b"from the terminal\r\n")
port.sendall(b"all read\n")
