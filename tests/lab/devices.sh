#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Linux's drivers of virtio devices in the lab (inside_devices.sh), for ctest: the guests of tests/guest's devices.sh, pmem.sh and
# share.sh, by the lab's KVM; a disk with ioeventfd and irqfd, and without; and the hostile driver of tests/hostile.
#
#   devices.sh --penumbra P --vsock PROGRAM --driver PROGRAM --npt N --out DIR
# PROGRAM: of tests/guest/vsock.c; of tests/hostile/driver.c. Exit: 0, 1, 77 when something is not there.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
penumbra='' npt='' out='' vsock='' driver=''
while [ $# -gt 0 ]; do
    case $1 in
    --penumbra) penumbra=$2 ;;
    --vsock) vsock=$2 ;;
    --driver) driver=$2 ;;
    --npt) npt=$2 ;;
    --out) out=$2 ;;
    *) echo "devices.sh: unknown option $1"; exit 1 ;;
    esac
    shift 2
done
command -v mkfs.ext4 debugfs > /dev/null || skip "no e2fsprogs"
slirp=$(PATH=$PATH:/usr/sbin ldconfig -p | sed -n 's/.*libslirp\.so\.0 .*=> //p' | head -n 1)
[ -f "$slirp" ] || skip "no libslirp"
need_lab "$npt"
need_guest --kernel-package linux-image-amd64 --suite bookworm --drivers # cloud kernels have no 9p
amd64=$cache
need_guest --drivers
rm -rf "$out"
mkdir -p "$out"
work_folder

# initrd NAME GUEST FILE...: what a test of tests/guest boots, or of tests/hostile.
initrd() {
    local name=$1 guest=$2 script
    shift 2
    for script in "$here"/../{guest,hostile}/"$name.guest"; do [ ! -e "$script" ] || break; done
    initrd_with_drivers "$work/initrd-$name" "$guest" "$script" "$@"
}
initrd devices "$cache" "$vsock"
initrd pmem "$cache"
initrd bells "$cache"
mkdir "$work/program" && cp "$driver" "$work/program/driver" && initrd driver "$cache" "$work/program/driver"
initrd share "$amd64"
mkdir "$work/files" && head -c 3M < <(yes "$(seq 1 1000)") > "$work/files/image"
mkfs.ext4 -q -b 4096 -d "$work/files" "$work/p" 64M && gzip -1 "$work/p" || exit 1
# Python, as far as devices.py needs it.
python3 - "$work/py.tar" << 'EOF' || exit 1
import encodings.ascii, os, socket, sys, tarfile, time
with tarfile.open(sys.argv[1], "w", dereference=True) as tar:
    for module in list(sys.modules.values()):
        if os.path.isfile(getattr(module, "__file__", None) or ""):
            tar.add(module.__file__)
EOF
python=$(python3 -c 'import os, sys; print(os.path.realpath(sys.executable))')
rc=0
"$here/lab.sh" --guest "$host/root" --npt "$npt" --out "$out" --mem 2600 --timeout 1500 "${lab_host[@]}" --add "$penumbra:penumbra" --add "$slirp" \
    --add "$cache/vmlinuz" --add "$amd64/vmlinuz:vmlinuz-amd64" --add "$work/initrd-devices" --add "$work/initrd-pmem" \
    --add "$work/initrd-share" --add "$work/initrd-bells" --add "$work/initrd-driver" --add "$work/p.gz" --add "$work/py.tar" --add "$here/../guest/devices.py" --add "$python:python3" \
    -- "$here/inside_devices.sh" || rc=$?
[ $rc -eq 0 ] || fail "the lab: exit code $rc: $(tail -n 5 "$out/log" 2> /dev/null)"
exit $bad
