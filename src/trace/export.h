/* SPDX-License-Identifier: MIT */
/*
 * A trace's events for other programs, each format a struct export_format:
 *
 *   ctf       a folder in the Common Trace Format 1.8: babeltrace2, Trace Compass
 *   ctf2      the same in CTF 2: babeltrace2 from 2.1 on
 *   ftrace    the text of Linux's /sys/kernel/tracing/trace
 *   tracecmd  trace.dat: trace-cmd, KernelShark
 *   perfetto  JSON in Chrome's trace event format: Perfetto, chrome://tracing
 *
 * Every event is in each of them, with all fields as `penumbra trace` prints them. Memory
 * does not grow with the number of events. No locks: one thread.
 *
 * Readers want time to go forward on a vCPU, and below 2^63. An event for which it does not
 * gets the time of the one before it, and is counted as `moved`. An event of a vCPU that the
 * trace does not have is left out, and counted as `left_out`. No trace that penumbra wrote
 * has either.
 */
#pragma once

#include "trace/trace.h"

struct export;
struct export_format {
    const char *name, *doc;
    bool folder; /* the output is one */
    /* Each returns 0 or -errno. */
    int (*begin)(struct export *x, const char *path);
    int (*add)(struct export *x, const struct pn_event_rec *rec);
    int (*end)(struct export *x); /* nothing is in its place before it */
    void (*abandon)(struct export *x);
};

/* Format i; NULL beyond the last. */
const struct export_format *export_format(unsigned i);

struct export_result {
    uint64_t events, moved, left_out;
};

/* Begin. path "-": standard output, unless the format is a folder. A folder may be there
 * only when it is empty; any other file is replaced in the end (base/outfile.h).
 * Return: 0, or -errno with one line in err: -EBADMSG: the trace has names of events that
 * no other program takes; -EEXIST: a folder is there, with something in it. */
int export_begin(const struct export_format *how, const struct trace_file *f,
                 const char *path, struct export **out, char *err, size_t err_size);
/* Return: 0 or -errno: the output cannot be written. */
int export_add(struct export *x, const struct pn_event_rec *rec);
/* Finish, give the output its name, and free x. Return: 0 or -errno. */
int export_end(struct export *x, struct export_result *result);
/* Remove what was written, and free x. NULL: nothing. */
void export_abandon(struct export *x);
