/* SPDX-License-Identifier: MIT */
/* Reports out of a trace's records: see fault_report.h. */
#include "inspect/fault_report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/faults_internal.h"
#include "penumbra/mmu.h"

#define TABLE_SLOTS (1u << 17) /* powers of two */
#define PAGE_SLOTS  (1u << 20)
#define TABLES_MAX  (TABLE_SLOTS / 4 * 3)
#define PAGES_MAX   (PAGE_SLOTS / 4 * 3)
#define PARTS       64u /* of the time: bits of a word */
#define LEVELS      6u

#define EVENTS                                                                           \
    EVENT(fault_outcome, FIELD(outcome))                                                 \
    EVENT(pagetable_walk, FIELD(gva))                                                    \
    EVENT(paging_element, FIELD(level) FIELD(gpa))                                       \
    EVENT(get_page, FIELD(gfn) FIELD(role) FIELD(created))                               \
    EVENT(sync_page, FIELD(gfn) FIELD(role))                                             \
    EVENT(unsync_page, FIELD(gfn) FIELD(role))                                           \
    EVENT(prepare_zap_page, FIELD(gfn) FIELD(role) FIELD(reason))

enum event {
    NONE,
#define EVENT(name, fields) EVENT_##name,
    EVENTS
#undef EVENT
        KINDS
};

/* A guest's table, of one level. */
struct table {
    uint64_t key; /* its address, and the level */
    uint64_t built, zapped, unused, unsyncs, syncs;
    uint64_t made,
        life; /* time when it was built; sum of the times until it was zapped */
    uint64_t first, last, function; /* of unsync */
    uint32_t uses;                  /* faults since it was built */
    uint32_t reason;
};

/* A page of an address space, and the parts of the time in which it faulted. */
struct page {
    uint64_t key;
    uint64_t parts;
};

struct fault_reports {
    uint8_t kind[64], field[KINDS][3];
    struct table *table;
    struct page *page;
    uint32_t *table_slot, *page_slot; /* number of one, from 1; 0: free */
    uint32_t tables, pages;
    uint64_t beyond_tables, beyond_pages;
    bool begun;
    uint64_t from, width;                   /* of the parts of the time */
    uint64_t path[TRACE_VCPUS_MAX][LEVELS]; /* of the walk that is under way: keys */
};

static const struct fault_report reports[] = {
#define COLUMN(kind, name, doc) {FAULT_COLUMN_##kind, #name, doc},
#define REPORT(name, title, doc, columns)                                                \
    {#name,                                                                              \
     title,                                                                              \
     doc,                                                                                \
     sizeof((const struct {                                                              \
         enum fault_column k;                                                            \
         const char *n, *d;                                                              \
     }[]){columns}) /                                                                    \
         sizeof(struct {                                                                 \
             enum fault_column k;                                                        \
             const char *n, *d;                                                          \
         }),                                                                             \
     {columns}},
#include "inspect/fault_reports.inc"
#undef COLUMN
};

const struct fault_report *fault_report_at(unsigned i) {
    return i < FAULT_REPORTS ? &reports[i] : NULL;
}

const char *fault_zap_name(uint64_t reason) {
    static const char *const names[] = {
#define PN_ZAP(name, word) word,
#include "penumbra/reasons.inc"
    };
    return reason < sizeof(names) / sizeof(names[0]) ? names[reason] : NULL;
}

/* ---- Maps ---- */

static uint32_t place(uint64_t key, uint32_t slots) {
    return (uint32_t)(key * 0x9e3779b97f4a7c15ull >> 32) & (slots - 1);
}

static uint64_t table_key(uint64_t gfn, uint64_t level) {
    return gfn << PN_PAGE_SHIFT | (level & PN_ROLE_LEVEL);
}

/* Return: NULL: it is not there, or finds no room. */
static struct table *table_at(struct fault_reports *r, uint64_t key, bool add) {
    uint32_t at = place(key, TABLE_SLOTS);
    for (; r->table_slot[at]; at = (at + 1) & (TABLE_SLOTS - 1))
        if (r->table[r->table_slot[at] - 1].key == key)
            return &r->table[r->table_slot[at] - 1];
    if (!add)
        return NULL;
    if (r->tables == TABLES_MAX) {
        r->beyond_tables++;
        return NULL;
    }
    r->table[r->tables].key = key;
    r->table_slot[at] = ++r->tables;
    return &r->table[r->tables - 1];
}

