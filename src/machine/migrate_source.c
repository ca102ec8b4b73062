/* SPDX-License-Identifier: MIT */
/*
 * The thread of a migration that talks to the destination.
 *
 *     connect, HELLO -> all pages -> what was written, round by round -> the guest stands:
 *     the last pages, STATE, END -> READY -> GO -> RUNNING
 *
 * Invariants
 * 1. Until GO is written the guest is the source's, whatever happens. From then on it goes on
 *    here only where the destination refuses it. Where RUNNING does not come instead, nobody knows
 *    (MIGRATE_UNSURE): that the connection has ended says nothing of what was written into its
 *    other end, for whoever is in between may have lost it.
 * 2. A round has been written to its streams before the next harvest is asked for.
 */
#include "machine/migrate_source.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"

#define ROUNDS_MAX     30u
#define SLOW_ROUNDS    2u /* that do not converge, until something is done about it */
#define THROTTLE_FIRST 30u
#define THROTTLE_STEP  20u
#define THROTTLE_MAX   90u

static void set_phase(struct migration *g, enum migrate_phase phase) {
    pthread_mutex_lock(&g->lock);
    g->p.phase = phase;
    pthread_mutex_unlock(&g->lock);
}

/* ---- Hello ---- */

static int greet(struct migration *g, struct err *e) {
    struct wire *w;
    const uint8_t *data;
    size_t size = 0;
    int rc = wire_connect(&g->group, g->to, g->tls, &w, e);
    if (rc)
        return rc;
    migrate_stream_open(&g->control, w, g->to);
    rc = migrate_put(&g->control, MIGRATE_HELLO, g->hello, strlen(g->hello), e);
    if (rc == 0)
        rc = migrate_expect(&g->control, MIGRATE_HELLO, &data, &size, e);
    if (rc)
        return rc;
    json_t *j = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
    const char *schema = json_string_value(json_object_get(j, "schema"));
    if (!schema || strcmp(schema, MIGRATE_SCHEMA) != 0)
        rc = err_set(e, -EINVAL, "%s: it speaks %s, and not %s", g->to,
                     schema ? schema : "something else", MIGRATE_SCHEMA);
    else if (!snap_hex(j, "session", &g->session[1]))
        rc = err_set(e, -EBADMSG, "%s: its hello has no session", g->to);
    json_decref(j);
    g->control.key = migrate_key(g->session[0], g->session[1], 0);
    return rc ? rc : migrate_sending_open(&g->sending, g->to, g->tls, g->session, e);
}

/* ---- Pre-copy ---- */

static int send_round(struct migration *g, struct err *e) {
    pthread_mutex_lock(&g->lock);
    g->p.rounds++;
    pthread_mutex_unlock(&g->lock);
    migrate_sending_begin(&g->sending);
    return migrate_sending_wait(&g->sending, e);
}

/* What a round is followed by. */
enum next { NEXT_ROUND, NEXT_LAST, NEXT_POSTCOPY, NEXT_GIVE_UP };

/* dirty: pages, after a round that sent `sent` in ns; slow: rounds so far that did not make
 * them fewer. */
static enum next decide(struct migration *g, uint64_t dirty, uint64_t sent, uint64_t ns,
                        unsigned *slow) {
    double expected = sent ? (double)ns / (double)sent * (double)dirty : 0;
    if (!dirty || expected <= (double)g->o.downtime_ns)
        return NEXT_LAST;
    *slow = (double)dirty > 0.7 * (double)sent ? *slow + 1 : 0;
    if (g->o.postcopy && !g->o.throttle)
        return NEXT_POSTCOPY;
    if (*slow < SLOW_ROUNDS && g->p.rounds < ROUNDS_MAX)
        return NEXT_ROUND;
    if (g->o.throttle && g->p.throttle < THROTTLE_MAX) {
        unsigned t = g->p.throttle ? g->p.throttle + THROTTLE_STEP : THROTTLE_FIRST;
        pthread_mutex_lock(&g->lock);
        g->p.throttle = t < THROTTLE_MAX ? t : THROTTLE_MAX;
        pthread_mutex_unlock(&g->lock);
        *slow = 0;
        return NEXT_ROUND;
    }
    if (g->o.postcopy)
        return NEXT_POSTCOPY;
    return g->p.rounds < ROUNDS_MAX ? NEXT_ROUND : NEXT_GIVE_UP;
}

static int give_up(struct migration *g, uint64_t dirty, struct err *e) {
    return err_set(e, -EAGAIN,
                   "the guest writes faster than its memory is sent: %" PRIu64
                   " pages are left after %u rounds; a longer downtime, throttle or "
                   "post-copy would do",
                   dirty, g->p.rounds);
}

