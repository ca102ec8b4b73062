/* SPDX-License-Identifier: MIT */
/*
 * The MMU: guest tables in, host addresses out. It knows no KVM, no CPU and no device.
 *
 * One pn_mmu per VM (memslots, shadow pages, rmap, dirty logs), one pn_mmu_vcpu per vCPU
 * (paging state, roots, TLB). Locking: none; at any moment one thread is inside a pn_mmu.
 * Beside it other threads may run a vCPU's guest by its pn_tlb_view (pn_mmu_config.stand_still), and
 * be in pn_mmu_look.
 *
 * Errors: host failures are 0 or -errno; what an access met is an enum pn_outcome; a
 * fault for the guest is a struct pn_fault. The three are never mixed.
 */
#pragma once

#include <stdio.h>

#include "penumbra/events.h"
#include "penumbra/model.h"
#include "penumbra/record.h"
#include "penumbra/stats.h"
#include "penumbra/types.h"

PN_BEGIN_DECLS

struct pn_mmu;
struct pn_mmu_vcpu;

/* ---- The TLB that the CPU's fast path reads inline ---- */

/*
 * Direct mapped, indexed by the PN_TLB_BITS gva bits from 12 on. An access of `size` bytes
 * at gva hits when (tag[access] ^ gva) <= 4096 - size; then the byte is at hva +
 * (gva & 0xfff).
 * A missing right has the tag PN_TLB_NONE(index): a page of another index, so that no
 * gva, canonical or not, that probes this entry can match it. Invariant: an entry grants
 * nothing that the guest's tables and the memslot would not grant; a write tag only
 * stands where nothing needs to see the write (no write tracking, no unlogged page of a
 * dirty-logged slot, D already set in the gpte). Where pn_mmu_track_add alone needs to,
 * the write tag is kept back as PN_TLB_HELD(gva), which is of another index, too.
 */
#define PN_TLB_BITS        12
#define PN_TLB_ENTRIES     (1u << PN_TLB_BITS)
#define PN_TLB_NONE(index) ((uint64_t)((index) ^ 1u) << PN_PAGE_SHIFT)
#define PN_TLB_HELD(gva)   (((gva)&PN_PAGE_MASK) ^ 2u << PN_PAGE_SHIFT)

struct pn_tlb_entry {
    /* By enum pn_access: gva of the page, or one of another index. With a TLB model that of
     * PN_FETCH is none, but a stamp: see pn_tlb_used. */
    uint64_t tag[3];
    uintptr_t hva; /* host virtual address of the page */
};

/* Which rights an access is checked with. */
enum pn_tlb_mode {
    PN_TLB_USER,     /* CPL 3 */
    PN_TLB_SUPER,    /* CPL 0..2, RFLAGS.AC = 0, and every implicit supervisor access */
    PN_TLB_SUPER_AC, /* CPL 0..2, RFLAGS.AC = 1: SMAP does not bite */
    PN_TLB_MODES
};

/*
 * Embedded by the CPU in its own state; the MMU keeps it current in every call below that
 * takes the vcpu. Translated code reads it at fixed offsets.
 */
struct pn_tlb_view {
    /* PN_TLB_ENTRIES each, for reading; one that is empty may be shared, so any call may
     * move one. */
    const struct pn_tlb_entry *tlb[PN_TLB_MODES];
    /* Changes when a gva that was fetched from may translate otherwise: with another
     * root, with a memslot, and, once the guest has changed the mapping, with the
     * flush that must follow (INVLPG, INVPCID, MOV CR3). Jump caches keyed by gva are
     * then stale. A root that comes back unchanged brings its value back. */
    uint64_t fetch_gen;
    /* With a TLB model: of the last access; else 0. */
    uint64_t stamp;
};

/* Stamps only grow: each access and each fetch that is told of has a greater one. */
#define PN_TLB_STAMPS                                                                    \
    (UINT64_C(1) << 63) /* the first one: no address that is fetched from */

/* Whoever hits an entry says so: the model's first level has its page, and wants to know
 * which ones were used last. Accesses with the page of the one before need not be told. */
