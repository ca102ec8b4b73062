#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# --firmware with Debian's OVMF: it comes to its shell on the serial console, finds the disk there, and ends the run
# when it is told to.
#
#   ovmf.sh PENUMBRA
set -uo pipefail
penumbra=$1
. "$(dirname "$0")/../lib.sh"
firmware=/usr/share/ovmf/OVMF.fd
[ -r $firmware ] || skip "no $firmware: apt-get install ovmf"
work_folder
truncate -s 1M "$work/disk"
for mmu in shadow tdp; do
    python3 - "$penumbra" $mmu $firmware "$work" <<'EOF' || fail "$mmu"
import subprocess, sys
penumbra, mmu, firmware, work = sys.argv[1:]
guest = subprocess.Popen([penumbra, "run", "--mmu", mmu, "--cpu", "x86-64-v2,phys-bits=36", "-m", "256M", "--firmware", firmware,
                          "--disk", work + "/disk,ro", "--timeout", "600"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
seen = b""
def until(text):
    global seen
    while text not in seen:
        byte = guest.stdout.read(1)
        assert byte, seen[-2000:]
        seen += byte
    found, seen = seen, b""
    return found
assert b"UEFI Interactive Shell" in until(b"Shell>")
guest.stdin.write(b"map -r\r")
guest.stdin.flush()
assert b"BLK0" in until(b"Shell>")
guest.stdin.write(b"reset -s\r")
guest.stdin.flush()
guest.stdout.read()
assert guest.wait() == 0, guest.returncode
EOF
done
exit $bad
