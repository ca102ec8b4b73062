/* SPDX-License-Identifier: MIT */
/* Faults out of a trace's records: see faults.h. */
#include "inspect/faults.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/fault_kvm.h"
#include "inspect/faults_internal.h"
#include "penumbra/mmu.h"

#define CACHE      4096u /* functions, and lines, by rip; a power of two */
#define KERNEL_MAP 0xffffffff80000000ull /* where Linux maps its image */

#define TASK_WORDS   2u /* of the names in task and region */
#define REGION_WORDS 4u

/* Numbers of names that stand for functions of modules: no address is there. */
#define MODULE_NAMES (1ull << 62)

/* Where in the file's events the study's fields are; id -1: the event is not there. */
struct layout {
    int fault, outcome, walker, task, region, module, module_function;
    int world_entry, world_exit;
    unsigned world_vmcb;
    unsigned fault_gva, fault_error;
    unsigned outcome_gva, outcome_outcome, outcome_level;
    unsigned walker_gva, walker_error;
    int accessed;
    unsigned accessed_gva, accessed_error;
    unsigned task_tgid, task_name[TASK_WORDS];
    struct range_layout {
        unsigned from, to, name[REGION_WORDS];
    } of_region, of_module, of_function;
};

/* A range of addresses that an event told of. */
struct told_range {
    uint64_t from, to;               /* to is in it */
    char name[8 * REGION_WORDS + 1]; /* empty: not known */
};

/* What a vCPU has met of its next fault. */
struct pending {
    bool fault, walker;
    struct pn_event_rec rec; /* page_fault */
    uint64_t walker_gva, walker_error;
    uint64_t process, region; /* numbers in names, or FAULT_UNKNOWN */
    uint64_t world;           /* a VMCB; 0: the guest's own */
    uint64_t from, to;        /* of region */
    struct told_range module, function;
    uint64_t function_name; /* of both, in names */
};

struct faults {
    struct faults_config cfg;
    const struct trace_file *file; /* that layout is of */
    struct layout layout;
    enum fault_key space; /* what cells have as an address space */
    struct fault_totals totals;
    struct counting table[FAULT_TABLES];
    struct {
        uint64_t rip;
        uint32_t function;
    } cache[CACHE];
    struct {
        uint64_t rip, line; /* a number in names */
    } line[CACHE];
    struct pending pending[TRACE_VCPUS_MAX];
    struct fault_names names;
    uint64_t wanted;             /* cfg.function as the key */
    struct fault_causes *causes; /* NULL: nobody asks for them; so the next two */
    struct fault_costs *costs;
    struct fault_reports *reports;
    struct fault_kvm *kvm;
};

static const struct {
    const char *name, *doc;
} keys[] =
    {
#define FAULT_KEY(name, doc) {#name, doc},
#include "inspect/fault_keys.inc"
},
  outcomes[] = {
      {"no_fault", ""},
#define PN_OUTCOME(name, answer, counter, sum, doc) {#name, doc},
#include "penumbra/outcomes.inc"
};
static const char *const reasons[] = {[FAULT_NOT_PRESENT] = "not_present",
                                      [FAULT_PROTECTION] = "protection",
                                      [FAULT_RESERVED] = "reserved",
                                      [FAULT_PKEY] = "pkey",
                                      [FAULT_NOT_GUEST] = "-"};
static const char *const accesses[] = {[PN_READ] = "read",
                                       [PN_WRITE] = "write",
                                       [PN_FETCH] = "fetch",
                                       [PN_SS_READ] = "ss_read",
                                       [PN_SS_WRITE] = "ss_write"};

/* ---- What the file calls things ---- */

int faults_find(const struct trace_file *file, const char *name, const char *const *field,
                unsigned *const *at, unsigned fields) {
    int id = trace_file_find(file, name, strlen(name));
    const struct trace_event *e = id < 0 ? NULL : trace_file_event(file, (unsigned)id);
    for (unsigned i = 0; e && i < fields; i++) {
        unsigned j = 0;
        while (j < e->fields && strcmp(e->field[j].name, field[i]) != 0)
            j++;
        if (j == e->fields)
            return -1;
        *at[i] = j;
    }
    return id;
}