static uint64_t left_out(struct migration *g) {
    pthread_mutex_lock(&g->lock);
    uint64_t n = g->p.free;
    pthread_mutex_unlock(&g->lock);
    return n;
}

/* Rounds until the guest is to stand. *postcopy: without the rest of its memory. */
static int copy(struct migration *g, bool *postcopy, struct err *e) {
    struct migrate_sending *s = &g->sending;
    unsigned slow = 0;
    uint64_t sent = s->pages.ram;
    while (g->base || g->log) {
        uint64_t start = host_ns(), before = left_out(g);
        int rc = send_round(g, e);
        sent -= left_out(g) - before;
        uint64_t ns = host_ns() - start;
        if (rc == 0)
            rc = migrate_ask(g, WANT_DIRTY, e);
        if (rc)
            return rc;
        uint64_t dirty = migrate_sending_left(s);
        pthread_mutex_lock(&g->lock);
        g->p.dirty = dirty;
        pthread_mutex_unlock(&g->lock);
        enum next next = decide(g, dirty, sent, ns, &slow);
        sent = dirty;
        *postcopy = next == NEXT_POSTCOPY;
        if (next == NEXT_GIVE_UP)
            return give_up(g, dirty, e);
        if (next != NEXT_ROUND)
            break;
    }
    return 0;
}

/* ---- Stopped ---- */

/* Is what was sent what memory holds? */
static int check(struct migration *g, struct err *e) {
    uint64_t page = migrate_pages_check(&g->sending.pages, g->sending.free);
    return page == g->sending.pages.all
               ? 0
               : err_set(e, -EIO,
                         "page %" PRIu64 " has changed, and was in no harvest of the "
                         "dirty log: the guest is not given up",
                         page);
}

static int send_digest(struct migration *g, struct err *e) {
    uint64_t digest = migrate_pages_digest(&g->sending.pages);
    return migrate_put(&g->control, MIGRATE_END, &digest, sizeof(digest), e);
}

static int send_missing(struct migration *g, struct err *e) {
    int rc = migrate_sending_last(&g->sending, e);
    g->sending.every = true;
    return rc ? rc
              : migrate_put(&g->control, MIGRATE_MISSING, g->sending.todo,
                            migrate_words(&g->sending.pages) * sizeof(uint64_t), e);
}

/* ---- Pages that are needed over there ---- */

struct needs {
    struct migration *g;
    struct migrate_packer packer;
    int rc;
    char line[256];
};

/* One page that the guest over there waits for. */
static int serve_need(struct needs *n, const uint8_t *data, size_t size, struct err *e) {
    struct migration *g = n->g;
    uint64_t page;
    if (size == sizeof(page))
        memcpy(&page, data, sizeof(page));
    if (size != sizeof(page) || page >= g->sending.pages.all)
        return err_set(e, -EBADMSG, "%s: it needs a page that there is not", g->to);
    int rc = migrate_send_now(&g->sending, &g->control, &n->packer, page, e);
    return rc == -ENOENT ? 0 : rc; /* it is on its way */
}

/* The next record is that one; what is needed before it comes is sent. Return: 0, or -errno with a
 * line in e. */
static int expect(struct migration *g, enum migrate_record want, bool postcopy,
                  struct err *e) {
    struct needs n = {.g = g};
    enum migrate_record type = MIGRATE_NEED;
    const uint8_t *data;
    size_t size = 0;
    if (!postcopy)
        return migrate_expect(&g->control, want, NULL, &size, e);
    int rc = migrate_packer_open(&n.packer, g->o.compression);
    while (rc == 0 && type == MIGRATE_NEED) {
        rc = migrate_get(&g->control, &type, &data, &size, e);
        if (rc == 0 && type == MIGRATE_NEED)
            rc = serve_need(&n, data, size, e);
    }
    if (rc == 0 && type != want)
        rc = err_set(e, -EBADMSG, "%s: no such record belongs here", g->to);
    migrate_packer_close(&n.packer);
    return rc;
}

static void *serve_needs(void *opaque) {
    struct needs *n = opaque;
    struct err e = {n->line, sizeof(n->line)};
    enum migrate_record type = MIGRATE_NEED;
    const uint8_t *data;
    size_t size;
    while (n->rc == 0 && type != MIGRATE_DONE) {
        n->rc = migrate_get(&n->g->control, &type, &data, &size, &e);
        if (n->rc == 0 && type == MIGRATE_NEED)
            n->rc = serve_need(n, data, size, &e);
        else if (n->rc == 0 && type != MIGRATE_DONE)
            n->rc = err_set(&e, -EBADMSG, "%s: no such record belongs here", n->g->to);
    }
    if (n->rc)
        wire_cut(&n->g->group);
    return NULL;
}

