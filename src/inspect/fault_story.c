/* SPDX-License-Identifier: MIT */
/* Faults in words: see fault_story.h. */
#include "inspect/fault_story.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/faults_internal.h"
#include "penumbra/mmu.h"

#define LEVELS   5u
#define MADE_MAX 5u /* shadow pages that are named */

/* The events, and the fields of each that are told. */
#define EVENTS                                                                           \
    EVENT(page_fault, "gva")                                                             \
    EVENT(fault_outcome, "gva")                                                          \
    EVENT(pagetable_walk, "gva")                                                         \
    EVENT(paging_element, "gpte", "level")                                               \
    EVENT(walker_error, "gva", "error")                                                  \
    EVENT(set_accessed_bit, "gpa")                                                       \
    EVENT(set_dirty_bit, "gpa")                                                          \
    EVENT(get_page, "gfn", "role", "created")                                            \
    EVENT(set_spte, "gfn", "level")                                                      \
    EVENT(sync_page, "gfn")                                                              \
    EVENT(unsync_page, "gfn")                                                            \
    EVENT(prepare_zap_page, "gfn")                                                       \
    EVENT(split_huge_page, "gfn")                                                        \
    EVENT(ept_violation, "gva", "gpa")
#define FIELDS 3u

enum event {
    NONE,
#define EVENT(name, ...) EVENT_##name,
    EVENTS
#undef EVENT
        KINDS
};

static const struct {
    const char *name, *field[FIELDS];
} told[KINDS] = {
#define EVENT(name, ...) [EVENT_##name] = {#name, {__VA_ARGS__}},
    EVENTS
#undef EVENT
};

/* What has happened on a vCPU since the fault, or the walk that led to it, began. */
struct scene {
    bool open, faulted, over; /* over: it has come to its outcome */
    uint64_t gva;
    bool refused; /* by the guest's own tables */
    uint64_t refusal;
    unsigned steps;
    struct {
        uint64_t gpte, level;
    } step[LEVELS];
    struct {
        uint64_t gfn, role;
    } page[MADE_MAX];
    uint64_t violation; /* the gpa of the last one */
    uint64_t happened[KINDS];
    uint64_t made; /* of get_page: those that are new */
};

struct fault_story {
    FILE *out;
    uint64_t most, faults;
    const struct trace_file *file;
    uint8_t kind[64];
    unsigned at[KINDS][FIELDS];
    enum pn_type role; /* how get_page's is printed */
    struct scene scene[TRACE_VCPUS_MAX];
};

struct fault_story *fault_story_create(uint64_t most, FILE *out) {
    struct fault_story *s = calloc(1, sizeof(*s));
    if (s) {
        s->most = most;
        s->out = out;
    }
    return s;
}

void fault_story_destroy(struct fault_story *s) {
    free(s);
}

bool fault_story_done(const struct fault_story *s) {
    return s->faults >= s->most;
}

uint64_t fault_story_told(const struct fault_story *s) {
    return s->faults < s->most ? s->faults : s->most;
}

/* ---- What happens ---- */

static void learn_file(struct fault_story *s, const struct trace_file *file) {
    s->file = file;
    memset(s->kind, 0, sizeof(s->kind));
    for (unsigned k = NONE + 1; k < KINDS; k++) {
        unsigned *at[FIELDS], fields = 0;
        while (fields < FIELDS && told[k].field[fields]) {
            at[fields] = &s->at[k][fields];
            fields++;
        }
        int id = faults_find(file, told[k].name, told[k].field, at, fields);
        if (id < 0 || id >= 64)
            continue;
        s->kind[id] = (uint8_t)k;
        if (k == EVENT_get_page)
            s->role = trace_file_event(file, (unsigned)id)->field[s->at[k][1]].type;
    }
}

static void begin(struct scene *c, uint64_t gva) {
    *c = (struct scene){.open = true, .gva = gva};
}

static void element(struct scene *c, uint64_t gpte, uint64_t level) {
    if (c->steps == LEVELS)
        return;
    c->step[c->steps].gpte = gpte;
    c->step[c->steps++].level = level;
}

static void made(struct scene *c, uint64_t gfn, uint64_t role) {
    if (c->made < MADE_MAX) {
        c->page[c->made].gfn = gfn;
        c->page[c->made].role = role;
    }
    c->made++;
}

