/* SPDX-License-Identifier: MIT */
/* Exits out of a trace's records: see exits.h. */
#include "inspect/exits.h"

#include <asm/svm.h>
#include <asm/vmx.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "penumbra/mmu.h"
#include "penumbra/x86.h"

#define SLOTS (2 * EXITS_ROWS_MAX)
#define MODEL ((uint64_t)1 << 32) /* in a key: the rest is a line of exits.inc */

/* Vectors by the names that SVM_EXIT_REASONS has for them. */
enum {
    DE_VECTOR = VEC_DE,
    DB_VECTOR = VEC_DB,
    BP_VECTOR = VEC_BP,
    OF_VECTOR = VEC_OF,
    BR_VECTOR = VEC_BR,
    UD_VECTOR = VEC_UD,
    NM_VECTOR = VEC_NM,
    DF_VECTOR = VEC_DF,
    TS_VECTOR = VEC_TS,
    NP_VECTOR = VEC_NP,
    SS_VECTOR = VEC_SS,
    GP_VECTOR = VEC_GP,
    PF_VECTOR = VEC_PF,
    MF_VECTOR = VEC_MF,
    AC_VECTOR = VEC_AC,
    MC_VECTOR = VEC_MC,
    XM_VECTOR = VEC_XM
};

enum mmu { ANY, SHADOW, TDP };

static const struct {
    const char *event, *name;
    enum mmu mmu;
} model[] = {
#define EXIT(event, NAME, mmu) {#event, #NAME, mmu},
#include "inspect/exits.inc"
};
#define MODELS (sizeof(model) / sizeof(model[0]))

static const struct {
    const char *name, *event, *field;
    uint64_t value;
} lines[] = {
#define COUNTER(name, event, field, value) {#name, #event, field, value},
#include "inspect/exits.inc"
};
#define LINES (sizeof(lines) / sizeof(lines[0]))

static const struct {
    const char *counter, *sum;
} outcomes[] = {
    [PN_OUT_NO_FAULT] = {"", ""},
#define PN_OUTCOME(name, answer, counter, sum, doc) [PN_OUT_##name] = {#counter, #sum},
#include "penumbra/outcomes.inc"
};

static const struct {
    const char *name, *title;
} kinds[EXITS_KINDS] = {[EXITS_VMEXIT] = {"vmexit", "VM-EXIT"},
                        [EXITS_MMIO] = {"mmio", "MMIO Access"},
                        [EXITS_IOPORT] = {"ioport", "IO Port Access"},
                        [EXITS_MSR] = {"msr", "MSR Access"}};

#define COUNTERS (1 + 2 * PN_OUT_COUNT + LINES) /* at most */

/* An event's id and where its fields are; id -1: it is not there, or lacks one. */
struct place {
    int id;
    unsigned field[3];
};

/* What a vCPU under KVM is in. */
struct pending {
    bool begun, named, ended;
    uint64_t begin, end, key, info;
};

struct exits {
    enum exits_kind kind;
    struct trace_filter where;
    const struct trace_file *file;
    struct place exit, entry, outcome, pio, mmio, msr, hlt;
    struct place model[MODELS], line[LINES];
    struct exits_totals totals;
    struct exits_row row[EXITS_ROWS_MAX];
    size_t rows;
    uint32_t slot[SLOTS]; /* number of a row, from 1; 0: free */
    uint64_t by_line[LINES], by_outcome[PN_OUT_COUNT];
    struct {
        const char *name;
        uint64_t value;
    } counter[COUNTERS];
    unsigned counters;
    bool tdp, amd;
    struct pending pending[TRACE_VCPUS_MAX];
};

/* ---- What the file calls things ---- */

static struct place find(const struct trace_file *f, const char *event, unsigned fields,
                         const char *const *field) {
    struct place p = {.id = trace_file_find(f, event, strlen(event))};
    if (p.id < 0 || !(trace_file_header(f)->mask >> p.id & 1))
        return (struct place){.id = -1};
    const struct trace_event *e = trace_file_event(f, (unsigned)p.id);
    for (unsigned i = 0; i < fields; i++) {
        unsigned j = 0;
        while (j < e->fields && strcmp(e->field[j].name, field[i]) != 0)
            j++;
        if (j == e->fields)
            return (struct place){.id = -1};
        p.field[i] = j;
    }
    return p;
}

