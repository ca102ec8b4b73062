/* SPDX-License-Identifier: MIT */
/*
 * Who keeps a machine's history (history.h): checkpoints taken while it runs, and which of them
 * is to run to where.
 *
 * Invariants
 * 1. Checkpoints are in order of their places, and never run: copies of them do.
 * 2. The machine has not run since any process in the past but the checkpoints was made.
 */
#include "machine/history_internal.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_MS 50

/* Instructions from a station to where it was made for: a step back from there to about as far
 * needs no more. */
#define NEAR 200000u
/* A step back looks for its beginning so far behind, then so many times that. */
#define STEP_REACH_GROWS 64u

static const struct past none = {.fd = -1};

/* ---- Processes ---- */

/* It ends of itself; it takes some milliseconds to give its memory back. */
static void past_close(struct past *p) {
    if (p->fd >= 0)
        close(p->fd);
    *p = none;
}

/* Those that have ended; all: wait for them. */
static void reap(struct machine_history *h, bool all) {
    for (unsigned i = h->closed; i-- > 0;)
        if (waitpid(h->closed_pid[i], NULL, all ? 0 : WNOHANG))
            h->closed_pid[i] = h->closed_pid[--h->closed];
}

static void close_checkpoint(struct machine_history *h, unsigned i) {
    reap(h, h->closed == MACHINE_CHECKPOINTS_MAX);
    h->closed_pid[h->closed++] = h->checkpoint[i].pid;
    past_close(&h->checkpoint[i]);
    memmove(&h->checkpoint[i], &h->checkpoint[i + 1],
            (--h->count - i) * sizeof(h->checkpoint[0]));
}

static int gone(struct err *e) {
    return err_set(e, -EPIPE, "a process in the guest's past has ended: out of memory?");
}

static int order(struct machine *m, struct past *p, struct past_order *o,
                 const void *question, int fd, struct err *e) {
    const struct input_log *l = &m->history->log;
    o->inputs = l->size - p->inputs;
    int rc = past_send(p->fd, o, sizeof(*o), fd);
    if (rc == 0)
        rc = past_send(p->fd, l->data + p->inputs, o->inputs, -1);
    if (rc == 0)
        rc = past_send(p->fd, question, o->size, -1);
    p->inputs = l->size;
    return rc ? gone(e) : 0;
}

/* Until it answers. Return: 0; -ECANCELED: somebody does not want it any more; -errno. */
static int await(struct machine *m, const struct past *p, struct past_report *r,
                 struct err *e) {
    const struct machine_history_config *cfg = &m->history->cfg;
    struct pollfd wait = {.fd = p->fd, .events = POLLIN};
    do
        if (cfg->cancelled && cfg->cancelled(cfg->opaque))
            return -ECANCELED;
    while (poll(&wait, 1, LOOK_MS) <= 0);
    if (past_receive(p->fd, r, sizeof(*r), NULL))
        return gone(e);
    return r->error ? err_set(e, r->error, "%s", *r->line ? r->line : strerror(-r->error))
                    : 0;
}

/* p is let do it, and answers. */
static int let(struct machine *m, struct past *p, struct past_order *o,
               struct past_report *r, struct err *e) {
    int rc = order(m, p, o, NULL, -1, e);
    if (rc == 0)
        rc = await(m, p, r, e);
    p->place = rc ? p->place : r->place;
    return rc;
}

/* A copy of one that stands. */
static int copy(struct machine *m, struct past *of, struct past *out, struct err *e) {
    struct past_order o = {.what = PAST_COPY};
    struct past_report r;
    int fd[2];
    *out = none;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd))
        return err_sys(e, -errno, "a process in the guest's past");
    int rc = order(m, of, &o, NULL, fd[1], e);
    close(fd[1]);
    *out = (struct past){.fd = fd[0], .inputs = of->inputs, .place = of->place};
    if (rc == 0)
        rc = await(m, out, &r, e);
    if (rc)
        past_close(out);
    return rc;
}

static int go_to(struct machine *m, struct past *p, struct machine_place to,
                 struct err *e) {
    struct past_order o = {.what = PAST_GO, .step = -1, .until = to};
    struct past_report r;
    return machine_place_before(p->place, to) ? let(m, p, &o, &r, e) : 0;
}

/* ---- Checkpoints ---- */

