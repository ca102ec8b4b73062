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
    {KVM_CAP_MAX_VCPU_ID, "MAX_VCPU_ID", "APIC ids at most"},
    {KVM_CAP_IRQCHIP, "IRQCHIP", "PIC, IO-APIC and local APICs in the kernel"},
    {KVM_CAP_PIT2, "PIT2", "8254 in the kernel"},
    {KVM_CAP_PIT_STATE2, "PIT_STATE2", "the 8254 moves to another MMU"},
    {KVM_CAP_SET_TSS_ADDR, "SET_TSS_ADDR", "real mode on Intel"},
    {KVM_CAP_SET_IDENTITY_MAP_ADDR, "SET_IDENTITY_MAP_ADDR", "real mode on Intel"},
    {KVM_CAP_EXT_CPUID, "EXT_CPUID", "CPUID that the guest may see"},
    {KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT", "kicks without lost wake-ups"},
    {KVM_CAP_XSAVE, "XSAVE", "vector state"},
    {KVM_CAP_XCRS, "XCRS", "XCR0"},
    {KVM_CAP_DEBUGREGS, "DEBUGREGS", "debug registers"},
    {KVM_CAP_VCPU_EVENTS, "VCPU_EVENTS", "pending events"},
    {KVM_CAP_MP_STATE, "MP_STATE", "halted, or waiting for its start"},
    {KVM_CAP_GET_TSC_KHZ, "GET_TSC_KHZ", "TSC frequency"},
#ifdef KVM_CAP_VCPU_ATTRIBUTES
    {KVM_CAP_VCPU_ATTRIBUTES, "VCPU_ATTRIBUTES", "TSC of a guest that moves here"},
#endif
    {KVM_CAP_TSC_DEADLINE_TIMER, "TSC_DEADLINE_TIMER", "TSC-deadline timer"},
    {KVM_CAP_COALESCED_PIO, "COALESCED_PIO", "posted port writes"},
    {KVM_CAP_IOEVENTFD_ANY_LENGTH, "IOEVENTFD_ANY_LENGTH",
     "virtio queues notified without exits"},
    {KVM_CAP_IRQFD, "IRQFD", "messages sent by descriptors"},
    {KVM_CAP_IRQ_ROUTING, "IRQ_ROUTING", "their routes; the 8254 at the IO-APIC's pin 2"},
    {KVM_CAP_READONLY_MEM, "READONLY_MEM", "read-only memslots"},
    {KVM_CAP_SYNC_MMU, "SYNC_MMU", "host takes pages away"},
    {KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, "MANUAL_DIRTY_LOG_PROTECT2", "dirty log: CLEAR"},
    {KVM_CAP_DIRTY_LOG_RING, "DIRTY_LOG_RING", "dirty ring: bytes at most"},
#ifdef KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP
    {KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, "DIRTY_LOG_RING_WITH_BITMAP",
     "a bitmap beside it, for writes of no vCPU: KVM has them on arm64 alone"},
#endif
#ifdef KVM_CAP_BINARY_STATS_FD
    {KVM_CAP_BINARY_STATS_FD, "BINARY_STATS_FD", "KVM's own counters"},
#endif
    {KVM_CAP_HALT_POLL, "HALT_POLL", "halt polling per VM"},
    {KVM_CAP_STEAL_TIME, "STEAL_TIME", "steal time"},
    {KVM_CAP_ENFORCE_PV_FEATURE_CPUID, "ENFORCE_PV_FEATURE_CPUID", "--pv is enforced"},
    {KVM_CAP_ADJUST_CLOCK, "ADJUST_CLOCK", "kvmclock"},
#ifdef KVM_CAP_EXIT_ON_EMULATION_FAILURE
    {KVM_CAP_EXIT_ON_EMULATION_FAILURE, "EXIT_ON_EMULATION_FAILURE",
     "the instruction that KVM could not emulate"},
#endif
};
/* Parameters that shape what KVM does with memory. */
static const struct {
    const char *module, *name, *what;
} params[] = {
    {"kvm", "tdp_mmu", "second-level tables changed by several vCPUs at once"},
    {"kvm", "nx_huge_pages", "huge pages are not executable (iTLB multihit)"},
    {"kvm", "eager_page_split", "huge pages are split when dirty logging begins"},
    {"kvm", "mmio_caching", "MMIO is recognised by its mapping"},
    {"kvm", "flush_on_reuse", "TLB flush when a shadow root is used again"},
    {"kvm", "halt_poll_ns", "a halted vCPU polls that long before it sleeps"},
    {"kvm_intel", "ept", "second-level tables"},
    {"kvm_intel", "eptad", "accessed and dirty bits in them"},
    {"kvm_intel", "pml", "page-modification logging"},
    {"kvm_intel", "vpid", "TLB entries tagged by vCPU"},
    {"kvm_intel", "unrestricted_guest", "real mode runs natively"},
    {"kvm_intel", "enable_apicv", "APIC virtualised by the CPU"},
    {"kvm_intel", "nested", "guests may be hypervisors"},
    {"kvm_amd", "npt", "second-level tables"},
    {"kvm_amd", "avic", "APIC virtualised by the CPU"},
    {"kvm_amd", "nested", "guests may be hypervisors"},
};
_Static_assert(sizeof(params) / sizeof(params[0]) <= PN_KVM_PARAMS, "params do not fit");
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

static bool cpu_has(const char *flag) {
    char line[8192], *save = NULL;
    FILE *f = fopen("/proc/cpuinfo", "re");
    bool has = false;
    while (f && fgets(line, sizeof(line), f))
        if (!strncmp(line, "flags", 5)) {
            for (char *w = strtok_r(line, " \t:\n", &save); w && !has;
                 w = strtok_r(NULL, " \t:\n", &save))
                has = !strcmp(w, flag);
            break;
        }
    if (f)
        fclose(f);
    return has;
}

