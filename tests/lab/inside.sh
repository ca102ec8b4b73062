#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# What runs inside the lab, on its KVM: penumbra, the embedded guest under every MMU, dirty logs,
# handovers, and Debian's stock kernel. Files go to /lab/out; check.sh judges them outside.
# $LAB_PARTS: which parts (default all).
cd /lab || exit 99
parts=${LAB_PARTS:-"host state micro dirty handover flat snapshot migrate linux1 linux2 linuxmoves sleep pvnone firmware events"}
small="pages=256 swaps=100 flips=256 switches=40 compute=200000 tables=1"
moving="pages=64 swaps=50 flips=20 switches=20 compute=500000000"
bad=0
case $(cat /sys/module/kvm_amd/parameters/npt) in
1 | Y) npt=1 ;;
*) npt=0 ;;
esac

say() { echo "$(cut -d' ' -f1 /proc/uptime) $*" | tee -a /lab/out/progress > /dev/console; }

# step NAME LIMIT ARG...: one run of penumbra; output in out/NAME.out and .err, code in .code
step() {
    local name=$1 limit=$2 rc=0
    shift 2
    say "begin $name"
    timeout -s KILL "$limit" ./penumbra "$@" < /dev/null > out/$name.out 2> out/$name.err || rc=$?
    echo $rc > out/$name.code
    say "end $name, code $rc"
    # The flat guests end through the debug-exit port: 1 is what 0 comes out as.
    case $name in flat-*) [ $rc -eq 1 ] ;; *) [ $rc -eq 0 ] ;; esac || bad=1
}
micro() {
    local name=$1
    shift
    step $name 300 run -m 64M --append "$small" --stats out/$name.json "$@"
}
linux() {
    local name=$1
    shift
    step $name 300 run --kernel vmlinuz --initrd initrd.gz -m 256M --timeout 290 \
        --append "console=ttyS0 panic=-1 pn.script" --stats out/$name.json "$@"
}

# kvm_saved NAME LINE MMUS ARG...: a guest under KVM that is saved when it has said LINE.
kvm_saved() {
    local name=$1 line=$2 mmus=$3 pid rc=0
    shift 3
    say "begin kvmsaved-$name"
    ./penumbra run --mmu kvm --dirty-log clear --hugepages off --monitor /tmp/mon --ram-digest --timeout 290 \
        --stats out/kvmsaved-$name.json "$@" < /dev/null > out/kvmsaved-$name.out 2> out/kvmsaved-$name.err &
    pid=$!
    until [ -S /tmp/mon ]; do usleep 50000; done
    ./penumbra snapshot save /tmp/mon /tmp/kvm-base > out/kvmsaved-$name.log 2>&1 || rc=1
    until grep -q "$line" out/kvmsaved-$name.out; do
        kill -0 $pid || break
        usleep 50000
    done
    ./penumbra snapshot save /tmp/mon /tmp/kvm-$name --parent /tmp/kvm-base >> out/kvmsaved-$name.log 2>&1 || rc=1
    wait $pid || rc=1
    say "end kvmsaved-$name, code $rc"
    [ $rc -eq 0 ] || bad=1
    for mmu in $mmus; do
        step kvmsaved-$name-$mmu 300 snapshot restore /tmp/kvm-$name --mmu $mmu --ram-digest --stats out/kvmsaved-$name-$mmu.json
    done
    rm -rf /tmp/kvm-base /tmp/kvm-$name
}

# moves NAME LINE MMUS ARG...: a guest under KVM that moves to each of these in turn, when it has said LINE.
moves() {
    local name=$1 line=$2 mmus=$3 n=0 rc=0 all mmu
    shift 3
    say "begin moved-$name"
    ./penumbra run --mmu kvm --monitor /tmp/mon0 "$@" < /dev/null > out/moved-$name.0 2> out/moved-$name.err &
    all=$!
    until [ -S /tmp/mon0 ] && grep -q "$line" out/moved-$name.0; do
        kill -0 $all || break
        usleep 50000
    done
    for mmu in $mmus; do
        n=$((n + 1))
        ./penumbra run --mmu $mmu --incoming unix:/tmp/in$n --monitor /tmp/mon$n --timeout 290 --ram-digest \
            --stats out/moved-$name-$n.json < /dev/null > out/moved-$name.$n 2>> out/moved-$name.err &
        all="$all $!"
        until [ -S /tmp/in$n ]; do usleep 50000; done
        ./penumbra migrate /tmp/mon$((n - 1)) unix:/tmp/in$n --verify >> out/moved-$name.log 2>&1 || {
            rc=1
            kill $all
            break
        }
    done
    for mmu in $all; do wait $mmu || rc=1; done
    rm -f /tmp/mon* /tmp/in*
    say "end moved-$name, code $rc"
    [ $rc -eq 0 ] || bad=1
}

