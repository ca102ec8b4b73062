/* SPDX-License-Identifier: MIT */
/*
 * Roots: what CR3 and the paging mode select. Each vCPU keeps the last few, each with its
 * own TLB and fetch generation.
 *
 * A TLB is a subset of the shadow tables under its root at every moment (an spte that
 * goes takes its TLB entries along), and the shadow tables differ from the guest's only
 * in unsync leaf tables. So what hardware does by flushing is done here by syncing: a
 * root that the guest flushed is `stale`, and synced before its next use; its TLB stays.
 *
 * Invariants
 * 1. The current root is one of the first `count`, and not stale.
 * 2. A key holds everything but memory that the meaning of a TLB entry depends on, apart
 *    from PKRU and PKRS, whose change drops the entries they concern.
 * 3. Two roots never have the same fetch_gen, nor one root two meanings of one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mmu/core/record.h"
#include "mmu/core/root.h"
#include "penumbra/x86.h"

#define CR0_FLUSH (CR0_PG | CR0_WP)
#define CR4_FLUSH                                                                        \
    (CR4_PSE | CR4_PAE | CR4_PGE | CR4_LA57 | CR4_PCIDE | CR4_SMEP | CR4_SMAP |          \
     CR4_PKE | CR4_PKS)
#define EFER_FLUSH (EFER_LMA | EFER_NXE)

/* What tells spaces of worlds with an APIC-access page, and no second level, from others. */
#define SPACE_APIC (UINT64_C(1) << 62)

/* ---- Keys ---- */

static struct root_key key_now(const struct pn_mmu_vcpu *vcpu) {
    const struct stage *m = &vcpu->walk;
    struct root_key k = {.mode = m->mode, .asid = vcpu->world.asid};
    if (vcpu->world.second)
        k.second = vcpu->second.root | ROOT_SECOND;
    else if (vcpu->world.apic) /* others of that asid lead to the page itself */
        k.second = (vcpu->world.apic_at & PN_PAGE_MASK) | ROOT_SECOND | 1;
    if (!m->levels)
        return k;
    k.cr3 = m->root & m->bits.address;
    if (pcid_on(vcpu))
        k.pcid = m->root & CR3_PCID;
    if (m->levels == 3)
        memcpy(k.pdpte, m->pdpte, sizeof(k.pdpte));
    return k;
}

static bool key_equal(const struct root_key *a, const struct root_key *b) {
    return a->cr3 == b->cr3 && a->pcid == b->pcid && a->mode == b->mode &&
           a->asid == b->asid && a->second == b->second &&
           !memcmp(a->pdpte, b->pdpte, sizeof(a->pdpte));
}

/* ---- One root ---- */

void root_new_fetch_gen(struct pn_mmu_vcpu *vcpu, struct root *r) {
    r->fetch_gen = ++vcpu->mmu->fetch_gen;
    root_still(r);
    if (r == vcpu->roots->cur)
        vcpu->view->fetch_gen = r->fetch_gen;
}

static void root_assign(struct pn_mmu_vcpu *vcpu, struct root *r,
                        const struct root_key *key) {
    r->stale = r->loose = false;
    r->narrow = (key->mode & STAGE_LEVELS) < 4;
    r->key = *key;
    r->rights = vcpu->walk.rights;
    root_new_fetch_gen(vcpu, r);
}

/* ---- Choosing ---- */

static struct root *find(struct vcpu_roots *vs, const struct root_key *key) {
    if (vs->count && key_equal(&vs->cur->key, key))
        return vs->cur;
    for (unsigned i = 0; i < vs->count; i++)
        if (key_equal(&vs->root[i].key, key))
            return &vs->root[i];
    return NULL;
}

/* Another root comes into use. */
static struct root *first_use(struct pn_mmu_vcpu *vcpu) {
    struct root *r = &vcpu->roots->root[vcpu->roots->count++];
    tlb_unmake(r);
    return r;
}

/* The root that was not used for longest gives up what it stands for. */
static struct root *victim(struct pn_mmu_vcpu *vcpu) {
    struct root *r = &vcpu->roots->root[0];
    for_each_root_of(vcpu, c)
        if (c->stamp < r->stamp)
            r = c;
    vcpu->mmu->ops->root_drop(vcpu, r);
    tlb_flush(vcpu, r);
    return r;
}

