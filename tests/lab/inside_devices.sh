# SPDX-License-Identifier: MIT
# Inside the lab, for devices.sh: guests that use a console's ports, a vsock, memory that comes and goes, a balloon, persistent
# memory, shared folders and a disk, by KVM; and one that attacks them.
bad=0
fail() {
    echo "FAIL: $*"
    bad=1
}
tar -C / -xf py.tar
mkdir /w && mount -t tmpfs -o size=900m tmp /w && cd /w || exit 1
gunzip -c /lab/p.gz > p
truncate -s 4M empty
boot() { # NAME KERNEL ARG...: the initrd's name is what stands before a dot
    name=$1 kernel=$2
    shift 2
    /lab/penumbra run --mmu kvm --timeout 400 --kernel "/lab/$kernel" --initrd "/lab/initrd-${name%.*}" "$@" < /dev/null > "$name" 2> "$name.err" ||
        fail "$name: exit code $?: $(cat "$name.err")"
    grep -q '^GUEST-DONE' "$name" || fail "$name: $(tail -n 3 "$name")"
}

: > devices
/lab/python3 /lab/devices.py hvc port vsock mon devices 2> host &
host=$!
boot devices vmlinuz -m 128M --device balloon --device vsock,vsock --device mem,512M --monitor mon \
    --device console,hvc=hvc,port=first:port,port=second:second --append "console=ttyS0 panic=-1 quiet pn.script memhp_default_state=online"
[ $bad -eq 0 ] || kill $host
wait $host || fail "the host's side: $(cat host)"

sum=$(sha256sum < p)
boot pmem vmlinuz -m 256M --device pmem,p --device pmem,empty,snapshot --append "console=ttyS0 panic=-1 quiet pn.script"
[ "$(sha256sum < p)" != "$sum" ] || fail "pmem: the file has nothing of what was written"
cmp -s -n 4194304 empty /dev/zero || fail "pmem: what was to be lost was written"

mkdir shared notes
yes "$(seq 1 1000)" | head -c 3000000 > shared/image
echo "a note" > notes/note
echo secret > secret
ln -s /w/secret shared/outside
boot share vmlinuz-amd64 -m 256M --share shared --share notes,ro,tag=notes --append "console=ttyS0 panic=-1 quiet pn.script"
grep -q "^read $(sha256sum < shared/image | cut -d' ' -f1)" share || fail "share: the guest read something else"
seq 1 100000 | cmp - shared/x/y/z/moved || fail "share: the folder lacks what was written"
[ ! -e notes/new ] || fail "share: the folder of notes was written"

# A disk's requests make no exit: as many with 1100 reads as with 100. Then with a new engine in their midst.
seq 1 1000000 | head -c 6291456 > disk
want="read $(head -c $((1100 * 4096)) disk | sha256sum)"
reads() { # NAME READS ARG...
    reads_name=bells.$1 reads_count=$2
    shift 2
    boot "$reads_name" vmlinuz -m 128M --disk disk,ro --stats "$reads_name.json" "$@" --append "console=ttyS0 panic=-1 quiet pn.script pn.reads=$reads_count"
}
count() { sed -n "s/.*\"$2\": *\([0-9]*\).*/\1/p" "bells.$1.json" | head -n 1; }
reads few 100
reads many 1100
reads exits 1100 --eventfds off
reads other 1100 --handover kvm@3000
for run in many exits other; do
    grep -q "^$want" "bells.$run" || fail "$run: the guest read something else"
done
for run in few many exits other; do
    echo "$run: $(count $run mmio_exits) exits to devices, $(count $run bells) notifications and $(count $run irqfds) messages by descriptors"
done
[ "$(count many bells)" -ge $(($(count few bells) + 1000)) ] || fail "notifications: not by ioeventfd"
[ "$(count many irqfds)" -ge $(($(count few irqfds) + 900)) ] || fail "messages: not by irqfd"
[ "$(count many mmio_exits)" -lt $(($(count few mmio_exits) + 50)) ] || fail "requests of a disk make exits"
[ "$(count exits mmio_exits)" -ge $(($(count many mmio_exits) + 1000)) ] || fail "--eventfds off: no exits"
[ "$(count exits bells)" = 0 ] && [ "$(count exits irqfds)" = 0 ] || fail "--eventfds off: there are"

# A hostile driver of them all.
mkdir attacked
cp disk attack && cp empty attack-pmem
boot driver vmlinuz -m 192M --disk attack --disk disk,ro --device rng --device balloon --device pmem,attack-pmem --device mem,128M \
    --device vsock,attack-vsock --device console,hvc=attack-hvc,port=a:attack-a --net user --share attacked \
    --append "console=ttyS0 panic=-1 quiet pn.script pn.seed=3 pn.rounds=300"
grep -q "^ATTACKED 10 ANSWERED [1-9]" driver && ! grep -q GUEST-FAIL driver || fail "driver: $(tail -n 5 driver)"
[ "$(sha256sum < disk)" = "$(seq 1 1000000 | head -c 6291456 | sha256sum)" ] || fail "driver: a disk that is read-only was written"
exit $bad