static inline void pn_tlb_used(struct pn_tlb_view *view, const struct pn_tlb_entry *e) {
    if (view->stamp)
        ((struct pn_tlb_entry *)(uintptr_t)e)->tag[PN_FETCH] = ++view->stamp;
}

/* ---- Creation and options ---- */

/* Who finds the pages that were written; an MMU has WP, and DBIT under tdp. */
enum pn_dirty_tracker {
#define PN_TRACKER(id, name, doc) PN_TRACKER_##id,
#include "penumbra/trackers.inc"
    PN_TRACKERS
};

/* Whose rules the shadow MMU follows. KVM's versions differ in what becomes of an spte when
 * the guest invalidates its address or has a #PF there, and in what asks for a flush of the
 * TLB (tlb_flush). The others have the newest KVM's rules there, and their own for which
 * tables go out of sync, and when they are synced (docs/shadow-policies.md). */
enum pn_mmu_policy {
    PN_POLICY_KVM_6_1,
    PN_POLICY_KVM_6_12,
    PN_POLICY_KVM_7_3,
    PN_POLICY_XEN_1, /* until 3.0: any table goes out of sync; a fault there syncs all */
    PN_POLICY_XEN_2, /* from 3.1 on: none does; every store is emulated */
    PN_POLICY_XEN_3, /* since 3.3: leaf tables, at most three for each vCPU */
    PN_POLICY_FLUSH, /* none is ever protected; the guest's flushes sync all */
    PN_POLICY_AGILE, /* modelled: tables stored to twice are left to the guest */
    PN_POLICIES
};

/* Accessed and dirty bits of the second level. With them every reference of a walk to the
 * guest's tables counts as a write, so that it needs W, and makes the table dirty. */
enum pn_mmu_ad {
    PN_AD_NONE, /* as EPT without them: a walk writes what it changes, A or D */
    PN_AD_EPT,  /* EPTP bit 6 */
    PN_AD_NPT   /* AMD's nested paging, which always has them */
};

/* A hypervisor in the guest has a second level of its own. */
enum pn_mmu_nested {
    PN_NESTED_WALK,  /* it is walked for real: three dimensions */
    PN_NESTED_SHADOW /* ours are merged with it: two dimensions, as under KVM */
};

/* Options, each settable by name (pn_mmu_option_set), defaults as KVM's. */
struct pn_mmu_options {
    uint32_t policy;          /* shadow: enum pn_mmu_policy. Default: the newest KVM */
    uint32_t unsync;          /* 1: what policy lets go unsync may. Default 1 */
    uint32_t flood_threshold; /* tracked writes to one sp before it is zapped; 0: never.
                                 Default 3 */
    uint32_t prefetch;    /* neighbour sptes tried around a fixed fault; 0: off, and where
                          policy lets INVLPG map something, it does not. Default 8 */
    uint32_t large_pages; /* 1: mappings of level 2 and 3 where allowed. Default 1 */
    uint32_t page_budget; /* shadow pages or second-level tables at most; at least 64.
                              0, the default: as KVM a fiftieth of the memslots' pages,
                              at least 64; TDP: 65536 */
    uint32_t cached_roots;   /* previous roots kept per vCPU, 0..15. Default 15 */
    uint32_t agile_interval; /* policy=agile: TLB misses after which tables that were left
                                to the guest are shadowed again; 0: never. Default 65536 */
    uint32_t audit;          /* 1: audit after every call. Default 0 */
    /* TDP only. */
    uint32_t tdp_levels;  /* 4 or 5; 5 always where maxphyaddr is above 48. Default 4 */
    uint32_t eager_split; /* 1: large mappings are split when dirty logging begins; 0:
                             when they are written. Default 1 */
    uint32_t ad;          /* enum pn_mmu_ad. Default PN_AD_NONE */
    uint32_t nested;      /* enum pn_mmu_nested. Default PN_NESTED_WALK */
};

void pn_mmu_options_default(struct pn_mmu_options *opt);
/* `text` is "name=value", value a number, or one of the option's words where it has some.
 * Return: 0; -ENOENT unknown name; -EINVAL or -ERANGE bad value.
 */
int pn_mmu_option_set(struct pn_mmu_options *opt, const char *text);
/* What the option that text names takes: "from 0 to 1", "one of a|b"; "" without such an
 * option. Return: buf. */
