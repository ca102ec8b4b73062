/* SPDX-License-Identifier: MIT */
/*
 * Between nanoseconds and the ticks of a device's crystal, without drift: both directions
 * are computed from zero, never added up.
 *
 * Invariants
 * 1. ticks_at(ticks_ns(k, hz), hz) == k for hz <= 1 GHz: a timer armed for tick k fires
 *    when tick k has been reached, and not a tick later.
 * 2. Nothing is armed beyond NS_HORIZON, 36 years from the start: a guest that sleeps
 *    with a far deadline cannot carry the machine to where arithmetic ends.
 */
#pragma once

#include <stdint.h>

#include "base/clock.h"

#define NS_PER_SEC 1000000000u
#define NS_HORIZON ((uint64_t)1 << 60)

/* Return: a + b, or CLOCK_NEVER when that lies beyond the horizon. */
static inline uint64_t ns_add(uint64_t a, uint64_t b) {
    return a > NS_HORIZON || b > NS_HORIZON - a ? CLOCK_NEVER : a + b;
}

/* Return: whole ticks of a clock of `hz` that have passed at `ns`; the largest number
 * when there are more. */
static inline uint64_t ticks_at(uint64_t ns, uint64_t hz) {
    unsigned __int128 ticks;

    if (hz == NS_PER_SEC)
        return ns;
    ticks = (unsigned __int128)ns * hz / NS_PER_SEC;
    return ticks >> 64 ? UINT64_MAX : (uint64_t)ticks;
}

/* Return: the first ns at which `ticks` ticks have passed, or CLOCK_NEVER. */
static inline uint64_t ticks_ns(uint64_t ticks, uint64_t hz) {
    unsigned __int128 ns;

    if (hz == NS_PER_SEC)
        return ticks;
    ns = ((unsigned __int128)ticks * NS_PER_SEC + (hz - 1)) / hz;
    return ns > NS_HORIZON ? CLOCK_NEVER : (uint64_t)ns;
}