/* A module built into the kernel is in /sys/module even where its hardware is absent:
 * with several to choose from, CPU flags rule those out. They never decide by themselves.
 */
static const struct vendor {
    const char *module, *param, *flag;
} vendors[] = {
    {"kvm_intel", "ept", "vmx"}, {"kvm_amd", "npt", "svm"}, {"kvm_pvm", NULL, NULL}};
#define VENDORS (sizeof(vendors) / sizeof(vendors[0]))

static const struct vendor *find_vendor(void) {
    const struct vendor *found = NULL;
    unsigned loaded = 0, left = 0;
    for (size_t i = 0; i < VENDORS; i++)
        loaded += module_loaded(vendors[i].module);
    for (size_t i = 0; i < VENDORS; i++) {
        const struct vendor *v = &vendors[i];
        if (!module_loaded(v->module) || (loaded > 1 && v->flag && !cpu_has(v->flag)))
            continue;
        found = v;
        left++;
    }
    return left == 1 ? found : NULL;
}

static void find_mmu(struct pn_kvm_host *h) {
    const struct vendor *v = find_vendor();
    h->tdp_mmu = module_param("kvm", "tdp_mmu");
    snprintf(h->vendor, sizeof(h->vendor), "%s", v ? v->module : "");
    if (v && !v->param) {
        snprintf(h->found_by, sizeof(h->found_by),
                 "/sys/module/kvm_pvm: KVM without VMX or SVM, so without EPT or NPT");
        h->mmu = PN_KVM_MMU_SOFTWARE;
        return;
    }
    int on = v ? module_param(v->module, v->param) : -1;
    if (on >= 0) {
        snprintf(h->found_by, sizeof(h->found_by), "/sys/module/%s/parameters/%s is %s",
                 v->module, v->param, on ? "on" : "off");
        h->mmu = on ? PN_KVM_MMU_TDP : PN_KVM_MMU_SHADOW;
    } else if (h->tdp_mmu == 1) { /* KVM switches it off where there is no TDP */
        snprintf(h->found_by, sizeof(h->found_by),
                 "/sys/module/kvm/parameters/tdp_mmu is on");
        h->mmu = PN_KVM_MMU_TDP;
    } else {
        snprintf(h->found_by, sizeof(h->found_by), "%s",
                 v ? "the vendor module's parameter cannot be read"
                   : "no one vendor module that penumbra knows in /sys/module");
    }
}

static void fail(struct pn_kvm_host *h, enum pn_kvm_status status, int error,
                 const char *reason) {
    h->status = status;
    h->error = error;
    snprintf(h->reason, sizeof(h->reason), "%s", reason);
}

static void open_failed(struct pn_kvm_host *h, int error) {
    bool hardware = cpu_has("vmx") || cpu_has("svm");
    switch (error) {
    case ENOENT:
        fail(h, PN_KVM_ABSENT, error,
             hardware ? "/dev/kvm is absent: load kvm_intel or kvm_amd"
                      : "/dev/kvm is absent, and this CPU shows no virtualization: turn "
                        "it on in the firmware, or nested virtualization in the "
                        "hypervisor around");
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

int pn_kvm_host_open(struct pn_kvm_host *h, int *fd) {
    memset(h, 0, sizeof(*h));
    find_mmu(h);
    *fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (*fd < 0) {
        open_failed(h, errno);
        return -h->error;
    }
    h->api = ioctl(*fd, KVM_GET_API_VERSION, 0);
    if (h->api == KVM_API_VERSION)
        return 0;
    fail(h, PN_KVM_BAD_API, 0,
         h->api < 0 ? "/dev/kvm is no KVM: it knows no API version"
                    : "/dev/kvm: not API version 12");
    close(*fd);
    *fd = -1;
    return -ENODEV;
}

static void read_params(struct pn_kvm_host *h) {
    for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++) {
        char path[128];
        unsigned n = h->param_count;
        snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", params[i].module,
                 params[i].name);
        if (read_line(path, h->param[n].value, sizeof(h->param[n].value)) <= 0)
            continue;
        h->param[n].module = params[i].module;
        h->param[n].name = params[i].name;
        h->param[n].what = params[i].what;
        h->param_count++;
    }
}

static int count_stats(int owner) {
    struct kvm_stats_header head;
    int fd = ioctl(owner, KVM_GET_STATS_FD, NULL), count = 0;
    if (fd >= 0 && pread(fd, &head, sizeof(head), 0) == (ssize_t)sizeof(head))
        count = (int)head.num_desc;
    if (fd >= 0)
        close(fd);
    return count;
}

/* What only a VM and a vCPU tell. */
static void look_inside(struct pn_kvm_host *h, int vm) {
    h->stats_vm = count_stats(vm);
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    if (vcpu < 0)
        return;
    h->stats_vcpu = count_stats(vcpu);
    int khz = ioctl(vcpu, KVM_GET_TSC_KHZ, 0);
    h->tsc_khz = khz > 0 ? khz : 0;
    close(vcpu);
}

void pn_kvm_host_probe(struct pn_kvm_host *h) {
    int fd, vm;
    int rc = pn_kvm_host_open(h, &fd);
    read_params(h);
    if (rc)
        return;
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
    if (vm >= 0) {
        look_inside(h, vm);
        close(vm);
    }
    close(fd);
}

int pn_kvm_host_cap(const struct pn_kvm_host *h, const char *name) {
    for (unsigned i = 0; i < h->cap_count; i++)
        if (!strcmp(h->cap[i].name, name))
            return h->cap[i].value;
    return 0;
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
