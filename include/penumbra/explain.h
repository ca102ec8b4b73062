/* SPDX-License-Identifier: MIT */
/*
 * What an MMU would do with an access, why, and what its tables hold. Everything here reads
 * and nothing changes: no A or D bit, no counter, no event, no table, no TLB entry.
 *
 * Entries of tables are shown without host addresses, as in events (penumbra/events.h).
 */
#pragma once

#include "penumbra/mmu.h"

PN_BEGIN_DECLS

enum pn_rule {
#define PN_RULE(name, words) PN_RULE_##name,
#include "penumbra/explain_rules.inc"
    PN_RULES
};
/* "no_write"; and what it says. */
const char *pn_rule_name(enum pn_rule rule);
const char *pn_rule_words(enum pn_rule rule);

/* ---- One access ---- */

struct pn_verdict {
    enum pn_outcome outcome; /* what pn_mmu_translate would return */
    bool exact; /* false: room for tables has to be made first, and which tables go for it
                   is not foreseen: NO_FAULT, mapped and mapped_split may be another of
                   these. With nested tables it is always false, and a store may be
                   tracked_table as well */
    enum pn_rule rule;     /* of the guest's tables */
    uint8_t rule_level;    /* of the entry that the rule speaks of; 0: of none */
    pn_gpa gpa;            /* where the access would go; not set for PN_GUEST_PF */
    struct pn_fault fault; /* with PN_GUEST_PF */
};

/* What pn_mmu_translate would come to now. Return: 0, or -ENOMEM. */
int pn_mmu_predict(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                   enum pn_tlb_mode mode, struct pn_verdict *out);

/* ---- One address ---- */

enum pn_dimension {
    PN_DIM_GUEST,  /* the guest's tables */
    PN_DIM_SHADOW, /* shadow tables */
    PN_DIM_SECOND, /* second-level tables */
    PN_DIM_NESTED /* a guest's guest: the tables that its hypervisor keeps below its own */
};

/* One entry on the way of a walk. */
struct pn_step {
    enum pn_dimension dimension;
    uint8_t level;
    uint8_t of;  /* SECOND, NESTED: looked for the gpte of this level; 0: for the page */
    bool reads;  /* a reference to memory: a PAE PDPTE register is none */
    bool unsync; /* SHADOW: the shadow page may be behind its table */
    uint16_t index; /* in its table */
    pn_gpa at;      /* GUEST: where the entry is; SHADOW: the table that the shadow page
                       stands for; SECOND: the address that is translated; NESTED: where
                       the entry is */
    uint64_t entry;
    unsigned acc;  /* ACC_* granted down to and with it */
    uint32_t role; /* SHADOW, SECOND: of the page that holds it, PN_ROLE_* */
};
#define PN_STEPS_MAX 80u /* (5+1)(5+1)-1 twice, and 5 */

/* A shadow page, or a second-level table. */
struct pn_table {
    pn_gfn gfn; /* of the guest's table; direct: the first frame that it maps */
    uint32_t role;
    uint32_t used;           /* entries that are not 0 */
    uint32_t parents, roots; /* entries that lead to it; roots that begin here */
    uint32_t flood;          /* tracked writes since it was last used */
    uint32_t age;            /* 0: used last of all; a root's own top: 0 */
    uint16_t unsync_below;   /* children that are unsync, or have such below them */
    bool unsync, read_only, obsolete;
};

/* An entry that maps a frame. */
struct pn_rmap {
    pn_gfn gfn; /* of its table, as in pn_table */
    uint32_t role;
    uint16_t index;
    uint64_t entry;
};
#define PN_EXPLAIN_LIST 8u /* listed at most; counted are all */

/* In which parts of the TLB model the address is. */
struct pn_model_where {
    bool on;
    /* Level of the page that an array has; 0: none has it. */
    uint8_t l1i, l1d, l2, l2i;
    uint8_t walk;   /* bit n: a walk would begin below the cached entry of level n */
    uint8_t second; /* the same of the second-level walk for the page itself */
    uint8_t nested; /* bit n: the nested TLB has the page of the gpte of level n */
};

