/* SPDX-License-Identifier: MIT */
/*
 * The soft engines: the software CPU over the shadow MMU or the two-dimensional one.
 *
 * Invariants
 * 1. Under --clock virtual, time is the instructions that the running vCPU retired plus the
 *    time it skipped in HLT; one instruction is one nanosecond.
 * 2. Every write to guest memory, whoever does it, goes through the MMU, so that dirty
 *    logs, shadow pages and translated code see it.
 * 3. Under --clock host, time is the host's, whatever instructions take: nothing waits
 *    for it and nothing skips. A vCPU runs for a slice of instructions, of which there are
 *    as many as the last ones say fit into the time until the deadline.
 * Locking: none; one thread runs all vCPUs. kick() alone may come from elsewhere. With
 * pn_engine_config.parallel each vCPU has a thread, and all is under that lock but the running of
 * translated code (src/cpu/turn.h). Their time is the host's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/parallel.h"
#include "cpu/cpu.h"
#include "engine/engines.h"
#include "engine/nested.h"
#include "penumbra/pv.h"

/* --clock host: a slice is late by no more than the instructions of the least speed. Few
 * instructions at once keep a sudden slowness (devices, tables) from being late by much. */
#define HOST_SLICE_NS    1000000u
#define HOST_SLICE_INSNS 200000u
#define SPEED_LEAST      1000u /* instructions per millisecond */
#define NS_PER_MS        1000000u

struct soft_vcpu {
    struct cpu *cpu;
    struct pn_stats stats;
    uint64_t skipped; /* ns of virtual time that no instruction was retired for */
    /* --clock host: */
    uint64_t speed; /* instructions per millisecond, of late */
    uint64_t stamp; /* time at which its slice began, for its events */
};

struct pn_engine {
    enum pn_mmu_kind kind;
    struct pn_mmu *mmu;
    struct cpu_model *model;
    struct pn_bus bus;
    bool host_clock;
    uint64_t host_start;
    struct parallel *parallel; /* NULL: one thread */
    unsigned cpus, current;
    struct soft_vcpu *vcpu;
};

static uint64_t host_time(const struct pn_engine *e) {
    return host_ns() - e->host_start;
}

static void skip_vcpu(struct soft_vcpu *v, uint64_t until) {
    uint64_t now = cpu_insns(v->cpu);
    if (until <= now)
        return;
    cpu_skip(v->cpu, until - now);
    v->skipped += until - now;
}

/* Translated code may stand in any vCPU's cache. One that stands still has the time of its
 * last turn: its event would be older than the store. */
static void code_written(void *opaque, pn_gpa gpa, size_t size) {
    struct pn_engine *e = opaque;
    for (unsigned i = 0; i < e->cpus; i++) {
        if (!e->vcpu[i].cpu)
            continue;
        if (e->parallel)
            e->vcpu[i].stamp = host_time(e);
        else if (e->host_clock)
            e->vcpu[i].stamp = e->vcpu[e->current].stamp;
        else
            skip_vcpu(&e->vcpu[i], cpu_insns(e->vcpu[e->current].cpu));
        cpu_code_written(e->vcpu[i].cpu, gpa, size);
    }
}

static void stand_still(void *opaque, unsigned vcpu) {
    struct pn_engine *e = opaque;
    if (vcpu < e->cpus)
        cpu_still(e->vcpu[vcpu].cpu);
}

static void bar(void *opaque) {
    struct pn_engine *e = opaque;
    parallel_bar(e->parallel);
}

/* ---- Life ---- */

static void soft_destroy(struct pn_engine *e) {
    if (!e)
        return;
    for (unsigned i = 0; e->vcpu && i < e->cpus; i++)
        if (e->vcpu[i].cpu)
            cpu_destroy(e->vcpu[i].cpu);
    free(e->vcpu);
    if (e->mmu)
        pn_mmu_destroy(e->mmu);
    if (e->model)
        cpu_model_free(e->model);
    free(e);
}

