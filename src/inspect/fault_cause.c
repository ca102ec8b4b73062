/* SPDX-License-Identifier: MIT */
/*
 * Causes of faults: see fault_cause.h. The events of a fault are those between its page_fault and
 * its fault_outcome; of a guest's walk those since pagetable_walk, as under tdp the walk comes
 * first. The store of a tracked write, and what it does to shadow pages, follows its outcome.
 */
#include "inspect/fault_cause.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/fault_history.h"
#include "inspect/faults_internal.h"
#include "penumbra/mmu.h"

#define LEVELS 6u /* of tables, from 1 on */

/* Bits 2^N of slots. Altogether about 40 MiB, when all are used. */
#define LINE_BITS   19u
#define TABLE_BITS  18u
#define PAGE_BITS   18u
#define INVLPG_BITS 16u

/* Kinds of keys, in bits that no guest-physical address has. */
#define KEY_USED   (1ull << 63)
#define KEY_DIRECT (1ull << 62) /* a page without a gpte of its own */
#define KEY_SECOND (1ull << 61) /* a page of the second dimension */
#define KEY_LEVEL  56           /* 3 bits */

#define GPTE_ADDRESS 0x000ffffffffff000ull

/* Why a table's sptes went: that of a shadow page which was zapped, or a sync. */
#define SYNCED 255u

#define EVENTS                                                                           \
    EVENT(page_fault, FIELD(gva))                                                        \
    EVENT(fault_outcome, FIELD(gva) FIELD(outcome))                                      \
    EVENT(pagetable_walk, FIELD(gva))                                                    \
    EVENT(paging_element, FIELD(gpte) FIELD(level) FIELD(gpa))                           \
    EVENT(set_dirty_bit, FIELD(gpa))                                                     \
    EVENT(get_page, FIELD(gfn) FIELD(role) FIELD(created))                               \
    EVENT(sync_page, FIELD(gfn) FIELD(role))                                             \
    EVENT(unsync_page, FIELD(gfn) FIELD(role))                                           \
    EVENT(prepare_zap_page, FIELD(gfn) FIELD(role) FIELD(reason))                        \
    EVENT(set_spte, FIELD(gfn))                                                          \
    EVENT(pte_write, FIELD(gpa) FIELD(size))                                             \
    EVENT(zap_all_fast, FIELD(gen))                                                      \
    EVENT(invlpg, FIELD(gva))                                                            \
    EVENT(ept_violation, FIELD(gpa))                                                     \
    EVENT(split_huge_page, FIELD(gfn))                                                   \
    EVENT(task, FIELD(tgid) FIELD(space) FIELD(name) FIELD(name1))                       \
    EVENT(entry, FIELD(syscall) FIELD(from) FIELD(caller))

enum event {
    NONE,
#define EVENT(name, fields) EVENT_##name,
    EVENTS
#undef EVENT
        KINDS
};

#define BIT(name) (1u << EVENT_##name)
/* What must be recorded for a fault to be the first of its page. */
#define HISTORY                                                                          \
    (BIT(page_fault) | BIT(pagetable_walk) | BIT(paging_element) | BIT(get_page) |       \
     BIT(sync_page) | BIT(unsync_page) | BIT(prepare_zap_page) | BIT(set_spte) |         \
     BIT(pte_write) | BIT(invlpg))
#define HISTORY_SECOND (BIT(ept_violation) | BIT(prepare_zap_page) | BIT(zap_all_fast))
#define HISTORY_TABLES (BIT(page_fault) | BIT(get_page) | BIT(prepare_zap_page))

