/* SPDX-License-Identifier: MIT */
/*
 * The machine's clock and its timers. Devices read time and arm timers here and never ask
 * the host. One nanosecond of virtual time is one retired guest instruction (soft engine,
 * --clock virtual); under --clock host and under KVM it is the host's CLOCK_MONOTONIC.
 *
 * Invariants
 * 1. Timers fire in order of (deadline, order of arming): two equal runs fire equally.
 * 2. A timer's callback may arm any timer, itself included.
 * Locking: none; the thread that runs the machine owns the clock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define CLOCK_NEVER UINT64_MAX

struct clock;

/* Intrusive; zero-initialise, then clock_timer_init. */
struct clock_timer {
    void (*fn)(void *opaque);
    void *opaque;
    uint64_t deadline; /* ns; CLOCK_NEVER when not armed */
    uint64_t seq;
    struct clock_timer *next;
};

struct clock {
    uint64_t (*now)(void *opaque); /* ns since the machine started */
    void *opaque;
    struct clock_timer *head; /* armed timers, sorted */
    uint64_t seq;
    /* Called when the earliest deadline changed, so that the engine can stop in time.
     * May be NULL. */
    void (*changed)(void *opaque);
};

static inline uint64_t clock_now(const struct clock *c) {
    return c->now(c->opaque);
}
void clock_timer_init(struct clock_timer *t, void (*fn)(void *), void *opaque);
/* (Re)arm at an absolute deadline; one in the past fires at the next clock_run. */
void clock_arm(struct clock *c, struct clock_timer *t, uint64_t deadline);
void clock_cancel(struct clock *c, struct clock_timer *t);
/* Return: the earliest deadline, or CLOCK_NEVER. */
uint64_t clock_next(const struct clock *c);
/* Fire every timer whose deadline is at or before now. */
void clock_run(struct clock *c);

/* ---- The host's clocks, for who measures or waits; never for a device ---- */

/* Return: ns on this clock; 0 when it cannot be read (a thread's that has ended). */
uint64_t host_clock_ns(clockid_t which);
/* CLOCK_MONOTONIC, by which the whole of penumbra measures. */
static inline uint64_t host_ns(void) {
    return host_clock_ns(CLOCK_MONOTONIC);
}
/* What this thread has had of a CPU: how fast work is on a host that does other work, too. */
static inline uint64_t cpu_ns(void) {
    return host_clock_ns(CLOCK_THREAD_CPUTIME_ID);
}
/* The time `ns` from now, as timed waits take it. */
struct timespec host_in_ns(clockid_t which, uint64_t ns);
