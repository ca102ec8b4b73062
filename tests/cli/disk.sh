#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# penumbra run --disk, --device: images that are none, are cut short, in use or given twice, and words
# that are none are refused with one line, and no image is changed. A machine without a device is
# the same as before there was PCI.
#
#   disk.sh PENUMBRA
. "$(dirname "$0")/lib.sh"

zeros() { head -c "$1" /dev/zero > "$2"; }
ok() { run "$@" && [ "$rc" -eq 0 ] || fail "exit code $rc: penumbra $*: $(cat "$work/err")"; }
zeros 65536 "$work/good"
refuse() { # CODE WORDS ARGUMENT...: exit code, and what the line says
    local code=$1 words=$2
    shift 2
    refused "$code" run "$@"
    grep -qF -- "$words" "$work/err" || fail "$*: not '$words' but $(cat "$work/err")"
}

refuse 1 'No such file' --disk "$work/none"
refuse 2 'not FILE' --disk ,ro
refuse 2 'neither a file nor a block device' --disk "$work,ro"
zeros 0 "$work/empty" && refuse 2 'no disk image' --disk "$work/empty"
zeros 1000 "$work/odd" && refuse 2 'no disk image' --disk "$work/odd"
printf 'KDMV' | dd of="$work/q" status=none && truncate -s 65536 "$work/q"
refuse 2 'a VMDK image' --disk "$work/q"
printf 'QFI\373' | dd of="$work/q" conv=notrunc status=none
refuse 2 'a qcow2 image' --disk "$work/q" # a guest may have written that to its raw disk
refuse 2 'given twice' --disk "$work/good,ro" --disk "$work/good,ro"
refuse 2 'given twice' --disk "$work/good" --disk "$work/./good"
refuse 2 "'rw' is no option" --disk "$work/good,rw"
refuse 2 'not both' --disk "$work/good,ro,snapshot"
refuse 2 'that is written' --disk "$work/good,ro,pause"
refuse 2 'no such device' --device toaster
refuse 2 'not user' --net tap
refuse 2 'not as tcp::2222-:22' --net user,hostfwd=tcp:2222-22
refuse 2 'not as tcp' --net user,hostfwd=tcp::0-:22
refuse 2 'not as tcp' --net user,hostfwd=tcp:300.1.1.1:1-:22
refuse 2 'given twice' --net user --net user
refuse 2 "'closed' is no option" --net user,closed
refuse 2 "'open' is no option" --net tap=pn0,open
refuse 2 'not as 52:54' --net user,mac=53:54:00:12:34:56
refuse 2 'not as 52:54' --net user,mac=52:54:00:12:34
refuse 2 'not user' --net tap=aninterfacesnameistoolong
refuse 2 "'ro' is no option" --device rng,ro
refuse 2 'given twice' --device balloon --device balloon
refuse 2 'no port' --device console
refuse 2 'not hvc=PATH' --device console,port=x
refuse 1 'No such file' --share "$work/none"
refuse 2 'given twice' --share "$work,tag=a" --share "$work,tag=a"
refuse 2 "'snapshot' is no option" --share "$work,snapshot"
zeros 4096 "$work/small" && refuse 2 'no multiple of 2 MiB' --device "pmem,$work/small"
truncate -s 2M "$work/p" && refuse 2 'does not go with --dirty-log' --device "pmem,$work/p" --dirty-log wp
refuse 1 'in use' --device "pmem,$work/p" --device "pmem,$work/p"
refuse 2 'does not go with --restore' --restore "$work/x" --disk "$work/good"
refuse 2 'nor with a disk that is written' --checkpoints 2 --gdb "$work/gdb" --disk "$work/good"

# What is on it says that there is more: an ext4 of 64 blocks of 1 KiB, an MBR's partition.
cp "$work/good" "$work/ext" && python3 - "$work" <<'PY'
import struct, sys
def put(name, *parts):
    data = bytearray(65536)
    for at, form, value in parts:
        struct.pack_into(form, data, at, value)
    open(f"{sys.argv[1]}/{name}", "wb").write(data)
