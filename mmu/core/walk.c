/* SPDX-License-Identifier: MIT */
/*
 * The walk of a stage: reserved bits, permissions, accessed and dirty flags. One body,
 * compiled once per format of formats.inc.
 * Sources: SDM volume 3, "Paging" (the figures of the entry formats, "Access Rights",
 * "Page-Fault Exceptions", "Accessed and Dirty Flags").
 *
 *        63 62   59 58  52 51     M M-1        12 11  9 8 7  6 5 4   3   2 1 0
 *       +--+-------+------+--------+-------------+-----+-+--+-+-+---+---+-+-+-+
 *       |XD| pkey  | ign. |  rsvd  |   address   | ign.|G|PS|D|A|PCD|PWT|U|W|P|
 *       +--+-------+------+--------+-------------+-----+-+--+-+-+---+---+-+-+-+
 *        XD is reserved without EFER.NXE; PAE reserves 62..M as well; M is MAXPHYADDR.
 *        A large page adds low address bits as reserved: 20..13 (2 MiB), 29..13 (1 GiB).
 *        PS is reserved at levels 4 and 5; at level 1 the bit is PAT.
 *        32-bit, 4 MiB page: 21..(M-19) reserved, 20..13 hold address bits 39..32.
 *
 * Invariants
 * 1. A walk that ends in a fault, and a probe, write nothing.
 * 2. A successful walk leaves A set in every entry it used, and D in the leaf of a write;
 *    each is set by compare-and-swap against the value that the walk was decided on. When
 *    that fails the whole walk is done again: some other store made progress.
 * 3. Every A or D write marks the dirty log and is reported by ops->written(ad).
 * 4. Only memory in memslots is touched. Elsewhere a table reads as ones.
 */
#include <string.h>

#include "mmu/core/internal.h"
#include "penumbra/x86.h"

#define VECTOR_PF 14

/* Of an EPTP. */
#define EPTP_LEVELS 0x38u /* one less */
#define EPTP_FIVE   0x20u
#define EPTP_AD     0x40u
/* Of an entry of EPT's. */
#define SUPPRESS_VE PT_BIT(63)

/* ---- Rights ---- */

/* Would these rights fault, protection keys apart? */
static bool denied(uint16_t on, unsigned acc, enum pn_access access,
                   enum pn_tlb_mode mode) {
    bool user = mode == PN_TLB_USER, user_page = acc & ACC_USER;
    if (pn_on_shadow_stack(access))
        return !(acc & ACC_SS) || user != user_page;
    if (user && !user_page)
        return true;
    if (access == PN_FETCH)
        return !(acc & ACC_EXEC) || (on & STAGE_SMEP && !user && user_page);
    if (on & STAGE_SMAP && mode == PN_TLB_SUPER && user_page)
        return true;
    return access == PN_WRITE && !(acc & ACC_WRITE) && (user || on & STAGE_WP);
}

static void rights_init(struct rights *r, uint16_t on) {
    for (int access = PN_READ; access < PN_ACCESSES; access++)
        for (int mode = 0; mode < PN_TLB_MODES; mode++) {
            unsigned pfec = 0;
            for (unsigned acc = 0; acc < ACC_SETS && on & STAGE_LEVELS; acc++)
                r->deny[mode][acc] |= (uint8_t)(denied(on, acc, access, mode) << access);
            if (pn_stores(access))
                pfec |= PN_PF_WRITE;
            if (pn_on_shadow_stack(access))
                pfec |= PN_PF_SS;
            if (mode == PN_TLB_USER)
                pfec |= PN_PF_USER;
            if (access == PN_FETCH && on & (STAGE_NX | STAGE_SMEP))
                pfec |= PN_PF_FETCH;
            r->pfec[access][mode] = (uint8_t)pfec;
        }
    r->wp = on & STAGE_WP;
    r->pke = on & STAGE_PKE;
    r->pks = on & STAGE_PKS;
    r->keys = r->pke || r->pks;
}

/* ---- Stages ---- */

