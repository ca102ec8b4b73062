/* SPDX-License-Identifier: MIT */
/*
 * The exhaustive permission sweep: every combination of
 *
 *   PTE   P W U XD A D and a reserved bit                            (no XD in 32-bit)
 *   PDE   P W U XD A D PS and a reserved bit
 *   key   the AD and WD rights of the page's protection key, in PKRU and in IA32_PKRS
 *   mode  CR0.WP, CR4.SMEP, SMAP, PKE, PKS, EFER.NXE                 (32-bit: and PSE)
 *   access read, write, fetch, shadow-stack read and write, by user, supervisor with
 *          AC = 0, supervisor with AC = 1
 *
 * in 32-bit, PAE, 4-level and 5-level paging, is walked, and the result, the exact error
 * code and both entries afterwards are compared with `judge`, a second statement of the
 * rules written from the SDM's text (volume 3, "Paging": "Determination of Access
 * Rights", "Protection Keys", "Page-Fault Exceptions", "Accessed and Dirty Flags") that
 * shares nothing with the walker, not even constants.
 *
 * Slow builds (sanitizers, -O0) take every 5th combination of entries; 5 has no factor
 * in common with their number, so each bit still meets each mode.
 */
#include "fixture.h"
#include "tests/suite.h"

#include <stdlib.h>

#ifdef PN_TEST_SLOW_BUILD
#define STRIDE 5
#else
#define STRIDE 1
#endif

struct entry {
    bool p, w, u, xd, a, d, ps, rsvd;
};

struct control {
    unsigned levels;
    bool wp, smep, smap, pke, pks, nxe, pse;
    bool pkru_ad, pkru_wd, pkrs_ad, pkrs_wd;
};

struct request {
    enum pn_access kind;
    bool user, ac;
};

struct verdict {
    bool fault;
    uint32_t error;
    bool pde_a, pde_d, pte_a, pte_d; /* after the access */
};

/* ---- The SDM's rules, once more ---- */

static bool has_xd(const struct control *c) {
    return c->levels != 2 && c->nxe;
}

static bool entry_reserved(const struct control *c, const struct entry *e, bool page) {
    if (c->levels == 2)
        return page && e->rsvd && e->ps; /* bit 21 of a 4 MiB page */
    return e->rsvd || (e->xd && !c->nxe);
}

static bool stores(const struct request *r) {
    return r->kind == PN_WRITE || r->kind == PN_SS_WRITE;
}

static bool on_stack(const struct request *r) {
    return r->kind == PN_SS_READ || r->kind == PN_SS_WRITE;
}

/* "The PK flag": does the key's register forbid this data access? */
static bool key_forbids(const struct control *c, const struct request *r,
                        bool user_mode_address) {
    if (c->levels < 4 || r->kind == PN_FETCH)
        return false;
    if (user_mode_address) {
        if (!c->pke)
            return false;
        if (c->pkru_ad)
            return true;
        return c->pkru_wd && stores(r) && (c->wp || r->user);
    }
    if (!c->pks)
        return false;
    if (c->pkrs_ad)
        return true;
    return c->pkrs_wd && stores(r) && c->wp;
}

/* "Determination of Access Rights", one case after the other. */
static bool rights_forbid(const struct control *c, const struct request *r, bool u,
                          bool w, bool xd) {
    if (r->user) {
        if (!u)
            return true;
        switch (r->kind) {
        case PN_READ:
            return false;
        case PN_WRITE:
            return !w;
        default:
            return xd;
        }
    }
    if (!u) { /* supervisor access to a supervisor-mode address */
        switch (r->kind) {
        case PN_READ:
            return false;
        case PN_WRITE:
            return c->wp ? !w : false;
        default:
            return xd;
        }
    }
    switch (r->kind) { /* supervisor access to a user-mode address */
    case PN_READ:
        return c->smap ? !r->ac : false;
    case PN_WRITE:
        if (!c->wp)
            return c->smap ? !r->ac : false;
        return c->smap ? !(w && r->ac) : !w;
    default:
        return c->smep ? true : xd;
    }
}

static struct verdict judge(const struct control *c, const struct entry *pde,
                            const struct entry *pte, const struct request *r) {
    struct verdict v = {false, 0, pde->a, pde->d, pte->a, pte->d};
    uint32_t about = 0; /* the flags that describe the access */
    if (stores(r))
        about += 2;
    if (on_stack(r))
        about += 64;
    if (r->user)
        about += 4;
    if (r->kind == PN_FETCH && (c->smep || (c->levels != 2 && c->nxe)))
        about += 16;
    v.fault = true;
    v.error = about;
    if (!pde->p)
        return v;
    v.error = about + 1 + 8;
    bool page = pde->ps && (c->levels != 2 || c->pse);
    if (entry_reserved(c, pde, page))
        return v;
    bool u = pde->u, w = pde->w, xd = has_xd(c) && pde->xd;
    bool stack = page && !pde->w && pde->d;
    if (!page) {
        v.error = about;
        if (!pte->p)
            return v;
        v.error = about + 1 + 8;
        if (entry_reserved(c, pte, false))
            return v;
        stack = pde->w && !pte->w && pte->d;
        u = u && pte->u;
        w = w && pte->w;
        xd = xd || (has_xd(c) && pte->xd);
    }
    bool key = key_forbids(c, r, u);
    v.error = about + 1 + (key ? 32 : 0);
    /* "Shadow-stack access": to a shadow-stack address of the access's own mode. */
    if (key || (on_stack(r) ? !stack || u != r->user : rights_forbid(c, r, u, w, xd)))
        return v;
    v.fault = false;
    v.error = 0;
    v.pde_a = true;
    if (page) {
        v.pde_d = v.pde_d || r->kind == PN_WRITE;
    } else {
        v.pte_a = true;
        v.pte_d = v.pte_d || r->kind == PN_WRITE;
    }
    return v;
}

