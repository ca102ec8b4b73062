#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# What runs inside the lab for nested.sh: guests of its KVM that are hypervisors themselves, moved while their guests run. The
# file `by`: svm or vmx, and which parts.
cd /lab || exit 99
read -r by parts < by
bad=0
case $by in
svm) cpu=max,vendor=amd,+svm lab=npt ;;
# Without 5-level paging: KVM before Linux 6.13 looks whether the hypervisor's addresses are canonical by its guest's CR4
# (KVM_SET_NESTED_STATE, nested_vmx_check_host_state), and refuses those of a kernel with it.
vmx) cpu=max,vendor=intel,+vmx,-la57 lab=ept ;;
esac

fail() {
    echo "FAIL: $*"
    bad=1
}
say() { echo "$(cut -d' ' -f1 /proc/uptime) $*" > /dev/console; }
monitor() { ./penumbra monitor /tmp/mon "$@"; }

# stop_inside: the guest stands where its own guest runs.
stop_inside() {
    local tries=0
    while monitor stop > /dev/null && ! monitor info registers | grep -qE "$inside"; do
        [ $((tries += 1)) -lt 200 ] || { fail "its guest never runs: $(monitor info registers)"; return; }
        monitor cont > /dev/null
        usleep 7000
    done
}
# begin NAME MMU WORD ARG...: a run in the background, until it has printed WORD; its output in out/NAME.out.
begin() {
    local name=$1 mmu=$2 word=$3
    shift 3
    say "begin $name"
    rm -f /tmp/mon
    ./penumbra run --quiet --mmu "$mmu" --pv none --hugepages off --monitor /tmp/mon --allow-dir /tmp --timeout 400 "$@" < /dev/null \
        > out/$name.out 2> out/$name.err &
    pid=$!
    until [ -S /tmp/mon ] && grep -q "$word" out/$name.out; do
        kill -0 $pid 2> /dev/null || { fail "$name: $(cat out/$name.err out/$name.out)"; return; }
        usleep 20000
    done
}
# saved NAME: it stands inside, is saved, and ends.
saved() {
    stop_inside
    rm -rf /tmp/saved
    ./penumbra snapshot save /tmp/mon /tmp/saved > out/$1.log 2>&1 || fail "$1: save: $(cat out/$1.log)"
    monitor quit > /dev/null
    wait $pid
}
# ends NAME RC: with the right words.
ends() {
    [ "$2" -eq 0 ] || fail "$1: exit code $2: $(tail -n 3 out/$1.out out/$1.err)"
    grep -qE "$words" out/$1.out || fail "$1: it did not say $words: $(tail -n 3 out/$1.out)"
}
# restored NAME MMU
restored() {
    local rc=0
    say "restored $1"
    ./penumbra snapshot restore /tmp/saved --mmu "$2" --quiet --timeout 400 < /dev/null > out/$1.out 2> out/$1.err || rc=$?
    ends "$1" $rc
}