/* Up to READY: the guest is still ours. */
static int hand_over(struct migration *g, bool postcopy, struct err *e) {
    set_phase(g, MIGRATE_STOPPED);
    int rc = migrate_ask(g, WANT_LAST, e);
    if (rc == 0)
        rc = postcopy ? send_missing(g, e) : send_round(g, e);
    if (rc == 0 && g->o.verify && !postcopy)
        rc = check(g, e);
    if (rc == 0 && !postcopy)
        rc = migrate_sending_last(&g->sending, e);
    if (rc == 0)
        rc = migrate_put(&g->control, MIGRATE_STATE, g->state, g->state_size, e);
    if (rc == 0 && !postcopy)
        rc = send_digest(g, e);
    if (rc == 0)
        rc = expect(g, MIGRATE_READY, postcopy, e);
    return rc;
}

/* Give it up. Return: 0: it runs over there; or -errno, and *given: perhaps it does (invariant 1). */
static int give_away(struct migration *g, bool postcopy, bool *given, struct err *e) {
    pthread_mutex_lock(&g->lock);
    bool stop = g->stop;
    if (!stop)
        g->p.phase = MIGRATE_FOLLOWS; /* from here it cannot be cancelled */
    pthread_mutex_unlock(&g->lock);
    if (stop)
        return err_set(e, -ECANCELED, "cancelled");
    int rc = migrate_put(&g->control, MIGRATE_GO, NULL, 0, e);
    if (rc == 0) {
        rc = expect(g, MIGRATE_RUNNING, postcopy, e);
        *given = rc != -EREMOTEIO;
    }
    if (rc == 0) {
        pthread_mutex_lock(&g->lock);
        g->p.downtime_ns = host_ns() - g->stood;
        pthread_mutex_unlock(&g->lock);
    }
    return rc;
}

/* ---- Post-copy ---- */

/* All that is missing over there, and what is needed first. */
static int follow(struct migration *g, struct err *e) {
    struct needs n = {.g = g};
    pthread_t thread;
    int rc = migrate_packer_open(&n.packer, g->o.compression);
    if (rc == 0)
        rc = thread_start(&thread, serve_needs, &n);
    if (rc) {
        migrate_packer_close(&n.packer);
        return err_sys(e, rc, "post-copy");
    }
    rc = send_round(g, e);
    if (rc == 0)
        rc = migrate_sending_last(&g->sending, e);
    if (rc == 0)
        rc = send_digest(g, e);
    if (rc)
        wire_cut(&g->group);
    pthread_join(thread, NULL);
    migrate_packer_close(&n.packer);
    if (n.rc == 0) /* the destination has all that it needs */
        return 0;
    return n.rc != -ECANCELED ? err_set(e, n.rc, "%s", n.line) : rc;
}

/* ---- All of it ---- */

/* Return: what became of it, with a line in e where it did not go as it should. */
static enum migrate_phase run(struct migration *g, struct err *e) {
    bool postcopy = false, given = false;
    int rc = greet(g, e);
    if (rc == 0) {
        set_phase(g, MIGRATE_COPIES);
        rc = copy(g, &postcopy, e);
    }
    if (rc == 0)
        rc = hand_over(g, postcopy, e);
    if (rc) {
        if (g->control.peer && rc != -EREMOTEIO && rc != -ECANCELED)
            migrate_refuse(&g->control, e->text);
        return MIGRATE_FAILED;
    }
    rc = give_away(g, postcopy, &given, e);
    if (rc)
        return given ? MIGRATE_UNSURE : MIGRATE_FAILED;
    rc = postcopy ? follow(g, e) : 0;
    return rc ? MIGRATE_UNSURE : MIGRATE_MOVED;
}

void *migrate_source(void *opaque) {
    struct migration *g = opaque;
    char line[sizeof(g->p.line)] = "";
    struct err e = {line, sizeof(line)};
    enum migrate_phase phase = run(g, &e);
    wire_cut(&g->group);
    migrate_sending_close(&g->sending);
    migrate_stream_close(&g->control);
    pthread_mutex_lock(&g->lock);
    g->p.phase = phase;
    g->p.throttle = 0;
    g->p.total_ns = host_ns() - g->began;
    memcpy(g->p.line, line, sizeof(line));
    g->over = true;
    pthread_mutex_unlock(&g->lock);
    migrate_let_go(g);
    return NULL;
}
