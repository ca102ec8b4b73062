/* SPDX-License-Identifier: MIT */
/*
 * Between nanoseconds and the ticks of a device's crystal, without drift: both directions
 * are computed from zero, never added up.
 *
 * Invariant: ticks_at(ticks_ns(k, hz), hz) == k for hz <= 1 GHz: a timer armed for tick k
 * fires when tick k has been reached, and not a tick later.
 */
#ifndef DEV_TICKS_H
#define DEV_TICKS_H

#include <stdint.h>

#include "base/clock.h"

#define NS_PER_SEC 1000000000u

/* Return: a + b, or CLOCK_NEVER when that is too far away to be reached. */
static inline uint64_t ns_add(uint64_t a, uint64_t b) {
    uint64_t r;

    return __builtin_add_overflow(a, b, &r) ? CLOCK_NEVER : r;
}

/* Return: whole ticks of a clock of `hz` that have passed at `ns`. */
static inline uint64_t ticks_at(uint64_t ns, uint64_t hz) {
    if (hz == NS_PER_SEC)
        return ns;
    return (uint64_t)((unsigned __int128)ns * hz / NS_PER_SEC);
}

/* Return: the first ns at which `ticks` ticks have passed, or CLOCK_NEVER. */
static inline uint64_t ticks_ns(uint64_t ticks, uint64_t hz) {
    unsigned __int128 ns;

    if (hz == NS_PER_SEC)
        return ticks;
    ns = ((unsigned __int128)ticks * NS_PER_SEC + (hz - 1)) / hz;
    return ns >> 64 ? CLOCK_NEVER : (uint64_t)ns;
}

#endif