static const struct pt_format *format_of(const struct pn_paging *p) {
    if (!(p->cr0 & CR0_PG))
        return NULL;
    if (!(p->cr4 & CR4_PAE))
        return &pt_formats[PT_FORMAT_pt32];
    if (!(p->efer & EFER_LMA))
        return &pt_formats[PT_FORMAT_pae];
    return &pt_formats[p->cr4 & CR4_LA57 ? PT_FORMAT_long5 : PT_FORMAT_long4];
}

static uint16_t mode_of(const struct pn_paging *p, unsigned levels) {
    unsigned mode = levels;
    mode |= p->cr4 & CR4_PSE ? STAGE_PSE : 0;
    mode |= levels >= 3 && p->efer & EFER_NXE ? STAGE_NX : 0;
    mode |= p->cr0 & CR0_WP ? STAGE_WP : 0;
    mode |= p->cr4 & CR4_SMEP ? STAGE_SMEP : 0;
    mode |= p->cr4 & CR4_SMAP ? STAGE_SMAP : 0;
    mode |= levels >= 4 && p->cr4 & CR4_PKE ? STAGE_PKE : 0;
    mode |= levels >= 4 && p->cr4 & CR4_PKS ? STAGE_PKS : 0;
    mode |= p->efer & EFER_LMA ? STAGE_LMA : 0;
    return (uint16_t)mode;
}

void stage_init(struct stage *s, const struct pn_paging *p, uint8_t maxphyaddr,
                uint8_t lacks) {
    const struct pt_format *f = format_of(p);
    *s = (struct stage){.root = p->cr3, .levels = f ? f->top : 0};
    memcpy(s->pdpte, p->pdpte, sizeof(s->pdpte));
    s->mode = mode_of(p, s->levels);
    rights_init(&s->rights, s->mode);
    s->rights.pkru = p->pkru;
    s->rights.pkrs = p->pkrs;
    unsigned features = pt_cpu_features(lacks) | (s->mode & STAGE_PSE ? PT_PSE : 0) |
                        (s->mode & STAGE_NX ? PT_NX : 0);
    if (f)
        pt_bits_init(&s->bits, f, features, maxphyaddr);
}

/* ---- What the walk uses ---- */

/* An entry of each level from `first` down to `last` was read; what was asked of the stage
 * below is w->refs. */
static inline void count_reads(struct pn_mmu_vcpu *vcpu, const struct stage *s,
                               const struct walk *w, unsigned first, unsigned last,
                               unsigned flags) {
    uint64_t *v = vcpu->stats->v;
    if (flags & WALK_PROBE)
        return;
    if (s->below)
        count_packed(vcpu->stats, w->refs);
    unsigned total = s->second ? PN_STAT_npte_reads : PN_STAT_gpte_reads;
    unsigned level0 = s->second ? PN_STAT_LEVEL0_npte_reads : PN_STAT_LEVEL0_gpte_reads;
    v[total] += first + 1 - last;
    for (unsigned level = last; level <= first; level++)
        v[level0 + level]++;
}

void walk_count(struct pn_mmu_vcpu *vcpu, const struct stage *s, const struct walk *w) {
    if (w->level <= walk_first(w))
        count_reads(vcpu, s, w, walk_first(w), w->level, 0);
}

/* Return: -1, the walk's result. */
static __attribute__((noinline)) int walk_fault(const struct stage *s, pn_gva gva,
                                                enum pn_access access,
                                                enum pn_tlb_mode mode, uint32_t error,
                                                struct pn_ring *ring, struct walk *out) {
    out->end = !error ? WALK_ABSENT : error & PN_PF_RSVD ? WALK_RESERVED : WALK_DENIED;
    error |= s->rights.pfec[access][mode];
    out->access = out->pt_access[out->level];
    out->fault = (struct pn_fault){VECTOR_PF, true, error, gva, 0};
    pn_emit(ring, walker_error, gva, error);
    return -1;
}

static int walk_below(struct walk *out, unsigned level) {
    out->level = (uint8_t)level;
    out->end = WALK_BELOW;
    return -1;
}

