/* SPDX-License-Identifier: MIT */
/*
 * Two guests that do the same, one under the shadow MMU and one under TDP, by
 * write-protection or by D bits: step by step their tables (with every A and D bit), what
 * the translator was told, and what the dirty logs held must be equal. Each is compared
 * with a direct walk besides (world.h). PN_SEED=n runs one seed, PN_STEPS=n makes n steps,
 * PN_AUDIT=1 audits at every seventh of them, and not at the end alone.
 */
#include "tests/suite.h"
#include "world.h"

#ifdef PN_TEST_SLOW_BUILD
#define STEPS        2000
#define NESTED_STEPS 300
#else
#define STEPS        30000
#define NESTED_STEPS 6000
#endif
#define RUNS 24

static void compare(const struct world *a, const struct world *b, bool all) {
    for (unsigned k = 0; k < TABLES; k++) {
        pn_gfn gfn = table_gfn(k);
        unsigned i = gfn < 128 ? 0 : 1;
        uint64_t at = gfn * PN_PAGE_SIZE - (i ? 0x400000 : 0);
        if (memcmp(a->slot[i].mem + at, b->slot[i].mem + at, PN_PAGE_SIZE))
            FAIL(b, "guest table gfn %#llx differs", (unsigned long long)gfn);
    }
    for (unsigned k = 0; a->nested && k < NTABLES; k++) {
        unsigned i = ntable_gfn(k) < 128 ? 0 : 1;
        uint64_t at = ntable_gfn(k) * PN_PAGE_SIZE - (i ? 0x400000 : 0);
        if (memcmp(a->slot[i].mem + at, b->slot[i].mem + at, PN_PAGE_SIZE))
            FAIL(b, "nested table gfn %#llx differs", (unsigned long long)ntable_gfn(k));
    }
    for (unsigned i = 0; all && i < 4; i++)
        if (memcmp(a->slot[i].mem, b->slot[i].mem, a->slot[i].s.size))
            FAIL(b, "memory of slot %u differs", i);
    if (a->rng != b->rng)
        FAIL(b, "the guests went different ways");
    if (a->told != b->told)
        FAIL(b, "the translator was told otherwise");
    if (a->taken != b->taken)
        FAIL(b, "the dirty logs differ");
}

static void audit(const struct world world[2]) {
    for (unsigned i = 0; i < 2; i++)
        if (pn_mmu_audit(world[i].mmu, stderr))
            FAIL(&world[i], "the audit found violations");
}

static struct pn_mmu_config config_of(unsigned run, enum pn_mmu_kind kind) {
    struct pn_mmu_config cfg = {.kind = kind};
    pn_mmu_options_default(&cfg.opt);
    cfg.opt.large_pages = run % 3 != 2;
    cfg.opt.unsync = run % 4 != 1;
    cfg.opt.page_budget = run % 5 ? 1024 : 64;
    cfg.opt.cached_roots = run % 4 ? 15 : 2;
    cfg.opt.tdp_levels = 4 + run % 2;
    cfg.opt.eager_split = run / 2 % 2;
    cfg.opt.policy = (run + run / PN_POLICIES) % PN_POLICIES;
    cfg.opt.agile_interval = run % 2 ? 50 : 3000;
    cfg.opt.nested = run / 2 % 2;
    cfg.tracker = fixture_tracker(run / 3 % 6);
    return cfg;
}

static void run_both(unsigned run, bool nested, uint64_t steps) {
    static const uint8_t maxphyaddr[] = {36, 46, 52};
    static struct world world[2];
    const char *more = getenv("PN_STEPS");
    steps = more ? strtoull(more, NULL, 0) : steps;
    if (!run_is_wanted(&run, RUNS))
        return;
    memset(world, 0, sizeof(world));
    for (unsigned i = 0; i < 2; i++) {
        struct world *w = &world[i];
        w->seed = run + 1u;
        w->nested = nested;
        w->cpus = 1 + run % VCPUS;
        w->maxphyaddr = maxphyaddr[run % 3];
        w->strict = true;
        struct pn_mmu_config cfg = config_of(run, i ? PN_MMU_TDP : PN_MMU_SHADOW);
        cfg.tlb = fixture_tlb(run / (i ? 1 : 4)); /* no guest can tell */
        world_begin(w, &cfg);
    }
    bool often = getenv("PN_AUDIT");
    for (uint64_t step = 0; step < steps; step++) {
        for (unsigned i = 0; i < 2; i++) {
            world[i].step = step;
            one_step(&world[i]);
        }
        compare(&world[0], &world[1], step % 256 == 0);
        if (often && step % 7 == 0)
            audit(world);
    }
    audit(world);
    for (unsigned i = 0; i < world[0].cpus; i++)
        ck_assert_uint_eq(world[0].cpu[i].stats.v[PN_STAT_pf_guest],
                          world[1].cpu[i].stats.v[PN_STAT_pf_guest]);
    world_end(&world[0]);
    world_end(&world[1]);
    ck_assert(world[0].taken == world[1].taken);
}

START_TEST(shadow_and_tdp_answer_alike) {
    run_both((unsigned)_i, false, STEPS);
}
END_TEST

START_TEST(shadow_and_tdp_answer_nested_guests_alike) {
    run_both((unsigned)_i, true, NESTED_STEPS);
}
END_TEST

SUITE("mmu lockstep", .timeout = 800,
      .loops = {{shadow_and_tdp_answer_alike, RUNS},
                {shadow_and_tdp_answer_nested_guests_alike, RUNS}})