/* What a vCPU is in the middle of. */
struct vcpu {
    /* the guest's walk */
    bool walked;
    uint64_t walk_gva, gpte[LEVELS], gpte_gpa[LEVELS];
    unsigned leaf; /* the last level seen */
    /* the fault */
    struct {
        bool made, built, linked;   /* a shadow page: of a table, any, or found */
        bool unsynced, resynced;    /* a table went out of sync, and not first */
        bool marked, second, split; /* the walk set D; a violation; a split */
        unsigned sptes;             /* that were set */
        unsigned lost; /* why the shadow page that is made again went, and 1 */
        uint64_t second_gpa;
    } now;
    /* after it */
    bool tracked;
    enum fault_cause stored; /* of the last tracked write */
    /* the guest */
    bool linux_task;
    enum fault_cause thread; /* by the name of a thread of the kernel */
    uint64_t process;        /* its number */
    uint64_t syscall, from, caller;
};

/* An own fault of user space, whose handler the kernel may be in: by process and rip, as others
 * run before it ends. */
struct own_fault {
    uint64_t process, rip;
    enum fault_cause cause;
};
#define OWN_FAULTS 64u /* a power of two */

struct fault_causes {
    const struct symbols *symbols;
    uint64_t moved;
    bool linux_kernel;
    bool narrow;          /* tables of 4-byte entries: addresses of these count twice */
    uint8_t *sure, *weak; /* by number of a symbol; 0: none */
    uint8_t kind[64];     /* enum event, by the file's id */
    uint8_t field[KINDS][4];
    uint32_t recorded; /* bit per enum event */
    uint32_t now, zapped_all;
    struct fault_lines lines;
    struct fault_marks tables, pages, invlpgs;
    struct own_fault own[OWN_FAULTS];
    struct vcpu vcpu[TRACE_VCPUS_MAX];
};

static const struct {
    const char *name, *doc, *shown;
} causes[] = {
#define CAUSE(name, doc, shown) {#name, doc, shown},
#include "inspect/fault_causes.inc"
};

/* enum { FAULT_CAUSE_WEAK, ... } would be more words than this. */
#define SURE 0
#define WEAK 1
static const struct {
    uint8_t cause, strength;
    const char *name;
} functions[] = {
#define FUNCTION(cause, strength, name) {FAULT_CAUSE_##cause, strength, #name},
#include "inspect/fault_causes.inc"
};

static const struct {
    uint8_t cause;
    const char *name;
} threads[] = {
#define TASK(cause, name) {FAULT_CAUSE_##cause, name},
#include "inspect/fault_causes.inc"
};

static const char *const setters[] = {
#define SETTER(name) name,
#include "inspect/fault_causes.inc"
};
#define SETTER_RULE FAULT_CAUSES /* in `sure`: the caller counts */

static enum fault_cause of_syscall(uint64_t number) {
    switch (number) {
#define SYSCALL(cause, number, name)                                                     \
    case number:                                                                         \
        return FAULT_CAUSE_##cause;
#include "inspect/fault_causes.inc"
    default:
        return FAULT_CAUSE_unknown;
    }
}

static enum fault_cause of_zap(unsigned reason) {
    static const uint8_t of[] = {[FAULT_ZAP_FLOOD] = FAULT_CAUSE_flood,
                                 [FAULT_ZAP_RECLAIM] = FAULT_CAUSE_recycle,
                                 [FAULT_ZAP_OBSOLETE] = FAULT_CAUSE_slot,
                                 [FAULT_ZAP_SLOT] = FAULT_CAUSE_slot,
                                 [FAULT_ZAP_REUSED] = FAULT_CAUSE_reuse,
                                 [FAULT_ZAP_ROOT] = FAULT_CAUSE_context_switch,
                                 [FAULT_ZAP_UNPROTECT] = FAULT_CAUSE_reuse};
    return reason == SYNCED      ? FAULT_CAUSE_sync
           : reason < sizeof(of) ? of[reason]
                                 : FAULT_CAUSE_unknown;
}

const char *fault_cause_name(enum fault_cause cause) {
    return cause < FAULT_CAUSES ? causes[cause].name : NULL;
}

const char *fault_cause_doc(enum fault_cause cause) {
    return causes[cause].doc;
}

const char *fault_cause_shown(enum fault_cause cause) {
    return causes[cause].shown;
}

