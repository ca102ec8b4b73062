/* SPDX-License-Identifier: MIT */
/*
 * What the TLB model is shown: translations with their faults and exits, fetches, and
 * everything that drops something from a TLB.
 *
 * Who flushes what, under the hypervisor that each MMU stands for:
 *
 *                       tdp                              shadow
 *   MOV CR3             the guest's, of its PCID         exit; INVVPID, all of the guest,
 *                                                        unless a cached root is kept
 *   INVLPG, INVPCID     the guest's                      exit; INVVPID, address or all
 *   CR0, CR4, EFER      exit; the guest's, all           exit; all
 *   a mapping goes      INVEPT, all of the guest         INVVPID, all of the guest
 *   or loses a right    before the next entry            before the next entry
 *   a fault             its address                      its address
 *
 * Sources: SDM volume 3, "Operations that Invalidate TLBs and Paging-Structure Caches",
 * "Operations that Invalidate Cached Mappings"; KVM, arch/x86/kvm/mmu/mmu.c and
 * arch/x86/kvm/x86.c (kvm_mmu_invlpg, kvm_invalidate_pcid, kvm_mmu_load,
 * kvm_flush_remote_tlbs).
 */
#include <stdlib.h>
#include <string.h>

#include "mmu/model/model.h"

/* ---- Flushes ---- */

/* The next fetch is shown, wherever it is. */
static void show_next(struct pn_mmu_vcpu *vcpu) {
    vcpu->model->fetches->page = ~0ull;
}

/* What translates linear addresses; global pages too when global says so. */
static void flush_linear(struct pn_mmu_vcpu *vcpu, uint32_t ctx, bool global) {
    struct model *m = vcpu->model;
    for (unsigned t = 0; t < MODEL_TLBS; t++)
        for (unsigned i = 0; i < PN_TLB_ARRAYS; i++)
            assoc_flush(&m->tlb[t][i], ctx, global);
    for (unsigned level = 2; level <= 5; level++)
        assoc_flush(&m->walk[level], ctx, true);
    model_filter_sift(vcpu);
    show_next(vcpu);
}

static void flush_all(struct pn_mmu_vcpu *vcpu) {
    struct model *m = vcpu->model;
    flush_linear(vcpu, ASSOC_ANY, true);
    for (unsigned level = 2; level <= 5; level++)
        assoc_flush(&m->second[level], ASSOC_ANY, true);
    assoc_flush(&m->nested, ASSOC_ANY, true);
}

static void flush_page(struct pn_mmu_vcpu *vcpu, pn_gva gva, uint32_t ctx, bool global) {
    struct model *m = vcpu->model;
    for (unsigned level = 1; level <= 3; level++) {
        uint64_t tag = model_page_tag(gva, level);
        for (unsigned t = 0; t < MODEL_TLBS; t++)
            for (unsigned i = 0; i < PN_TLB_ARRAYS; i++) {
                if (t < MODEL_FIRST)
                    model_filter_drop(vcpu, (enum model_tlb)t, i, tag);
                assoc_drop(&m->tlb[t][i], tag, ctx, global);
            }
    }
    show_next(vcpu);
}

/* What leads to gva in the walk caches. */
static void flush_way(struct pn_mmu_vcpu *vcpu, pn_gva gva, uint32_t ctx) {
    unsigned bits = vcpu->mmu->tdp && vcpu->walk.levels == 2 ? 10 : 9;
    for (unsigned level = 2; level <= 5; level++)
        assoc_drop(&vcpu->model->walk[level], model_table_tag(gva, bits, level), ctx,
                   true);
}

static void host_flush_all(struct pn_mmu_vcpu *vcpu) {
    vcpu->model->flush = false;
    flush_all(vcpu);
    pn_count(vcpu->stats, model_flush_host_all);
}

/* Tables lost a mapping or a right, and the roots' TLBs may have: the filters begin anew,
 * and the hypervisor owes all vCPUs a flush before they go on (KVM_REQ_TLB_FLUSH). */
static void dropped(struct pn_mmu *mmu) {
    for (unsigned v = 0; v < mmu->vcpu_count; v++) {
        if (!mmu->vcpus[v]->model)
            continue;
        model_told_flush(mmu->vcpus[v]);
        mmu->vcpus[v]->model->flush = true;
    }
}

/* ---- Exits ---- */

static void exited(struct pn_mmu_vcpu *vcpu, enum pn_stat why) {
    vcpu->stats->v[why]++;
    pn_count(vcpu->stats, model_exit);
    if (vcpu->model->cfg->vpid)
        return;
    flush_all(vcpu);
    pn_count(vcpu->stats, model_flush_switch);
}

void pn_mmu_exited(struct pn_mmu_vcpu *vcpu, enum pn_vm_exit why) {
    static const enum pn_stat stat[] = {
        [PN_VM_PIO] = PN_STAT_model_exit_pio,
        [PN_VM_INTERRUPT] = PN_STAT_model_exit_interrupt,
        [PN_VM_OTHER] = PN_STAT_model_exit_other,
    };
    if (!vcpu->model)
        return;
    record(vcpu->mmu, exited, vcpu->number, .w = {why});
    exited(vcpu, stat[why]);
}

