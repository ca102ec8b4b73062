#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# KVM_TRANSLATE looks like a question, but sets the accessed bits of the guest's page tables on
# its way, and answers `writeable` 1 and `usermode` 0 for a page that is read-only and the user's.
# A debugger that asks it changes the guest.
# Seen: Linux 6.1.176-1, QEMU 7.2 (its software CPU, AMD's SVM), npt=1.
. "$(dirname "$0")/kvm.sh"
in_kvm 1 <<'C'
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#define SIZE 0x10000
void finding(void) {
    int vm = ioctl(open("/dev/kvm", O_RDWR), KVM_CREATE_VM, 0), vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    unsigned long long *ram = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct kvm_userspace_memory_region r = {.memory_size = SIZE, .userspace_addr = (unsigned long)ram};
    struct kvm_sregs s;
    ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r);
    for (int level = 0; level < 4; level++) /* tables at 0x1000 to 0x4000, the page at 0x5000 */
        ram[(level + 1) * 512] = (level + 2) * 0x1000 | (level < 3 ? 7 : 5);
    ioctl(vcpu, KVM_GET_SREGS, &s);
    s.cr3 = 0x1000, s.cr4 = 0x20, s.cr0 = 0x80010001, s.efer = 0x500;
    s.cs.l = 1, s.cs.db = 0;
    int set = ioctl(vcpu, KVM_SET_SREGS, &s);
    struct kvm_translation t = {.linear_address = 0x123};
    int rc = ioctl(vcpu, KVM_TRANSLATE, &t);
    printf("finding: set %d translate %d: %llx valid %d writeable %d usermode %d\n", set, rc,
           (unsigned long long)t.physical_address, t.valid, t.writeable, t.usermode);
    for (int level = 0; level < 4; level++)
        printf("finding: level %d entry 0x%llx\n", 4 - level, ram[(level + 1) * 512]);
}
C
expect "set 0 translate 0: 5123 valid 1 writeable 1 usermode 0" "level 4 entry 0x2027" "level 3 entry 0x3027" \
    "level 2 entry 0x4027" "level 1 entry 0x5025"