/* ---- Functions of Linux's ---- */

/* A name without what a compiler adds: "zap_pte_range.isra.0". */
static bool is_named(const char *symbol, const char *name) {
    size_t n = strlen(name);
    return !strncmp(symbol, name, n) && (!symbol[n] || symbol[n] == '.');
}

static int by_name(const void *x, const void *y) {
    const char *const *a = x, *const *b = y;
    return strcmp(*a, *b);
}

/* The rule of a symbol, or NULL. sorted: pointers to the names of all rules. */
static const char *rule_of(const char *symbol, const char *const *sorted, size_t n) {
    size_t low = 0;
    while (n > 1) {
        size_t half = n / 2;
        if (strcmp(sorted[low + half], symbol) <= 0)
            low += half;
        n -= half;
    }
    /* Of "f.isra.0", "f" is the last name that is not behind it, or some before: no name of a
     * rule has a dot. */
    return is_named(symbol, sorted[low]) ? sorted[low] : NULL;
}

static int find_functions(struct fault_causes *c) {
    enum { RULES = sizeof(functions) / sizeof(functions[0]) };
    const char *sorted[RULES];
    size_t count = symbols_count(c->symbols);
    c->sure = calloc(count + 1, 1);
    c->weak = calloc(count + 1, 1);
    if (!c->sure || !c->weak)
        return -ENOMEM;
    for (unsigned i = 0; i < RULES; i++)
        sorted[i] = functions[i].name;
    qsort(sorted, RULES, sizeof(sorted[0]), by_name);
    for (uint32_t s = 0; s < count; s++) {
        const char *name = symbols_name(c->symbols, s);
        const char *rule = rule_of(name, sorted, RULES);
        for (unsigned i = 0; rule && i < RULES; i++)
            if (functions[i].name == rule)
                (functions[i].strength == SURE ? c->sure : c->weak)[s] =
                    functions[i].cause;
        for (unsigned i = 0; i < sizeof(setters) / sizeof(setters[0]); i++)
            if (is_named(name, setters[i]))
                c->sure[s] = SETTER_RULE;
        c->linux_kernel |= is_named(name, "handle_mm_fault");
    }
    return 0;
}

static uint32_t caller_of(const struct fault_causes *c, const struct vcpu *v) {
    uint64_t at = v->caller - 1; /* in the call */
    return v->caller ? symbols_at(c->symbols, faults_moves(at) ? at - c->moved : at)
                     : SYMBOLS_NONE;
}

/* The place of an own fault of the process at rip. */
static struct own_fault *own_at(struct fault_causes *c, uint64_t process, uint64_t rip) {
    uint64_t h = (process << 32 ^ rip) * 0x9e3779b97f4a7c15ull;
    return &c->own[h >> 32 & (OWN_FAULTS - 1)];
}

/* Of what own fault the kernel is in the handler. */
static enum fault_cause handled(struct fault_causes *c, const struct vcpu *v) {
    const struct own_fault *own = own_at(c, v->process, v->from);
    bool in = v->syscall == UINT64_MAX && v->from && own->rip == v->from &&
              own->process == v->process;
    return in ? own->cause : FAULT_CAUSE_unknown;
}

/* Where the kernel is, and how it came there. */
static enum fault_cause context(struct fault_causes *c, const struct vcpu *v,
                                const struct fault_met *m) {
    if (m->rec->cpl != 0)
        return FAULT_CAUSE_unknown;
    size_t symbols = c->linux_kernel ? symbols_count(c->symbols) : 0;
    uint64_t f = m->function;
    if (f < symbols && c->sure[f] == SETTER_RULE)
        f = caller_of(c, v);
    if (f < symbols && c->sure[f] && c->sure[f] != SETTER_RULE)
        return c->sure[f];
    if (v->thread)
        return v->thread;
    enum fault_cause call = of_syscall(v->syscall);
    if (call)
        return call;
    enum fault_cause own = handled(c, v), weak = f < symbols ? c->weak[f] : 0;
    /* To map a page that was not there takes none away: who does looks for memory. */
    bool takes = own == FAULT_CAUSE_demand && weak == FAULT_CAUSE_reclaim;
    return own && !takes ? own : weak;
}

