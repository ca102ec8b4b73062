/* SPDX-License-Identifier: MIT */
/*
 * The least that a VMM with KVM's interrupt controllers does before its guest runs. The
 * order is kvmtool's (kvmtool/x86/kvm.c, kvmtool/kvm.c, kvmtool/kvm-cpu.c). There are no
 * devices, no options and no loader. The startup benchmark measures this program where
 * kvmtool itself is not installed.
 */
#include "bench/startup/least.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define TSS_ADDR  0xfffbd000u
#define ENTRY     0x7c00u
#define COM1      0x3f8u
#define CPUID_MAX 256u

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return 1;
}

static int make_vm(int kvm, size_t size, uint8_t **ram) {
    struct kvm_pit_config pit = {0};
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm < 0 || ioctl(vm, KVM_SET_TSS_ADDR, TSS_ADDR) < 0)
        return -1;
    *ram = mmap(NULL, size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*ram == MAP_FAILED || ioctl(vm, KVM_CREATE_IRQCHIP, 0) < 0 ||
        ioctl(vm, KVM_CREATE_PIT2, &pit) < 0)
        return -1;
    struct kvm_userspace_memory_region slot = {.memory_size = size,
                                               .userspace_addr = (uintptr_t)*ram};
    return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0 ? -1 : vm;
}

static int set_cpuid(int kvm, int vcpu) {
    struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + CPUID_MAX * sizeof(c->entries[0]));
    if (!c)
        return -1;
    c->nent = CPUID_MAX;
    int rc =
        ioctl(kvm, KVM_GET_SUPPORTED_CPUID, c) < 0 ? -1 : ioctl(vcpu, KVM_SET_CPUID2, c);
    free(c);
    return rc;
}

/* Real mode at ENTRY. */
static int set_entry(int vcpu) {
    struct kvm_sregs s;
    struct kvm_regs r = {.rip = ENTRY, .rflags = 2};
    if (ioctl(vcpu, KVM_GET_SREGS, &s) < 0)
        return -1;
    s.cs.base = s.cs.selector = 0;
    return ioctl(vcpu, KVM_SET_SREGS, &s) < 0 ? -1 : ioctl(vcpu, KVM_SET_REGS, &r);
}

static int run(int vcpu, struct kvm_run *r) {
    for (;;) {
        if (ioctl(vcpu, KVM_RUN, 0) < 0 && errno != EINTR)
            return fail("KVM_RUN");
        if (r->exit_reason != KVM_EXIT_IO || r->io.port != COM1 ||
            write(STDOUT_FILENO, (uint8_t *)r + r->io.data_offset, 1) != 1)
            return fail("exit");
    }
}

int least_vmm(const void *code, size_t code_size, size_t ram_size) {
    uint8_t *ram;
    int kvm = open("/dev/kvm", O_RDWR);
    if (kvm < 0 || ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
        return fail("/dev/kvm");
    int vm = make_vm(kvm, ram_size, &ram);
    if (vm < 0)
        return fail("VM");
    memcpy(ram + ENTRY, code, code_size);
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (vcpu < 0 || size < 0)
        return fail("vCPU");
    struct kvm_run *r =
        mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (r == MAP_FAILED || set_cpuid(kvm, vcpu) < 0 || set_entry(vcpu) < 0)
        return fail("vCPU's state");
    return run(vcpu, r);
}
