# SPDX-License-Identifier: MIT
# Inside the lab, for gdb.sh: guests of KVM that wait for a gdb outside, which comes by /dev/wire.
bad=0
ifconfig lo 127.0.0.1 up
# wait_for_gdb NAME ARG...: until the guest has ended; its console is out/NAME.
wait_for_gdb() {
    name=$1
    shift
    ./penumbra run --mmu kvm --gdb 1234 -S --timeout 290 "$@" < /dev/null > out/$name 2> out/$name.err &
    pid=$!
    until grep -q 'waits for gdb' out/$name.err; do
        kill -0 $pid || break
        usleep 50000
    done
    echo "waits: $name" > /dev/console
    # A port that nobody holds outside reads as one that has ended.
    until grep -q 'host_connected: 1' /sys/kernel/debug/virtio-ports/*; do
        usleep 20000
    done
    nc 127.0.0.1 1234 <> /dev/wire >&0 &
    wire=$!
    wait $pid || bad=1
    kill $wire 2> /dev/null
    echo "ended: $name" > /dev/console
}
. ./guests
exit $bad
