#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What it costs to go on from a snapshot, by each way that memory comes; and QEMU's ways beside it.

    restore_cost.py --penumbra PROGRAM --guest FILL.ELF [--memory 1024] [--repeat 5] [--mmu shadow]
                    [--in FOLDER] [--qemu PROGRAM|none]

The guest (fill.S) fills its memory with bytes that nobody compresses; it is saved, and restored again and
again, in turn: eager, mapped and lazy restores, with and without the working set. Measured are, in ms and
medians: from exec to the guest's first byte on the console, and its work, which takes about 100 ms after an
eager restore and writes 4096 pages all over memory. Files are in the host's page cache. QEMU's ways are its
migration to a file and -incoming, and savevm and -loadvm, by its software CPU. Its guest is saved while it
runs, or it would stand after -incoming; and gets its byte when it has said its first, for a restore takes what
was typed before away."""
import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

args = argparse.ArgumentParser()
args.add_argument("--penumbra", required=True)
args.add_argument("--guest", required=True)
args.add_argument("--memory", type=int, default=1024)
args.add_argument("--repeat", type=int, default=5)
args.add_argument("--mmu", default="shadow")
args.add_argument("--in", dest="folder", default=".")
args.add_argument("--qemu", default="qemu-system-x86_64")
args = args.parse_args()

WAIT = 120


def die(what):
    sys.exit(f"restore_cost: {what}")


class Guest:
    """A VMM and its guest's console."""

    def __init__(self, command, stdin):
        self.began = time.monotonic()
        self.process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def until(self, letters):
        """The time at which it says one of those, and which."""
        while True:
            one = os.read(self.process.stdout.fileno(), 1)
            now = time.monotonic()
            if not one:
                die(f"{' '.join(self.process.args)}: it ended: {self.process.stderr.read().decode()}")
            if one in letters:
                return now, one

    def end(self):
        self.process.kill()
        self.process.communicate()


def measure(command, go):
    """To the first byte, and the work after it. go: the file with what is typed; None: it is typed then."""
    if go:
        with open(go, "rb") as stdin:
            g = Guest(command, stdin)
    else:
        g = Guest(command, subprocess.PIPE)
    first, letter = g.until((b".", b"G"))
    if not go:
        g.process.stdin.write(b"g")
        g.process.stdin.flush()
    begins = first if letter == b"G" else g.until((b"G",))[0]
    done = g.until((b"D",))[0]
    g.end()
    return (first - g.began) * 1e3, (done - begins) * 1e3


# ---- penumbra ----


def penumbra(*words):
    start = time.monotonic()
    done = subprocess.run([args.penumbra, *words], capture_output=True, text=True)
    if done.returncode:
        die(f"penumbra {' '.join(words)}: {done.stderr}")
    return (time.monotonic() - start) * 1e3


def save(work):
    """A packed and a raw snapshot; the ms that each took."""
    mon = f"{work}/mon"
    g = Guest([args.penumbra, "run", "--mmu", args.mmu, "-m", f"{args.memory}M", "--kernel", args.guest,
               "--monitor", mon], subprocess.PIPE)
    g.until((b"R",))
    ms = [penumbra("snapshot", "save", mon, f"{work}/packed"), penumbra("snapshot", "save", mon, f"{work}/raw", "--raw")]
    g.end()
    return ms


def restore(work, one, how, *more):
    return [args.penumbra, "run", "--mmu", args.mmu, "--restore", f"{work}/{one}", "--restore-memory", how, *more]


# ---- QEMU ----


class Monitor:
    def __init__(self, path):
        end = time.monotonic() + WAIT
        self.s = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.s.connect(path)
                break
            except OSError:
                if time.monotonic() > end:
                    die("QEMU's monitor does not come")
                time.sleep(0.01)
        self.answer()

    def answer(self):
        text = b""
        while not text.endswith(b"(qemu) "):
            more = self.s.recv(65536)
            if not more:
                die("QEMU ended")
            text += more
        return text.decode(errors="replace")

    def ask(self, line):
        self.s.sendall(line.encode() + b"\n")
        return self.answer()


