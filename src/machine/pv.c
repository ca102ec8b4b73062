/* SPDX-License-Identifier: MIT */
/*
 * KVM's paravirtual interface: see pv.h. Facts: Linux, Documentation/virt/kvm/x86/msr.rst
 * and hypercalls.rst.
 *
 * Invariants
 * 1. Nothing here trusts an address of the guest's: a structure is written only where
 *    all of it is RAM, and always through the engine, so that dirty logs, shadow pages
 *    and translated code see it.
 * 2. Time is the machine's clock: under --clock virtual two equal runs read equal times.
 * 3. While a vCPU runs, its pvclock agrees with the machine's clock to the nanosecond.
 * Locking: none; one thread runs all vCPUs.
 */
#include "machine/pv.h"

#include <errno.h>
#include <string.h>

#include "penumbra/x86.h"

#define MSR_ENABLED         1u
#define STEAL_TIME_RESERVED 0x3eu
#define EOI_RESERVED        0x2u

enum { HC_VAPIC_POLL_IRQ = 1, HC_KICK_CPU = 5, HC_SEND_IPI = 10, HC_SCHED_YIELD = 11 };
#define HC_ENOSYS 1000
#define HC_EINVAL 22

/* What an ICR given to HC_SEND_IPI may not have: destination mode, shorthand. */
#define ICR_DEST      0x800u
#define ICR_SHORTHAND 0xc0000u

struct wall_clock {
    uint32_t version, sec, nsec;
};

struct system_time {
    uint32_t version, pad0;
    uint64_t tsc, ns;
    uint32_t mul;
    int8_t shift;
    uint8_t flags, pad[2];
};
#define TIME_STABLE 1u /* no vCPU's time is ever behind another's */
_Static_assert(sizeof(struct system_time) == 32, "as in msr.rst");

struct steal_time {
    uint64_t steal;
    uint32_t version, flags;
    uint8_t preempted, pad8[3];
    uint32_t pad[11];
};
#define PREEMPTED 1u
_Static_assert(sizeof(struct steal_time) == 64, "as in msr.rst");

struct pv_cpu_state {
    uint64_t time_msr, steal_msr, eoi_msr;
    uint64_t tsc_offset;   /* that the guest was last told: TSC at clock 0 */
    uint64_t ready_since;  /* it could run and does not; CLOCK_NEVER: neither */
    uint64_t eoi_at;       /* where the offered EOI's bit is */
    uint32_t time_version; /* even */
    uint8_t kicked;        /* before it halted */
};

struct pv_cpu {
    struct device dev;
    struct pv_cpu_state s;
};

struct pv_state {
    uint64_t wall_msr;
    uint32_t wall_version; /* even */
};

struct pv {
    struct device dev;
    struct pv_config cfg;
    struct pv_state s;
    struct pv_cpu *cpu[PV_CPUS_MAX]; /* cfg.cpus of them */
};

/* ---- As devices: one for all vCPUs, and one for each ---- */

static void cpu_reset(void *dev) {
    struct pv_cpu *c = dev;
    c->s = (struct pv_cpu_state){.ready_since = CLOCK_NEVER};
}

/* Addresses may be any: see invariant 1. */
static bool cpu_check(const void *dev, const void *state) {
    const struct pv_cpu_state *s = state;
    return !(s->steal_msr & STEAL_TIME_RESERVED) && !(s->eoi_msr & EOI_RESERVED) &&
           !(s->time_version & 1) && s->kicked <= 1;
}

static const struct dev_class cpu_class = {
    .name = "pv-cpu",
    .version = 1,
    DEV_STATE(struct pv_cpu, s),
    .reset = cpu_reset,
    .check = cpu_check,
};

static void destroy(void *dev) {
    struct pv *pv = dev;
    for (unsigned i = 0; i < pv->cfg.cpus; i++)
        dev_destroy(pv->cpu[i]);
}

