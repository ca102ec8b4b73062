#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# --firmware with Debian's OVMF: it comes to its shell on the serial console, and has found the disk by then.
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
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
seen = b""
while b"Shell>" not in seen:
    byte = guest.stdout.read(1)
    assert byte, seen[-2000:]
    seen += byte
guest.terminate()
guest.wait()
assert b"UEFI Interactive Shell" in seen and b"BLK0" in seen, seen[-2000:]
EOF
done
exit $bad
