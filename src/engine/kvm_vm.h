/* SPDX-License-Identifier: MIT */
/* What the files of the KVM engine share. */
#ifndef ENGINE_KVM_VM_H
#define ENGINE_KVM_VM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>

#include "penumbra/engine.h"
#include "penumbra/kvm_host.h"
#include "penumbra/x86.h"

#define KICK_SIGNAL  SIGRTMIN
#define KVM_MESSAGES 64u /* that can have routes at once */

/* What was set and KVM has no place for. */
struct kvm_kept {
    uint64_t rng; /* the software CPU's RDRAND */
    /* What this KVM lacks: a guest of its cannot change it. */
    uint64_t msr[PN_MSRS], msr_known;
    uint32_t pkru;
    uint64_t ssp;
    /* Until the vCPU runs: */
    bool holds;
    uint64_t msr_refused; /* KVM has them, and did not take the value */
    uint8_t intr_shadow;
    uint32_t db_pending, fault_streak;
    uint64_t vmcb, v_int_ctl;           /* SVM's, of no meaning outside its guest */
    uint64_t vmxon, vmcs, vmx_timer_at; /* VMX's, in the same way */
    uint16_t pauses;
};

struct kvm_vcpu {
    struct pn_engine *engine;
    unsigned index;
    int fd;
    struct kvm_run *run;
    pid_t tid; /* the thread inside run(); valid while `inside` */
    _Atomic int inside;
    _Atomic int stop; /* a kick that run() has not answered yet */
    struct pn_stats stats;
    struct kvm_kept kept;
    uint64_t emulated;        /* instructions that the software CPU ran for KVM */
    uint64_t redelivered;     /* KVM_RUN once more after KVM_INTERNAL_ERROR_DELIVERY_EV */
    unsigned redelivered_now; /* in a row */
    struct {                  /* kvm_debug.c */
        const struct pn_debug *set;
        bool on;         /* KVM has been told to debug */
        unsigned breaks; /* how many of the debug registers are breakpoints */
        struct pn_debug_stop stop;
        uint64_t rip; /* where it stopped */
    } debug;
    struct kvm_dirty_gfn *ring; /* kvm_dirty.c; NULL without PN_TRACKER_RING */
    uint32_t ring_at;
    struct kvm_fallback *fallback; /* kvm_fallback.c; made when first needed */
    char error[400];               /* why run() gave PN_EXIT_ERROR or _SHUTDOWN */
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
    _Atomic unsigned slot_changes; /* so that a fallback CPU knows that its own are old */
    pthread_mutex_t slot_lock;     /* guards slots: vCPU threads read them too */
    uint64_t start_ns;
    bool sregs2, payload;    /* KVM_CAP_SREGS2, KVM_CAP_EXCEPTION_PAYLOAD */
    bool nested, nested_svm; /* the guest may be a hypervisor, by SVM or by VMX */
    bool msrs_asked;
    uint64_t msrs_known; /* kvm_state.c: by enum pn_msr_id */
    uint64_t xcr0;       /* what the guest's XCR0 may hold */
    enum pn_dirty_tracker tracker;
    unsigned ring_bytes;
    pthread_mutex_t ring_lock;
    struct kvm_baseline *baseline; /* kvm_stats.c: counters before the first run */
    const char *cpu_model;
    uint32_t pv;                            /* penumbra/pv.h */
    struct kvm_coalesced_mmio_ring *posted; /* kvm_posted.c; NULL: none */
    uint32_t posted_size;
    uint64_t posted_writes; /* taken out of it */
    pthread_mutex_t posted_lock;
    bool bells, messages; /* kvm_eventfd.c: are there ioeventfds, and irqfds? */
    struct kvm_message {
        int fd; /* its route's; -1: none */
        uint32_t data;
        uint64_t address;
        unsigned sent; /* often, or lately */
    } message[KVM_MESSAGES];
    struct kvm_trace *trace;   /* kvm_trace.c; NULL: not recorded */
    uint64_t trace_time;       /* the rings' clock */
    struct pn_ring *own_rings; /* where there are no tracepoints; else NULL */
    pthread_mutex_t own_lock;  /* of own_rings, and of trace_time then */
    char trace_problem[160];   /* why not, where it was asked for */
    _Atomic int failed;        /* 1 + the first vCPU whose run() failed */
    char error[400];           /* of create() and set_slot() */
};