/* ---- What the guest does to its TLB ---- */

static void model_set_cr3(struct pn_mmu_vcpu *vcpu, bool noflush, bool hit) {
    bool shadow = !vcpu->mmu->tdp, tags = vcpu->model->cfg->pcid;
    bool flush = !pcid_on(vcpu) || !noflush;
    pn_count(vcpu->stats, model_cr3_load);
    model_filter_sift(vcpu); /* another context */
    if (shadow)
        exited(vcpu, PN_STAT_model_exit_cr3);
    if (shadow && (flush || !hit)) {
        host_flush_all(vcpu);
    } else if (flush || !tags) {
        flush_linear(vcpu, tags ? model_context(vcpu) : ASSOC_ANY, false);
        pn_count(vcpu->stats, model_flush_cr3);
    }
}

static void model_set_paging(struct pn_mmu_vcpu *vcpu) {
    exited(vcpu, PN_STAT_model_exit_other);
    flush_linear(vcpu, ASSOC_ANY, true);
    pn_count(vcpu->stats, model_flush_paging);
}

static void model_invlpg(struct pn_mmu_vcpu *vcpu, pn_gva gva) {
    pn_count(vcpu->stats, model_inval);
    if (!vcpu->mmu->tdp) {
        exited(vcpu, PN_STAT_model_exit_inval);
        flush_page(vcpu, gva, ASSOC_ANY, true);
        flush_way(vcpu, gva, ASSOC_ANY);
        pn_count(vcpu->stats, model_flush_host_page);
        return;
    }
    flush_page(vcpu, gva, model_context(vcpu), true);
    for (unsigned level = 2; level <= 5; level++)
        assoc_flush(&vcpu->model->walk[level], model_context(vcpu), true);
    pn_count(vcpu->stats, model_flush_page);
}

static void model_invpcid(struct pn_mmu_vcpu *vcpu, unsigned type, uint16_t pcid,
                          pn_gva gva) {
    bool tags = vcpu->model->cfg->pcid;
    uint32_t ctx = tags ? pcid : ASSOC_ANY;
    pn_count(vcpu->stats, model_inval);
    if (!vcpu->mmu->tdp)
        exited(vcpu, PN_STAT_model_exit_inval);
    if (type == 0) {
        flush_page(vcpu, gva, ctx, false);
        flush_way(vcpu, gva, ctx);
    }
    if (!vcpu->mmu->tdp) {
        if (type)
            host_flush_all(vcpu);
        else
            pn_count(vcpu->stats, model_flush_host_page);
    } else if (type == 0) {
        pn_count(vcpu->stats, model_flush_page);
    } else {
        flush_linear(vcpu, type == 1 ? ctx : ASSOC_ANY, type == 2);
        pn_count(vcpu->stats, model_flush_pcid);
    }
}

/* ---- Translations ---- */

static void fault_taken(struct pn_mmu_vcpu *vcpu) {
    vcpu->model->exits++;
}

/* A fault drops what is cached for its address. */
static void faulted(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                    const struct model_path *p) {
    model_fault(vcpu, gva, access, p);
    flush_page(vcpu, gva, model_context(vcpu), true);
    flush_way(vcpu, gva, model_context(vcpu));
}

/* n exits, then the answer. */
static void show_faults(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                        enum pn_tlb_mode mode, enum pn_answer answer, unsigned n,
                        const struct model_path *pre) {
    struct pn_stats *st = vcpu->stats;
    struct model_path now;
    for (unsigned i = 0; i < n; i++) {
        faulted(vcpu, gva, access, pre);
        exited(vcpu, PN_STAT_model_exit_fault);
    }
    unsigned mapped = n && answer == PN_MMIO ? n - 1 : n;
    if (vcpu->mmu->tdp) {
        st->v[PN_STAT_model_violation] += mapped;
        if (answer != PN_GUEST_PF)
            return;
        model_path(vcpu, gva, access, mode, &now);
        faulted(vcpu, gva, access, &now);
    } else if (answer == PN_GUEST_PF) {
        pn_count(st, model_inject);
    } else if (answer == PN_MAPPED) {
        st->v[PN_STAT_model_shadow_fault] += mapped;
    }
}

/* The access has reached its page. e: the entry of the root's TLB, for it or not. */
static void show_access(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                        enum pn_tlb_mode mode, const struct model_path *pre,
                        const struct pn_tlb_entry *e) {
    struct model_hit h;
    if (access == PN_FETCH)
        vcpu->model->fetches->page = gva & PN_PAGE_MASK;
    if (model_access(vcpu, gva, access, mode, pre, &h) && access < PN_FETCH &&
        (e->tag[access] ^ gva) < PN_PAGE_SIZE)
        model_filter_fill(vcpu, gva, mode, &h);
}

/* Does the entry answer the access, its write tag kept back or not? */
static bool has(const struct pn_tlb_entry *e, pn_gva gva, enum pn_access access) {
    if (pn_on_shadow_stack(access))
        return false;
    return (e->tag[access] ^ gva) < PN_PAGE_SIZE ||
           (access == PN_WRITE && (e->tag[PN_WRITE] == PN_TLB_HELD(gva) ||
                                   e->tag[PN_WRITE] == TLB_RECORDED(gva)));
}