static struct page *page_at(struct fault_reports *r, uint64_t key) {
    uint32_t at = place(key, PAGE_SLOTS);
    for (; r->page_slot[at]; at = (at + 1) & (PAGE_SLOTS - 1))
        if (r->page[r->page_slot[at] - 1].key == key)
            return &r->page[r->page_slot[at] - 1];
    if (r->pages == PAGES_MAX) {
        r->beyond_pages++;
        return NULL;
    }
    r->page[r->pages].key = key;
    r->page_slot[at] = ++r->pages;
    return &r->page[r->pages - 1];
}

/* As wide as it takes for a time to be in a part: several parts become one. */
static void widen(struct fault_reports *r, uint64_t since) {
    unsigned shift = 0;
    while (since / r->width >= PARTS) {
        r->width *= 2;
        shift++;
    }
    for (uint32_t i = 0; shift && i < r->pages; i++) {
        uint64_t now = 0;
        for (uint64_t old = r->page[i].parts; old; old &= old - 1)
            now |= 1ull << ((unsigned)__builtin_ctzll(old) >> shift);
        r->page[i].parts = now;
    }
}

/* ---- Events ---- */

static void take_zap(struct fault_reports *r, uint64_t key, uint64_t reason,
                     uint64_t time) {
    struct table *t = table_at(r, key, false);
    if (!t || !t->built)
        return;
    t->zapped++;
    t->unused += t->uses <= 1;
    t->life += time > t->made ? time - t->made : 0;
    t->reason = (uint32_t)reason;
}

static void take_outcome(struct fault_reports *r, unsigned vcpu, uint64_t outcome) {
    uint64_t *path = r->path[vcpu];
    bool mapped = outcome == PN_OUT_mapped || outcome == PN_OUT_mapped_split ||
                  outcome == PN_OUT_dirty_log || outcome == PN_OUT_tracked_table;
    for (unsigned level = 1; level < LEVELS; level++) {
        struct table *t = mapped && path[level] ? table_at(r, path[level], false) : NULL;
        if (t)
            t->uses++;
        path[level] = 0;
    }
}

static void take_page(struct fault_reports *r, uint64_t key, uint64_t time) {
    struct table *t = table_at(r, key, true);
    if (!t)
        return;
    t->built++;
    t->uses = 0;
    t->made = time;
}

bool fault_reports_asks(const struct fault_reports *r, const struct pn_event_rec *rec) {
    return rec->id < 64 && r->kind[rec->id] == EVENT_unsync_page;
}

void fault_reports_event(struct fault_reports *r, const struct pn_event_rec *rec,
                         uint64_t function) {
    enum event kind = rec->id < 64 ? r->kind[rec->id] : NONE;
    const uint8_t *at = r->field[kind];
    uint64_t a = rec->arg[at[0]], b = rec->arg[at[1]];
    bool direct = b & PN_ROLE_DIRECT;
    struct table *t;
    switch (kind) {
    case EVENT_pagetable_walk:
        memset(r->path[rec->vcpu], 0, sizeof(r->path[0]));
        break;
    case EVENT_paging_element:
        if (a && a < LEVELS)
            r->path[rec->vcpu][a] = table_key(b >> PN_PAGE_SHIFT, a);
        break;
    case EVENT_fault_outcome:
        take_outcome(r, rec->vcpu, a);
        break;
    case EVENT_get_page:
        if (rec->arg[at[2]] && !direct)
            take_page(r, table_key(a, b), rec->time);
        break;
    case EVENT_prepare_zap_page:
        if (!direct)
            take_zap(r, table_key(a, b), rec->arg[at[2]], rec->time);
        break;
    case EVENT_sync_page:
        if ((t = table_at(r, table_key(a, b), true)))
            t->syncs++;
        break;
    case EVENT_unsync_page:
        if (!(t = table_at(r, table_key(a, b), true)))
            break;
        t->first = t->unsyncs++ ? t->first : rec->time;
        t->last = rec->time;
        t->function = function;
        break;
    default:
        break;
    }
}

void fault_reports_fault(struct fault_reports *r, const struct pn_event_rec *rec,
                         uint64_t page) {
    if (page == FAULT_UNKNOWN)
        return;
    if (!r->begun) {
        r->begun = true;
        r->from = rec->time;
    }
    uint64_t since = rec->time > r->from ? rec->time - r->from : 0;
    widen(r, since);
    uint64_t space = page >> 63 ? 0 : rec->cr3 & FAULT_CR3_PAGE; /* one kernel */
    struct page *p = page_at(r, space * 0xbf58476d1ce4e5b9ull ^ page);
    if (p)
        p->parts |= 1ull << since / r->width;
}