const char *pn_mmu_option_allowed(const char *text, char *buf, size_t size);
/* The one kind of MMU, "shadow" or "tdp", that has the option that text names; NULL: both
 * have it, or there is no such option. */
const char *pn_mmu_option_only(const char *text);
/* Option i of the list, and what it is in opt. Return: its name; NULL beyond the last. */
const char *pn_mmu_option_at(unsigned i, const struct pn_mmu_options *opt,
                             uint32_t *value);
/* The word for that value of option i; NULL: its values are numbers. */
const char *pn_mmu_option_word(unsigned i, uint32_t value);
/* One line per option: name, default, range, meaning (for --help). */
void pn_mmu_options_print(FILE *out);

/* Called after a write to a write-tracked page has been done (translated code lives
 * there). May not call back into the MMU but for pn_mmu_track_*. */
typedef void (*pn_track_fn)(void *opaque, pn_gpa gpa, size_t size);

/* Who translates (README.md, "Who translates"). Guests cannot tell them apart. */
enum pn_mmu_kind {
    PN_MMU_SHADOW, /* shadow tables gva -> hva, made from the guest's tables */
    PN_MMU_TDP     /* the guest's tables, each reference through gpa -> hva tables */
};

#define PN_MMU_NO_1G    1u /* pages of 1 GiB */
#define PN_MMU_NO_PSE36 2u /* 4 MiB pages above 4 GiB */
#define PN_MMU_NO_PAT   4u

/* By EDX of CPUID leaves 1 and 0x80000001. */
static inline uint8_t pn_mmu_lacks(uint32_t basic, uint32_t extended) {
    return (uint8_t)((extended >> 26 & 1 ? 0u : PN_MMU_NO_1G) |
                     (basic >> 17 & 1 ? 0u : PN_MMU_NO_PSE36) |
                     (basic >> 16 & 1 ? 0u : PN_MMU_NO_PAT));
}

struct pn_mmu_config {
    enum pn_mmu_kind kind;
    struct pn_mmu_options opt;
    enum pn_dirty_tracker tracker; /* of slots with PN_SLOT_LOG_DIRTY; OFF means WP */
    uint8_t maxphyaddr;            /* 36..52; reserved bits above it fault */
    uint8_t
        lacks; /* PN_MMU_NO_*: what CPUID does not offer, so that its bits are reserved */
    const struct pn_tlb_model *tlb; /* copied; NULL: none */
    const struct pn_nodes *nodes;   /* for the model, copied; NULL: all is on one node */
    pn_track_fn on_track;
    /* Of vCPUs whose CPUs are threads; NULL: one thread runs all. Called before the MMU changes
     * what such a CPU reads (struct pn_tlb_view) on behalf of somebody else: it returns when that
     * CPU reads nothing of it, which it does not before the call into the MMU has ended. vcpu: by
     * order of creation. */
    void (*stand_still)(void *opaque, unsigned vcpu);
    /* With stand_still. Called before the MMU takes something out of its tables or a TLB: when it
     * returns nobody is in pn_mmu_look, nor comes there before the call into the MMU has ended. */
    void (*bar)(void *opaque);
    void *opaque;
    const struct pn_recorder
        *recorder; /* outlives the MMU; NULL: nobody writes it down */
};

/* Return: 0 and *out, or -errno (-ENOMEM, -EINVAL for an option or a TLB model out of
 * range, or a tracker that this kind has not). */
int pn_mmu_create(const struct pn_mmu_config *cfg, struct pn_mmu **out);
void pn_mmu_destroy(struct pn_mmu *mmu);

/* The vcpu starts with paging off (real mode's CR0). stats must outlive it; ring may be
 * NULL. */
int pn_mmu_vcpu_create(struct pn_mmu *mmu, struct pn_tlb_view *view,
                       struct pn_stats *stats, struct pn_ring *ring,
                       struct pn_mmu_vcpu **out);
void pn_mmu_vcpu_destroy(struct pn_mmu_vcpu *vcpu);

/* ---- Memslots ---- */

#define PN_SLOT_READONLY  1u /* writes come back as PN_MMIO */
#define PN_SLOT_LOG_DIRTY 2u
#define PN_SLOTS_MAX      32764u

