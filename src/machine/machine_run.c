/* SPDX-License-Identifier: MIT */
/*
 * The run loop. vCPUs take turns on one thread; between two turns timers fire and the
 * console is served.
 *
 *     a turn: the next vCPU that can run, until min(next timer, now + slice)
 *     nobody can: skip to the next timer (--clock virtual) or sleep (--clock host)
 *
 * Invariants
 * 1. Under --clock virtual nothing here depends on the host's time but --timeout and what
 *    is typed at the console; equal inputs give equal runs.
 * 2. There is one time: a vCPU's turn begins where the last one's ended, so that no clock
 *    (TSC, timers) is ever seen to go back, on whatever vCPU. While one runs the others
 *    stand still: with N busy vCPUs each does 1/N of the work per virtual second.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "machine/history.h"
#include "machine/link.h"
#include "machine/work.h"

#define SLICE_ONE_NS  1000000u
#define SLICE_MANY_NS 49999u   /* a prime: two loops never meet in one place for ever */
#define SERVE_NS      1000000u /* console and limits are looked at this often */
#define PACE_AFTER_NS                                                                    \
    1000000000u                 /* interactive: skip this much before waiting for real */
#define SLEEP_MAX_NS 100000000u /* so that --timeout is kept */
/* Halted, and that many timers over that long woke nobody: nothing ever will. */
#define STUCK_WAKES 1000u
#define STUCK_NS    10000000000u

uint64_t machine_insns(struct machine *m) {
    const struct pn_engine_ops *ops;
    struct pn_engine *e;
    uint64_t n = m->insns_before;
    for (unsigned i = 0; (e = machine_engine_at(m, i, &ops)); i++)
        n += ops->insns ? ops->insns(e) : 0;
    return n;
}

uint64_t machine_time(const struct machine *m) {
    return m->ops->now(m->engine);
}

/* Events of the machine itself are of the vCPU that ran last, whose clock is the latest. */
static struct pn_ring *ring(struct machine *m) {
    return m->cfg.rings ? &m->cfg.rings[m->current] : NULL;
}

/* ---- Limits ---- */

void machine_check_limits(struct machine *m) {
    if (atomic_load(&m->quit))
        machine_end_with(m, END_QUIT, 0);
    if (m->cfg.max_insns && machine_insns(m) >= m->cfg.max_insns)
        machine_end_with(m, END_MAX_INSNS, 0);
    if (m->cfg.timeout_ns && host_ns() - m->host_start >= m->cfg.timeout_ns)
        machine_end_with(m, END_TIMEOUT, 0);
}

/* Let it stand where somebody outside asks for it. */
void machine_attend(struct machine *m) {
    if (m->cfg.attend && m->cfg.attend(m->cfg.opaque))
        atomic_store(&m->asked, true);
}

/* One instruction is one nanosecond: the limit is a deadline, and exact. */
static uint64_t limit_deadline(struct machine *m, uint64_t now, uint64_t deadline) {
    if (!m->cfg.max_insns || m->host_clock)
        return deadline;
    uint64_t done = machine_insns(m);
    uint64_t left = done < m->cfg.max_insns ? m->cfg.max_insns - done : 0;
    return deadline > now && left < deadline - now ? now + left : deadline;
}

/* ---- Console input ---- */

/* Read ahead of the guest, so that the console's own keys work while it does not listen.
 */
static void read_console(struct machine *m, uint64_t feed) {
    size_t room = sizeof(m->input) - m->input_count, n;
    if (!room || !m->cfg.serial_in)
        return;
    n = m->cfg.serial_in(m->cfg.opaque, m->input + m->input_count, room);
    if (n && m->history)
        machine_history_input(m, feed, m->input + m->input_count, n);
    m->input_count += n;
}

void machine_feed_serial(struct machine *m) {
    read_console(m, ++m->feeds);
    if (!m->input_count || !serial_listens(m->serial))
        return;
    size_t n = serial_input(m->serial, m->input, m->input_count);
    if (n) {
        m->idle_ns = 0;
        m->input_count -= n;
        memmove(m->input, m->input + n, m->input_count);
    }
}

/* ---- INIT and SIPI ---- */

/* The boot CPU starts at the reset vector; an AP waits for SIPI. */
static void do_init(struct machine *m, unsigned cpu) {
    m->cpu[cpu].init = false;
    bool taken = m->ops->init(m->engine, cpu, cpu != 0);
    m->cpu[cpu].held |= !taken;
    m->cpu[cpu].state = cpu && taken ? CPU_WAIT_SIPI : CPU_RUNNABLE;
    if (m->pv && taken)
        pv_reset(m->pv, cpu);
}

