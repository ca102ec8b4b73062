#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# run --config and --dump-config: every option of the table goes through a file and back; a file that is none is
# one line.
. "$(dirname "$0")/lib.sh"
truncate -s 1M "$work/a,b" "$work/disk"

# Every option of run, with a value that it takes, and none twice.
python3 - "$penumbra" "$work" <<'EOF' || fail "not every option goes through a file"
import json, re, subprocess, sys
penumbra, work = sys.argv[1:]
help = subprocess.run([penumbra, "run", "--help"], capture_output=True, text=True).stdout
options = dict(re.findall(r"^ {2,6}(?:-\w, )?--([a-z-]+)(?:[ =](\S+))?", help, re.M))
for none in ("help", "config", "dump-config"):
    options.pop(none)
assert len(options) > 50, len(options)
value = {"mmu": "tdp", "mmu-opt": "prefetch=0", "tlb": "off", "cost": "x", "cpu": "max", "hugepages": "off",
         "clock": "host", "hpet": "on", "eventfds": "on", "disk": work + "/disk,ro", "net": "user", "device": "rng", "pv": "none",
         "trace-events": "page_fault", "handover": "shadow@5", "dirty-log": "wp", "numa": "local", "format": "flat", "numa-distance": "20", "restore-memory": "lazy", "share": work + ",ro",
         "memory": "64M", "flat-bits": "16", "panic-exit": "off", "sandbox": "off", "allow-dir": work}
checked = 0
for name, argument in options.items():
    arguments = ["--" + name]
    if argument:
        text = value.get(name, "7" if re.fullmatch(r"N|MS|S|GVA|ADDR|SIZE|PORT.*|BITS", argument) else "x")
        arguments.append("4K" if name == "trace-limit" else "1000" if name == "checkpoint-distance" else text)
    read = json.dumps({name: arguments[1] if argument else True})
    open(work + "/one.json", "w").write(read)
    by = {how: subprocess.run([penumbra, "run", *how, "--dump-config"], capture_output=True, text=True)
          for how in (tuple(arguments), ("--config", work + "/one.json"))}
    line, file = by.values()
    # An option that does not stand alone says so either way.
    assert (line.returncode, line.stdout, line.stderr) == (file.returncode, file.stdout, file.stderr), (name, line, file)
    if line.returncode == 0:
        back = json.loads(line.stdout)
        assert back == {"schema": "penumbra-config-1", name: arguments[1] if argument else True}, back
        checked += 1
    else:
        assert re.search(r"needs --|does not go|need --format", line.stderr), (name, line.stderr)
assert checked > 35, checked
EOF

# A machine that runs is the same one; the command line wins; what may be repeated is a list.
guest=(--memory 64M --append "pages=16 swaps=1 flips=1 switches=1 compute=1" --mmu-opt large_pages=0 --mmu-opt page_budget=64 --disk "$work/a,,b,ro" --disk "$work/disk,snapshot")
run run "${guest[@]}" --dump-config
[ "$rc" -eq 0 ] && cp "$work/out" "$work/vm.json" || fail "--dump-config: $(cat "$work/err")"
python3 -c 'import json, sys
j = json.load(open(sys.argv[1]))
assert j["mmu-opt"] == ["large_pages=0", "page_budget=64"] and len(j["disk"]) == 2 and j["memory"] == "64M", j' "$work/vm.json" || fail "--dump-config"
for how in direct file; do
    if [ $how = direct ]; then what=("${guest[@]}"); else what=(--config "$work/vm.json"); fi
    run run "${what[@]}" --mmu tdp --stats "$work/$how.json" --ram-digest --event-digest
    [ "$rc" -eq 0 ] || fail "$how: $(cat "$work/err")"
done
python3 -c 'import json, sys
a, b = (json.load(open(f)) for f in sys.argv[1:])
assert a["ram_digest"] == b["ram_digest"] and a["events"]["digest"] == b["events"]["digest"] and a["counters"] == b["counters"]' \
    "$work/direct.json" "$work/file.json" || fail "a file makes another machine"
run run --config "$work/vm.json" --memory 128M --dump-config
grep -q '"memory": "128M"' "$work/out" || fail "the command line does not win"

# says TEXT JSON: a file with that is refused with one line.
says() {
    printf '%s' "$2" > "$work/bad.json"
    refused 2 run --config "$work/bad.json"
    grep -qF -- "$1" "$work/err" || fail "$2: not '$1': $(cat "$work/err")"
}
says "no option is called 'memroy': did you mean --memory?" '{"memroy": "1G"}'
says "no option is called 'config'" '{"config": "x"}'
says 'bad.json: memory 12q: not a size' '{"memory": "12q"}'
says 'bad.json: cpus 0: not a number from 1' '{"cpus": 0}'
says 'cpus -1: not' '{"cpus": -1}'
says 'cpus 1.5: not' '{"cpus": 1.5}'
says 'memory: neither a string nor a number' '{"memory": null}'
says 'memory: neither a string nor a number' '{"memory": {"a": 1}}'
says 'memory: a list, and it can be given once' '{"memory": ["1G"]}'
says 'mmu-opt: neither a string nor a number' '{"mmu-opt": [["a"]]}'
says 'quiet: neither true nor false' '{"quiet": "yes"}'
says 'schema: not penumbra-config-1' '{"schema": "penumbra-stats-2"}'
says 'no JSON object' '[]'
says 'line 1:' '{"memory": "1G"'
says 'line 1:' ''
says 'line 1:' '{"memory": "1G", "memory": "2G"}'
says 'line 1:' '{"append": "a\u0000b"}'
says 'needs --kernel' '{"initrd": "x"}'
head -c 2000000 /dev/zero > "$work/big"
refused 1 run --config "$work/big"
refused 1 run --config "$work/nothing"
python3 -c 'print("[" * 100000)' > "$work/deep"
refused 2 run --config "$work/deep"
exit $bad