struct pn_memslot {
    uint32_t id; /* 0 .. PN_SLOTS_MAX-1 */
    uint32_t flags;
    pn_gpa gpa;    /* page aligned */
    uint64_t size; /* bytes, page aligned; 0 deletes the slot */
    void *hva;     /* page aligned, stays mapped while the slot exists */
};

/*
 * Add, move, delete or re-flag, as KVM_SET_USER_MEMORY_REGION. Of an existing slot only
 * gpa and PN_SLOT_LOG_DIRTY may change; a move keeps the dirty log. Setting
 * PN_SLOT_LOG_DIRTY begins with an empty log. Write tracking is by frame and stays; as a
 * slot moves or goes, on_track hears of each tracked frame in it as of a write.
 * Return: 0; -EINVAL misaligned, wrapping, beyond maxphyaddr, an unknown flag, or another
 * size, hva or PN_SLOT_READONLY than the slot has; -EEXIST overlap; -ENOENT delete of an
 * absent slot; -ENOSPC id too large; -ENOMEM. On error nothing changed.
 */
int pn_mmu_slot_set(struct pn_mmu *mmu, const struct pn_memslot *slot);
/* Return: the slot that holds gpa, or NULL. Valid until the next pn_mmu_slot_set. */
const struct pn_memslot *pn_mmu_slot_find(struct pn_mmu *mmu, pn_gpa gpa);

/* ---- Guest physical access by devices, loaders, the CPU's tracked writes ---- */

/* Read or write guest memory; may span pages and slots. Writes mark the dirty log, keep shadow
 * pages coherent and tell on_track; one of NULL leaves the bytes that are there. Writes to
 * read-only slots are ignored, as for MMIO. Return: bytes done from the start before the first
 * address with no slot (or read-only). */
size_t pn_mmu_read_phys(struct pn_mmu *mmu, pn_gpa gpa, void *buf, size_t size);
size_t pn_mmu_write_phys(struct pn_mmu *mmu, pn_gpa gpa, const void *buf, size_t size);
/* For who replays (penumbra/record.h): guest memory has other contents since some moment at
 * which nobody needed to be told. Where the MMU did need to, it forgets what it made of the
 * page. No write: it marks no dirty log, and reaches read-only slots. */
void pn_mmu_replace(struct pn_mmu *mmu, pn_gpa gpa, const void *buf, size_t size);
/* As pn_mmu_write_phys, by a vCPU, whose counters and events it is: the store of PN_TRACKED. */
size_t pn_mmu_vcpu_write(struct pn_mmu_vcpu *vcpu, pn_gpa gpa, const void *buf,
                         size_t size);
/* Return: the host address of gpa when a store to its page needs pn_mmu_vcpu_write no
 * longer (what watched the page is gone, or the page was marked dirty); else NULL. */
void *pn_mmu_unseen(struct pn_mmu_vcpu *vcpu, pn_gpa gpa);

/* For a debugger that watches the page of gva: no TLB of this vCPU answers a store there, and
 * with `reads` no load, until it is filled again; so the access comes to pn_mmu_translate. The
 * tables stay as they are, and nothing is counted. */
void pn_mmu_keep_back(struct pn_mmu_vcpu *vcpu, pn_gva gva, bool reads);

/*
 * The same store, before it is done, where its instruction is none that fills tables (a
 * string, a push, a vector store: whatever KVM's emulator has no flag PageTable for): the
 * frame is likely no table any more, and its shadow pages go. Return: there were some.
 * Then translate again, once: where the access itself needs the table it is back.
 */
bool pn_mmu_unprotect(struct pn_mmu_vcpu *vcpu, pn_gpa gpa);

/*
 * Write-track one frame for the translator; tracked frames' writes come back PN_TRACKED
 * and must then be done with pn_mmu_vcpu_write, which counts them (code_stores). The
 * tables know nothing of it: no mapping is lost, protected or split, and such a store is
 * no fault. Nests (a count). Return: 0 or -ENOENT, -ENOMEM.
 */
int pn_mmu_track_add(struct pn_mmu *mmu, pn_gfn gfn);
void pn_mmu_track_remove(struct pn_mmu *mmu, pn_gfn gfn);

