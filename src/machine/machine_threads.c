/* SPDX-License-Identifier: MIT */
/*
 * The run loop of vCPUs that are threads, and this thread for timers, the console and limits:
 * of an engine whose vCPUs run in the kernel, and of ours with --parallel.
 *
 * Invariants
 * 1. Whoever touches a device, the clock or the machine's state holds m->lock. vCPU
 *    threads in the kernel take it in the bus callbacks (wiring.c) and when a run ends; ours
 *    hold it but for translated code (base/parallel.h) and HLT; this thread
 *    holds it except while it waits.
 * 2. Once m->ended, m->leave, m->stands or a sleep (sleep.c) is set every vCPU is kicked until its thread has come
 *    back; a thread that does not is an error of the host's and is named, never waited
 *    for without end.
 * 3. While m->stopped is set no vCPU runs but the one whose bus callback set it: the
 *    others stand parked between two instructions.
 * 4. A thread that ends by itself, in whatever way, is noticed within WAIT_MAX_NS.
 */
#define _GNU_SOURCE /* pthread_tryjoin_np, pthread_timedjoin_np, sched_getaffinity */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "machine/bells.h"
#include "machine/link.h"
#include "machine/work.h"

#define CONSOLE_POLL_NS 4000000u /* how often the console is looked at */
#define LINK_POLL_NS    500000u  /* how often the network is */
#define QUIET_MOST      6u       /* where nothing comes, the time doubles so often, ... */
#define QUIET_NS        20000000u  /* ... to this */
#define WAIT_MAX_NS     100000000u /* so that --timeout, a quit and a death are seen */
#define REJOIN_NS       8000000u /* between two kicks of a vCPU that has not come back */
#define REJOIN_TRIES    100u
#define STOP_NS         2000000u
#define STOP_TRIES      400u
/* Ours: how long a halted vCPU looks for what wakes it before its thread sleeps, from which the
 * host wakes it late: at first, and at most. (KVM: halt_poll_ns.) */
#define POLL_NS     10000u
#define POLL_MAX_NS 100000u
#define POLL_PAUSES 32u /* between two looks at the time */
#define PATIENCE                                                                         \
    100u /* times more for ours: they come as soon as the host lets them run */
/* A vCPU that used less CPU time than that between two looks may be halted for good. */
#define LOOK_NS     500000000u
#define LOOK_MAX_NS 8000000000u
#define LOOK_USED   2000000u

struct runner {
    struct machine *m;
    unsigned cpu;
    pthread_t thread;
    bool started; /* and not joined yet */
    bool left;    /* run_vcpu has returned */
    bool parked;  /* stands still for machine_stop_world */
    bool waits;   /* said that nothing but another vCPU can wake it; ours: cannot run */
    pthread_cond_t wake;                /* ours: something has come for it */
    atomic_bool called;                 /* and it has while it polls */
    uint64_t poll_ns;                   /* so long */
    uint64_t used, look_at, look_every; /* CPU time at the last look; the next look */
};

struct threads {
    bool polls; /* each vCPU can have a processor of the host's */
    struct runner r[MACHINE_CPUS_MAX];
    unsigned
        quiet; /* looks at console and links, one after another, that found nothing */
};

/* Is the run loop to return? */
static bool returns(const struct machine *m) {
    return m->ended || m->leave || m->stands || machine_sleep_due(m);
}

/* ---- A vCPU's thread ---- */

/* Stand still while somebody wants the world stopped. */
static void park(struct machine *m, struct runner *r) {
    while (m->stopped && !returns(m)) {
        r->parked = true;
        pthread_cond_broadcast(&m->parked);
        pthread_cond_wait(&m->go, &m->lock);
        r->parked = false;
    }
}

