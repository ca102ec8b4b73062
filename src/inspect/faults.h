/* SPDX-License-Identifier: MIT */
/*
 * The study of a trace's page faults: which there were, counted by what they have in
 * common.
 *
 * A fault is an event page_fault and the fault_outcome that follows it on the same vCPU,
 * about the same address. Where a trace has one of the two alone, the other's part is not
 * known. Under KVM what it did then tells the outcome (fault_kvm.h); of a kvm_tdp_fault no guest
 * virtual address is known.
 *
 * Memory is bounded: a table has FAULT_ROWS_MAX rows, and what would need one more is
 * counted as `beyond`. No locks: one thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "inspect/fault_cause.h"
#include "inspect/fault_cells.h"
#include "inspect/fault_cost.h"
#include "inspect/fault_report.h"
#include "inspect/lines.h"
#include "inspect/symbols.h"
#include "trace/trace.h"

enum fault_key {
#define FAULT_KEY(name, doc) FAULT_KEY_##name,
#include "inspect/fault_keys.inc"
    FAULT_KEYS
};
#define FAULT_BY_MAX   4u
#define FAULT_TABLES   4u
#define FAULT_ROWS_MAX (1u << 19)
#define FAULT_CR3_PAGE 0x000ffffffffff000ull /* what of CR3 is an address space */

/* What several values of a key are; all others are the key's own. */
#define FAULT_UNKNOWN UINT64_MAX       /* any key */
#define FAULT_USER    (UINT64_MAX - 1) /* function: not named, and of ring 3 */

/* The reasons of a #PF, by the error code that the guest gets. */
enum fault_reason {
    FAULT_NOT_PRESENT,
    FAULT_PROTECTION,
    FAULT_RESERVED,
    FAULT_PKEY,
    FAULT_NOT_GUEST /* not the guest's own: there is none */
};

struct fault_by {
    unsigned keys; /* 1..FAULT_BY_MAX */
    enum fault_key key[FAULT_BY_MAX];
};

struct faults;
struct faults_config {
    const struct symbols *symbols; /* NULL: none, a function is its rip */
    struct lines *lines;           /* NULL: none, a line is not known */
    uint64_t moved;            /* what is added to their addresses in a kernel's half */
    struct trace_filter where; /* its events do not matter */
    uint64_t outcomes;         /* bit per enum pn_outcome; 0: all, the unknown too */
    uint64_t causes;           /* bit per enum fault_cause; 0: all */
    bool accessed; /* events page_accessed count, with the outcome dirty_log */
    bool by_cr3, by_rip;
    const char *function;      /* "name [module]": only those of it; NULL: all */
    uint64_t cr3;              /* as the key */
    uint64_t rip_from, rip_to; /* both included */
    unsigned tables;           /* 0..FAULT_TABLES */
    struct fault_by by[FAULT_TABLES];
    struct fault_cells *cells;            /* NULL: none are asked for */
    const struct pn_cost_profile *prices; /* NULL: rows have no refs and cycles */
    bool reports; /* fault_report.h; no filter matters to those of tables */
    /* Called with each fault that passes; rec: where the guest was. NULL: nobody is told. */
    void (*each)(void *opaque, const struct faults *f, const struct pn_event_rec *rec,
                 const uint64_t key[FAULT_KEYS]);
    void *opaque;
};

struct fault_row {
    uint64_t key[FAULT_BY_MAX];
    uint64_t count, own;  /* own: of count, the guest's own */
    uint64_t first, last; /* times */
    uint64_t refs;        /* to entries of the guest's tables, in the faults' walks */
    double cycles;        /* modelled */
};

struct fault_table {
    struct fault_by by;
    const struct fault_row *row; /* most faults first, then by key */
    size_t rows;
    uint64_t beyond; /* faults that no row counts */
};

struct fault_totals {
    uint64_t faults;
    uint64_t own, untold; /* of faults: the guest's own; whose outcome is not known */
    uint64_t from, to; /* time of the first event in the filter's time and of the last */
    bool any;          /* there is an event, and from and to are known */
};

/* Return: NULL: out of memory. */
struct faults *faults_create(const struct faults_config *cfg);
void faults_destroy(struct faults *f);
/* The next records of the file, in their order. Return: 0, or -ENOMEM. */
int faults_add(struct faults *f, const struct trace_file *file,
               const struct pn_event_rec *rec, size_t n);
/* Put the tables in order, so that the results so far may be asked for; then records may follow. A fault
 * whose outcome has not come is not in them. */
void faults_sort(struct faults *f);
/* No more records. Return: 0, or -ENOMEM. Then the results may be asked for. */
int faults_finish(struct faults *f);
const struct fault_totals *faults_totals(const struct faults *f);
struct fault_table faults_table(const struct faults *f, unsigned i);

const struct fault_reports *faults_reports(const struct faults *f); /* or NULL */

/* Which events of faults was the trace recorded without? */
#define FAULTS_LACKS_FAULT   1u
#define FAULTS_LACKS_OUTCOME 2u
unsigned faults_lacks(const struct trace_file *file);
/* Can the trace tell this key? A process and a region are told by events of their own; a cause
 * wholly by all events that say what happens to tables. */
bool faults_tells(const struct trace_file *file, enum fault_key key);
/* The kernel's half is what KASLR moves. */
bool faults_moves(uint64_t address);
const char *fault_key_name(enum fault_key key);
const char *fault_key_doc(enum fault_key key);
/* Name of an outcome; NULL: there is none of that number. */
const char *fault_outcome_name(uint64_t outcome);
const char *fault_outcome_doc(uint64_t outcome);
/* A value in words, at most size bytes; what is not known is "?". */
void fault_key_text(const struct faults *f, enum fault_key key, uint64_t value, char *buf,
                    size_t size);
