/* SPDX-License-Identifier: MIT */
/* The TLB model over both MMUs: what it counts for known accesses, what drops what, and
 * that the software TLB hides nothing from it. */
#include <errno.h>

#include "guest.h"
#include "mmu/model/model.h"
#include "tests/suite.h"

#define UNBOUNDED PN_ARRAY_UNBOUNDED
#define ALL       (PN_PAGES_4K | PN_PAGES_2M | PN_PAGES_1G)

static struct pn_tlb_model model;
static struct pn_stats mark; /* counters at zero(): since() is from there */
static bool seen;            /* every access goes to the MMU: the CPU has no TLB */

static void zero(void) {
    mark = f.stats;
}

static uint64_t since(enum pn_stat id) {
    return f.stats.v[id] - mark.v[id];
}

#define ck_since(name, n) ck_assert_uint_eq(since(PN_STAT_model_##name), n)

static uint64_t walks_of(unsigned refs) {
    return f.stats.walk_hist[refs] - mark.walk_hist[refs];
}

/* The CPU's data access. */
static void use(pn_gva gva, enum pn_access access) {
    if (!seen && hit(gva, access, PN_TLB_SUPER))
        pn_tlb_used(&f.view, entry(&f.view, gva, PN_TLB_SUPER));
    else
        ck_assert_int_eq(go(gva, access, PN_TLB_SUPER), PN_MAPPED);
}

static void fetch(pn_gva gva) {
    struct pn_fetches *p = pn_mmu_fetches(f.vcpu);
    if (!seen && (p->page == (gva & PN_PAGE_MASK) ||
                  pn_fetch_told(&f.view, p, gva & PN_PAGE_MASK)))
        return;
    if (seen || !pn_mmu_fetch_hit(f.vcpu, gva))
        pn_mmu_fetched(f.vcpu, gva, PN_TLB_SUPER);
}

static void unbounded_model(void) {
    const struct pn_tlb_array u = {.entries = UNBOUNDED, .pages = ALL};
    model = (struct pn_tlb_model){.name = "test", .pcid = true, .vpid = true};
    model.l1i.array[0] = model.l1d.array[0] = model.l2.array[0] = model.nested = u;
    for (unsigned level = 2; level <= 5; level++)
        model.walk[level] = model.second_walk[level] = u;
    tlb = &model;
}

static void no_model(void) {
    model = (struct pn_tlb_model){.name = "none", .pcid = true, .vpid = true};
    tlb = &model;
}

/* A guest with `pages` small pages mapped from GVA on, all touched and dirty. */
static pn_gpa guest(enum pn_mmu_kind kind, unsigned pages, uint64_t flags) {
    pn_mmu_options_default(&opt);
    opt.large_pages = 0;
    opt.prefetch = 0;
    begin(kind, 64 * MIB, PN_PAGE_SIZE, 0);
    pn_gpa root = 0;
    for (unsigned i = 0; i < pages; i++)
        root = map_page(4, 1, root, GVA + i * 4096ull, 32 * MIB + i * 4096ull,
                        P | W | A | D | flags);
    struct pn_paging p = fixture_paging(4, root);
    p.cr4 |= CR4_PGE | CR4_PCIDE;
    pn_mmu_set_paging(f.vcpu, &p);
    for (unsigned i = 0; i < pages; i++) {
        use(GVA + i * 4096ull, PN_WRITE);
        ck_assert_int_eq(go(GVA + i * 4096ull, PN_FETCH, PN_TLB_SUPER), PN_MAPPED);
    }
    return root;
}

/* Everything out of the model's caches, without an access. */
static void flush(void) {
    pn_mmu_invpcid(f.vcpu, 2, 0, 0);
    zero();
}

static const enum pn_mmu_kind kinds[] = {PN_MMU_SHADOW, PN_MMU_TDP};

/* ---- Walks cost what theory says ---- */

static const uint64_t page_of[4] = {0, PN_PAGE_SIZE, 2 * MIB, GIB};

