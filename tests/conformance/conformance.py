#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the x86 tests of a built kvm-unit-tests folder under penumbra, and prints a table.

    conformance.py --penumbra PROGRAM [OPTION...] FOLDER...

A FOLDER is a kvm-unit-tests tree after `./configure [--arch=i386] && make`. Its own list of tests,
x86/unittests.cfg, says what is run and how; QEMU's parameters there are turned into penumbra's by
the tables below. What cannot run here is left out by a rule, and the table says by which one.

A test that does not pass is explained where each thing that it says is in a line of explained.txt.
Exit code: 0 all passed or are explained; 1 something else came out; 2 usage.
"""
import argparse
import concurrent.futures
import fnmatch
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile

EPOCH = 1767225600  # what the RTC shows when a run with --clock virtual begins
MODELS = {"max": "max", "host": "max"}  # any other model of QEMU's is the least of ours
LEAST = "x86-64"
FEATURES = {"tsc-deadline": "tsc_deadline_timer"}  # other names: "-" is "_"
VENDOR_OF = {"+svm": "amd", "+vmx": "intel"}
PARTS = {"vmx-mbec": "vmx"}  # what is there with a feature of ours, and not without
# Properties of QEMU's models that change nothing here, and options of QEMU's that do not.
PROPERTIES = ("host-phys-bits", "host-phys-bits=on", "migratable=no", "migratable=off")
MACHINES = ("pit=off", "vmport=off", "accel=kvm", "accel=tcg")
SKIPPED = 38  # QEMU makes an exit code of 77 of it
LINES = 10  # of what a test says that is not explained
FLAGS = ("-enable-kvm", "-nodefaults", "-no-reboot")


class LeftOut(Exception):
    """Why a test is not run."""


def sections(path):
    """(name, {key: value}) of each test of an unittests.cfg."""
    name, keys = None, {}
    for line in open(path, encoding="utf-8"):
        line = line.strip()
        if line.startswith("["):
            if name:
                yield name, keys
            name, keys = line.strip("[]"), {}
        elif name and "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            keys[key.strip()] = value.strip()
    if name:
        yield name, keys


def arch_of(folder):
    """x86_64 or i386: what the folder was configured for."""
    config = open(os.path.join(folder, "config.mak"), encoding="utf-8").read()
    found = re.search(r"^ARCH=(\S+)", config, re.M)
    return found.group(1) if found else "?"


def cpu_text(text, offered):
    """QEMU's -cpu as ours. offered: {feature: whether the host can have it}."""
    words = text.split(",")
    out = [MODELS.get(words[0], LEAST)]
    for word in words[1:]:
        name = FEATURES.get(word[1:], word[1:].replace("-", "_"))
        if word in VENDOR_OF:
            out.append("vendor=" + VENDOR_OF[word])
        if word.startswith("hv"):
            raise LeftOut("needs Hyper-V's interface")
        if word.startswith("vendor="):
            out.append("vendor=amd" if "AMD" in word else "vendor=intel")
        elif word[1:] in PARTS and offered.get(PARTS[word[1:]]):
            continue
        elif word[0] == "+" and not offered.get(name):
            raise LeftOut("needs a feature that no model here has: " + word[1:])
        elif word[0] in "+-":
            if name in offered: # what no model has need not be taken away
                out.append(word[0] + name)
        elif word not in PROPERTIES:
            raise LeftOut("no such property of a CPU: " + word)
    return ",".join(out)


def arguments(keys, offered):
    """The options of penumbra for a test's keys."""
    qemu = shlex.split(keys.get("qemu_params", keys.get("extra_params", "")))
    append = keys.get("test_args", "").replace("`date +%s`", str(EPOCH))
    if "`" in append:
        raise LeftOut("its arguments are a command of a shell")
    append, memory, cpu = shlex.split(append), "128M", LEAST
    while qemu:
        word = qemu.pop(0)
        if word in FLAGS:
            continue
        value = qemu.pop(0) if qemu else ""
        if word == "-cpu":
            cpu = cpu_text(value, offered)
        elif word == "-m":
            memory = value.upper() if value[-1].isalpha() else value + "M"
        elif word == "-append":
            append += shlex.split(value)
        elif word in ("-machine", "-M"):
            unknown = [w for w in value.split(",") if w not in MACHINES]
            if unknown:
                raise LeftOut("needs another machine: " + unknown[0])
        elif word == "-device":
            raise LeftOut("needs a device: " + value.split(",")[0])
        elif word != "-overcommit":
            raise LeftOut("no such option here: " + word)
    return ["--cpus", keys.get("smp", "1"), "--memory", memory, "--cpu", cpu,
            "--append", " ".join(append)]