put("ext", (1024 + 4, "<I", 65), (1024 + 24, "<I", 0), (1024 + 56, "<H", 0xEF53))
put("mbr", (510, "<H", 0xAA55), (446 + 4, "<B", 0x83), (446 + 8, "<I", 64), (446 + 12, "<I", 65))
put("whole", (1024 + 4, "<I", 64), (1024 + 24, "<I", 0), (1024 + 56, "<H", 0xEF53))
PY
refuse 2 'cut short' --disk "$work/ext"
refuse 2 'cut short' --disk "$work/mbr"
ok run --disk "$work/whole"

# Another program's lock; and the embedded guest, which has no driver, leaves the image as it is.
flock() { python3 -c 'import fcntl, struct, sys, subprocess
f = open(sys.argv[1], "r+b")
fcntl.lockf(f, fcntl.LOCK_EX)
sys.exit(subprocess.call(sys.argv[2:]))' "$@"; }
flock "$work/good" "$penumbra" run --disk "$work/good" > /dev/null 2> "$work/err" < /dev/null && fail "a locked image is taken"
grep -q 'in use' "$work/err" || fail "locked: $(cat "$work/err")"
# QEMU's locks: each tool heeds the other's, and who only reads disturbs no reader. qemu-io holds the image until its input ends.
held() { # OPTION... -- COMMAND
    local options=()
    while [ "$1" != -- ]; do options+=("$1") && shift; done
    coproc holder { qemu-io -f raw "${options[@]}" "$work/good" > /dev/null 2>&1; }
    until grep -q ":$(stat -c %i "$work/good") 100" /proc/locks; do kill -0 "$holder_PID" 2> /dev/null || break; sleep 0.05; done
    "${@:2}"
    eval "exec ${holder[1]}>&-"
    wait "$holder_PID"
}
held -- refuse 1 'in use' --disk "$work/good"
held -- refuse 1 'in use' --disk "$work/good,ro"
held -r -- ok run --disk "$work/good,ro"
sum=$(sha256sum < "$work/good")
ok run --disk "$work/good" --disk "$work/whole,snapshot" --device rng --device balloon --stats "$work/s.json" --ram-digest
[ "$(sha256sum < "$work/good")" = "$sum" ] || fail "the image was written"
python3 - "$work/s.json" <<'PY' || fail "--stats says otherwise"
import json, sys
j = json.load(open(sys.argv[1]))
assert [d.split()[0] for d in j["config"]["devices"]] == ["disk", "disk", "rng", "balloon"], j["config"]
assert len(j["disks"]) == 2 and j["disks"][0]["digest"] != j["disks"][1]["digest"], j["disks"]
PY

# qcow2, by qemu-nbd: the digest is that of the same bytes raw; images that are broken, stand on each other in a circle
# or are in use are refused.
yes 'what a disk has' | head -c 1048576 > "$work/raw"
qemu-img convert -q -f raw -O qcow2 "$work/raw" "$work/q1" && qemu-img create -q -f qcow2 -b q1 -F qcow2 "$work/q2" || fail "qemu-img"
ok run --disk "$work/raw,ro" --disk "$work/q1,ro,qcow2" --disk "$work/q2,qcow2" --stats "$work/s.json" --ram-digest
python3 - "$work/s.json" <<'PY' || fail "a qcow2 image has other bytes"
import json, sys
j = json.load(open(sys.argv[1]))
assert len({d["digest"] for d in j["disks"]}) == 1, j["disks"]
PY
flock "$work/q1" "$penumbra" run --disk "$work/q1,qcow2" > /dev/null 2> "$work/err" < /dev/null && fail "a locked qcow2 image is taken"
grep -q 'in use' "$work/err" || fail "locked: $(cat "$work/err")"
head -c 100 "$work/q1" > "$work/cut"
refuse 2 "$work/cut: qemu-nbd" --disk "$work/cut,qcow2"
qemu-img rebase -q -u -b q2 -F qcow2 -f qcow2 "$work/q1"
refuse 2 'in a circle' --disk "$work/q2,qcow2"
qemu-img rebase -q -u -b none -F qcow2 -f qcow2 "$work/q1"
refuse 1 'it stands on' --disk "$work/q2,qcow2"

# A snapshot names its disks: it goes on where they are as they were, and nowhere else.
# monitor ARG... -- COMMAND: one command to a run of ARG...
monitor() {
    local args=()
    while [ "$1" != -- ]; do args+=("$1") && shift; done
    "$penumbra" run "${args[@]}" --monitor "$work/mon" > /dev/null 2> "$work/err" < /dev/null &
    local pid=$!
    until [ -S "$work/mon" ]; do kill -0 $pid 2> /dev/null || break; sleep 0.05; done
    printf '%s\nquit\n' "${*:2}" | "$penumbra" monitor "$work/mon" > "$work/said"
    wait $pid
}
# What qemu-io may do with an image that a run has.
beside() { # OPTION r|w yes|no
    "$penumbra" run --disk "$work/good$1" --append "compute=1000000000" --monitor "$work/mon" > /dev/null 2> "$work/err" < /dev/null &
    local pid=$! may=no mode=()
    [ "$2" = w ] || mode=(-r)
    until [ -S "$work/mon" ]; do kill -0 $pid 2> /dev/null || break; sleep 0.05; done
    qemu-io -f raw "${mode[@]}" -c "read 0 512" "$work/good" > /dev/null 2>&1 && may=yes
    echo quit | "$penumbra" monitor "$work/mon" > /dev/null
    wait $pid
    [ $may = "$3" ] || fail "qemu-io beside --disk good$1: may $2: $may"
}
beside ,ro r yes
beside ,ro w no
beside ,snapshot r yes
beside '' w no
monitor --disk "$work/good" --device rng --append "compute=1000000000" -- snapshot save "$work/snap"
ok run --restore "$work/snap"
# With --disks the folder has the disks that are written, too: so have merged and replaced ones.
cp "$work/good" "$work/ro"
monitor --disk "$work/good" --disk "$work/ro,ro" --append "compute=1000000000" -- snapshot save "$work/kept" --disks
cmp "$work/good" "$work/kept/disk0.raw" && [ ! -e "$work/kept/disk1.raw" ] || fail "--disks: $(ls "$work/kept")"
run snapshot merge "$work/kept" "$work/merged"
cmp "$work/good" "$work/merged/disk0.raw" || fail "merge: $(cat "$work/err")"
monitor --disk "$work/good" --append "compute=1000000000" -- snapshot save "$work/merged" --force
[ "$rc" -eq 0 ] && [ ! -e "$work/merged/disk0.raw" ] || fail "--force over a snapshot with disks: $(cat "$work/said")"
cp "$work/good" "$work/before" && printf x | dd of="$work/good" bs=1 seek=30000 conv=notrunc status=none
refuse 2 "the snapshot has it: cp --sparse=always $work/kept/disk0.raw $work/good" --restore "$work/kept"
cp --sparse=always "$work/kept/disk0.raw" "$work/good"
ok run --restore "$work/kept"
cmp "$work/before" "$work/good" || fail "a disk that is put back"
qemu-img create -q -f qcow2 "$work/q3" 1M || fail "qemu-img"
monitor --disk "$work/q3,qcow2" --append "compute=1000000000" -- snapshot save "$work/lost" --disks
grep -q 'takes no disk in qcow2' "$work/said" && [ -z "$(find "$work" -name 'lost*')" ] || fail "--disks of a qcow2: $(cat "$work/said")"
monitor --disk "$work/good,snapshot" --append "compute=1000000000" -- snapshot save "$work/lost"
grep -q 'in memory alone' "$work/said" && [ ! -e "$work/lost" ] || fail "a disk that is lost is saved: $(cat "$work/said")"
monitor --net user --append "compute=1000000000" -- snapshot save "$work/lost"
grep -q 'cannot be saved' "$work/said" || fail "a network is saved: $(cat "$work/said")"
printf x | dd of="$work/good" bs=1 seek=40000 conv=notrunc status=none
refuse 2 'is not what it was' --restore "$work/snap"
mv "$work/good" "$work/moved"
refuse 1 'No such file' --restore "$work/snap"
exit $bad
