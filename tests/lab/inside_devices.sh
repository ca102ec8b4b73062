# SPDX-License-Identifier: MIT
# Inside the lab, for devices.sh: guests that use a console's ports, a vsock, memory that comes and goes, a balloon, persistent
# memory and shared folders, by KVM.
bad=0
fail() {
    echo "FAIL: $*"
    bad=1
}
tar -C / -xf py.tar
mkdir /w && mount -t tmpfs -o size=900m tmp /w && cd /w || exit 1
gunzip -c /lab/p.gz > p
truncate -s 4M empty
boot() { # NAME KERNEL ARG...
    name=$1 kernel=$2
    shift 2
    /lab/penumbra run --mmu kvm --timeout 400 --kernel "/lab/$kernel" --initrd "/lab/initrd-$name" "$@" < /dev/null > "$name" 2> "$name.err" ||
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
exit $bad