static int create(void *dev, const void *config) {
    struct pv *pv = dev;
    pv->cfg = *(const struct pv_config *)config;
    for (unsigned i = 0; i < pv->cfg.cpus; i++) {
        pv->cpu[i] = dev_create(&cpu_class, &pv->dev.env, i, NULL);
        if (!pv->cpu[i]) {
            destroy(pv);
            return -ENOMEM;
        }
    }
    return 0;
}

static bool check(const void *dev, const void *state) {
    const struct pv_state *s = state;
    return !(s->wall_version & 1);
}

static const struct dev_class pv_class = {
    .name = "pv",
    .version = 1,
    DEV_STATE(struct pv, s),
    .create = create,
    .destroy = destroy,
    .check = check,
};

struct pv *pv_create(const struct dev_env *env, const struct pv_config *cfg) {
    return cfg->cpus <= PV_CPUS_MAX ? dev_create(&pv_class, env, 0, cfg) : NULL;
}

static uint64_t now(const struct pv *pv) {
    return clock_now(pv->dev.env.clock);
}

/* ---- Guest memory ---- */

static bool read_all(struct pv *pv, pn_gpa gpa, void *buf, size_t size) {
    const struct dev_host *h = &pv->dev.env.host;
    return h->read_phys(h->opaque, gpa, buf, size) == size;
}

/* All of it, or nothing where not all is RAM. */
static bool write_all(struct pv *pv, pn_gpa gpa, const void *data, size_t size) {
    const struct dev_host *h = &pv->dev.env.host;
    uint8_t old[64];
    return read_all(pv, gpa, old, size) &&
           h->write_phys(h->opaque, gpa, data, size) == size;
}

/* ---- Time ---- */

/* The time of day at clock 0: the guest adds its own system time. */
static void tell_wall_clock(struct pv *pv) {
    pv->s.wall_version += 2;
    const struct wall_clock w = {.version = pv->s.wall_version,
                                 .sec = (uint32_t)pv->cfg.epoch};
    write_all(pv, pv->s.wall_msr, &w, sizeof(w));
}

/* One tick of the TSC is one nanosecond: (ticks << 1) * 2^31 >> 32. The guest cannot look
 * while this writes, so it never sees the odd version. */
static void tell_system_time(struct pv *pv, unsigned cpu) {
    struct pv_cpu *c = pv->cpu[cpu];
    uint64_t ns = now(pv), tsc = pv->cfg.tsc(pv->cfg.opaque, cpu, ns);
    c->s.tsc_offset = tsc - ns;
    c->s.time_version += 2;
    const struct system_time t = {.version = c->s.time_version,
                                  .tsc = tsc,
                                  .ns = ns,
                                  .mul = 1u << 31,
                                  .shift = 1,
                                  .flags = TIME_STABLE};
    write_all(pv, c->s.time_msr & ~(uint64_t)MSR_ENABLED, &t, sizeof(t));
}

/* ---- Steal time ---- */

static void tell_steal(struct pv *pv, unsigned cpu, uint64_t stolen, bool preempted) {
    struct steal_time s;
    pn_gpa gpa = pv->cpu[cpu]->s.steal_msr & ~(uint64_t)MSR_ENABLED;
    if (!read_all(pv, gpa, &s, sizeof(s)))
        return;
    if (!stolen && s.preempted == preempted && !(s.version & 1) && s.version)
        return;
    s.steal += stolen;
    s.preempted = preempted ? PREEMPTED : 0;
    s.version = (s.version | 1) + 1;
    write_all(pv, gpa, &s, sizeof(s));
}

static bool counts_steal(const struct pv *pv, unsigned cpu) {
    return pv->cpu[cpu]->s.steal_msr & MSR_ENABLED;
}

void pv_ready(struct pv *pv, unsigned cpu) {
    if (pv->cpu[cpu]->s.ready_since == CLOCK_NEVER)
        pv->cpu[cpu]->s.ready_since = now(pv);
}