/* An event that tells of a range of addresses. */
static int find_range(const struct trace_file *file, const char *event,
                      struct range_layout *r) {
    static const char *const fields[] = {"from", "to", "name", "name1", "name2", "name3"};
    return faults_find(file, event, fields,
                       (unsigned *[]){&r->from, &r->to, &r->name[0], &r->name[1],
                                      &r->name[2], &r->name[3]},
                       6);
}

static struct layout layout_of(const struct trace_file *file) {
    static const char *const names[] = {"gva", "error"}, *const out[] = {"gva", "outcome",
                                                                         "level"};
    static const char *const task[] = {"tgid", "name", "name1"};
    struct layout l = {0};
    l.fault = faults_find(file, "page_fault", names,
                          (unsigned *[]){&l.fault_gva, &l.fault_error}, 2);
    l.walker = faults_find(file, "walker_error", names,
                           (unsigned *[]){&l.walker_gva, &l.walker_error}, 2);
    l.outcome = faults_find(
        file, "fault_outcome", out,
        (unsigned *[]){&l.outcome_gva, &l.outcome_outcome, &l.outcome_level}, 3);
    l.accessed = faults_find(file, "page_accessed", names,
                             (unsigned *[]){&l.accessed_gva, &l.accessed_error}, 2);
    static const char *const vmcb[] = {"vmcb"};
    l.world_entry =
        faults_find(file, "world_entry", vmcb, (unsigned *[]){&l.world_vmcb}, 1);
    l.world_exit = faults_find(file, "world_exit", NULL, NULL, 0);
    uint64_t mask = trace_file_header(file)->mask;
    if (l.world_exit < 0 || !(mask >> l.world_exit & 1) ||
        (l.world_entry >= 0 && !(mask >> l.world_entry & 1)))
        l.world_entry = -1; /* without both nothing is known */
    l.task =
        faults_find(file, "task", task,
                    (unsigned *[]){&l.task_tgid, &l.task_name[0], &l.task_name[1]}, 3);
    l.region = find_range(file, "region", &l.of_region);
    l.module = find_range(file, "module", &l.of_module);
    l.module_function = find_range(file, "module_function", &l.of_function);
    return l;
}

unsigned faults_lacks(const struct trace_file *file) {
    struct layout l = layout_of(file);
    uint64_t mask = trace_file_header(file)->mask;
    return (l.fault < 0 || !(mask >> l.fault & 1) ? FAULTS_LACKS_FAULT : 0) |
           (l.outcome < 0 || !(mask >> l.outcome & 1) ? FAULTS_LACKS_OUTCOME : 0);
}

bool faults_tells(const struct trace_file *file, enum fault_key key) {
    struct layout l = layout_of(file);
    if (key == FAULT_KEY_cause)
        return fault_causes_tell(file);
    if (key == FAULT_KEY_world)
        return l.world_entry >= 0;
    if (key != FAULT_KEY_process && key != FAULT_KEY_region)
        return true;
    int id = key == FAULT_KEY_process ? l.task : l.region;
    return id >= 0 && trace_file_header(file)->mask >> id & 1;
}

/* ---- One fault ---- */

bool faults_moves(uint64_t address) {
    return address >= KERNEL_MAP;
}

static size_t cache_index(uint64_t rip) {
    return (rip * 0x9e3779b97f4a7c15ull >> 32) & (CACHE - 1);
}

/* Where the file has what the guest has there. */
static uint64_t in_file(const struct faults *f, uint64_t rip) {
    return faults_moves(rip) ? rip - f->cfg.moved : rip;
}

static uint64_t named_function(struct faults *f, const struct pn_event_rec *rec) {
    const struct symbols *s = f->cfg.symbols;
    uint64_t rip = rec->rip;
    if (!rip)
        return FAULT_UNKNOWN;
    if (!s)
        return rip;
    size_t at = cache_index(rip);
    if (f->cache[at].rip != rip) {
        f->cache[at].rip = rip;
        f->cache[at].function = symbols_at(s, in_file(f, rip));
    }
    if (f->cache[at].function != SYMBOLS_NONE)
        return f->cache[at].function;
    return rec->cpl == 3 ? FAULT_USER : FAULT_UNKNOWN;
}

/* The same, where it is one of a module's: what symbols say of there is of something else. */
static uint64_t function_of(struct faults *f, const struct pn_event_rec *rec) {
    const struct pending *p = &f->pending[rec->vcpu];
    return *p->module.name && rec->cpl == 0 && rec->rip >= p->function.from &&
                   rec->rip <= p->function.to && p->function_name != FAULT_UNKNOWN
               ? MODULE_NAMES | p->function_name
               : named_function(f, rec);
}

