# SPDX-License-Identifier: MIT
"""Every command that a document shows works as it is shown.

    commands.py --build BUILD [--show] FILE.md...

In a block that begins with ```console a line "$ COMMAND" is a command of bash (a line that ends in
a backslash goes on), and what follows is its output, standard error included. "..." stands for
any text of a line, and as a line of its own for any lines. Where no output is shown, it is not
looked at. In a program by another compiler than the documents' (docs/compiler.sh) any number stands for
any other. An exit code other than 0 is shown by "$ echo $?". A document's commands run one after another in a new
folder, by the program installed from BUILD; their input is "poweroff -f", for a guest with a
shell. In other blocks no line begins with `penumbra`.

Three kinds of commands are not run in full: benchmarks run once, and the quick ones where
no workload is named; `--mmu kvm` only shows that the command line is right where there
is no /dev/kvm, or none that can boot Linux; `parallel` and `sbatch` are a loop. --show prints what came out.
"""
import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile

WRAPPER = """#!/bin/bash
args=("$@")
if [ "$1" = bench ] && [[ " $* " != *" --list "* ]]; then
    [[ " $* " == *" --repeat "* ]] || args+=(--repeat 1 --warmup 0)
    [[ "$2" != --* ]] || args+=(--quick)
fi
if [ "$1" = run ] && [[ "$*" == *kvm* ]] && [ ! -e /dev/kvm ]; then
    echo kvm >> "$DOCS_LEFT_OUT"
    said=$("$DOCS_PENUMBRA" "${args[@]}" 2>&1 > /dev/null)
    [ $? -eq 1 ] && [[ "$said" == *"/dev/kvm"* ]] && exit 0
    echo "$said"
    exit 2
fi
exec "$DOCS_PENUMBRA" "${args[@]}"
"""
PARALLEL = """#!/bin/bash
while [[ "$1" == -* ]]; do shift 2; done
while read -r i; do eval "${*//\\{\\}/$i}" || exit; done
"""
SBATCH = """#!/bin/bash
while [ $# -gt 1 ]; do [[ "$1" != --array=* ]] || n=${1#*-}; [[ "$1" != --array=* ]] || n=${n##*-}; shift; done
for ((i = 1; i <= n; i++)); do
    SLURM_ARRAY_TASK_ID=$i SLURM_ARRAY_TASK_COUNT=$n bash -c "$1" || exit
done
"""


def blocks(path):
    """(kind, number of its first line, lines) of each code block."""
    kind, start, held = None, 0, []
    for number, line in enumerate(open(path, encoding="utf-8").read().split("\n"), 1):
        if kind is None and line.startswith("```"):
            kind, start, held = line[3:].strip() or "text", number + 1, []
        elif kind is not None and line == "```":
            yield kind, start, held
            kind = None
        elif kind is not None:
            held.append(line)
        elif line.startswith("    ") and re.match(r"\s+(\$ )?penumbra ", line):
            yield "text", number, [line.strip()]


def commands(path, problems):
    """[line number, command, expected lines] of each command."""
    found = []
    for kind, start, lines in blocks(path):
        goes_on = False
        for number, line in enumerate(lines, start):
            if kind != "console":
                if re.match(r"(\$ )?penumbra [a-z]", line):
                    problems.append(f"{path}:{number}: a command in a block that is not run")
            elif goes_on:
                found[-1][1] += "\n" + line
                goes_on = line.endswith("\\")
            elif line.startswith("$ "):
                found.append([number, line[2:], []])
                goes_on = line.endswith("\\")
            elif found:
                found[-1][2].append(line)
    return found


def words(text, near):
    if not near:
        return re.escape(text)
    pieces = re.split(r"(\b(?:0x)?[0-9][0-9a-f.,]*\b| +)", text)
    return "".join((" +" if piece.isspace() else r"[0-9a-fx.,]+") if i % 2 else re.escape(piece)
                   for i, piece in enumerate(pieces))


def pattern(expected, near):
    text = ""
    for line in expected:
        if line.strip() == "...":
            text += r"(?:.*\n)*?"
        else:
            parts = [words(part, near) for part in line.rstrip().split("...")]
            text += r"[^\n]*?".join(parts) + r"[ \t]*\n"
    return re.compile(text)