static int create_vcpu(struct pn_engine *e, unsigned i,
                       const struct pn_engine_config *cfg) {
    struct soft_vcpu *v = &e->vcpu[i];
    struct cpu_config c = {
        .mmu = e->mmu,
        .bus = &e->bus,
        .model = e->model,
        .stats = &v->stats,
        .ring = cfg->rings ? &cfg->rings[i] : NULL,
        .apic_id = i,
        .seed = cfg->seed + i,
        .max_block = cfg->max_block,
        .code_for_perf = cfg->code_for_perf,
        .host_clock = cfg->host_clock,
        .host_start = e->host_start,
        .par = e->parallel,
    };
    int rc = cpu_create(&c, &v->cpu);
    v->speed = SPEED_LEAST;
    v->stamp = cfg->start_ns;
    if (rc == 0 && cfg->host_clock && cfg->rings) {
        cfg->rings[i].time = &v->stamp;
        cfg->rings[i].behind = NULL;
    }
    if (rc == 0 && i) /* an application processor, after reset too */
        cpu_init(v->cpu, true);
    return rc;
}

/* MAXPHYADDR is what the CPU model tells the guest: CPUID 0x80000008. */
static uint8_t model_maxphyaddr(const struct cpu_model *model) {
    uint32_t leaf[4];
    cpu_model_leaf(model, 0x80000008u, 0, leaf);
    return (uint8_t)leaf[0];
}

/* What of CPUID decides over bits of page-table entries. */
static uint8_t model_lacks(const struct cpu_model *model) {
    uint32_t basic[4], extended[4];
    cpu_model_leaf(model, 1, 0, basic);
    cpu_model_leaf(model, 0x80000001u, 0, extended);
    return pn_mmu_lacks(basic[3], extended[3]);
}

static void from_leaf(void *opaque, uint32_t leaf, uint32_t subleaf, uint32_t out[4]) {
    const struct pn_engine_config *cfg = opaque;
    cfg->from_ops->cpuid(cfg->from, leaf, subleaf, out);
}

/* What a guest that is a hypervisor does not go with. Return: there is a line in err. */
static bool refuses(const struct pn_engine_config *cfg, const struct cpu_model *model,
                    char *err, size_t err_size) {
    const char *by = cpu_model_hypervisor(model);
    if (by && cfg->to_host_cpu && !kvm_nested_goes_there(by, err, err_size))
        return true;
    if (!by || (!cfg->recorder && !cfg->parallel))
        return false;
    if (cfg->recorder)
        snprintf(err, err_size,
                 "--record: a recording does not know the worlds of a guest"
                 " that is a hypervisor: leave %s out of --cpu",
                 by);
    else
        snprintf(err, err_size,
                 "--parallel: not with a guest that is a hypervisor: leave %s out of "
                 "--cpu",
                 by);
    return true;
}

static int soft_create(const struct pn_engine_config *cfg, enum pn_mmu_kind kind,
                       struct pn_engine **out, char *err, size_t err_size) {
    struct pn_engine *e = calloc(1, sizeof(*e));
    if (!e)
        return -ENOMEM;
    e->kind = kind;
    e->bus = *cfg->bus;
    e->host_clock = cfg->host_clock;
    e->host_start = host_ns() - cfg->start_ns;
    e->parallel = cfg->parallel;
    int rc =
        cpu_model_parse(cfg->cpu_model ? cfg->cpu_model : "", &e->model, err, err_size);
    if (rc) {
        free(e);
        return rc;
    }
    if (refuses(cfg, e->model, err, err_size)) {
        cpu_model_free(e->model);
        free(e);
        return -EINVAL;
    }
    if (cfg->from)
        cpu_model_follow(e->model, from_leaf, (void *)cfg);
    else if (cfg->to_host_cpu && !cpu_model_names_vendor(e->model))
        cpu_model_take_host_vendor(e->model);
    if (cfg->pv != PN_PV_DEFAULT)
        cpu_model_set_pv(e->model, pn_pv_cpuid(cfg->pv));
    struct pn_mmu_config m = {.kind = kind,
                              .opt = *cfg->mmu,
                              .tracker = cfg->tracker,
                              .tlb = cfg->tlb,
                              .nodes = cfg->nodes,
                              .maxphyaddr = model_maxphyaddr(e->model),
                              .lacks = model_lacks(e->model),
                              .on_track = code_written,
                              .stand_still = cfg->parallel ? stand_still : NULL,
                              .bar = cfg->parallel ? bar : NULL,
                              .opaque = e,
                              .recorder = cfg->recorder};
    e->vcpu = calloc(cfg->cpus, sizeof(*e->vcpu));
    rc = e->vcpu ? pn_mmu_create(&m, &e->mmu) : -ENOMEM;
    for (unsigned i = 0; rc == 0 && i < cfg->slot_count; i++)
        rc = pn_mmu_slot_set(e->mmu, &cfg->slot[i]);
    for (; rc == 0 && e->cpus < cfg->cpus; e->cpus++)
        rc = create_vcpu(e, e->cpus, cfg);
    for (unsigned i = 0; rc == 0 && !e->host_clock && i < cfg->cpus; i++)
        skip_vcpu(&e->vcpu[i], cfg->start_ns);
    if (rc) {
        snprintf(err, err_size, "soft engine: %s", strerror(-rc));
        soft_destroy(e);
        return rc;
    }
    *out = e;
    return 0;
}

