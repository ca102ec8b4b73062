/* SPDX-License-Identifier: MIT */
/*
 * High precision event timer (IA-PC HPET Specification 1.0a): a counter of 100 MHz and three
 * timers, each periodic or not, of 64 or 32 bits.
 *
 *     0x000 capabilities   0x010 configuration   0x020 status   0x0f0 counter
 *     0x100 + 0x20 * n: configuration, comparator (+8), and no FSB route (+0x10)
 *
 * Invariants
 * 1. The counter is computed: `count` at `since`, and a tick each 10 ns while it is enabled.
 * 2. A timer's `next` is when the counter next meets its comparator, or CLOCK_NEVER; the
 *    clock's timer is armed for the earliest. It passes whether or not the timer interrupts,
 *    since a level timer's status and a periodic one's comparator follow from it.
 * 3. Lines are levels of the status bits of level timers. An edge timer lets its line fall
 *    and rise.
 * 4. What is done at once is done at one time: the clock is read once for it, since the host's goes
 *    on meanwhile, and a comparator that the counter has passed waits for a whole round.
 * 5. With legacy replacement on, timers 0 and 1 have the lines of PIT and RTC, and `legacy`
 *    has been told so.
 */
#include <string.h>

#include "dev/dev.h"

#define TIMERS    3u
#define TICK_NS   10u
#define PERIOD_FS 10000000ull
#define ROUTES    0x00f00000u /* gsi 20 to 23 */

#define CAPABILITIES (PERIOD_FS << 32 | HPET_BLOCK_ID)

enum { R_CAP = 0x00, R_CONFIG = 0x10, R_STATUS = 0x20, R_COUNT = 0xf0, R_TIMER = 0x100 };
enum { T_CONFIG = 0x00, T_CMP = 0x08 };

#define ENABLE 1u
#define LEGACY 2u

#define T_LEVEL       0x0002u
#define T_INTERRUPT   0x0004u
#define T_PERIODIC    0x0008u
#define T_SET_VALUE   0x0040u
#define T_32BIT       0x0100u
#define T_ROUTE_SHIFT 9u
#define T_ROUTE       0x3e00u
#define T_WRITABLE    (T_LEVEL | T_INTERRUPT | T_PERIODIC | T_SET_VALUE | T_32BIT | T_ROUTE)
#define T_FIXED       ((uint64_t)ROUTES << 32 | 0x0030u) /* can be periodic; 64 bits */

struct hpet_timer {
    uint64_t config, cmp, period;
    uint64_t next; /* of the clock */
};

struct hpet_state {
    uint64_t config, status;
    uint64_t count, since; /* invariant 1; since: of the clock */
    struct hpet_timer timer[TIMERS];
    uint32_t lines; /* gsis that are raised for level timers */
};

struct hpet {
    struct device dev;
    struct hpet_config cfg;
    struct hpet_state s;
};

/* ---- Time ---- */

static uint64_t ticks_since(const struct hpet *h, uint64_t now) {
    return h->s.config & ENABLE ? (now - h->s.since) / TICK_NS : 0;
}

static uint64_t counter(const struct hpet *h, uint64_t now) {
    return h->s.count + ticks_since(h, now);
}

static uint64_t mask(const struct hpet_timer *t) {
    return t->config & T_32BIT ? UINT32_MAX : UINT64_MAX;
}

static void arm(struct hpet *h) {
    uint64_t next = CLOCK_NEVER;
    for (unsigned n = 0; n < TIMERS; n++)
        if (h->s.timer[n].next < next)
            next = h->s.timer[n].next;
    dev_arm(&h->dev, next);
}

/* When the counter next meets the comparator. now_too: if it does so now, that counts. */
static void aim(struct hpet *h, struct hpet_timer *t, uint64_t now, bool now_too) {
    uint64_t elapsed = ticks_since(h, now), left = (t->cmp - counter(h, now)) & mask(t);
    t->next = CLOCK_NEVER;
    if (!(h->s.config & ENABLE))
        return;
    if (!left && !now_too) {
        if (!(t->config & T_32BIT))
            return;
        left = 1ull << 32;
    }
    if (left < (CLOCK_NEVER - h->s.since) / TICK_NS - elapsed)
        t->next = h->s.since + (elapsed + left) * TICK_NS;
}

static void aim_all(struct hpet *h, uint64_t now) {
    for (unsigned n = 0; n < TIMERS; n++)
        aim(h, &h->s.timer[n], now, true);
}