#define FIND(file, event, ...)                                                           \
    find(file, event, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *),       \
         (const char *const[]){__VA_ARGS__})

static void find_all(struct exits *x, const struct trace_file *f) {
    x->exit = FIND(f, "kvm_exit", "reason");
    x->entry = find(f, "kvm_entry", 0, NULL);
    x->outcome = FIND(f, "fault_outcome", "outcome");
    x->pio = FIND(f, "pio", "port", "write");
    x->mmio = FIND(f, "mmio", "gpa", "write");
    x->msr = FIND(f, "kvm_msr", "index", "write");
    x->hlt = FIND(f, "hlt", "until");
    for (unsigned i = 0; i < MODELS; i++)
        x->model[i] = find(f, model[i].event, 0, NULL);
    for (unsigned i = 0; i < LINES; i++)
        x->line[i] = *lines[i].field ? FIND(f, lines[i].event, lines[i].field)
                                     : find(f, lines[i].event, 0, NULL);
}

static bool is(const struct place *p, const struct pn_event_rec *rec) {
    return p->id == rec->id;
}

static uint64_t field(const struct place *p, unsigned i, const struct pn_event_rec *rec) {
    return rec->arg[p->field[i]];
}

/* ---- Rows ---- */

static struct exits_row *row_of(struct exits *x, uint64_t key, uint64_t info) {
    uint64_t h = (key ^ info << 40) * 0x9e3779b97f4a7c15ull;
    size_t at = (h ^ h >> 32) & (SLOTS - 1);
    for (; x->slot[at]; at = (at + 1) & (SLOTS - 1)) {
        struct exits_row *r = &x->row[x->slot[at] - 1];
        if (r->key == key && r->info == info)
            return r;
    }
    if (x->rows == EXITS_ROWS_MAX)
        return NULL;
    x->slot[at] = (uint32_t)++x->rows;
    struct exits_row *r = &x->row[x->rows - 1];
    *r = (struct exits_row){.key = key, .info = info, .min = UINT64_MAX};
    return r;
}

/* The mean and its squares as Welford has them. */
static void sample(struct exits *x, uint64_t key, uint64_t info, uint64_t time) {
    struct exits_row *r = row_of(x, key, info);
    if (!r) {
        x->totals.beyond++;
        return;
    }
    double distance = (double)time - r->mean;
    r->samples++;
    r->time += time;
    r->min = time < r->min ? time : r->min;
    r->max = time > r->max ? time : r->max;
    r->mean += distance / (double)r->samples;
    r->squares += distance * ((double)time - r->mean);
}

/* ---- Records ---- */

static void begin(struct pending *p, const struct pn_event_rec *rec) {
    *p = (struct pending){.begun = true, .begin = rec->time};
}

static void name(struct pending *p, uint64_t key, uint64_t info) {
    p->named = true;
    p->key = key;
    p->info = info;
}

/* An access to a device: a write begins with it, a read ends with it. Of the events of one
 * read, the last is the one with its value. */
static void take_mmio(struct exits *x, struct pending *p,
                      const struct pn_event_rec *rec) {
    bool write = field(&x->mmio, 1, rec);
    if (write) {
        begin(p, rec);
    } else {
        p->ended = true;
        p->end = rec->time;
    }
    name(p, field(&x->mmio, 0, rec), write);
}