static void cost_case(enum pn_mmu_kind kind, unsigned g, unsigned gl, unsigned h,
                      unsigned hl, unsigned want) {
    no_model();
    pn_mmu_options_default(&opt);
    opt.tdp_levels = h;
    opt.large_pages = hl > 1;
    begin(kind, hl == 3 ? 2 * GIB : 64 * MIB, page_of[hl], 0);
    pn_gva gva = GVA & ~(page_of[gl] - 1);
    paging(g, map_page(g, gl, 0, gva, gl == 3 ? 0 : 32 * MIB, P | W));
    use(gva, PN_WRITE);
    zero();
    for (unsigned i = 0; i < 5; i++)
        use(gva, PN_WRITE);
    fetch(gva);
    ck_since(l1d_miss, 5);
    ck_since(l1i_miss, 1);
    ck_since(walk_data, 5);
    ck_since(walk_fetch, 1);
    ck_since(walk_fault, 0);
    ck_since(l2_hit, 0);
    ck_assert_msg(walks_of(want) == 6, "%ux%u, %u on %u: not %u references", g, h, gl, hl,
                  want);
    ck_since(refs, 6 * want);
    uint64_t sum = 0;
    for (unsigned i = 0; i < 10; i++)
        sum += since(PN_STAT_model_guest_l1 + i);
    ck_assert_uint_eq(sum, 6 * want);
    end();
}

START_TEST(none_walks_as_theory_says) {
    cost_case(PN_MMU_SHADOW, 4, 1, 4, 1, 4);
    cost_case(PN_MMU_SHADOW, 5, 1, 4, 1, 5);
    cost_case(PN_MMU_SHADOW, 4, 2, 4, 2, 3);
    cost_case(PN_MMU_TDP, 4, 1, 4, 1, 24);
    cost_case(PN_MMU_TDP, 5, 1, 5, 1, 35);
    cost_case(PN_MMU_TDP, 5, 1, 4, 1, 29);
    cost_case(PN_MMU_TDP, 4, 1, 5, 1, 29);
    cost_case(PN_MMU_TDP, 4, 1, 4, 2, 19);
    cost_case(PN_MMU_TDP, 4, 2, 4, 2, 15);
    cost_case(PN_MMU_TDP, 4, 1, 4, 3, 14);
    cost_case(PN_MMU_TDP, 4, 3, 4, 3, 8);
}
END_TEST

/* ---- Without bounds only what is new misses ---- */

START_TEST(unbounded_caches_miss_what_is_new_under_shadow) {
    unbounded_model();
    guest(PN_MMU_SHADOW, 4, 0);
    flush();
    for (unsigned k = 0; k < 3; k++)
        for (unsigned i = 0; i < 4; i++)
            use(GVA + i * 4096, PN_READ);
    ck_since(l1d_miss, 4);
    ck_since(walk_data, 4);
    ck_assert_uint_eq(walks_of(4), 1); /* then the level-2 entry is cached */
    ck_assert_uint_eq(walks_of(1), 3);
    ck_since(walk_hit_l2, 3);
    pn_mmu_invlpg(f.vcpu, GVA);
    for (unsigned i = 0; i < 4; i++)
        use(GVA + i * 4096, PN_READ);
    ck_since(l1d_miss, 5);
    ck_since(flush_host_page, 1);
    ck_since(exit_inval, 1);
    fetch(GVA); /* the second level knows it */
    ck_since(l1i_miss, 1);
    ck_since(l2_hit, 1);
    end();
}
END_TEST