/* ---- Interrupts ---- */

/* The timer's line as a bit, which is its gsi; 0: it has none, as after a reset. */
static uint32_t line_of(const struct hpet *h, unsigned n) {
    if (h->s.config & LEGACY && n < 2)
        return 1u << (n ? HPET_RTC_GSI : HPET_PIT_GSI);
    return 1u << (h->s.timer[n].config >> T_ROUTE_SHIFT & 31) & ROUTES;
}

static void set(struct hpet *h, uint32_t line, int level) {
    h->dev.env.irq.set(h->dev.env.irq.opaque, (unsigned)__builtin_ctz(line), level);
}

static void update_lines(struct hpet *h) {
    uint32_t want = 0;
    for (unsigned n = 0; n < TIMERS; n++)
        if (h->s.status >> n & 1 && h->s.timer[n].config & T_INTERRUPT)
            want |= line_of(h, n);
    uint32_t changed = want ^ h->s.lines;
    h->s.lines = want;
    for (; changed; changed &= changed - 1)
        set(h, changed, (want & changed & -changed) != 0);
}

static void fire(struct hpet *h, unsigned n) {
    const struct hpet_timer *t = &h->s.timer[n];
    uint32_t line = line_of(h, n);
    if (t->config & T_LEVEL) {
        h->s.status |= 1u << n;
        update_lines(h);
    } else if (t->config & T_INTERRUPT && line && !(h->s.lines & line)) {
        set(h, line, 0);
        set(h, line, 1);
    }
}

/* What is due at `now` has come; several periods at once are one interrupt. */
static void catch_up(struct hpet *h, uint64_t now) {
    for (unsigned n = 0; n < TIMERS; n++) {
        struct hpet_timer *t = &h->s.timer[n];
        if (t->next > now)
            continue;
        uint64_t late = (now - t->next) / TICK_NS;
        if (t->config & T_PERIODIC && t->period)
            t->cmp = (t->cmp + (late / t->period + 1) * t->period) & mask(t);
        fire(h, n);
        aim(h, t, now, false);
    }
}

static void on_timer(void *opaque) {
    struct hpet *h = opaque;
    catch_up(h, clock_now(h->dev.env.clock));
    arm(h);
}

/* ---- Registers ---- */

static uint64_t read64(const struct hpet *h, uint64_t offset, uint64_t now) {
    unsigned n = (unsigned)(offset - R_TIMER) / 0x20;
    switch (offset) {
    case R_CAP:
        return CAPABILITIES;
    case R_CONFIG:
        return h->s.config;
    case R_STATUS:
        return h->s.status;
    case R_COUNT:
        return counter(h, now);
    }
    if (offset < R_TIMER || n >= TIMERS)
        return 0;
    switch (offset & 0x1f) {
    case T_CONFIG:
        return h->s.timer[n].config | T_FIXED;
    case T_CMP:
        return h->s.timer[n].cmp;
    default:
        return 0;
    }
}

static void write_config(struct hpet *h, uint64_t value, uint64_t now) {
    uint64_t was = h->s.config;
    h->s.count = counter(h, now);
    h->s.since = now;
    h->s.config = value & (ENABLE | LEGACY);
    if ((was ^ h->s.config) & LEGACY)
        h->cfg.legacy(h->cfg.opaque, h->s.config & LEGACY);
    for (unsigned n = 0; n < TIMERS; n++)
        aim(h, &h->s.timer[n], now, (was ^ h->s.config) & ENABLE);
    update_lines(h);
}

static void write_timer_config(struct hpet *h, unsigned n, uint64_t value, uint64_t now) {
    struct hpet_timer *t = &h->s.timer[n];
    uint64_t route = value & T_ROUTE;
    if (!(ROUTES >> (route >> T_ROUTE_SHIFT) & 1)) /* that is how a guest finds out */
        route = t->config & T_ROUTE;
    t->config = (value & T_WRITABLE & ~(uint64_t)T_ROUTE) | route;
    t->cmp &= mask(t);
    t->period &= mask(t);
    if (!(t->config & T_LEVEL))
        h->s.status &= ~(1ull << n);
    aim(h, t, now, false);
    update_lines(h);
}

