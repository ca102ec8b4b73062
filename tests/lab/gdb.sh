#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# gdb itself, in batch mode, on guests of the lab's KVM: the embedded one and Debian's kernel on one vCPU and on two. And, in
# the same lab, explain beside KVM_TRANSLATE on every page of such a kernel.
#
# penumbra is the lab's host: QEMU 7.2's software CPU arms no breakpoint at VMRUN from the DR7 of a guest
# (findings/qemu-svm-breakpoints.sh).
#
#   gdb.sh --penumbra P --elf GUEST.ELF --address-of PROGRAM --explain PROGRAM --npt N --out DIR
# The programs: of tests/inspect. Exit: 0, 1, 77 when something is not there.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../lib.sh"
penumbra='' elf='' address_of='' explain='' npt='' out=''
while [ $# -gt 0 ]; do
    case $1 in
    --penumbra) penumbra=$2 ;;
    --elf) elf=$2 ;;
    --address-of) address_of=$2 ;;
    --explain) explain=$2 ;;
    --npt) npt=$2 ;;
    --out) out=$2 ;;
    *) echo "gdb.sh: unknown option $1"; exit 1 ;;
    esac
    shift 2
done
command -v gdb > /dev/null || skip "gdb is not installed"
need_guest --drivers
wake=$("$address_of" "$cache/vmlinuz" wake_up_new_task) && clone=$("$address_of" "$cache/vmlinuz" kernel_clone) ||
    skip "no symbols in the kernel"
rm -rf "$out"
mkdir -p "$out"
work_folder
. "$here/../inspect/gdb_lib.sh"

linux='-m 128M --kernel vmlinuz --initrd initrd.gz'
cat > "$work/guests" << EOF
wait_for_gdb embedded ${gdb_embedded[*]:0:3} "${gdb_embedded[3]}"
wait_for_gdb linux1 $linux -c 1 --append "console=ttyS0 panic=-1 nokaslr pn.script"
wait_for_gdb linux2 $linux -c 2 --append "console=ttyS0 panic=-1 nokaslr pn.script"
PENUMBRA_CACHE=/lab ./explain translate kvm > out/explain || bad=1
EOF
"$here/lab.sh" --guest "$cache/root" --npt "$npt" --out "$out" --host "$penumbra" --timeout 1500 --wire "$work/wire" --add "$penumbra:penumbra" \
    --add "$explain:explain" --add "$cache/vmlinuz" --add "$cache/initrd.gz" --add "$work/guests" -- "$here/inside_gdb.sh" &
lab=$!
# attach NAME GDB-ARG...: when that guest waits.
attach() {
    about="npt=$npt, $1"
    until grep -qs "waits: $1" "$out/console"; do
        kill -0 $lab 2> /dev/null || return
        sleep 0.2
    done
    debug "$work/wire" "${@:2}" || fail "$about: gdb: $(tail -n 3 "$work/said")"
    cp "$work/said" "$out/gdb-$1"
}
attach embedded "${gdb_embedded_session[@]}"
gdb_embedded_said
for cpus in 1 2; do
    # A function's 21st call, what runs then, some steps, a write to the stack, another function; and on.
    attach linux$cpus -ex "hbreak *$clone" -ex "ignore 1 20" -ex continue -ex "info breakpoints" -ex "info threads" \
        -ex "monitor info tasks" -ex "stepi 20" -ex "delete 1" -ex "break *$clone" -ex continue \
        -ex "watch -l *(long *)(\$rsp - 8)" -ex continue -ex delete -ex "break *$wake" -ex continue \
        -ex "info registers rip cs cr3 gs_base" -ex "x/1i \$pc" -ex "monitor explain $wake" -ex delete -ex detach
    said "breakpoint already hit 21 times" "vCPU 0, .*CPL 0" "^ +0 +2 +2 +0  kthreadd" "Breakpoint 2, $clone" \
        "Hardware watchpoint 3" "Old value" "New value" "Breakpoint 4, $wake" "^rip +$wake" "^cs +0x10" "^gs_base +0xffff" "=> $wake" \
        "^The guest's walk"
done
wait $lab || fail "the lab: exit code $?: $(tail -n 5 "$out/log" 2> /dev/null)"
grep -q 'vCPU 1' "$out/gdb-linux2" || fail "two vCPUs: no second thread"
for guest in linux1 linux2; do
    grep -q '^GUEST-DONE' "$out/$guest" || fail "$guest did not finish: $(tail -n 2 "$out/$guest")"
done
grep -q '^penumbra guest: done' "$out/embedded" || fail "the embedded guest did not finish: $(tail -n 2 "$out/embedded")"
cat "$out/explain"
exit $bad