START_TEST(unbounded_caches_miss_what_is_new_under_tdp) {
    unbounded_model();
    guest(PN_MMU_TDP, 4, 0);
    pn_mmu_zap_all(f.mmu); /* the second-level caches are flushed, too */
    for (unsigned i = 0; i < 4; i++)
        use(GVA + i * 4096, PN_WRITE);
    pn_mmu_zap_all(f.mmu);
    use(GVA, PN_WRITE);
    zero();
    f.vcpu->model->flush = true; /* as INVEPT: all of it */
    pn_mmu_drop_tlb(f.vcpu);
    use(GVA, PN_READ);
    /* The page's table, and each table above it, is another 4 KiB page of one region:
     * 4 + 1 for the first gpte, 1 + 1 for the next ones, 1 + 3 for the page, whose
     * region shares the two upper levels with the tables'. */
    ck_since(guest_l4, 1);
    ck_since(guest_l1, 1);
    ck_since(nested_miss, 4);
    ck_since(table_l4, 1);
    ck_since(table_l3, 1);
    ck_since(table_l2, 2);
    ck_since(table_l1, 5);
    ck_since(refs, 13);
    zero();
    pn_mmu_invlpg(f.vcpu, GVA); /* drops this space's walk cache, not the nested TLB */
    use(GVA, PN_READ);
    ck_since(nested_hit, 4);
    ck_since(refs, 4 + 1);
    ck_since(flush_page, 1);
    ck_since(exit, 0);
    end();
}
END_TEST

START_TEST(the_first_store_through_a_clean_entry_walks) {
    unbounded_model();
    guest(PN_MMU_TDP, 1, 0);
    pn_gpa root = f.vcpu->paging.cr3;
    map_page(4, 1, root, GVA, 32 * MIB, P | W | A);
    pn_mmu_invlpg(f.vcpu, GVA);
    zero();
    use(GVA, PN_READ);
    use(GVA, PN_READ);
    ck_since(walk_data, 1);
    use(GVA, PN_WRITE); /* D is to be set */
    ck_since(walk_data, 2);
    ck_since(exit, 0);
    use(GVA, PN_WRITE);
    use(GVA, PN_READ);
    ck_since(walk_data, 2);
    end();
}
END_TEST

/* ---- Faults and exits ---- */

START_TEST(a_fault_is_a_walk_that_faulted) {
    for (unsigned k = 0; k < 2; k++) {
        bool shadow = kinds[k] == PN_MMU_SHADOW;
        unbounded_model();
        pn_gpa root = guest(kinds[k], 1, 0);
        zero();
        ck_assert_int_eq(go(GVA + 4096, PN_READ, PN_TLB_SUPER), PN_GUEST_PF);
        ck_since(walk_fault, 1);
        ck_since(exit, shadow);
        ck_since(inject, shadow);
        map_page(4, 1, root, GVA + 4096, 33 * MIB, P | W | A | D);
        zero();
        use(GVA + 4096, PN_READ);
        ck_since(exit, 1); /* a shadow fault, or a violation */
        ck_since(shadow_fault, shadow);
        ck_since(violation, !shadow);
        ck_since(walk_fault, 1);
        ck_since(walk_data, 2);
        end();
    }
}
END_TEST

static void code_in_region(void) {
    ck_assert_int_eq(pn_mmu_track_add(f.mmu, (32 * MIB >> 12) + 100), 0);
}

/* Exits for a page of `level` and 8 small steps in it, in a region without tables; with
 * code there from the beginning (1) or after the loads (2). */
static uint64_t exits_in_region(enum pn_mmu_kind kind, unsigned level, unsigned code) {
    unbounded_model();
    pn_mmu_options_default(&opt);
    opt.prefetch = 0;
    begin(kind, 64 * MIB, 2 * MIB, 0);
    pn_gva gva = GVA & ~(2 * MIB - 1);
    pn_gpa root = 0;
    for (unsigned i = 0; i < (level > 1 ? 1 : 8); i++)
        root =
            map_page(4, level, root, gva + i * 4096, 32 * MIB + i * 4096, P | W | A | D);
    paging(4, root);
    if (code == 1)
        code_in_region();
    zero();
    for (unsigned i = 0; i < 8; i++)
        use(gva + i * 4096, PN_READ);
    if (code == 2)
        code_in_region();
    for (unsigned i = 0; i < 8; i++)
        use(gva + i * 4096, PN_WRITE);
    ck_since(l1d_miss, level > 1 ? 1 : 8);
    uint64_t exits = since(PN_STAT_model_shadow_fault) + since(PN_STAT_model_violation);
    ck_since(exit_fault, exits);
    end();
    return exits;
}

