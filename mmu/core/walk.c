/* SPDX-License-Identifier: MIT */
/*
 * The guest walk: reserved bits, permissions, accessed and dirty flags.
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
 * 2. A successful walk leaves A set in every gpte it used, and D in the leaf of a write;
 *    each is set by compare-and-swap against the value that the walk was decided on. When
 *    that fails the whole walk is done again: some other store made progress.
 * 3. Every A or D write marks the dirty log and is reported by ops->written(ad).
 * 4. Only memory in memslots is touched. Elsewhere a table reads as ones.
 * 1 GiB pages and PSE-36 are taken as enumerated (every CPU model here has them).
 */
#include <string.h>

#include "mmu/core/internal.h"

#define GPTE_P          0x001u
#define GPTE_W          0x002u
#define GPTE_U          0x004u
#define GPTE_A          0x020u
#define GPTE_D          0x040u
#define GPTE_PS         0x080u
#define GPTE_G          0x100u
#define GPTE_NX         (1ull << 63)
#define GPTE_PKEY_SHIFT 59

#define CR0_WP   (1ull << 16)
#define CR0_PG   (1ull << 31)
#define CR4_PSE  (1ull << 4)
#define CR4_PAE  (1ull << 5)
#define CR4_LA57 (1ull << 12)
#define CR4_SMEP (1ull << 20)
#define CR4_SMAP (1ull << 21)
#define CR4_PKE  (1ull << 22)
#define CR4_PKS  (1ull << 24)
#define EFER_LMA (1ull << 10)
#define EFER_NXE (1ull << 11)

#define VECTOR_PF 14

/* ---- The mode: masks and the permission table ---- */

/* Bits first..last set; none when last < first. */
static uint64_t bits(unsigned first, unsigned last) {
    return last < first ? 0 : (~0ull >> (63 - last)) & (~0ull << first);
}

static void init_rsvd_32(struct walk_mode *m) {
    memset(m->rsvd, 0, sizeof(m->rsvd));
    unsigned width = m->maxphyaddr < 40 ? m->maxphyaddr : 40;
    if (m->pse)
        m->rsvd[1][2] = bits(width - 19, 21);
}

static void init_rsvd_64(struct walk_mode *m) {
    uint64_t high = bits(m->maxphyaddr, m->levels == 3 ? 62 : 51);
    if (!m->nx)
        high |= GPTE_NX;
    for (unsigned level = 1; level <= WALK_LEVELS; level++)
        m->rsvd[0][level] = m->rsvd[1][level] = high;
    m->rsvd[1][2] |= bits(13, 20);
    m->rsvd[1][3] |= bits(13, 29);
    m->rsvd[1][4] |= GPTE_PS;
    m->rsvd[1][5] |= GPTE_PS;
}

/* Would these rights fault, protection keys apart? */
static bool denied(const struct walk_mode *m, unsigned acc, enum pn_access access,
                   enum pn_tlb_mode mode) {
    bool user = mode == PN_TLB_USER, user_page = acc & ACC_USER;
    if (user && !user_page)
        return true;
    if (access == PN_FETCH)
        return !(acc & ACC_EXEC) || (m->smep && !user && user_page);
    if (m->smap && mode == PN_TLB_SUPER && user_page)
        return true;
    return access == PN_WRITE && !(acc & ACC_WRITE) && (user || m->wp);
}

static void init_permissions(struct walk_mode *m) {
    for (int access = PN_READ; access <= PN_FETCH; access++)
        for (int mode = 0; mode < PN_TLB_MODES; mode++) {
            unsigned deny = 0, pfec = 0;
            for (unsigned acc = 0; acc <= ACC_ALL && m->levels; acc++)
                deny |= (unsigned)denied(m, acc, access, mode) << acc;
            if (access == PN_WRITE)
                pfec |= PN_PF_WRITE;
            if (mode == PN_TLB_USER)
                pfec |= PN_PF_USER;
            if (access == PN_FETCH && (m->nx || m->smep))
                pfec |= PN_PF_FETCH;
            m->deny[access][mode] = (uint8_t)deny;
            m->pfec[access][mode] = (uint8_t)pfec;
        }
}