static void do_sipi(struct machine *m, unsigned cpu) {
    uint8_t vector = (uint8_t)m->cpu[cpu].sipi;
    m->cpu[cpu].sipi = -1;
    if (m->cpu[cpu].state != CPU_WAIT_SIPI &&
        !(m->cpu[cpu].held && m->cpu[cpu].state == CPU_HALTED))
        return;
    m->cpu[cpu].state = CPU_RUNNABLE;
    m->ops->sipi(m->engine, cpu, vector);
}

/* ---- Standing ---- */

bool machine_asked(struct machine *m) {
    if (!m->stands && atomic_exchange(&m->asked, false)) {
        m->stands = true;
        m->stop = (struct machine_stop){.why = MACHINE_ASKED, .cpu = m->current};
    }
    return m->stands;
}

void machine_debug_stop(struct machine *m, unsigned cpu) {
    static const enum machine_stop_why why[] = {
        [PN_DEBUG_NONE] = MACHINE_ASKED,
        [PN_DEBUG_STEP] = MACHINE_STEP,
        [PN_DEBUG_BREAK] = MACHINE_BREAK,
        [PN_DEBUG_WATCH] = MACHINE_WATCH,
    };
    struct pn_debug_stop s;
    m->ops->debug_stop(m->engine, cpu, &s);
    m->stands = true;
    m->stop = (struct machine_stop){why[s.why], cpu, s.gva, s.access};
}

/* Does it stand because it has come to where a debugger wants it? */
static bool at_place(struct machine *m) {
    if (m->debug.until && !m->stands && machine_insns(m) >= m->debug.until) {
        m->stands = true;
        m->stop = (struct machine_stop){.why = MACHINE_PLACE, .cpu = m->current};
    }
    return m->stands;
}

/* ---- Running ---- */

/* The turn's deadline, or the place. An instruction takes a nanosecond. */
static uint64_t run_limit(struct machine *m) {
    uint64_t done = m->debug.until ? machine_insns(m) : 0, now;
    if (done >= m->debug.until)
        return m->deadline;
    now = clock_now(&m->clock);
    uint64_t left = m->debug.until - done;
    return m->deadline > now && left < m->deadline - now ? now + left : m->deadline;
}

int machine_ran(struct machine *m, unsigned cpu, enum pn_exit_reason why, struct err *e) {
    switch (why) {
    case PN_EXIT_HALT:
        if (m->pv && pv_was_kicked(m->pv, cpu))
            m->ops->unhalt(m->engine, cpu);
        else
            m->cpu[cpu].state = CPU_HALTED;
        break;
    case PN_EXIT_SHUTDOWN:
        machine_end_with(m, END_SHUTDOWN, 0);
        break;
    case PN_EXIT_ERROR:
        return err_set(e, -EIO, "%s", m->ops->error(m->engine));
    case PN_EXIT_DEBUG:
        machine_debug_stop(m, cpu);
        break;
    case PN_EXIT_DEADLINE:
        at_place(m);
        break;
    default:
        break;
    }
    return 0;
}

/* Run one vCPU once. Return: as machine_ran. */
static int run_once(struct machine *m, unsigned cpu, struct err *e) {
    m->current = cpu;
    m->running = true;
    intc_set_current(m->intc, cpu);
    m->limit = run_limit(m);
    enum pn_exit_reason why = m->ops->run(m->engine, cpu, m->limit);
    m->running = false;
    return machine_ran(m, cpu, why, e);
}

static bool can_run(const struct machine_cpu *c) {
    return c->state == CPU_RUNNABLE || c->sipi >= 0 || c->init;
}

/* Return: the next vCPU in turn that can run, or cfg.cpus when none can. */
static unsigned next_cpu(const struct machine *m) {
    if (m->sleep == ASLEEP)
        return m->cfg.cpus;
    for (unsigned i = 0; i < m->cfg.cpus; i++) {
        unsigned cpu = (m->turn + i) % m->cfg.cpus;
        if (can_run(&m->cpu[cpu]))
            return cpu;
    }
    return m->cfg.cpus;
}

void machine_settle_cpu(struct machine *m, unsigned cpu) {
    if (m->cpu[cpu].init)
        do_init(m, cpu);
    if (m->cpu[cpu].sipi >= 0)
        do_sipi(m, cpu);
}

static void end_turn(struct machine *m) {
    m->mid_turn = false;
    if (m->pv)
        pv_leave(m->pv, m->current, m->cpu[m->current].state == CPU_RUNNABLE);
}

/* A turn, or what is left of one that a debugger's stop has cut. */
static int run_on(struct machine *m, unsigned cpu, struct err *e) {
    int rc = run_once(m, cpu, e);
    m->mid_turn = m->stands && !m->ended;
    if (m->mid_turn)
        return rc;
    end_turn(m);
    if (atomic_load_explicit(&m->quit, memory_order_relaxed))
        machine_end_with(m, END_QUIT, 0);
    if (m->cfg.max_insns && machine_insns(m) >= m->cfg.max_insns)
        machine_end_with(m, END_MAX_INSNS, 0);
    return rc;
}