START_TEST(a_region_faults_once_per_mapping) {
    for (unsigned code = 0; code < 3; code++) {
        ck_assert_uint_eq(exits_in_region(PN_MMU_SHADOW, 1, code), 8);
        ck_assert_uint_eq(exits_in_region(PN_MMU_SHADOW, 2, code), 1);
        ck_assert_uint_eq(exits_in_region(PN_MMU_TDP, 1, code), 2); /* the tables', too */
        ck_assert_uint_eq(exits_in_region(PN_MMU_TDP, 2, code), 2);
    }
}
END_TEST

START_TEST(code_tracking_is_left_out) {
    for (unsigned k = 0; k < 2; k++) {
        unbounded_model();
        guest(kinds[k], 2, 0);
        flush();
        use(GVA, PN_WRITE);
        zero();
        ck_assert_int_eq(pn_mmu_track_add(f.mmu, 32 * MIB >> 12), 0);
        for (unsigned i = 0; i < 3; i++)
            ck_assert_int_eq(go(GVA, PN_WRITE, PN_TLB_SUPER), PN_TRACKED);
        pn_mmu_track_remove(f.mmu, 32 * MIB >> 12);
        use(GVA, PN_WRITE);
        ck_since(exit, 0);
        ck_since(l1d_miss, 0);
        ck_since(flush_host_all, 0);
        ck_since(shadow_fault, 0);
        ck_since(violation, 0);
        end();
    }
}
END_TEST

START_TEST(the_hypervisor_flushes) {
    for (unsigned k = 0; k < 2; k++) {
        unbounded_model();
        guest(kinds[k], 2, 0);
        flush();
        use(GVA, PN_READ);
        use(GVA + 4096, PN_READ);
        struct pn_memslot slot = {
            .flags = PN_SLOT_LOG_DIRTY, .size = 64 * MIB, .hva = f.mem};
        ck_assert_int_eq(pn_mmu_slot_set(f.mmu, &slot), 0); /* writes are to be seen */
        zero();
        use(GVA, PN_READ);
        use(GVA + 4096, PN_READ);
        ck_since(flush_host_all, 1); /* once, however many mappings */
        ck_assert_uint_ge(since(PN_STAT_model_walk_data), 2);
        end();
    }
}
END_TEST

START_TEST(without_vpid_an_exit_flushes) {
    unbounded_model();
    model.vpid = false;
    guest(PN_MMU_TDP, 1, 0);
    flush();
    use(GVA, PN_READ);
    pn_mmu_exited(f.vcpu, PN_VM_PIO);
    use(GVA, PN_READ);
    ck_since(l1d_miss, 2);
    ck_since(flush_switch, 1);
    ck_since(exit_pio, 1);
    end();
}
END_TEST

/* ---- Address spaces ---- */

static void load_cr3(uint64_t cr3, bool noflush) {
    pn_mmu_set_cr3(f.vcpu, cr3, noflush, NULL);
}

/* Two spaces that share their tables, PCID 1 and 2. Return: L1 misses of 1 2 1 2. */
static uint64_t two_spaces(bool tags, bool noflush, uint64_t flags) {
    unbounded_model();
    model.pcid = tags;
    pn_gpa root = guest(PN_MMU_TDP, 1, flags);
    load_cr3(root | 1, false);
    use(GVA, PN_READ);
    load_cr3(root | 2, false);
    use(GVA, PN_READ);
    flush();
    for (unsigned i = 0; i < 4; i++) {
        load_cr3(root | (i % 2 + 1), noflush);
        use(GVA, PN_READ);
    }
    uint64_t misses = since(PN_STAT_model_l1d_miss);
    ck_since(cr3_load, 4);
    end();
    return misses;
}

