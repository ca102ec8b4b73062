#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The dirty guest under QEMU: it is migrated into a file while it writes its rounds, comes up from there
in another QEMU, and check.py looks at that one's memory. Another VMM's script has the same steps.

    qemu.py IMAGE [--memory MIB] [--qemu PROGRAM] [--accel tcg|kvm] [--rounds N]

With more than 3072 MiB there are pages above the PCI hole. Exit code: that of check.py; 77: no QEMU.
"""
import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

LOW = 0xC0000000  # of QEMU's machine with more memory than that: the hole begins here at the latest


class Qemu:
    def __init__(self, args, work, name, *more):
        self.path = os.path.join(work, name)
        self.p = subprocess.Popen(
            [args.qemu, "-machine", "pc", "-accel", args.accel, "-m", f"{args.memory}M", "-display", "none",
             "-vga", "none", "-net", "none", "-kernel", args.image, "-serial", f"unix:{self.path}.tty,server=on",
             "-monitor", f"unix:{self.path}.mon,server=on,wait=off", *more])
        self.tty, self.mon = self.connect("tty"), self.connect("mon")
        self.text = ""
        self.prompt()

    def connect(self, what):
        for _ in range(1000):
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect(f"{self.path}.{what}")
                s.settimeout(60)
                return s
            except OSError:
                s.close()
                if self.p.poll() is not None:
                    sys.exit(f"QEMU ended with {self.p.returncode}")
                time.sleep(0.01)
        sys.exit("QEMU does not listen")

    def said(self, what):
        while what not in self.text:
            data = self.tty.recv(4096)
            if not data:
                sys.exit(f"the guest is gone; it had said: {self.text}")
            self.text += data.decode(errors="replace")

    def prompt(self):
        answer = ""
        while "(qemu) " not in answer:
            data = self.mon.recv(4096)
            if not data:
                sys.exit("the monitor is gone")
            answer += data.decode(errors="replace")
        return answer

    def ask(self, line):
        self.mon.sendall(line.encode() + b"\n")
        return self.prompt()

    def end(self):
        self.mon.sendall(b"quit\n")
        self.p.wait(30)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("image")
    parser.add_argument("--memory", type=int, default=96)
    parser.add_argument("--qemu", default="qemu-system-x86_64")
    parser.add_argument("--accel", default="tcg")
    parser.add_argument("--rounds", type=int, default=6)
    args = parser.parse_args()
    if not shutil.which(args.qemu):
        print("skipped: no QEMU here")
        return 77
    with tempfile.TemporaryDirectory() as work:
        stream, memory = os.path.join(work, "stream"), os.path.join(work, "memory")
        a = Qemu(args, work, "a")
        a.said("round 1\n")
        a.ask("migrate_set_parameter max-bandwidth 8M")
        a.ask(f'migrate -d "exec:cat > {stream}"')
        for i in range(2, args.rounds + 1):  # while the pages go out
            a.tty.sendall(b"\n")
            a.said(f"round {i}\n")
        live = "Migration status: active" in a.ask("info migrate")
        a.ask("migrate_set_parameter max-bandwidth 4G")
        while "Migration status: completed" not in (state := a.ask("info migrate")):
            if "failed" in state:
                sys.exit(state)
            time.sleep(0.05)
        a.end()
        regions = re.findall(r"region ([0-9a-f]+) ([0-9a-f]+)", a.text)
        b = Qemu(args, work, "b", "-incoming", f"exec:cat {stream}", "-S")
        while "paused" not in (state := b.ask("info status")) or "inmigrate" in state:
            time.sleep(0.05)
        low = min(args.memory << 20, LOW)
        b.ask(f'pmemsave 0 {low} "{memory}"')
        parts = memory
        high = [int(end, 16) for base, end in regions if int(base, 16) >= 1 << 32]
        if high:
            b.ask(f'pmemsave {1 << 32} {max(high) - (1 << 32)} "{memory}.high"')
            parts += f",{1 << 32:x}={memory}.high"
        b.end()
        print("the rounds were written while pages went out" if live else "the migration was over too early")
        return subprocess.call([sys.executable, os.path.join(os.path.dirname(__file__), "check.py"),
                                str(args.rounds), parts, *[f"{x}-{y}" for x, y in regions]])


if __name__ == "__main__":
    sys.exit(main())