/* ---- Rows ---- */

/* By the first two values, the most first; then by the address. */
static int most_first(const void *x, const void *y, void *columns) {
    const uint64_t *a = x, *b = y;
    for (unsigned i = 0; i < 2; i++)
        if (a[i] != b[i])
            return a[i] > b[i] ? -1 : 1;
    for (unsigned i = 2; i < *(const unsigned *)columns; i++)
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    return 0;
}

static size_t table_rows(const struct fault_reports *r, enum fault_report_id id,
                         uint64_t *v) {
    unsigned columns = reports[id].columns;
    size_t n = 0;
    for (uint32_t i = 0; i < r->tables; i++) {
        const struct table *t = &r->table[i];
        uint64_t at = t->key & ~(uint64_t)(PN_PAGE_SIZE - 1);
        const uint64_t unsync[] = {t->unsyncs, t->syncs, at,
                                   t->first,   t->last,  t->function};
        const uint64_t unused[] = {t->unused,
                                   t->built,
                                   t->zapped,
                                   at,
                                   t->key & PN_ROLE_LEVEL,
                                   t->zapped ? t->life / t->zapped : 0,
                                   t->reason};
        const uint64_t *row = id == FAULT_REPORT_unsync ? unsync : unused;
        if (row[0])
            memcpy(&v[columns * n++], row, columns * sizeof(*v));
    }
    qsort_r(v, n, columns * sizeof(*v), most_first, &columns);
    return n;
}

static size_t time_rows(const struct fault_reports *r, uint64_t *v) {
    size_t n = 0;
    for (uint32_t i = 0; i < r->pages; i++)
        for (uint64_t parts = r->page[i].parts, first = 1; parts; parts &= parts - 1) {
            unsigned part = (unsigned)__builtin_ctzll(parts);
            n = part >= n ? part + 1u : n;
            v[4 * part + 1]++;
            v[4 * part + 2] += first;
            first = 0;
        }
    for (size_t part = 0, total = 0; part < n; part++) {
        v[4 * part] = r->from + part * r->width;
        v[4 * part + 3] = total += v[4 * part + 2];
    }
    return n;
}

int fault_reports_rows(const struct fault_reports *r, enum fault_report_id id,
                       uint64_t **values, size_t *rows, uint64_t *beyond) {
    bool times = id == FAULT_REPORT_working_set;
    size_t most = times ? PARTS : (size_t)r->tables + 1;
    *values = calloc(most * reports[id].columns, sizeof(**values));
    if (!*values)
        return -ENOMEM;
    *rows = times ? time_rows(r, *values) : table_rows(r, id, *values);
    *beyond = times ? r->beyond_pages : r->beyond_tables;
    return 0;
}

/* ---- Life ---- */

struct fault_reports *fault_reports_create(void) {
    struct fault_reports *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->width = 1;
    r->table = calloc(TABLES_MAX, sizeof(*r->table));
    r->table_slot = calloc(TABLE_SLOTS, sizeof(*r->table_slot));
    r->page = calloc(PAGES_MAX, sizeof(*r->page));
    r->page_slot = calloc(PAGE_SLOTS, sizeof(*r->page_slot));
    if (r->table && r->table_slot && r->page && r->page_slot)
        return r;
    fault_reports_destroy(r);
    return NULL;
}

void fault_reports_destroy(struct fault_reports *r) {
    if (!r)
        return;
    free(r->table);
    free(r->table_slot);
    free(r->page);
    free(r->page_slot);
    free(r);
}

void fault_reports_file(struct fault_reports *r, const struct trace_file *file) {
    static const struct {
        const char *name;
        unsigned fields;
        const char *field[3];
    } wanted[KINDS] = {
#define FIELD(name)         #name,
#define COUNT(...)          (sizeof((const char *[]){__VA_ARGS__}) / sizeof(const char *))
#define EVENT(name, fields) [EVENT_##name] = {#name, COUNT(fields), {fields}},
        EVENTS
#undef EVENT
    };
    memset(r->kind, 0, sizeof(r->kind));
    for (unsigned k = NONE + 1; k < KINDS; k++) {
        unsigned at[3] = {0};
        int id = faults_find(file, wanted[k].name, wanted[k].field,
                             (unsigned *[]){&at[0], &at[1], &at[2]}, wanted[k].fields);
        if (id < 0 || id > 63)
            continue;
        r->kind[id] = (uint8_t)k;
        for (unsigned i = 0; i < 3; i++)
            r->field[k][i] = (uint8_t)at[i];
    }
}
