/* SPDX-License-Identifier: MIT */
/*
 * Looks at /dev/kvm. Which MMU KVM uses is its module's decision, and only the module's
 * parameter tells it: CPU flags say what could be, not what is.
 */
#include "penumbra/kvm_host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const struct {
    int cap;
    const char *name, *used_for;
} caps[] = {
    {KVM_CAP_USER_MEMORY, "USER_MEMORY", "guest memory"},
    {KVM_CAP_NR_MEMSLOTS, "NR_MEMSLOTS", "memslots at most"},
    {KVM_CAP_NR_VCPUS, "NR_VCPUS", "vCPUs recommended"},
    {KVM_CAP_MAX_VCPUS, "MAX_VCPUS", "vCPUs at most"},
    {KVM_CAP_IRQCHIP, "IRQCHIP", "PIC, IO-APIC and local APICs in the kernel"},
    {KVM_CAP_PIT2, "PIT2", "8254 in the kernel"},
    {KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT", "kicks without lost wake-ups"},
    {KVM_CAP_SYNC_REGS, "SYNC_REGS", "registers shared at exits"},
    {KVM_CAP_XSAVE, "XSAVE", "vector state"},
    {KVM_CAP_XCRS, "XCRS", "XCR0"},
    {KVM_CAP_DEBUGREGS, "DEBUGREGS", "debug registers"},
    {KVM_CAP_VCPU_EVENTS, "VCPU_EVENTS", "pending events"},
    {KVM_CAP_TSC_CONTROL, "TSC_CONTROL", "TSC frequency"},
    {KVM_CAP_TSC_DEADLINE_TIMER, "TSC_DEADLINE_TIMER", "TSC-deadline timer"},
    {KVM_CAP_X2APIC_API, "X2APIC_API", "x2APIC ids"},
    {KVM_CAP_COALESCED_MMIO, "COALESCED_MMIO", "posted MMIO writes"},
    {KVM_CAP_COALESCED_PIO, "COALESCED_PIO", "posted port writes"},
    {KVM_CAP_IOEVENTFD, "IOEVENTFD", "device doorbells without an exit"},
    {KVM_CAP_IRQFD, "IRQFD", "device interrupts without an ioctl"},
    {KVM_CAP_READONLY_MEM, "READONLY_MEM", "read-only memslots"},
    {KVM_CAP_SYNC_MMU, "SYNC_MMU", "host takes pages away"},
    {KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, "MANUAL_DIRTY_LOG_PROTECT2", "dirty log: CLEAR"},
    {KVM_CAP_DIRTY_LOG_RING, "DIRTY_LOG_RING", "dirty ring: bytes at most"},
#ifdef KVM_CAP_BINARY_STATS_FD
    {KVM_CAP_BINARY_STATS_FD, "BINARY_STATS_FD", "KVM's own counters"},
#endif
    {KVM_CAP_HALT_POLL, "HALT_POLL", "halt polling per VM"},
    {KVM_CAP_STEAL_TIME, "STEAL_TIME", "steal time"},
    {KVM_CAP_ADJUST_CLOCK, "ADJUST_CLOCK", "kvmclock"},
#ifdef KVM_CAP_EXIT_ON_EMULATION_FAILURE
    {KVM_CAP_EXIT_ON_EMULATION_FAILURE, "EXIT_ON_EMULATION_FAILURE",
     "the instruction that KVM could not emulate"},
#endif
    {KVM_CAP_X86_USER_SPACE_MSR, "X86_USER_SPACE_MSR", "MSRs answered by penumbra"},
    {KVM_CAP_SET_GUEST_DEBUG, "SET_GUEST_DEBUG", "breakpoints, stepping"},
};
_Static_assert(sizeof(caps) / sizeof(caps[0]) <= PN_KVM_CAPS, "caps do not fit");

/* Return: bytes read (newline cut off, terminated), or -1. */
static int read_line(const char *path, char *buf, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, buf, size - 1);
    close(fd);
    if (n < 0)
        return -1;
    buf[n] = 0;
    buf[strcspn(buf, "\n")] = 0;
    return (int)strlen(buf);
}

/* Return: a Y/N or numeric module parameter, or -1 when it cannot be read. */
static int module_param(const char *module, const char *param) {
    char path[128], text[32];
    snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", module, param);
    if (read_line(path, text, sizeof(text)) <= 0)
        return -1;
    if (text[0] == 'Y' || text[0] == 'N')
        return text[0] == 'Y';
    int value;
    return sscanf(text, "%d", &value) == 1 ? value : -1;
}