void walk_mode_init(struct walk_mode *m, const struct pn_paging *p, uint8_t maxphyaddr) {
    memset(m, 0, sizeof(*m));
    m->maxphyaddr = maxphyaddr;
    m->lma = p->efer & EFER_LMA;
    if (!(p->cr0 & CR0_PG))
        m->levels = 0;
    else if (!(p->cr4 & CR4_PAE))
        m->levels = 2;
    else if (!m->lma)
        m->levels = 3;
    else
        m->levels = p->cr4 & CR4_LA57 ? 5 : 4;
    m->pse = p->cr4 & CR4_PSE;
    m->nx = m->levels >= 3 && p->efer & EFER_NXE;
    m->wp = p->cr0 & CR0_WP;
    m->smep = p->cr4 & CR4_SMEP;
    m->smap = p->cr4 & CR4_SMAP;
    m->pke = m->levels >= 4 && p->cr4 & CR4_PKE;
    m->pks = m->levels >= 4 && p->cr4 & CR4_PKS;
    m->addr_mask = bits(PN_PAGE_SHIFT, maxphyaddr - 1u);
    m->cr3 = p->cr3;
    memcpy(m->pdpte, p->pdpte, sizeof(m->pdpte));
    m->pkru = p->pkru;
    m->pkrs = p->pkrs;
    if (m->levels == 2) {
        m->large_levels = m->pse ? 1u << 2 : 0;
        init_rsvd_32(m);
    } else if (m->levels) {
        m->large_levels = m->levels == 3 ? 1u << 2 : 1u << 2 | 1u << 3;
        init_rsvd_64(m);
    }
    init_permissions(m);
}

/* ---- What the template uses ---- */

/* W and U stand where ACC_WRITE and ACC_USER do; XD is reserved where it has no meaning,
 * so a gpte without it grants execution. */
_Static_assert(ACC_WRITE == GPTE_W && ACC_USER == GPTE_U && ACC_EXEC == 1, "one layout");
static inline unsigned gpte_rights(uint64_t gpte) {
    return (gpte & (GPTE_W | GPTE_U)) | (~gpte >> 63);
}

/* Frame bits 20 and up (address bits 32..39) of a 4 MiB page, from gpte bits 13..20. */
static inline pn_gfn gpte_pse36_gfn(uint64_t gpte) {
    return (gpte >> 13 & 0xff) << 20;
}

/* Return: where gpa is in host memory, or NULL. */
static inline const void *gpte_host(struct pn_mmu *mmu, pn_gpa gpa) {
    const struct slot *s = slot_of_gfn(mmu, gpa >> PN_PAGE_SHIFT);
    return s ? (const char *)s->pub.hva + (gpa - s->pub.gpa) : NULL;
}

static inline void count_read(struct pn_mmu_vcpu *vcpu, unsigned level, unsigned flags) {
    if (flags & WALK_PROBE)
        return;
    vcpu->stats->v[PN_STAT_gpte_reads]++;
    vcpu->stats->v[PN_STAT_gpte_reads_l1 + level - 1]++;
}

static uint32_t pfec_of(const struct walk_mode *m, enum pn_access access,
                        enum pn_tlb_mode mode) {
    return m->pfec[access][mode];
}