START_TEST(pcids_keep_modelled_entries_apart) {
    ck_assert_uint_eq(two_spaces(true, true, 0), 2);
    ck_assert_uint_eq(two_spaces(true, false, 0), 4);
    ck_assert_uint_eq(two_spaces(false, true, 0), 4);
    ck_assert_uint_eq(two_spaces(true, false, G), 1); /* global: of every space */
    ck_assert_uint_eq(two_spaces(false, false, G), 1);
}
END_TEST

START_TEST(invpcid_drops_what_it_names) {
    unbounded_model();
    pn_gpa root = guest(PN_MMU_TDP, 1, 0);
    load_cr3(root | 1, false);
    use(GVA, PN_READ);
    load_cr3(root | 2, false);
    static const unsigned miss_after[4] = {1, 1, 1, 1};
    for (unsigned type = 0; type < 4; type++) {
        use(GVA, PN_READ);
        zero();
        pn_mmu_invpcid(f.vcpu, type, 1, GVA); /* types 0, 1: another space's */
        use(GVA, PN_READ);
        ck_since(l1d_miss, type >= 2 ? miss_after[type] : 0);
        pn_mmu_invpcid(f.vcpu, type, 2, GVA);
        use(GVA, PN_READ);
        ck_since(l1d_miss, type >= 2 ? 2 : miss_after[type]);
        ck_since(inval, 2);
    }
    end();
}
END_TEST

START_TEST(shadow_cr3_loads_exit) {
    unbounded_model();
    pn_gpa root = guest(PN_MMU_SHADOW, 1, 0);
    load_cr3(root | 1, false);
    use(GVA, PN_READ);
    load_cr3(root, true);
    zero();
    load_cr3(root | 1, true); /* a root that is kept: nothing flushed */
    use(GVA, PN_READ);
    ck_since(exit_cr3, 1);
    ck_since(l1d_miss, 0);
    load_cr3(root | 1, false);
    use(GVA, PN_READ);
    ck_since(exit_cr3, 2);
    ck_since(l1d_miss, 1);
    ck_since(flush_host_all, 1);
    end();
}
END_TEST

/* ---- The software TLB hides nothing ---- */

#define PAGES 96u

/* What a processor with an LRU TLB of two levels does, from the definition: lists of
 * pages, the last used first. */
struct list_tlb {
    unsigned sets, ways, n[16];
    unsigned page[16][16];
};

static bool list_use(struct list_tlb *t, unsigned page) {
    unsigned s = page % t->sets, i = 0, *p = t->page[s];
    while (i < t->n[s] && p[i] != page)
        i++;
    bool found = i < t->n[s];
    if (!found && t->n[s] < t->ways)
        i = t->n[s]++;
    else if (!found)
        i = t->ways - 1;
    for (; i; i--)
        p[i] = p[i - 1];
    p[0] = page;
    return found;
}

static void list_drop(struct list_tlb *t, unsigned page) {
    unsigned s = page % t->sets;
    for (unsigned i = 0; i < t->n[s]; i++)
        if (t->page[s][i] == page) {
            t->n[s]--;
            for (; i < t->n[s]; i++)
                t->page[s][i] = t->page[s][i + 1];
        }
}

static void small_model(enum pn_replacement how) {
    unbounded_model();
    model.l1d.array[0] = (struct pn_tlb_array){16, 4, (uint8_t)how, ALL};
    model.l1i.array[0] = (struct pn_tlb_array){8, 2, (uint8_t)how, ALL};
    model.l2.array[0] = (struct pn_tlb_array){32, 4, (uint8_t)how, ALL};
}

/* Pages near the last one, mostly. */
static unsigned next_page(uint64_t *seed, unsigned last) {
    uint64_t r = rnd(seed);
    return r % 8 < 5   ? last
           : r % 8 < 7 ? (last + (r >> 8) % 5) % PAGES
                       : (unsigned)(r >> 8) % PAGES;
}