/* ---- What happened to tables ---- */

static uint64_t table_key(uint64_t gfn, uint64_t role) {
    return KEY_USED | (role & PN_ROLE_DIRECT ? KEY_DIRECT : 0) |
           (role & PN_ROLE_LEVEL & 7) << KEY_LEVEL | (gfn & (GPTE_ADDRESS >> 12));
}

static void table_lost(struct fault_causes *c, uint64_t gfn, uint64_t role,
                       unsigned why) {
    struct fault_mark *t = fault_marks_at(&c->tables, table_key(gfn, role), true);
    if (!t)
        return;
    t->time = ++c->now;
    t->value = why + 1;
}

/* The tables on a walk's way, the latest that lost its sptes after `since`. Return: why, and 1;
 * 0: none. */
static unsigned lost_since(struct fault_causes *c, const struct vcpu *v, uint32_t since,
                           uint32_t *when) {
    unsigned why = 0;
    *when = since;
    for (unsigned level = v->leaf; level < LEVELS && v->gpte_gpa[level]; level++) {
        const struct fault_mark *t = fault_marks_at(
            &c->tables, table_key(v->gpte_gpa[level] >> PN_PAGE_SHIFT, level), false);
        if (t && t->time > *when) {
            *when = t->time;
            why = t->value;
        }
    }
    for (unsigned level = 1; level < v->leaf; level++) { /* a large page's own */
        uint64_t pages = 1ull << 9 * level;
        uint64_t gfn =
            v->gpte[v->leaf] >> PN_PAGE_SHIFT & ~((1ull << 9 * (v->leaf - 1)) - 1);
        gfn |= v->walk_gva >> PN_PAGE_SHIFT & ((1ull << 9 * (v->leaf - 1)) - 1);
        const struct fault_mark *t = fault_marks_at(
            &c->tables, table_key(gfn & ~(pages - 1), level | PN_ROLE_DIRECT), false);
        if (t && t->time > *when) {
            *when = t->time;
            why = t->value;
        }
    }
    return why;
}

/* The line and the place in it of what a walk came to: of its gpte, or, of a large page, of the
 * small one that was accessed. */
static struct fault_line *line_of(struct fault_causes *c, uint64_t address, bool add) {
    return fault_lines_at(&c->lines, KEY_USED | address / (8 * FAULT_LINE), add);
}

static uint64_t leaf_address(const struct fault_causes *c, const struct vcpu *v) {
    if (v->leaf == 1)
        return v->gpte_gpa[1] << c->narrow;
    uint64_t inside = (1ull << (12 + 9 * (v->leaf - 1))) - 1;
    uint64_t page = (v->gpte[v->leaf] & GPTE_ADDRESS & ~inside) | (v->walk_gva & inside);
    return KEY_DIRECT | (page >> PN_PAGE_SHIFT) * 8;
}

static unsigned place_in(uint64_t address) {
    return address / 8 % FAULT_LINE;
}

static uint64_t page_key(const struct pn_event_rec *rec, uint64_t gva) {
    uint64_t h = (rec->cr3 & FAULT_CR3_PAGE) * 0x9e3779b97f4a7c15ull;
    h ^= h >> 29;
    return KEY_USED | (h + (gva >> PN_PAGE_SHIFT)) * 0xbf58476d1ce4e5b9ull;
}

/* A walk begins, or there is none. */
static void take_walk(struct vcpu *v, uint64_t gva) {
    v->walked = false;
    v->walk_gva = gva;
    v->leaf = 0;
    memset(v->gpte_gpa, 0, sizeof(v->gpte_gpa));
}

/* ---- Each kind of fault ---- */