static void *run_in_kernel(void *opaque) {
    struct runner *r = opaque;
    struct machine *m = r->m;
    bool more = true;
    while (more) {
        enum pn_exit_reason why = m->ops->run(m->engine, r->cpu, CLOCK_NEVER);
        machine_lock(m);
        r->waits = why == PN_EXIT_HALT;
        if (why == PN_EXIT_SHUTDOWN)
            machine_end_with(m, END_SHUTDOWN, 0);
        else if (why == PN_EXIT_ERROR)
            machine_end_with(m, END_ERROR, 0);
        else if (why == PN_EXIT_DEBUG && !m->stands) {
            machine_debug_stop(m, r->cpu);
            pthread_cond_signal(&m->wake);
        }
        park(m, r);
        more = !returns(m);
        r->left = !more;
        machine_unlock(m);
    }
    return NULL;
}

/* ---- Of our engines ---- */

void machine_call_cpu(struct machine *m, unsigned cpu) {
    if (!m->threads)
        return;
    atomic_store_explicit(&m->threads->r[cpu].called, true, memory_order_relaxed);
    pthread_cond_signal(&m->threads->r[cpu].wake);
}

/* Without the lock meanwhile. Return: it was called. */
static bool poll_for_call(struct machine *m, struct runner *r) {
    uint64_t until = host_ns() + r->poll_ns;
    atomic_store_explicit(&r->called, false, memory_order_relaxed);
    if (!r->poll_ns)
        return false;
    machine_unlock(m);
    bool called;
    do {
        for (unsigned i = 0; i < POLL_PAUSES; i++)
            __builtin_ia32_pause();
        called = atomic_load_explicit(&r->called, memory_order_relaxed);
    } while (!called && host_ns() < until);
    machine_lock(m);
    return atomic_load_explicit(&r->called, memory_order_relaxed);
}

/* The next one: longer after a short wait, none after a long one. */
static uint64_t next_poll(const struct threads *t, uint64_t poll, uint64_t waited) {
    if (!t->polls || waited > POLL_MAX_NS)
        return 0;
    if (waited <= poll)
        return poll;
    poll = poll ? 2 * poll : POLL_NS;
    return poll < POLL_MAX_NS ? poll : POLL_MAX_NS;
}

/* Halted, or waiting for SIPI: nothing of it runs, so it stands parked, too. */
static void wait_for_call(struct machine *m, struct runner *r) {
    uint64_t begin = host_ns();
    r->waits = r->parked = true;
    pthread_cond_broadcast(&m->parked);
    if (!poll_for_call(m, r))
        pthread_cond_wait(&r->wake, &m->lock);
    r->waits = r->parked = false;
    r->poll_ns = next_poll(m->threads, r->poll_ns, host_ns() - begin);
}

static void run_once(struct machine *m, unsigned cpu) {
    struct err e = {m->failure, sizeof(m->failure)};
    if (m->pv)
        pv_enter(m->pv, cpu);
    enum pn_exit_reason why = m->ops->run(m->engine, cpu, CLOCK_NEVER);
    m->current = cpu;
    if (why != PN_EXIT_DEBUG || !m->stands)
        if (machine_ran(m, cpu, why, &e))
            machine_end_with(m, END_ERROR, 0);
    if (m->stands)
        pthread_cond_signal(&m->wake);
    if (m->pv)
        pv_leave(m->pv, cpu, m->cpu[cpu].state == CPU_RUNNABLE);
}

static void *run_ours(void *opaque) {
    struct runner *r = opaque;
    struct machine *m = r->m;
    machine_lock(m);
    while (!returns(m)) {
        park(m, r);
        if (returns(m))
            break;
        machine_settle_cpu(m, r->cpu);
        if (m->cpu[r->cpu].state == CPU_RUNNABLE)
            run_once(m, r->cpu);
        else
            wait_for_call(m, r);
    }
    r->left = true;
    machine_unlock(m);
    return NULL;
}

/* Signals are for the thread that serves the console; a kick is addressed to a thread, and so is
 * what translated code runs into (src/cpu/signal.c). */
static int start(struct runner *r) {
    static const int own[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL};
    sigset_t blocked;
    sigfillset(&blocked);
    sigdelset(&blocked, SIGRTMIN);
    for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        sigdelset(&blocked, own[i]);
    int rc = thread_start_with(
        &r->thread, machine_in_parallel(r->m) ? run_ours : run_in_kernel, r, &blocked);
    r->started = rc == 0;
    return rc;
}