# A small hypervisor, whose guest touches pages again and again.
micro() {
    local way=$1 rc h sum
    work="workload=nested way=$way pages=2000 rounds"
    inside='owed:.* in_guest 1'
    ./penumbra run --quiet --mmu shadow --cpu $cpu -m 64M --append "$work=3" < /dev/null > out/plain.out 2> out/plain.err ||
        fail "plain: $(cat out/plain.err)"
    for h in kvm:kvm@10 kvm:shadow@10 kvm:tdp@10 shadow:kvm@1; do
        rc=0
        ./penumbra run --quiet --mmu ${h%:*} --cpu $cpu$less -m 64M --append "$work=3" --handover ${h#*:} --handover kvm@20 \
            --handover kvm@30 < /dev/null > out/over.out 2> out/over.err || rc=$?
        [ $rc -eq 0 ] && [ "$(grep -E 'note|end' out/over.out)" = "$(grep -E 'note|end' out/plain.out)" ] ||
            fail "$way, $h: exit code $rc: $(cat out/over.err out/over.out)"
    done
    # Long enough to be caught.
    ./penumbra run --quiet --mmu shadow --cpu $cpu -m 64M --append "$work=10000" < /dev/null > out/plain.out 2> out/plain.err
    sum=$(sed -n 's/.*checksum=\([0-9a-f]*\).*/\1/p' out/plain.out)
    [ -n "$sum" ] || fail "$way: no checksum: $(cat out/plain.err)"
    words="checksum=$sum"
    begin from-kvm-$way kvm 'workload: begin' --cpu $cpu -m 64M --append "$work=10000"
    saved from-kvm-$way
    for h in kvm shadow tdp; do restored kvm-$h-$way $h; done
    # What the software CPU's SVM can do and KVM's cannot, the guest must not have seen.
    begin from-ours-$way shadow 'workload: begin' --cpu "$cpu$less" -m 64M --append "$work=10000"
    saved from-ours-$way
    restored ours-kvm-$way kvm
    # While it runs into another process.
    begin moves-$way kvm 'workload: begin' --cpu $cpu -m 64M --append "$work=10000"
    ./penumbra run --quiet --mmu kvm --hugepages off --incoming unix:/tmp/in < /dev/null > out/moved-$way.out 2> out/moved-$way.err &
    moved=$!
    until [ -S /tmp/in ]; do usleep 20000; done
    if ! ./penumbra migrate /tmp/mon unix:/tmp/in > out/moves-$way.log 2>&1; then
        fail "migrate: $(cat out/moves-$way.log)"
        kill $moved
    fi
    rc=0
    wait $moved || rc=$?
    ends moved-$way $rc
    wait $pid
    rm -f /tmp/in
}

# Linux with its own KVM and penumbra, whose guest is Linux.
whole() {
    local param=$1
    inside='owed:.* in_guest 1|of the guest.s guest KVM keeps'
    words='^OUTER CODE 0'
    begin linux-$param kvm 'INNER UP 1' --cpu $cpu -m 700M --kernel vmlinuz --initrd outer.gz \
        --append "console=ttyS0 panic=-1 quiet no_timer_check lab=$lab=$param inner=1"
    saved linux-$param
    restored linux-$param-kvm kvm
    grep -q 'INNER DOWN' out/linux-$param-kvm.out || fail "its guest did not end: $(tail -n 5 out/linux-$param-kvm.out)"
    if [ $by = vmx ]; then
        rc=0
        ./penumbra snapshot restore /tmp/saved --mmu shadow --quiet < /dev/null > out/refused.out 2> out/refused.err || rc=$?
        [ $rc -ne 0 ] && [ "$(wc -l < out/refused.err)" -eq 1 ] && grep -q 'enabled VMX goes on under kvm alone' out/refused.err ||
            fail "VMX under shadow: exit code $rc: $(cat out/refused.err)"
    else
        restored linux-$param-tdp tdp
    fi
}

# What the software CPU's SVM has and this KVM does not offer its guests: it is said, and left out.
less=
if [ $by = svm ] && [ "${parts#*small}" != "$parts" ]; then
    rc=0
    ./penumbra run --quiet --mmu shadow --cpu $cpu -m 64M --append "workload=nested way=npt pages=2000 rounds=300" --handover kvm@1 \
        < /dev/null > out/less.out 2> out/less.err || rc=$?
    gone=$(sed -n "s/.*handover: SVM's features \(0x[0-9a-f]*\) (CPUID 8000000Ah, EDX).*/\1/p" out/less.err)
    [ $rc -ne 0 ] && [ -n "$gone" ] || fail "no feature is missing: $(cat out/less.err out/less.out)"
    for bit in 3=nrip_save 4=tsc_scale 5=vmcb_clean 6=flushbyasid 7=decodeassists 10=pausefilter 16=vgif; do
        [ $((gone >> ${bit%=*} & 1)) -eq 0 ] || less=$less,-${bit#*=}
    done
    echo "without $less" > /lab/out/less
    micro npt
    micro shadow
fi
if [ "${parts#*linux}" != "$parts" ]; then
    whole 1
    whole 0
fi
exit $bad
