/* SPDX-License-Identifier: MIT */
/*
 * The audit: every invariant that the other files state, checked over the whole structure
 * from scratch. It changes nothing. A violation is a line and a count. Here is what both
 * kinds of MMU share; shadow/audit.c and tdp/audit.c have the rest.
 */
#include <stdarg.h>
#include <stdlib.h>

#include "mmu/core/audit.h"

void wrong(struct audit *a, const char *fmt, ...) {
    a->bad++;
    if (!a->out)
        return;
    va_list ap;
    va_start(ap, fmt);
    vfprintf(a->out, fmt, ap);
    va_end(ap);
    fputc('\n', a->out);
}

/* ---- Slots ---- */

/* What memslot.c counts for a frame that the slot cannot back. */
static uint32_t own_reason(const struct slot *s, uint64_t frame, unsigned level) {
    uint64_t pages = level_pages(level), first = frame * pages;
    bool apart = (s->gfn ^ (uintptr_t)s->pub.hva >> PN_PAGE_SHIFT) & (pages - 1);
    return apart || first < s->gfn || first + pages > s->gfn + s->npages;
}

static void audit_large(struct audit *a, struct slot *s, unsigned level) {
    unsigned shift = 9 * (level - 1);
    uint64_t frames = ((s->gfn + s->npages - 1) >> shift) - (s->gfn >> shift) + 1;
    uint32_t *want = calloc(frames, sizeof(*want));
    if (!want)
        return;
    if (a->mmu->ops->audit_large)
        a->mmu->ops->audit_large(a, s, level, want);
    for (uint64_t f = 0; f < frames; f++) {
        want[f] += own_reason(s, (s->gfn >> shift) + f, level);
        if (want[f] != s->disallow_large[level - 2][f])
            wrong(a, "slot %u level %u frame %llu: disallow_large %u, not %u", s->pub.id,
                  level, (unsigned long long)f, s->disallow_large[level - 2][f], want[f]);
    }
    free(want);
}

static void audit_slot(struct audit *a, struct slot *s) {
    for (uint64_t i = 0; i < s->npages; i++)
        if (s->track[i] || a->mmu->users.used)
            if (track_code(s, s->gfn + i) != !!track_users(a->mmu, s->gfn + i))
                wrong(a, "gfn %#llx: users and their flag differ",
                      (unsigned long long)(s->gfn + i));
    audit_large(a, s, 2);
    audit_large(a, s, 3);
}

/* ---- TLBs ---- */

/* Tags go one by one, the host page stays: without a tag nothing is granted. */
static bool entry_gva(const struct pn_tlb_entry *e, unsigned i, pn_gva *gva) {
    bool any = false;
    for (unsigned t = 0; t < 3; t++)
        any |= tlb_tag_page(e, i, t, gva);
    return any;
}

static void audit_tlb(struct audit *a, const struct root *r, enum pn_tlb_mode mode) {
    if (r->tlb[mode] != r->room[mode]) {
        if (r->filled[mode])
            wrong(a, "the TLB of mode %u is filled, and all share it", mode);
        return;
    }
    for (unsigned i = 0; i < PN_TLB_ENTRIES; i++) {
        if (!r->tlb[mode][i].hva)
            continue;
        pn_gva gva;
        if (entry_gva(&r->tlb[mode][i], i, &gva))
            a->mmu->ops->audit_entry(a, r, mode, i, gva);
        if (!(r->filled[mode] >> i / 64 & 1) || !(r->live[mode][i / 64] >> i % 64 & 1))
            wrong(a, "TLB entry %u of mode %u would survive a flush", i, mode);
    }
    for (unsigned i = 0; i < PN_TLB_ENTRIES; i++) {
        const struct pn_tlb_entry *e = &r->tlb[mode][i];
        if (!e->hva && (e->tag[0] != PN_TLB_NONE(i) || e->tag[1] != PN_TLB_NONE(i) ||
                        e->tag[2] != PN_TLB_NONE(i)))
            wrong(a, "TLB entry %u of mode %u has a tag and no page", i, mode);
    }
}

static void audit_roots(struct audit *a, const struct pn_mmu_vcpu *vcpu) {
    const struct vcpu_roots *vs = vcpu->roots;
    const struct mmu_observer *o = a->mmu->observer;
    for (unsigned i = 0; i < vs->count; i++) {
        const struct root *r = &vs->root[i];
        for (unsigned k = 0; k < i; k++)
            if (vs->root[k].fetch_gen == r->fetch_gen)
                wrong(a, "roots %u and %u share a fetch generation", i, k);
        for (unsigned mode = 0; mode < PN_TLB_MODES; mode++)
            audit_tlb(a, r, mode);
    }
    if (vs->cur >= vs->root + vs->count || vs->cur->stale)
        wrong(a, "the current root is unused or stale");
    const struct pn_tlb_entry *shown = o ? o->tlb(vcpu, PN_TLB_USER) : vs->cur->tlb[0];
    if (vcpu->view->fetch_gen != vs->cur->fetch_gen || vcpu->view->tlb[0] != shown)
        wrong(a, "the view shows another root");
}

int pn_mmu_audit(struct pn_mmu *mmu, FILE *out) {
    struct audit a = {mmu, out, 0};
    a.bad += slots_audit(&mmu->slots, out);
    mmu->ops->audit(&a);
    for (uint32_t i = 0; i < mmu->slots.count; i++)
        audit_slot(&a, mmu->slots.by_gfn[i]);
    for (unsigned v = 0; v < mmu->vcpu_count; v++)
        audit_roots(&a, mmu->vcpus[v]);
    for (unsigned v = 0; v < mmu->vcpu_count; v++)
        observe(mmu, audit, &a, mmu->vcpus[v]);
    return a.bad;
}

void audit_or_stop(struct pn_mmu *mmu) {
    if (pn_mmu_audit(mmu, stderr))
        abort();
}
