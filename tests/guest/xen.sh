#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Xen 4.17 as Debian packages it, with Debian's kernel as dom0 (PV: the CPU has no VMX or SVM).
#
#   xen.sh PENUMBRA shell    to a shell of dom0's, and a command there, under both MMUs
#   xen.sh PENUMBRA more     both MMUs run the same Xen; equal runs are equal; two CPUs, Multiboot 2,
#                            supervisor shadow stacks (--cpu max), a processor of AMD's, ACPI S3
#
# The MMUs are compared until Xen has the pieces of dom0. Later a kernel in Xen's PV mode clears table
# entries by hypercalls that do not flush the TLB (update_va_mapping without UVMF_INVLPG), and
# then reads through them: a fault or none, as what is still in the TLB decides.
# Exit: 0, 1 with what is wrong, 77 when the packages are not there (skipped).
set -uo pipefail
penumbra=$1 how=$2
. "$(dirname "$0")/../lib.sh"
need_guest --kernel-package linux-image-amd64 --suite bookworm
dom0=$cache
need_guest --kernel-package xen-hypervisor-4.17-amd64 --suite bookworm
work_folder

# xen NAME ARGS OPTION...: run it; ARGS are dom0's. Its console is standard output, errors are in NAME.err.
xen() {
    local name=$1 args=$2
    shift 2
    "$penumbra" run -m 512M --timeout 600 --stats "$work/$name.json" --kernel "$cache/vmlinuz" \
        --module "$dom0/vmlinuz,console=hvc0 quiet $args" --module "$dom0/initrd.gz" \
        --append "console=com1 com1=115200,8n1" "$@" 2> "$work/$name.err"
}

# shell NAME COMMAND ANSWER OPTION...: dom0's shell gets its command at the prompt (what comes earlier is
# Xen's, and lost), and its console has the ANSWER.
shell() {
    local text pid rc
    coproc guest { xen "$1" '' "${@:4}"; }
    pid=$guest_PID
    exec {from}<&"${guest[0]}" {to}>&"${guest[1]}"
    while IFS= read -r -d '#' -u "$from" text; do
        printf '%s#' "$text"
        if [[ $text == */root\  ]]; then
            echo "$2; poweroff -f" >&"$to"
            break
        fi
    done > "$work/$1"
    cat <&"$from" >> "$work/$1"
    wait "$pid"
    rc=$?
    exec {from}<&- {to}>&-
    [ $rc -eq 0 ] || fail "$1: exit code $rc: $(cat "$work/$1.err")"
    grep -aq "^$3" "$work/$1" || fail "$1: no answer of dom0's shell: $(tail -n 5 "$work/$1")"
}

# script NAME OPTION...: dom0 runs the test script.
script() {
    xen "$1" pn.script --event-digest --ram-digest "${@:2}" < /dev/null > "$work/$1" ||
        fail "$1: exit code $?: $(cat "$work/$1.err")"
    grep -q '^GUEST-DONE' "$work/$1" || fail "$1: dom0's script did not finish: $(tail -n 5 "$work/$1")"
}
member() { awk -v name="\"$1\":" '$1 == name { print $2 }' "$work/$2.json"; }
same() {
    local name
    cmp "$work/$1" "$work/$2" || fail "$1 and $2 print different bytes"
    for name in "${@:3}"; do
        [ -n "$(member "$name" "$1")" ] && [ "$(member "$name" "$1")" = "$(member "$name" "$2")" ] ||
            fail "$name: $(member "$name" "$1") in $1, $(member "$name" "$2") in $2"
    done
}

if [ "$how" = shell ]; then
    for mmu in shadow tdp; do
        # shellcheck disable=SC2016
        shell $mmu 'echo $(cat /sys/hypervisor/type), six times seven: $((6 * 7))' 'xen, six times seven: 42' --mmu $mmu
    done
    exit $bad
fi
for mmu in shadow tdp; do
    xen start-$mmu '' --mmu $mmu --ram-digest --max-insns 5000000000 < /dev/null > "$work/start-$mmu"
    rc=$?
    [ $rc -eq 4 ] || fail "start-$mmu: exit code $rc, not 4 (a limit): $(cat "$work/start-$mmu.err")"
    grep -q "d0 has maximum" "$work/start-$mmu" || fail "start-$mmu does not come to dom0"
    script $mmu --mmu $mmu
    script $mmu-again --mmu $mmu
    same $mmu $mmu-again guest_insns digest ram_digest
done
same start-shadow start-tdp guest_insns ram_digest
script two --mmu shadow -c 2
grep -q 'Brought up 2 CPUs' "$work/two" || fail "two: Xen has not both CPUs"
script two-tdp --mmu tdp -c 2 --format multiboot2
script cet --mmu tdp --cpu max
grep -q 'Enabling Supervisor Shadow Stacks' "$work/cet" || fail "cet: Xen does not use shadow stacks"
script amd --mmu shadow --cpu max,vendor=amd
# shellcheck disable=SC2016
shell sleep 'echo +5 > /sys/class/rtc/rtc0/wakealarm; echo mem > /sys/power/state; echo slept: $?' 'slept: 0' --mmu shadow -c 2
grep -aq 'Finishing wakeup from ACPI S3 state' "$work/sleep" || fail "sleep: Xen did not sleep"
exit $bad