static enum fault_cause of_own(struct fault_causes *c, const struct vcpu *v,
                               const struct fault_met *m) {
    enum fault_cause cause = FAULT_CAUSE_unknown;
    bool linux_guest = c->linux_kernel || v->linux_task;
    if (m->told && !(m->error & (PN_PF_PRESENT | PN_PF_RSVD | PN_PF_PK)))
        cause = FAULT_CAUSE_demand;
    else if (m->told && linux_guest && !(m->gva >> 63) &&
             (m->error & (PN_PF_WRITE | PN_PF_RSVD | PN_PF_PK | PN_PF_FETCH)) ==
                 PN_PF_WRITE)
        cause = FAULT_CAUSE_copy_on_write;
    if (m->rec->cpl == 3)
        *own_at(c, v->process, m->rec->rip) =
            (struct own_fault){v->process, m->rec->rip, cause};
    struct fault_mark *p =
        cause ? fault_marks_at(&c->pages, page_key(m->rec, m->gva), true) : NULL;
    if (p)
        p->value = cause;
    return cause;
}

/* A write to a guest's table. */
static enum fault_cause of_table_write(struct fault_causes *c, struct vcpu *v,
                                       const struct fault_met *m) {
    enum fault_cause cause = context(c, v, m);
    return cause ? cause : v->now.resynced ? FAULT_CAUSE_sync : FAULT_CAUSE_table_write;
}

/* A violation of the second dimension. */
static enum fault_cause of_second(struct fault_causes *c, struct vcpu *v,
                                  const struct fault_met *m) {
    if (m->level == 0 || m->level >= LEVELS)
        return FAULT_CAUSE_unknown;
    uint64_t page = v->now.second_gpa >> (12 + 9 * (m->level - 1));
    uint64_t address = (KEY_SECOND | m->level << KEY_LEVEL) + page * 8;
    struct fault_line *l = line_of(c, address, true);
    uint32_t before = l ? l->mapped[place_in(address)] : 0;
    if (l)
        l->mapped[place_in(address)] = ++c->now;
    if (v->now.split)
        return FAULT_CAUSE_dirty_log;
    if (v->now.lost)
        return of_zap(v->now.lost - 1);
    if (before && c->zapped_all > before)
        return FAULT_CAUSE_slot;
    return l && !before && !fault_lines_full(&c->lines) &&
                   (c->recorded & HISTORY_SECOND) == HISTORY_SECOND
               ? FAULT_CAUSE_first_access
               : FAULT_CAUSE_unknown;
}

/* What took a page away that a walk came to. *first: nothing did, and it was not there. */
static enum fault_cause of_walk(struct fault_causes *c, struct vcpu *v,
                                struct fault_line *l, unsigned at, bool *first,
                                bool *before) {
    uint32_t when, mapped = l->mapped[at];
    const struct fault_mark *inval =
        fault_marks_at(&c->invlpgs, KEY_USED | v->walk_gva >> PN_PAGE_SHIFT, false);
    *first = !mapped && (c->recorded & HISTORY) == HISTORY &&
             !fault_lines_full(&c->lines) && !fault_marks_full(&c->tables);
    *before = mapped;
    if (l->written[at]) {
        *first = false;
        return l->written[at] - 1;
    }
    unsigned why = lost_since(c, v, mapped, &when);
    enum fault_cause cause = why ? of_zap(why - 1) : FAULT_CAUSE_unknown;
    if (mapped && cause == FAULT_CAUSE_reuse) {
        *first = (c->recorded & HISTORY) == HISTORY; /* the table is another */
        *before = false;
        return FAULT_CAUSE_unknown;
    }
    if (mapped && inval && inval->time > when)
        return FAULT_CAUSE_flush;
    if (mapped)
        return cause;
    *first = *first && !(l->beside && when > l->beside);
    return FAULT_CAUSE_unknown;
}

