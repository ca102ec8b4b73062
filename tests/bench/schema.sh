#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every kind of result, comparison and report is as its JSON Schema (bench/schema) says.
. "$(dirname "$0")/../cli/lib.sh"
. "$(dirname "$0")/lib.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)

# make NAME ARG...: penumbra bench's result.
make() {
    local name=$1
    shift
    run bench "$@" --repeat 1 --warmup 0 --json "$work/$name.json"
}
make plain "${tiny[@]}" --mmu shadow,tdp
make sweep chase:bytes=64K "${tiny[0]}" --mmu shadow:unsync=0/1 --tlb off
make failed touch:bytes=64M,rounds=1 -m 16M --mmu shadow
printf kernel > "$work/kernel" && printf initrd > "$work/initrd"
make linux linux.boot --kernel "$work/kernel" --initrd "$work/initrd" --mmu tdp
make s1 "${tiny[@]}" --mmu shadow --shard 1/2
make s2 "${tiny[@]}" --mmu shadow --shard 2/2
run merge -o "$work/merged.json" "$work/s1.json" "$work/s2.json"
sed 's/"gpte_reads": \([0-9]*\)/"gpte_reads": 9\1/' "$work/plain.json" > "$work/changed.json"
run compare "$work/plain.json" "$work/changed.json" --exact --json "$work/exact.json"
run compare "$work/plain.json" "$work/merged.json" --fail-above 5 --json "$work/gate.json"
run compare "$work/plain.json" "$work/plain.json" "$work/plain.json" "$work/plain.json" --json "$work/files.json"
# What run, faults, replay and host write: every part that there may be.
"$(dirname "$penumbra")/../../bench/micro/micro" --rounds 9 --only sync --penumbra "$penumbra" --json "$work/micro.json" > /dev/null ||
    fail "bench/micro"
run host --json
cp "$work/out" "$work/host.json"
short="pages=16 swaps=1 flips=1 switches=1 compute=1"
run run --append "$short" --trace "$work/trace"
run faults "$work/trace" --json "$work/faults.json"
printf '0000000000100000 T f\n' > "$work/map"
run faults "$work/trace" --by outcome,reason,access,function --symbols "$work/map" --json "$work/faults-named.json"
run faults "$work/trace" --by cause,outcome --figures --report unsync,unused,working_set \
    --json "$work/faults-causes.json"
run faults "$work/trace" --by page,cr3,cpl,level --json "$work/faults-page.json"
printf 'f: .globl f\n.type f, @function\nnop\n.size f, 9999\n' > "$work/f.s"
as -g -o "$work/f.o" "$work/f.s" && ld -Ttext=0x100000 -e f -o "$work/f.elf" "$work/f.o" || fail "an ELF with lines"
run faults "$work/trace" --by rip,line --symbols "$work/f.elf" --json "$work/faults-line.json"
run faults "$work/trace" --from 1s --by rip,vcpu --json "$work/faults-none.json"
run stat "$work/trace" --json "$work/stat.json"
run dirty check --mmu shadow,tdp --tracker wp,mincore --json "$work/check.json"
run run --append "$short" --dirty-log wp --dirty-every 1 --trace "$work/dirty-trace" --trace-events page_fault,fault_outcome,dirty_harvest
run dirty-rate "$work/dirty-trace" --json "$work/rate.json"
"$penumbra" run --append "compute=100000000000" --monitor "$work/mon" < /dev/null > /dev/null 2> "$work/err" &
until [ -S "$work/mon" ]; do
    kill -0 $! 2> /dev/null || { fail "no monitor: $(cat "$work/err")" && break; }
    sleep 0.05
done
run snapshot save "$work/mon" "$work/snapshot"
"$penumbra" monitor "$work/mon" quit > /dev/null
wait
run same "$work/snapshot" "$work/snapshot" --json "$work/same.json"
run run --append "$short" --tlb skylake --record "$work/recording"
run replay "$work/recording" --mmu shadow,shadow:unsync=0/1,tdp --json "$work/replay.json"
run run --mmu tdp --mmu-opt large_pages=0 --tlb skylake --dirty-log wp --dirty-every 1 --dirty-verify --dirty-pages \
    --event-digest --ram-digest --append "$short" --profile "$work/profile" --stats "$work/run.json"
