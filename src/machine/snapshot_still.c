/* SPDX-License-Identifier: MIT */
/*
 * A guest whose engine has the interrupt controllers (KVM), for snapshots: a second machine that
 * stands, with controllers of our own, which is what a snapshot has.
 *
 *     save:    vCPUs, KVM's controllers, our devices -> the machine that stands -> sections
 *     restore: sections -> the machine that stands -> vCPUs, KVM's controllers, our devices
 *
 * Invariants
 * 1. The machine that stands never runs: its engine has vCPUs' states, and the time of one
 *    moment. It shares the guest's memory and writes nothing there.
 * 2. What moves, moves as in a handover (handover.c): machine_pack and machine_unpack.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine/snapshot_internal.h"

struct pn_engine {
    struct machine *of; /* who has the guest; NULL: CPUID alone, from the snapshot */
    const struct snapshot *from;
    struct machine *m; /* the one that stands */
    uint64_t now;
    struct pn_cpu_state *cpu;
};

struct snap_still {
    struct machine m;
    struct pn_engine engine;
    struct pn_engine_ops ops;
    struct pn_cpu_state cpu[];
};

/* ---- Its engine ---- */

static uint64_t still_now(struct pn_engine *e) {
    return e->now;
}

static uint64_t still_tsc(struct pn_engine *e, unsigned cpu, uint64_t now) {
    return e->cpu[cpu].tsc + (now - e->now);
}

static void nothing(struct pn_engine *e, unsigned cpu) {
    (void)e;
    (void)cpu;
}

static bool no_init(struct pn_engine *e, unsigned cpu, bool wait) {
    (void)e;
    (void)cpu;
    (void)wait;
    return true;
}

static void still_sipi(struct pn_engine *e, unsigned cpu, uint8_t vector) {
    struct pn_cpu_state *s = &e->cpu[cpu];
    s->activity = PN_RUNS;
    s->rip = 0;
    s->seg[PN_CS].sel = (uint16_t)(vector << 8);
    s->seg[PN_CS].base = (uint64_t)vector << 12;
}

static size_t still_read(struct pn_engine *e, pn_gpa gpa, void *buf, size_t size) {
    return e->of->ops->read_phys(e->of->engine, gpa, buf, size);
}

/* Dropped, and answered as the one who has the memory would. */
static size_t still_write(struct pn_engine *e, pn_gpa gpa, const void *buf, size_t size) {
    uint8_t there[256];
    size_t done = 0, n = 1;
    (void)buf;
    while (done < size && n) {
        size_t most = size - done < sizeof(there) ? size - done : sizeof(there);
        n = still_read(e, gpa + done, there, most);
        done += n;
    }
    return done;
}

static void still_cpuid(struct pn_engine *e, uint32_t leaf, uint32_t subleaf,
                        uint32_t out[4]) {
    if (e->of)
        e->of->ops->cpuid(e->of->engine, leaf, subleaf, out);
    else
        snap_cpuid(e->from, leaf, subleaf, out);
}

