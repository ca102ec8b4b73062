#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every fault of a Linux guest's own, beside the guest's own record of it: its tracepoints page_fault_user and
# page_fault_kernel say process, address and function of each one that a fork-heavy script has, and so do we.
#
#   every_fault.sh PENUMBRA
. "$(dirname "$0")/lib.sh"
need_guest
cat > "$work/check.py" << 'E2'
"""check.py CONSOLE CSV"""
import base64, collections, csv, gzip, re, sys

text = open(sys.argv[1], errors="replace").read()
record = re.search(r"RECORD-BEGIN\r?\n(.*?)RECORD-END", text, re.S).group(1)
shell = int(re.search(r"SHELL-PID (\d+)", text).group(1))
theirs, ours = (collections.defaultdict(collections.Counter) for _ in range(2))
for line in gzip.decompress(base64.b64decode(record)).decode().splitlines():
    pid, by, address, ip = re.match(r".{16}-(\d+) .*: page_fault_(\w+): address=(\S+) ip=(\S+) ", line).groups()
    # %ps names what is the kernel's, with its module, and prints other addresses.
    page = hex(int(address, 16) & ~0xfff) if address.startswith("0x") else address
    theirs[int(pid)][ip.split()[0] if by == "kernel" else hex(int(ip, 16)), page] += 1
for row in csv.DictReader(open(sys.argv[2])):
    user = row["function"] == "(user space)"
    if row["process"] != "?":
        who = hex(int(row["rip"], 16)) if user else row["function"]
        ours[int(row["process"].split()[0])][who, row["page"]] += int(row["faults"])
faults = sum(sum(of.values()) for of in theirs.values())
assert len(theirs) > 250 and faults > 15000, (len(theirs), faults)
for pid in theirs:
    assert not theirs[pid] - ours[pid], (pid, theirs[pid] - ours[pid])
    # The shell and init had faults before and after the record.
    assert pid <= shell or not ours[pid] - theirs[pid], (pid, ours[pid] - theirs[pid])
print(len(theirs), "processes,", faults, "faults")
E2
cat > "$work/input" << 'E2'
mkdir -p /t; mount -t tracefs t /t && cd /t
echo 20000 > buffer_size_kb; echo SHELL"-"PID $$; echo 1 > events/exceptions/enable
sh /script.sh > /tmp/said; echo 0 > events/exceptions/enable
echo RECORD"-"BEGIN; grep -v '^#' trace | gzip | base64; echo RECORD"-"END
poweroff -f
E2
for mmu in shadow tdp; do
    timeout 250 "$penumbra" run --mmu $mmu -m 256M --kernel "$cache/vmlinuz" --initrd "$cache/initrd.gz" --append "console=ttyS0 quiet panic=-1" \
        --trace "$work/t" --trace-tasks --trace-events page_fault,fault_outcome < "$work/input" > "$work/console" 2> "$work/err" ||
        fail "$mmu: exit code $?: $(cat "$work/err")"
    run faults "$work/t" --symbols "$cache/vmlinuz" --outcome guest_pf --by process,function,rip,page --csv "$work/f.csv"
    [ "$rc" -eq 0 ] || fail "$mmu: faults: exit code $rc: $(cat "$work/err")"
    python3 "$work/check.py" "$work/console" "$work/f.csv" > "$work/why" 2>&1 || fail "$mmu: $(tail -n 1 "$work/why")"
    cat "$work/why"
done
exit $bad