/* ---- Encoding ---- */

enum { MAXPHYADDR = 46, KEY = 5 };
enum { DATA = 0x8000, LARGE = 0x400000, PT = 0x1000, PD = 0x2000 };

static struct entry entry_of(unsigned bits) {
    return (struct entry){bits & 1,  bits & 2,  bits & 4,  bits & 8,
                          bits & 16, bits & 32, bits & 64, bits & 128};
}

/* Where the entry points, its rights; A and D apart. */
static uint64_t encode(const struct control *c, const struct entry *e, bool pde) {
    uint64_t q = pde ? (e->ps ? LARGE : PT) : DATA;
    if (pde && e->ps && c->levels == 2 && !c->pse)
        q = PT; /* the bit is ignored */
    q |= (e->p ? 1 : 0) | (e->w ? 2 : 0) | (e->u ? 4 : 0) | (e->ps ? 0x80 : 0);
    if (c->levels == 2)
        return q | (e->rsvd && pde && e->ps && c->pse ? 1u << 21 : 0);
    if (c->levels >= 4)
        q |= (uint64_t)KEY << 59;
    return q | (e->xd ? 1ull << 63 : 0) | (e->rsvd ? 1ull << 51 : 0);
}

static uint64_t ad(bool a, bool d) {
    return (a ? 0x20 : 0) | (d ? 0x40 : 0);
}

/* ---- The sweep ---- */

struct sweep {
    struct fixture f;
    struct control c;
    struct stage m;
    uint64_t walks, faults;
    unsigned wrong;
};

static void set_mode(struct sweep *s, unsigned bits) {
    struct control *c = &s->c;
    c->wp = bits & 1;
    c->smep = bits & 2;
    c->smap = bits & 4;
    c->pke = bits & 8;
    c->pks = bits & 16;
    c->nxe = bits & 32;
    c->pse = bits & 64;
    struct pn_paging p = {.cr0 = 0x80000001u | (c->wp ? 0x10000u : 0),
                          .cr3 = (uint64_t)c->levels << 12,
                          .cr4 = (c->levels != 2 ? 0x20u : 0) | (c->pse ? 0x10u : 0) |
                                 (c->levels == 5 ? 0x1000u : 0) |
                                 (c->smep ? 0x100000u : 0) | (c->smap ? 0x200000u : 0) |
                                 (c->pke ? 0x400000u : 0) | (c->pks ? 0x1000000u : 0),
                          .efer = (c->nxe ? 0x800u : 0) | (c->levels >= 4 ? 0x500u : 0)};
    for (unsigned i = 0; i < 4; i++)
        p.pdpte[i] = PD | 1;
    stage_init(&s->m, &p, MAXPHYADDR, 0);
}

/* rights: bit 0 AD, bit 1 WD. The two registers differ, and the keys around KEY say the
 * opposite, so that neither can stand in for the other unseen. */
static void set_key(struct sweep *s, unsigned rights) {
    unsigned other = (rights + 1) & 3;
    s->c.pkru_ad = rights & 1;
    s->c.pkru_wd = rights & 2;
    s->c.pkrs_ad = other & 1;
    s->c.pkrs_wd = other & 2;
    uint32_t mine = 3u << 2 * KEY;
    s->m.rights.pkru = (~(rights * 0x55555555u) & ~mine) | rights << 2 * KEY;
    s->m.rights.pkrs = (~(other * 0x55555555u) & ~mine) | other << 2 * KEY;
}

static void complain(struct sweep *s, const struct entry *pde, const struct entry *pte,
                     const struct request *r, const struct verdict *v, int rc,
                     uint32_t error, uint64_t pde_q, uint64_t pte_q) {
    const struct control *c = &s->c;
    if (s->wrong++ < 8)
        printf(
            "levels %u wp %d smep %d smap %d pke %d pks %d nxe %d pse %d pkru %d%d pkrs "
            "%d%d | kind %d user %d ac %d | pde %d%d%d xd %d ps %d rsvd %d a %d d %d | "
            "pte %d%d%d xd %d rsvd %d a %d d %d | want fault %d error %#x, got rc %d "
            "error %#x, pde %#llx pte %#llx\n",
            c->levels, c->wp, c->smep, c->smap, c->pke, c->pks, c->nxe, c->pse,
            c->pkru_ad, c->pkru_wd, c->pkrs_ad, c->pkrs_wd, r->kind, r->user, r->ac,
            pde->p, pde->w, pde->u, pde->xd, pde->ps, pde->rsvd, pde->a, pde->d, pte->p,
            pte->w, pte->u, pte->xd, pte->rsvd, pte->a, pte->d, v->fault, v->error, rc,
            error, (unsigned long long)pde_q, (unsigned long long)pte_q);
}