static int shadow_create(const struct pn_engine_config *cfg, struct pn_engine **out,
                         char *err, size_t err_size) {
    return soft_create(cfg, PN_MMU_SHADOW, out, err, err_size);
}

static int tdp_create(const struct pn_engine_config *cfg, struct pn_engine **out,
                      char *err, size_t err_size) {
    return soft_create(cfg, PN_MMU_TDP, out, err, err_size);
}

/* ---- Memory ---- */

static int soft_set_slot(struct pn_engine *e, const struct pn_memslot *slot) {
    return pn_mmu_slot_set(e->mmu, slot);
}

static size_t soft_read_phys(struct pn_engine *e, pn_gpa gpa, void *buf, size_t size) {
    return pn_mmu_read_phys(e->mmu, gpa, buf, size);
}

static size_t soft_write_phys(struct pn_engine *e, pn_gpa gpa, const void *buf,
                              size_t size) {
    return pn_mmu_write_phys(e->mmu, gpa, buf, size);
}

static bool soft_has_tracker(enum pn_dirty_tracker tracker) {
    return tracker == PN_TRACKER_OFF || tracker == PN_TRACKER_WP ||
           tracker == PN_TRACKER_RING || tracker == PN_TRACKER_DBIT ||
           tracker == PN_TRACKER_PIECES || tracker == PN_TRACKER_PML ||
           tracker == PN_TRACKER_HDBSS || tracker == PN_TRACKER_FRAMES ||
           tracker == PN_TRACKER_ACCESSED || pn_dirty_by_host(tracker);
}

static long soft_dirty_harvest(struct pn_engine *e, uint32_t slot, uint64_t *bitmap,
                               size_t words) {
    return pn_mmu_dirty_harvest(e->mmu, slot, bitmap, words);
}

static int soft_set_tracker(struct pn_engine *e, enum pn_dirty_tracker tracker) {
    return pn_mmu_set_tracker(e->mmu, tracker);
}

/* ---- Running ---- */

static uint64_t soft_now(struct pn_engine *e) {
    return e->host_clock ? host_time(e) : cpu_insns(e->vcpu[e->current].cpu);
}

static void soft_skip(struct pn_engine *e, uint64_t until) {
    for (unsigned i = 0; !e->host_clock && i < e->cpus; i++)
        skip_vcpu(&e->vcpu[i], until);
}

static void soft_rewind(struct pn_engine *e, uint64_t to) {
    for (unsigned i = 0; !e->host_clock && i < e->cpus; i++) {
        uint64_t by = to - cpu_insns(e->vcpu[i].cpu); /* below 0, modulo 2^64 */
        cpu_skip(e->vcpu[i].cpu, by);
        e->vcpu[i].skipped += by;
    }
}

static const enum pn_exit_reason exit_reason[] = {
    [CPU_EXIT_DEADLINE] = PN_EXIT_DEADLINE, [CPU_EXIT_HALT] = PN_EXIT_HALT,
    [CPU_EXIT_SHUTDOWN] = PN_EXIT_SHUTDOWN, [CPU_EXIT_STOP] = PN_EXIT_STOP,
    [CPU_EXIT_DEBUG] = PN_EXIT_DEBUG,
};

/* Instructions that the vCPU runs in `ns` at its speed, and at least one. */
static uint64_t insns_in(const struct soft_vcpu *v, uint64_t ns) {
    uint64_t n = v->speed * (ns < HOST_SLICE_NS ? ns : HOST_SLICE_NS) / NS_PER_MS;
    return n > HOST_SLICE_INSNS ? HOST_SLICE_INSNS : n + !n;
}

static void note_speed(struct soft_vcpu *v, uint64_t insns, uint64_t ns) {
    uint64_t now = insns * NS_PER_MS / (ns + !ns);
    v->speed = now < SPEED_LEAST ? SPEED_LEAST : now;
}