/* Return: 0, or -ENOMEM. */
static int find_line(struct faults *f, uint64_t rip, uint64_t *line) {
    char text[128];
    *line = FAULT_UNKNOWN;
    if (!f->cfg.lines || !rip)
        return 0;
    size_t at = cache_index(rip);
    int rc = 0;
    if (f->line[at].rip != rip) {
        f->line[at].rip = rip;
        f->line[at].line = FAULT_UNKNOWN;
        if (lines_at(f->cfg.lines, in_file(f, rip), text, sizeof(text)))
            rc = fault_names_add(&f->names, text, &f->line[at].line);
    }
    *line = f->line[at].line;
    return rc;
}

/* Before NX and SMEP an error code does not tell a fetch from a read. Of an instruction
 * whose own address faults, it is one. */
static uint64_t access_of(const struct pn_event_rec *rec, uint64_t gva, uint64_t error) {
    if (error & PN_PF_SS)
        return error & PN_PF_WRITE ? PN_SS_WRITE : PN_SS_READ;
    if (error & PN_PF_WRITE)
        return PN_WRITE;
    return error & PN_PF_FETCH || gva == rec->rip ? PN_FETCH : PN_READ;
}

static uint64_t reason_of(uint64_t error) {
    return error & PN_PF_RSVD      ? FAULT_RESERVED
           : error & PN_PF_PK      ? FAULT_PKEY
           : error & PN_PF_PRESENT ? FAULT_PROTECTION
                                   : FAULT_NOT_PRESENT;
}

/* ---- Whose it is ---- */