/* ---- Paging state of a vCPU ---- */

struct pn_paging {
    uint64_t cr0, cr3, cr4, efer;
    uint64_t
        pdpte[4]; /* PAE: as loaded by MOV CR3 (SDM "PDPTE Registers"); else ignored */
    uint32_t pkru, pkrs;
};

/* Take new control registers; the TLB and roots follow. Does what hardware flushes on
 * such a change (SDM volume 3, "Operations that Invalidate TLBs and Paging-Structure
 * Caches"). */
void pn_mmu_set_paging(struct pn_mmu_vcpu *vcpu, const struct pn_paging *paging);
/* MOV to CR3 with bit 63 taken off; noflush is bit 63, meaningful only with CR4.PCIDE. */
void pn_mmu_set_cr3(struct pn_mmu_vcpu *vcpu, uint64_t cr3, bool noflush,
                    const uint64_t pdpte[4]);
/* WRPKRU, or a write to IA32_PKRS. */
void pn_mmu_set_pkr(struct pn_mmu_vcpu *vcpu, uint32_t pkru, uint32_t pkrs);
/*
 * A guest that is a hypervisor itself switches between worlds: its own (all 0) and those of its
 * guests (AMD's SVM; APM volume 2, "Address Space Identifier", "Nested Paging").
 */
struct pn_world {
    uint32_t asid; /* tags translations: no flush but those of this asid concerns them */
    bool second;   /* addresses of this world's tables, and what these lead to, go through
                      further tables, in guest memory, from host.cr3 on, in the format that
                      long mode, PAE or neither of host means: NPT */
    struct pn_paging host;
    /* With second: the further tables are EPT, from eptp on, which also says whether they have A
     * and D (bit 6) and how many levels they are (bits 3..5, one less; SDM volume 3, "The
     * Extended Page Table Mechanism (EPT)"). */
    bool ept;
    bool
        mbec; /* bit 2 of an entry lets supervisor addresses be executed, bit 10 user ones
                  (SDM volume 3, "Mode-Based Execute Control for EPT") */
    uint64_t eptp;
    /* With ept: each page whose D is set is logged before, in the page at log_at, from the entry
     * on that the 16 bits at log_index_at name, downwards; both in guest memory (SDM volume 3,
     * "Page-Modification Logging"). */
    bool log;
    pn_gpa log_at, log_index_at;
    /* Accesses that lead to the page at apic_at are answered as MMIO at the same offset of
     * apic_as, where there is no memslot; references to tables in that page, by a second level,
     * fault (PN_NPF_APIC): VMX's APIC-access page. What was translated before, in this world or
     * with its asid, is to be flushed when that changes. */
    bool apic;
    pn_gpa apic_at, apic_as;
};
/* The vCPU is in that world from now on, with that paging state; nothing is flushed. A fault
 * of the further tables is a guest fault PN_VEC_NPF. */
void pn_mmu_set_world(struct pn_mmu_vcpu *vcpu, const struct pn_world *world,
                      const struct pn_paging *paging);
/* Forget what was translated with that asid, or in any world (all), as TLB_CONTROL asks. */
void pn_mmu_flush_asid(struct pn_mmu_vcpu *vcpu, uint32_t asid, bool all);
/* Forget what was translated by further tables, whatever their asid: INVEPT. */
void pn_mmu_flush_second(struct pn_mmu_vcpu *vcpu);
/* INVLPGA. */
void pn_mmu_invlpga(struct pn_mmu_vcpu *vcpu, pn_gva gva, uint32_t asid);

void pn_mmu_invlpg(struct pn_mmu_vcpu *vcpu, pn_gva gva);
/* Types 0..3 as in SDM "INVPCID"; the caller has checked type, pcid and canonical gva. */
void pn_mmu_invpcid(struct pn_mmu_vcpu *vcpu, unsigned type, uint16_t pcid, pn_gva gva);
/* Drop TLB entries (a cache: never a guest-visible change). Tests call it at random. */
void pn_mmu_drop_tlb(struct pn_mmu_vcpu *vcpu);

/* ---- Translation ---- */