/* Without a walk paging is off. */
static uint64_t address_of(const struct fault_causes *c, const struct vcpu *v,
                           uint64_t gva) {
    return v->walked ? leaf_address(c, v) : KEY_DIRECT | gva >> PN_PAGE_SHIFT << 3;
}

/* The page is mapped now, and perhaps its neighbours are. */
static void remember(struct fault_causes *c, const struct vcpu *v, uint64_t gva) {
    uint64_t address = address_of(c, v, gva);
    struct fault_line *l = v->now.sptes ? line_of(c, address, true) : NULL;
    if (!l)
        return;
    l->mapped[place_in(address)] = ++c->now;
    l->written[place_in(address)] = 0;
    if (v->now.sptes > 1)
        l->beside = c->now;
}

/* The MMU has mapped what the guest's tables say. */
static enum fault_cause of_mapping(struct fault_causes *c, struct vcpu *v,
                                   const struct fault_met *m) {
    struct fault_mark *own = fault_marks_at(&c->pages, page_key(m->rec, m->gva), false);
    uint64_t address = address_of(c, v, m->gva);
    struct fault_line *l = line_of(c, address, true);
    unsigned at = place_in(address);
    bool first = false, before = false;
    enum fault_cause cause = FAULT_CAUSE_unknown;
    if (own && own->value) {
        cause = own->value;
        own->value = 0;
    } else if (v->now.lost && of_zap(v->now.lost - 1) != FAULT_CAUSE_reuse) {
        cause = of_zap(v->now.lost - 1);
    } else if (l) {
        cause = of_walk(c, v, l, at, &first, &before);
    }
    if (cause)
        return cause;
    if (m->outcome == PN_OUT_mapped_split)
        return FAULT_CAUSE_split;
    if (before && v->now.marked)
        return FAULT_CAUSE_first_write;
    cause = context(c, v, m);
    if (cause)
        return cause;
    bool tables = (c->recorded & HISTORY_TABLES) == HISTORY_TABLES;
    return tables && v->now.linked && !v->now.built ? FAULT_CAUSE_context_switch
           : tables && v->now.made                  ? FAULT_CAUSE_new_table
           : first                                  ? FAULT_CAUSE_first_access
                                                    : FAULT_CAUSE_unknown;
}

static enum fault_cause of_hidden(struct fault_causes *c, struct vcpu *v,
                                  const struct fault_met *m) {
    if (m->outcome == PN_OUT_tracked_table || v->now.unsynced)
        return of_table_write(c, v, m);
    if (v->now.second)
        return of_second(c, v, m);
    /* No spte was set, but one that was there lets a write through now: the frame was that of a
     * table. */
    if (c->recorded & BIT(set_spte) && !v->now.sptes && m->outcome == PN_OUT_mapped &&
        m->told &&
        (m->error & (PN_PF_PRESENT | PN_PF_WRITE)) == (PN_PF_PRESENT | PN_PF_WRITE))
        return FAULT_CAUSE_reuse;
    return of_mapping(c, v, m);
}

enum fault_cause fault_causes_of(struct fault_causes *c, const struct fault_met *m) {
    struct vcpu *v = &c->vcpu[m->rec->vcpu];
    if (!v->walked || (v->walk_gva ^ m->gva) >> PN_PAGE_SHIFT)
        take_walk(v, m->gva); /* the last one was another's */
    switch (m->outcome) {
    case PN_OUT_guest_pf:
        return of_own(c, v, m);
    case PN_OUT_mmio:
    case PN_OUT_mmio_cached:
        return FAULT_CAUSE_device;
    case PN_OUT_dirty_log:
        if (!v->now.second)
            remember(c, v, m->gva);
        return FAULT_CAUSE_dirty_log;
    case PN_OUT_mapped:
    case PN_OUT_mapped_split:
    case PN_OUT_uncached:
    case PN_OUT_tracked_table:
        v->stored = of_hidden(c, v, m);
        if (!v->now.second)
            remember(c, v, m->gva);
        return v->stored;
    default:
        return FAULT_CAUSE_unknown;
    }
}

