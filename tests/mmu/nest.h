/* SPDX-License-Identifier: MIT */
/*
 * The guest of world.h as a hypervisor: further tables, in a format of their own, below the
 * tables of its guests, and worlds 1 and 2 that have them, beside world 3, which has not.
 * Twenty pages are such tables. Guests' frames are mostly where their number says; those of
 * guest tables lead to a table of the same level, or now and then elsewhere.
 *
 * They are NPT, of each format of tables, or EPT.
 *
 * A and D of both formats must be the same bits wherever one page may be a table of both: so
 * no guest gets to nested tables by its own address when entries have other sizes there, or
 * are PDPTEs.
 */
#pragma once

/* ---- Entries ---- */

static unsigned ntable_of(pn_gfn gfn) {
    for (unsigned k = 0; k < NTABLES; k++)
        if (ntable_gfn(k) == gfn)
            return k;
    return NTABLES;
}

static unsigned nhome(const struct world *w, unsigned k) {
    unsigned level = k < 2 ? 5 : k < 4 ? 4 : k < 7 ? 3 : k < 11 ? 2 : 1;
    return level > w->nlevels ? w->nlevels : level;
}

static pn_gfn npage_of_level(struct world *w, unsigned level) {
    for (;;) {
        unsigned k = (unsigned)below(w, NTABLES);
        if (nhome(w, k) == level)
            return ntable_gfn(k);
    }
}

static unsigned nsize(const struct world *w) {
    return w->nlevels == 2 ? 4 : 8;
}
static unsigned nbits(const struct world *w) {
    return w->nlevels == 2 ? 10 : 9;
}

/* Where a guest's frame is. */
static pn_gfn ntarget(struct world *w, pn_gfn gfn) {
    unsigned t = table_of(gfn), k = (unsigned)below(w, 100);
    if (t < TABLES)
        return k < 75 ? gfn : k < 93 ? page_of_level(w, home(w, t)) : 64 + below(w, 64);
    if (k < 60)
        return gfn;
    gfn = data_gfn(w);
    return apart(w) && ntable_of(gfn) < NTABLES ? 64 : gfn;
}

/* Bits of EPT's entries. */
#define E_R  1ull
#define E_W  2ull
#define E_X  4ull
#define E_A  (1ull << 8)
#define E_D  (1ull << 9)
#define E_XU (1ull << 10)

static bool npresent(const struct world *w, uint64_t v) {
    return w->nept ? v & (E_R | E_W | E_X | (w->nmbec ? E_XU : 0)) : v & P;
}

/* The same of EPT: rights that may not be, and memory types, are rare. */
static uint64_t epte_of(struct world *w, unsigned level, pn_gfn gfn) {
    bool rare = level > 1 || table_of(gfn) < TABLES;
    uint64_t f = chance(w, rare ? 99 : 95) ? E_R : 0;
    f |= chance(w, rare ? 98 : 80) && (f || chance(w, 5)) ? E_W : 0;
    f |= chance(w, rare ? 98 : 85) ? E_X : 0;
    f |= chance(w, 75) ? E_XU : 0;
    f |= chance(w, 60) ? E_A : 0;
    f |= chance(w, 50) ? E_D : 0;
    f |= chance(w, 1) ? below(w, 8) << 3 : 0;
    if (level == 1)
        return (f | ntarget(w, gfn) << 12) ^ (chance(w, 98) ? 6 << 3 : 0);
    if (level <= 3 && chance(w, level == 2 ? 25 : 4)) {
        pn_gfn mask = ~((1ull << 9 * (level - 1)) - 1);
        return f | PS | 6 << 3 | (gfn & mask) << 12;
    }
    return f | npage_of_level(w, level - 1) << 12;
}

