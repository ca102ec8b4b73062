/* SPDX-License-Identifier: MIT */
/*
 * A process in the past of a machine: a copy that stands where it was made, or somewhere behind
 * it, and does what the keeper of the history (history.c) orders.
 *
 * Invariants
 * 1. It writes nothing but answers: no console, no trace, no file, but what a question asks for.
 * 2. It ends when the keeper does: its socket says so, also while the machine runs.
 * 3. A copy that only stands has code memory in common with the machine that it was made of
 *    (pn_engine_ops.forked); before it runs it has a copy of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "machine/history_internal.h"

#define OWN_FD 3

/* ---- Bytes ---- */

int past_send(int to, const void *data, size_t size, int fd) {
    const uint8_t *p = data;
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)),
                          .cmsg_level = SOL_SOCKET,
                          .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
    while (size) {
        struct iovec iov = {(void *)(uintptr_t)p, size};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        if (fd >= 0) {
            msg.msg_control = &control;
            msg.msg_controllen = sizeof(control);
        }
        ssize_t n = sendmsg(to, &msg, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -EPIPE;
        fd = -1;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

int past_receive(int from, void *data, size_t size, int *fd) {
    uint8_t *p = data;
    while (size) {
        union {
            struct cmsghdr head;
            char room[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec iov = {p, size};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = fd ? &control : NULL,
                             .msg_controllen = fd ? sizeof(control) : 0};
        ssize_t n = recvmsg(from, &msg, MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -EPIPE;
        if (fd && CMSG_FIRSTHDR(&msg))
            memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(*fd));
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

/* ---- What came from outside, once more ---- */

/* The next entry for this feed. Return: false: there is none. */
static bool next_input(struct machine *m, bool wait, struct input_head *head) {
    struct input_log *l = &m->history->log;
    if (l->size - l->at < sizeof(*head))
        return false;
    memcpy(head, l->data + l->at, sizeof(*head));
    if (head->feed > m->feeds || wait == (head->size > 0))
        return false;
    l->at += sizeof(*head);
    return true;
}

static size_t old_input(void *opaque, uint8_t *buf, size_t size) {
    struct machine *m = opaque;
    struct input_log *l = &m->history->log;
    struct input_head head;
    size_t done = 0;
    while (next_input(m, false, &head)) {
        if (head.size > l->size - l->at || head.size > size - done)
            break; /* not what this machine wrote */
        memcpy(buf + done, l->data + l->at, head.size);
        l->at += head.size;
        done += head.size;
    }
    return done;
}

uint64_t machine_history_wait(struct machine *m, uint64_t until) {
    struct input_head head = {.feed = m->feeds, .until = until};
    if (!m->history->past)
        history_note(m, &head, NULL);
    else if (next_input(m, true, &head))
        return head.until;
    return until;
}

static void no_output(void *opaque, const uint8_t *buf, size_t size) {
}

static void no_idle(void *opaque, uint64_t ns, struct pollfd *also, unsigned count) {
}

/* The keeper says something, or is gone. */
static bool called(void *opaque) {
    struct pollfd p = {.fd = OWN_FD, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

/* ---- Going ---- */

static bool arrived(struct machine *m, const struct past_order *o) {
    return m->ended || !machine_place_before(machine_place(m), o->until);
}

/* Towards the place. step: a vCPU, or -1. Return: 0, or -errno with a line in the report. */
static int advance(struct machine *m, const struct past_order *o, int step,
                   struct machine_stop *stop, struct past_report *r) {
    if (machine_place(m).insns < o->until.insns) {
        machine_until(m, o->until.insns);
        if (step >= 0)
            machine_step(m, (unsigned)step);
    } else { /* only events are left */
        machine_step_any(m);
    }
    int rc = machine_go(m, stop, r->line, sizeof(r->line));
    return rc == 0 && stop->why == MACHINE_ASKED ? -ECANCELED : rc;
}

/* A breakpoint where it stands does not count. */
static int go(struct machine *m, const struct past_order *o, struct past_report *r) {
    struct machine_stop *stop = &r->stop;
    struct machine_place from = machine_place(m);
    *stop = (struct machine_stop){.why = MACHINE_PLACE, .cpu = m->current};
    while (!arrived(m, o)) {
        int rc = advance(m, o, o->step, stop, r);
        if (rc == -ECANCELED)
            return 0; /* ASKED: it stands here */
        if (rc)
            return rc;
        if ((stop->why == MACHINE_BREAK &&
             machine_place_before(from, machine_place(m))) ||
            stop->why == MACHINE_WATCH ||
            (stop->why == MACHINE_STEP && (int)stop->cpu == o->step))
            return 0;
    }
    stop->why = MACHINE_PLACE;
    return 0;
}

static int search(struct machine *m, const struct past_order *o, struct past_report *r) {
    while (!arrived(m, o)) {
        struct machine_stop stop;
        int rc = advance(m, o, -1, &stop, r);
        if (rc)
            return rc;
        struct machine_place at = machine_place(m);
        bool hit = stop.why == MACHINE_BREAK
                       ? machine_place_before(at, o->until)
                       : stop.why == MACHINE_WATCH && !machine_place_before(o->until, at);
        if (!hit)
            continue;
        r->found = true;
        r->last = at;
        r->stop = stop;
    }
    return 0;
}

/* Steps of the vCPU up to the place: where the last of them began, and what it met. */
static int before(struct machine *m, const struct past_order *o, struct past_report *r) {
    struct machine_place at = machine_place(m);
    while (!arrived(m, o)) {
        struct machine_stop stop;
        int rc = advance(m, o, o->step, &stop, r);
        if (rc)
            return rc;
        bool done = stop.why == MACHINE_STEP || stop.why == MACHINE_WATCH;
        if (!done || (int)stop.cpu != o->step)
            continue;
        r->found = true;
        r->stop = stop;
        r->last = at;
        at = machine_place(m);
    }
    return 0;
}

/* ---- Questions ---- */

static int answer(struct machine *m, const void *question, size_t size, char **text,
                  size_t *text_size) {
    const struct machine_history_config *cfg = &m->history->cfg;
    FILE *f = open_memstream(text, text_size);
    if (!f)
        return -ENOMEM;
    if (cfg->answer)
        cfg->answer(cfg->opaque, question, size, f);
    return fclose(f) ? -ENOMEM : 0;
}

/* ---- Life ---- */

/* The keeper forks no further than here: what a copy must not have is put away. */
static void withdraw(struct machine *m, int fd) {
    const struct machine_history_config *cfg = &m->history->cfg;
    static const int ignored[] = {SIGINT, SIGQUIT, SIGHUP, SIGTSTP, SIGCHLD, SIGPIPE};
    for (unsigned i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    if (fd != OWN_FD && dup2(fd, OWN_FD) < 0)
        cfg->leave();
    close_range(OWN_FD + 1, ~0u, 0);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < OWN_FD; i++)
        if (null < 0 || dup2(null, i) < 0)
            cfg->leave();
    close(null);
    m->history->past = true;
    m->cfg.serial_in = m->cfg.serial_in ? old_input : NULL;
    m->cfg.serial_out = no_output;
    m->cfg.idle = no_idle;
    m->cfg.attend = called;
    m->cfg.opaque = m;
    m->cfg.timeout_ns = 0;
    for (unsigned i = 0; m->cfg.rings && i < m->cfg.cpus; i++)
        m->cfg.rings[i].mask = 0;
}

static int take_inputs(struct machine *m, size_t size) {
    struct input_log *l = &m->history->log;
    uint8_t *data = size ? realloc(l->data, l->size + size) : l->data;
    if (size && !data)
        return -ENOMEM;
    l->data = data;
    int rc = past_receive(OWN_FD, l->data + l->size, size, NULL);
    l->size += rc ? 0 : size;
    return rc;
}

static void copy(struct machine *m, int fd) {
    if (fd < 0)
        return;
    int pid = fork();
    if (pid == 0)
        past_live(m, fd, true);
    close(fd); /* where there is no copy, the keeper finds nobody at the other end */
}

static int obey(struct machine *m, const struct past_order *o, const void *question,
                struct past_report *r, char **text) {
    size_t size = 0;
    int rc = -EINVAL;
    m->debug.wanted = o->debug;
    if (o->what == PAST_GO)
        rc = go(m, o, r);
    else if (o->what == PAST_SEARCH)
        rc = search(m, o, r);
    else if (o->what == PAST_BEFORE)
        rc = before(m, o, r);
    else if (o->what == PAST_ASK)
        rc = answer(m, question, o->size, text, &size);
    r->size = rc ? 0 : size;
    return rc;
}

static int report(struct machine *m, struct past_report *r, int error, const char *text) {
    r->error = error;
    r->place = machine_place(m);
    int rc = past_send(OWN_FD, r, sizeof(*r), -1);
    return rc ? rc : past_send(OWN_FD, text, r->size, -1);
}

void past_live(struct machine *m, int fd, bool copied) {
    struct past_order o;
    int rc = 0;
    withdraw(m, fd);
    if (!copied) /* the machine has had all that is there */
        m->history->log.at = m->history->log.size;
    if (copied)
        rc = report(m, &(struct past_report){0}, m->ops->forked(m->engine), NULL);
    while (rc == 0) {
        struct past_report r = {0};
        char *question = NULL, *text = NULL;
        int sent = -1;
        rc = past_receive(OWN_FD, &o, sizeof(o), &sent);
        if (rc == 0)
            rc = take_inputs(m, o.inputs);
        if (rc == 0 && o.size)
            rc = (question = malloc(o.size))
                     ? past_receive(OWN_FD, question, o.size, NULL)
                     : -ENOMEM;
        if (rc == 0 && o.what == PAST_COPY) {
            copy(m, sent);
        } else if (rc == 0 && o.what != PAST_STOP) {
            int done = obey(m, &o, question, &r, &text);
            rc = report(m, &r, done, text);
        }
        free(question);
        free(text);
    }
    m->history->cfg.leave();
    __builtin_unreachable();
}
