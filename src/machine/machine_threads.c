/* SPDX-License-Identifier: MIT */
/*
 * The run loop of an engine whose vCPUs run in the kernel: a thread each, and this thread
 * for timers, the console and limits.
 *
 * Invariants
 * 1. Whoever touches a device, the clock or the machine's state holds m->lock. vCPU
 * threads take it in the bus callbacks (wiring.c) and when a run ends; this thread holds
 * it but while it waits.
 * 2. Once m->ended is set every vCPU is kicked until its thread has come back; a thread
 * that does not is an error of the host's and is named, never waited for without end.
 */
#define _GNU_SOURCE /* pthread_timedjoin_np */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "machine/state.h"

#define CONSOLE_POLL_NS 4000000u   /* how often the console is looked at */
#define WAIT_MAX_NS     100000000u /* so that --timeout and a quit are seen */
#define REJOIN_NS       10000000u /* between two kicks of a vCPU that has not come back */
#define REJOIN_TRIES    200u

static uint64_t host_ns(clockid_t which) {
    struct timespec t;
    clock_gettime(which, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct timespec in_ns(clockid_t which, uint64_t ns) {
    uint64_t at = host_ns(which) + ns;
    return (struct timespec){(time_t)(at / 1000000000u), (long)(at % 1000000000u)};
}

struct runner {
    struct machine *m;
    unsigned cpu;
    pthread_t thread;
    bool started;
};

static void *run_vcpu(void *opaque) {
    struct runner *r = opaque;
    struct machine *m = r->m;
    bool more = true;
    while (more) {
        enum pn_exit_reason why = m->ops->run(m->engine, r->cpu, CLOCK_NEVER);
        pthread_mutex_lock(&m->lock);
        if (why == PN_EXIT_SHUTDOWN)
            machine_end_with(m, END_SHUTDOWN, 0);
        else if (why == PN_EXIT_HALT)
            machine_end_with(m, END_DEADLOCK, 0);
        else if (why != PN_EXIT_STOP && why != PN_EXIT_DEADLINE)
            machine_end_with(m, END_ERROR, 0);
        more = !m->ended;
        pthread_mutex_unlock(&m->lock);
    }
    return NULL;
}

/* Signals are for the thread that serves the console; a kick is addressed to a thread. */
static int start(struct runner *r) {
    sigset_t all, old;
    sigfillset(&all);
    sigdelset(&all, SIGRTMIN);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&r->thread, NULL, run_vcpu, r);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    r->started = rc == 0;
    return -rc;
}

/* Return: 0, or -ETIMEDOUT when the thread does not come back. */
static int bring_back(struct runner *r) {
    if (!r->started)
        return 0;
    for (unsigned i = 0; i < REJOIN_TRIES; i++) {
        r->m->ops->kick(r->m->engine, r->cpu);
        struct timespec until = in_ns(CLOCK_REALTIME, REJOIN_NS);
        if (pthread_timedjoin_np(r->thread, NULL, &until) == 0)
            return 0;
    }
    return -ETIMEDOUT;
}

static void check_limits(struct machine *m) {
    if (atomic_load(&m->quit))
        machine_end_with(m, END_QUIT, 0);
    if (m->cfg.timeout_ns &&
        host_ns(CLOCK_MONOTONIC) - m->host_start >= m->cfg.timeout_ns)
        machine_end_with(m, END_TIMEOUT, 0);
}

static void wait_a_little(struct machine *m) {
    uint64_t now = clock_now(&m->clock), next = clock_next(&m->clock);
    uint64_t ns = m->cfg.serial_in ? CONSOLE_POLL_NS : WAIT_MAX_NS;
    if (next <= now)
        return;
    if (next - now < ns)
        ns = next - now;
    struct timespec until = in_ns(CLOCK_MONOTONIC, ns);
    pthread_cond_timedwait(&m->wake, &m->lock, &until);
}

static void serve(struct machine *m) {
    pthread_mutex_lock(&m->lock);
    while (!m->ended) {
        clock_run(&m->clock);
        machine_feed_serial(m);
        check_limits(m);
        if (!m->ended)
            wait_a_little(m);
    }
    pthread_mutex_unlock(&m->lock);
}

int machine_run_threads(struct machine *m, struct err *e) {
    struct runner r[MACHINE_CPUS_MAX] = {0};
    int rc = 0, lost = 0;
    m->host_start = host_ns(CLOCK_MONOTONIC);
    for (unsigned i = 0; i < m->cfg.cpus; i++)
        r[i] = (struct runner){.m = m, .cpu = i};
    for (unsigned i = 0; rc == 0 && i < m->cfg.cpus; i++)
        rc = start(&r[i]);
    if (rc) {
        pthread_mutex_lock(&m->lock);
        machine_end_with(m, END_ERROR, 0);
        pthread_mutex_unlock(&m->lock);
        err_sys(e, rc, "a thread for a vCPU");
    }
    serve(m);
    for (unsigned i = 0; i < m->cfg.cpus; i++)
        if (bring_back(&r[i]))
            lost = err_set(e, -EIO, "vCPU %u does not come out of the kernel", i);
    if (lost)
        m->leaked = true;
    if (rc == 0 && !lost && m->end == END_ERROR)
        rc = err_set(e, -EIO, "%s", m->ops->error(m->engine));
    return rc ? rc : lost;
}