/* Entries whose key's rights changed must go. */
static void take_pkr(struct pn_mmu_vcpu *vcpu, struct root *r) {
    uint32_t user = vcpu->walk.rights.pkru ^ r->rights.pkru;
    uint32_t super = vcpu->walk.rights.pkrs ^ r->rights.pkrs;
    if (!(user | super))
        return;
    r->rights.pkru = vcpu->walk.rights.pkru;
    r->rights.pkrs = vcpu->walk.rights.pkrs;
    for (unsigned key = 0; key < 16; key++)
        if ((user >> (2 * key) & 3 && r->pkeys_user >> key & 1) ||
            (super >> (2 * key) & 3 && r->pkeys_super >> key & 1)) {
            tlb_flush(vcpu, r);
            return;
        }
}

static void sync_root(struct pn_mmu_vcpu *vcpu, struct root *r) {
    r->stale = false;
    vcpu->mmu->ops->root_sync(vcpu, r);
    root_tighten(vcpu, r); /* what was synced away was flushed before */
}

bool root_load(struct pn_mmu_vcpu *vcpu) {
    struct vcpu_roots *vs = vcpu->roots;
    struct root_key key = key_now(vcpu);
    struct root *r = find(vs, &key);
    bool hit = r;
    if (!hit) {
        r = vs->count < vs->max ? first_use(vcpu) : victim(vcpu);
        root_assign(vcpu, r, &key);
    }
    r->stamp = ++vs->clock;
    if (r != vs->cur || !hit)
        pn_emit(vcpu->ring, root_switch, vcpu->walk.root, key.mode, hit);
    vs->cur = r;
    take_pkr(vcpu, r);
    if (r->stale)
        sync_root(vcpu, r);
    const struct mmu_observer *o = vcpu->mmu->observer;
    observe(vcpu->mmu, tlb_changed, vcpu);
    for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
        vcpu->view->tlb[mode] = o ? o->tlb(vcpu, mode) : r->tlb[mode];
    vcpu->view->fetch_gen = r->fetch_gen;
    if (hit)
        pn_count(vcpu->stats, root_hit);
    else
        pn_count(vcpu->stats, root_miss);
    return hit;
}

void root_tighten(struct pn_mmu_vcpu *vcpu, struct root *r) {
    if (!r->loose)
        return;
    r->loose = false;
    root_new_fetch_gen(vcpu, r);
}

void root_make_stale(struct pn_mmu_vcpu *vcpu, bool all, uint16_t pcid) {
    for_each_root_of(vcpu, r) {
        if ((!all && r->key.pcid != pcid) || r->key.asid != vcpu->world.asid)
            continue;
        r->stale = true;
        root_tighten(vcpu, r);
    }
}

void roots_slots_changed(struct pn_mmu *mmu) {
    for_each_root(mmu, v, r)
        root_tighten(v, r);
}

void roots_drop_everything(struct pn_mmu *mmu) {
    mmu_bar(mmu);
    observe(mmu, dropped, mmu);
    for_each_root(mmu, v, r) {
        tlb_flush(v, r);
        root_new_fetch_gen(v, r);
    }
}

/* ---- The calls of penumbra/mmu.h ---- */

static void take_paging(struct pn_mmu_vcpu *vcpu) {
    const struct pn_mmu_config *cfg = &vcpu->mmu->cfg;
    stage_init(&vcpu->walk, &vcpu->paging, cfg->maxphyaddr, cfg->lacks);
    vcpu->walk.below = vcpu->mmu->ops->below;
    if (!vcpu->world.second)
        return;
    const struct stage *merged = vcpu->mmu->ops->merged;
    vcpu->second.below = merged ? NULL : vcpu->mmu->ops->below;
    stage_stand_on(&vcpu->walk, merged ? merged : &vcpu->second);
}