/* One line into e->error. Return: -errno as it was on entry. */
int kvm_error(struct pn_engine *e, const char *what);
/* One line into the vCPU's error; the first vCPU that fails is the engine's error. */
void kvm_fail(struct kvm_vcpu *v, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* kvm_cpuid.c. Return: 0, or -errno with a line in err. */
int kvm_set_cpuid(struct pn_engine *e, struct kvm_vcpu *v, char *err, size_t err_size);

/* What the guest sees of one leaf, after kvm_set_cpuid. */
void kvm_cpuid(struct pn_engine *e, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/* kvm_pv.c. begin: the VM is made, its vCPUs not. Return: 0, or -errno with a line in
 * e->error. */
int kvm_pv_begin(struct pn_engine *e, const struct pn_engine_config *cfg);
/* What of KVM's paravirtual leaves the guest may see. */
void kvm_pv_cpuid(struct pn_engine *e, struct kvm_vcpu *v, struct kvm_cpuid2 *c);

/* kvm_posted.c. begin: the vCPUs are made. Return as kvm_pv_begin. */
int kvm_posted_begin(struct pn_engine *e, const struct pn_engine_config *cfg);
/* Give posted writes to their devices: whenever a vCPU has come out. */
void kvm_posted_drain(struct pn_engine *e);

/* kvm_eventfd.c. begin: the chips are made. Return as kvm_pv_begin. */
int kvm_eventfd_begin(struct pn_engine *e, bool wanted);
/* Nothing that was sent by a descriptor is on its way any more. */
void kvm_messages_end(struct pn_engine *e);
int kvm_bell(struct pn_engine *e, int fd, pn_gpa gpa, bool on);
int kvm_msi(struct pn_engine *e, uint64_t address, uint32_t data);

/* kvm_trace.c: KVM's tracepoints into the rings, from the VM's creation to the end of the
 * run. Where they cannot be had the run goes on, and kvm_trace_problem says why. */
void kvm_trace_begin(struct pn_engine *e, struct pn_ring *rings);
void kvm_trace_end(struct pn_engine *e);
/* What reached our devices, where there are no tracepoints. */
void kvm_trace_mmio(struct pn_engine *e, unsigned cpu, const struct kvm_run *r,
                    uint64_t value);
/* struct pn_engine_ops */
void kvm_trace_hold(struct pn_engine *e, bool hold);
const char *kvm_trace_problem(struct pn_engine *e);

/* kvm_stats.c */
void kvm_stats_begin(struct pn_engine *e);
void kvm_foreign_stats(struct pn_engine *e, pn_foreign_stat_fn fn, void *opaque);
void kvm_stats_free(struct pn_engine *e);
bool kvm_counts(enum pn_stat id);

/* kvm_report.c: what a person reads about a vCPU and the host's MMU. */
void kvm_dump(struct pn_engine *e, unsigned cpu, FILE *out);
void kvm_describe(struct pn_engine *e, char *buf, size_t size);
const char *kvm_no_linux(struct pn_engine *e);
/* "mov eax, [rbx]" at the vCPU's RIP; bytes: what KVM said they are, or NULL to read
 * them from the guest. */
void kvm_insn_text(struct kvm_vcpu *v, const uint8_t *bytes, size_t size, char *text,
                   size_t text_size);

/* kvm_state.c. begin: the VM is made, its vCPUs not. Return: 0 or -errno. */
void kvm_state_begin(struct pn_engine *e);
int kvm_get_state(struct pn_engine *e, unsigned cpu, struct pn_cpu_state *s);
int kvm_set_state(struct pn_engine *e, unsigned cpu, const struct pn_cpu_state *s);
/* What a new vCPU has otherwise than a processor after reset. */
void kvm_reset_msrs(struct kvm_vcpu *v);

/* kvm_get_state without the local APIC and the paravirtual MSRs: what one instruction can
 * change. */
int kvm_get_cpu(struct kvm_vcpu *v, struct pn_cpu_state *s);

/* kvm_nested.c. may_nest: the model has svm or vmx, `by`. Return: 0, or -errno with a line in
 * err. */
int kvm_may_nest(struct pn_engine *e, const char *by, char *err, size_t err_size);
/* get: into s->nested, and SVM's rows. leave: the vCPU runs no guest of its guest's, and is in no
 * VMX operation: before its registers are set. set: after its system registers, and before all
 * others. Return: 0, or -1 with errno. */
int kvm_get_nested(struct kvm_vcpu *v, struct pn_cpu_state *s);
int kvm_leave_nested(struct kvm_vcpu *v);
int kvm_set_nested(struct kvm_vcpu *v, const struct pn_cpu_state *s);
bool kvm_runs_nested(const struct pn_cpu_state *s);

/* kvm_lapic.c: the page of registers. get: a timer that has expired is in it as an
 * interrupt; that may end the vCPU's HLT. Return: 0 or -errno. */
int kvm_get_lapic(struct kvm_vcpu *v, struct kvm_lapic_state *l);
int kvm_set_lapic(struct kvm_vcpu *v, const uint8_t *page);

/* kvm_chips.c. Return: 0 or -errno. */
int kvm_get_chips(struct pn_engine *e, struct pn_chips *s);
void kvm_pit_mute(struct pn_engine *e, bool on);
int kvm_set_chips(struct pn_engine *e, const struct pn_chips *s, uint32_t lines);

/* kvm_slot.c. */
int kvm_set_slot(struct pn_engine *e, const struct pn_memslot *slot);
size_t kvm_read_phys(struct pn_engine *e, pn_gpa gpa, void *buf, size_t size);
size_t kvm_write_phys(struct pn_engine *e, pn_gpa gpa, const void *buf, size_t size);
struct kvm_slot *kvm_slot_find(struct pn_engine *e, uint32_t id); /* or NULL */
void kvm_slots_free(struct pn_engine *e);

/* kvm_dirty.c. begin: after the VM is made, before its vCPUs; map_ring: for each vCPU.
 * Return: 0, or -errno with a line in e->error. */
int kvm_dirty_begin(struct pn_engine *e, enum pn_dirty_tracker tracker);
int kvm_dirty_map_ring(struct pn_engine *e, struct kvm_vcpu *v);
void kvm_dirty_end(struct pn_engine *e);
bool kvm_has_tracker(enum pn_dirty_tracker tracker);
long kvm_dirty_harvest(struct pn_engine *e, uint32_t slot, uint64_t *bitmap,
                       size_t words);
/* Take what is in the rings. Return: 0 or -errno. */
int kvm_dirty_empty_rings(struct pn_engine *e);

/* kvm_run.c */
enum pn_exit_reason kvm_run(struct pn_engine *e, unsigned cpu, uint64_t deadline);
void kvm_kick(struct pn_engine *e, unsigned cpu);

/* kvm_debug.c: see pn_engine_ops. exit: KVM_EXIT_DEBUG has come. */
int kvm_set_debug(struct pn_engine *e, unsigned cpu, const struct pn_debug *d, bool step);
void kvm_debug_exit(struct kvm_vcpu *v);
void kvm_debug_stop(struct pn_engine *e, unsigned cpu, struct pn_debug_stop *stop);

/* kvm_fallback.c: run the one instruction that KVM could not, on the software CPU.
 * Return: 0; 1 when it is a triple fault; -errno with a line in v->error. */
int kvm_fallback_step(struct pn_engine *e, struct kvm_vcpu *v);
/* Bytes that a vCPU in that state would fetch from a linear address. The walk changes
 * nothing in the guest; KVM_TRANSLATE would set accessed bits. Return: bytes read. */
size_t kvm_fallback_fetch(struct kvm_vcpu *v, const struct pn_cpu_state *s, uint64_t lin,
                          uint8_t *buf, size_t size);
void kvm_fallback_free(struct kvm_vcpu *v);

#endif
