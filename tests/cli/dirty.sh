#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Dirty logs against the oracle (--dirty-verify): no page that changed is missed by any tracker of the
# software engines, and exact trackers name the same pages; a memslot that is added, moved and deleted
# while it is logged; a kernel with its devices, clocks and second vCPU.
#
#   dirty.sh PENUMBRA [linux|all]    the embedded guest, or Debian's kernel; all: each tracker with all of it
. "$(dirname "$0")/lib.sh"

# The trackers of the software engines: the list says which engine has which.
engines() {
    "$penumbra" run --dirty-log help | sed -n 's/^\([a-z0-9-]*\) .*: under \(.*\)/\1 \2/p' | tr -d , |
        while read -r tracker mmus; do for mmu in $mmus; do echo "$mmu:$tracker"; done; done | grep -E '^(shadow|tdp):'
}
# verified WHAT CODE LEAST ARG...: exit code CODE, at least LEAST harvests, and none misses a page. Not on
# a host without that tracker.
verified() {
    local what=$1 code=$2 least=$3
    shift 3
    run run --dirty-verify --stats "$work/s.json" "$@"
    grep -q "this host's kernel" "$work/err" && return 1
    [ "$rc" -eq "$code" ] || fail "$what: exit code $rc: $(head -n 3 "$work/err")"
    [ "$(grep -c '"by": ' "$work/s.json")" -ge "$least" ] || fail "$what: too few harvests"
    grep '"missed": ' "$work/s.json" | grep -qv ': 0\b' && fail "$what: pages missed"
    return 0
}

if [ "${2:-}" = linux ]; then
    need_guest
    for of in shadow:wp shadow:ring shadow:dbit shadow:pml shadow:sub-page tdp:accessed tdp:dbit tdp:ring tdp:pml tdp:hdbss; do
        verified "Linux, $of" 4 10 --mmu "${of%:*}" --dirty-log "${of#*:}" --dirty-every 20 -m 256M -c 4 \
            --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" --append "console=ttyS0" --max-insns 400000000
    done
    exit $bad
fi

# Each at five write rates, while slots come and go, with large pages to split, and of Linux with four vCPUs, its script
# of programs and forks, of which snapshots are written meanwhile.
if [ "${2:-}" = all ]; then
    need_guest
    for of in $(engines); do
        t=(--mmu "${of%:*}" --dirty-log "${of#*:}" -m 32M)
        verified "10%, $of" 0 2 "${t[@]}" --append "workload=dirty bytes=8388608 write=10 rounds=3" || continue
        for w in 1 25 50 100; do
            verified "$w%, $of" 0 2 "${t[@]}" --append "workload=dirty bytes=8388608 write=$w rounds=3"
        done
        verified "slots, $of" 0 1 "${t[@]}" --append "workload=memslot pages=8 rounds=20"
        verified "splits, $of" 0 2 "${t[@]}" --hugepages thp --append "workload=dirty bytes=8388608 page=2M write=10 rounds=3"
        : > "$work/a.out"
        "$penumbra" run --mmu "${of%:*}" --dirty-log "${of#*:}" --dirty-every 100 --dirty-verify --stats "$work/s.json" -m 128M -c 4 \
            --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" --append "console=ttyS0 panic=-1 pn.script" \
            --monitor "$work/mon" > "$work/a.out" 2> "$work/a.err" < /dev/null &
        pid=$!
        until grep -q 'Freeing unused kernel' "$work/a.out"; do kill -0 $pid 2> /dev/null || break; sleep 0.05; done
        parent=()
        for n in 1 2; do
            run snapshot save "$work/mon" "$work/s$n" --live "${parent[@]}"
            [ "$rc" -eq 0 ] || fail "Linux, $of: save: $(cat "$work/err")"
            parent=(--parent "$work/s$n")
        done
        wait $pid || fail "Linux, $of: exit code $?: $(head -n 3 "$work/a.err")"
        grep -q GUEST-DONE "$work/a.out" || fail "Linux, $of: its script has not ended"
        [ "$(grep -c '"missed": ' "$work/s.json")" -ge 10 ] || fail "Linux, $of: too few harvests"
        grep '"missed": ' "$work/s.json" | grep -qv ': 0\b' && fail "Linux, $of: pages missed"
        run snapshot verify "$work/s2"
        [ "$rc" -eq 0 ] || fail "Linux, $of: verify: $(cat "$work/out" "$work/err")"
        rm -rf "$work"/s? "$work/mon"
        echo "$of: no page missed"
    done
    exit $bad