/* ---- Events ---- */

static void take_element(struct vcpu *v, uint64_t gpte, uint64_t level, uint64_t gpa) {
    if (level == 0 || level >= LEVELS)
        return;
    v->walked = true;
    v->leaf = (unsigned)level;
    v->gpte[level] = gpte;
    v->gpte_gpa[level] = gpa;
}

static void take_page(struct fault_causes *c, struct vcpu *v, uint64_t gfn, uint64_t role,
                      bool created) {
    c->narrow |= role & PN_ROLE_4BYTE;
    v->now.linked |= !created;
    v->now.built |= created;
    if (!created)
        return;
    v->now.made |= !(role & PN_ROLE_DIRECT);
    const struct fault_mark *t = fault_marks_at(&c->tables, table_key(gfn, role), false);
    if (t && t->value && t->value - 1 != SYNCED)
        v->now.lost = t->value;
}

static void take_unsync(struct fault_causes *c, struct vcpu *v, uint64_t gfn,
                        uint64_t role) {
    const struct fault_mark *t = fault_marks_at(&c->tables, table_key(gfn, role), false);
    v->now.unsynced = true;
    v->now.resynced |= t && t->value - 1 == SYNCED;
}

/* The store of a tracked write. Entries of 8 bytes: a store of two is two. */
static void take_store(struct fault_causes *c, const struct vcpu *v, uint64_t gpa,
                       uint64_t size) {
    enum fault_cause cause = v->tracked ? v->stored : FAULT_CAUSE_unknown;
    for (uint64_t at = gpa & ~7ull; at < gpa + (size < 64 ? size : 64); at += 8) {
        uint64_t address = at << c->narrow;
        struct fault_line *l = line_of(c, address, true);
        if (l)
            l->written[place_in(address)] = (uint8_t)(cause + 1);
    }
}

static void take_task(struct vcpu *v, const uint64_t arg[], const uint8_t at[4]) {
    char name[17] = "";
    memcpy(name, &arg[at[2]], 8);
    memcpy(name + 8, &arg[at[3]], 8);
    v->linux_task = arg[at[0]] != UINT64_MAX;
    v->process = arg[at[0]];
    v->thread = FAULT_CAUSE_unknown;
    if (v->linux_task && !arg[at[1]])
        for (unsigned i = 0; i < sizeof(threads) / sizeof(threads[0]); i++)
            if (!strncmp(name, threads[i].name, strlen(threads[i].name)))
                v->thread = threads[i].cause;
}

static void take_invlpg(struct fault_causes *c, uint64_t gva) {
    struct fault_mark *m =
        fault_marks_at(&c->invlpgs, KEY_USED | gva >> PN_PAGE_SHIFT, true);
    if (m)
        m->time = ++c->now;
}

/* What happens to shadow pages and second-level tables. */
static void take_table(struct fault_causes *c, struct vcpu *v, enum event kind,
                       uint64_t a, uint64_t b, uint64_t third) {
    switch (kind) {
    case EVENT_get_page:
        take_page(c, v, a, b, third);
        break;
    case EVENT_sync_page:
        table_lost(c, a, b, SYNCED);
        break;
    case EVENT_unsync_page:
        take_unsync(c, v, a, b);
        break;
    case EVENT_prepare_zap_page:
        table_lost(c, a, b, third < SYNCED ? (unsigned)third : SYNCED - 1);
        break;
    case EVENT_pte_write:
        take_store(c, v, a, b);
        break;
    case EVENT_zap_all_fast:
        c->zapped_all = ++c->now;
        break;
    case EVENT_split_huge_page:
        v->now.split = true;
        break;
    default:
        break;
    }
}

