/* SPDX-License-Identifier: MIT */
/*
 * Jobs beside the machine: see work.h.
 *
 * Locking: work.lock guards the lists and the count (base/locks.inc).
 */
#include <errno.h>
#include <stdlib.h>

#include "base/thread.h"
#include "machine/work.h"

#define THREADS_MAX 4u /* they wait for the host's disks more than they work */

struct queue {
    struct dev_job *head, **tail;
};

struct machine_work {
    struct machine *m;
    pthread_t thread[THREADS_MAX];
    unsigned threads, idle,
        pending; /* threads; of them waiting; jobs that wait for one */
    pthread_mutex_t lock;
    pthread_cond_t given, ended;
    struct queue todo, finished;
    struct queue ordered; /* of jobs that run one after another */
    bool in_order;        /* one of them runs */
    atomic_uint out;      /* given, and `done` has not returned */
    uint64_t waits;       /* times that the lock was not free */
    bool stop;
};

static void lock(struct machine_work *w) {
    bool waits = pthread_mutex_trylock(&w->lock) != 0;
    if (waits)
        pthread_mutex_lock(&w->lock);
    w->waits += waits;
    lock_taken(LOCK_WORK);
}

static void unlock(struct machine_work *w) {
    lock_given(LOCK_WORK);
    pthread_mutex_unlock(&w->lock);
}

static void put(struct queue *q, struct dev_job *job) {
    job->next = NULL;
    *q->tail = job;
    q->tail = &job->next;
}

static struct dev_job *take(struct queue *q) {
    struct dev_job *job = q->head;
    if (job && !(q->head = job->next))
        q->tail = &q->head;
    return job;
}

/* A job that may run now. Return: NULL: there is none. */
static struct dev_job *take_next(struct machine_work *w) {
    struct dev_job *job = w->in_order ? NULL : take(&w->ordered);
    w->in_order |= job != NULL;
    if (!job)
        job = take(&w->todo);
    w->pending -= job != NULL;
    return job;
}

bool work_real_time(void *machine) {
    return ((struct machine *)machine)->host_clock;
}

/* What follows, where vCPUs are threads. */
static void finish_locked(struct machine_work *w, struct dev_job *job) {
    machine_lock(w->m);
    job->done(job);
    machine_unlock(w->m);
    lock(w);
    atomic_fetch_sub(&w->out, 1);
}

static void hand_back(struct machine_work *w, struct dev_job *job) {
    lock(w);
    bool first = !w->finished.head; /* all that have ended are collected at once */
    put(&w->finished, job);
    for (unsigned i = 0; first && i < w->m->cfg.cpus; i++)
        w->m->ops->kick(w->m->engine, i);
}

static void *worker(void *opaque) {
    struct machine_work *w = opaque;
    lock(w);
    for (;;) {
        struct dev_job *job = take_next(w);
        if (!job && w->stop)
            break;
        if (!job) {
            w->idle++;
            pthread_cond_wait(&w->given, &w->lock);
            w->idle--;
            continue;
        }
        bool ordered =
            !job->any_order; /* whoever is handed it back may give it away again */
        unlock(w);
        job->run(job);
        if (machine_has_threads(w->m))
            finish_locked(w, job);
        else
            hand_back(w, job);
        w->in_order &= !ordered;
        pthread_cond_broadcast(&w->ended);
    }
    unlock(w);
    return NULL;
}

/* One more thread, if there may be one. */
static void add_thread(struct machine_work *w) {
    if (w->threads < THREADS_MAX)
        w->threads += thread_start(&w->thread[w->threads], worker, w) == 0;
}

static struct machine_work *begin(struct machine *m) {
    struct machine_work *w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    w->m = m;
    w->todo.tail = &w->todo.head;
    w->ordered.tail = &w->ordered.head;
    w->finished.tail = &w->finished.head;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->given, NULL);
    pthread_cond_init(&w->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return w;
}

void work_offload(void *machine, struct dev_job *job) {
    struct machine *m = machine;
    if (!m->work && !(m->work = begin(m)))
        goto here;
    struct machine_work *w = m->work;
    lock(w);
    if (w->pending >= w->idle)
        add_thread(w);
    if (w->threads) {
        w->pending++;
        atomic_fetch_add(&w->out, 1);
        put(job->any_order ? &w->todo : &w->ordered, job);
        pthread_cond_signal(&w->given);
    }
    unlock(w);
    if (w->threads)
        return;
here:
    job->run(job);
    job->done(job);
}

void work_count(struct machine *m) {
    if (!m->work)
        return;
    lock(m->work);
    m->ops->stats(m->engine, 0)->v[PN_STAT_work_lock_waits] = m->work->waits;
    unlock(m->work);
}

bool work_is_out(struct machine *m) {
    return m->work && atomic_load(&m->work->out);
}

void work_collect(struct machine *m) {
    struct machine_work *w = m->work;
    if (!work_is_out(m))
        return;
    lock(w);
    struct dev_job *job = w->finished.head, *next;
    w->finished = (struct queue){.tail = &w->finished.head};
    unlock(w);
    for (; job; job = next) {
        next = job->next;
        job->done(job);
        atomic_fetch_sub(&w->out, 1);
    }
}

void work_wait(struct machine *m, uint64_t ns) {
    struct machine_work *w = m->work;
    struct timespec until = host_in_ns(CLOCK_MONOTONIC, ns);
    int rc = 0;
    lock(w);
    while (rc == 0 && !w->finished.head && atomic_load(&w->out))
        rc = pthread_cond_timedwait(&w->ended, &w->lock, &until);
    unlock(w);
}

void work_drain(struct machine *m) {
    while (work_is_out(m)) {
        work_wait(m, 100000000);
        if (!machine_has_threads(m))
            work_collect(m);
    }
}

void work_end(struct machine *m) {
    struct machine_work *w = m->work;
    if (!w)
        return;
    work_drain(m);
    lock(w);
    w->stop = true;
    pthread_cond_broadcast(&w->given);
    unlock(w);
    for (unsigned i = 0; i < w->threads; i++)
        pthread_join(w->thread[i], NULL);
    pthread_cond_destroy(&w->given);
    pthread_cond_destroy(&w->ended);
    pthread_mutex_destroy(&w->lock);
    free(w);
    m->work = NULL;
}