/* The second level that the world says. */
static void take_world(struct pn_mmu_vcpu *vcpu, const struct pn_world *w) {
    const struct pn_mmu_config *cfg = &vcpu->mmu->cfg;
    struct pn_paging host = w->host;
    vcpu->world = *w;
    vcpu->apic = w->apic ? (w->apic_at >> PN_PAGE_SHIFT) + 1 : 0;
    vcpu->space =
        w->apic ? (w->apic_at & PN_PAGE_MASK) | (vcpu->number + 1) | SPACE_APIC : 0;
    if (!w->second)
        return;
    if (w->ept) {
        stage_init_ept(&vcpu->second, w->eptp, w->mbec, cfg->maxphyaddr, cfg->lacks,
                       NULL);
        vcpu->space =
            (w->eptp & PN_PAGE_MASK) | (vcpu->number + 1) | (uint64_t)w->mbec << 63;
        return;
    }
    host.cr0 |= CR0_PG;
    if (host.cr4 & CR4_PAE && !(host.efer & EFER_LMA))
        pn_mmu_read_phys(vcpu->mmu, host.cr3 & 0xffffffe0u, host.pdpte,
                         sizeof(host.pdpte));
    stage_init_npt(&vcpu->second, &host, cfg->maxphyaddr, cfg->lacks, NULL);
    vcpu->space = (host.cr3 & PN_PAGE_MASK) | (vcpu->number + 1);
}

/* The guest flushed by an instruction. */
static void guest_flushes(struct pn_mmu_vcpu *vcpu) {
    if (vcpu->mmu->ops->flush_exits)
        flush_ask_of(vcpu);
}

/* The changes that KVM flushes for; for others it loads a root, whose flush it does not
 * count (kvm_post_set_cr0, kvm_post_set_cr4, kvm_mmu_load). */
static bool mode_flushes(const struct pn_paging *old, const struct pn_paging *p) {
    uint64_t cr4 = old->cr4 ^ p->cr4, gone = old->cr4 & ~p->cr4, set = p->cr4 & ~old->cr4;
    return cr4 & (CR4_PGE | CR4_PAE) || gone & CR4_PCIDE || set & CR4_SMEP ||
           (old->cr0 & ~p->cr0 & CR0_PG);
}

PN_IN_FLUSH void pn_mmu_set_cr3(struct pn_mmu_vcpu *vcpu, uint64_t cr3, bool noflush,
                                const uint64_t pdpte[4]) {
    struct stage *m = &vcpu->walk;
    record_quiet(vcpu->mmu);
    if (pdpte)
        record(vcpu->mmu, cr3, vcpu->number,
               .w = {cr3, noflush, pdpte[0], pdpte[1], pdpte[2], pdpte[3]});
    else
        record(vcpu->mmu, cr3, vcpu->number, .w = {cr3, noflush});
    vcpu->paging.cr3 = m->root = cr3;
    if (m->levels == 3 && pdpte) {
        memcpy(vcpu->paging.pdpte, pdpte, sizeof(vcpu->paging.pdpte));
        memcpy(m->pdpte, pdpte, sizeof(m->pdpte));
    }
    bool pcide = pcid_on(vcpu);
    exit_begins(vcpu->mmu);
    if (!pcide || !noflush) {
        root_make_stale(vcpu, false, pcide ? cr3 & CR3_PCID : 0);
        guest_flushes(vcpu);
    }
    bool hit = root_load(vcpu);
    observe(vcpu->mmu, set_cr3, vcpu, noflush, hit);
    mmu_step(vcpu->mmu);
}

static void set_pkr(struct pn_mmu_vcpu *vcpu, uint32_t pkru, uint32_t pkrs) {
    vcpu->paging.pkru = vcpu->walk.rights.pkru = pkru;
    vcpu->paging.pkrs = vcpu->walk.rights.pkrs = pkrs;
    take_pkr(vcpu, vcpu->roots->cur);
    mmu_step(vcpu->mmu);
}