bool machine_history_due(const struct machine *m) {
    const struct machine_history *h = m->history;
    return !h->past && machine_insns((struct machine *)(uintptr_t)m) >= h->next_at;
}

static void thin_out(struct machine_history *h) {
    for (unsigned i = 1; i < h->count; i++)
        close_checkpoint(h, i);
    h->distance *= 2;
}

/* A host that has no room for one more has none for this one. */
void machine_history_take(struct machine *m) {
    struct machine_history *h = m->history;
    struct past p = {.place = machine_place(m), .inputs = h->log.size};
    int fd[2];
    if (h->count == h->cfg.most)
        thin_out(h);
    h->next_at = p.place.insns + h->distance;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd))
        return;
    p.fd = fd[0];
    p.pid = fork();
    if (p.pid == 0)
        past_live(m, fd[1], false);
    close(fd[1]);
    if (p.pid > 0)
        h->checkpoint[h->count++] = p;
    else
        close(fd[0]);
}

void machine_history_restart(struct machine *m) {
    struct machine_history *h = m->history;
    if (!h || h->past)
        return;
    while (h->count)
        close_checkpoint(h, h->count - 1);
    past_close(&h->station);
    h->log.size = 0;
    h->next_at = 0;
    h->distance = h->cfg.distance;
}

/* ---- Input ---- */

void history_note(struct machine *m, const struct input_head *head, const void *bytes) {
    struct machine_history *h = m->history;
    struct input_log *l = &h->log;
    size_t need = l->size + sizeof(*head) + head->size;
    if (need > l->room) {
        size_t room = need * 2;
        uint8_t *data = room <= INPUT_MAX ? realloc(l->data, room) : NULL;
        if (!data) { /* what was typed since then cannot come again */
            machine_history_restart(m);
            return;
        }
        l->data = data;
        l->room = room;
    }
    memcpy(l->data + l->size, head, sizeof(*head));
    if (head->size)
        memcpy(l->data + l->size + sizeof(*head), bytes, head->size);
    l->size = need;
}

void machine_history_input(struct machine *m, uint64_t feed, const uint8_t *bytes,
                           size_t size) {
    const struct input_head head = {.feed = feed, .size = size};
    if (!m->history->past)
        history_note(m, &head, bytes);
}

bool machine_history_replays(const struct machine *m) {
    return m->history && m->history->past;
}

/* ---- Life ---- */

int machine_history_begin(struct machine *m, const struct machine_history_config *cfg,
                          struct err *e) {
    if (!m->ops->forked || m->cfg.host_clock || m->ram.fd >= 0 || m->cfg.recorder ||
        pn_dirty_by_host(m->cfg.dirty))
        return err_set(e, -EINVAL, "no history of such a machine can be kept");
    int rc = machine_memory_whole(m, e); /* processes of their own wait for nobody */
    if (rc)
        return rc;
    m->history = calloc(1, sizeof(*m->history));
    if (!m->history)
        return err_set(e, -ENOMEM, "out of memory");
    m->history->cfg = *cfg;
    m->history->distance = cfg->distance;
    m->history->station = m->history->shown = none;
    return 0;
}

void machine_history_end(struct machine *m) {
    struct machine_history *h = m->history;
    if (!h)
        return;
    past_close(&h->shown);
    machine_history_restart(m);
    reap(h, true);
    free(h->log.data);
    free(h);
    m->history = NULL;
}

bool machine_history_kept(const struct machine *m) {
    return m->history != NULL;
}

/* ---- Going ---- */

bool machine_in_past(const struct machine *m) {
    return m->history && m->history->shown.fd >= 0;
}

struct machine_place machine_place_shown(struct machine *m) {
    return machine_in_past(m) ? m->history->shown.place : machine_place(m);
}

void machine_leave_past(struct machine *m) {
    if (!m->history)
        return;
    past_close(&m->history->shown);
    past_close(&m->history->station);
}

/* The last process that stands at the place or before it, and is not shown. Return: NULL: there
 * is none. */
static struct past *last_before(struct machine_history *h, struct machine_place place) {
    struct past *best = NULL;
    for (unsigned i = 0; i <= h->count; i++) {
        struct past *p = i < h->count ? &h->checkpoint[i] : &h->station;
        if (p->fd >= 0 && !machine_place_before(place, p->place) &&
            (!best || machine_place_before(best->place, p->place)))
            best = p;
    }
    return best;
}

