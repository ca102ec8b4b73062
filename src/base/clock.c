/* SPDX-License-Identifier: MIT */
/*
 * The machine's timers: one sorted list of armed timers. A machine has about a dozen, so
 * a list beats a heap, and its head is the only thing that the engine asks for.
 *
 * Invariants
 * 1. head is sorted by (deadline, seq); seq grows with every arming.
 * 2. A timer is on the list exactly when its deadline is not CLOCK_NEVER.
 * 3. clock_run fires no timer that was armed during the same clock_run: a callback that
 *    arms in the past cannot hold the machine for ever.
 * 4. changed() is called after each change of the earliest deadline.
 */
#include "base/clock.h"

#include <stddef.h>

static void unlink_timer(struct clock *c, struct clock_timer *t) {
    for (struct clock_timer **p = &c->head; *p; p = &(*p)->next) {
        if (*p == t) {
            *p = t->next;
            break;
        }
    }
    t->next = NULL;
    t->deadline = CLOCK_NEVER;
}

static void tell(struct clock *c, uint64_t before) {
    if (c->changed && clock_next(c) != before)
        c->changed(c->opaque);
}

void clock_timer_init(struct clock_timer *t, void (*fn)(void *), void *opaque) {
    *t = (struct clock_timer){.fn = fn, .opaque = opaque, .deadline = CLOCK_NEVER};
}

void clock_arm(struct clock *c, struct clock_timer *t, uint64_t deadline) {
    uint64_t before = clock_next(c);
    if (t->deadline != CLOCK_NEVER)
        unlink_timer(c, t);
    if (deadline != CLOCK_NEVER) {
        struct clock_timer **p = &c->head;
        /* The newest of equal deadlines goes last: its seq is the largest. */
        while (*p && (*p)->deadline <= deadline)
            p = &(*p)->next;
        t->deadline = deadline;
        t->seq = c->seq++;
        t->next = *p;
        *p = t;
    }
    tell(c, before);
}

void clock_cancel(struct clock *c, struct clock_timer *t) {
    clock_arm(c, t, CLOCK_NEVER);
}

uint64_t clock_next(const struct clock *c) {
    return c->head ? c->head->deadline : CLOCK_NEVER;
}

/* Return: the first expired timer that was armed before seq `limit`, or NULL. */
static struct clock_timer *expired(struct clock *c, uint64_t now, uint64_t limit) {
    for (struct clock_timer *t = c->head; t && t->deadline <= now; t = t->next)
        if (t->seq < limit)
            return t;
    return NULL;
}

void clock_run(struct clock *c) {
    if (!c->head)
        return;
    uint64_t now = clock_now(c), limit = c->seq;
    struct clock_timer *t;
    while ((t = expired(c, now, limit)) != NULL) {
        uint64_t before = clock_next(c);
        unlink_timer(c, t);
        tell(c, before);
        t->fn(t->opaque);
    }
}

uint64_t host_clock_ns(clockid_t which) {
    struct timespec t;
    if (clock_gettime(which, &t))
        return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct timespec host_in_ns(clockid_t which, uint64_t ns) {
    uint64_t at = host_clock_ns(which) + ns;
    return (struct timespec){(time_t)(at / 1000000000u), (long)(at % 1000000000u)};
}