/* One access, on entries freshly written; the probe in between must agree and write
 * nothing. */
static void one(struct sweep *s, const struct entry *pde, const struct entry *pte,
                const struct request *r) {
    const struct control *c = &s->c;
    uint64_t pde_q = encode(c, pde, true), pte_q = encode(c, pte, false);
    uint64_t *pde_at = fixture_q(&s->f, PD), *pte_at = fixture_q(&s->f, PT);
    *pde_at = pde_q | ad(pde->a, pde->d);
    *pte_at = pte_q | ad(pte->a, pte->d);
    struct verdict v = judge(c, pde, pte, r);
    enum pn_tlb_mode mode = r->user ? PN_TLB_USER
                            : r->ac ? PN_TLB_SUPER_AC
                                    : PN_TLB_SUPER;
    struct walk w;
    bool ok = true;
    if (s->walks % 8 == 0) {
        uint64_t pde_was = *pde_at, pte_was = *pte_at;
        int rc = stage_walk(s->f.vcpu, &s->m, 0x10, r->kind, mode, WALK_PROBE, &w);
        ok = v.fault ? rc == -1 && w.fault.error == v.error : rc == 0;
        ok = ok && *pde_at == pde_was && *pte_at == pte_was;
    }
    int rc = stage_walk(s->f.vcpu, &s->m, 0x10, r->kind, mode, 0, &w);
    if (v.fault)
        ok = ok && rc == -1 && w.fault.error == v.error && w.fault.vector == 14 &&
             w.fault.has_error && w.fault.address == 0x10;
    else
        ok = ok && rc == 0 &&
             w.gfn ==
                 (pde_q & 0x80 && s->m.bits.large_levels ? LARGE >> 12 : DATA >> 12) &&
             w.dirty == (w.level == 2 ? v.pde_d : v.pte_d);
    ok = ok && *pde_at == (pde_q | ad(v.pde_a, v.pde_d)) &&
         *pte_at == (pte_q | ad(v.pte_a, v.pte_d));
    s->walks++;
    s->faults += v.fault;
    if (!ok)
        complain(s, pde, pte, r, &v, rc, rc ? w.fault.error : 0, *pde_at, *pte_at);
}

static void all_requests(struct sweep *s, const struct entry *pde,
                         const struct entry *pte) {
    for (unsigned kind = PN_READ; kind < PN_ACCESSES; kind++) {
        one(s, pde, pte, &(struct request){kind, true, false});
        one(s, pde, pte, &(struct request){kind, false, false});
        one(s, pde, pte, &(struct request){kind, false, true});
    }
}

static void all_entries(struct sweep *s) {
    bool old = s->c.levels == 2;
    for (unsigned i = 0; i < 1u << 15; i += STRIDE) {
        /* 8 bits of PDE, 7 of PTE: its PS is PAT, and no matter here. */
        unsigned pde_bits = i & 255, pte_bits = i >> 8;
        struct entry pde = entry_of(pde_bits);
        struct entry pte = entry_of((pte_bits & 63) | (pte_bits & 64) << 1);
        if (old && (pde.xd || pte.xd || pte.rsvd || (pde.rsvd && !pde.ps)))
            continue; /* 32-bit entries have no such bit */
        all_requests(s, &pde, &pte);
    }
}

static const unsigned levels[] = {2, 3, 4, 5};

START_TEST(every_combination_is_judged_as_by_the_manual) {
    static struct sweep s;
    s.c.levels = levels[_i];
    fixture_init(&s.f, MAXPHYADDR, 16 << 12, 0);
    for (unsigned l = 3; l <= s.c.levels; l++)
        *fixture_q(&s.f, (uint64_t)l << 12) = (uint64_t)(l - 1) << 12 | 0x27;
    unsigned mode_bits = s.c.levels == 2 ? 7 : 6;
    for (unsigned mode = 0; mode < 1u << mode_bits; mode++) {
        set_mode(&s, mode);
        for (unsigned key = 0; key < (s.c.levels >= 4 ? 4 : 1); key++) {
            set_key(&s, s.c.levels >= 4 ? key : 3);
            all_entries(&s);
        }
    }
    printf("levels %u: %llu accesses, %llu faults, %u wrong\n", s.c.levels,
           (unsigned long long)s.walks, (unsigned long long)s.faults, s.wrong);
    ck_assert_uint_eq(s.wrong, 0);
    fixture_free(&s.f);
}
END_TEST

SUITE("perm_sweep", .timeout = 600,
      .loops = {{every_combination_is_judged_as_by_the_manual, 4}})