PN_IN_FLUSH void pn_mmu_set_paging(struct pn_mmu_vcpu *vcpu, const struct pn_paging *p) {
    struct pn_paging old = vcpu->paging;
    record_quiet(vcpu->mmu);
    record(vcpu->mmu, paging, vcpu->number,
           .w = {p->cr0, p->cr3, p->cr4, p->efer, p->pdpte[0], p->pdpte[1], p->pdpte[2],
                 p->pdpte[3], p->pkru, p->pkrs});
    vcpu->paging = *p;
    bool same = !((old.cr0 ^ p->cr0) & CR0_FLUSH) && !((old.cr4 ^ p->cr4) & CR4_FLUSH) &&
                !((old.efer ^ p->efer) & EFER_FLUSH) && old.cr3 == p->cr3 &&
                !memcmp(old.pdpte, p->pdpte, sizeof(old.pdpte));
    if (same) {
        set_pkr(vcpu, p->pkru, p->pkrs);
        return;
    }
    take_paging(vcpu);
    exit_begins(vcpu->mmu);
    if (mode_flushes(&old, p))
        flush_ask_of(vcpu);
    root_make_stale(vcpu, true, 0);
    root_load(vcpu);
    observe(vcpu->mmu, set_paging, vcpu);
    mmu_step(vcpu->mmu);
}

void pn_mmu_set_pkr(struct pn_mmu_vcpu *vcpu, uint32_t pkru, uint32_t pkrs) {
    record(vcpu->mmu, pkr, vcpu->number, .w = {pkru, pkrs});
    set_pkr(vcpu, pkru, pkrs);
}

PN_IN_FLUSH void pn_mmu_invlpg(struct pn_mmu_vcpu *vcpu, pn_gva gva) {
    uint16_t pcid = vcpu->roots->cur->key.pcid;
    record_quiet(vcpu->mmu);
    record(vcpu->mmu, invlpg, vcpu->number, .w = {gva});
    pn_count(vcpu->stats, invlpg);
    pn_emit(vcpu->ring, invlpg, gva, pcid);
    exit_begins(vcpu->mmu);
    /* Global translations may be in any root. */
    vcpu->mmu->ops->inval_gva(vcpu, pcid, gva, vcpu->paging.cr4 & CR4_PGE);
    observe(vcpu->mmu, invlpg, vcpu, gva);
    mmu_step(vcpu->mmu);
}

PN_IN_FLUSH void pn_mmu_invpcid(struct pn_mmu_vcpu *vcpu, unsigned type, uint16_t pcid,
                                pn_gva gva) {
    struct vcpu_roots *vs = vcpu->roots;
    record_quiet(vcpu->mmu);
    record(vcpu->mmu, invpcid, vcpu->number, .w = {type, pcid, gva});
    pn_count(vcpu->stats, invpcid);
    exit_begins(vcpu->mmu);
    if (type && (type > 1 || pcid == vs->cur->key.pcid))
        guest_flushes(vcpu);
    if (type == 0) {
        pn_emit(vcpu->ring, invlpg, gva, pcid);
        vcpu->mmu->ops->inval_gva(vcpu, pcid, gva, false);
    } else {
        root_make_stale(vcpu, type >= 2, pcid);
        if (vs->cur->stale)
            sync_root(vcpu, vs->cur);
    }
    observe(vcpu->mmu, invpcid, vcpu, type, pcid, gva);
    mmu_step(vcpu->mmu);
}

void pn_mmu_drop_tlb(struct pn_mmu_vcpu *vcpu) {
    record(vcpu->mmu, drop_tlb, vcpu->number, .how = 0);
    for_each_root_of(vcpu, r)
        tlb_flush(vcpu, r);
}

/* ---- Worlds ---- */

void pn_mmu_set_world(struct pn_mmu_vcpu *vcpu, const struct pn_world *world,
                      const struct pn_paging *p) {
    record_quiet(vcpu->mmu);
    take_world(vcpu, world);
    vcpu->paging = *p;
    take_paging(vcpu);
    exit_begins(vcpu->mmu);
    root_load(vcpu);
    observe(vcpu->mmu, set_paging, vcpu);
    mmu_step(vcpu->mmu);
}

/* Nothing tells what of a second level in guest memory has changed: all is made anew. */
static void root_forget(struct pn_mmu_vcpu *vcpu, struct root *r) {
    vcpu->mmu->ops->root_drop(vcpu, r);
    tlb_flush(vcpu, r);
    root_new_fetch_gen(vcpu, r);
    r->loose = false;
}