/* The entry of a level for a guest's frame. */
static uint64_t npte_of(struct world *w, unsigned level, pn_gfn gfn) {
    bool rare = level > 1 || table_of(gfn) < TABLES;
    uint64_t limit = w->nlevels == 2 ? 0xfffff : ~0ull, f = 0;
    if (w->nept)
        return epte_of(w, level, gfn);
    if (w->nlevels == 3 && level == 3) /* a PDPTE */
        return (chance(w, 98) ? P : 0) | npage_of_level(w, 2) << 12;
    f |= chance(w, rare ? 99 : 95) ? P : 0;
    f |= chance(w, rare ? 98 : 80) ? W : 0;
    f |= chance(w, rare ? 99 : 95) ? U : 0;
    f |= chance(w, 60) ? A : 0;
    f |= chance(w, 50) ? D : 0;
    f |= chance(w, level == 1 ? 20 : 1) ? G : 0;
    f |= w->nlevels > 2 && chance(w, level > 1 ? 2 : 12) ? NX : 0;
    if (level == 1)
        return f | (ntarget(w, gfn) & limit) << 12;
    if (level <= 3 && chance(w, level == 2 ? 25 : 4)) {
        pn_gfn base = chance(w, 80) || apart(w) ? gfn : 0x400;
        return f | PS | (base & limit & ~((1ull << nbits(w) * (level - 1)) - 1)) << 12;
    }
    return f | npage_of_level(w, level - 1) << 12;
}

static pn_gpa nentry(const struct world *w, pn_gfn table, unsigned level, pn_gfn gfn) {
    pn_gfn index = gfn >> nbits(w) * (level - 1) & ((1u << nbits(w)) - 1);
    return table << 12 | index * nsize(w);
}

/* A guest's frame of some use. */
static pn_gfn nframe(struct world *w) {
    return chance(w, 50) ? table_gfn((unsigned)below(w, TABLES)) : data_gfn(w);
}

/* Map a frame under a root, by a page of some size. */
static void nmap(struct world *w, pn_gfn table, pn_gfn gfn) {
    for (unsigned level = w->nlevels; level; level--) {
        uint64_t v = 0;
        pn_gpa at = nentry(w, table, level, gfn);
        pn_mmu_read_phys(w->mmu, at, &v, nsize(w));
        if (level == 1 || !npresent(w, v)) {
            v = npte_of(w, level, gfn);
            pn_mmu_write_phys(w->mmu, at, &v, nsize(w));
        }
        if (!npresent(w, v) || (level < 4 && v & PS))
            return;
        table = (v & ~NX) >> 12 & 0xffffffff;
    }
}

/* ---- What the hypervisor does ---- */

static void enter_world(struct world *w, struct cpu *c) {
    struct pn_world to = {.asid = c->world, .second = c->ncr3};
    to.host = fixture_paging(w->nlevels, c->ncr3);
    to.ept = w->nept;
    to.mbec = w->nmbec;
    to.eptp = c->ncr3 | (w->nlevels - 1) << 3 | 6 | (w->nad ? 0x40 : 0);
    pn_mmu_set_world(c->v, &to, &c->p);
}

static void own_all(struct world *w) {
    for (unsigned i = 0; i < w->cpus; i++)
        memset(w->cpu[i].old, true, sizeof(w->cpu[i].old));
}

/* A guest is about to store to gpa. Return: what: an entry, where it is one. */
static uint64_t nest_stored(struct world *w, pn_gpa gpa, uint64_t value) {
    unsigned k = ntable_of(gpa >> 12);
    if (k == NTABLES)
        return value;
    own_all(w);
    uint64_t v = npte_of(w, nhome(w, k), nframe(w));
    /* A large page at another address than its own would lead to nested tables. */
    return w->nept && v & PS ? 0 : v;
}

/* Forget what was translated in this vCPU's world, or in all. */
static void nest_flush(struct world *w, struct cpu *c) {
    bool all = chance(w, 20);
    if (w->nept && chance(w, 40)) { /* INVEPT */
        pn_mmu_flush_second(c->v);
        for (unsigned i = 1; i < 3; i++) {
            c->old[i] = false;
            memset(c->stale[i], false, sizeof(c->stale[i]));
        }
        return;
    }
    if (w->nlevels == 3)
        enter_world(w, c); /* its PDPTEs are read there */
    pn_mmu_flush_asid(c->v, c->world, all);
    for (unsigned i = 0; i < WORLDS; i++)
        if (all || i == c->world) {
            c->old[i] = false;
            memset(c->stale[i], false, sizeof(c->stale[i]));
        }
}

/* Another format. The tables of its guests are then made with it in view (apart). */
static void nest_choose(struct world *w) {
    static const unsigned modes[] = {4, 4, 4, 5, 3, 2, 4, 4, 5};
    unsigned mode = (unsigned)below(w, 9);
    w->nlevels = modes[mode];
    w->nept = mode > 5;
    w->nad = chance(w, 70);
    w->nmbec = w->nept && chance(w, 30);
}

