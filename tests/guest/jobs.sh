#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A Linux guest in the middle of a checksum, a database and a compiler's work: it is saved there under either MMU, killed
# with SIGKILL and restored under both, and moved from shadow to tdp and back. Its results are this host's, and what goes on ends as
# one that was never stopped: instructions, time, memory, console.
#
#   jobs.sh PENUMBRA
. "$(dirname "$0")/../cli/lib.sh"
need_guest
"$(dirname "$0")/jobs_image.sh" "$cache/initrd.gz" 4 "$work/jobs" > "$work/log" 2>&1 || {
    rc=$?
    [ $rc -eq 77 ] && skip "$(tail -n 1 "$work/log")"
    fail "the image: $(cat "$work/log")"
    exit 1
}
guest=(-m 256M --kernel "$cache/vmlinuz" --initrd "$work/jobs.gz" --append "console=ttyS0 panic=-1 pn.script pn.jobs=4")
jobs="checksum database compile"

same() { grep -E '"(guest_insns|guest_ns|ram_digest)":' "$1"; }
# right WHAT CONSOLE: the jobs' results are as on this host.
right() {
    tr -d '\r' < "$2" | grep -E "^(${jobs// /|}) " | cmp -s - "$work/jobs.want" || fail "$1: other results: $(diff <(tr -d '\r' < "$2") "$work/jobs.want" | grep '^>')"
}
# as_alone WHAT STATS CONSOLE: the end is that of the guest that nobody stopped, and so is the end of its console.
as_alone() {
    diff <(same "$work/whole.json") <(same "$2") > "$work/diff" || fail "$1: not as the guest that was not stopped: $(cat "$work/diff")"
    tail -c "$(stat -c %s "$3")" "$work/whole.out" | cmp -s - "$3" || fail "$1: its console is another"
}
# background N ARG...: a run with a monitor, as ${pid[N]}. said N LINE: its guest has said it, there or before it came.
background() {
    local n=$1
    shift
    "$penumbra" run --monitor "$work/mon$n" "$@" > "$work/$n.out" 2> "$work/$n.err" < /dev/null &
    pid[n]=$!
}
said() {
    until grep -q "$2" "$work"/[0-2].out 2> /dev/null; do kill -0 "${pid[$1]}" 2> /dev/null || break; sleep 0.02; done
}

timeout 600 "$penumbra" run "${guest[@]}" --stats "$work/whole.json" --ram-digest < /dev/null > "$work/whole.out" 2> "$work/err" ||
    fail "alone: exit code $?: $(cat "$work/err")"
[ "$(same "$work/whole.json" | wc -l)" -eq 3 ] || fail "there is nothing to compare with"
right alone "$work/whole.out"

for of in shadow:wp tdp:pml; do
    rm -rf "$work/mon0" "$work"/in-* "$work"/[0-2].out # what the last one said is not this one's
    background 0 "${guest[@]}" --mmu "${of%:*}" --dirty-log "${of#*:}"
    parent=()
    for job in $jobs; do
        said 0 "begin $job"
        run snapshot save "$work/mon0" "$work/in-$job" "${parent[@]}"
        [ "$rc" -eq 0 ] || fail "$of: save in the middle of $job: $(cat "$work/err")"
        parent=(--parent "$work/in-$job")
    done
    kill -9 "${pid[0]}"
    wait "${pid[0]}" 2> /dev/null
    for job in $jobs; do
        for mmu in shadow tdp; do
            timeout 600 "$penumbra" snapshot restore "$work/in-$job" --mmu $mmu --stats "$work/r.json" --ram-digest < /dev/null > "$work/r.out" 2> "$work/err" ||
                fail "$of: restored in $job, $mmu: exit code $?: $(cat "$work/err")"
            as_alone "$of: restored in $job, $mmu" "$work/r.json" "$work/r.out"
        done
    done
done

rm -f "$work"/mon* "$work"/in[0-9] "$work"/[0-2].out
background 0 --mmu shadow "${guest[@]}"
background 1 --incoming "unix:$work/in1" --mmu tdp
background 2 --incoming "unix:$work/in2" --mmu shadow --stats "$work/2.json" --ram-digest
n=0
for job in database compile; do
    said $n "begin $job"
    run migrate "$work/mon$n" "unix:$work/in$((n + 1))" --verify
    [ "$rc" -eq 0 ] || fail "moved in the middle of $job: $(cat "$work/err")"
    n=$((n + 1))
done
for n in 0 1 2; do wait "${pid[$n]}" || fail "moved: run $n: exit code $?: $(cat "$work/$n.err")"; done
cat "$work"/[012].out > "$work/moved.out"
right moved "$work/moved.out"
as_alone moved "$work/2.json" "$work/moved.out"
exit $bad