START_TEST(lru_counts_what_a_plain_simulator_counts) {
    for (unsigned k = 0; k < 2; k++) {
        small_model(PN_REPLACE_LRU);
        guest(kinds[k], PAGES, 0);
        flush();
        struct list_tlb l1d = {.sets = 4, .ways = 4}, l1i = {.sets = 4, .ways = 2};
        struct list_tlb l2 = {.sets = 8, .ways = 4};
        uint64_t seed = 7 + k, dmiss = 0, imiss = 0, l2hit = 0, walks = 0, calls = 0;
        unsigned d = 0, i = 0;
        uint64_t base = (GVA >> 12) % 16; /* sets go by the page's number */
        ck_assert_uint_eq(base, 0);
        for (unsigned n = 0; n < 60000; n++) {
            bool code = rnd(&seed) % 4 == 0;
            unsigned page = code ? (i = next_page(&seed, i)) : (d = next_page(&seed, d));
            if (code)
                fetch(GVA + page * 4096ull);
            else if (!hit(GVA + page * 4096ull, PN_READ, PN_TLB_SUPER))
                calls++;
            if (!code)
                use(GVA + page * 4096ull, n % 3 ? PN_READ : PN_WRITE);
            if (list_use(code ? &l1i : &l1d, page))
                continue;
            *(code ? &imiss : &dmiss) += 1;
            if (list_use(&l2, page))
                l2hit++;
            else
                walks++;
            if (rnd(&seed) % 64)
                continue;
            pn_mmu_invlpg(f.vcpu, GVA + page * 4096ull);
            list_drop(&l1d, page);
            list_drop(&l1i, page);
            list_drop(&l2, page);
        }
        ck_since(l1d_miss, dmiss);
        ck_since(l1i_miss, imiss);
        ck_since(l2_hit, l2hit);
        ck_assert_uint_eq(
            since(PN_STAT_model_walk_data) + since(PN_STAT_model_walk_fetch), walks);
        ck_assert_uint_lt(calls, 45000); /* many hits were the software TLB's */
        ck_assert_uint_gt(dmiss, 5000);
        end();
    }
}
END_TEST

/* Who answers the CPU in a random run. */
enum answer { FILTER, NOBODY, FILTER_DROPPED };

/* One random run. ways: of the first level's small pages, whose large ones have an array of their
 * own if they are few. Return: its counters of the model. */
static struct pn_stats trace(enum pn_mmu_kind kind, enum pn_replacement how,
                             unsigned ways, enum answer answer) {
    small_model(how);
    model.l1d.array[0].ways = model.l1i.array[0].ways = ways;
    if (ways < 8) {
        model.l1d.array[0].pages = model.l1i.array[0].pages = PN_PAGES_4K;
        model.l1d.array[1] = model.l1i.array[1] =
            (struct pn_tlb_array){4, 4, (uint8_t)how, PN_PAGES_2M};
    }
    seen = false;
    pn_gpa root = guest(kind, PAGES, 0);
    f.mmu->cfg.opt.large_pages = 1;
    pn_gva big = GVA + GIB;
    for (unsigned i = 0; i < 8; i++)
        map_page(4, 2, root, big + i * 2 * MIB, 48 * MIB,
                 P | W | A | D | (i & 1 ? G : 0));
    flush();
    seen = answer == NOBODY;
    uint64_t seed = 99;
    unsigned d = 0;
    for (unsigned n = 0; n < 40000; n++) {
        d = next_page(&seed, d);
        uint64_t r = rnd(&seed);
        pn_gva gva =
            r % 3 ? GVA + d * 4096ull : big + d % 8 * 2 * MIB + (r >> 9) % 512 * 4096;
        if (r % 7 == 0)
            fetch(gva);
        else
            use(gva, r % 5 ? PN_READ : PN_WRITE);
        if (answer == FILTER_DROPPED && n % 53 == 0)
            pn_mmu_drop_tlb(f.vcpu); /* the software CPU's: no matter of the model's */
        if (r % 611 == 0)
            pn_mmu_invlpg(f.vcpu, gva);
        if (r % 1999 == 0)
            load_cr3(root | (r >> 20) % 3, r >> 30 & 1);
    }
    seen = false;
    struct pn_stats s = f.stats;
    end();
    return s;
}