/* One at the place, or from which it is near: a new station, where all others are far. Return:
 * NULL with a line in e; -ENOENT: the history does not go back so far. */
static struct past *stand_before(struct machine *m, struct machine_place place, int *rc,
                                 struct err *e) {
    struct machine_history *h = m->history;
    struct past *from = last_before(h, place), way;
    *rc = from ? 0 : -ENOENT;
    if (!from || place.insns - from->place.insns < 2 * NEAR)
        return from;
    *rc = copy(m, from, &way, e);
    if (*rc)
        return NULL;
    *rc = go_to(m, &way, (struct machine_place){place.insns - NEAR, 0}, e);
    if (*rc) {
        past_close(&way);
        return NULL;
    }
    past_close(&h->station);
    h->station = way;
    return &h->station;
}

static int show(struct machine *m, struct machine_place place, struct err *e) {
    struct past p = none;
    int rc;
    struct past *from = stand_before(m, place, &rc, e);
    if (from)
        rc = copy(m, from, &p, e);
    if (rc == 0)
        rc = go_to(m, &p, place, e);
    if (rc) {
        past_close(&p);
        return rc == -ENOENT ? err_set(e, rc, "the history does not go back so far") : rc;
    }
    past_close(&m->history->shown);
    m->history->shown = p;
    return 0;
}

/* A copy of `of` does that, and ends. */
static int ask_copy(struct machine *m, struct past *of, struct machine_place from,
                    struct past_order *o, struct past_report *r, struct err *e) {
    struct past p;
    int rc = copy(m, of, &p, e);
    if (rc == 0)
        rc = go_to(m, &p, from, e);
    if (rc == 0)
        rc = let(m, &p, o, r, e);
    past_close(&p);
    return rc;
}

/* Where the vCPU was one step before the place; *stop: STEP, or WATCH where that step made a
 * watched access. Return: 0; -ENOENT: in no history; -errno. */
static int step_before(struct machine *m, struct machine_place place, unsigned cpu,
                       struct machine_place *out, struct machine_stop *stop,
                       struct err *e) {
    struct past_order o = {.what = PAST_BEFORE, .step = (int)cpu, .until = place};
    struct past_report r = {0};
    o.debug = m->debug.wanted;
    o.debug.break_count = 0;
    struct machine_history *h = m->history;
    bool whole = false;
    int rc = 0;
    if (!h->count || !machine_place_before(h->checkpoint[0].place, place))
        return -ENOENT;
    for (uint64_t reach = 1; rc == 0 && !r.found; reach *= STEP_REACH_GROWS) {
        struct machine_place back = {place.insns - reach, 0};
        if (whole) /* the vCPU has done nothing in all of the history */
            return -ENOENT;
        whole = place.insns < reach || machine_place_before(back, h->checkpoint[0].place);
        back = whole ? h->checkpoint[0].place : back;
        struct past *from = stand_before(m, back, &rc, e);
        rc = from ? ask_copy(m, from, back, &o, &r, e) : rc;
    }
    *out = r.last;
    *stop = r.stop;
    return rc;
}

static int cancelled(struct machine *m, int rc, struct machine_stop *stop) {
    if (rc != -ECANCELED)
        return rc;
    *stop = (struct machine_stop){.why = MACHINE_ASKED, .cpu = m->current};
    return 0;
}

/* The oldest place of all. */
static int show_oldest(struct machine *m, struct machine_stop *stop, struct err *e) {
    const struct machine_history *h = m->history;
    *stop = (struct machine_stop){.why = MACHINE_OLDEST, .cpu = m->current};
    return h->count ? show(m, h->checkpoint[0].place, e) : 0;
}

int machine_back_step(struct machine *m, unsigned cpu, struct machine_stop *stop,
                      struct err *e) {
    struct machine_place to;
    int rc = step_before(m, machine_place_shown(m), cpu, &to, stop, e);
    if (rc == -ENOENT)
        return cancelled(m, show_oldest(m, stop, e), stop);
    return cancelled(m, rc ? rc : show(m, to, e), stop);
}

/* ---- Search, from the latest checkpoint to the oldest, several at once ---- */

#define SEEKERS_MAX 4u

struct search {
    struct past_order order; /* for the next one */
    unsigned left;           /* checkpoints that nobody has begun at */
    unsigned width, running;
    struct past seeker[SEEKERS_MAX]; /* the first one is the nearest to the present */
};

