#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# What dirty.sh runs inside the lab: KVM's dirty trackers over the corpus, at five write rates, while slots come and
# go, with large pages to split, and of Linux with four vCPUs, of which snapshots are written meanwhile; and a Linux
# guest that moves between KVM and our MMUs in the middle of its work, and one that is saved there, killed and restored.
cd /lab
bad=0
say() { echo "$(cut -d' ' -f1 /proc/uptime) $*" | tee -a /lab/out/progress > /dev/console; }
# step NAME LIMIT ARG...: one run of penumbra; output in out/NAME.out and .err.
step() {
    local name=$1 limit=$2 rc=0
    shift 2
    timeout -s KILL "$limit" ./penumbra "$@" < /dev/null > out/$name.out 2> out/$name.err || rc=$?
    say "$name: code $rc"
    [ $rc -eq 0 ] || {
        say "$(tail -n 1 out/$name.err)"
        bad=1
    }
}
# logged NAME TRACKER WORKLOAD: the embedded guest, every harvest compared with all of memory.
logged() {
    step "$1-$2" 200 run --mmu kvm -m 32M --pv none --hugepages "${4:-off}" --dirty-log "$2" --dirty-verify \
        --stats out/$1-$2.json --append "$3"
}
# here FILE LINE PID: wait until the console has it.
here() { until grep -q "$2" "$1"; do kill -0 "$3" || break; usleep 100000; done; }

trackers() {
    step check 900 dirty check --json out/check.json
    for t in bitmap clear ring all-set; do
        for w in 1 10 25 50 100; do
            logged rate$w $t "workload=dirty bytes=8388608 write=$w rounds=3"
        done
        logged slots $t "workload=memslot pages=8 rounds=20"
        logged split $t "workload=dirty bytes=8388608 page=2M write=10 rounds=3" thp
    done
}

linux() {
    local t pid parent n rc
    for t in clear ring; do
        ./penumbra run --mmu kvm -c 4 -m 128M --pv pvclock --hugepages off --dirty-log $t --dirty-every 4000 --dirty-verify \
            --kernel vmlinuz --initrd initrd.gz --append "console=ttyS0 panic=-1 pn.script" --timeout 800 \
            --monitor /tmp/mon --stats out/linux-$t.json < /dev/null > out/linux-$t.out 2> out/linux-$t.err &
        pid=$!
        here out/linux-$t.out 'Freeing unused kernel' $pid
        parent=
        for n in 1 2 3; do
            ./penumbra snapshot save /tmp/mon /tmp/s$n --live $parent >> out/linux-$t.log 2>&1 || bad=1
            parent="--parent /tmp/s$n"
        done
        rc=0
        wait $pid || rc=$?
        say "linux-$t: code $rc, $(grep -c '"missed"' out/linux-$t.json) harvests; $(tail -n 1 out/linux-$t.err) $(grep Error out/linux-$t.log)"
        [ $rc -eq 0 ] && grep -q GUEST-DONE out/linux-$t.out || bad=1
        for n in 1 2 3; do ./penumbra snapshot verify /tmp/s$n >> out/linux-$t.log 2>&1 || bad=1; done
        step linux-$t-restored 400 snapshot restore /tmp/s3 --mmu kvm --timeout 390
        grep -q GUEST-DONE out/linux-$t-restored.out || bad=1
        rm -rf /tmp/s? /tmp/mon
    done
}

# Seconds: longer than a whole lab may take. On a busy host the compile job takes over 1000 under shadow.
hang=2900
# ended PID NAME: it has, with code 0; or the last line of NAME's errors says why not.
ended() {
    local rc=0
    wait $1 || rc=$?
    [ $rc -eq 0 ] || { say "$2: code $rc: $(tail -n 1 out/$2.err)"; bad=1; }
}

# A guest of three jobs, under kvm.
jobs="--cpu x86-64-v2,vendor=amd,-pcid,-invpcid,-spec_ctrl --pv pvclock -m 256M --kernel vmlinuz --initrd jobs.gz"
append="console=ttyS0 panic=-1 pn.script pn.jobs=1"
# said LINE FILES PID: it may have said so before it came here.
said() { until cat out/$2.? | grep -q "$1"; do kill -0 $3 || break; usleep 100000; done; }
# right FILES: the jobs' results are those of the host that has made the image.
right() {
    cat out/$1.? | tr -d '\r' | grep -E '^(checksum|database|compile) ' > out/$1.got
    cmp out/$1.got jobs.want && say "$1: all right" || { say "$1: other results than the host's"; bad=1; }
}

moved() {
    local all n hop pid
    # kvm -> shadow -> tdp -> kvm, each time in the middle of a job. In a simulated processor a peer is silent for long.
    ./penumbra run --mmu kvm $jobs --append "$append" --monitor /tmp/mon0 < /dev/null > out/jobs.0 2> out/jobs.err &
    all=$!
    n=0
    for hop in "shadow:begin checksum" "tdp:begin database" "kvm:begin compile"; do
        said "${hop#*:}" jobs $!
        n=$((n + 1))
        ./penumbra run --mmu ${hop%%:*} --incoming unix:/tmp/in$n --incoming-stall 200 --monitor /tmp/mon$n --timeout $hang \
            < /dev/null > out/jobs.$n 2>> out/jobs.err &
        all="$all $!"
        until [ -S /tmp/in$n ]; do usleep 50000; done
        ./penumbra migrate /tmp/mon$((n - 1)) unix:/tmp/in$n --stall 200 --verify >> out/jobs.log 2>&1 || {
            bad=1
            kill $all
            break
        }
        say "jobs: to $hop: $(tail -n 1 out/jobs.log)"
    done
    for pid in $all; do ended $pid jobs; done
    right jobs
}

# Saved in the middle of a job, killed and restored, under kvm, tdp and shadow.
saved() {
    local pid n hop
    ./penumbra run --mmu kvm $jobs --append "$append" --monitor /tmp/mon < /dev/null > out/saved.0 2> out/saved.err &
    pid=$!
    n=0
    for hop in "kvm:begin checksum" "tdp:begin database" "shadow:begin compile"; do
        said "${hop#*:}" saved $pid
        n=$((n + 1))
        # Killed before it says more: what it says after the save is said by who is restored.
        ./penumbra monitor /tmp/mon stop > /dev/null && ./penumbra snapshot save /tmp/mon /tmp/j$n > out/saved.log 2>&1 || bad=1
        kill -9 $pid
        wait $pid
        rm -f /tmp/mon
        ./penumbra snapshot restore /tmp/j$n --mmu ${hop%%:*} --monitor /tmp/mon --timeout $hang \
            < /dev/null > out/saved.$n 2>> out/saved.err &
        pid=$!
        until [ -S /tmp/mon ]; do kill -0 $pid || break; usleep 50000; done
        say "saved: to $hop: $(tail -n 1 out/saved.log)"
        rm -rf /tmp/j$n
    done
    ended $pid saved
    right saved
}

jobs() {
    moved
    saved
}

for part in $(cat part); do $part; done
exit $bad