def tools(work, build):
    subprocess.run(["cmake", "--install", build, "--prefix", f"{work}/prefix"], check=True,
                   stdout=subprocess.DEVNULL)
    os.mkdir(f"{work}/bin")
    for name, text in (("penumbra", WRAPPER), ("parallel", PARALLEL), ("sbatch", SBATCH)):
        with open(f"{work}/bin/{name}", "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(f"{work}/bin/{name}", 0o755)
    config = [os.path.join(where, name) for where, _, names in os.walk(f"{work}/prefix")
              for name in names if name == "penumbra-mmu.pc"][0]
    top = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
    return dict(os.environ, DOCS_PENUMBRA=f"{work}/prefix/bin/penumbra", DOCS_LEFT_OUT=f"{work}/left_out",
                PATH=f"{work}/bin:{work}/prefix/bin:/usr/bin:/bin:" + os.environ["PATH"],
                PKG_CONFIG_PATH=os.path.dirname(config),
                LD_LIBRARY_PATH=os.path.dirname(os.path.dirname(config)),
                PENUMBRA_CACHE=os.environ.get("PENUMBRA_CACHE", f"{top}/.cache/guest"),
                PREFIX=f"{work}/prefix", LC_ALL="C.UTF-8")


def by_another_compiler(program):
    docs = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../docs")
    compiler = subprocess.run([f"{docs}/compiler.sh", program], check=True, stdout=subprocess.PIPE, text=True).stdout
    with open(f"{docs}/winners.svg", encoding="utf-8") as f:
        return f"for a guest by {compiler.strip()}." not in f.read()


def run(path, found, work, env, show, near):
    """What is wrong with the commands of one document."""
    folder = tempfile.mkdtemp(dir=work)
    script = "set +m\nrc=0\n"
    for i, (_, command, _) in enumerate(found):
        script += f"{{ (exit $rc); {command}\n}} > {folder}.{i} 2>&1 < {work}/input; rc=$?; echo $rc > {folder}.{i}.rc\n"
    subprocess.run(["bash", "-c", script], cwd=folder, env=env, timeout=400, check=False)
    wrong = []
    for i, (number, command, expected) in enumerate(found):
        try:
            out = re.sub(r"\r|\x1b\[[0-9;]*[A-Za-z]", "", open(f"{folder}.{i}", encoding="utf-8", errors="replace").read())
            rc = int(open(f"{folder}.{i}.rc", encoding="utf-8").read())
        except OSError:
            wrong.append(f"{path}:{number}: did not come to it: {command}")
            continue
        if out and not out.endswith("\n"):
            out += "\n"
        if show:
            print(f"$ {command}\n{out}", end="")
        left_out = "--mmu kvm" in command or "handover kvm" in command
        told = i + 1 < len(found) and found[i + 1][1] == "echo $?"
        if left_out and rc == 1 and "Linux does not boot here: KVM without VMX or SVM" in out:
            continue  # the command line is right, and the host is not
        if rc and not told:
            wrong.append(f"{path}:{number}: exit code {rc}: {command}\n{out[-2000:]}")
        elif any(expected) and not (left_out and not os.path.exists("/dev/kvm")):
            while expected and not expected[-1].strip():
                expected.pop()
            if not pattern(expected, near).fullmatch(re.sub(r"[ \t]+\n", "\n", out).rstrip("\n") + "\n"):
                wrong.append(f"{path}:{number}: other output: {command}\n--- shown\n" + "\n".join(expected) +
                             "\n--- is\n" + out[-6000:])
    return wrong


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--build", required=True)
    args.add_argument("--show", action="store_true")
    args.add_argument("files", nargs="+")
    args = args.parse_args()
    problems = []
    with tempfile.TemporaryDirectory() as work:
        env = tools(work, args.build)
        with open(f"{work}/input", "w", encoding="utf-8") as f:
            f.write("poweroff -f\n")
        if subprocess.run(["penumbra-guest"], env=env, stdout=subprocess.DEVNULL, check=False).returncode:
            print("SKIPPED: penumbra-guest could not get Debian's packages")
            return 77
        near = by_another_compiler(env["DOCS_PENUMBRA"])
        found = {path: commands(path, problems) for path in args.files}
        count = sum(map(len, found.values()))
        with concurrent.futures.ThreadPoolExecutor(1 if args.show else 2) as pool:
            for wrong in pool.map(lambda path: run(path, found[path], work, env, args.show, near), found):
                problems += wrong
        left = open(f"{work}/left_out", encoding="utf-8").read().count("\n") if os.path.exists(f"{work}/left_out") else 0
    if near:
        print("another compiler made the guest than the documents' one: numbers may be others")
    print(f"{count} commands of {len(args.files)} documents, {left} of them under --mmu kvm by their command line only")
    for problem in problems:
        print("FAIL:", problem)
    return 1 if problems or not count else 0


if __name__ == "__main__":
    sys.exit(main())