/* Tables in the format that was chosen; all vCPUs are in their own world. */
static void nest_mode(struct world *w) {
    for (unsigned k = 0; k < NTABLES; k++)
        for (unsigned i = 0; i < 512; i++) {
            uint64_t none = 0;
            pn_mmu_write_phys(w->mmu, ntable_gfn(k) << 12 | i * 8, &none, 8);
        }
    for (unsigned k = 0; k < 7; k++)
        for (unsigned i = 0; nhome(w, k) == w->nlevels && i < 120; i++)
            nmap(w, ntable_gfn(k), nframe(w));
    for (unsigned i = 0; i < w->cpus; i++) {
        struct cpu *c = &w->cpu[i];
        c->world = 0;
        c->ncr3 = 0;
        enter_world(w, c);
        pn_mmu_flush_asid(c->v, 0, true);
        memset(c->stale, false, sizeof(c->stale));
        memset(c->old, false, sizeof(c->old));
    }
}

static void write_gpte(struct world *w, struct cpu *c, pn_gpa gpa, uint64_t value);
static void new_pdptes(struct world *w, struct cpu *c);
static struct pn_paging random_paging(struct world *w, const struct cpu *c);

static void nest_edit(struct world *w, struct cpu *c) {
    unsigned k = (unsigned)below(w, NTABLES), level = nhome(w, k);
    pn_gfn gfn = nframe(w);
    pn_gpa gpa = nentry(w, ntable_gfn(k), level, gfn);
    uint64_t value = npte_of(w, level, gfn);
    if (chance(w, 50)) {
        uint64_t was = 0;
        static const uint64_t bit[][8] = {{P, W, U, A, D, A | D, G, NX},
                                          {E_R, E_W, E_X, E_A, E_D, E_A | E_D, E_XU, 8}};
        pn_mmu_read_phys(w->mmu, gpa, &was, nsize(w));
        value = was ^ bit[w->nept][below(w, w->nlevels == 2 ? 7 : 8)];
    }
    own_all(w);
    if (!apart(w) && chance(w, 50)) {
        write_gpte(w, c, gpa, value);
        return;
    }
    owe_all(w); /* guests' tables may stand there */
    pn_mmu_write_phys(w->mmu, gpa, &value, nsize(w));
}

static void nest_switch(struct world *w, struct cpu *c) {
    c->world = (unsigned)below(w, WORLDS);
    c->ncr3 = 0;
    if (c->world == 1 || c->world == 2)
        c->ncr3 = npage_of_level(w, w->nlevels) << 12;
    if (chance(w, 50)) {
        c->p.cr3 = w->levels ? page_of_level(w, w->levels) << 12 : 0;
        if (c->p.cr4 & CR4_PCIDE)
            c->p.cr3 |= below(w, PCIDS);
    }
    if (w->levels == 3 && chance(w, 50))
        new_pdptes(w, c);
    if (chance(w, 30))
        c->p = random_paging(w, c);
    enter_world(w, c);
}

/* Edit the leaf gpte of an address, invalidate that by INVLPGA, look. */
static void nest_invlpga(struct world *w, struct cpu *c) {
    struct walk wk = {.fixes = 0};
    pn_gva gva = any_gva(w);
    unsigned asid = chance(w, 70) ? c->world : (unsigned)below(w, WORLDS);
    int rc =
        stage_walk(c->v, &c->v->walk, gva, PN_READ, PN_TLB_SUPER_AC, WALK_PROBE, &wk);
    if (asid == c->world && c->v->walk.levels && !rc && wk.level < 3)
        write_gpte(w, c, wk.slot_gpa[wk.level], gpte_of(w, wk.level));
    pn_mmu_invlpga(c->v, gva, asid);
    check_all(w, c, gva, asid == c->world ? !(c->ncr3 && c->old[asid]) : is_exact(c));
}

static void nest_step(struct world *w, struct cpu *c) {
    unsigned k = (unsigned)below(w, 100);
    if (k < 40)
        nest_edit(w, c);
    else if (k < 80)
        nest_switch(w, c);
    else if (k < 90)
        nest_flush(w, c);
    else
        nest_invlpga(w, c);
}