static int run_turn(struct machine *m, unsigned cpu, struct err *e) {
    struct machine_cpu *c = &m->cpu[cpu];
    m->turn = (cpu + 1) % m->cfg.cpus;
    if (m->cfg.cpus > 1) /* see invariant 2 */
        m->ops->skip(m->engine, clock_now(&m->clock));
    machine_settle_cpu(m, cpu);
    if (c->state != CPU_RUNNABLE)
        return 0;
    uint64_t now = clock_now(&m->clock), next = clock_next(&m->clock);
    uint64_t end = now + (m->cfg.cpus > 1 ? SLICE_MANY_NS : SLICE_ONE_NS);
    m->deadline = limit_deadline(m, now, next < end ? next : end);
    if (m->pv)
        pv_enter(m->pv, cpu);
    return run_on(m, cpu, e);
}

/* ---- Idle ---- */

static bool interrupts_on(struct machine *m) {
    struct pn_cpu_state *s = calloc(1, sizeof(*s));
    bool on = !s;
    for (unsigned i = 0; s && !on && i < m->cfg.cpus; i++)
        on = m->cpu[i].state == CPU_HALTED && m->ops->get_state(m->engine, i, s) == 0 &&
             s->rflags & FL_IF;
    free(s);
    return on;
}

/* Can whoever is at the console wake it, by what is typed or by the monitor? */
static bool console_wakes(struct machine *m) {
    return m->cfg.serial_in && (m->sleep == ASLEEP || interrupts_on(m));
}

/* Halted for good? A guest that an interrupt cannot wake, and that no NMI wakes either. */
static bool is_deadlock(struct machine *m, uint64_t now, uint64_t next) {
    if (work_is_out(m) || machine_has_links(m))
        return false;
    if (next == CLOCK_NEVER)
        return !console_wakes(m);
    if (machine_insns(m) != m->idle_insns || !m->stuck_wakes) {
        m->idle_insns = machine_insns(m);
        m->stuck_since = now;
        m->stuck_wakes = 0;
    }
    m->stuck_wakes++;
    return m->stuck_wakes > STUCK_WAKES && now - m->stuck_since > STUCK_NS &&
           !console_wakes(m);
}

bool machine_is_stuck(struct machine *m) {
    return is_deadlock(m, clock_now(&m->clock), clock_next(&m->clock));
}

/* Sleep at most ns of host time, less when something is typed. Return: ns slept. */
static uint64_t sleep_for(struct machine *m, uint64_t ns) {
    uint64_t start = host_ns();
    m->waits = true;
    if (ns > SLEEP_MAX_NS)
        ns = SLEEP_MAX_NS;
    if (machine_has_links(m)) {
        machine_poll_links(m, ns);
    } else if (m->cfg.idle && m->input_count < sizeof(m->input)) {
        m->cfg.idle(m->cfg.opaque, ns, NULL, 0);
    } else {
        struct timespec t = {0, (long)ns};
        nanosleep(&t, NULL);
    }
    m->waits = false;
    return host_ns() - start;
}

/* An interactive guest waits for real, and less when somebody types. Return: until when. */
static uint64_t pace(struct machine *m, uint64_t now, uint64_t next) {
    if (machine_history_replays(m))
        return machine_history_wait(m, next);
    uint64_t gap = next - now, slept = sleep_for(m, gap);
    if (slept < gap)
        next = now + slept;
    return m->history ? machine_history_wait(m, next) : next;
}

/* The host's time passes: until a job of a device ends, where one is out. */
static uint64_t sleep_or_work(struct machine *m, uint64_t ns) {
    if (!work_is_out(m))
        return sleep_for(m, ns);
    uint64_t start = host_ns();
    m->waits = true;
    work_wait(m, ns < SLEEP_MAX_NS ? ns : SLEEP_MAX_NS);
    m->waits = false;
    return host_ns() - start;
}

/* Nobody can run: let time pass until the next timer, or until somebody types. */
static void wait_for_event(struct machine *m) {
    uint64_t now = clock_now(&m->clock), next = clock_next(&m->clock);
    if (next <= now)
        return;
    if (is_deadlock(m, now, next)) {
        machine_end_with(m, END_DEADLOCK, 0);
        return;
    }
    if (m->host_clock) {
        uint64_t slept = sleep_or_work(m, next - now);
        if (m->ops->skip)
            m->ops->skip(m->engine, now + (slept < next - now ? slept : next - now));
        return;
    }
    if (next == CLOCK_NEVER) {
        sleep_for(m, SLEEP_MAX_NS); /* only the console can wake it */
        return;
    }
    if ((m->cfg.interactive && m->idle_ns >= PACE_AFTER_NS) || machine_has_links(m))
        next = pace(m, now, next);
    pn_emit(ring(m), hlt, next);
    m->idle_ns += next - now;
    m->ops->skip(m->engine, next);
}

