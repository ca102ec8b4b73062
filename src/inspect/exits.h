/* SPDX-License-Identifier: MIT */
/*
 * The exits of a trace, counted and timed as `perf kvm stat report` does (Linux,
 * tools/perf/builtin-kvm.c and arch/x86/util/kvm-stat.c), and the counters of kvm_stat that
 * its events add up to.
 *
 * Under KVM an exit lasts from kvm_exit to kvm_entry; an access to a port or an MSR from its
 * event to the kvm_entry; a write to a device the same, a read of one from kvm_exit to its
 * event. One whose beginning or end is not recorded is left out.
 *
 * shadow and tdp have no processor that exits: the events at which a hypervisor's would
 * (exits.inc) are counted, with Intel's names. Guest time stands still while the MMU or a
 * device works, so all of them take 0 but HLT.
 *
 * Memory is bounded: what would need one more than EXITS_ROWS_MAX rows is counted as
 * `beyond`. No locks: one thread.
 */
#pragma once

#include "trace/trace.h"

enum exits_kind { EXITS_VMEXIT, EXITS_MMIO, EXITS_IOPORT, EXITS_MSR, EXITS_KINDS };
#define EXITS_ROWS_MAX 16384u

struct exits_row {
    uint64_t key, info;               /* exits_text says what they are */
    uint64_t samples, time, min, max; /* times in ns */
    double mean, squares;             /* squares: sum of the squared distances from it */
};

struct exits_totals {
    uint64_t samples, time; /* of all rows */
    uint64_t beyond;        /* samples that no row counts */
};

struct exits;
/* where: its vCPU and times count alone. Return: NULL: out of memory. */
struct exits *exits_create(enum exits_kind kind, const struct trace_filter *where,
                           const struct trace_file *f);
void exits_destroy(struct exits *x); /* NULL: nothing */
/* The next records of the file. */
void exits_add(struct exits *x, const struct pn_event_rec *rec, size_t n);
/* No more records: sort the rows, most samples first, or the longest mean first. */
void exits_finish(struct exits *x, bool by_time);
const struct exits_totals *exits_totals(const struct exits *x);
/* Are there rows that are exits under shadow alone, while nothing in the trace can tell
 * shadow from tdp? */
bool exits_unsure(const struct exits *x);
/* Return: row i; NULL beyond the last. */
const struct exits_row *exits_row(const struct exits *x, size_t i);
/* How far the mean may be off: the standard deviation of the mean in percent of it. */
double exits_deviation(const struct exits_row *row);
/* perf's name of a row, and of a kind: for its option, and over the column. */
void exits_text(const struct exits *x, const struct exits_row *row, char *buf,
                size_t size);
const char *exits_kind_name(enum exits_kind kind);
const char *exits_kind_title(enum exits_kind kind);

/* Counter i of kvm_stat's and of penumbra's --stats, with its value.
 * Return: NULL: there are no more. */
const char *exits_counter(const struct exits *x, unsigned i, uint64_t *value);