/* cpu_run, and a halt that ends by itself is no halt: the CPU sleeps until then, or until the
 * limit. Under the host's clock its turns pass. */
static enum cpu_exit run_vcpu(struct pn_engine *e, struct soft_vcpu *v, uint64_t limit) {
    enum cpu_exit x;
    uint64_t wakes;
    while ((x = cpu_run(v->cpu, limit)) == CPU_EXIT_HALT &&
           (wakes = cpu_wakes(v->cpu)) != UINT64_MAX) {
        if (!e->host_clock)
            skip_vcpu(v, wakes < limit ? wakes : limit);
        if (e->host_clock || wakes >= limit)
            return CPU_EXIT_DEADLINE;
    }
    return x;
}

static enum pn_exit_reason run_host(struct pn_engine *e, struct soft_vcpu *v,
                                    uint64_t deadline) {
    for (;;) {
        uint64_t now = host_time(e), begin = cpu_insns(v->cpu);
        v->stamp = now;
        uint64_t n = insns_in(v, deadline > now ? deadline - now : 0);
        enum cpu_exit x = run_vcpu(e, v, begin + n);
        uint64_t done = cpu_insns(v->cpu) - begin;
        uint64_t end = host_time(e);
        if (done)
            note_speed(v, done, end - now);
        /* A device may have pulled the deadline in: let the machine look again. */
        if (x != CPU_EXIT_DEADLINE || done < n || end >= deadline)
            return exit_reason[x];
    }
}

/* On the vCPU's own thread. Nothing ends it at a time: slices are for the events' stamps. */
static enum pn_exit_reason run_parallel(struct pn_engine *e, unsigned cpu) {
    struct soft_vcpu *v = &e->vcpu[cpu];
    enum cpu_exit x;
    do {
        v->stamp = host_time(e);
        x = cpu_run(v->cpu, cpu_insns(v->cpu) + HOST_SLICE_INSNS);
    } while (x == CPU_EXIT_DEADLINE);
    e->current = cpu;
    return exit_reason[x];
}

static enum pn_exit_reason soft_run(struct pn_engine *e, unsigned cpu,
                                    uint64_t deadline) {
    struct soft_vcpu *v = &e->vcpu[cpu];
    if (e->parallel)
        return run_parallel(e, cpu);
    e->current = cpu;
    return e->host_clock ? run_host(e, v, deadline)
                         : exit_reason[run_vcpu(e, v, deadline)];
}

static void soft_kick(struct pn_engine *e, unsigned cpu) {
    cpu_kick(e->vcpu[cpu].cpu);
}

static int soft_set_debug(struct pn_engine *e, unsigned cpu, const struct pn_debug *d,
                          bool step) {
    cpu_set_debug(e->vcpu[cpu].cpu, d, step);
    return 0;
}

static void soft_debug_stop(struct pn_engine *e, unsigned cpu,
                            struct pn_debug_stop *stop) {
    *stop = e->vcpu[cpu].cpu->debug.stop;
}

static void soft_interrupt(struct pn_engine *e, unsigned cpu) {
    __atomic_store_n(&e->vcpu[cpu].cpu->intr_line, 1, __ATOMIC_RELAXED);
}

static void soft_nmi(struct pn_engine *e, unsigned cpu) {
    __atomic_store_n(&e->vcpu[cpu].cpu->nmi_pending, 1, __ATOMIC_RELAXED);
}

static void soft_unhalt(struct pn_engine *e, unsigned cpu) {
    cpu_unhalt(e->vcpu[cpu].cpu);
}

static void soft_set_deadline(struct pn_engine *e, uint64_t deadline) {
    struct soft_vcpu *v = &e->vcpu[e->current];
    uint64_t now = e->host_clock ? host_time(e) : 0;
    if (e->host_clock)
        deadline = cpu_insns(v->cpu) + (deadline > now ? insns_in(v, deadline - now) : 0);
    cpu_set_limit(v->cpu, deadline);
}

/* ---- State and figures ---- */

static int soft_get_state(struct pn_engine *e, unsigned cpu, struct pn_cpu_state *s) {
    cpu_get_state(e->vcpu[cpu].cpu, s);
    return 0;
}