void pv_enter(struct pv *pv, unsigned cpu) {
    struct pv_cpu *c = pv->cpu[cpu];
    uint64_t t = now(pv), stolen = t > c->s.ready_since ? t - c->s.ready_since : 0;
    c->s.ready_since = CLOCK_NEVER;
    if (counts_steal(pv, cpu))
        tell_steal(pv, cpu, stolen, false);
    if (c->s.time_msr & MSR_ENABLED &&
        pv->cfg.tsc(pv->cfg.opaque, cpu, t) - t != c->s.tsc_offset)
        tell_system_time(pv, cpu);
}

/* Who does not run is preempted, halted or not; a lone vCPU has nobody to see it. */
void pv_leave(struct pv *pv, unsigned cpu, bool ready) {
    if (ready)
        pv_ready(pv, cpu);
    if (pv->cfg.cpus > 1 && counts_steal(pv, cpu))
        tell_steal(pv, cpu, 0, true);
}

/* ---- EOI ---- */

bool pv_eoi_offer(struct pv *pv, unsigned cpu) {
    struct pv_cpu *c = pv->cpu[cpu];
    uint8_t byte;
    c->s.eoi_at = c->s.eoi_msr & ~(uint64_t)MSR_ENABLED;
    if (!(c->s.eoi_msr & MSR_ENABLED) || !read_all(pv, c->s.eoi_at, &byte, 1))
        return false;
    byte |= 1;
    return write_all(pv, c->s.eoi_at, &byte, 1);
}

bool pv_eoi_withdraw(struct pv *pv, unsigned cpu) {
    struct pv_cpu *c = pv->cpu[cpu];
    uint8_t byte;
    if (!read_all(pv, c->s.eoi_at, &byte, 1) || !(byte & 1))
        return false;
    byte &= 0xfe;
    return write_all(pv, c->s.eoi_at, &byte, 1);
}

/* ---- MSRs ---- */

bool pv_is_msr(uint32_t index) {
    return index == MSR_KVM_WALL_CLOCK_OLD || index == MSR_KVM_SYSTEM_TIME_OLD ||
           (index >= MSR_KVM_WALL_CLOCK && index <= MSR_KVM_LAST);
}

/* Where an MSR's value is kept. Return: NULL when there is none, or its feature is off.
 */
static uint64_t *msr_value(struct pv *pv, unsigned cpu, uint32_t index) {
    uint32_t on = pv->cfg.features;
    struct pv_cpu *c = pv->cpu[cpu];
    switch (index) {
    case MSR_KVM_WALL_CLOCK_OLD:
    case MSR_KVM_WALL_CLOCK:
        return on & PN_PV_PVCLOCK ? &pv->s.wall_msr : NULL;
    case MSR_KVM_SYSTEM_TIME_OLD:
    case MSR_KVM_SYSTEM_TIME:
        return on & PN_PV_PVCLOCK ? &c->s.time_msr : NULL;
    case MSR_KVM_STEAL_TIME:
        return on & PN_PV_STEAL_TIME ? &c->s.steal_msr : NULL;
    case MSR_KVM_EOI:
        return on & PN_PV_EOI ? &c->s.eoi_msr : NULL;
    default:
        return NULL;
    }
}

int pv_msr_read(struct pv *pv, unsigned cpu, uint32_t index, uint64_t *value) {
    const uint64_t *v = msr_value(pv, cpu, index);
    if (!v)
        return -1;
    *value = *v;
    return 0;
}