/* Return: 0, or -ETIMEDOUT when the thread does not come back. */
static int bring_back(struct runner *r) {
    unsigned tries = machine_in_parallel(r->m) ? REJOIN_TRIES * PATIENCE : REJOIN_TRIES;
    for (unsigned i = 0; r->started && i < tries; i++) {
        r->m->ops->kick(r->m->engine, r->cpu);
        pthread_cond_signal(&r->wake);
        struct timespec until = host_in_ns(CLOCK_REALTIME, REJOIN_NS);
        r->started = pthread_timedjoin_np(r->thread, NULL, &until) != 0;
    }
    return r->started ? -ETIMEDOUT : 0;
}

/* ---- Stopping the world ---- */

static struct runner *self(struct machine *m) {
    for (unsigned i = 0; i < m->cfg.cpus; i++)
        if (m->threads->r[i].started &&
            pthread_equal(m->threads->r[i].thread, pthread_self()))
            return &m->threads->r[i];
    return NULL;
}

/* Kick who still runs. Return: how many. */
static unsigned kick_others(struct machine *m, const struct runner *me) {
    unsigned n = 0;
    for (unsigned i = 0; i < m->cfg.cpus; i++) {
        const struct runner *r = &m->threads->r[i];
        if (r == me || !r->started || r->left || r->parked)
            continue;
        m->ops->kick(m->engine, i);
        n++;
    }
    return n;
}

int machine_stop_world(struct machine *m) {
    if (!m->threads)
        return 0;
    struct runner *me = self(m);
    while (m->stopped) { /* somebody else's turn: stand still for it */
        if (me)
            me->parked = true;
        pthread_cond_broadcast(&m->parked);
        pthread_cond_wait(&m->go, &m->lock);
        if (me)
            me->parked = false;
    }
    m->stopped = true;
    unsigned tries = machine_in_parallel(m) ? STOP_TRIES * PATIENCE : STOP_TRIES;
    for (unsigned i = 0; i < tries; i++) {
        if (!kick_others(m, me))
            return 0;
        struct timespec until = host_in_ns(CLOCK_MONOTONIC, STOP_NS);
        pthread_cond_timedwait(&m->parked, &m->lock, &until);
    }
    machine_start_world(m);
    return -ETIMEDOUT;
}

void machine_start_world(struct machine *m) {
    if (!m->threads)
        return;
    m->stopped = false;
    pthread_cond_broadcast(&m->go);
}

/* ---- The serving thread ---- */

static void wait_a_little(struct machine *m) {
    uint64_t now = clock_now(&m->clock), next = clock_next(&m->clock);
    uint64_t ns = m->cfg.serial_in || m->cfg.attend ? CONSOLE_POLL_NS : WAIT_MAX_NS;
    if (machine_has_links(m))
        ns = LINK_POLL_NS;
    if (ns < QUIET_NS) {
        ns <<= m->threads->quiet < QUIET_MOST ? m->threads->quiet : QUIET_MOST;
        ns = ns < QUIET_NS ? ns : QUIET_NS;
    }
    if (next <= now)
        return;
    if (next - now < ns)
        ns = next - now;
    struct timespec until = host_in_ns(CLOCK_MONOTONIC, ns);
    pthread_cond_timedwait(&m->wake, &m->lock, &until);
}

void machine_look_soon(struct machine *m) {
    if (!m->threads || !m->threads->quiet)
        return;
    m->threads->quiet = 0;
    pthread_cond_signal(&m->wake);
}

/* A thread that is gone without having said so died. Return: 0, or -EIO and a line. */
static int find_dead(struct machine *m, struct err *e) {
    for (unsigned i = 0; i < m->cfg.cpus; i++) {
        struct runner *r = &m->threads->r[i];
        if (!r->started || r->left || pthread_tryjoin_np(r->thread, NULL))
            continue;
        r->started = false;
        machine_end_with(m, END_ERROR, 0);
        return err_set(e, -EIO, "vCPU %u: its thread died", i);
    }
    return 0;
}

