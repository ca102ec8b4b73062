#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A hypervisor on QEMU's software CPU arms a breakpoint for its guest, in DR0 and the DR7 of the VMCB, and the guest runs
# past it: VMRUN loads DR7 and does not arm what it says. MOV to DR7, by the guest itself, arms. So KVM's
# KVM_GUESTDBG_USE_HW_BP finds nothing there, and a debugger waits for ever.
# Seen: Linux 6.1.176-1, QEMU 7.2 (its software CPU, AMD's SVM), npt=1. On a processor: exit 4 (KVM_EXIT_DEBUG) at 0x1001.
. "$(dirname "$0")/kvm.sh"
in_kvm 1 <<'C'
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#define SIZE 0x10000
/* How a guest in real mode ends whose code stands at 0x1000. */
static void guest(const char *name, const unsigned char *code, unsigned size, int armed) {
    int kvm = open("/dev/kvm", O_RDWR), vm = ioctl(kvm, KVM_CREATE_VM, 0);
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    unsigned char *ram = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct kvm_userspace_memory_region r = {.memory_size = SIZE, .userspace_addr = (unsigned long)ram};
    struct kvm_run *run = mmap(0, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    struct kvm_guest_debug g = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP};
    struct kvm_regs regs = {.rip = 0x1000, .rflags = 2, .rsp = 0x8000};
    struct kvm_sregs s;
    memcpy(ram + 0x1000, code, size);
    ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r);
    ioctl(vcpu, KVM_GET_SREGS, &s);
    s.cs.base = s.cs.selector = 0;
    ioctl(vcpu, KVM_SET_SREGS, &s);
    ioctl(vcpu, KVM_SET_REGS, &regs);
    g.arch.debugreg[0] = 0x1001, g.arch.debugreg[7] = 0x402;
    int set = armed ? ioctl(vcpu, KVM_SET_GUEST_DEBUG, &g) : 0;
    ram[1 * 4 + 1] = 0x20; /* the handler of #DB: 0:2000, HLT */
    ram[0x2000] = 0xf4;
    ioctl(vcpu, KVM_RUN, 0);
    ioctl(vcpu, KVM_GET_REGS, &regs);
    printf("finding: %s: set %d exit %d at 0x%llx\n", name, set, run->exit_reason, regs.rip);
}
void finding(void) {
    static const unsigned char nops[] = {0x90, 0x90, 0x90, 0xf4}; /* HLT */
    static const unsigned char arms[] = {
        0x66, 0xb8, 0x13, 0x10, 0, 0, /* MOV EAX, 1013h */
        0x0f, 0x23, 0xc0,             /* MOV DR0, EAX */
        0x66, 0xb8, 2, 4, 0, 0,       /* MOV EAX, 402h */
        0x0f, 0x23, 0xf8,             /* MOV DR7, EAX */
        0x90, 0x90, 0xf4};
    guest("by KVM_SET_GUEST_DEBUG", nops, sizeof(nops), 1);
    guest("by the guest", arms, sizeof(arms), 0);
}
C
expect "by KVM_SET_GUEST_DEBUG: set 0 exit 5 at 0x1004" "by the guest: set 0 exit 5 at 0x2001"