static void take_kvm(struct exits *x, const struct pn_event_rec *rec) {
    struct pending *p = &x->pending[rec->vcpu];
    if (is(&x->exit, rec)) {
        uint64_t reason = field(&x->exit, 0, rec) & UINT32_MAX;
        begin(p, rec);
        if (x->kind == EXITS_VMEXIT)
            name(p, reason, 0);
        x->amd |= reason >= SVM_EXIT_INTR && reason <= SVM_EXIT_NPF;
    } else if (is(&x->pio, rec) && x->kind == EXITS_IOPORT) {
        begin(p, rec);
        name(p, field(&x->pio, 0, rec), field(&x->pio, 1, rec));
    } else if (is(&x->msr, rec) && x->kind == EXITS_MSR) {
        begin(p, rec);
        name(p, field(&x->msr, 0, rec), field(&x->msr, 1, rec));
    } else if (is(&x->mmio, rec) && x->kind == EXITS_MMIO) {
        take_mmio(x, p, rec);
    } else if (is(&x->entry, rec)) {
        uint64_t end = p->ended ? p->end : rec->time;
        if (p->begun && p->named && end >= p->begin)
            sample(x, p->key, p->info, end - p->begin);
        *p = (struct pending){0};
    }
}

static void take_model(struct exits *x, const struct pn_event_rec *rec) {
    if (x->kind == EXITS_IOPORT && is(&x->pio, rec))
        sample(x, field(&x->pio, 0, rec), field(&x->pio, 1, rec), 0);
    if (x->kind == EXITS_MMIO && is(&x->mmio, rec))
        sample(x, field(&x->mmio, 0, rec), field(&x->mmio, 1, rec), 0);
    if (x->kind != EXITS_VMEXIT)
        return;
    uint64_t time = 0;
    if (is(&x->hlt, rec) && field(&x->hlt, 0, rec) > rec->time)
        time = field(&x->hlt, 0, rec) - rec->time;
    for (unsigned i = 0; i < MODELS; i++)
        if (is(&x->model[i], rec)) {
            x->tdp |= model[i].mmu == TDP;
            sample(x, MODEL | i, 0, time);
        }
}

static void take_counters(struct exits *x, const struct pn_event_rec *rec) {
    for (unsigned i = 0; i < LINES; i++)
        x->by_line[i] +=
            is(&x->line[i], rec) &&
            (!*lines[i].field || field(&x->line[i], 0, rec) == lines[i].value);
    if (is(&x->outcome, rec) && field(&x->outcome, 0, rec) < PN_OUT_COUNT)
        x->by_outcome[field(&x->outcome, 0, rec)]++;
}

void exits_add(struct exits *x, const struct pn_event_rec *rec, size_t n) {
    const struct trace_filter *t = &x->where;
    for (size_t i = 0; i < n; i++) {
        const struct pn_event_rec *r = &rec[i];
        if (r->vcpu >= TRACE_VCPUS_MAX || (t->vcpu >= 0 && r->vcpu != t->vcpu) ||
            r->time < t->from || r->time > t->to)
            continue;
        take_counters(x, r);
        if (r->cpl == PN_CPL_NONE)
            take_kvm(x, r);
        else
            take_model(x, r);
    }
}

/* ---- Counters ---- */

static void add_counter(struct exits *x, const char *name, uint64_t value) {
    for (unsigned i = 0; i < x->counters; i++)
        if (!strcmp(x->counter[i].name, name)) {
            x->counter[i].value += value;
            return;
        }
    x->counter[x->counters].name = name;
    x->counter[x->counters++].value = value;
}

/* Those whose events the trace was recorded with. */
static void add_counters(struct exits *x) {
    if (x->outcome.id >= 0)
        add_counter(x, "pf_taken", 0);
    for (unsigned i = PN_OUT_NO_FAULT + 1; x->outcome.id >= 0 && i < PN_OUT_COUNT; i++) {
        if (i == PN_OUT_tracked_code) /* no fault */
            continue;
        add_counter(x, outcomes[i].counter, x->by_outcome[i]);
        if (strcmp(outcomes[i].sum, outcomes[i].counter) != 0)
            add_counter(x, outcomes[i].sum, x->by_outcome[i]);
        if (i != PN_OUT_mmio_cached)
            add_counter(x, "pf_taken", x->by_outcome[i]);
    }
    for (unsigned i = 0; i < LINES; i++)
        if (x->line[i].id >= 0)
            add_counter(x, lines[i].name, x->by_line[i]);
}

const char *exits_counter(const struct exits *x, unsigned i, uint64_t *value) {
    if (i >= x->counters)
        return NULL;
    *value = x->counter[i].value;
    return x->counter[i].name;
}

