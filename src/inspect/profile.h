/* SPDX-License-Identifier: MIT */
/*
 * A profile of a run: a timer of the host's interrupts the thread that runs the guest, and where
 * guest and engine are then is written down. Nothing of the guest's depends on it: instructions,
 * counters and events are those of a run without.
 *
 * Samples are of host time, also while the guest idles. A tick that finds the thread not running,
 * for others have its CPU, gives none; profile_counts has the number of these.
 */
#pragma once

#include <stdio.h>

#include "base/err.h"
#include "inspect/guest_names.h"
#include "machine/machine.h"

#define PROFILE_RATE 997u /* samples per second: no multiple of a guest's timer */

struct profile_config {
    struct machine *machine; /* its engine has `where` */
    const char *kernel;      /* as for guest_names_create */
    const void *blob;
    size_t blob_size;
    unsigned rate; /* samples per second */
};

struct profile;
/* Return: 0 or -errno, with a line in e. */
int profile_create(const struct profile_config *cfg, struct profile **out, struct err *e);
void profile_destroy(struct profile *p); /* NULL: nothing; before the machine */
/* From now on, on this thread, which is to call machine_go; and no more. Return: 0 or -errno, with a
 * line in e. */
int profile_begin(struct profile *p, struct err *e);
void profile_end(struct profile *p);

struct profile_counts {
    uint64_t samples, part[PN_PARTS]; /* by enum pn_part */
    uint64_t missed;                  /* ticks without a sample */
    uint64_t lost;                    /* samples that found no room */
};
/* After profile_end. */
void profile_count(const struct profile *p, struct profile_counts *c);
const char *profile_part(unsigned part);

/* Samples that are alike. */
struct profile_row {
    uint32_t process, function, part; /* numbers of names */
    uint32_t pid;                     /* 0: not known, or the kernel's own */
    uint64_t count;
};
struct profile_rows {
    char **name;
    size_t names;
    struct profile_row *row; /* those that differ by pid alone stand together */
    size_t rows;
    uint64_t period_ns, begin_ns, took_ns; /* between samples; since 1970; long */
};
/* Name all that was sampled, while the machine is there. Return: 0 or -ENOMEM. */
int profile_name(struct profile *p);
const struct profile_rows *profile_rows(const struct profile *p); /* after profile_name */

/* Into an open file: lines "process;function;part count", which tools for flame graphs take;
 * or gzip of pprof's profile.proto (profile_out.c). Return: 0 or -errno. */
int profile_write_folded(const struct profile_rows *r, int fd);
int profile_write_pprof(const struct profile_rows *r, int fd);

/* What translated blocks are of, into an open file, as perf looks for it in /tmp/perf-PID.map:
 * lines "address size name". While the machine is there, and stands. */
int perf_map_write(struct machine *m, struct guest_names *n, int fd);
