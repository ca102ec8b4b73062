/* SPDX-License-Identifier: MIT */
/* The source's two parts: what the machine's own thread does (migrate.c), and the thread that
 * talks to the destination (migrate_source.c). */
#pragma once

#include "machine/migrate_send.h"

/* What the thread asks the machine's own one for. */
enum migrate_want {
    WANT_NOTHING,
    WANT_DIRTY, /* what was written since the last time, into sending.todo */
    WANT_LAST   /* the same, and the state; then the machine stands on */
};

struct migration {
    struct machine *m;
    struct migrate_options o;
    char *to, *tls_dir;
    char *hello;         /* its text but for the session */
    uint64_t session[2]; /* the source's number, the destination's */
    struct wire_group group;
    struct wire_tls *tls;
    struct migrate_stream control;
    struct migrate_sending sending;
    pthread_t thread;
    bool started;
    int event; /* an eventfd: something is asked for */

    /* The machine's own thread alone: */
    struct machine_base *base; /* what was written, by the run's dirty log */
    struct pn_dirty_log *log;  /* or by one that the host keeps for us; NULL: by nobody */
    struct pn_dirty_consumer *since;
    bool harvested, told;
    bool hints;                   /* the guest is asked which pages are free */
    uint64_t slow_at, slow_until; /* throttle: when it stands next; how long it does */

    /* Both, under the lock: */
    pthread_mutex_t lock;
    pthread_cond_t change;
    enum migrate_want want;
    int want_rc;
    char want_line[256];
    uint8_t *state; /* WANT_LAST */
    size_t state_size;
    bool holds, stop; /* the machine stands for it; it is to end */
    bool over;        /* the thread has ended, p.phase says how */
    uint64_t began, stood;
    struct migrate_progress p;
};

/* The thread. */
void *migrate_source(void *opaque);
/* Ask the machine's own thread, and wait. Return: 0, or -errno with a line in e. */
int migrate_ask(struct migration *g, enum migrate_want want, struct err *e);
/* The machine goes on. */
void migrate_let_go(struct migration *g);