static bool module_loaded(const char *module) {
    char path[64];
    snprintf(path, sizeof(path), "/sys/module/%s", module);
    return access(path, F_OK) == 0;
}

static void find_mmu(struct pn_kvm_host *h) {
    static const struct {
        const char *module, *param;
    } vendors[] = {{"kvm_intel", "ept"}, {"kvm_amd", "npt"}};

    for (size_t i = 0; i < 2; i++) {
        if (!module_loaded(vendors[i].module))
            continue;
        int on = module_param(vendors[i].module, vendors[i].param);
        snprintf(h->vendor, sizeof(h->vendor), "%s", vendors[i].module);
        snprintf(h->found_by, sizeof(h->found_by), "/sys/module/%s/parameters/%s is %s",
                 vendors[i].module, vendors[i].param,
                 on < 0 ? "unreadable"
                 : on   ? "on"
                        : "off");
        h->mmu = on < 0 ? PN_KVM_MMU_UNKNOWN : on ? PN_KVM_MMU_TDP : PN_KVM_MMU_SHADOW;
        return;
    }
    if (module_loaded("kvm_pvm")) {
        snprintf(h->vendor, sizeof(h->vendor), "kvm_pvm");
        snprintf(
            h->found_by, sizeof(h->found_by),
            "/sys/module/kvm_pvm: KVM without VMX or SVM, which has shadow paging only");
        h->mmu = PN_KVM_MMU_SOFTWARE;
        return;
    }
    snprintf(h->found_by, sizeof(h->found_by),
             "no vendor module that penumbra knows in /sys/module");
}

static void fail(struct pn_kvm_host *h, enum pn_kvm_status status, int error,
                 const char *reason) {
    h->status = status;
    h->error = error;
    snprintf(h->reason, sizeof(h->reason), "%s", reason);
}

static void open_failed(struct pn_kvm_host *h, int error) {
    switch (error) {
    case ENOENT:
        fail(h, PN_KVM_ABSENT, error,
             "/dev/kvm is absent: load kvm_intel or kvm_amd, or turn virtualization on "
             "in the "
             "firmware (in a VM: nested virtualization)");
        break;
    case EACCES:
    case EPERM:
        fail(h, PN_KVM_PERMISSION, error,
             "/dev/kvm: permission denied: join the group kvm, or run as root");
        break;
    case ENODEV:
    case ENXIO:
        fail(h, PN_KVM_NO_MODULE, error,
             "/dev/kvm has no driver behind it: load kvm_intel or kvm_amd");
        break;
    default:
        h->status = PN_KVM_ERROR;
        h->error = error;
        snprintf(h->reason, sizeof(h->reason), "/dev/kvm: %s", strerror(error));
    }
}

void pn_kvm_host_probe(struct pn_kvm_host *h) {
    memset(h, 0, sizeof(*h));
    h->tdp_mmu = module_param("kvm", "tdp_mmu");
    h->nx_huge_pages = module_param("kvm", "nx_huge_pages");
    h->halt_poll_ns = module_param("kvm", "halt_poll_ns");
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        open_failed(h, errno);
        return;
    }
    find_mmu(h);
    h->api = ioctl(fd, KVM_GET_API_VERSION, 0);
    if (h->api != KVM_API_VERSION) {
        fail(h, PN_KVM_BAD_API, 0, "/dev/kvm: not API version 12");
        close(fd);
        return;
    }
    int vm;
    do
        vm = ioctl(fd, KVM_CREATE_VM, 0);
    while (vm < 0 && errno == EINTR);
    if (vm < 0) {
        h->status = PN_KVM_VM_REFUSED;
        h->error = errno;
        snprintf(h->reason, sizeof(h->reason), "KVM_CREATE_VM: %s", strerror(errno));
    }
    for (size_t i = 0; i < sizeof(caps) / sizeof(caps[0]); i++) {
        int value = ioctl(vm >= 0 ? vm : fd, KVM_CHECK_EXTENSION, caps[i].cap);
        h->cap[h->cap_count].name = caps[i].name;
        h->cap[h->cap_count].used_for = caps[i].used_for;
        h->cap[h->cap_count++].value = value < 0 ? 0 : value;
    }
    if (vm >= 0)
        close(vm);
    close(fd);
}

const char *pn_kvm_mmu_name(enum pn_kvm_mmu mmu) {
    static const char *const names[] = {
        [PN_KVM_MMU_UNKNOWN] = "unknown",
        [PN_KVM_MMU_TDP] = "TDP",
        [PN_KVM_MMU_SHADOW] = "shadow",
        [PN_KVM_MMU_SOFTWARE] = "shadow (software)",
    };
    return names[mmu];
}
