/* SPDX-License-Identifier: MIT */
/*
 * The KVM engine: a VM on /dev/kvm, its vCPUs, and the ops table.
 *
 * The interrupt controllers and the 8254 are KVM's own (irqchip, PIT2), one thread runs
 * each vCPU (the machine starts them), and time is the host's.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/engines.h"
#include "engine/kvm_vm.h"

/* Three pages that KVM keeps for real mode on Intel, below the local APIC (api.rst). */
#define TSS_ADDR          0xfffbd000u
#define IDENTITY_MAP_ADDR 0xfffbc000u

int kvm_error(struct pn_engine *e, const char *what) {
    int error = errno;
    snprintf(e->error, sizeof(e->error), "%s: %s", what, strerror(error));
    return -error;
}

static void kvm_destroy(struct pn_engine *e) {
    if (!e)
        return;
    kvm_stats_free(e);
    if (e->messages)
        kvm_messages_end(e);
    kvm_dirty_end(e);
    for (unsigned i = 0; e->vcpu && i < e->cpus; i++) {
        kvm_fallback_free(&e->vcpu[i]);
        if (e->vcpu[i].run && e->vcpu[i].run != MAP_FAILED)
            munmap(e->vcpu[i].run, e->run_size);
        if (e->vcpu[i].fd >= 0)
            close(e->vcpu[i].fd);
    }
    kvm_trace_end(e);
    kvm_slots_free(e);
    free(e->vcpu);
    pthread_mutex_destroy(&e->ring_lock);
    pthread_mutex_destroy(&e->slot_lock);
    pthread_mutex_destroy(&e->posted_lock);
    pthread_mutex_destroy(&e->own_lock);
    if (e->vm >= 0)
        close(e->vm);
    if (e->kvm >= 0)
        close(e->kvm);
    free(e);
}

static int create_vm(struct pn_engine *e) {
    do
        e->vm = ioctl(e->kvm, KVM_CREATE_VM, 0);
    while (e->vm < 0 && errno == EINTR);
    if (e->vm < 0)
        return kvm_error(e, errno == EBUSY
                                ? "KVM_CREATE_VM (does another hypervisor hold "
                                  "the CPU's virtualization?)"
                                : "KVM_CREATE_VM");
    return 0;
}

static int add_slots(struct pn_engine *e, const struct pn_engine_config *cfg) {
    for (unsigned i = 0; i < cfg->slot_count; i++) {
        int rc = kvm_set_slot(e, &cfg->slot[i]);
        if (rc) {
            snprintf(e->error, sizeof(e->error), "memslot %u: %s", cfg->slot[i].id,
                     strerror(-rc));
            return rc;
        }
    }
    return 0;
}

