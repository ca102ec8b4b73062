/* SPDX-License-Identifier: MIT */
/*
 * Walks: an address through the tables of one stage, each reference of which the stage
 * below answers.
 * Source: SDM volume 3, chapter "Paging"; permissions as KVM's arch/x86/kvm/mmu.h.
 */
#pragma once

#include "mmu/core/format.h"
#include "penumbra/mmu.h"

/* Who may do what: derived from the control registers once per change of them. Only pkru
 * and pkrs may be stored to by others: nothing else is derived from them. */
struct rights {
    /* By ACC_* of the page: bit per enum pn_access that faults. */
    uint8_t deny[PN_TLB_MODES][ACC_SETS];
    uint8_t pfec[PN_ACCESSES][PN_TLB_MODES]; /* the error code's W, U, I and SS bits */
    bool wp, pke, pks; /* pke, pks: false where the paging mode ignores them */
    bool keys;         /* pke or pks */
    uint32_t pkru, pkrs;
};

struct walk;

/* Entries read, eight bits for each level from 1 on. A walk reads at most a few of a level
 * before it is counted. */
#define REFS(level) (1ull << 8 * ((level)-1))
static inline unsigned refs_total(uint64_t refs) {
    return refs * 0x0101010101u >> 32 & 255;
}

/* Where an entry is. */
struct ref {
    const void *host; /* NULL: there is no memslot */
    pn_gpa gpa;       /* in the memslots */
};

enum miss {
    MISS_NONE,
    MISS_AGAIN, /* the stage could not answer and does now: the walk starts over, as after
                   a VM exit */
    MISS_FAULT  /* its own tables deny it: the walk ends as WALK_BELOW */
};

/*
 * One stage of translation: tables of a format, from a root, over another stage. A
 * guest's tables stand on the memslots under shadow, and on the second level under tdp; a
 * nested guest's on its hypervisor's tables, and those on ours. Cold, a walk of g levels
 * over n over h reads (g+1)(n+1)(h+1)-1 entries, since each reference asks the stage
 * below.
 */
struct stage {
    struct pt_bits bits;
    struct rights rights;
    uint8_t levels; /* bits.format->top; 0: paging is off */
    uint16_t mode;  /* levels and permission bits, STAGE_*: what a root is cached by */
    uint64_t root;  /* CR3 or EPTP: may be stored to by others, as pdpte may */
    uint64_t pdpte[4];
    bool second;          /* a second level, of a guest's hypervisor */
    enum pn_access table; /* of a second level: what a reference to a gpte is to it */
    const struct stage *below; /* NULL: the memslots answer */
    /* Where a walk of the stage above ends, too: its frame, an access to which is meant, goes
     * through this stage. NULL: it does not. Return: as stage_walk; with w->miss MISS_AGAIN the
     * walk starts over. */
    int (*final)(struct pn_mmu_vcpu *vcpu, const struct stage *s, enum pn_access access,
                 unsigned flags, struct walk *w);
    /* What a stage above asks of this one: where the entry at gpa is, for the walk w. When
     * this stage cannot say, w->miss tells why, and there is no host address. What it reads
     * of tables of ours is added to w->refs, for the walk to count. */
    struct ref (*read)(struct pn_mmu_vcpu *vcpu, const struct stage *s, struct walk *w,
                       pn_gpa gpa, unsigned flags);
    /* A or D is about to be set in that entry: a write as any other. Return: as w->miss.
     */
    enum miss (*write)(struct pn_mmu_vcpu *vcpu, const struct stage *s, struct walk *w,
                       pn_gpa gpa);
};

#define STAGE_LEVELS PN_MODE_LEVELS
#define STAGE_PSE    PN_MODE_PSE
#define STAGE_NX     PN_MODE_NX
#define STAGE_WP     PN_MODE_WP
#define STAGE_SMEP   PN_MODE_SMEP
#define STAGE_SMAP   PN_MODE_SMAP
#define STAGE_PKE    PN_MODE_PKE
#define STAGE_PKS    PN_MODE_PKS
#define STAGE_LMA    PN_MODE_LMA
/* Of a second level: it is one; with mode-based execute control. */
#define STAGE_SECOND 0x4000u
#define STAGE_MBEC   0x8000u