run run --handover tdp@0.02 --append "$short exit=3" --stats "$work/over.json"
run run --kernel "$work/kernel" --initrd "$work/initrd" --format flat --max-insns 10 --stats "$work/flat.json"
# What an MMU holds, what differs, and one address: of both kinds of MMU, mapped and not.
for mmu in shadow tdp; do
    run run --mmu $mmu --append "$short" --dump-mmu "$work/dump-$mmu.json"
    run run --mmu $mmu --mmu-opt large_pages=0 -m 256M --append "pages=32 swaps=0 flips=0 switches=0 compute=1" --dump-mmu "$work/other.json"
    run diff "$work/dump-$mmu.json" "$work/other.json" --json "$work/diff-$mmu.json"
    [ "$rc" -eq 9 ] || fail "diff under $mmu: exit code $rc: $(cat "$work/err")"
    "$penumbra" run --mmu $mmu --tlb skylake --append "compute=100000000000" --monitor "$work/mon" \
        < /dev/null > /dev/null 2> "$work/err" &
    until [ -S "$work/mon" ]; do
        kill -0 $! 2> /dev/null || { fail "no monitor: $(cat "$work/err")" && break; }
        sleep 0.05
    done
    for gva in '$rip' 0 0x7000000000; do
        "$penumbra" monitor --json "$work/mon" "explain $gva" |
            python3 -c 'import json, sys; json.dump(json.load(sys.stdin)["result"], sys.stdout)' > "$work/explain-$mmu-${gva#?}.json"
    done
    "$penumbra" monitor "$work/mon" quit > /dev/null
    wait
done
run diff "$work/dump-shadow.json" "$work/dump-tdp.json" --json "$work/diff.json"
python3 - "$work" <<< '
import json, sys
def sections(name): return {d["section"] for d in json.load(open(f"{sys.argv[1]}/{name}.json"))["differences"]}
assert sections("diff") == {"root", "tables"}, sections("diff")
for mmu, ours in ("shadow", "shadow"), ("tdp", "second"):
    assert {"slots", "guest", ours, "tables"} <= sections(f"diff-{mmu}"), sections(f"diff-{mmu}")
' || fail "not every section differs"
python3 - "$work" <<< '
import json, sys
run, over, flat = (json.load(open(f"{sys.argv[1]}/{name}.json")) for name in ("run", "over", "flat"))
options = run["config"]["mmu_options"]
assert options["large_pages"] == 0 and options["unsync"] == 1 and options["prefetch"] == 8, options
assert run["command"][:4] == ["penumbra", "run", "--mmu", "tdp"] and run["exit"]["guest_value"] is None
assert run["model"]["profiles"]["tlb"]["name"] == "skylake" and run["inputs"]["kernel"] is None
assert over["exit"] == {"reason": "debug-exit", "code": over["exit"]["guest_value"] * 2 + 1, "guest_value": 2}, over["exit"]
assert flat["inputs"]["kernel"]["bytes"] == 6 and flat["inputs"]["initrd"]["bytes"] == 6
assert run["config"]["cpu"].startswith("x86-64-v") and run["config"]["hugepages"] == "thp", run["config"]
' || fail "the statistics do not say what ran"
# A comparison: which program compared, and which files they were.
python3 - "$work" <<< '
import json, os, sys
files = json.load(open(f"{sys.argv[1]}/files.json"))
host = json.load(open(f"{sys.argv[1]}/host.json"))
plain = os.stat(f"{sys.argv[1]}/plain.json").st_size
assert [x["bytes"] for side in "ab" for x in files["inputs"][side]] == [plain] * 4, files["inputs"]
assert files["command"][:3] == ["penumbra", "compare", f"{sys.argv[1]}/plain.json"], files["command"]
assert host["command"] == ["penumbra", "host", "--json"] and host["revision"] == files["revision"]
' || fail "a comparison or a host does not say where it comes from"
[ -s "$work/exact.json" ] && [ -s "$work/gate.json" ] && [ -s "$work/merged.json" ] || fail "a file is missing"
rm "$work/changed.json" "$work/other.json"
rc=0
python3 "$top/tests/bench/schema.py" "$top/bench/schema" "$top/bench/harness/result_fields.inc" "$work"/*.json || rc=$?
[ "$rc" -ne 77 ] || exit 77
[ "$rc" -eq 0 ] || fail "a file is not as its schema says"
exit $bad
