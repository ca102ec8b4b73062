/* SPDX-License-Identifier: MIT */
/*
 * What the files of the TLB model share (penumbra/model.h, and model.c for how it works).
 * A vCPU has a struct model while a model is on; without one its pointer is NULL, and
 * the calls here are not made.
 */
#pragma once

#include "mmu/core/root.h"
#include "mmu/model/assoc.h"

/* Entries of the filter: mode << PN_TLB_BITS | index. */
#define FILTER_ENTRIES (PN_TLB_MODES * PN_TLB_ENTRIES)
#define FILTER_NONE    UINT16_MAX

/* What the CPU may hit without a call (filter.c): for L1I pages of pn_fetches, for L1D entries of
 * the filter. Those that one entry of the model answers are a list. */
struct filter_link {
    uint16_t next, prev; /* or FILTER_NONE */
    uint16_t entry;      /* of the array */
    uint8_t array;
    bool listed;
};
struct filter {
    uint64_t
        live[FILTER_ENTRIES / 64]; /* bit for each: it may be hit; all else is clear */
    uint64_t live_words[FILTER_ENTRIES / 4096]; /* those that have a bit are among them */
    struct filter_link *link;
    uint16_t *head[PN_TLB_ARRAYS]; /* by array and entry, or FILTER_NONE */
    bool by_size;                  /* no array has pages above those of a later one */
};

/* L2I: second level for fetches alone, where there is one. */
enum model_tlb { L1I, L1D, L2, L2I, MODEL_TLBS };
#define MODEL_FIRST 2 /* L1I, L1D */

struct model {
    const struct pn_tlb_model *cfg;
    struct assoc tlb[MODEL_TLBS][PN_TLB_ARRAYS]; /* by enum model_tlb */
    bool own_l2i;                                /* else fetches share L2 */
    struct assoc walk[6], second[6], nested;
    struct filter first[MODEL_FIRST];
    /* What the CPU reads instead of its root's TLB, a part of it. */
    struct pn_tlb_entry *filter[PN_TLB_MODES];
    /* Guest frame behind each entry of each root's TLB. */
    pn_gpa *frame[ROOTS_MAX];
    struct pn_fetches *fetches, own_fetches;
    bool flush;     /* the hypervisor owes a flush of everything */
    unsigned exits; /* that the MMU took for the access in progress */
};

/* One way through the tables as they stand. */
struct model_path {
    unsigned guest_top, guest_level; /* TDP: first and last level of gptes read; top 0:
                                        none */
    unsigned guest_bits;             /* TDP: of the gva per level, 9 or 10 */
    pn_gpa gpte[6];                  /* TDP: where they are */
    unsigned table_top, table_level; /* shadow: first and last level of sptes read */
    unsigned level;                  /* of the page; TDP: the guest's alone */
    pn_gpa gpa;                      /* TDP: of the page */
    bool found;                      /* shadow: it ends in a page; TDP: in a guest page */
    bool store, global;              /* a store needs no walk; of every PCID */
    uint8_t table_node[6]; /* shadow, with mmu->nodes: of the tables, by level */
};

/* A page in one level of the TLB. */
struct model_hit {
    struct assoc_entry *e;
    unsigned array, level;
};

/* ---- model.c: the caches ---- */

/* Are the sizes of its structures possible? */
bool model_possible(const struct pn_tlb_model *m);
/* Make the model of cfg.tlb the observer. Return: 0 or -ENOMEM. */
int model_attach(struct pn_mmu *mmu);
void model_detach(struct pn_mmu *mmu);
int model_create(struct pn_mmu_vcpu *vcpu);
void model_destroy(struct pn_mmu_vcpu *vcpu);
/* An access that reached a page; pre: the way there if it is known, else NULL. Return: the
 * first level has it now, as *h says. */
bool model_access(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                  enum pn_tlb_mode mode, const struct model_path *pre,
                  struct model_hit *h);
