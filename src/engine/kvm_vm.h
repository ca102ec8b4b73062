/* SPDX-License-Identifier: MIT */
/* What the files of the KVM engine share. */
#ifndef ENGINE_KVM_VM_H
#define ENGINE_KVM_VM_H

#include <linux/kvm.h>
#include <pthread.h>

#include "penumbra/engine.h"
#include "penumbra/kvm_host.h"

struct kvm_vcpu {
    struct pn_engine *engine;
    unsigned index;
    int fd;
    struct kvm_run *run;
    pthread_t thread; /* the one inside run(); valid while `inside` */
    _Atomic int inside;
    _Atomic int stop; /* a kick that run() has not answered yet */
    struct pn_stats stats;
    uint64_t emulated; /* instructions that the software CPU ran for KVM */
};

struct pn_engine {
    struct pn_bus bus;
    int kvm, vm;
    size_t run_size;
    unsigned cpus;
    struct kvm_vcpu *vcpu;
    struct pn_kvm_host host;
    struct kvm_slot {
        struct pn_memslot slot;
        uint64_t
            *extra_dirty; /* pages that penumbra itself wrote since the last harvest */
    } * slots;
    unsigned slot_count, slot_capacity;
    uint64_t start_ns;
    struct kvm_fallback *fallback; /* kvm_fallback.c; made when first needed */
    const char *cpu_model;
    char error[512];
};

/* One line into e->error. Return: -errno as it was on entry. */
int kvm_error(struct pn_engine *e, const char *what);

/* kvm_cpuid.c. Return: 0, or -errno with a line in err. */
int kvm_set_cpuid(struct pn_engine *e, struct kvm_vcpu *v, char *err, size_t err_size);

/* What the guest sees of one leaf, after kvm_set_cpuid. */
void kvm_cpuid(struct pn_engine *e, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/* kvm_stats.c */
void kvm_foreign_stats(struct pn_engine *e, pn_foreign_stat_fn fn, void *opaque);

/* kvm_state.c. Return: 0 or -errno. */
int kvm_get_state(struct pn_engine *e, unsigned cpu, struct pn_cpu_state *s);
int kvm_set_state(struct pn_engine *e, unsigned cpu, const struct pn_cpu_state *s);

/* kvm_slot.c. */
int kvm_set_slot(struct pn_engine *e, const struct pn_memslot *slot);
size_t kvm_read_phys(struct pn_engine *e, pn_gpa gpa, void *buf, size_t size);
size_t kvm_write_phys(struct pn_engine *e, pn_gpa gpa, const void *buf, size_t size);
long kvm_dirty_harvest(struct pn_engine *e, uint32_t slot, uint64_t *bitmap,
                       size_t words);
void kvm_slots_free(struct pn_engine *e);

/* kvm_run.c */
enum pn_exit_reason kvm_run(struct pn_engine *e, unsigned cpu, uint64_t deadline);
void kvm_kick(struct pn_engine *e, unsigned cpu);

/* kvm_fallback.c: run the one instruction that KVM could not, on the software CPU.
 * Return: 0; -errno with a line in e->error. */
int kvm_fallback_step(struct pn_engine *e, struct kvm_vcpu *v);
void kvm_fallback_free(struct pn_engine *e);

#endif
