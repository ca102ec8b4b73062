#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A new vCPU of KVM has the fast strings of IA32_MISC_ENABLE (bit 0) off. Intel's processors
# have them on after reset (SDM volume 4, table "IA-32 Architectural MSRs"), and one guesses that
# KVM_CREATE_VCPU gives the state after reset. So each VMM has to set the bit; QEMU does.
# Linux 6.1 as a guest on an Intel CPU then prints "Disabled fast string operations" and clears
# ERMS, but not FSRM, on which its memmove relies: it does not end.
# Seen: Linux 6.1.176-1, QEMU 7.2 (its software CPU, AMD's SVM): 0x1800.
. "$(dirname "$0")/kvm.sh"
in_kvm 1 <<'C'
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
void finding(void) {
    struct { struct kvm_msrs head; struct kvm_msr_entry entry; } m = {{.nmsrs = 1}, {.index = 0x1a0}};
    int vm = ioctl(open("/dev/kvm", O_RDWR), KVM_CREATE_VM, 0), vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    int n = ioctl(vcpu, KVM_GET_MSRS, &m);
    printf("finding: read %d, IA32_MISC_ENABLE 0x%llx\n", n, (unsigned long long)m.entry.data);
    m.entry.data |= 1;
    printf("finding: set %d\n", ioctl(vcpu, KVM_SET_MSRS, &m));
}
C
expect "read 1, IA32_MISC_ENABLE 0x1800" "set 1"