/* A store has filled it, but for the write tag: pieces of its page are logged. */
static bool filled_without(const struct pn_mmu *mmu, const struct pn_tlb_entry *e,
                           pn_gva gva, enum pn_access access,
                           const struct pn_xlate *out) {
    return mmu->tracker->pieces && access == PN_WRITE &&
           (e->tag[PN_READ] ^ gva) < PN_PAGE_SIZE &&
           e->hva == ((uintptr_t)out->hva & PN_PAGE_MASK);
}

/* The root's TLB does not have it. */
static enum pn_outcome missed(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                              enum pn_tlb_mode mode, struct pn_xlate *out,
                              const struct root *r, pn_gpa *frame) {
    struct pn_mmu *mmu = vcpu->mmu;
    struct model_path pre;
    model_path(vcpu, gva, access, mode, &pre);
    vcpu->model->exits = 0;
    enum pn_outcome outcome = mmu->ops->translate(vcpu, gva, access, mode, out);
    enum pn_answer answer = pn_answer(outcome);
    unsigned n = vcpu->model->exits;
    /* Only now: the first fill of a mode moves its TLB. */
    const struct pn_tlb_entry *e = &r->tlb[mode][tlb_index(gva)];
    if (has(e, gva, access) || filled_without(mmu, e, gva, access, out))
        *frame = out->gpa & PN_PAGE_MASK;
    bool known = !n && pre.found; /* else the tables are others now */
    show_faults(vcpu, gva, access, mode, answer, n, &pre);
    if (vcpu->model->flush)
        host_flush_all(vcpu);
    if (answer == PN_MAPPED)
        show_access(vcpu, gva, access, mode, known ? &pre : NULL, e);
    return outcome;
}

/* The root's TLB answers; code is told of by pn_mmu_fetched, and comes here for the tables.
 */
static bool answers(const struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                    enum pn_tlb_mode mode, pn_gpa *gpa) {
    const struct root *r = vcpu->roots->cur;
    unsigned i = tlb_index(gva);
    if (access == PN_FETCH || !has(&r->tlb[mode][i], gva, access))
        return false;
    *gpa = vcpu->model->frame[r - vcpu->roots->root][mode * PN_TLB_ENTRIES + i] |
           (gva & (PN_PAGE_SIZE - 1));
    return access != PN_WRITE || !tlb_held(vcpu, gva, mode) ||
           track_code_seen(vcpu->mmu, *gpa);
}

static enum pn_outcome model_translate(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                       enum pn_access access, enum pn_tlb_mode mode,
                                       struct pn_xlate *out) {
    struct model *m = vcpu->model;
    struct root *r = vcpu->roots->cur;
    unsigned i = tlb_index(gva), offset = gva & (PN_PAGE_SIZE - 1);
    pn_gpa *frame = &m->frame[r - vcpu->roots->root][mode * PN_TLB_ENTRIES + i];
    if (m->flush)
        host_flush_all(vcpu);
    if (!answers(vcpu, gva, access, mode, &out->gpa))
        return missed(vcpu, gva, access, mode, out, r, frame);
    const struct pn_tlb_entry *e = &r->tlb[mode][i];
    out->hva = (uint8_t *)e->hva + offset;
    show_access(vcpu, gva, access, mode, NULL, e);
    return PN_OUT_NO_FAULT;
}

/* ---- Fetches ---- */

struct pn_fetches *pn_mmu_fetches(const struct pn_mmu_vcpu *vcpu) {
    return vcpu->model ? vcpu->model->fetches : NULL;
}

void pn_mmu_fetches_move(struct pn_mmu_vcpu *vcpu, struct pn_fetches *to) {
    *to = *vcpu->model->fetches;
    vcpu->model->fetches = to;
}

void pn_mmu_fetched(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_tlb_mode mode) {
    struct model_hit h;
    record(vcpu->mmu, fetched, vcpu->number, .w = {gva, mode});
    if (vcpu->model->flush)
        host_flush_all(vcpu);
    vcpu->model->fetches->page = gva & PN_PAGE_MASK;
    model_access(vcpu, gva, PN_FETCH, mode, NULL, &h);
}

/* ---- The observer ---- */

static struct pn_tlb_entry *shown(const struct pn_mmu_vcpu *vcpu, enum pn_tlb_mode mode) {
    return vcpu->model->filter[mode];
}

const struct mmu_observer model_observer = {
    .init = model_create,
    .fini = model_destroy,
    .translate = model_translate,
    .answers = answers,
    .where = model_where,
    .tlb = shown,
    .entry_changes = model_filter_clear,
    .tlb_flushed = model_filter_flush,
    .tlb_changed = model_filter_sift,
    .fault_taken = fault_taken,
    .dropped = dropped,
    .set_cr3 = model_set_cr3,
    .set_paging = model_set_paging,
    .invlpg = model_invlpg,
    .invpcid = model_invpcid,
    .audit = model_audit,
};