/* The characters of n fields at `at`, and a NUL. */
static void put_words(const struct pn_event_rec *rec, const unsigned *at, unsigned n,
                      char *p) {
    for (unsigned i = 0; i < n; i++)
        memcpy(p + 8 * i, &rec->arg[at[i]], 8);
    p[8 * n] = 0;
    for (; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
}

static int take_task(struct faults *f, struct pending *p,
                     const struct pn_event_rec *rec) {
    const struct layout *l = &f->layout;
    char text[24 + 8 * TASK_WORDS];
    uint64_t tgid = rec->arg[l->task_tgid];
    p->process = FAULT_UNKNOWN;
    if (tgid > UINT32_MAX)
        return 0;
    int n = snprintf(text, sizeof(text), "%" PRIu64 " ", tgid);
    put_words(rec, l->task_name, TASK_WORDS, text + n);
    return fault_names_add(&f->names, text, &p->process);
}

static void take_range(const struct range_layout *l, const struct pn_event_rec *rec,
                       struct told_range *r) {
    r->from = rec->arg[l->from];
    r->to = rec->arg[l->to];
    put_words(rec, l->name, REGION_WORDS, r->name);
}

/* The name of a module's function, now that both are told. */
static int name_function(struct faults *f, struct pending *p) {
    char text[2 * sizeof(p->module.name) + 4];
    p->function_name = FAULT_UNKNOWN;
    if (!*p->module.name || !*p->function.name)
        return 0;
    snprintf(text, sizeof(text), "%s [%s]", p->function.name, p->module.name);
    return fault_names_add(&f->names, text, &p->function_name);
}

static int take_region(struct faults *f, struct pending *p,
                       const struct pn_event_rec *rec) {
    struct told_range r;
    const char *text = r.name;
    take_range(&f->layout.of_region, rec, &r);
    p->region = FAULT_UNKNOWN;
    p->from = r.from;
    p->to = r.to;
    return *text && strcmp(text, "?") != 0 ? fault_names_add(&f->names, text, &p->region)
                                           : 0;
}

/* What was told is of the fault that followed; of one elsewhere nothing is known. */
static uint64_t region_of(const struct pending *p, uint64_t page) {
    return page != FAULT_UNKNOWN && page <= p->to && page + PN_PAGE_SIZE - 1 >= p->from
               ? p->region
               : FAULT_UNKNOWN;
}

/* rec: where the guest was. key: what its events say; the rest is filled in. */
static int count(struct faults *f, const struct pn_event_rec *rec,
                 uint64_t key[FAULT_KEYS], const struct fault_price *price) {
    const struct faults_config *c = &f->cfg;
    uint64_t outcome = key[FAULT_KEY_outcome];
    bool own = outcome == PN_OUT_guest_pf, known = rec->cpl != PN_CPL_NONE;
    key[FAULT_KEY_rip] = rec->rip ? rec->rip : FAULT_UNKNOWN;
    key[FAULT_KEY_cr3] = known ? rec->cr3 & FAULT_CR3_PAGE : FAULT_UNKNOWN;
    key[FAULT_KEY_vcpu] = rec->vcpu;
    key[FAULT_KEY_process] = f->pending[rec->vcpu].process;
    key[FAULT_KEY_region] = region_of(&f->pending[rec->vcpu], key[FAULT_KEY_page]);
    key[FAULT_KEY_world] =
        f->layout.world_entry >= 0 ? f->pending[rec->vcpu].world : FAULT_UNKNOWN;
    key[FAULT_KEY_cpl] = known ? rec->cpl : FAULT_UNKNOWN;
    if ((c->outcomes && (outcome > 63 || !(c->outcomes >> outcome & 1))) ||
        (c->causes && !(c->causes >> key[FAULT_KEY_cause] & 1)) ||
        (c->by_cr3 && key[FAULT_KEY_cr3] != c->cr3) ||
        (c->by_rip && (rec->rip < c->rip_from || rec->rip > c->rip_to)))
        return 0;
    key[FAULT_KEY_function] = function_of(f, rec);
    if (c->function && key[FAULT_KEY_function] != f->wanted)
        return 0;
    f->totals.faults++;
    f->totals.own += own;
    f->totals.untold += outcome == FAULT_UNKNOWN;
    if (f->reports)
        fault_reports_fault(f->reports, rec, key[FAULT_KEY_page]);
    int rc = find_line(f, rec->rip, &key[FAULT_KEY_line]);
    for (unsigned i = 0; i < c->tables && !rc; i++)
        rc = counting_add(&f->table[i], key, rec->time, own, price);
    if (c->each)
        c->each(c->opaque, f, rec, key);
    if (c->cells)
        fault_cells_add(c->cells, rec->time, key[FAULT_KEY_page], key[FAULT_KEY_function],
                        outcome, key[f->space], (uint32_t)key[FAULT_KEY_cause]);
    return rc;
}

/* A page_fault without its fault_outcome. */
static int count_alone(struct faults *f, const struct pn_event_rec *rec) {
    uint64_t gva = rec->arg[f->layout.fault_gva];
    uint64_t key[FAULT_KEYS] = {
        [FAULT_KEY_outcome] = FAULT_UNKNOWN,
        [FAULT_KEY_reason] = FAULT_UNKNOWN,
        [FAULT_KEY_access] = access_of(rec, gva, rec->arg[f->layout.fault_error]),
        [FAULT_KEY_page] = gva & ~(PN_PAGE_SIZE - 1ull),
        [FAULT_KEY_level] = FAULT_UNKNOWN,
        [FAULT_KEY_cause] = FAULT_CAUSE_unknown,
    };
    return trace_filter_match(f->file, &f->cfg.where, rec)
               ? count(f, rec, key, &(struct fault_price){0})
               : 0;
}

/* The first access to a page in an epoch, which nothing came of. */
static int count_accessed(struct faults *f, const struct pn_event_rec *rec) {
    const struct layout *l = &f->layout;
    uint64_t gva = rec->arg[l->accessed_gva];
    uint64_t key[FAULT_KEYS] = {
        [FAULT_KEY_outcome] = PN_OUT_dirty_log,
        [FAULT_KEY_reason] = FAULT_NOT_GUEST,
        [FAULT_KEY_access] = access_of(rec, gva, rec->arg[l->accessed_error]),
        [FAULT_KEY_page] = gva & ~(PN_PAGE_SIZE - 1ull),
        [FAULT_KEY_level] = FAULT_UNKNOWN,
        [FAULT_KEY_cause] = FAULT_CAUSE_dirty_log,
    };
    return trace_filter_match(f->file, &f->cfg.where, rec)
               ? count(f, rec, key, &(struct fault_price){0})
               : 0;
}

/* What an outcome of KVM's is the cause of by itself. */
static enum fault_cause cause_of_kvm(const struct fault_kvm_met *m) {
    switch (m->outcome) {
    case PN_OUT_guest_pf:
        return m->own & (PN_PF_PRESENT | PN_PF_RSVD | PN_PF_PK) ? FAULT_CAUSE_unknown
                                                                : FAULT_CAUSE_demand;
    case PN_OUT_mmio:
    case PN_OUT_mmio_cached:
        return FAULT_CAUSE_device;
    case PN_OUT_dirty_log:
        return FAULT_CAUSE_dirty_log;
    default:
        return FAULT_CAUSE_unknown;
    }
}

/* A fault under KVM. */
static int count_kvm(struct faults *f, const struct fault_kvm_met *m) {
    bool own = m->outcome == PN_OUT_guest_pf, known = m->outcome != FAULT_UNKNOWN;
    uint64_t key[FAULT_KEYS] = {
        [FAULT_KEY_outcome] = m->outcome,
        [FAULT_KEY_reason] = own     ? reason_of(m->own)
                             : known ? FAULT_NOT_GUEST
                                     : FAULT_UNKNOWN,
        [FAULT_KEY_access] =
            access_of(&m->rec, m->addressed ? m->gva : FAULT_UNKNOWN, m->error),
        [FAULT_KEY_page] = m->addressed ? m->gva & ~(PN_PAGE_SIZE - 1ull) : FAULT_UNKNOWN,
        [FAULT_KEY_level] = known ? m->level : FAULT_UNKNOWN,
        [FAULT_KEY_cause] = cause_of_kvm(m),
    };
    return trace_filter_match(f->file, &f->cfg.where, &m->rec)
               ? count(f, &m->rec, key, &(struct fault_price){0})
               : 0;
}

/* access: page_fault, or NULL; walker: the guest's own error, or NULL. */
static enum fault_cause cause_of(struct faults *f, const struct pn_event_rec *rec,
                                 const uint64_t *access, const uint64_t *walker) {
    const struct layout *l = &f->layout;
    if (!f->causes)
        return FAULT_CAUSE_unknown;
    uint64_t outcome = rec->arg[l->outcome_outcome];
    const uint64_t *error = outcome == PN_OUT_guest_pf ? walker : access;
    return fault_causes_of(f->causes, &(struct fault_met){
                                          .rec = rec,
                                          .gva = rec->arg[l->outcome_gva],
                                          .outcome = outcome,
                                          .level = rec->arg[l->outcome_level],
                                          .function = function_of(f, rec),
                                          .told = error,
                                          .error = error ? *error : 0,
                                      });
}

static int take_outcome(struct faults *f, struct pending *p,
                        const struct pn_event_rec *rec) {
    const struct layout *l = &f->layout;
    uint64_t gva = rec->arg[l->outcome_gva], outcome = rec->arg[l->outcome_outcome];
    bool paired = p->fault && p->rec.arg[l->fault_gva] == gva;
    bool walked = p->walker && p->walker_gva == gva;
    int rc = p->fault && !paired ? count_alone(f, &p->rec) : 0;
    enum fault_cause cause = cause_of(f, rec, paired ? &p->rec.arg[l->fault_error] : NULL,
                                      walked ? &p->walker_error : NULL);
    p->fault = p->walker = false;
    if (rc || !trace_filter_match(f->file, &f->cfg.where, rec))
        return rc;
    uint64_t key[FAULT_KEYS] = {
        [FAULT_KEY_outcome] = outcome,
        [FAULT_KEY_reason] = outcome != PN_OUT_guest_pf ? FAULT_NOT_GUEST
                             : walked                   ? reason_of(p->walker_error)
                                                        : FAULT_UNKNOWN,
        [FAULT_KEY_access] =
            paired ? access_of(rec, gva, p->rec.arg[l->fault_error]) : FAULT_UNKNOWN,
        [FAULT_KEY_page] = gva & ~(PN_PAGE_SIZE - 1ull),
        [FAULT_KEY_level] = rec->arg[l->outcome_level],
        [FAULT_KEY_cause] = cause,
    };
    struct fault_price price = {0};
    if (f->costs)
        price = fault_costs_of(f->costs, rec, outcome);
    return count(f, rec, key, &price);
}

/* Does the event say whose the next fault is? */
static bool is_about(const struct layout *l, int id) {
    return id == l->task || id == l->region || id == l->module ||
           id == l->module_function;
}

static int take_about(struct faults *f, struct pending *p,
                      const struct pn_event_rec *rec) {
    const struct layout *l = &f->layout;
    if (rec->id == l->task)
        return take_task(f, p, rec);
    if (rec->id == l->region)
        return take_region(f, p, rec);
    if (rec->id == l->module)
        take_range(&l->of_module, rec, &p->module);
    else
        take_range(&l->of_function, rec, &p->function);
    return name_function(f, p);
}

static int take(struct faults *f, const struct pn_event_rec *rec) {
    struct pending *p = &f->pending[rec->vcpu];
    struct fault_kvm_met met;
    int rc = 0;
    if (rec->cpl == PN_CPL_NONE && rec->id != f->layout.outcome)
        return fault_kvm_event(f->kvm, rec, &met) ? count_kvm(f, &met) : 0;
    if (rec->id == f->layout.fault) {
        if (p->fault)
            rc = count_alone(f, &p->rec);
        p->fault = true;
        p->rec = *rec;
    } else if (rec->id == f->layout.outcome) {
        rc = take_outcome(f, p, rec);
    } else if (rec->id == f->layout.accessed) {
        rc = f->cfg.accessed ? count_accessed(f, rec) : 0;
    } else if (rec->id == f->layout.walker) {
        p->walker = true;
        p->walker_gva = rec->arg[f->layout.walker_gva];
        p->walker_error = rec->arg[f->layout.walker_error];
    } else if (rec->id == f->layout.world_entry) {
        p->world = rec->arg[f->layout.world_vmcb];
    } else if (rec->id == f->layout.world_exit) {
        p->world = 0;
    } else if (is_about(&f->layout, rec->id)) {
        /* What comes next is another's: a fault alone is not. */
        if (p->fault)
            rc = count_alone(f, &p->rec);
        p->fault = false;
        if (!rc)
            rc = take_about(f, p, rec);
    }
    return rc;
}

int faults_add(struct faults *f, const struct trace_file *file,
               const struct pn_event_rec *rec, size_t n) {
    const struct trace_filter *t = &f->cfg.where;
    struct fault_totals *all = &f->totals;
    int rc = 0;
    if (f->file != file) {
        f->file = file;
        f->layout = layout_of(file);
        fault_kvm_file(f->kvm, file);
        if (f->causes)
            fault_causes_file(f->causes, file);
        if (f->costs)
            fault_costs_file(f->costs, file);
        if (f->reports)
            fault_reports_file(f->reports, file);
        f->space =
            faults_tells(file, FAULT_KEY_process) ? FAULT_KEY_process : FAULT_KEY_cr3;
    }
    for (size_t i = 0; i < n && !rc; i++) {
        const struct pn_event_rec *r = &rec[i];
        if (r->vcpu >= TRACE_VCPUS_MAX)
            continue;
        if ((t->vcpu < 0 || r->vcpu == t->vcpu) && r->time >= t->from &&
            r->time <= t->to) {
            all->from = all->any && all->from < r->time ? all->from : r->time;
            all->to = all->any && all->to > r->time ? all->to : r->time;
            all->any = true;
        }
        rc = take(f, r);
        if (f->causes)
            fault_causes_event(f->causes, r);
        if (f->costs)
            fault_costs_event(f->costs, r);
        if (f->reports)
            fault_reports_event(
                f->reports, r, fault_reports_asks(f->reports, r) ? function_of(f, r) : 0);
    }
    return rc;
}

void faults_sort(struct faults *f) {
    for (unsigned i = 0; i < f->cfg.tables; i++)
        counting_sort(&f->table[i]);
}

int faults_finish(struct faults *f) {
    struct fault_kvm_met met;
    int rc = 0;
    for (unsigned i = 0; i < TRACE_VCPUS_MAX && !rc; i++)
        if (f->pending[i].fault)
            rc = count_alone(f, &f->pending[i].rec);
    for (unsigned i = 0; i < TRACE_VCPUS_MAX && !rc; i++)
        if (fault_kvm_last(f->kvm, i, &met))
            rc = count_kvm(f, &met);
    faults_sort(f);
    if (f->cfg.cells)
        fault_cells_finish(f->cfg.cells);
    return rc;
}

/* ---- Life and results ---- */

struct faults *faults_create(const struct faults_config *cfg) {
    struct faults *f = calloc(1, sizeof(*f));
    if (!f)
        return NULL;
    f->cfg = *cfg;
    f->cfg.where.events = UINT64_MAX;
    for (unsigned i = 0; i < TRACE_VCPUS_MAX; i++)
        f->pending[i].process = f->pending[i].region = f->pending[i].function_name =
            FAULT_UNKNOWN;
    uint64_t wanted = 0;
    bool named = !cfg->function || !fault_names_add(&f->names, cfg->function, &wanted);
    f->wanted = MODULE_NAMES | wanted;
    f->kvm = fault_kvm_create();
    bool done = f->kvm && named, by_cause = cfg->causes || cfg->cells || cfg->each;
    for (unsigned i = 0; i < cfg->tables; i++) {
        done = !counting_begin(&f->table[i], &cfg->by[i]) && done;
        for (unsigned k = 0; k < cfg->by[i].keys; k++)
            by_cause |= cfg->by[i].key[k] == FAULT_KEY_cause;
    }
    if (done && by_cause) {
        f->causes = fault_causes_create(cfg->symbols, cfg->moved);
        done = f->causes;
    }
    if (done && cfg->prices) {
        f->costs = fault_costs_create(cfg->prices);
        done = f->costs;
    }
    if (done && cfg->reports) {
        f->reports = fault_reports_create();
        done = f->reports;
    }
    if (done)
        return f;
    faults_destroy(f);
    return NULL;
}

void faults_destroy(struct faults *f) {
    if (!f)
        return;
    for (unsigned i = 0; i < FAULT_TABLES; i++)
        counting_free(&f->table[i]);
    fault_names_free(&f->names);
    fault_causes_destroy(f->causes);
    free(f->costs);
    fault_reports_destroy(f->reports);
    fault_kvm_destroy(f->kvm);
    free(f);
}

const struct fault_totals *faults_totals(const struct faults *f) {
    return &f->totals;
}

const struct fault_reports *faults_reports(const struct faults *f) {
    return f->reports;
}

struct fault_table faults_table(const struct faults *f, unsigned i) {
    const struct counting *t = &f->table[i];
    return (struct fault_table){t->by, t->row, t->rows, t->beyond};
}

const char *fault_key_name(enum fault_key key) {
    return keys[key].name;
}

const char *fault_key_doc(enum fault_key key) {
    return keys[key].doc;
}

const char *fault_outcome_name(uint64_t outcome) {
    return outcome < PN_OUT_COUNT ? outcomes[outcome].name : NULL;
}

const char *fault_outcome_doc(uint64_t outcome) {
    return outcome < PN_OUT_COUNT ? outcomes[outcome].doc : NULL;
}

void fault_key_text(const struct faults *f, enum fault_key key, uint64_t value, char *buf,
                    size_t size) {
    const char *word = NULL;
    bool hex = false;
    switch (key) {
    case FAULT_KEY_outcome:
        word = fault_outcome_name(value);
        break;
    case FAULT_KEY_reason:
        word = value <= FAULT_NOT_GUEST ? reasons[value] : NULL;
        break;
    case FAULT_KEY_access:
        word = value < PN_ACCESSES ? accesses[value] : NULL;
        break;
    case FAULT_KEY_function:
        if (value >> 62 == 1)
            word = fault_names_text(&f->names, value & ~MODULE_NAMES);
        else if (f->cfg.symbols)
            word = value == FAULT_USER ? "(user space)"
                   : value == FAULT_UNKNOWN
                       ? "(unknown)"
                       : symbols_name(f->cfg.symbols, (uint32_t)value);
        hex = true;
        break;
    case FAULT_KEY_cause:
        word = fault_cause_name(value);
        break;
    case FAULT_KEY_line:
    case FAULT_KEY_process:
    case FAULT_KEY_region:
        word = fault_names_text(&f->names, value);
        break;
    case FAULT_KEY_world:
        word = value ? NULL : "own";
        hex = true;
        break;
    case FAULT_KEY_rip:
    case FAULT_KEY_page:
    case FAULT_KEY_cr3:
        hex = true;
        break;
    default:
        break;
    }
    if (!word && value == FAULT_UNKNOWN)
        word = "?";
    if (word)
        snprintf(buf, size, "%s", word);
    else
        snprintf(buf, size, hex ? "0x%" PRIx64 : "%" PRIu64, value);
}