def left_out_by_keys(keys, arch, every):
    """Raise LeftOut for what a test's own keys say."""
    groups = keys.get("groups", "").split()
    if keys.get("arch", arch) != arch:
        raise LeftOut(keys["arch"] + " only")
    if "pmu" in groups:
        raise LeftOut("needs a PMU")
    if "hyperv" in groups:
        raise LeftOut("needs Hyper-V's interface")
    if "nodefault" in groups and not every:
        raise LeftOut("not run by default there: --all")
    for check in keys.get("check", "").split():
        path, value = check.split("=", 1)
        held = open(path, encoding="utf-8").read().strip() if os.path.isfile(path) else None
        if held != value:
            raise LeftOut(f"asks for {path}={value}")


def offered_features(penumbra):
    """{feature: whether the host can have it}, of --cpu help."""
    text = subprocess.run([penumbra, "run", "--cpu", "help"], capture_output=True, text=True,
                          check=True).stdout
    names = re.search(r"Features.*?:\n(.*?)\nvendor=", text, re.S)
    return {n.rstrip("*"): not n.endswith("*") for n in names.group(1).split()}


def explanations(path):
    """[test pattern, MMU pattern, pattern of what was said, reason]"""
    out = []
    for line in open(path, encoding="utf-8"):
        line = line.strip()
        if line and not line.startswith("#"):
            test, mmu, said, reason = (part.strip() for part in line.split(" | "))
            out.append([test, mmu, said, reason])
    return out


class Run:
    """One test under one MMU: word (pass, skip, fail), said (what did not hold), counts."""

    def __init__(self, args, kernel, options, mmu, seconds):
        with tempfile.TemporaryDirectory() as work:
            environment, stats = os.path.join(work, "env"), os.path.join(work, "stats")
            with open(environment, "w", encoding="utf-8") as f:
                f.write("ERRATA_FORCE=y\n") # there is no host kernel whose errata it could ask
            done = subprocess.run(
                [args.penumbra, "run", "--quiet", "--mmu", mmu, "--pv", "all", *options,
                 "--kernel", kernel, "--initrd", environment, "--timeout", str(seconds),
                 "--stats", stats, *args.run.split()],
                stdin=subprocess.DEVNULL, capture_output=True, check=False)
            self.output = done.stdout.decode(errors="replace").replace("\r", "")
            self.error = done.stderr.decode(errors="replace")
            try:
                with open(stats, encoding="utf-8") as f:
                    end = json.load(f)["exit"]
            except (OSError, ValueError):
                end = {"reason": "error", "guest_value": None}
        self.judge(end)

    def judge(self, end):
        found = re.findall(r"^(PASS|FAIL|SKIP|XFAIL|XPASS): (.*)$", self.output, re.M)
        self.counts = {w: sum(1 for f in found if f[0] == w) for w in ("PASS", "FAIL", "SKIP")}
        self.said = [text.strip() for word, text in found if word in ("FAIL", "XPASS")]
        value = end["guest_value"]
        if end["reason"] == "debug-exit" and value == 0 and not self.said:
            self.word = "pass"
        elif end["reason"] == "debug-exit" and value == SKIPPED and not self.said:
            self.word = "skip"
            skips = [text for word, text in found if word == "SKIP"]
            last = self.output.strip().split("\n")[-1:]
            self.why = skips[0] if skips else "".join(last)
        else:
            self.word = "fail"
            if end["reason"] != "debug-exit":
                self.said.append("ended: " + end["reason"])
            elif not self.said:
                self.said.append(f"ended: exit code {value}")