fi

[ "$(engines | wc -l)" -ge 24 ] || fail "too few trackers: $(engines)"
for work_of in "pages=64 swaps=50 flips=20 switches=20 compute=10000" "workload=memslot pages=8 rounds=20"; do
    want=
    for of in $(engines); do
        pages=thp # soft-dirty is of a huge page as a whole
        [ "${of#*:}" = soft-dirty ] && pages=off
        verified "$work_of, $of" 0 1 -m 64M --hugepages $pages --mmu "${of%:*}" --dirty-log "${of#*:}" --dirty-pages --append "$work_of" ||
            continue
        got=$(grep '"gfns": ' "$work/s.json")
        case ${of#*:} in mincore | all-set | wp-2m | accessed) # every page that was ever touched, or at first every one, or read
            [ "$want" = "$got" ] && [[ $work_of != workload* ]] && fail "$of: it is exact here"
            continue
            ;;
        esac
        [ "${want:=$got}" = "$got" ] || fail "$work_of, $of: other pages than the first tracker's"
    done
done
grep -q 'd8000-d8007' <<< "$want" || fail "the pages of the slot that is gone are not there: $want"

# Another tracker while the guest runs: every page is found, and the guest is the same.
for mmu in shadow tdp; do
    switched=(-m 64M --mmu $mmu --append "workload=dirty bytes=16777216 order=random rounds=4000" --dirty-log wp --dirty-every 5 --ram-digest)
    run run "${switched[@]}" --stats "$work/one.json"
    "$penumbra" run "${switched[@]}" --dirty-verify --stats "$work/s.json" --monitor "$work/mon" > "$work/a.out" 2> "$work/a.err" < /dev/null &
    pid=$!
    until [ -S "$work/mon" ]; do kill -0 $pid 2> /dev/null || break; sleep 0.02; done
    own="pml dbit accessed hdbss wp-2m ring sub-page wp pml accessed ring hdbss dbit wp-2m wp"
    for tracker in $own; do
        run monitor "$work/mon" dirty log "$tracker"
        [ "$rc" -eq 0 ] && grep -q "by $tracker$" "$work/out" || fail "$mmu: to $tracker: $(cat "$work/out" "$work/err")"
    done
    for slot in off on off on; do
        run monitor "$work/mon" dirty log $slot 0
        [ "$slot" = off ] && by=off || by=wp
        [ "$rc" -eq 0 ] && grep -q "^slot 0: .*: $by$" "$work/out" || fail "$mmu: slot 0 $slot: $(cat "$work/out" "$work/err")"
        sleep 0.05 # the guest writes on
    done
    for wrong in "on" "on 7" "off 1x" "off 0x" "wp 0"; do
        run monitor "$work/mon" dirty log $wrong
        [ "$rc" -ne 0 ] || fail "$mmu: dirty log $wrong: exit code 0"
    done
    run monitor "$work/mon" dirty log soft-dirty
    grep -q 'under shadow and tdp alone' "$work/out" || fail "$mmu: to one of the host's: $(cat "$work/out")"
    wait $pid || fail "$mmu, switched: exit code $?: $(cat "$work/a.err")"
    for of in guest_insns ram_digest; do
        [ "$(grep "\"$of\":" "$work/one.json")" = "$(grep "\"$of\":" "$work/s.json")" ] || fail "$mmu, switched: another $of"
    done
    rm -f "$work/mon"
done

# A buffer that is full is an exit: of 512 pages, and of 4096. So is a ring of 4096 with 64 left.
full() {
    verified "a full $4, $2 under $1" 0 2 -m 64M --mmu "$1" --dirty-log "$2" \
        --append "workload=dirty bytes=33554432 order=random write=100 rounds=2"
    grep -q "\"dirty_$4_full\": $3," "$work/s.json" || fail "$2: not $3 times full: $(grep "$4_full" "$work/s.json")"
}
full tdp pml 32 buffer # 8192 pages in each of two rounds, and what comes before them
full tdp hdbss 4 buffer
full tdp ring 6 ring
full shadow pml 32 buffer
full shadow hdbss 4 buffer
full shadow ring 6 ring
exit $bad
