/* SPDX-License-Identifier: MIT */
/*
 * Bells: see bells.h. Each has an eventfd, which an engine that can has as long as the bell is
 * somewhere; where none can there are no eventfds and no thread.
 *
 * Invariants
 * 1. What rang is never lost: who takes a bell away from its place, or stops the thread, looks
 *    whether it has.
 * 2. An eventfd lives as long as the machine. What the thread has seen rung of it may be over when
 *    it has the lock: it reads, and nothing is there.
 *
 * Locking: all of this is guarded by m->lock, which the thread does not hold while it waits.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/thread.h"
#include "dev/virtio.h"
#include "machine/bells.h"
#include "machine/devices.h"

#define BELLS_MAX (MACHINE_DEVICES_MAX * VIRTIO_QUEUES_MAX)

struct machine_bell {
    struct dev_bell *bell; /* of the device */
    int fd;                /* -1: none yet */
    bool given;            /* to the engine */
};

struct machine_bells {
    unsigned count;
    struct machine_bell of[BELLS_MAX];
    int wake; /* the thread is to look what there is; eventfd; -1: none yet */
    bool runs, stop;
    pthread_t thread;
};

static bool take(int fd) {
    uint64_t rings;
    return fd >= 0 && read(fd, &rings, sizeof(rings)) == (ssize_t)sizeof(rings);
}

static void wake(const struct machine_bells *b) {
    static const uint64_t one = 1;
    if (b->wake >= 0 && write(b->wake, &one, sizeof(one)) < 0) { /* it is awake */
    }
}

static void ring(struct machine *m, struct machine_bell *b) {
    if (!take(b->fd))
        return;
    m->ops->stats(m->engine, 0)->v[PN_STAT_bells]++;
    b->bell->rung(b->bell);
}

/* ---- The thread ---- */

/* Bells that the engine has, as they are now. Return: how many, the first is `wake`. */
static unsigned list(const struct machine_bells *b, struct pollfd *fd, unsigned *which) {
    unsigned n = 1;
    fd[0] = (struct pollfd){.fd = b->wake, .events = POLLIN};
    for (unsigned i = 0; i < b->count; i++)
        if (b->of[i].given) {
            fd[n] = (struct pollfd){.fd = b->of[i].fd, .events = POLLIN};
            which[n++] = i;
        }
    return n;
}

static void *serve(void *opaque) {
    struct machine *m = opaque;
    struct machine_bells *b = m->bells;
    struct pollfd fd[BELLS_MAX + 1];
    unsigned which[BELLS_MAX + 1];
    machine_lock(m);
    unsigned n = list(b, fd, which);
    while (!b->stop) {
        machine_unlock(m);
        int rung = poll(fd, n, -1);
        machine_lock(m);
        for (unsigned i = 1; rung > 0 && i < n; i++)
            if (fd[i].revents & POLLIN)
                ring(m, &b->of[which[i]]);
        if (take(b->wake))
            n = list(b, fd, which);
    }
    machine_unlock(m);
    return NULL;
}

static int new_eventfd(void) {
    return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

static bool any_given(const struct machine_bells *b) {
    bool any = false;
    for (unsigned i = 0; b && i < b->count; i++)
        any |= b->of[i].given;
    return any;
}

void bells_begin(struct machine *m) {
    struct machine_bells *b = m->bells;
    if (!any_given(b) || b->runs)
        return;
    b->stop = false;
    if (b->wake < 0 && (b->wake = new_eventfd()) < 0) {
        bells_leave(m);
        return;
    }
    b->runs = thread_start(&b->thread, serve, m) == 0;
    if (!b->runs)
        bells_leave(m);
}

void bells_stop(struct machine *m) {
    struct machine_bells *b = m->bells;
    if (!b)
        return;
    machine_lock(m);
    b->stop = true;
    wake(b);
    machine_unlock(m);
    if (b->runs)
        pthread_join(b->thread, NULL);
    b->runs = false;
    machine_lock(m);
    for (unsigned i = 0; i < b->count; i++)
        ring(m, &b->of[i]);
    machine_unlock(m);
}

/* ---- Places ---- */

static void give(struct machine *m, struct machine_bell *b) {
    if (b->bell->at == DEV_NOWHERE || !m->ops->bell || b->given)
        return;
    if (b->fd < 0)
        b->fd = new_eventfd();
    b->given = b->fd >= 0 && !m->ops->bell(m->engine, b->fd, b->bell->at, true);
}

static void take_back(struct machine *m, struct machine_bell *b) {
    if (!b->given)
        return;
    (void)m->ops->bell(m->engine, b->fd, b->bell->at, false);
    b->given = false;
}

void bells_leave(struct machine *m) {
    for (unsigned i = 0; m->bells && i < m->bells->count; i++)
        take_back(m, &m->bells->of[i]);
}

void bells_again(struct machine *m) {
    for (unsigned i = 0; m->bells && i < m->bells->count; i++)
        give(m, &m->bells->of[i]);
}

static struct machine_bells *begin(void) {
    struct machine_bells *b = calloc(1, sizeof(*b));
    if (b)
        b->wake = -1;
    return b;
}

/* NULL: it has none, and stays the bus's. */
static struct machine_bell *own(struct machine *m, struct dev_bell *bell) {
    if (bell->of)
        return bell->of;
    if ((!m->bells && !(m->bells = begin())) || m->bells->count == BELLS_MAX)
        return NULL;
    struct machine_bell *b = &m->bells->of[m->bells->count++];
    *b =
        (struct machine_bell){.bell = bell, .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    return bell->of = b;
}

/* A vCPU's thread, or the one that serves, has the lock where vCPUs have threads. */
void bells_put(void *machine, struct dev_bell *bell, pn_gpa at) {
    struct machine *m = machine;
    struct machine_bell *b = own(m, bell);
    if (b)
        take_back(m, b);
    bell->at = at;
    if (!b)
        return;
    give(m, b);
    if (m->threads)
        bells_begin(m);
    wake(m->bells);
    ring(m, b); /* where it was before */
}

void bells_end(struct machine *m) {
    struct machine_bells *b = m->bells;
    for (unsigned i = 0; b && i < b->count; i++)
        if (b->of[i].fd >= 0)
            close(b->of[i].fd);
    if (b && b->wake >= 0)
        close(b->wake);
    free(b);
    m->bells = NULL;
}