/* After the memslots: a memslot has to wait for the readers of what is made here. */
static int create_chips(struct pn_engine *e) {
    uint64_t identity = IDENTITY_MAP_ADDR;
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
    if (ioctl(e->vm, KVM_SET_TSS_ADDR, TSS_ADDR) < 0)
        return kvm_error(e, "KVM_SET_TSS_ADDR");
    if (ioctl(e->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0)
        return kvm_error(e, "KVM_SET_IDENTITY_MAP_ADDR");
    if (ioctl(e->vm, KVM_CREATE_IRQCHIP, 0) < 0)
        return kvm_error(e, "KVM_CREATE_IRQCHIP");
    if (ioctl(e->vm, KVM_CREATE_PIT2, &pit) < 0)
        return kvm_error(e, "KVM_CREATE_PIT2");
    int size = ioctl(e->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size < 0)
        return kvm_error(e, "KVM_GET_VCPU_MMAP_SIZE");
    e->run_size = (size_t)size;
#ifdef KVM_CAP_EXIT_ON_EMULATION_FAILURE
    struct kvm_enable_cap cap = {.cap = KVM_CAP_EXIT_ON_EMULATION_FAILURE, .args[0] = 1};
    ioctl(e->vm, KVM_ENABLE_CAP,
          &cap); /* older KVMs exit all the same, without the bytes */
#endif
    kvm_state_begin(e);
    return 0;
}

static int create_vcpu(struct pn_engine *e, unsigned i, char *err, size_t err_size) {
    struct kvm_vcpu *v = &e->vcpu[i];
    v->fd = ioctl(e->vm, KVM_CREATE_VCPU, (unsigned long)i);
    if (v->fd < 0)
        return kvm_error(e, "KVM_CREATE_VCPU");
    v->run = mmap(NULL, e->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (v->run == MAP_FAILED)
        return kvm_error(e, "mmap of struct kvm_run");
    int rc = kvm_dirty_map_ring(e, v);
    if (rc == 0)
        rc = kvm_set_cpuid(e, v, err, err_size);
    if (rc == 0)
        kvm_reset_msrs(v);
    return rc;
}

static void on_kick(int signal) {
    (void)signal; /* KVM_RUN returns with EINTR: that is all */
}

static struct pn_engine *new_engine(const struct pn_engine_config *cfg) {
    struct pn_engine *e = calloc(1, sizeof(*e));
    if (!e)
        return NULL;
    e->vcpu = calloc(cfg->cpus, sizeof(*e->vcpu));
    if (!e->vcpu) {
        free(e);
        return NULL;
    }
    e->cpus = cfg->cpus;
    e->kvm = e->vm = -1;
    for (unsigned i = 0; i < cfg->cpus; i++)
        e->vcpu[i] = (struct kvm_vcpu){
            .engine = e, .index = i, .fd = -1, .kept.rng = cfg->seed + i};
    pthread_mutex_init(&e->ring_lock, NULL);
    pthread_mutex_init(&e->slot_lock, NULL);
    pthread_mutex_init(&e->posted_lock, NULL);
    pthread_mutex_init(&e->own_lock, NULL);
    e->bus = *cfg->bus;
    e->cpu_model = cfg->cpu_model;
    e->start_ns = host_ns() - cfg->start_ns;
    return e;
}

static int kvm_create(const struct pn_engine_config *cfg, struct pn_engine **out,
                      char *err, size_t err_size) {
    struct pn_engine *e = new_engine(cfg);
    if (!e)
        return -ENOMEM;
    err[0] = 0;
    int rc = pn_kvm_host_open(&e->host, &e->kvm);
    if (rc == 0)
        kvm_trace_begin(e, cfg->rings);
    if (rc)
        snprintf(e->error, sizeof(e->error), "%s", e->host.reason);
    struct sigaction sa = {.sa_handler = on_kick};
    sigaction(KICK_SIGNAL, &sa, NULL);
    if (rc == 0)
        rc = create_vm(e);
    if (rc == 0)
        rc = kvm_dirty_begin(e, cfg->tracker);
    if (rc == 0)
        rc = add_slots(e, cfg);
    if (rc == 0)
        rc = create_chips(e);
    if (rc == 0)
        rc = kvm_eventfd_begin(e, cfg->eventfds);
    if (rc == 0)
        rc = kvm_pv_begin(e, cfg);
    for (unsigned i = 0; rc == 0 && i < cfg->cpus; i++)
        rc = create_vcpu(e, i, err, err_size);
    if (rc == 0)
        rc = kvm_posted_begin(e, cfg);
    if (rc) {
        if (!err[0])
            snprintf(err, err_size, "kvm: %s", e->error[0] ? e->error : strerror(-rc));
        kvm_destroy(e);
        return rc;
    }
    kvm_stats_begin(e);
    *out = e;
    return 0;
}

static int kvm_irq(struct pn_engine *e, unsigned gsi, int level) {
    struct kvm_irq_level l = {.irq = gsi, .level = (uint32_t)level};
    return ioctl(e->vm, KVM_IRQ_LINE, &l) < 0 ? -errno : 0;
}

static void kvm_nmi(struct pn_engine *e, unsigned cpu) {
    ioctl(e->vcpu[cpu].fd, KVM_NMI, 0);
}

static uint64_t kvm_now(struct pn_engine *e) {
    return host_ns() - e->start_ns;
}

static struct pn_stats *kvm_stats(struct pn_engine *e, unsigned cpu) {
    return &e->vcpu[cpu].stats;
}

static const char *kvm_error_text(struct pn_engine *e) {
    return e->failed ? e->vcpu[e->failed - 1].error : e->error;
}

const struct pn_engine_ops engine_kvm = {
    .name = "kvm",
    .what = "the host's CPU through KVM",
    .host_cpu = true,
    .threaded = true,
    .create = kvm_create,
    .destroy = kvm_destroy,
    .set_slot = kvm_set_slot,
    .read_phys = kvm_read_phys,
    .write_phys = kvm_write_phys,
    .run = kvm_run,
    .kick = kvm_kick,
    .set_debug = kvm_set_debug,
    .debug_slots = 4,
    .debug_stop = kvm_debug_stop,
    .irq = kvm_irq,
    .msi = kvm_msi,
    .bell = kvm_bell,
    .nmi = kvm_nmi,
    .get_chips = kvm_get_chips,
    .set_chips = kvm_set_chips,
    .pit_mute = kvm_pit_mute,
    .now = kvm_now,
    .get_state = kvm_get_state,
    .set_state = kvm_set_state,
    .stats = kvm_stats,
    .cpuid = kvm_cpuid,
    .foreign_stats = kvm_foreign_stats,
    .counts = kvm_counts,
    .describe = kvm_describe,
    .no_linux = kvm_no_linux,
    .has_tracker = kvm_has_tracker,
    .dirty_harvest = kvm_dirty_harvest,
    .dump = kvm_dump,
    .trace_end = kvm_trace_end,
    .trace_hold = kvm_trace_hold,
    .trace_problem = kvm_trace_problem,
    .error = kvm_error_text,
};