/* A guest's own stage: as the control registers say, over the memslots. maxphyaddr and
 * lacks as in struct pn_mmu_config. */
void stage_init(struct stage *s, const struct pn_paging *p, uint8_t maxphyaddr,
                uint8_t lacks);

/* A second level that a guest's hypervisor keeps in guest memory, over `below`: EPT, or
 * NPT (the format of long mode, as for a user access). features: a set of enum
 * pt_feature. */
void stage_init_second(struct stage *s, enum pt_format_id format, unsigned features,
                       uint8_t maxphyaddr, pn_gpa root, const struct stage *below);

/* The same in EPT's, as an EPTP says. mbec: with mode-based execute control. */
void stage_init_ept(struct stage *s, uint64_t eptp, bool mbec, uint8_t maxphyaddr,
                    uint8_t lacks, const struct stage *below);

/* The same in NPT's format, which is that of host's own paging (host->cr0 has PG). */
void stage_init_npt(struct stage *s, const struct pn_paging *host, uint8_t maxphyaddr,
                    uint8_t lacks, const struct stage *below);

/* A guest's stage stands on that second level from now on. */
void stage_stand_on(struct stage *s, const struct stage *second);
struct walk;
/* What second's hypervisor is told of a walk of it that was denied; table: for the sake of a
 * table above. */
void second_fault(struct pn_fault *f, const struct stage *second, const struct walk *in,
                  bool table);
/* The same, of a reference of the walk w: it is w's fault. stack: of an access to a shadow stack
 * itself. */
void second_denied(struct walk *w, const struct stage *second, const struct walk *in,
                   bool table, bool stack);

/* How a walk ended. */
enum walk_end { WALK_MAPPED, WALK_ABSENT, WALK_RESERVED, WALK_DENIED, WALK_BELOW };

struct walk {
    pn_gva gva;     /* what is translated */
    unsigned fixes; /* of the stage below, for this access; the caller's to clear */
    uint64_t refs;  /* REFS that the stage below read, and that are not counted yet */
    enum walk_end end;
    enum miss miss; /* of the stage below */
    uint8_t top;    /* level of the root table; 0: paging off */
    uint8_t level;  /* of the leaf, or of the entry that faulted; 3: paging off */
    /* By level 1..5 ([0] unused), for every level read; the entry as read, A and D
     * included after a walk with side effects. PAE level 3 is the PDPTE register, with
     * rights ACC_ALL and no slot_gpa. */
    pn_gpa pte_gpa[PT_LEVELS + 1]; /* as this stage's tables name it */
    pn_gpa
        slot_gpa[PT_LEVELS + 1]; /* in the memslots: what the stages below made of it */
    uint64_t gpte[PT_LEVELS + 1];
    unsigned pt_access[PT_LEVELS + 1]; /* rights granted down to and with that level */
    unsigned access;                   /* = pt_access[level]: ACC_* */
    uint8_t pkey;
    bool dirty; /* the leaf's D is set (after the walk). A table in a read-only slot keeps
                   its A and D as they are, as under KVM */
    bool global; /* the leaf's G, with CR4.PGE left to the caller */
    pn_gfn gfn;  /* of the 4 KiB page that holds gva; what a second level made of it */
    pn_gfn second_gfn;      /* what it was asked for; set with an APIC-access page, too */
    uint8_t second_level;   /* with one: of its leaf; else 0 */
    unsigned second_access; /* and what it grants: ACC_*, W with D alone */
    bool second_splits; /* it lets only user, or only supervisor addresses be executed */
    struct pn_fault fault; /* when a guest's own walk ends in #PF */
};

/* May a TLB have it? Its entries always grant reads, which EPT may not; and what an spte lets be
 * executed does not depend on the rights above it. */
static inline bool walk_cacheable(const struct walk *w) {
    return !w->second_level || (w->second_access & ACC_USER && !w->second_splits);
}