/* An access whose walk, along p, ended in a fault. */
void model_fault(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                 const struct model_path *p);
/* The PCID, or 0 where entries are not told apart by it. */
static inline uint16_t model_context(const struct pn_mmu_vcpu *vcpu) {
    return vcpu->model->cfg->pcid && pcid_on(vcpu) ? vcpu->walk.root & CR3_PCID : 0;
}
static inline uint64_t model_page_tag(pn_gva gva, unsigned level) {
    return gva >> (PN_PAGE_SHIFT + 9 * (level - 1)) << 2 | level;
}
static inline uint64_t model_table_tag(pn_gva gva, unsigned bits, unsigned level) {
    return gva >> (PN_PAGE_SHIFT + bits * (level - 1)) << 2;
}
/* The way of this kind of MMU: shadow_path or tdp_path. */
void model_path(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                enum pn_tlb_mode mode, struct model_path *p);

/* ---- hit.c ---- */

/* Has one level of the TLB, its arrays a, the page, for a store if write? */
bool model_find(struct assoc a[PN_TLB_ARRAYS], pn_gva gva, uint16_t ctx, bool write,
                struct model_hit *h);
/* PN_PAGES_* of pages of level 1 to 3. */
static inline unsigned model_page_bit(unsigned level) {
    return level == 1 ? PN_PAGES_4K : level == 2 ? PN_PAGES_2M : PN_PAGES_1G;
}

/* ---- filter.c ---- */

int filter_init(struct pn_mmu_vcpu *vcpu); /* Return: 0 or -ENOMEM */
void filter_fini(struct model *m);
/* Put an entry of the current root's TLB into it, whose page is the one that h says. */
void model_filter_fill(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_tlb_mode mode,
                       const struct model_hit *h);
void model_filter_fetch(struct model *m, pn_gva gva, const struct model_hit *h);
void model_filter_clear(struct pn_mmu_vcpu *vcpu, unsigned index, enum pn_tlb_mode mode);
void model_filter_flush(struct pn_mmu_vcpu *vcpu);
/* The root, its TLB, the context or entries of the model are others now: only what holds
 * stays. */
void model_filter_sift(struct pn_mmu_vcpu *vcpu);
/* Of both first levels. */
void model_told_flush(struct pn_mmu_vcpu *vcpu);
/* An entry of L1D is about to be used. */
void model_filter_use(struct pn_mmu_vcpu *vcpu, unsigned array,
                      const struct assoc_entry *e);
/* A page of that level is about to come into an array of a first level: which entry is to go is
 * settled. And it has come. */
void model_filter_make_room(struct pn_mmu_vcpu *vcpu, enum model_tlb t, pn_gva gva,
                            unsigned array, unsigned level);
void model_filter_came(struct model *m, enum model_tlb t, unsigned array,
                       const struct assoc_entry *e);
/* Entries of that tag are about to go. */
void model_filter_drop(struct pn_mmu_vcpu *vcpu, enum model_tlb t, unsigned array,
                       uint64_t tag);

/* ---- path.c ---- */

void shadow_path(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                 enum pn_tlb_mode mode, struct model_path *p);
/* The code at gva ran from the block cache and has no spte yet. *p: the path as it will
 * be once the spte exists; its fault is counted then. */
void shadow_path_fetched(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_tlb_mode mode,
                         struct model_path *p);
void tdp_path(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
              enum pn_tlb_mode mode, struct model_path *p);
/* With mmu->nodes: the node of each second-level table on the way to gpa, by level; of one that
 * is not there, the vCPU's. */
void model_second_nodes(const struct pn_mmu_vcpu *vcpu, pn_gpa gpa, uint8_t node[6]);
/* With mmu->nodes: of a page. */
unsigned model_node_of(const struct pn_nodes *nodes, pn_gpa gpa);
/* TDP: the second-level leaf for gpa, or where the walk ends. Return: it is there. */
bool model_second(struct pn_mmu *mmu, pn_gpa gpa, unsigned *level);

/* ---- event.c: what changes them; audit.c ---- */

extern const struct mmu_observer model_observer; /* event.c */
/* explain.c */
void model_where(const struct pn_mmu_vcpu *vcpu, const struct walk *w,
                 struct pn_explanation *x);
void model_audit(struct audit *a, const struct pn_mmu_vcpu *vcpu);