struct pn_explanation {
    pn_gva gva;
    enum pn_mmu_kind kind;
    struct pn_paging paging;
    uint16_t mode; /* PN_MODE_* */
    uint8_t maxphyaddr;
    bool canonical; /* else the CPU raises #GP or #SS, and no walk is made */

    /* The way: the guest's entries from the top, then those of our tables. */
    struct pn_step step[PN_STEPS_MAX];
    unsigned steps;

    /* The world that the vCPU is in: 0, its guest's own; or that of a guest's guest. With
     * nested tables the guest's addresses go through these, from ncr3 on; ngpa: what the
     * guest's own tables lead to, if they do. */
    uint32_t asid;
    bool nested;
    pn_gpa ncr3, ngpa;
    bool
        reaches; /* the guest's own tables do; found says whether the nested ones do, too */

    bool found; /* the guest's tables lead to a frame; else the next ones are not set */
    uint8_t level; /* of the guest's leaf; 0: paging is off */
    unsigned acc;
    uint8_t pkey;
    bool dirty, global;
    pn_gpa gpa;

    bool has_slot; /* else the next ones are not set */
    struct pn_memslot slot;
    bool in_log;          /* of a logged slot: was written since the last harvest */
    uint32_t table_pages; /* shadow pages that stand for this frame as a table, synced */
    uint32_t code_users;  /* of pn_mmu_track_add */
    uint32_t large_forbid[2]; /* reasons against a 2 MiB and a 1 GiB mapping here */
    struct pn_table shadowed[PN_EXPLAIN_LIST]; /* what stands for the frame as a table */
    uint32_t shadowed_count;
    struct pn_rmap rmap[PN_EXPLAIN_LIST]; /* SHADOW: who maps the frame */
    uint32_t rmap_count;

    /* The TLB of the current root, by enum pn_tlb_mode: bit per enum pn_access that it
     * answers. held: the write tag is kept back (translated code). */
    uint8_t tlb[PN_TLB_MODES], held[PN_TLB_MODES];
    unsigned other_roots; /* cached roots of this vCPU whose TLBs answer, too */
    struct pn_model_where model;

    struct pn_verdict verdict[3][PN_TLB_MODES]; /* by enum pn_access */

    /* References of one cold walk: as the tables are now; and when everything that the
     * access needs is mapped, at the largest size that memslots and options allow. */
    struct pn_walk_cost now, shadow, two_dim;
};

/* Return: 0, or -ENOMEM. */
int pn_mmu_explain(struct pn_mmu_vcpu *vcpu, pn_gva gva, struct pn_explanation *out);

/* ---- All of it ---- */

#define PN_MAP_STORE  8u /* beside ACC_*: a store needs nobody's leave now */
#define PN_MAP_GLOBAL 16u

/* What one leaf maps. */
struct pn_mapping {
    uint64_t from, size; /* of gva; of second-level tables: of gpa */
    uint64_t entry;
    pn_gpa gpa;
    uint8_t level, pkey;
    uint8_t rights; /* ACC_* down the whole way, PN_MAP_* */
};
/* Return: false: enough. */
typedef bool (*pn_mapping_fn)(void *opaque, const struct pn_mapping *m);
typedef bool (*pn_table_fn)(void *opaque, const struct pn_table *t);

/* Of a vCPU's current root in ascending order: what the guest's tables map; and what ours
 * do (shadow: gva; tdp: all gpa). Tables that lead into each other map without end: a look
 * at many entries ends early. Return: false: ended early, by fn or by that. */
bool pn_mmu_guest_mappings(struct pn_mmu_vcpu *vcpu, pn_mapping_fn fn, void *opaque);
bool pn_mmu_our_mappings(struct pn_mmu_vcpu *vcpu, pn_mapping_fn fn, void *opaque);
/* Every shadow page or second-level table, in no order. */
void pn_mmu_tables(struct pn_mmu *mmu, pn_table_fn fn, void *opaque);
/* Memslot i, by gpa; NULL beyond the last. */
const struct pn_memslot *pn_mmu_slot_at(const struct pn_mmu *mmu, unsigned i);
struct pn_mmu *pn_mmu_of(const struct pn_mmu_vcpu *vcpu);

PN_END_DECLS