int pv_msr_write(struct pv *pv, unsigned cpu, uint32_t index, uint64_t value) {
    uint64_t *v = msr_value(pv, cpu, index);
    uint8_t byte;
    if (!v)
        return -1;
    switch (index) {
    case MSR_KVM_WALL_CLOCK_OLD:
    case MSR_KVM_WALL_CLOCK:
        *v = value;
        if (value)
            tell_wall_clock(pv);
        return 0;
    case MSR_KVM_SYSTEM_TIME_OLD:
    case MSR_KVM_SYSTEM_TIME:
        *v = value;
        if (value & MSR_ENABLED)
            tell_system_time(pv, cpu);
        return 0;
    case MSR_KVM_STEAL_TIME:
        if (value & STEAL_TIME_RESERVED)
            return -1;
        *v = value;
        pv->cpu[cpu]->s.ready_since = CLOCK_NEVER;
        if (value & MSR_ENABLED)
            tell_steal(pv, cpu, 0, false);
        return 0;
    default: /* MSR_KVM_EOI */
        if (value & EOI_RESERVED ||
            (value & MSR_ENABLED && !read_all(pv, value & ~(uint64_t)1, &byte, 1)))
            return -1;
        *v = value;
        return 0;
    }
}

void pv_reset(struct pv *pv, unsigned cpu) {
    struct pv_cpu *c = pv->cpu[cpu];
    c->s.time_msr = c->s.steal_msr = c->s.eoi_msr = 0;
    c->s.kicked = 0;
}

/* ---- Hypercalls ---- */

bool pv_was_kicked(struct pv *pv, unsigned cpu) {
    bool kicked = pv->cpu[cpu]->s.kicked;
    pv->cpu[cpu]->s.kicked = 0;
    return kicked;
}

/* APIC ids are vCPU numbers. One that nobody has is no error. */
static int64_t kick_cpu(struct pv *pv, uint64_t id) {
    if (id >= pv->cfg.cpus)
        return 0;
    if (!pv->cfg.wake(pv->cfg.opaque, (unsigned)id))
        pv->cpu[id]->s.kicked = 1;
    pv->cfg.yield_to(pv->cfg.opaque, (unsigned)id);
    return 0;
}

/* arg: bitmap of 128 targets counted from APIC id arg[2], and the ICR's low half. */
static int64_t send_ipi(struct pv *pv, const uint64_t arg[4]) {
    int64_t taken = 0;
    if (arg[3] & (ICR_DEST | ICR_SHORTHAND))
        return -HC_EINVAL;
    for (unsigned i = 0; i < 128; i++) {
        uint64_t id = arg[2] + i;
        if (arg[i / 64] >> i % 64 & 1 && id >= arg[2] && id < pv->cfg.cpus)
            taken += pv->cfg.send(pv->cfg.opaque, (unsigned)id, (uint32_t)arg[3]);
    }
    return taken;
}

static int64_t sched_yield_to(struct pv *pv, uint64_t id) {
    if (id < pv->cfg.cpus)
        pv->cfg.yield_to(pv->cfg.opaque, (unsigned)id);
    return 0;
}

static int64_t answer(struct pv *pv, uint64_t nr, const uint64_t arg[4]) {
    uint32_t on = pv->cfg.features;
    if (nr == HC_VAPIC_POLL_IRQ)
        return 0;
    if (nr == HC_KICK_CPU && on & PN_PV_KICK_CPU)
        return kick_cpu(pv, arg[1]);
    if (nr == HC_SEND_IPI && on & PN_PV_SEND_IPI)
        return send_ipi(pv, arg);
    if (nr == HC_SCHED_YIELD && on & PN_PV_SCHED_YIELD)
        return sched_yield_to(pv, arg[0]);
    return -HC_ENOSYS;
}

int64_t pv_hypercall(struct pv *pv, unsigned cpu, uint64_t nr, const uint64_t arg[4]) {
    int64_t result = answer(pv, nr, arg);
    struct pn_ring *ring = pv->cfg.rings ? &pv->cfg.rings[cpu] : NULL;
    pn_emit(ring, hypercall, nr, arg[0], arg[1], arg[2], arg[3], (uint64_t)result);
    return result;
}