static int soft_set_state(struct pn_engine *e, unsigned cpu,
                          const struct pn_cpu_state *s) {
    struct cpu *c = e->vcpu[cpu].cpu;
    uint8_t host[SAVE_SIZE];
    uint64_t event;
    int nested = kvm_nested_host(s, host, &event);
    int rc = nested < 0 ? nested : cpu_set_state(c, s);
    if (rc == 0 && nested)
        svm_put_host(c, host, event);
    return rc;
}

static int soft_forked(struct pn_engine *e) {
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < e->cpus; i++) {
        e->vcpu[i].cpu->debug.pass = false; /* nobody has been told of a stop here */
        rc = cpu_own_code(e->vcpu[i].cpu);
    }
    return rc;
}

static bool soft_init(struct pn_engine *e, unsigned cpu, bool wait) {
    return cpu_init(e->vcpu[cpu].cpu, wait);
}

static void soft_sipi(struct pn_engine *e, unsigned cpu, uint8_t vector) {
    cpu_sipi(e->vcpu[cpu].cpu, vector);
}

static uint64_t soft_insns(struct pn_engine *e) {
    uint64_t n = 0;
    for (unsigned i = 0; i < e->cpus; i++)
        n += cpu_insns(e->vcpu[i].cpu) - e->vcpu[i].skipped;
    return n;
}

static uint64_t soft_tsc(struct pn_engine *e, unsigned cpu, uint64_t now) {
    const struct cpu *c = e->vcpu[cpu].cpu;
    return (e->host_clock ? now : cpu_insns(c)) + (uint64_t)cpu_own_tsc_offset(c);
}

static void soft_cpuid(struct pn_engine *e, uint32_t leaf, uint32_t subleaf,
                       uint32_t out[4]) {
    cpu_model_leaf(e->model, leaf, subleaf, out);
}

static struct pn_stats *soft_stats(struct pn_engine *e, unsigned cpu) {
    return &e->vcpu[cpu].stats;
}

static struct pn_mmu_vcpu *soft_mmu(struct pn_engine *e, unsigned cpu) {
    return e->vcpu[cpu].cpu->vmmu;
}

static void soft_dump(struct pn_engine *e, unsigned cpu, FILE *out) {
    cpu_dump(e->vcpu[cpu].cpu, out);
}

static void soft_where(struct pn_engine *e, uint64_t pc, struct pn_where *out) {
    cpu_where(e->vcpu[e->current].cpu, pc, out);
    out->cpu = e->current;
}

static void soft_blocks(struct pn_engine *e, pn_block_fn fn, void *opaque) {
    for (unsigned i = 0; i < e->cpus; i++)
        cpu_blocks(e->vcpu[i].cpu, fn, opaque);
}

static void soft_describe(struct pn_engine *e, char *buf, size_t size) {
    snprintf(buf, size, "software CPU, %s MMU (simulated: times are not hardware's)",
             e->kind == PN_MMU_TDP ? "two-dimensional" : "shadow");
}

static const char *soft_error(struct pn_engine *e) {
    const char *name = e->vcpu[e->current].cpu->fault_name;
    return name ? name : "";
}

/* Under shadow paging each fault exits, and so do INVLPG and loads of CR3; CPUID and MSRs
 * are in neither sum. */
static const enum pn_stat shadow_exits[] = {
    PN_STAT_pf_taken,        PN_STAT_pf_mmio_spte, PN_STAT_io_exits,
    PN_STAT_halt_exits,      PN_STAT_invlpg,       PN_STAT_invpcid,
    PN_STAT_root_hit,        PN_STAT_root_miss,    PN_STAT_dirty_buffer_full,
    PN_STAT_dirty_ring_full, PN_STAT_COUNT,
};
static const enum pn_stat tdp_exits[] = {
    PN_STAT_ept_violation,   PN_STAT_ept_misconfig, PN_STAT_dirty_buffer_full,
    PN_STAT_dirty_ring_full, PN_STAT_io_exits,      PN_STAT_halt_exits,
    PN_STAT_COUNT,
};

const struct pn_engine_ops engine_shadow = {
    .name = "shadow",
    .what = "software CPU, our shadow MMU",
    .exits = shadow_exits,
    .create = shadow_create,
    .has_tracker = soft_has_tracker,
#include "engine/soft_ops.inc"
};

const struct pn_engine_ops engine_tdp = {
    .name = "tdp",
    .what = "software CPU, our two-dimensional MMU",
    .exits = tdp_exits,
    .create = tdp_create,
    .has_tracker = soft_has_tracker,
#include "engine/soft_ops.inc"
};