/* A periodic timer's comparator is its period, and itself only once after SET_VALUE. */
static void write_cmp(struct hpet *h, unsigned n, uint64_t value, uint64_t period,
                      uint64_t now) {
    struct hpet_timer *t = &h->s.timer[n];
    bool periodic = t->config & T_PERIODIC;
    if (!periodic || t->config & T_SET_VALUE)
        t->cmp = value & mask(t);
    if (periodic)
        t->period = period & mask(t);
    t->config &= ~(uint64_t)T_SET_VALUE;
    aim(h, t, now, true);
}

static uint64_t merge(uint64_t old, uint64_t at, unsigned size, uint64_t value) {
    uint64_t lanes = size == 8 ? UINT64_MAX : (uint64_t)UINT32_MAX << at * 8;
    return (old & ~lanes) | (value << at * 8 & lanes);
}

/* at: 0 or 4, of the 8 bytes at offset. */
static void write64(struct hpet *h, uint64_t offset, uint64_t at, unsigned size,
                    uint64_t value, uint64_t now) {
    unsigned n = (unsigned)(offset - R_TIMER) / 0x20;
    uint64_t merged = merge(read64(h, offset, now), at, size, value);
    switch (offset) {
    case R_CONFIG:
        write_config(h, merged, now);
        return;
    case R_STATUS:
        h->s.status &= ~merge(0, at, size, value);
        update_lines(h);
        return;
    case R_COUNT:
        h->s.count = merged;
        h->s.since = now;
        aim_all(h, now);
        return;
    }
    if (offset < R_TIMER || n >= TIMERS)
        return;
    if ((offset & 0x1f) == T_CONFIG)
        write_timer_config(h, n, merged, now);
    else if ((offset & 0x1f) == T_CMP)
        write_cmp(h, n, merged, merge(h->s.timer[n].period, at, size, value), now);
}

static uint64_t hpet_read(void *dev, uint64_t offset, unsigned size) {
    struct hpet *h = dev;
    uint64_t at = offset & (8 - size), now = clock_now(h->dev.env.clock);
    catch_up(h, now);
    arm(h);
    uint64_t value = read64(h, offset & ~7ull, now) >> at * 8;
    return size == 8 ? value : (uint32_t)value;
}

static void hpet_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct hpet *h = dev;
    uint64_t now = clock_now(h->dev.env.clock);
    catch_up(h, now);
    write64(h, offset & ~7ull, offset & (8 - size), size, value, now);
    arm(h);
}

/* ---- As a device ---- */

static const struct dev_ops hpet_ops = {"hpet", 4, 8, hpet_read, hpet_write};
static const struct dev_range ranges[] = {{DEV_MMIO, HPET_BASE, HPET_SIZE, &hpet_ops}};

static int create(void *dev, const void *config) {
    struct hpet *h = dev;
    h->cfg = *(const struct hpet_config *)config;
    return 0;
}

static void reset(void *dev) {
    struct hpet *h = dev;
    memset(&h->s, 0, sizeof(h->s));
    for (unsigned n = 0; n < TIMERS; n++)
        h->s.timer[n] = (struct hpet_timer){.cmp = UINT64_MAX, .next = CLOCK_NEVER};
}

static bool check(const void *dev, const void *state) {
    const struct hpet *h = dev;
    const struct hpet_state *s = state;
    for (unsigned n = 0; n < TIMERS; n++) {
        const struct hpet_timer *t = &s->timer[n];
        if (t->config & ~(uint64_t)T_WRITABLE || t->cmp > mask(t) ||
            t->period > mask(t) || (t->next != CLOCK_NEVER && !(s->config & ENABLE)))
            return false;
    }
    return !(s->config & ~(uint64_t)(ENABLE | LEGACY)) && s->status < 1u << TIMERS &&
           s->since <= clock_now(h->dev.env.clock) &&
           !(s->lines & ~(ROUTES | 1u << HPET_PIT_GSI | 1u << HPET_RTC_GSI));
}

static void settle(void *dev) {
    struct hpet *h = dev;
    h->cfg.legacy(h->cfg.opaque, h->s.config & LEGACY);
    arm(h);
}

static const struct dev_class hpet_class = {
    .name = "hpet",
    .version = 1,
    DEV_STATE(struct hpet, s),
    DEV_RANGES(ranges),
    .create = create,
    .reset = reset,
    .check = check,
    .settle = settle,
    .expire = on_timer,
};

struct hpet *hpet_create(const struct dev_env *env, const struct hpet_config *cfg) {
    return dev_create(&hpet_class, env, 0, cfg);
}
