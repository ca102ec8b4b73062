#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A guest handles an exception by itself, without an exit, and goes on. On QEMU's software CPU the EXITINTINFO of the next
# #VMEXIT, whatever it is for, has that exception's vector and type without the valid bit (31); on a processor it is 0, for nothing
# was being delivered. A hypervisor that looks at the type alone, as KVM does since Linux 7.2, takes the exit for one in the
# middle of a delivery: it zaps a guest's page table where it else emulates the write to it.
# Seen: Linux 6.1.176-1, QEMU 7.2 (its software CPU, AMD's SVM), npt=1, by the tracepoint kvm_exit. On a processor: 0x00000000.
. "$(dirname "$0")/kvm.sh"
in_kvm 1 <<'C'
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#define SIZE 0x10000
static void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_TRUNC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        perror(path);
    close(fd);
}
/* What the first exit says behind the code at 0x1000, which ends with HLT: the second time, for the first one
 * brings the guest's pages. */
static void guest(const char *name, const unsigned char *code, unsigned size) {
    int kvm = open("/dev/kvm", O_RDWR), vm = ioctl(kvm, KVM_CREATE_VM, 0);
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    unsigned char *ram = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct kvm_userspace_memory_region r = {.memory_size = SIZE, .userspace_addr = (unsigned long)ram};
    struct kvm_run *run = mmap(0, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    struct kvm_regs regs = {.rip = 0x1000, .rflags = 2, .rsp = 0x8000};
    struct kvm_sregs s;
    char line[1024], *info;
    memcpy(ram + 0x1000, code, size);
    ram[3 * 4 + 1] = 0x20; /* the handler of #BP: 0:2000, IRET */
    ram[0x2000] = 0xcf;
    ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r);
    for (int i = 0; i < 2; i++) {
        ioctl(vcpu, KVM_GET_SREGS, &s);
        s.cs.base = s.cs.selector = 0;
        ioctl(vcpu, KVM_SET_SREGS, &s);
        ioctl(vcpu, KVM_SET_REGS, &regs);
        put("/t/trace", "");
        ioctl(vcpu, KVM_RUN, 0);
    }
    FILE *trace = fopen("/t/trace", "r");
    while (fgets(line, sizeof(line), trace))
        if (strstr(line, "kvm_exit:") && (info = strstr(line, "intr_info"))) {
            printf("finding: %s: exit %d %.20s\n", name, run->exit_reason, info);
            break;
        }
    fclose(trace);
}
void finding(void) {
    mkdir("/t", 0700);
    mount("t", "/t", "tracefs", 0, "");
    put("/t/events/kvm/kvm_exit/enable", "1");
    guest("NOP, HLT", (const unsigned char[]){0x90, 0xf4}, 2);
    guest("INT3, HLT", (const unsigned char[]){0xcc, 0xf4}, 2);
}
C
expect "NOP, HLT: exit 5 intr_info 0x00000000" "INT3, HLT: exit 5 intr_info 0x00000403"
