/* SPDX-License-Identifier: MIT */
/*
 * Explain against the MMU itself: under a random guest (world.h) every outcome that is
 * foreseen is the one that comes, and to ask changes nothing. PN_SEED=n runs one seed,
 * PN_STEPS=n makes n steps.
 */
#include "mmu/shadow/shadow.h"
#include "mmu/tdp/tdp.h"
#include "penumbra/explain.h"
#include "tests/suite.h"
#include "world.h"

#ifdef PN_TEST_SLOW_BUILD
#define STEPS 600
#else
#define STEPS 1500
#endif
#define RUNS  40
#define ASKED 3 /* accesses foreseen after each step */

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

/* ---- To ask changes nothing ---- */

/* Of all that the MMU holds and counts, and of guest memory. */
static XXH64_hash_t state(struct world *w) {
    XXH3_state_t *h = XXH3_createState();
    XXH3_64bits_reset(h);
    for (struct sp_chunk *c = w->mmu->slab.chunks; c; c = c->next)
        XXH3_64bits_update(h, c, SP_CHUNK);
    for (unsigned i = 0; i < 4; i++)
        XXH3_64bits_update(h, w->slot[i].mem, w->slot[i].s.size);
    for (uint32_t i = 0; i < w->mmu->slots.count; i++) {
        const struct slot *s = w->mmu->slots.by_gfn[i];
        XXH3_64bits_update(h, s->rmap, s->npages * sizeof(*s->rmap));
        XXH3_64bits_update(h, s->track, s->npages * sizeof(*s->track));
        if (s->dirty)
            XXH3_64bits_update(h, s->dirty, (s->npages + 63) / 64 * 8);
    }
    for (unsigned i = 0; i < w->cpus; i++) {
        struct pn_mmu_vcpu *v = w->cpu[i].v;
        XXH3_64bits_update(h, &w->cpu[i].stats, sizeof(w->cpu[i].stats));
        XXH3_64bits_update(h, v->roots, sizeof(*v->roots));
        for_each_root_of(v, r)
            for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
                XXH3_64bits_update(h, r->tlb[mode],
                                   PN_TLB_ENTRIES * sizeof(struct pn_tlb_entry));
    }
    XXH64_hash_t digest = XXH3_64bits_digest(h);
    XXH3_freeState(h);
    return digest;
}

static bool count_mapping(void *opaque, const struct pn_mapping *m) {
    uint64_t *n = opaque;
    ck_assert_uint_ne(m->size, 0);
    return ++*n < 100000;
}

static bool count_table(void *opaque, const struct pn_table *t) {
    return ++*(uint64_t *)opaque < 100000;
}

static void ask_all(struct world *w) {
    struct cpu *c = &w->cpu[below(w, w->cpus)];
    struct pn_explanation x;
    uint64_t n = 0, tables = 0;
    XXH64_hash_t before = state(w);
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(pn_mmu_explain(c->v, any_gva(w), &x), 0);
    pn_mmu_guest_mappings(c->v, count_mapping, &n);
    pn_mmu_our_mappings(c->v, count_mapping, &n);
    pn_mmu_tables(w->mmu, count_table, &tables);
    if (state(w) != before)
        FAIL(w, "to ask has changed something");
    uint64_t pages =
        w->mmu->tdp ? w->mmu->tdp->pages + 1 : w->cpu[0].stats.v[PN_STAT_sp_pages];
    if (tables != pages)
        FAIL(w, "%llu tables are told of, there are %llu", (unsigned long long)tables,
             (unsigned long long)pages);
}

/* ---- What is foreseen comes ---- */

struct score {
    unsigned asked, exact;
    unsigned outcome[PN_OUT_COUNT];
};

/* The way of a nested guest's address is that of a direct walk. */
static void explain_nested(struct world *w, struct cpu *c) {
    static struct pn_explanation x;
    struct pn_xlate at;
    pn_gva gva = any_gva(w);
    ck_assert_int_eq(pn_mmu_explain(c->v, gva, &x), 0);
    enum pn_answer a = pn_mmu_probe(c->v, gva, PN_READ, PN_TLB_SUPER_AC, &at);
    if (x.asid != c->world || x.nested != !!c->ncr3)
        FAIL(w, "gva %#llx: another world", (unsigned long long)gva);
    if (a != PN_GUEST_PF && (!x.found || x.gpa != at.gpa))
        FAIL(w, "gva %#llx: gpa %#llx, not %#llx", (unsigned long long)gva,
             (unsigned long long)x.gpa, (unsigned long long)at.gpa);
    unsigned steps = 0;
    for (unsigned i = 0; i < x.steps; i++)
        steps += x.step[i].dimension == PN_DIM_NESTED && !x.step[i].of;
    if (x.nested && a != PN_GUEST_PF && (!x.reaches || !steps || steps > w->nlevels))
        FAIL(w, "gva %#llx: %u nested entries for the page", (unsigned long long)gva,
             steps);
}