def qemu(work, *more):
    return [args.qemu, "-accel", "tcg", "-cpu", "max", "-m", f"{args.memory}M", "-display", "none", "-nic", "none",
            "-serial", "stdio", "-no-reboot", "-kernel", args.guest, "-drive", f"file={work}/vm.qcow2,if=ide", *more]


def qemu_save(work):
    """By migration to a file, and by savevm; the ms that each took."""
    disk = f"{work}/vm.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True)
    mon = f"{work}/qmon"
    g = Guest(qemu(work, "-monitor", f"unix:{mon},server,nowait"), subprocess.PIPE)
    g.until((b"R",))
    m = Monitor(mon)
    start = time.monotonic()
    m.ask("savevm one")
    by_savevm = (time.monotonic() - start) * 1e3
    m.ask("migrate_set_parameter max-bandwidth 100G")
    start = time.monotonic()
    m.ask(f'migrate "exec:cat > {work}/qemu.state"')
    if "completed" not in m.ask("info migrate"):
        die("QEMU's migration to a file")
    by_file = (time.monotonic() - start) * 1e3
    g.end()
    return by_file, by_savevm


# ---- All ----


def main():
    if not os.access(args.penumbra, os.X_OK) or not os.path.exists(args.guest) or args.repeat < 1:
        die("see the top of the file")
    with_qemu = args.qemu != "none" and shutil.which(args.qemu) and shutil.which("qemu-img")
    with tempfile.TemporaryDirectory(dir=args.folder) as work:
        go = f"{work}/go"
        with open(go, "wb") as f:
            f.write(b"g")
        packed, raw = save(work)
        print(f"{args.memory} MiB, --mmu {args.mmu}: save {packed:.0f} ms, save --raw {raw:.0f} ms")
        ways = {"eager": ("packed", "eager"), "eager, raw": ("raw", "eager"), "map": ("raw", "map"),
                "lazy": ("packed", "lazy"), "lazy, raw": ("raw", "lazy")}
        commands = {name: restore(work, *way) for name, way in ways.items()}
        for name in ("map", "lazy", "lazy, raw"):
            one = ways[name][0]
            if not os.path.exists(f"{work}/set-{one}"):
                # It ends when nothing can wake it: 3, a guest that halts for ever.
                with open(go, "rb") as stdin:
                    done = subprocess.run(restore(work, one, "lazy", "--record-working-set", f"{work}/set-{one}"),
                                          stdin=stdin, capture_output=True)
                if done.returncode != 3:
                    die(f"recording: {done.stderr.decode()}")
            commands[f"{name}, working set"] = commands[name] + ["--working-set", f"{work}/set-{one}"]
        if with_qemu:
            by_file, by_savevm = qemu_save(work)
            print(f"QEMU: migrate to a file {by_file:.0f} ms, savevm {by_savevm:.0f} ms; of these the saves above are "
                  f"{packed / by_file:.2f} and {packed / by_savevm:.2f}, raw {raw / by_file:.2f} and {raw / by_savevm:.2f}")
            commands["QEMU, -incoming"] = qemu(work, "-monitor", "none", "-incoming", f"exec:cat {work}/qemu.state")
            commands["QEMU, -loadvm"] = qemu(work, "-monitor", "none", "-loadvm", "one")
        times = {name: [] for name in commands}
        for _ in range(args.repeat):
            for name, command in commands.items():
                times[name].append(measure(command, None if name.startswith("QEMU") else go))
        eager = [statistics.median(t[i] for t in times["eager"]) for i in range(2)]
        print(f"{'':32} {'first byte':>10} {'of eager':>9} {'work':>8} {'of eager':>9}")
        for name, t in times.items():
            first, work_ms = (statistics.median(x[i] for x in t) for i in range(2))
            print(f"{name:32} {first:7.1f} ms {first / eager[0]:9.4f} {work_ms:5.0f} ms {work_ms / eager[1]:9.2f}")


main()
