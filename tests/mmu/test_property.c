/* SPDX-License-Identifier: MIT */
/* The property test: a random guest (world.h) against a direct walk of its tables, under
 * each MMU. PN_SEED=n runs one seed, PN_AUDIT=1 with it audits after every step. */
#include "tests/suite.h"
#include "world.h"

#ifdef PN_TEST_SLOW_BUILD
#define STEPS 4000
#else
#define STEPS 26000
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
    cfg.kind = run < RUNS ? PN_MMU_SHADOW : PN_MMU_TDP;
    cfg.opt.tdp_levels = 4 + run / 3 % 2;
    cfg.opt.eager_split = run / 4 % 2;
    cfg.opt.policy = (run + run / PN_POLICIES) % PN_POLICIES;
    cfg.opt.agile_interval = run % 2 ? 50 : 3000;
    cfg.opt.ad = run / 4 % 3;
    cfg.tracker = fixture_tracker(cfg.kind, run / 2);
    cfg.tlb = fixture_tlb(run % 9 / 2);
    return cfg;
}

START_TEST(the_mmu_answers_as_a_walk_of_the_guests_tables) {
    static const uint8_t maxphyaddr[] = {36, 40, 46, 52};
    static struct world world;
    struct world *w = &world;
    memset(w, 0, sizeof(*w));
    w->seed = (uint64_t)_i + 1;
    const char *only = getenv("PN_SEED");
    if (only && strtoull(only, NULL, 0) != w->seed)
        return;
    w->cpus = 1 + (unsigned)_i % VCPUS;
    w->maxphyaddr = maxphyaddr[_i % 4];
    struct pn_mmu_config cfg = config_of((unsigned)_i);
    world_begin(w, &cfg);
    unsigned every = only && getenv("PN_AUDIT") ? 1 : 7;
    for (w->step = 0; w->step < STEPS; w->step++) {
        one_step(w);
        if (w->step % every == 0 && pn_mmu_audit(w->mmu, stderr))
            FAIL(w, "the audit found violations");
    }
    world_end(w);
}
END_TEST

SUITE("mmu property", .timeout = 800,
      .loops = {{the_mmu_answers_as_a_walk_of_the_guests_tables, 2 * RUNS}})