class Conformance:
    def __init__(self, args):
        self.args = args
        self.explained = explanations(args.explained)
        self.used = set()
        self.bad = 0

    def reason(self, name, mmu, said):
        """The reason of what a test said, or None."""
        for i, (test, where, pattern, why) in enumerate(self.explained):
            if fnmatch.fnmatchcase(name, test) and fnmatch.fnmatchcase(mmu, where) and \
               fnmatch.fnmatchcase(said, pattern):
                self.used.add(i)
                return why
        return None

    def cell(self, name, mmu, run, notes):
        """The word of a table's cell; what is to be said below goes to notes."""
        if run.word == "skip":
            notes.append(f"{mmu}: it skips itself: {run.why}")
        if run.word != "fail":
            return run.word
        whys = {}
        for said in run.said:
            whys.setdefault(self.reason(name, mmu, said), []).append(said)
        for why, lines in whys.items():
            shown = lines[:1] if why else lines[:LINES]
            more = f" and {len(lines) - len(shown)} more" if len(lines) > len(shown) else ""
            notes.append(f"{mmu}: {'; '.join(shown)}{more}" + (f": {why}" if why else ""))
        if None not in whys:
            return "explained"
        self.bad += 1
        return "FAIL"

    def row(self, name, runs):
        notes = []
        cells = [self.cell(name, mmu, run, notes) for mmu, run in runs]
        counts = {tuple(run.counts.values()): None for _, run in runs}
        passed = " / ".join(f"{p} of {p + f}" + (f", {s} skipped" if s else "")
                            for p, f, s in counts)
        print(f"{name:36}" + "".join(f" {c:10}" for c in cells) + " " + passed)
        for note in notes:
            print("    " + note)
        sys.stdout.flush()

    def keep(self, name, mmu, arch, run):
        if self.args.logs:
            os.makedirs(self.args.logs, exist_ok=True)
            with open(os.path.join(self.args.logs, f"{name}-{arch}-{mmu}.log"), "w",
                      encoding="utf-8") as f:
                f.write(run.output + run.error)

    def one(self, job):
        """(name, why it is left out or None, [(MMU, Run)])"""
        name, keys, folder, arch, offered = job
        try:
            left_out_by_keys(keys, arch, self.args.all)
            options = arguments(keys, offered)
            kernel = os.path.join(folder, "x86", keys["file"])
            if not os.path.isfile(kernel):
                raise LeftOut("not built: " + keys["file"])
            mmus = [m for m in self.args.mmu if m == "kvm" or keys.get("accel", "") != "kvm"]
            if not mmus:
                raise LeftOut("for KVM only")
        except LeftOut as e:
            return name, str(e), []
        seconds = int(keys.get("timeout", "90").rstrip("s")) * self.args.slow
        runs = [(m, Run(self.args, kernel, options, m, seconds)) for m in mmus]
        for mmu, run in runs:
            self.keep(name, mmu, arch, run)
        return name, None, runs

    def folder(self, folder):
        arch = arch_of(folder)
        offered = offered_features(self.args.penumbra)
        tests = sections(os.path.join(folder, "x86", "unittests.cfg"))
        jobs = [(name, keys, folder, arch, offered) for name, keys in tests
                if not self.args.test or any(fnmatch.fnmatchcase(name, t) for t in self.args.test)]
        print(f"{folder}, {arch}\n{'test':36}" + "".join(f" {m:10}" for m in self.args.mmu) +
              " subtests passed")
        left_out, ran = {}, 0
        with concurrent.futures.ThreadPoolExecutor(self.args.jobs) as pool:
            for name, why, runs in pool.map(self.one, jobs):
                if why:
                    left_out.setdefault(why, []).append(name)
                else:
                    ran += 1
                    self.row(name, runs)
        if left_out:
            print("left out:")
        for why in sorted(left_out):
            print(f"    {why}: {' '.join(left_out[why])}")
        return ran


def kvm_here():
    """real, emulated (a host without VMX and SVM: ring 0 is not the architecture's) or None."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return None
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as cpuinfo:
        flags = next((line.split() for line in cpuinfo if line.startswith("flags")), [])
    return "real" if {"vmx", "svm"} & set(flags) else "emulated"


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--penumbra", required=True, help="the program")
    parser.add_argument("--mmu", help="which MMUs (default shadow,tdp, and kvm where it works)")
    parser.add_argument("--test", action="append", help="only tests of this name; * is any text")
    parser.add_argument("--all", action="store_true", help="also those not run by default there")
    parser.add_argument("--slow", type=int, default=4, help="times a test's own timeout")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many at once")
    parser.add_argument("--run", default="", help="more options of penumbra run")
    parser.add_argument("--logs", help="a folder for what each test prints")
    parser.add_argument("--explained", default=os.path.join(here, "explained.txt"))
    parser.add_argument("folder", nargs="+")
    args = parser.parse_args()
    kvm = kvm_here()
    emulated = not args.mmu and kvm == "emulated"
    args.mmu = (args.mmu or "shadow,tdp" + (",kvm" if kvm == "real" else "")).split(",")
    for folder in args.folder:
        for name in ("config.mak", "x86/unittests.cfg"):
            if not os.path.isfile(os.path.join(folder, name)):
                parser.error(f"{folder}: no built kvm-unit-tests: there is no {name}")
    table = Conformance(args)
    ran = sum(table.folder(folder) for folder in args.folder)
    if emulated:
        print("kvm is left out: without VMX and SVM this host's KVM emulates ring 0 in part;"
              " --mmu kvm runs it all the same")
    print(f"{ran} tests ran under {', '.join(args.mmu)}; {table.bad} results are not explained")
    return 1 if table.bad or not ran else 0


if __name__ == "__main__":
    sys.exit(main())