/* ---- Life and results ---- */

struct exits *exits_create(enum exits_kind kind, const struct trace_filter *where,
                           const struct trace_file *f) {
    struct exits *x = calloc(1, sizeof(*x));
    if (!x)
        return NULL;
    x->kind = kind;
    x->where = *where;
    x->file = f;
    find_all(x, f);
    return x;
}

void exits_destroy(struct exits *x) {
    free(x);
}

static int by_samples(const void *a, const void *b) {
    const struct exits_row *x = a, *y = b;
    if (x->samples != y->samples)
        return x->samples > y->samples ? -1 : 1;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->info > y->info) - (x->info < y->info);
}

static int by_mean(const void *a, const void *b) {
    const struct exits_row *x = a, *y = b;
    return x->mean > y->mean ? -1 : x->mean < y->mean ? 1 : by_samples(a, b);
}

void exits_finish(struct exits *x, bool by_time) {
    size_t kept = 0;
    for (size_t i = 0; i < x->rows; i++) {
        const struct exits_row *r = &x->row[i];
        if (r->key & MODEL && x->tdp && x->kind == EXITS_VMEXIT &&
            model[r->key & UINT32_MAX].mmu == SHADOW)
            continue; /* under tdp it is none */
        x->totals.samples += r->samples;
        x->totals.time += r->time;
        x->row[kept++] = *r;
    }
    x->rows = kept;
    add_counters(x);
    qsort(x->row, x->rows, sizeof(x->row[0]), by_time ? by_mean : by_samples);
}

const struct exits_totals *exits_totals(const struct exits *x) {
    return &x->totals;
}

bool exits_unsure(const struct exits *x) {
    bool shadow = false, told = false;
    for (size_t i = 0; i < x->rows && x->kind == EXITS_VMEXIT; i++)
        shadow |=
            x->row[i].key & MODEL && model[x->row[i].key & UINT32_MAX].mmu == SHADOW;
    for (unsigned i = 0; i < MODELS; i++)
        told |= model[i].mmu == TDP && x->model[i].id >= 0;
    return shadow && !told;
}

const struct exits_row *exits_row(const struct exits *x, size_t i) {
    return i < x->rows ? &x->row[i] : NULL;
}

double exits_deviation(const struct exits_row *r) {
    double n = (double)r->samples;
    if (r->samples < 2 || r->mean <= 0)
        return 0;
    return 100 * sqrt(r->squares / (n - 1) / n) / r->mean;
}

static const char *reason_name(const struct exits *x, uint64_t reason) {
    static const struct {
        uint64_t code;
        const char *name;
    } intel[] = {VMX_EXIT_REASONS}, amd[] = {SVM_EXIT_REASONS};
    size_t n = x->amd ? sizeof(amd) / sizeof(amd[0]) : sizeof(intel) / sizeof(intel[0]);
    for (size_t i = 0; i < n; i++)
        if ((x->amd ? amd : intel)[i].code == reason)
            return (x->amd ? amd : intel)[i].name;
    return NULL;
}

void exits_text(const struct exits *x, const struct exits_row *row, char *buf,
                size_t size) {
    static const char *const way[EXITS_KINDS][2] = {[EXITS_MMIO] = {"R", "W"},
                                                    [EXITS_IOPORT] = {"PIN", "POUT"},
                                                    [EXITS_MSR] = {"R", "W"}};
    const char *text = NULL;
    if (x->kind != EXITS_VMEXIT)
        snprintf(buf, size, "0x%" PRIx64 ":%s", row->key, way[x->kind][row->info != 0]);
    else if (row->key & MODEL)
        text = model[row->key & UINT32_MAX].name;
    else if (!(text = reason_name(x, row->key)))
        snprintf(buf, size, "0x%" PRIx64, row->key);
    if (text)
        snprintf(buf, size, "%s", text);
}

const char *exits_kind_name(enum exits_kind kind) {
    return kinds[kind].name;
}

const char *exits_kind_title(enum exits_kind kind) {
    return kinds[kind].title;
}