/* What devices answer is asked of them; where they are not, it is no MSR. */
static int still_get(struct pn_engine *e, unsigned cpu, struct pn_cpu_state *s) {
    const struct pn_bus *bus = &e->m->pn_bus;
    *s = e->cpu[cpu];
#define PN_MSR_BUS(name, index, present)                                                 \
    s->msr_known &= ~(1ull << PN_MSR_##name);                                            \
    if (bus->msr_read(bus->opaque, cpu, index, &s->msr[PN_MSR_##name]) == 0)             \
        s->msr_known |= 1ull << PN_MSR_##name;
#include "penumbra/cpu_state.inc"
    return 0;
}

static int still_set(struct pn_engine *e, unsigned cpu, const struct pn_cpu_state *s) {
    const struct pn_bus *bus = &e->m->pn_bus;
    e->cpu[cpu] = *s;
#define PN_MSR_BUS(name, index, present)                                                 \
    if (s->msr_known >> PN_MSR_##name & 1 &&                                             \
        (PN_MSR_##name != PN_MSR_tsc_deadline || s->msr[PN_MSR_##name]))                 \
        bus->msr_write(bus->opaque, cpu, index, s->msr[PN_MSR_##name]);
#include "penumbra/cpu_state.inc"
    return 0;
}

static const struct pn_engine_ops still_ops = {
    .interrupt = nothing,
    .kick = nothing,
    .nmi = nothing,
    .unhalt = nothing,
    .init = no_init,
    .sipi = still_sipi,
    .now = still_now,
    .tsc = still_tsc,
    .read_phys = still_read,
    .write_phys = still_write,
    .cpuid = still_cpuid,
    .get_state = still_get,
    .set_state = still_set,
};

/* ---- Its life ---- */

/* As m is now, with devices as after power-on. Return: 0, or -errno with a line in e. */
static int still_create(struct machine *m, struct snap_still **out, struct err *e) {
    struct snap_still *s = calloc(1, sizeof(*s) + m->cfg.cpus * sizeof(s->cpu[0]));
    if (!s)
        return err_set(e, -ENOMEM, "out of memory");
    s->engine = (struct pn_engine){
        .of = m, .m = &s->m, .now = clock_now(&m->clock), .cpu = s->cpu};
    s->ops = still_ops;
    s->ops.name = m->ops->name;
    s->ops.host_cpu = m->ops->host_cpu;
    s->m = *m;
    s->m.ops = &s->ops;
    s->m.engine = &s->engine;
    s->m.cfg.rings = NULL;
    s->m.bus = NULL;
    s->m.intc = NULL;
    s->m.pit = NULL;
    s->m.pv = NULL;
    s->m.switches = 0;
    s->m.running = false;
    wiring_bus(&s->m, &s->m.pn_bus);
    int rc = wiring_create(&s->m, e);
    if (rc)
        snap_still_free(s);
    else
        *out = s;
    return rc;
}

void snap_still_free(struct snap_still *s) {
    if (s && s->m.bus)
        wiring_destroy(&s->m);
    free(s);
}

struct machine *snap_still_machine(struct snap_still *s) {
    return &s->m;
}

static struct parcel *parcel_for(const struct machine *m, struct err *e) {
    struct parcel *p = calloc(1, sizeof(*p) + m->cfg.cpus * sizeof(p->cpu[0]));
    if (!p)
        err_set(e, -ENOMEM, "out of memory");
    return p;
}

static const struct dev_record *find(const struct dev_states *s,
                                     const struct dev_record *like) {
    for (unsigned i = 0; s && i < s->count; i++)
        if (s->record[i].class == like->class && s->record[i].instance == like->instance)
            return &s->record[i];
    return NULL;
}

/* Load into `to` what its devices are in `first`, or else in `second`. Timers of `first` come
 * before others that are due at the same time. Return: 0 or -errno. */
static int load_from(struct machine *to, const struct dev_states *first,
                     const struct dev_states *second) {
    struct dev_states *is = dev_bus_save(to->bus);
    struct dev_states *all =
        is ? calloc(1, sizeof(*all) + is->count * sizeof(all->record[0])) : NULL;
    int rc = first && all ? 0 : -ENOMEM;
    for (unsigned i = 0; rc == 0 && i < first->count; i++)
        if (find(is, &first->record[i]))
            all->record[all->count++] = first->record[i];
    for (unsigned i = 0; rc == 0 && second && i < second->count; i++)
        if (!find(first, &second->record[i]))
            all->record[all->count++] = second->record[i];
    if (rc == 0)
        rc = dev_bus_load(to->bus, all);
    free(all); /* its states are the others' */
    dev_states_free(is);
    return rc;
}

int snap_still_of(struct machine *m, struct snap_still **out, struct err *e) {
    struct snap_still *s = NULL;
    struct parcel *p = parcel_for(m, e);
    int rc = p ? 0 : -ENOMEM;
    if (rc == 0 && (rc = machine_pack(m, true, p)))
        err_sys(e, rc, "the state under %s", m->ops->name);
    if (rc == 0)
        rc = still_create(m, &s, e);
    if (rc == 0) {
        rc = machine_unpack(&s->m, m->ops, p);
        struct dev_states *ours = dev_bus_save(m->bus), *chips = dev_bus_save(s->m.bus);
        if (rc == 0)
            rc = chips ? load_from(&s->m, ours, chips) : -ENOMEM;
        dev_states_free(ours);
        dev_states_free(chips);
        if (rc)
            err_sys(e, rc, "the devices under %s", m->ops->name);
    }
    free(p);
    if (rc)
        snap_still_free(s);
    else
        *out = s;
    return rc;
}

int snap_still_for(struct machine *m, struct snap_still **out, struct err *e) {
    return still_create(m, out, e);
}

/* vCPUs whose states are the snapshot's, and what had reached them. */
static int settle(struct snap_still *s, unsigned cpu, const struct machine_cpu *run,
                  struct err *e) {
    s->m.cpu[cpu] = *run;
    if (run->init)
        return err_set(e, -ENOTSUP,
                       "vCPU %u is about to be reset (INIT): restore it under shadow or "
                       "tdp",
                       cpu);
    machine_settle_cpu(&s->m, cpu);
    return 0;
}

int snap_still_put(struct snap_still *s, const struct pn_cpu_state *cpu,
                   const struct machine_cpu *run, struct err *e) {
    struct machine *m = s->engine.of;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < m->cfg.cpus; i++) {
        s->cpu[i] = cpu[i];
        rc = settle(s, i, &run[i], e);
    }
    struct parcel *p = rc ? NULL : parcel_for(m, e);
    if (!p)
        return rc ? rc : -ENOMEM;
    struct dev_states *states = dev_bus_save(s->m.bus);
    rc = states ? load_from(m, states, NULL) : -ENOMEM;
    if (rc == 0)
        rc = machine_pack(&s->m, true, p);
    if (rc == 0)
        rc = machine_unpack(m, &s->ops, p);
    dev_states_free(states);
    free(p);
    return rc ? err_sys(e, rc, "%s does not take the guest", m->ops->name) : 0;
}

/* ---- CPUID alone ---- */

struct machine_past *snap_cpuid_from(const struct snapshot *s) {
    struct {
        struct machine_past past;
        struct pn_engine engine;
    } *both = calloc(1, sizeof(*both));
    if (!both)
        return NULL;
    both->engine.from = s;
    both->past = (struct machine_past){&still_ops, &both->engine};
    return &both->past;
}