static bool swap(void *hva, uint64_t old, uint64_t new, size_t size) {
    if (size == sizeof(uint64_t))
        return __atomic_compare_exchange_n((uint64_t *)hva, &old, new, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    uint32_t old32 = (uint32_t)old;
    return __atomic_compare_exchange_n((uint32_t *)hva, &old32, (uint32_t) new, false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* Page-modification logging, before D is set. Return: false: the log is full, or is no memory
 * to write to; w says so. */
static __attribute__((noinline)) bool log_page(struct pn_mmu_vcpu *vcpu, struct walk *w) {
    const struct pn_world *world = &vcpu->world;
    uint64_t page = w->gva & PN_PAGE_MASK;
    uint16_t index = 0xffff;
    pn_mmu_read_phys(vcpu->mmu, world->log_index_at, &index, sizeof(index));
    if (index >= PN_PAGE_SIZE / sizeof(page)) {
        w->miss = MISS_FAULT;
        w->access = 0;
        w->fault =
            (struct pn_fault){VECTOR_PF, true, PN_NPF_LOG_FULL | PN_PF_WRITE, w->gva, 0};
        return false;
    }
    pn_mmu_vcpu_write(vcpu, world->log_at + index * sizeof(page), &page, sizeof(page));
    index--;
    pn_mmu_vcpu_write(vcpu, world->log_index_at, &index, sizeof(index));
    return true;
}

/* Set the bits `want` in the entry of one level. Return: false when it is no longer what
 * the walk read, or the stage below wants the walk to start over (or to end: w->miss). */
static __attribute__((noinline)) bool set_ad(struct pn_mmu_vcpu *vcpu,
                                             const struct stage *st, struct walk *w,
                                             unsigned level, uint64_t want) {
    const struct pt_format *f = st->bits.format;
    pn_gpa gpa = w->slot_gpa[level];
    pn_gfn gfn = gpa >> PN_PAGE_SHIFT;
    struct slot *s = slot_of_gfn(vcpu->mmu, gfn);
    if (!s || s->pub.flags & PN_SLOT_READONLY)
        return true;
    if (st->below && (w->miss = st->below->write(vcpu, st->below, w, w->pte_gpa[level])))
        return false;
    uint64_t old = w->gpte[level], new = old | want;
    if (__builtin_expect(st->second && vcpu->world.log, 0) && ~old & want & f->dirty &&
        !log_page(vcpu, w))
        return false;
    if (!swap((char *)s->pub.hva + (gpa - s->pub.gpa), old, new, f->entry))
        return false;
    w->gpte[level] = new;
    vcpu->stats->v[PN_STAT_gpte_ad_set] += (unsigned)__builtin_popcountll(new ^ old);
    if (~old & want & f->accessed)
        pn_emit(vcpu->ring, set_accessed_bit, gpa, level);
    if (~old & want & f->dirty)
        pn_emit(vcpu->ring, set_dirty_bit, gpa, level);
    dirty_mark_bytes(vcpu->mmu, s, gpa, f->entry);
    vcpu->mmu->ops->written(vcpu, gpa, f->entry, true);
    return true;
}

/* ---- One walk per format ---- */

/* Of a present one. Bits that make no PDPTE are found when it is loaded, but not under nested
 * paging (APM volume 2, "Legacy PAE Mode"). */
static bool pdpte_reserved(const struct stage *s, uint64_t pdpte) {
    return pdpte & 1 && pdpte & (~(s->bits.address | 0xfff) | 0x1e6);
}

/* A PAE walk begins at the PDPTE register. Return: 0, *table and *first; or -1. */
static inline int walk_pdpte(const struct pt_format *f, const struct stage *s, pn_gva gva,
                             struct walk *out, pn_gpa *table) {
    unsigned i = gva >> 30 & 3;
    uint64_t pdpte = s->pdpte[i];
    out->level = f->in_register;
    out->pte_gpa[f->in_register] = (s->root & 0xffffffe0u) + 8 * i;
    out->gpte[f->in_register] = pdpte;
    out->pt_access[f->in_register] = ACC_ALL;
    *table = pdpte & s->bits.address;
    return pdpte & f->present && !pdpte_reserved(s, pdpte) ? 0 : -1;
}

static inline uint64_t load(const struct pt_format *f, const void *at) {
    if (f->entry == 4)
        return at ? __atomic_load_n((const uint32_t *)at, __ATOMIC_RELAXED) : ~0u;
    return at ? __atomic_load_n((const uint64_t *)at, __ATOMIC_RELAXED) : ~0ull;
}

/* In what follows f is a constant to each caller, and folds. */
#define FOLDED static inline __attribute__((always_inline))

/* Read the entries from level `first` of `table` down to the leaf. Return: 0; 1: walk again;
 * -1: the walk's end. *seen: the A bit where every entry on the way has it; *last: the lowest
 * level that was read. */
FOLDED int walk_down(const struct pt_format *f, struct pn_mmu_vcpu *vcpu,
                     const struct stage *s, enum pn_access access, enum pn_tlb_mode mode,
                     unsigned flags, unsigned first, pn_gpa table, struct walk *out,
                     uint64_t *seen, unsigned *last) {
    const struct pt_bits *b = &s->bits;
    struct pn_ring *ring = flags & WALK_PROBE ? NULL : vcpu->ring;
    pn_gva gva = out->gva;
    unsigned acc = ACC_SETS - 1;
    *seen = b->accessed;
    *last = first + 1;
    for (unsigned level = first;; level--) {
        unsigned index = gva >> pt_shift(f, level) & ((1u << f->bits) - 1);
        pn_gpa gpa = table + index * f->entry;
        struct ref at = s->below ? s->below->read(vcpu, s->below, out, gpa, flags)
                                 : slot_ref(vcpu->mmu, gpa);
        if (!at.host && out->miss)
            return out->miss == MISS_FAULT ? walk_below(out, level) : 1;
        uint64_t v = load(f, at.host);
        *last = level;
        out->level = (uint8_t)level;
        out->pte_gpa[level] = gpa;
        out->slot_gpa[level] = at.gpa;
        out->gpte[level] = v;
        acc &= pt_acc(f, v) | pt_acc_user(f, b, v);
        out->pt_access[level] = acc;
        pn_emit(ring, paging_element, v, level, gpa);
        if (!pt_present(f, b, v))
            return walk_fault(s, gva, access, mode, 0, ring, out);
        if (pt_reserved(f, b, level, v))
            return walk_fault(s, gva, access, mode, PN_PF_PRESENT | PN_PF_RSVD, ring,
                              out);
        *seen &= v;
        if (pt_leaf(b, level, v))
            return 0;
        table = v & b->address;
    }
}

/* Set A on the way and D in the leaf of a write, where they are missing. Return: as
 * walk_down. */
FOLDED int walk_set_ad(struct pn_mmu_vcpu *vcpu, const struct stage *s, unsigned first,
                       uint64_t seen, bool write, struct walk *out) {
    const struct pt_bits *b = &s->bits;
    uint64_t set_d = write ? b->dirty & ~out->gpte[out->level] : 0;
    if (seen == b->accessed && !set_d)
        return 0;
    for (unsigned l = first; l >= out->level; l--) {
        uint64_t want = b->accessed | (l == out->level ? set_d : 0);
        if (!(~out->gpte[l] & want) || set_ad(vcpu, s, out, l, want))
            continue;
        if (out->miss == MISS_FAULT)
            return walk_below(out, l);
        return 1; /* someone changed the entry: what we read is history */
    }
    return 0;
}

/* A shadow stack's page has W in every entry but the leaf, and D without W there (SDM
 * volume 3, "Determination of Access Rights"). */
FOLDED unsigned walk_shadow_stack(const struct pt_format *f, unsigned first,
                                  const struct walk *w) {
    uint64_t v = w->gpte[w->level];
    unsigned above = w->level == first ? ACC_ALL : w->pt_access[w->level + 1];
    bool is = above & ACC_WRITE && !(pt_acc(f, v) & ACC_WRITE) && v & f->dirty;
    return is ? ACC_SS : 0;
}

/* The frame that a walk came to goes through the second level below, if that is one. */
static inline int walk_second(struct pn_mmu_vcpu *vcpu, const struct stage *s,
                              enum pn_access access, unsigned flags, struct walk *out) {
    out->second_level = 0;
    if (__builtin_expect(s->below && s->below->final, 0))
        return s->below->final(vcpu, s->below, access, flags, out);
    if (__builtin_expect(vcpu->apic && !s->second, 0)) {
        out->second_gfn = out->gfn;
        out->gfn = walk_apic_taken(vcpu, out->gfn);
    }
    return 0;
}

FOLDED int walk(const struct pt_format *f, struct pn_mmu_vcpu *vcpu,
                const struct stage *s, pn_gva gva, enum pn_access access,
                enum pn_tlb_mode mode, unsigned flags, struct walk *out) {
    const struct pt_bits *b = &s->bits;
    struct pn_ring *ring = flags & WALK_PROBE ? NULL : vcpu->ring;
    pn_gpa root = s->root & b->address;
    unsigned first = f->top;
    uint64_t seen;
    int rc;

    out->gva = gva;
    out->top = f->top;
    if (f->entry == 4)
        root = (uint32_t)root;
    if (f->in_register) {
        if (walk_pdpte(f, s, gva, out, &root))
            return walk_fault(
                s, gva, access, mode,
                pdpte_reserved(s, out->gpte[out->level]) ? PN_PF_PRESENT | PN_PF_RSVD : 0,
                ring, out);
        first = f->in_register - 1u;
    }
    do {
        unsigned last;
        out->miss = MISS_NONE;
        out->refs = 0;
        rc = walk_down(f, vcpu, s, access, mode, flags, first, root, out, &seen, &last);
        count_reads(vcpu, s, out, first, last, flags);
        if (rc)
            continue;
        out->access = out->pt_access[out->level];
        if (__builtin_expect(pn_on_shadow_stack(access), 0))
            out->access |= walk_shadow_stack(f, first, out);
        out->pkey = pt_pkey(f, out->gpte[out->level]);
        uint32_t error = rights_check(&s->rights, out->access, out->pkey, access, mode);
        if (error)
            return walk_fault(s, gva, access, mode, error, ring, out);
        if (!(flags & WALK_PROBE))
            rc = walk_set_ad(vcpu, s, first, seen, access == PN_WRITE, out);
    } while (rc > 0);
    if (rc < 0)
        return rc;

    uint64_t v = out->gpte[out->level];
    pn_gfn low = (1ull << f->bits * (out->level - 1)) - 1;
    out->end = WALK_MAPPED;
    out->dirty = v & f->dirty;
    out->global = v & f->global;
    out->gfn = pt_leaf_gfn(f, b, out->level, v) | (gva >> PN_PAGE_SHIFT & low);
    return walk_second(vcpu, s, access, flags, out);
}

static int walk_off(struct pn_mmu_vcpu *vcpu, const struct stage *s, pn_gva gva,
                    enum pn_access access, unsigned flags, struct walk *out) {
    out->gva = gva;
    out->end = WALK_MAPPED;
    out->miss = MISS_NONE;
    out->refs = 0;
    out->top = 0;
    out->level = 3;
    out->access = ACC_ALL;
    out->pkey = 0;
    out->dirty = true;
    out->global = false;
    out->gfn = gva >> PN_PAGE_SHIFT;
    return walk_second(vcpu, s, access, flags, out);
}

int stage_walk(struct pn_mmu_vcpu *vcpu, const struct stage *s, pn_gva gva,
               enum pn_access access, enum pn_tlb_mode mode, unsigned flags,
               struct walk *out) {
    if (!s->levels)
        return walk_off(vcpu, s, gva, access, flags, out);
    if (!(flags & WALK_PROBE))
        pn_emit(vcpu->ring, pagetable_walk, gva, s->rights.pfec[access][mode]);
    switch (s->bits.format->id) {
#define PT_FORMAT(name, ...)                                                             \
    case PT_FORMAT_##name:                                                               \
        return walk(&pt_formats[PT_FORMAT_##name], vcpu, s, gva, access, mode, flags,    \
                    out);
#include "mmu/core/formats.inc"
    default:
        return -1; /* no such format */
    }
}

/* ---- A second level in guest memory, as the stage below ---- */

void stage_stand_on(struct stage *s, const struct stage *second) {
    s->below = second;
    /* Without paging there is no right but what the second level gives. */
    for (unsigned acc = 0; !s->levels && acc < ACC_SETS; acc++)
        for (int mode = 0; mode < PN_TLB_MODES && !(acc & ACC_EXEC); mode++)
            s->rights.deny[mode][acc] |= 1u << PN_FETCH;
}

void second_fault(struct pn_fault *f, const struct stage *second, const struct walk *in,
                  bool table) {
    unsigned acc = in->access;
    *f = in->fault;
    f->vector = PN_VEC_NPF;
    f->error |= table ? PN_NPF_TABLE : 0;
    if (second->bits.format->rights != PT_R_W_X)
        return;
    f->error |= in->gpte[in->level] & SUPPRESS_VE ? 0 : PN_NPF_CONVERTIBLE;
    f->error |= ((acc & ACC_USER ? 1u : 0) | (acc & ACC_WRITE) |
                 (acc & ACC_EXEC ? 4u : 0) | (acc & ACC_EXEC_USER))
                << PN_NPF_RIGHTS_SHIFT;
}

void second_denied(struct walk *w, const struct stage *second, const struct walk *in,
                   bool table, bool stack) {
    second_fault(&w->fault, second, in, table);
    w->fault.error |= stack ? PN_PF_SS : 0;
    w->fault.linear = w->gva;
    if (second->bits.format->rights == PT_R_W_X)
        w->fault.error |= PN_NPF_LINEAR;
}

static struct ref second_read(struct pn_mmu_vcpu *vcpu, const struct stage *s,
                              struct walk *w, pn_gpa gpa, unsigned flags) {
    struct walk in = {.fixes = w->fixes};
    struct ref none = {0};
    if (stage_walk(vcpu, s, gpa, s->table, PN_TLB_USER, flags, &in) < 0) {
        second_denied(w, s, &in, true, false);
        w->miss = MISS_FAULT;
        return none;
    }
    if (walk_table_in_apic(vcpu, w, &in)) {
        w->miss = MISS_FAULT;
        return none;
    }
    w->fixes = in.fixes;
    gpa = in.gfn << PN_PAGE_SHIFT | (gpa & (PN_PAGE_SIZE - 1));
    return s->below ? s->below->read(vcpu, s->below, w, gpa, flags)
                    : slot_ref(vcpu->mmu, gpa);
}

static enum miss second_write(struct pn_mmu_vcpu *vcpu, const struct stage *s,
                              struct walk *w, pn_gpa gpa) {
    struct walk in = {.fixes = w->fixes};
    if (stage_walk(vcpu, s, gpa, PN_WRITE, PN_TLB_USER, 0, &in) < 0) {
        second_denied(w, s, &in, true, false);
        return MISS_FAULT;
    }
    if (walk_table_in_apic(vcpu, w, &in))
        return MISS_FAULT;
    w->fixes = in.fixes;
    gpa = in.gfn << PN_PAGE_SHIFT | (gpa & (PN_PAGE_SIZE - 1));
    return s->below ? s->below->write(vcpu, s->below, w, gpa) : MISS_NONE;
}

static int second_final(struct pn_mmu_vcpu *vcpu, const struct stage *second,
                        enum pn_access access, unsigned flags, struct walk *out) {
    struct walk in = {.fixes = out->fixes};
    bool user = out->access & ACC_USER;
    pn_gpa gpa = out->gfn << PN_PAGE_SHIFT | (out->gva & (PN_PAGE_SIZE - 1));
    if (stage_walk(vcpu, second, gpa, second_asked(access),
                   user ? PN_TLB_USER : PN_TLB_SUPER, flags, &in) < 0) {
        second_denied(out, second, &in, false, pn_on_shadow_stack(access));
        out->end = WALK_BELOW;
        return -1;
    }
    out->fixes = in.fixes;
    walk_take_second(out, second, &in);
    out->gfn = walk_apic_taken(vcpu, in.gfn);
    return 0;
}

void stage_init_second(struct stage *s, enum pt_format_id format, unsigned features,
                       uint8_t maxphyaddr, pn_gpa root, const struct stage *below) {
    const struct pt_format *f = &pt_formats[format];
    *s = (struct stage){.root = root,
                        .levels = f->top,
                        .mode = STAGE_SECOND | f->top,
                        .second = true,
                        .below = below,
                        .final = second_final,
                        .read = second_read,
                        .write = second_write};
    /* NPT's tables are walked as by a user; in EPT a page may be executable alone. */
    unsigned always = f->rights == PT_W_U_NX ? ACC_USER : 0;
    const unsigned needs[] = {[PN_READ] = ACC_USER,
                              [PN_WRITE] = always | ACC_WRITE,
                              [PN_FETCH] = always | ACC_EXEC};
    for (int mode = 0; mode < PN_TLB_MODES; mode++)
        for (int access = PN_READ; access <= PN_FETCH; access++) {
            bool split = features & PT_MBEC && access == PN_FETCH && mode == PN_TLB_USER;
            unsigned need = split ? ACC_EXEC_USER : needs[access];
            for (unsigned acc = 0; acc < ACC_SETS; acc++)
                if ((acc & need) != need)
                    s->rights.deny[mode][acc] |= (uint8_t)(1u << access);
        }
    /* A walk of a guest's tables writes to NPT's pages, set A or not (APM volume 2, "Nested
     * versus Guest Page Faults, Fault Ordering"). */
    s->table = always ? PN_WRITE : PN_READ;
    for (int mode = 0; mode < PN_TLB_MODES; mode++) {
        s->rights.pfec[PN_READ][mode] = PN_PF_USER;
        s->rights.pfec[PN_WRITE][mode] = PN_PF_USER | PN_PF_WRITE;
        s->rights.pfec[PN_FETCH][mode] =
            PN_PF_USER | (features & PT_NX ? PN_PF_FETCH : 0);
    }
    pt_bits_init(&s->bits, f, features, maxphyaddr);
}

void stage_init_npt(struct stage *s, const struct pn_paging *host, uint8_t maxphyaddr,
                    uint8_t lacks, const struct stage *below) {
    const struct pt_format *f = format_of(host);
    unsigned features = pt_cpu_features(lacks) | (host->cr4 & CR4_PSE ? PT_PSE : 0) |
                        (host->cr4 & CR4_PAE && host->efer & EFER_NXE ? PT_NX : 0);
    stage_init_second(s, f->id, features, maxphyaddr, host->cr3, below);
    memcpy(s->pdpte, host->pdpte, sizeof(s->pdpte));
    s->mode |= mode_of(host, f->top);
    for (int mode = 0; host->cr4 & CR4_SMEP && mode < PN_TLB_MODES; mode++)
        s->rights.pfec[PN_FETCH][mode] |= PN_PF_FETCH;
    /* G is reserved above the leaves. */
    for (unsigned level = 3; f->top >= 4 && level <= f->top; level++)
        s->bits.rsvd[0][level] |= f->global;
}

void stage_init_ept(struct stage *s, uint64_t eptp, bool mbec, uint8_t maxphyaddr,
                    uint8_t lacks, const struct stage *below) {
    bool five = (eptp & EPTP_LEVELS) == EPTP_FIVE, ad = eptp & EPTP_AD;
    unsigned features = pt_cpu_features(lacks) | PT_NX | (mbec ? PT_MBEC : 0);
    if (!ad)
        features &= ~(unsigned)PT_AD;
    stage_init_second(s, five ? PT_FORMAT_ept5 : PT_FORMAT_ept4, features, maxphyaddr,
                      eptp, below);
    s->mode |= mbec ? STAGE_MBEC : 0;
    /* With A and D a reference to a table is a write (SDM volume 3, "Accessed and Dirty Flags
     * for EPT"). */
    s->table = ad ? PN_WRITE : PN_READ;
}

enum pn_answer pn_mmu_probe(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                            enum pn_tlb_mode mode, struct pn_xlate *out) {
    struct walk w;
    memset(out, 0, sizeof(*out));
    if (stage_walk(vcpu, &vcpu->walk, gva, access, mode, WALK_PROBE, &w) < 0) {
        out->fault = w.fault;
        return PN_GUEST_PF;
    }
    uint64_t offset = gva & (PN_PAGE_SIZE - 1);
    out->gpa = w.gfn << PN_PAGE_SHIFT | offset;
    struct slot *s = slot_of_gfn(vcpu->mmu, w.gfn);
    if (!s || (pn_stores(access) && s->pub.flags & PN_SLOT_READONLY))
        return PN_MMIO;
    out->hva = slot_hva(s, w.gfn) + offset;
    return PN_MAPPED;
}