/* What a walk of a second level grants to an address of that kind. */
static inline unsigned second_grants(const struct stage *second, const struct walk *in,
                                     bool user) {
    unsigned acc = in->access & ACC_ALL;
    if (!second->bits.execute_user || !user)
        return acc;
    return (acc & ~ACC_EXEC) | (in->access & ACC_EXEC_USER ? ACC_EXEC : 0);
}
/* The frame of a guest's walk went through a second level, by the walk `in`. */
static inline void walk_take_second(struct walk *out, const struct stage *second,
                                    const struct walk *in) {
    bool user = out->access & ACC_USER;
    out->second_gfn = out->gfn;
    out->gfn = in->gfn;
    out->second_level = in->level;
    out->second_access = second_grants(second, in, user);
    out->second_splits = out->second_access != second_grants(second, in, !user);
    if (!in->dirty && second->bits.dirty)
        out->second_access &= ~ACC_WRITE;
    out->dirty = out->dirty && out->second_access & ACC_WRITE;
    out->access &= out->second_access | ACC_USER | ACC_SS;
}
/* Of an ordinary access, what a second level has to let pass. */
static inline enum pn_access second_asked(enum pn_access access) {
    return pn_stores(access) ? PN_WRITE : access == PN_FETCH ? PN_FETCH : PN_READ;
}

/* Level of the first entry that a walk read from memory; 0: none. */
static inline unsigned walk_first(const struct walk *w) {
    return w->top == 3 ? 2 : w->top;
}

/* A probe of s has ended in out->fault: count it as the walk of an access. */
void walk_count(struct pn_mmu_vcpu *vcpu, const struct stage *s, const struct walk *w);

#define WALK_PROBE 1u /* no side effects: neither A nor D is set, no event, no count */
/* A probe, too, and beside whoever changes our tables (pn_mmu_look_fault): a stage that stands on
 * them ends it where they do not answer as they are. Its REFS are those of a walk. */
#define WALK_LOOK 2u

/*
 * Walk the tables of s. mode and access say what rights to check; A and D are set by
 * compare-and-swap in guest memory (and reported to ops->written) unless WALK_PROBE.
 * Return: 0 and *out; or -1 and out->end (with out->fault, where s is the vCPU's own;
 * levels read so far are filled). A table outside every memslot reads as all ones, so
 * that reserved bits fault.
 */
int stage_walk(struct pn_mmu_vcpu *vcpu, const struct stage *s, pn_gva gva,
               enum pn_access access, enum pn_tlb_mode mode, unsigned flags,
               struct walk *out);

/*
 * The rights that a protection key takes away. acc: ACC_* of the translation; pkey: its
 * key. Source: SDM volume 3, "Protection Keys". Return: true when the key denies it.
 */
static inline bool rights_pkey_denies(const struct rights *r, unsigned acc, uint8_t pkey,
                                      enum pn_access access, enum pn_tlb_mode mode) {
    bool user_page = acc & ACC_USER;
    if (access == PN_FETCH || !(user_page ? r->pke : r->pks))
        return false;
    uint32_t key = (user_page ? r->pkru : r->pkrs) >> (2 * pkey); /* bit 0 AD, 1 WD */
    if (key & 1)
        return true;
    return key & 2 && pn_stores(access) && (r->wp || (user_page && mode == PN_TLB_USER));
}

/* Does a translation with these rights allow the access? The one place for the rules
 * (the table is made in stage_init). Return: 0, or the #PF error code (with
 * PN_PF_PRESENT set). */
static inline uint32_t rights_check(const struct rights *r, unsigned acc, uint8_t pkey,
                                    enum pn_access access, enum pn_tlb_mode mode) {
    bool deny = r->deny[mode][acc] >> access & 1;
    bool pk = r->keys && rights_pkey_denies(r, acc, pkey, access, mode);
    if (!deny && !pk)
        return 0;
    return PN_PF_PRESENT | r->pfec[access][mode] | (pk ? PN_PF_PK : 0);
}
/* The same of every ordinary access. Return: bit per enum pn_access that would fault. */
static inline unsigned rights_denied(const struct rights *r, unsigned acc, uint8_t pkey,
                                     enum pn_tlb_mode mode) {
    unsigned denied = r->deny[mode][acc];
    if (__builtin_expect(r->keys, 0))
        for (int access = PN_READ; access <= PN_WRITE; access++)
            denied |= (unsigned)rights_pkey_denies(r, acc, pkey, access, mode) << access;
    return denied;
}