static void search_begin(struct machine *m, struct search *s) {
    const struct machine_history *h = m->history;
    cpu_set_t cpus;
    *s = (struct search){.order = {.what = PAST_SEARCH, .until = machine_place_shown(m)}};
    s->order.debug = m->debug.wanted;
    while (s->left < h->count &&
           machine_place_before(h->checkpoint[s->left].place, s->order.until))
        s->left++;
    int n = sched_getaffinity(0, sizeof(cpus), &cpus) ? 1 : CPU_COUNT(&cpus);
    s->width = n < (int)SEEKERS_MAX ? (unsigned)n : SEEKERS_MAX;
}

static void search_drop_first(struct search *s) {
    past_close(&s->seeker[0]);
    memmove(&s->seeker[0], &s->seeker[1], --s->running * sizeof(s->seeker[0]));
}

/* One more begins, and searches up to where the one before it has begun. */
static int search_more(struct machine *m, struct search *s, struct err *e) {
    struct past *from = &m->history->checkpoint[--s->left], *p = &s->seeker[s->running];
    int rc = copy(m, from, p, e);
    if (rc)
        return rc;
    s->running++;
    rc = order(m, p, &s->order, NULL, -1, e);
    s->order.until = from->place;
    return rc;
}

static int search(struct machine *m, struct past_report *r, struct err *e) {
    struct search s;
    int rc = 0;
    search_begin(m, &s);
    while (rc == 0 && !r->found && (s.running || s.left)) {
        while (rc == 0 && s.left && s.running < s.width)
            rc = search_more(m, &s, e);
        if (rc == 0)
            rc = await(m, &s.seeker[0], r, e);
        if (rc == 0)
            search_drop_first(&s);
    }
    while (s.running)
        search_drop_first(&s);
    return rc;
}

int machine_back(struct machine *m, struct machine_stop *stop, struct err *e) {
    struct past_report r = {0};
    int rc = search(m, &r, e);
    if (rc == 0 && !r.found)
        return cancelled(m, show_oldest(m, stop, e), stop);
    *stop = r.stop;
    if (rc == 0 && stop->why == MACHINE_WATCH)
        rc = step_before(m, r.last, stop->cpu, &r.last, stop, e);
    return cancelled(m, rc ? rc : show(m, r.last, e), stop);
}

/* It runs until its next stop; asked to stop it does so soon. */
int machine_past_go(struct machine *m, int cpu, struct machine_stop *stop,
                    struct err *e) {
    struct past *p = &m->history->shown;
    struct past_order o = {.what = PAST_GO, .step = cpu, .until = machine_place(m)};
    struct past_report r;
    o.debug = m->debug.wanted;
    int rc = order(m, p, &o, NULL, -1, e);
    if (rc == 0)
        rc = await(m, p, &r, e);
    if (rc == -ECANCELED) {
        rc = order(m, p, &(struct past_order){.what = PAST_STOP}, NULL, -1, e);
        if (rc == 0)
            rc = past_receive(p->fd, &r, sizeof(r), NULL) ? gone(e) : r.error;
    }
    if (rc) {
        machine_leave_past(m);
        return rc;
    }
    p->place = r.place;
    *stop = r.stop;
    if (stop->why == MACHINE_PLACE)
        stop->why = MACHINE_NEWEST;
    if (!machine_place_before(p->place, machine_place(m)))
        machine_leave_past(m);
    return 0;
}

int machine_past_ask(struct machine *m, const void *question, size_t size, char **answer,
                     size_t *answer_size) {
    struct past *p = &m->history->shown;
    struct past_order o = {.what = PAST_ASK, .size = size};
    struct past_report r;
    char line[64];
    struct err e = {line, sizeof(line)};
    *answer = NULL;
    int rc = order(m, p, &o, question, -1, &e);
    if (rc == 0 && past_receive(p->fd, &r, sizeof(r), NULL))
        rc = -EPIPE;
    if (rc == 0)
        rc = r.error;
    if (rc == 0 && !(*answer = malloc(r.size + 1)))
        rc = -ENOMEM;
    if (rc == 0)
        rc = past_receive(p->fd, *answer, r.size, NULL);
    *answer_size = rc ? 0 : r.size;
    return rc;
}