void fault_causes_event(struct fault_causes *c, const struct pn_event_rec *rec) {
    enum event kind = rec->id > 63 ? NONE : c->kind[rec->id];
    if (!kind)
        return;
    struct vcpu *v = &c->vcpu[rec->vcpu];
    const uint8_t *at = c->field[kind];
    uint64_t a = rec->arg[at[0]], b = rec->arg[at[1]], third = rec->arg[at[2]];
    switch (kind) {
    case EVENT_page_fault:
        memset(&v->now, 0, sizeof(v->now));
        break;
    case EVENT_fault_outcome:
        memset(&v->now, 0, sizeof(v->now));
        v->walked = false;
        v->tracked = b == PN_OUT_tracked_table;
        break;
    case EVENT_pagetable_walk:
        take_walk(v, a);
        break;
    case EVENT_paging_element:
        take_element(v, a, b, third);
        break;
    case EVENT_set_dirty_bit:
        v->now.marked = true;
        break;
    case EVENT_set_spte:
        v->now.sptes++;
        break;
    case EVENT_invlpg:
        take_invlpg(c, a);
        break;
    case EVENT_ept_violation:
        v->now.second = true;
        v->now.second_gpa = a;
        break;
    case EVENT_task:
        take_task(v, rec->arg, at);
        break;
    case EVENT_entry:
        v->syscall = a;
        v->from = b;
        v->caller = third;
        break;
    default:
        take_table(c, v, kind, a, b, third);
    }
}

/* ---- Life ---- */

struct fault_causes *fault_causes_create(const struct symbols *symbols, uint64_t moved) {
    struct fault_causes *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->symbols = symbols;
    c->moved = moved;
    for (unsigned i = 0; i < TRACE_VCPUS_MAX; i++)
        c->vcpu[i].syscall = UINT64_MAX;
    if (fault_lines_begin(&c->lines, LINE_BITS) ||
        fault_marks_begin(&c->tables, TABLE_BITS) ||
        fault_marks_begin(&c->pages, PAGE_BITS) ||
        fault_marks_begin(&c->invlpgs, INVLPG_BITS) || (symbols && find_functions(c))) {
        fault_causes_destroy(c);
        return NULL;
    }
    return c;
}

void fault_causes_destroy(struct fault_causes *c) {
    if (!c)
        return;
    fault_lines_end(&c->lines);
    fault_marks_end(&c->tables);
    fault_marks_end(&c->pages);
    fault_marks_end(&c->invlpgs);
    free(c->sure);
    free(c->weak);
    free(c);
}

static const struct {
    const char *name;
    unsigned fields;
    const char *field[4];
} wanted[KINDS] = {
#define FIELD(name)         #name,
#define COUNT(...)          (sizeof((const char *[]){__VA_ARGS__}) / sizeof(const char *))
#define EVENT(name, fields) [EVENT_##name] = {#name, COUNT(fields), {fields}},
    EVENTS
#undef EVENT
};

void fault_causes_file(struct fault_causes *c, const struct trace_file *file) {
    uint64_t mask = trace_file_header(file)->mask;
    memset(c->kind, 0, sizeof(c->kind));
    c->recorded = 0;
    for (unsigned k = NONE + 1; k < KINDS; k++) {
        unsigned at[4] = {0};
        int id =
            faults_find(file, wanted[k].name, wanted[k].field,
                        (unsigned *[]){&at[0], &at[1], &at[2], &at[3]}, wanted[k].fields);
        if (id < 0 || id > 63)
            continue;
        c->kind[id] = (uint8_t)k;
        c->recorded |= (uint32_t)(mask >> id & 1) << k;
        for (unsigned i = 0; i < 4; i++)
            c->field[k][i] = (uint8_t)at[i];
    }
}

bool fault_causes_tell(const struct trace_file *file) {
    uint64_t mask = trace_file_header(file)->mask;
    for (unsigned k = NONE + 1; k < KINDS; k++) {
        int id = trace_file_find(file, wanted[k].name, strlen(wanted[k].name));
        if (k != EVENT_task && k != EVENT_entry && (id < 0 || !(mask >> id & 1)))
            return false;
    }
    return true;
}
