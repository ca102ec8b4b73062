/* SPDX-License-Identifier: MIT */
/*
 * Reports beside the tables that count faults (fault_reports.inc), out of the same records. Memory
 * is bounded: tables and pages that find no room are counted as `beyond`. No locks: one thread.
 */
#pragma once

#include <stddef.h>

#include "trace/trace.h"

enum fault_report_id {
#define REPORT(name, title, doc, columns) FAULT_REPORT_##name,
#include "inspect/fault_reports.inc"
    FAULT_REPORTS
};
#define FAULT_REPORT_COLUMNS 8u

enum fault_column {
    FAULT_COLUMN_COUNT,
    FAULT_COLUMN_HEX,
    FAULT_COLUMN_FUNCTION, /* as FAULT_KEY_function */
    FAULT_COLUMN_ZAP       /* enum fault_zap */
};

struct fault_report {
    const char *name, *title, *doc;
    unsigned columns;
    struct {
        enum fault_column kind;
        const char *name, *doc;
    } column[FAULT_REPORT_COLUMNS];
};
const struct fault_report *fault_report_at(unsigned i); /* NULL: i is not one */
const char *fault_zap_name(uint64_t reason);            /* or NULL */

struct fault_reports;
/* Return: NULL: out of memory. */
struct fault_reports *fault_reports_create(void);
void fault_reports_destroy(struct fault_reports *r); /* NULL: nothing */
/* The records that follow are of this file. */
void fault_reports_file(struct fault_reports *r, const struct trace_file *file);
/* The next record. function: of its instruction, as FAULT_KEY_function; asked for in
 * unsync_page alone. Its vCPU is below TRACE_VCPUS_MAX. */
bool fault_reports_asks(const struct fault_reports *r, const struct pn_event_rec *rec);
void fault_reports_event(struct fault_reports *r, const struct pn_event_rec *rec,
                         uint64_t function);
/* A fault that passes the filters. */
void fault_reports_fault(struct fault_reports *r, const struct pn_event_rec *rec,
                         uint64_t page);

/* The rows of a report, in order, as values of its columns one after another; free() them.
 * Return: 0, or -ENOMEM. */
int fault_reports_rows(const struct fault_reports *r, enum fault_report_id id,
                       uint64_t **values, size_t *rows, uint64_t *beyond);