static void equal_traces(enum pn_mmu_kind kind, enum pn_replacement how, unsigned ways,
                         enum answer answer) {
    struct pn_stats part = trace(kind, how, ways, answer);
    struct pn_stats all = trace(kind, how, ways, NOBODY);
    for (unsigned i = 0; i < PN_STAT_COUNT; i++)
        if (pn_stat_kind(i) == PN_STAT_KIND_MODEL)
            ck_assert_msg(part.v[i] == all.v[i], "%s: %llu, not %llu", pn_stat_name(i),
                          (unsigned long long)part.v[i], (unsigned long long)all.v[i]);
    ck_assert_mem_eq(part.walk_hist, all.walk_hist, sizeof(all.walk_hist));
}

START_TEST(the_filter_hides_nothing) {
    for (unsigned k = 0; k < 2; k++)
        for (int how = 0; how < PN_REPLACE_COUNT; how++) {
            equal_traces(kinds[k], how, 4, FILTER);
            equal_traces(kinds[k], how, 4, FILTER_DROPPED);
            equal_traces(kinds[k], how, 8, FILTER);
        }
}
END_TEST

/* ---- Costs, and what is refused ---- */

START_TEST(cycles_are_the_sum_of_price_times_count) {
    struct pn_cost_profile p = {.name = "test", .hz = 1e9};
    struct pn_stats s = {0};
    double by[PN_COST_COUNT];
    p.price[PN_COST_insn] = 2;
    p.price[PN_COST_exit] = 1000;
    p.price[PN_COST_guest_ref_l1] = 30;
    p.price[PN_COST_exit_mmio] = 7;
    s.v[PN_STAT_model_exit] = 3;
    s.v[PN_STAT_model_guest_l1] = 10;
    s.v[PN_STAT_pf_mmio] = 1;
    s.v[PN_STAT_pf_mmio_spte] = 2;
    ck_assert_double_eq(pn_cost_cycles(&p, &s, 50, by), 100 + 3000 + 300 + 21);
    ck_assert_double_eq(by[PN_COST_insn], 100);
    ck_assert_double_eq(by[PN_COST_exit], 3000);
    ck_assert_double_eq(by[PN_COST_l2_tlb_hit], 0);
    ck_assert_double_eq(pn_cost_cycles(&p, &s, 0, NULL), 3321);
}
END_TEST

START_TEST(a_bad_geometry_is_refused) {
    struct pn_mmu_config cfg = {.maxphyaddr = 46, .tlb = &model};
    struct pn_mmu *mmu;
    pn_mmu_options_default(&cfg.opt);
    unbounded_model();
    model.walk[5].entries = 3;
    model.walk[5].ways = 2;
    ck_assert_int_eq(pn_mmu_create(&cfg, &mmu), -EINVAL);
}
END_TEST

SUITE("model", .timeout = 120,
      .tests = {none_walks_as_theory_says, unbounded_caches_miss_what_is_new_under_shadow,
                unbounded_caches_miss_what_is_new_under_tdp,
                the_first_store_through_a_clean_entry_walks,
                a_fault_is_a_walk_that_faulted, a_region_faults_once_per_mapping,
                code_tracking_is_left_out, the_hypervisor_flushes,
                without_vpid_an_exit_flushes, pcids_keep_modelled_entries_apart,
                invpcid_drops_what_it_names, shadow_cr3_loads_exit,
                lru_counts_what_a_plain_simulator_counts, the_filter_hides_nothing,
                cycles_are_the_sum_of_price_times_count, a_bad_geometry_is_refused})
