/* SPDX-License-Identifier: MIT */
/* The property test: a random guest (world.h) against a direct walk of its tables, under
 * each MMU, and the same as a hypervisor, with nested tables (nest.h). PN_SEED=n runs one
 * seed, PN_AUDIT=1 with it audits after every step, PN_STEPS=n makes n steps. */
#include "tests/suite.h"
#include "world.h"

#ifdef PN_TEST_SLOW_BUILD
#define STEPS        4000
#define NESTED_STEPS 400
#else
#define STEPS        26000
#define NESTED_STEPS 2500
#endif
#define RUNS 40
/* Options by run: each mechanism on and off, tight budgets, few roots. */
static struct pn_mmu_config config_of(unsigned run) {
    struct pn_mmu_config cfg = {0};
    pn_mmu_options_default(&cfg.opt);
    cfg.opt.unsync = run % 4 != 3;
    cfg.opt.flood_threshold = (uint32_t[]){3, 1, 0, 3, 10}[run % 5];
    cfg.opt.prefetch = (uint32_t[]){8, 0, 512, 3}[run / 4 % 4];
    cfg.opt.large_pages = run % 3 != 2;
    cfg.opt.page_budget = run % 2 ? 64 : 1024;
    cfg.opt.cached_roots = (uint32_t[]){3, 0, 15, 1, 7}[run / 2 % 5];
    cfg.kind = run / RUNS % 2 ? PN_MMU_TDP : PN_MMU_SHADOW;
    cfg.opt.tdp_levels = 4 + run / 3 % 2;
    cfg.opt.eager_split = run / 4 % 2;
    cfg.opt.policy = (run + run / PN_POLICIES) % PN_POLICIES;
    cfg.opt.agile_interval = run % 2 ? 50 : 3000;
    cfg.opt.ad = run / 4 % 3;
    cfg.opt.nested = run / 2 % 2;
    cfg.tracker = fixture_tracker(run / 2);
    cfg.tlb = fixture_tlb(run % 9 / 2);
    return cfg;
}

static void run_guest(unsigned run, bool nested, uint64_t steps) {
    static const uint8_t maxphyaddr[] = {36, 40, 46, 52};
    static struct world world;
    struct world *w = &world;
    const char *only = getenv("PN_SEED"), *more = getenv("PN_STEPS");
    steps = more ? strtoull(more, NULL, 0) : steps;
    if (!run_is_wanted(&run, 2 * RUNS))
        return;
    memset(w, 0, sizeof(*w));
    w->seed = run + 1u;
    w->nested = nested;
    w->cpus = 1 + run % VCPUS;
    w->maxphyaddr = maxphyaddr[run % 4];
    struct pn_mmu_config cfg = config_of(run);
    world_begin(w, &cfg);
    unsigned every = only && getenv("PN_AUDIT") ? 1 : 7;
    for (w->step = 0; w->step < steps; w->step++) {
        one_step(w);
        if (w->step % every == 0 && pn_mmu_audit(w->mmu, stderr))
            FAIL(w, "the audit found violations");
    }
    world_end(w);
}

START_TEST(the_mmu_answers_as_a_walk_of_the_guests_tables) {
    run_guest((unsigned)_i, false, STEPS);
}
END_TEST

START_TEST(a_nested_guest_is_answered_as_by_a_walk_of_three_stages) {
    run_guest((unsigned)_i, true, NESTED_STEPS);
}
END_TEST

SUITE("mmu property", .timeout = 800,
      .loops = {{the_mmu_answers_as_a_walk_of_the_guests_tables, 2 * RUNS},
                {a_nested_guest_is_answered_as_by_a_walk_of_three_stages, 2 * RUNS}})