/* Return: -1, the walk's result. */
static __attribute__((noinline)) int walk_fault(const struct walk_mode *m, pn_gva gva,
                                                enum pn_access access,
                                                enum pn_tlb_mode mode, uint32_t error,
                                                struct pn_ring *ring, struct walk *out) {
    error |= pfec_of(m, access, mode);
    out->access = out->pt_access[out->level];
    out->fault = (struct pn_fault){VECTOR_PF, true, error, gva};
    pn_emit(ring, walker_error, gva, error);
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

/* Set the bits `want` in the gpte of one level. Return: false when it is no longer what
 * the walk read, or a 2D walk has to start over. */
static __attribute__((noinline)) bool gpte_set_ad(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                                  struct walk *w, unsigned level,
                                                  uint64_t want, size_t size,
                                                  unsigned flags) {
    pn_gpa gpa = w->pte_gpa[level];
    pn_gfn gfn = gpa >> PN_PAGE_SHIFT;
    struct slot *s = slot_of_gfn(vcpu->mmu, gfn);
    if (!s || s->pub.flags & PN_SLOT_READONLY)
        return true;
    if (flags & WALK_2D && vcpu->mmu->ops->table_write(vcpu, gva, gpa))
        return false;
    uint64_t old = w->gpte[level], new = old | want;
    if (!swap((char *)s->pub.hva + (gpa - s->pub.gpa), old, new, size))
        return false;
    w->gpte[level] = new;
    vcpu->stats->v[PN_STAT_gpte_ad_set] += (unsigned)__builtin_popcountll(new ^ old);
    if (~old & GPTE_A)
        pn_emit(vcpu->ring, set_accessed_bit, gpa, level);
    if (~old & want & GPTE_D)
        pn_emit(vcpu->ring, set_dirty_bit, gpa, level);
    dirty_mark(s, gfn);
    vcpu->mmu->ops->written(vcpu, gpa, size, true);
    return true;
}

/* ---- One walk per mode ---- */

#define PT_NAME  walk_32
#define PT_TOP   2
#define PT_ENTRY uint32_t
#define PT_BITS  10
#include "mmu/core/walk_tmpl.h"

#define PT_NAME  walk_pae
#define PT_TOP   3
#define PT_ENTRY uint64_t
#define PT_BITS  9
#include "mmu/core/walk_tmpl.h"

#define PT_NAME  walk_4
#define PT_TOP   4
#define PT_ENTRY uint64_t
#define PT_BITS  9
#include "mmu/core/walk_tmpl.h"

#define PT_NAME  walk_5
#define PT_TOP   5
#define PT_ENTRY uint64_t
#define PT_BITS  9
#include "mmu/core/walk_tmpl.h"

static int walk_off(pn_gva gva, struct walk *out) {
    out->top = 0;
    out->level = 3;
    out->access = ACC_ALL;
    out->pkey = 0;
    out->dirty = true;
    out->global = false;
    out->gfn = gva >> PN_PAGE_SHIFT;
    return 0;
}

int walk_guest(struct pn_mmu_vcpu *vcpu, const struct walk_mode *m, pn_gva gva,
               enum pn_access access, enum pn_tlb_mode mode, unsigned flags,
               struct walk *out) {
    if (!m->levels)
        return walk_off(gva, out);
    if (!(flags & WALK_PROBE))
        pn_emit(vcpu->ring, pagetable_walk, gva, pfec_of(m, access, mode));
    switch (m->levels) {
    case 2:
        return walk_32(vcpu, m, gva, access, mode, flags, out);
    case 3:
        return walk_pae(vcpu, m, gva, access, mode, flags, out);
    case 4:
        return walk_4(vcpu, m, gva, access, mode, flags, out);
    default:
        return walk_5(vcpu, m, gva, access, mode, flags, out);
    }
}

enum pn_outcome pn_mmu_probe(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                             enum pn_tlb_mode mode, struct pn_xlate *out) {
    struct walk w;
    memset(out, 0, sizeof(*out));
    if (walk_guest(vcpu, &vcpu->walk, gva, access, mode, WALK_PROBE, &w) < 0) {
        out->fault = w.fault;
        return PN_OUT_GUEST_PF;
    }
    uint64_t offset = gva & (PN_PAGE_SIZE - 1);
    out->gpa = w.gfn << PN_PAGE_SHIFT | offset;
    struct slot *s = slot_of_gfn(vcpu->mmu, w.gfn);
    if (!s || (access == PN_WRITE && s->pub.flags & PN_SLOT_READONLY))
        return PN_OUT_MMIO;
    out->hva = slot_hva(s, w.gfn) + offset;
    return PN_OUT_MAPPED;
}