void pn_mmu_flush_asid(struct pn_mmu_vcpu *vcpu, uint32_t asid, bool all) {
    exit_begins(vcpu->mmu);
    flush_ask_of(vcpu);
    for_each_root_of(vcpu, r) {
        if (!all && r->key.asid != asid)
            continue;
        if (r->key.second) {
            root_forget(vcpu, r);
            continue;
        }
        r->stale = true;
        root_tighten(vcpu, r);
    }
    if (vcpu->mmu->ops->asid_gone)
        vcpu->mmu->ops->asid_gone(vcpu, asid, all);
    if (vcpu->roots->cur->stale)
        sync_root(vcpu, vcpu->roots->cur);
    observe(vcpu->mmu, set_paging, vcpu);
    mmu_step(vcpu->mmu);
}

void pn_mmu_flush_second(struct pn_mmu_vcpu *vcpu) {
    exit_begins(vcpu->mmu);
    flush_ask_of(vcpu);
    for_each_root_of(vcpu, r)
        if (r->key.second)
            root_forget(vcpu, r);
    if (vcpu->mmu->ops->asid_gone)
        vcpu->mmu->ops->asid_gone(vcpu, 0, true);
    observe(vcpu->mmu, set_paging, vcpu);
    mmu_step(vcpu->mmu);
}

void pn_mmu_invlpga(struct pn_mmu_vcpu *vcpu, pn_gva gva, uint32_t asid) {
    exit_begins(vcpu->mmu);
    pn_count(vcpu->stats, invlpg);
    if (asid == vcpu->world.asid) {
        vcpu->mmu->ops->inval_gva(vcpu, vcpu->roots->cur->key.pcid, gva, true);
        observe(vcpu->mmu, invlpg, vcpu, gva);
    } else {
        for_each_root_of(vcpu, r)
            if (r->key.asid == asid) {
                r->stale = true;
                root_tighten(vcpu, r);
            }
        observe(vcpu->mmu, set_paging, vcpu);
    }
    mmu_step(vcpu->mmu);
}

enum pn_answer pn_mmu_read_world(struct pn_mmu_vcpu *vcpu, pn_gpa gpa, void *buf,
                                 size_t size, struct pn_fault *fault) {
    if (vcpu->world.second) {
        struct walk w = {.fixes = 0};
        if (stage_walk(vcpu, &vcpu->second, gpa, vcpu->second.table, PN_TLB_USER, 0, &w) <
            0) {
            second_fault(fault, &vcpu->second, &w, true);
            return PN_GUEST_PF;
        }
        gpa = w.gfn << PN_PAGE_SHIFT | (gpa & (PN_PAGE_SIZE - 1));
    }
    return pn_mmu_read_phys(vcpu->mmu, gpa, buf, size) == size ? PN_MAPPED : PN_MMIO;
}

/* ---- Life ---- */

int root_init(struct pn_mmu_vcpu *vcpu) {
    struct vcpu_roots *vs = vcpu->roots;
    size_t bytes = PN_TLB_ENTRIES * sizeof(struct pn_tlb_entry);
    vs->max = vcpu->mmu->cfg.opt.cached_roots + 1;
    vs->cur = &vs->root[0];
    for (unsigned i = 0; i < vs->max; i++) {
        struct root *r = &vs->root[i];
        r->vcpu = vcpu;
        for (unsigned mode = 0; mode < PN_TLB_MODES; mode++) {
            r->room[mode] = aligned_alloc(64, bytes);
            if (!r->room[mode])
                return -ENOMEM;
            vcpu->mmu->bytes += bytes;
        }
        r->bit = 1ull << ((vcpu->number * ROOTS_MAX + i) & 63);
    }
    take_paging(vcpu);
    root_load(vcpu);
    return 0;
}

void root_destroy(struct pn_mmu_vcpu *vcpu) {
    /* Zapping under one root reaches into the TLBs of all. */
    for_each_root_of(vcpu, r)
        vcpu->mmu->ops->root_drop(vcpu, r);
    for (unsigned i = 0; i < vcpu->roots->max; i++)
        for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
            free(vcpu->roots->root[i].room[mode]);
}