static void foresee(struct world *w, struct cpu *c, struct score *score) {
    pn_gva gva = any_gva(w);
    /* There are no shadow stacks without paging. */
    enum pn_access access = below(w, w->nested && !w->levels ? 3 : PN_ACCESSES);
    enum pn_tlb_mode mode = below(w, 3);
    struct pn_verdict v;
    struct pn_xlate x;
    ck_assert_int_eq(pn_mmu_predict(c->v, gva, access, mode, &v), 0);
    enum pn_outcome came = pn_mmu_translate(c->v, gva, access, mode, &x);
    score->asked++;
    score->outcome[came]++;
    if (pn_answer(came) == PN_GUEST_PF && marks_in_vain(w, c, &x.fault))
        return;
    if (!v.exact) {
        /* Of a guest's guest: what its tables and nested ones say, once it has flushed. */
        bool same = pn_answer(v.outcome) == pn_answer(came);
        if (w->nested && c->ncr3)
            same |= !is_exact(c) || (pn_answer(came) == PN_TRACKED) +
                                            (pn_answer(v.outcome) == PN_MAPPED) +
                                            (pn_answer(came) == PN_MAPPED) +
                                            (pn_answer(v.outcome) == PN_TRACKED) ==
                                        2;
        if (!same)
            FAIL(w, "gva %#llx: answer %u, not %u", (unsigned long long)gva,
                 pn_answer(came), pn_answer(v.outcome));
        return;
    }
    score->exact++;
    if (came != v.outcome)
        FAIL(w, "gva %#llx access %u mode %u: outcome %u came, %u was foreseen",
             (unsigned long long)gva, access, mode, came, v.outcome);
    if (came == PN_OUT_guest_pf) {
        if (v.fault.error != x.fault.error || v.rule == PN_RULE_allowed)
            FAIL(w, "gva %#llx: #PF %#x, foreseen %#x by %s", (unsigned long long)gva,
                 x.fault.error, v.fault.error, pn_rule_name(v.rule));
    } else if (v.gpa != x.gpa) {
        FAIL(w, "gva %#llx: gpa %#llx, foreseen %#llx", (unsigned long long)gva,
             (unsigned long long)x.gpa, (unsigned long long)v.gpa);
    }
}

static void run_guest(unsigned run, bool nested) {
    static const uint8_t maxphyaddr[] = {36, 40, 46, 52};
    static struct world world;
    struct world *w = &world;
    struct score score = {0};
    const char *more = getenv("PN_STEPS");
    uint64_t steps = more ? strtoull(more, NULL, 0) : STEPS;
    if (!run_is_wanted(&run, 2 * RUNS))
        return;
    memset(w, 0, sizeof(*w));
    w->seed = run + 1u;
    w->nested = nested;
    w->cpus = 1 + run % VCPUS;
    w->maxphyaddr = maxphyaddr[run % 4];
    struct pn_mmu_config cfg = config_of(run);
    world_begin(w, &cfg);
    for (w->step = 0; w->step < steps; w->step++) {
        one_step(w);
        for (unsigned i = 0; i < ASKED; i++)
            foresee(w, &w->cpu[below(w, w->cpus)], &score);
        if (nested)
            explain_nested(w, &w->cpu[below(w, w->cpus)]);
        if (w->step % 100 == 0)
            ask_all(w);
    }
    for (unsigned i = 0; getenv("PN_STATS") && i < PN_OUT_COUNT; i++)
        fprintf(stderr, "%llu outcome %u: %u of %u, %u exact\n",
                (unsigned long long)w->seed, i, score.outcome[i], score.asked,
                score.exact);
    if (!nested)
        ck_assert_uint_ge(score.exact * 10, score.asked * 9);
    world_end(w);
}

START_TEST(what_is_foreseen_of_an_access_comes) {
    run_guest((unsigned)_i, false);
}
END_TEST

START_TEST(a_nested_guests_answers_are_foreseen_and_its_way_is_shown) {
    run_guest((unsigned)_i, true);
}
END_TEST

SUITE("mmu explain", .timeout = 800,
      .loops = {{what_is_foreseen_of_an_access_comes, 2 * RUNS},
                {a_nested_guests_answers_are_foreseen_and_its_way_is_shown, 2 * RUNS}})