/* What whoever made an access has to do. */
enum pn_answer {
    PN_MAPPED,   /* hva is good for the page and the access */
    PN_GUEST_PF, /* fault holds the #PF for the guest */
    PN_MMIO,     /* no memslot, or a write to a read-only one: gpa names the address */
    PN_TRACKED   /* a write that others must see: do it with pn_mmu_vcpu_write(gpa) */
};

/* What became of an access: outcomes.inc. */
enum pn_outcome {
    PN_OUT_NO_FAULT, /* the tables in use answered; neither an event nor a counter */
#define PN_OUTCOME(name, answer, counter, sum, doc) PN_OUT_##name,
#include "penumbra/outcomes.inc"
    PN_OUT_COUNT
};

static inline enum pn_answer pn_answer(enum pn_outcome outcome) {
    static const uint8_t answers[] = {
        PN_MAPPED,
#define PN_OUTCOME(name, answer, counter, sum, doc) PN_##answer,
#include "penumbra/outcomes.inc"
    };
    return (enum pn_answer)answers[outcome];
}

struct pn_xlate {
    uint8_t *hva; /* of the byte at gva, not of the page; NULL for MMIO and faults */
    pn_gpa gpa;   /* of the byte; not set for PN_GUEST_PF */
    struct pn_fault fault;
};

/*
 * Translate one access that lies within one page: walk the shadow tables, or the guest's
 * tables through the second-level ones; fault mappings in as needed, set A/D in the
 * guest's tables, fill the TLB. With PN_WRITE the write
 * is about to happen: D is set and the dirty log marked.
 * Return: what became of the last fault of the access itself. TDP: faults of its
 * references to guest tables are events and counters alone.
 */
enum pn_outcome pn_mmu_translate(struct pn_mmu_vcpu *vcpu, pn_gva gva,
                                 enum pn_access access, enum pn_tlb_mode mode,
                                 struct pn_xlate *out);
/*
 * A TLB miss that the tables answer as they are, beside whoever is inside the pn_mmu (with
 * pn_mmu_config.bar): it changes nothing but the vCPU's own TLB and counters. Only that vCPU's own
 * thread calls it.
 * Return: the TLB has the page for this access, and *out is as of pn_mmu_translate; false:
 * nothing was counted or changed, and pn_mmu_translate has to be asked.
 */
bool pn_mmu_look(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                 enum pn_tlb_mode mode, struct pn_xlate *out);
/*
 * The same for a miss that ends in a #PF of the guest's, whose tables have nothing there, nor has
 * the MMU. Return: it does, is counted, and out->fault is it; false: as pn_mmu_look.
 */
bool pn_mmu_look_fault(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                       enum pn_tlb_mode mode, struct pn_xlate *out);

/* ---- The TLB model (pn_mmu_config.tlb; penumbra/model.h) ---- */

/* With a TLB model: pages that the first level knows. Control may come to one of them without
 * a call, if that is told here (pn_fetch_told). */
struct pn_fetch_hit {
    uint64_t page; /* gva; ~0: none */
    uint64_t stamp;
};
#define PN_FETCH_HITS 1024u
struct pn_fetches {
    uint64_t page; /* of the last fetch that the model saw; ~0: none */
    struct pn_fetch_hit hit[PN_FETCH_HITS]; /* by the number of the page */
};

/* Return: control may come to that page. */
static inline bool pn_fetch_told(struct pn_tlb_view *view, struct pn_fetches *f,
                                 uint64_t page) {
    struct pn_fetch_hit *h = &f->hit[page >> PN_PAGE_SHIFT & (PN_FETCH_HITS - 1)];
    if (h->page != page)
        return false;
    h->stamp = ++view->stamp;
    f->page = page;
    return true;
}

/* Return: NULL: there is no model. Whoever executes instructions calls pn_mmu_fetched when
 * control comes to another page, and when it was changed: what was fetched from must be
 * fetched anew. */
struct pn_fetches *pn_mmu_fetches(const struct pn_mmu_vcpu *vcpu);
/* They are kept there from now on, until the vCPU goes: the caller's memory. Only with a model.
 */