void fault_story_event(struct fault_story *s, const struct trace_file *file,
                       const struct pn_event_rec *rec) {
    if (s->file != file)
        learn_file(s, file);
    if (rec->vcpu >= TRACE_VCPUS_MAX)
        return;
    struct scene *c = &s->scene[rec->vcpu];
    unsigned kind = rec->id < 64 ? s->kind[rec->id] : NONE;
    uint64_t v[FIELDS] = {0};
    for (unsigned i = 0; kind && i < FIELDS && told[kind].field[i]; i++)
        v[i] = rec->arg[s->at[kind][i]];
    if (c->over && kind != EVENT_pagetable_walk && kind != EVENT_page_fault)
        return; /* a walk that goes on behind the fault, and what else follows it */
    switch (kind) {
    case NONE:
        return;
    case EVENT_pagetable_walk: /* of a fault that has begun, or one that may lead to it */
        if (!c->faulted || c->over)
            begin(c, v[0]);
        c->steps = 0;
        break;
    case EVENT_page_fault:
        if (!c->open || c->faulted || c->gva != v[0])
            begin(c, v[0]);
        c->faulted = true;
        break;
    case EVENT_fault_outcome:
        c->over = true;
        break;
    case EVENT_paging_element:
        element(c, v[0], v[1]);
        break;
    case EVENT_walker_error:
        c->refused = true;
        c->refusal = v[1];
        break;
    case EVENT_get_page:
        if (v[2])
            made(c, v[0], v[1]);
        break;
    case EVENT_ept_violation:
        c->violation = v[1];
        break;
    default:
        break;
    }
    c->happened[kind]++;
}

/* ---- In words ---- */

/* "2 sptes" */
static const char *many(uint64_t n, const char *one, const char *more, char buf[64]) {
    snprintf(buf, 64, "%" PRIu64 " %s", n, n == 1 ? one : more);
    return buf;
}

static void tell_access(const struct fault_story *s, const struct faults *f,
                        const struct pn_event_rec *rec, const uint64_t key[FAULT_KEYS],
                        const struct scene *c) {
    static const char *const did[PN_ACCESSES] = {
        [PN_READ] = "reads",
        [PN_WRITE] = "writes",
        [PN_FETCH] = "fetches its code at",
        [PN_SS_READ] = "reads the shadow stack at",
        [PN_SS_WRITE] = "writes the shadow stack at"};
    uint64_t access = key[FAULT_KEY_access];
    char text[1024];
    fprintf(s->out,
            "Fault %" PRIu64 ", time %" PRIu64 ", vCPU %u: the instruction at 0x%" PRIx64,
            s->faults, rec->time, rec->vcpu, rec->rip);
    fault_key_text(f, FAULT_KEY_function, key[FAULT_KEY_function], text, sizeof(text));
    if (key[FAULT_KEY_function] != rec->rip && strncmp(text, "0x", 2) != 0)
        fprintf(s->out, ", %s,", text);
    fprintf(s->out, " %s ", access < PN_ACCESSES ? did[access] : "accesses");
    if (c->open)
        fprintf(s->out, "0x%" PRIx64, c->gva);
    else
        fprintf(s->out, "page 0x%" PRIx64, key[FAULT_KEY_page]);
    if (key[FAULT_KEY_cpl] != FAULT_UNKNOWN)
        fprintf(s->out, " at CPL %" PRIu64, key[FAULT_KEY_cpl]);
    fprintf(s->out, ".\n");
    if (key[FAULT_KEY_process] == FAULT_UNKNOWN)
        return;
    fault_key_text(f, FAULT_KEY_process, key[FAULT_KEY_process], text, sizeof(text));
    fprintf(s->out, "  Process %s", text);
    fault_key_text(f, FAULT_KEY_region, key[FAULT_KEY_region], text, sizeof(text));
    fprintf(s->out, ", mapping %s.\n", text);
}

static void tell_refusal(const struct fault_story *s, const struct scene *c) {
    fprintf(s->out, ", which %s: it gets a #PF (",
            c->refusal & PN_PF_RSVD      ? "has reserved bits set"
            : c->refusal & PN_PF_PRESENT ? "is there and forbids it"
                                         : "is not present");
    trace_print_value(PN_TYPE_pfec, c->refusal, s->out);
    fprintf(s->out, ").\n");
}