for part in $parts; do
    case $part in
    host)
        step host 20 host
        step host-json 20 host --json
        ;;
    state) # a vCPU's whole state, to KVM and back
        say "begin state"
        timeout -s KILL 60 ./engine_state kvm > out/state.log 2>&1 || bad=1
        say "end state: $(cat out/state.log)"
        ;;
    micro)
        for mmu in shadow tdp kvm; do
            micro micro-$mmu --mmu $mmu --ram-digest --summary --dump
        done
        ;;
    dirty)
        # Without huge pages: where the host puts one together, KVM maps what is read next anew,
        # writable, and logs it as written.
        for t in shadow:wp kvm:bitmap kvm:clear kvm:ring; do
            micro dirty-${t%:*}-${t#*:} --mmu ${t%:*} --dirty-log ${t#*:} --dirty-verify --dirty-pages \
                --hugepages off
        done
        # Every tracker of these KVM and kernel over the corpus: a page that is missed is its exit code.
        step trackers 300 dirty check --json out/trackers.json
        micro live-clear --mmu kvm --dirty-log clear --dirty-every 10 --dirty-verify
        micro live-ring --mmu kvm --dirty-log ring --dirty-every 10 --dirty-verify
        ;;
    handover)
        for a in shadow kvm; do
            for b in shadow kvm; do
                micro handover-$a-$b --mmu $a --handover $b --ram-digest
            done
        done
        micro handover-all --mmu kvm --handover shadow --handover kvm --handover tdp \
            --handover kvm --handover shadow --handover kvm --ram-digest
        ;;
    flat)
        for g in state insns step hypercall; do
            [ -f $g.bin ] || continue
            step flat-$g 60 run -m 64M --format flat --kernel $g.bin --timeout 50 --mmu kvm
        done
        moves=$(for i in 1 2 3 4 5 6; do echo --handover shadow --handover kvm; done)
        step flat-timers 120 run -m 64M --format flat --kernel timers.bin --timeout 110 --mmu kvm $moves
        for pair in shadow:kvm kvm:shadow kvm:kvm; do
            [ -f state.bin ] && [ -f clock.bin ] || continue
            step flat-${pair%:*}-${pair#*:} 60 run -m 64M --format flat --kernel state.bin \
                --timeout 50 --mmu ${pair%:*} --handover ${pair#*:}
            step flat-owed-${pair%:*}-${pair#*:} 60 run -m 64M --format flat --kernel owed.bin \
                --timeout 50 --hpet on --mmu ${pair%:*} --handover ${pair#*:}
            step flat-clock-${pair%:*}-${pair#*:} 60 run -m 64M --format flat --kernel clock.bin \
                --timeout 50 --pv pvclock --mmu ${pair%:*} --handover ${pair#*:}
        done
        ;;
    snapshot)
        # Guests that were saved outside, under shadow, go on under KVM.
        tar -C /tmp -xf snapshots.tar || bad=1
        for name in micro linux; do
            step restored-$name 300 snapshot restore /tmp/saved-$name --mmu kvm --ram-digest --stats out/restored-$name.json
        done
        rm -rf /tmp/saved-*
        # And guests of KVM's are saved, the second time on the first, and go on under each MMU.
        kvm_saved micro 'dirty bits' "shadow tdp kvm" -m 64M --pv none --append "pages=64 swaps=50 flips=20 switches=20 compute=500000000"
        kvm_saved linux 'step gzip' "kvm shadow" -m 128M -c 2 --pv pvclock --kernel vmlinuz --initrd initrd.gz \
            --append "console=ttyS0 panic=-1 pn.script"
        ;;
    migrate) # from KVM through our MMUs, and back to it
        moves micro 'dirty bits' "shadow tdp kvm kvm" -m 64M --pv none --append "$moving"
        step moved-alone 300 run -m 64M --mmu shadow --append "$moving" --ram-digest --stats out/moved-alone.json
        moves linux 'Freeing unused kernel' "shadow tdp kvm" -m 128M -c 2 --pv pvclock --kernel vmlinuz --initrd initrd.gz \
            --append "console=ttyS0 panic=-1 pn.script"
        ;;
    sleep) # suspends to RAM, and wakes by its clock's alarm (tests/guest/sleep.sh)
        say "begin sleep"
        rc=0
        timeout -s KILL 200 ./penumbra run --mmu kvm -m 128M -c 2 --timeout 190 --kernel vmlinuz --initrd initrd.gz \
            --append "console=ttyS0 panic=-1 no_console_suspend" < sleep.input > out/sleep.out 2> out/sleep.err || rc=$?
        echo $rc > out/sleep.code
        [ $rc -eq 0 ] || bad=1
        say "end sleep, code $rc"
        ;;
    firmware) # SeaBIOS boots a disk (tests/cli/boot_sector.S), which is off in the end
        step firmware 120 run --mmu kvm -m 32M -c 2 --timeout 110 --firmware bios-256k.bin --disk boot_sector.bin,ro
        ;;
    linux1) linux linux-1 --mmu kvm -c 1 ;;
    linux2) linux linux-2 --mmu kvm -c 2 ;;
    linuxmoves) # with its clock running; once is enough
        [ $npt = 0 ] || linux linux-moves --mmu kvm -c 2 --pv pvclock,steal-time --handover kvm@1500 \
            --handover shadow@2500 --handover kvm@2600
        ;;
    pvnone) # Its first words say what it has found. Not under npt=0: a guest that has nothing but the
        # PIT and port reads to tell time by can take all of a slow lab.
        [ $npt = 0 ] && continue
        say "begin pv-none"
        timeout -s KILL 60 ./penumbra run --mmu kvm --pv none --kernel vmlinuz -m 128M --timeout 12 \
            --append "console=ttyS0 earlycon=uart8250,io,0x3f8,115200" < /dev/null > out/pv-none.out 2> out/pv-none.err
        say "end pv-none, code $?"
        ;;
    events)
        say "begin events"
        sh ./inside_events.sh > out/events.log 2>&1 || bad=1
        say "end events"
        ;;
    esac
done
exit $bad