void pn_mmu_fetches_move(struct pn_mmu_vcpu *vcpu, struct pn_fetches *to);
/* Only with a model. Not needed after pn_mmu_translate with PN_FETCH. */
void pn_mmu_fetched(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_tlb_mode mode);
/* The same where the first level knows the page, in general registers alone: a caller's vector
 * registers stay. Return: false: nothing was done, call pn_mmu_fetched. */
bool pn_mmu_fetch_hit(struct pn_mmu_vcpu *vcpu, pn_gva gva);

/* VM exits that the MMU does not see by itself. */
enum pn_vm_exit {
    PN_VM_PIO,
    PN_VM_INTERRUPT, /* an interrupt or NMI taken by the host and injected */
    PN_VM_OTHER      /* CPUID, MSRs, HLT, hypercalls */
};
void pn_mmu_exited(struct pn_mmu_vcpu *vcpu, enum pn_vm_exit why);

/* ---- Walks for their own sake ---- */

/* Read memory as this world addresses it, within one page. Return: PN_MAPPED; PN_MMIO: there
 * is none, and buf is untouched; PN_GUEST_PF and *fault. */
enum pn_answer pn_mmu_read_world(struct pn_mmu_vcpu *vcpu, pn_gpa gpa, void *buf,
                                 size_t size, struct pn_fault *fault);

/* A direct walk of the guest's tables without any side effect (no A/D, no TLB): the
 * reference for tests. Return: PN_MAPPED, PN_MMIO or PN_GUEST_PF. */
enum pn_answer pn_mmu_probe(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                            enum pn_tlb_mode mode, struct pn_xlate *out);

/* What one translation costs in memory references, with cold caches: no TLB, no
 * page-walk caches, the tables as they are now. */
struct pn_walk_cost {
    unsigned refs;     /* of this MMU's walk: all of guest and table */
    unsigned guest[6]; /* by level 1..5: gptes it reads; none under shadow */
    unsigned table[6]; /* by level 1..5: entries of shadow or second-level tables */
    unsigned native;   /* gptes that a walk without a hypervisor reads */
    bool complete;     /* no fault, no exit: the walk reached the page */
};

/* Without any side effect. A walk that ends early counts up to where it ended. */
void pn_mmu_walk_cost(struct pn_mmu_vcpu *vcpu, pn_gva gva, enum pn_access access,
                      enum pn_tlb_mode mode, struct pn_walk_cost *out);

/* ---- Dirty log ---- */

/*
 * Copy and clear the dirty bitmap of a slot (bit i: page i of the slot was written since
 * the last harvest) and re-protect its pages. words: capacity of bitmap in 64-bit words.
 * Return: dirty pages, or -ENOENT (no such slot or not logged), -ENOSPC (bitmap too
 * small).
 */
#define PN_PIECE_SIZE (PN_PAGE_SIZE / 32)
long pn_mmu_dirty_harvest(struct pn_mmu *mmu, uint32_t slot_id, uint64_t *bitmap,
                          size_t words);
/* Of PN_TRACKER_PIECES: which pieces of the page were stored to, bit i for bytes from i *
 * PN_PIECE_SIZE on, by the last harvest that had the page. Return: 0, too: there is no such page. */
uint32_t pn_mmu_dirty_pieces(const struct pn_mmu *mmu, uint32_t slot_id, uint64_t page);

/*
 * Find written pages by another tracker from now on; all mappings go. What was written and not
 * yet harvested is in the next harvest, and so are, once, pages that stayed writable since.
 * Return: 0; -EINVAL: this kind has no such tracker; -ENOTSUP: an MMU that is recorded; -ENOMEM:
 * by PN_TRACKER_WP.
 */
int pn_mmu_set_tracker(struct pn_mmu *mmu, enum pn_dirty_tracker tracker);

/* ---- Audit ---- */

/* Check every invariant of slots, shadow pages, rmap, TLBs and dirty logs.
 * Return: 0, or the number of violations, each written as a line to `out` (may be NULL).
 */
int pn_mmu_audit(struct pn_mmu *mmu, FILE *out);

/* Zap every shadow page or second-level table (memslot layout changed, tests). */
void pn_mmu_zap_all(struct pn_mmu *mmu);

/* Bytes of tables, rmap and TLBs now held. */
size_t pn_mmu_footprint(const struct pn_mmu *mmu);

PN_END_DECLS