/* ---- The loop ---- */

static bool returns(const struct machine *m) {
    return m->ended || m->leave || machine_sleep_due(m);
}

/* Engines that run one vCPU after another on this thread; and a machine that sleeps. */
static int run_in_turn(struct machine *m, struct err *e) {
    int rc = 0;
    while (rc == 0 && !returns(m) && !machine_asked(m) && !at_place(m)) {
        if (m->history && machine_history_due(m))
            machine_history_take(m);
        if (m->mid_turn) {
            rc = run_on(m, m->current, e);
            continue;
        }
        work_collect(m);
        clock_run(&m->clock);
        unsigned cpu = next_cpu(m);
        if (cpu == m->cfg.cpus || m->serial_room || clock_now(&m->clock) >= m->serve_at) {
            m->serial_room = false;
            machine_feed_serial(m);
            machine_poll_links(m, 0);
            machine_check_limits(m);
            machine_attend(m);
            m->serve_at = clock_now(&m->clock) + SERVE_NS;
            cpu = next_cpu(m);
        }
        if (returns(m))
            break;
        if (cpu < m->cfg.cpus)
            rc = run_turn(m, cpu, e);
        else
            wait_for_event(m);
    }
    return rc;
}

/* Before the first instruction; later: the time that it stood is not its own. */
static void begin(struct machine *m) {
    if (m->begun) {
        m->host_start += host_ns() - m->stands_since;
        return;
    }
    m->begun = true;
    m->host_start = host_ns();
    machine_handover_arm(m);
    machine_dirty_begin(m);
    snap_fill_begin(m);
}

/* Run, under one engine after another where handovers are asked for. */
static int run(struct machine *m, struct err *e) {
    int rc = 0;
    while (rc == 0 && !m->ended && !m->stands) {
        bool threads = machine_has_threads(m) && m->sleep == AWAKE;
        rc = machine_debug_apply(m, e);
        if (rc == 0)
            rc = threads ? machine_run_threads(m, e) : run_in_turn(m, e);
        if (rc || !returns(m) || m->ended)
            continue;
        if (m->mid_turn)
            end_turn(m);
        work_drain(m);
        rc = machine_sleep_due(m) ? machine_sleep_turn(m, e) : machine_handover(m, e);
    }
    if (rc == 0 && m->ended && m->end == END_ERROR && m->failure[0])
        rc = err_set(e, -EIO, "%s", m->failure);
    return rc;
}

int machine_go(struct machine *m, struct machine_stop *stop, char *err, size_t err_size) {
    struct err e = {err, err_size};
    m->stands = false;
    begin(m);
    int rc = run(m, &e);
    m->debug.step = STEP_NONE;
    m->debug.until = 0;
    m->stands_since = host_ns();
    *stop = m->stands && !m->ended
                ? m->stop
                : (struct machine_stop){.why = MACHINE_ENDED, .cpu = m->current};
    return rc;
}

void machine_stand(struct machine *m, uint64_t ns) {
    const struct timespec a_little = {0, 10000000};
    if (m->input_count < sizeof(m->input) || !m->cfg.serial_in)
        sleep_for(m, ns);
    else /* there is input at the console that nobody takes */
        nanosleep(&a_little, NULL);
    read_console(m, m->feeds + 1); /* for the console's own keys; the rest is kept */
}

int machine_finish(struct machine *m, int failed, struct machine_result *result,
                   char *err, size_t err_size) {
    struct err e = {err, err_size};
    int rc = failed;
    if (rc)
        machine_end_with(m, END_ERROR, 0);
    else
        rc = machine_dirty_finish(m, &e);
    *result = (struct machine_result){
        .end = m->end,
        .code = m->end_code,
        .guest_insns = machine_insns(m),
        .guest_ns = clock_now(&m->clock),
        .host_ns = host_ns() - m->host_start,
    };
    if (m->ops->trace_end)
        m->ops->trace_end(m->engine);
    pn_emit(ring(m), exit, m->end, m->end_code);
    /* What the engine takes down when it is destroyed is not the guest's doing. */
    for (unsigned i = 0; m->cfg.rings && i < m->cfg.cpus; i++)
        m->cfg.rings[i].mask = 0;
    return rc;
}

int machine_run(struct machine *m, struct machine_result *result, char *err,
                size_t err_size) {
    struct machine_stop stop = {.why = MACHINE_ASKED};
    int rc = 0;
    while (rc == 0 && stop.why != MACHINE_ENDED)
        rc = machine_go(m, &stop, err, err_size);
    return machine_finish(m, rc, result, err, err_size);
}
