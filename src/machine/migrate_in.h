/* SPDX-License-Identifier: MIT */
/* The destination's parts: memory that comes (migrate_in.c), and memory that the guest runs
 * without (migrate_postcopy.c). */
#pragma once

#include <stdatomic.h>

#include "machine/migrate_internal.h"

struct migrate_postcopy;

/* A data stream and the thread that reads it. */
struct migrate_receiver {
    struct migrate_in *in;
    unsigned number;
    struct migrate_stream stream;
    struct migrate_unpacker unpacker;
    pthread_t thread;
    bool started;
};

struct migrate_in {
    struct migrate_in_options o;
    struct wire_door *door;
    struct wire_tls *tls;
    struct wire_group group;
    struct migrate_stream control;
    json_t *hello;
    uint64_t session[2];
    unsigned streams;
    struct migrate_receiver receiver[MIGRATE_STREAMS_MAX];
    struct migrate_pages pages;
    struct snap_received received;
    struct snapshot *snapshot;         /* NULL: not yet */
    struct migrate_postcopy *postcopy; /* NULL: all comes before the guest runs */
    atomic_bool run;                   /* it does */
    pthread_mutex_t lock;
    int rc; /* of the first receiver that failed */
    char line[256];
};

/* Pages of a data stream, up to LAST. Any bytes are safe. Return: 0, or -errno with a line in
 * e. */
int migrate_receive_pages(struct migrate_receiver *r, struct err *e);
/* A page has come. data NULL: zeros. Return: 0 or -errno. */
int migrate_in_page(struct migrate_in *in, uint64_t page, const uint8_t *data);

/* ---- migrate_postcopy.c ---- */

/* Can this host? kernel: will a hypervisor touch guest memory, too? Return: 0, or -ENOTSUP
 * with a line in e. */
int migrate_postcopy_open(struct migrate_in *in, bool kernel, struct err *e);
/* These pages are yet to come: MISSING. Whoever touches them waits from now on. Return: 0, or
 * -errno with a line in e. */
int migrate_postcopy_begin(struct migrate_in *in, const uint8_t *missing, size_t size,
                           struct err *e);
bool migrate_postcopy_runs(const struct migrate_postcopy *p);
/* A page that was missing. Return: 0, or -EBADMSG: it was not. */
int migrate_postcopy_put(struct migrate_in *in, uint64_t page, const uint8_t *data);
/* The guest runs: the rest comes by a thread of its own. */
int migrate_postcopy_run(struct migrate_in *in, struct err *e);
void migrate_postcopy_finish(struct migrate_postcopy *p);
void migrate_postcopy_close(struct migrate_in *in);
/* migrate_in.c: wait for the data streams' LAST. Return: 0, or -errno with a line in e. */
int migrate_in_wait(struct migrate_in *in, struct err *e);
/* migrate_in.c: END: what came is what was sent. */
int migrate_in_check(struct migrate_in *in, uint64_t digest, struct err *e);