/* Has this vCPU done nothing since the last look? Then ask it whether it ever will: a
 * kick makes run() say so. Return: true when it waits for good. */
static bool look_at(struct machine *m, struct runner *r, uint64_t now) {
    clockid_t clock;
    if (r->look_at > now)
        return r->waits;
    uint64_t used =
        pthread_getcpuclockid(r->thread, &clock) ? r->used + 1 : host_clock_ns(clock);
    bool idle = used - r->used < LOOK_USED;
    if (!idle || r->waits) {
        r->look_every = LOOK_NS;
    } else { /* a guest that idles is asked less and less often */
        if (r->look_every < LOOK_MAX_NS)
            r->look_every *= 2;
        m->ops->kick(m->engine, r->cpu);
    }
    r->waits = r->waits && idle;
    r->used = used;
    r->look_at = now + r->look_every;
    return r->waits;
}

static void find_deadlock(struct machine *m) {
    uint64_t now = host_ns();
    bool all = true;
    for (unsigned i = 0; i < m->cfg.cpus; i++)
        all = look_at(m, &m->threads->r[i], now) && all;
    if (all && !work_is_out(m) && !machine_has_links(m))
        machine_end_with(m, END_DEADLOCK, 0);
}

/* Of ours: none can run, and nothing will come. */
static void find_stuck(struct machine *m) {
    bool all = true;
    for (unsigned i = 0; i < m->cfg.cpus; i++)
        all &= m->threads->r[i].waits && m->cpu[i].state != CPU_RUNNABLE;
    if (all && machine_is_stuck(m))
        machine_end_with(m, END_DEADLOCK, 0);
}

static int serve(struct machine *m, struct err *e) {
    int rc = 0;
    while (!returns(m) && !machine_asked(m)) {
        clock_run(&m->clock);
        machine_feed_serial(m);
        bool came = machine_poll_links(m, 0) || m->input_count;
        m->threads->quiet = came ? 0 : m->threads->quiet + 1;
        machine_check_limits(m);
        machine_attend(m);
        rc = find_dead(m, e);
        if (!m->ended && m->ops->threaded)
            find_deadlock(m);
        else if (!m->ended)
            find_stuck(m);
        if (!returns(m) && !atomic_load(&m->asked))
            wait_a_little(m);
    }
    return rc;
}

static int start_all(struct machine *m, struct err *e) {
    int rc = 0;
    uint64_t now = host_ns();
    for (unsigned i = 0; rc == 0 && i < m->cfg.cpus; i++) {
        struct runner *r = &m->threads->r[i];
        *r = (struct runner){
            .m = m, .cpu = i, .look_at = now + LOOK_NS, .look_every = LOOK_NS};
        pthread_cond_init(&r->wake, NULL);
        rc = start(r);
    }
    if (rc == 0)
        return 0;
    machine_end_with(m, END_ERROR, 0);
    return err_sys(e, rc, "a thread for a vCPU");
}

int machine_run_threads(struct machine *m, struct err *e) {
    int lost = 0;
    struct threads *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(e, -ENOMEM, "out of memory");
    cpu_set_t cpus;
    t->polls = !sched_getaffinity(0, sizeof(cpus), &cpus) &&
               (unsigned)CPU_COUNT(&cpus) >= m->cfg.cpus;
    machine_lock(m);
    m->threads = t;
    bells_begin(m);
    int rc = start_all(m, e);
    if (rc == 0)
        rc = serve(m, e);
    pthread_cond_broadcast(&m->go);
    machine_unlock(m);
    for (unsigned i = 0; i < m->cfg.cpus; i++)
        if (bring_back(&t->r[i]))
            lost = err_set(e, -EIO, "vCPU %u does not come out of the kernel", i);
    bells_stop(m);
    if (lost) { /* that thread may still use all this */
        m->leaked = true;
        return lost;
    }
    m->threads = NULL;
    free(t);
    if (machine_in_parallel(m))
        work_count(m);
    if (rc == 0 && m->ended && m->end == END_ERROR && !m->failure[0])
        rc = err_set(e, -EIO, "%s", m->ops->error(m->engine));
    return rc;
}
