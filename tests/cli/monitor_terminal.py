#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""penumbra monitor at a terminal: monitor_terminal.py PENUMBRA SOCKET. It ends the guest."""
import os, pty, select, sys, termios, time

penumbra, path = sys.argv[1:]
PROMPT = b"(penumbra) "
while not os.path.exists(path):
    time.sleep(0.02)


class Terminal:
    def __init__(self, *args):
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.environ["TERM"] = "vt100"
            os.execv(penumbra, [penumbra, "monitor", *args, path])
        self.got = b""

    def expect(self, *words):
        """All of the words, in this order, from what has come and comes; that is then forgotten."""
        end = time.monotonic() + 20
        while True:
            at = 0
            for word in words:
                found = self.got.find(word, at)
                if found < 0:
                    break
                at = found + len(word)
            else:
                self.got = self.got[at:]
                return
            assert time.monotonic() < end, (words, self.got)
            if select.select([self.fd], [], [], 1)[0]:
                try:
                    self.got += os.read(self.fd, 65536)
                except OSError:
                    sys.exit(f"it ended: {words}, {self.got}")

    def type(self, keys):
        os.write(self.fd, keys)

    def ends(self):
        try:
            while os.read(self.fd, 65536):
                pass
        except OSError:
            pass
        assert os.waitpid(self.pid, 0)[1] == 0


t = Terminal()
before = termios.tcgetattr(t.fd)
t.expect(PROMPT)
t.type(b"stop\r")
t.expect(PROMPT)
t.type(b"info statuz\x7fs\r")  # a wrong key, and backspace
t.expect(b"VM status: paused", PROMPT)
t.type(b"frobnicate\r")
t.expect(b"Error: ", PROMPT)
t.type(b"\x1b[A\x1b[A\r")  # up, up: the line before
t.expect(b"VM status: paused", PROMPT)
t.type(b"gva\t")  # one command alone begins so
t.expect(b"2gpa ")
t.type(b"$rip\r")
t.expect(b"0x", PROMPT)
t.type(b"info t\t")  # two
t.expect(b"info tlb", b"info tasks", b"info t")
t.type(b"\x15\x04")  # the line goes; Ctrl-D
t.ends()
j = Terminal("--json")
j.expect(PROMPT)
j.type(b"info status\r")
j.expect(b'"status":"paused"', PROMPT)
j.type(b"cont\r")
j.expect(b'"ok":true', PROMPT)
j.type(b"quit\r")
j.ends()
