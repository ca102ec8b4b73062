#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A guest that runs on this host's /dev/kvm is saved, whole and by its dirty log, and goes on from there under
# every MMU; and one that was saved under another MMU goes on under kvm, and is saved again.
#
#   snapshot.sh PENUMBRA
. "$(dirname "$0")/../cli/lib.sh"
need_kvm
vendor=intel
grep -q AuthenticAMD /proc/cpuinfo && vendor=amd
guest=(-m 64M --append "pages=500 swaps=50 flips=20 switches=20 compute=400000000" --ram-digest)
digest() { grep '"ram_digest":' "$1"; }

# begin_guest ARG...: with a monitor, as $pid; it has begun to compute.
begin_guest() {
    "$penumbra" "$@" --monitor "$work/mon" --stats "$work/a.json" > "$work/a.out" 2> "$work/a.err" < /dev/null &
    pid=$!
    until [ -S "$work/mon" ]; do kill -0 $pid 2> /dev/null || break; sleep 0.02; done
}
said() { until grep -q "$1" "$work/a.out"; do kill -0 $pid 2> /dev/null || break; sleep 0.02; done; }
# save NAME ARG...
save() {
    local name=$1
    shift
    run snapshot save "$work/mon" "$work/$name" "$@"
    [ "$rc" -eq 0 ] || fail "save $name $*: $(cat "$work/err")"
}
# goes_on WHAT MMU DIR ARG...: restored under MMU, it ends as the run that was not stopped.
goes_on() {
    local what=$1 mmu=$2 dir=$3
    shift 3
    run snapshot restore "$work/$dir" --mmu "$mmu" --stats "$work/r.json" --ram-digest "$@"
    [ "$rc" -eq 0 ] || fail "$what, under $mmu: exit code $rc: $(head -n 3 "$work/err")"
    grep -q "\"mmu\": \"$mmu\"" "$work/r.json" || fail "$what: not under $mmu"
    [ "$(digest "$work/whole.json")" = "$(digest "$work/r.json")" ] || fail "$what, under $mmu: memory at the end differs"
    [ -s "$work/out" ] && tail -c "$(stat -c %s "$work/out")" "$work/whole.out" | cmp -s - "$work/out" ||
        fail "$what, under $mmu: its console does not end as that one's"
}

# whole CPUS: what a run comes to that nobody stops.
whole() {
    run run -c "$1" "${guest[@]}" --stats "$work/whole.json"
    mv "$work/out" "$work/whole.out"
}

for of in 1:bitmap 2:ring; do
    whole "${of%:*}"
    begin_guest run --mmu kvm --pv none -c "${of%:*}" --dirty-log "${of#*:}" --hugepages off "${guest[@]}"
    "$penumbra" monitor "$work/mon" stop > "$work/log"
    save base
    "$penumbra" monitor "$work/mon" cont > "$work/log"
    said 'dirty bits'
    "$penumbra" monitor "$work/mon" stop > "$work/log"
    save child --parent "$work/base"
    save full
    run snapshot diff "$work/child" "$work/full"
    grep -E '^(ram|window): ' "$work/out" && fail "$of: pages of the child are not those of the full one"
    "$penumbra" monitor "$work/mon" cont > "$work/log"
    wait $pid || fail "$of: the saved guest's exit code: $(cat "$work/a.err")"
    cmp -s "$work/whole.out" "$work/a.out" && [ "$(digest "$work/whole.json")" = "$(digest "$work/a.json")" ] ||
        fail "$of: to be saved changed the guest"
    for mmu in shadow tdp kvm; do goes_on "$of" $mmu child; done
    [ $of = 2:ring ] || rm -r "$work"/{base,child,full}
done
grep -q '"cpuid_of": "host"' "$work/child/manifest.json" || fail "whose CPUID it has seen is not said"

# On from the chain under kvm, saved again on it, and that under shadow, saved there, back to kvm.
begin_guest snapshot restore "$work/child" --mmu kvm --dirty-log clear --hugepages off
save second --parent "$work/child"
wait $pid || fail "restored under kvm: $(cat "$work/a.err")"
grep -q '"stored": [0-9]\{1,3\},' "$work/second/manifest.json" || fail "the restore's own writes are in the child"
goes_on "saved on what it began from" kvm second
goes_on "a chain, lazy" kvm second --restore-memory lazy
begin_guest snapshot restore "$work/second" --mmu shadow
save third
wait $pid
for mmu in tdp kvm; do goes_on "saved under kvm, then under shadow" $mmu third; done

# Saved while it runs on; and memory that is mapped, or comes when KVM touches it.
whole 1
begin_guest run --mmu kvm --pv none "${guest[@]}"
said 'page table edits'
save live --live --raw
wait $pid || fail "saved live: the guest's exit code: $(cat "$work/a.err")"
cmp -s "$work/whole.out" "$work/a.out" && [ "$(digest "$work/whole.json")" = "$(digest "$work/a.json")" ] ||
    fail "to be saved live changed the guest"
for mmu in kvm tdp; do
    goes_on "saved live, mapped" $mmu live --restore-memory map
    goes_on "saved live, recorded" $mmu live --restore-memory lazy --record-working-set "$work/set"
    goes_on "saved live, lazy" $mmu live --restore-memory lazy --working-set "$work/set"
done

# A guest of the software CPU's.
whole 1
begin_guest run --cpu default,vendor=$vendor "${guest[@]}"
said 'dirty bits'
save soft
wait $pid
goes_on "of the software CPU" kvm soft
case $vendor in amd) other=intel ;; *) other=amd ;; esac
begin_guest run --cpu default,vendor=$other "${guest[@]}"
save other
kill $pid
wait $pid
refused 2 snapshot restore "$work/other" --mmu kvm
grep -q vendor "$work/err" || fail "another vendor: $(cat "$work/err")"

# All of KVM's paravirtual interface is in no snapshot.
begin_guest run --mmu kvm "${guest[@]}"
refused 1 snapshot save "$work/mon" "$work/none"
grep -q 'begin the run with --pv' "$work/err" && [ ! -e "$work/none" ] || fail "--pv by default: $(cat "$work/err")"
kill $pid
wait $pid
exit $bad
