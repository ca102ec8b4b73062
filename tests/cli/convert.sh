#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# penumbra convert: a libvirt domain becomes options that run takes; what is left out is told of; XML that is none, or is hostile, is
# one line.
. "$(dirname "$0")/lib.sh"
truncate -s 1M "$work/root.raw" "$work/a,b.raw"

cat > "$work/guest.xml" <<EOF
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>guest</name><uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>
  <metadata><app:x xmlns:app="http://x/"><app:memory>1</app:memory></app:x></metadata>
  <memory unit='MiB'>96</memory><currentMemory unit='KiB'>98304</currentMemory>
  <memoryBacking><hugepages><page size='2048' unit='KiB' nodeset='0'/></hugepages><source type='memfd'/></memoryBacking>
  <vcpu placement='static' current='1'>2</vcpu>
  <numatune><memory mode='strict' nodeset='0'/></numatune>
  <os><type arch='x86_64' machine='q35'>hvm</type><kernel> /boot/vmlinuz </kernel><initrd>/boot/initrd</initrd>
    <cmdline>console=ttyS0 a&lt;b &amp; c</cmdline><boot dev='hd'/></os>
  <features><acpi/><apic/></features><cpu mode='host-passthrough'/><clock offset='utc'/>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='$work/root.raw'/><target dev='vda' bus='virtio'/></disk>
    <disk type='block' device='disk'><source dev='$work/a,b.raw'/><target dev='sda' bus='sata'/><readonly/>
      <address type='drive' controller='0'/></disk>
    <disk type='file' device='cdrom'><source file='x.iso'/><readonly/></disk>
    <interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/>
      <portForward proto='tcp' address='127.0.0.1'><range start='2222' to='22'/></portForward></interface>
    <interface type='bridge'><source bridge='br0'/><model type='e1000'/></interface>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <memballoon model='none'/>
    <graphics type='vnc' port='-1'><listen type='address'/></graphics>
    <controller type='usb'/>
  </devices>
</domain>
EOF
run convert "$work/guest.xml" -o "$work/guest.json"
[ "$rc" -eq 0 ] && [ ! -s "$work/out" ] || fail "convert: exit code $rc: $(cat "$work/err")"
python3 - "$work" <<'EOF' || fail "not these options: $(cat "$work/guest.json")"
import json, sys
work = sys.argv[1]
want = {"schema": "penumbra-config-1", "memory": "96M", "hugepages": "2M", "shared-memory": True, "cpus": 2,
        "numa": "bind=0", "kernel": "/boot/vmlinuz", "initrd": "/boot/initrd", "append": "console=ttyS0 a<b & c",
        "disk": [work + "/root.raw", work + "/a,,b.raw,ro"],
        "net": ["user,open,hostfwd=tcp:127.0.0.1:2222-:22", "user,open"], "device": ["rng"]}
assert json.load(open(work + "/guest.json")) == want
EOF
sort "$work/err" | sed "s|^penumbra: $work/guest.xml: ||" > "$work/notes"
cat > "$work/want" <<'EOF'
domain/cpu: left out
domain/devices/disk/target: taken as a disk of virtio's: the guest sees /dev/vda, and so on
domain/devices/disk: left out: only disks of files and block devices are taken
domain/devices/graphics: left out
domain/devices/interface/model: taken as a card of virtio's
domain/devices/interface: taken as type user: a network of the guest's own
domain: type kvm: add --mmu kvm to run under the host's MMU
EOF
LC_ALL=C sort "$work/want" | diff - <(LC_ALL=C sort "$work/notes") || fail "other notes"
run convert --strict "$work/guest.xml"
[ "$rc" -eq 9 ] && [ ! -s "$work/out" ] || fail "--strict: exit code $rc"

# What run makes of it: the guest is ours.
sed -e '/<hugepages>/d; /<kernel>/d; /<cmdline>/d' -e '/portForward/d' "$work/guest.xml" > "$work/small.xml"
sed -i "s|</devices>|</devices></domain>|; /^<.domain>/d" "$work/small.xml"
sed -i 's|<features>|<os><type>hvm</type></os><features>|; s|<model type=.virtio./>|&</interface>|; /<interface type=.bridge/d' "$work/small.xml"
run convert - < /dev/null
[ "$rc" -eq 2 ] || fail "no XML at all: exit code $rc"
"$penumbra" convert - < "$work/small.xml" > "$work/small.json" 2> "$work/err" || fail "small: $(cat "$work/err")"
run run --config "$work/small.json" --append "pages=16 swaps=1 flips=1 switches=1 compute=1"
[ "$rc" -eq 0 ] && grep -q 'done, checksum' "$work/out" || fail "run of it: $(cat "$work/err")"

# says TEXT XML: refused with one line.
says() {
    printf '%s' "$2" > "$work/bad.xml"
    refused 2 convert "$work/bad.xml"
    grep -qF -- "$1" "$work/err" || fail "$2: not '$1': $(cat "$work/err")"
}
says "line 1: network: no domain: 'network'" '<network/>'
says "no size: '12x'" '<domain><memory>12x</memory></domain>'
says "no size: '18446744073709551615'" '<domain><memory unit="GiB">18446744073709551615</memory></domain>'
says "no unit is called 'furlong'" '<domain><memory unit="furlong">1</memory></domain>'
says "no number of vCPUs: '-1'" '<domain><vcpu>-1</vcpu></domain>'
says "pages of 2 MiB or 1 GiB" '<domain><memoryBacking><hugepages><page size="4"/></hugepages></memoryBacking></domain>'
says "no set of nodes: '5-1'" '<domain><numatune><memory nodeset="5-1"/></numatune></domain>'
says "no set of nodes: '0-99999999999'" '<domain><numatune><memory nodeset="0-99999999999"/></numatune></domain>'
says "cannot be forwarded: 'tcp::99999-:99999'" '<domain><devices><interface type="user"><portForward proto="tcp"><range start="99999"/></portForward></interface></devices></domain>'
says 'entities are not taken' '<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><domain><os><cmdline>&b;</cmdline></os></domain>'
says 'entities are not taken' '<!DOCTYPE d [<!ENTITY a SYSTEM "file:///etc/passwd">]><domain><os><cmdline>&a;</cmdline></os></domain>'
says 'mismatched tag' '<domain><memory>1</domain>'
says 'no element found' '<domain>'
says 'too long' "<domain><os><cmdline>$(head -c 70000 /dev/zero | tr '\0' a)</cmdline></os></domain>"
says "too long" "<domain><devices><disk type='file'><source file='$(head -c 5000 /dev/zero | tr '\0' ,)'/></disk></devices></domain>"
python3 -c 'print("<domain>" + "<a>" * 200000)' > "$work/deep.xml"
run convert "$work/deep.xml"
[ "$rc" -eq 2 ] || fail "a deep one: exit code $rc"
head -c 5000000 /dev/zero > "$work/big.xml"
refused 1 convert "$work/big.xml"
refused 1 convert "$work/nothing.xml"
refused 2 convert
exit $bad