/* The guest's own tables, as far as they were read for this access. */
static void tell_guest(const struct fault_story *s, const struct scene *c) {
    char buf[64];
    if (!c->steps)
        return;
    fprintf(s->out, "  The guest's tables: the walk reads %s:",
            many(c->steps, "entry", "entries", buf));
    for (unsigned i = 0; i < c->steps; i++)
        fprintf(s->out, "%s level %" PRIu64 " is 0x%" PRIx64, i ? "," : "",
                c->step[i].level, c->step[i].gpte);
    if (c->refused)
        tell_refusal(s, c);
    else
        fprintf(s->out, "%s.\n", c->step[c->steps - 1].level > 1 ? ", a large page" : "");
    if (c->happened[EVENT_set_accessed_bit])
        fprintf(s->out, "  The walk sets the accessed bit of %s.\n",
                many(c->happened[EVENT_set_accessed_bit], "entry", "entries", buf));
    if (c->happened[EVENT_set_dirty_bit])
        fprintf(s->out, "  The walk sets the dirty bit of the last entry.\n");
}

static void tell_made(const struct fault_story *s, const struct scene *c) {
    char buf[64];
    if (c->happened[EVENT_ept_violation])
        fprintf(s->out,
                "  The second-level tables do not answer for guest-physical 0x%" PRIx64
                ".\n",
                c->violation);
    if (!c->made)
        return;
    fprintf(s->out, "  The MMU makes %s:", many(c->made, "table", "tables", buf));
    for (unsigned i = 0; i < c->made && i < MADE_MAX; i++) {
        fprintf(s->out, "%s for gfn 0x%" PRIx64 " (", i ? "," : "", c->page[i].gfn);
        trace_print_value(s->role, c->page[i].role, s->out);
        fputc(')', s->out);
    }
    fprintf(s->out, "%s.\n", c->made > MADE_MAX ? ", and more" : "");
}

static void tell_mmu(const struct fault_story *s, const struct scene *c) {
    static const struct {
        enum event event;
        const char *one, *more, *what;
    } deeds[] = {
        {EVENT_sync_page, "table", "tables", "synced with the guest's"},
        {EVENT_unsync_page, "table", "tables", "let go out of sync with the guest's"},
        {EVENT_prepare_zap_page, "table", "tables", "zapped"},
        {EVENT_split_huge_page, "large mapping", "large mappings", "split"},
    };
    char buf[64];
    tell_made(s, c);
    for (unsigned i = 0; i < sizeof(deeds) / sizeof(deeds[0]); i++)
        if (c->happened[deeds[i].event])
            fprintf(s->out, "  %s %s %s.\n",
                    many(c->happened[deeds[i].event], deeds[i].one, deeds[i].more, buf),
                    c->happened[deeds[i].event] == 1 ? "is" : "are", deeds[i].what);
    uint64_t sptes = c->happened[EVENT_set_spte];
    if (sptes > 1)
        fprintf(s->out,
                "  It installs %" PRIu64 " leaf entries: this page's, and %" PRIu64
                " of its neighbours' by prefetch.\n",
                sptes, sptes - 1);
    else if (sptes)
        fprintf(s->out, "  It installs the leaf entry of this page.\n");
}

void fault_story_fault(void *opaque, const struct faults *f,
                       const struct pn_event_rec *rec, const uint64_t key[FAULT_KEYS]) {
    struct fault_story *s = opaque;
    struct scene *c = &s->scene[rec->vcpu];
    uint64_t outcome = key[FAULT_KEY_outcome], cause = key[FAULT_KEY_cause];
    if (fault_story_done(s))
        return;
    s->faults++;
    tell_access(s, f, rec, key, c);
    tell_guest(s, c);
    tell_mmu(s, c);
    if (fault_outcome_name(outcome))
        fprintf(s->out, "  Outcome %s: %s.\n", fault_outcome_name(outcome),
                fault_outcome_doc(outcome));
    if (cause != FAULT_CAUSE_unknown)
        fprintf(s->out, "  Cause %s: %s.\n", fault_cause_name(cause),
                fault_cause_doc(cause));
    fputc('\n', s->out);
}
