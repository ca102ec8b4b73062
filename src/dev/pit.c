/* SPDX-License-Identifier: MIT */
/*
 * 8254 timer at 0x40..0x43 and the PC's port 0x61: channel 0 is gsi 0, channel 2 is the
 * speaker, its gate and output in port 0x61, where bit 4 also shows the DRAM refresh.
 *
 * Nothing counts: a channel knows the tick at which its counter was loaded, and counter
 * and output are computed from now (Intel 8254 data sheet, "Mode Definitions"). A new count
 * takes over:
 *
 *   mode  counter at d ticks after loading N   output                     new count
 *   0     N - d, wraps                         low until d == N           at once
 *   1     N - d, wraps                         high; low for N ticks      gate's edge
 *                                              after the gate's edge
 *   2     N - d % N                            low in the last tick of    end of period,
 *                                              each period                or gate's edge
 *   3     N - 2 * d % N, even                  high for the first         end of half, or
 *                                              (N + 1) / 2, then low      gate's edge
 *   4     N - d, wraps                         low in tick d == N only    at once
 *   5     as 4, from the gate's edge on                                   gate's edge
 *
 * Invariants
 * 1. `count` is 1..65536 (10000 in BCD); d never passes through a loop.
 * 2. Channel 0 interrupts on rising edges. Between two of them the line pulses low only
 *    in modes 2 and 3; edges that passed while time skipped are one edge.
 */
#include "base/ticks.h"
#include "dev/dev.h"

#define REFRESH_NS 15085u /* the refresh toggle's half period */
#define GSI        0u

#define PORT61_GATE    0x01u
#define PORT61_SPEAKER 0x02u
#define PORT61_REFRESH 0x10u
#define PORT61_OUT     0x20u

struct pit {
    struct device dev;
    struct pn_pit s;
};

static uint64_t now_ticks(const struct pit *p) {
    return ticks_at(clock_now(p->dev.env.clock), PN_PIT_HZ);
}

/* Ticks counted since loading. */
static uint64_t since(const struct pn_pit_channel *c, uint64_t t) {
    return c->before + (c->stopped || t < c->start ? 0 : t - c->start);
}

/* Modes 1 and 5 count from the gate's edge on. */
static bool by_edge(const struct pn_pit_channel *c) {
    return c->mode == 1 || c->mode == 5;
}

static bool periodic(const struct pn_pit_channel *c) {
    return c->mode == 2 || c->mode == 3;
}

/* Ticks of mode 3 for which the output is high. */
static uint32_t high_half(uint32_t count) {
    return (count + 1) / 2;
}

static void take_next(struct pn_pit_channel *c) {
    if (c->next_count)
        c->count = c->next_count;
    c->next_count = 0;
}

/* A count that waits takes over in its tick. Mode 3's may begin with the low half. */
static void settle(struct pn_pit_channel *c, uint64_t t) {
    if (!c->next_count || t < c->next_at)
        return;
    uint64_t d = since(c, c->next_at) % c->count;
    take_next(c);
    c->start = c->next_at;
    c->before = d ? high_half(c->count) : 0;
}

static bool running(const struct pn_pit_channel *c) {
    return c->loaded && (!by_edge(c) || c->triggered);
}

static bool output(const struct pn_pit_channel *c, uint64_t t) {
    uint64_t d = since(c, t);
    if (!running(c))
        return c->mode != 0;
    switch (c->mode) {
    case 0:
    case 1:
        return d >= c->count;
    case 2:
        return c->stopped || d % c->count != c->count - 1;
    case 3:
        return c->stopped || d % c->count < high_half(c->count);
    default:
        return d != c->count;
    }
}

static uint16_t to_bcd(uint32_t v) {
    return (uint16_t)(v / 1000 % 10 << 12 | v / 100 % 10 << 8 | v / 10 % 10 << 4 |
                      v % 10);
}

/* Any nibble may be above 9 in hostile BCD; the sum stays below 16666. */
static uint32_t from_bcd(uint16_t v) {
    return (v >> 12) * 1000u + (v >> 8 & 15) * 100u + (v >> 4 & 15) * 10u + (v & 15);
}

static uint16_t counter(const struct pn_pit_channel *c, uint64_t t) {
    uint32_t wrap = c->bcd ? 10000 : 0x10000;
    uint64_t d = since(c, t);
    uint32_t v;
    if (!c->loaded)
        return 0;
    if (!running(c))
        v = c->count;
    else if (c->mode == 2)
        v = c->count - (uint32_t)(d % c->count);
    else if (c->mode == 3)
        v = (c->count - (uint32_t)(2 * (d % c->count) % c->count)) & ~1u;
    else
        v = c->count + wrap - (uint32_t)(d % wrap);
    v %= wrap;
    return c->bcd ? to_bcd(v) : (uint16_t)v;
}

/* Return: the tick of the next rising edge after t with the present count, or CLOCK_NEVER.
 */
static uint64_t rise_of(const struct pn_pit_channel *c, uint64_t t) {
    uint64_t d = since(c, t);
    if (!running(c) || c->stopped)
        return CLOCK_NEVER;
    switch (c->mode) {
    case 0:
    case 1:
        return d < c->count ? t + c->count - d : CLOCK_NEVER;
    case 2:
    case 3:
        return t + c->count - d % c->count;
    default:
        return d <= c->count ? t + c->count + 1 - d : CLOCK_NEVER;
    }
}

/* The same, with the count that waits. */
static uint64_t next_rise(const struct pn_pit_channel *c, uint64_t t) {
    uint64_t rise = rise_of(c, t);
    if (!c->next_count || c->next_at >= rise)
        return rise;
    struct pn_pit_channel then = *c;
    settle(&then, c->next_at);
    return rise_of(&then, c->next_at);
}

static void set_line(struct pit *p, bool level) {
    dev_line(&p->dev, &p->s.line, GSI, level);
}

static void arm(struct pit *p, uint64_t t) {
    uint64_t rise = next_rise(&p->s.channel[0], t);
    dev_arm(&p->dev, rise == CLOCK_NEVER ? CLOCK_NEVER : ticks_ns(rise, PN_PIT_HZ));
}

static void on_rise(void *opaque) {
    struct pit *p = opaque;
    uint64_t t = now_ticks(p);
    settle(&p->s.channel[0], t);
    set_line(p, 0);
    set_line(p, 1);
    arm(p, t);
}

/* After channel 0 was written. */
static void follow(struct pit *p, uint64_t t) {
    set_line(p, output(&p->s.channel[0], t));
    arm(p, t);
}

/* When a count that is written now takes over. */
static uint64_t takes_over(const struct pn_pit_channel *c, uint64_t t) {
    uint64_t d = since(c, t) % c->count, half = high_half(c->count);
    if (by_edge(c) || c->stopped)
        return CLOCK_NEVER;
    return t + (c->mode == 3 && d < half ? half : c->count) - d;
}

static void load(struct pn_pit_channel *c, uint16_t value, uint64_t t) {
    uint32_t n = c->bcd ? from_bcd(value) : value;
    if (c->bcd)
        n %= 10000;
    if (!n)
        n = c->bcd ? 10000 : 0x10000;
    if (n == 1 && periodic(c))
        n = 2; /* 1 is illegal there */
    if (c->loaded && (periodic(c) || by_edge(c))) {
        c->next_count = n;
        c->next_at = takes_over(c, t);
        return;
    }
    c->count = n;
    c->loaded = true;
    c->start = t;
    c->before = 0;
    c->stopped = !c->gate && !by_edge(c);
}

static void write_count(struct pn_pit_channel *c, uint8_t value, uint64_t t) {
    switch (c->access) {
    case 1:
        load(c, value, t);
        break;
    case 2:
        load(c, (uint16_t)(value << 8), t);
        break;
    case 3:
        if (!c->write_high) {
            c->write_low = value;
            if (c->mode == 0)
                c->loaded = false; /* the first byte stops mode 0 */
        } else {
            load(c, (uint16_t)(value << 8 | c->write_low), t);
        }
        c->write_high ^= 1;
        break;
    }
}

static void latch_count(struct pn_pit_channel *c, uint64_t t) {
    if (c->latched)
        return;
    c->latch = counter(c, t);
    c->latched = c->access;
}

static void latch_status(struct pn_pit_channel *c, uint64_t t) {
    if (c->status_latched)
        return;
    bool null = !running(c) || c->next_count; /* what was written is not counted yet */
    c->status =
        (uint8_t)(output(c, t) << 7 | null << 6 | c->access << 4 | c->mode << 1 | c->bcd);
    c->status_latched = true;
}

static void write_control(struct pit *p, uint8_t value, uint64_t t) {
    unsigned n = value >> 6;
    if (n == 3) { /* read-back; its bits are active low */
        for (unsigned i = 0; i < 3; i++) {
            if (!(value >> (i + 1) & 1))
                continue;
            settle(&p->s.channel[i], t);
            if (!(value & 0x20))
                latch_count(&p->s.channel[i], t);
            if (!(value & 0x10))
                latch_status(&p->s.channel[i], t);
        }
        return;
    }
    struct pn_pit_channel *c = &p->s.channel[n];
    settle(c, t);
    if (!(value & 0x30)) {
        latch_count(c, t);
        return;
    }
    *c = (struct pn_pit_channel){.gate = c->gate,
                                 .count = 0x10000,
                                 .access = value >> 4 & 3,
                                 .mode = value >> 1 & 7,
                                 .bcd = value & 1};
    if (c->mode > 5)
        c->mode -= 4; /* 6 and 7 are 2 and 3 */
    if (n == 0)
        follow(p, t);
}

static uint8_t read_count(struct pn_pit_channel *c, uint64_t t) {
    uint16_t v;
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    if (c->latched) {
        /* 3: low, then high; 1: low only; 2: high only */
        bool high = c->latched == 2;
        c->latched = c->latched == 3 ? 2 : 0;
        return (uint8_t)(high ? c->latch >> 8 : c->latch);
    }
    v = counter(c, t);
    if (c->access == 3) {
        c->read_high ^= 1;
        return (uint8_t)(c->read_high ? v : v >> 8);
    }
    return (uint8_t)(c->access == 2 ? v >> 8 : v);
}

static uint64_t pit_read(void *dev, uint64_t offset, unsigned size) {
    struct pit *p = dev;
    uint64_t t = now_ticks(p);
    if (offset >= 3)
        return 0xff; /* the control word cannot be read */
    settle(&p->s.channel[offset], t);
    return read_count(&p->s.channel[offset], t);
}

static void pit_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct pit *p = dev;
    uint64_t t = now_ticks(p);
    if (offset >= 3) {
        write_control(p, (uint8_t)value, t);
        return;
    }
    settle(&p->s.channel[offset], t);
    write_count(&p->s.channel[offset], (uint8_t)value, t);
    if (offset == 0)
        follow(p, t);
}

/* Data sheet, table "Gate Pin Operations Summary". */
static void set_gate(struct pn_pit_channel *c, bool gate, uint64_t t) {
    settle(c, t);
    if (gate == c->gate)
        return;
    c->gate = gate;
    if (by_edge(c)) {
        if (gate && c->loaded) {
            take_next(c);
            c->triggered = true;
            c->start = t;
            c->before = 0;
        }
        return;
    }
    c->before = since(c, t);
    c->start = t;
    c->stopped = !gate;
    if (!periodic(c))
        return;
    c->next_at = CLOCK_NEVER; /* the period does not end, and the edge takes it */
    if (gate) {
        take_next(c);
        c->before = 0;
    }
}

static uint64_t port61_read(void *dev, uint64_t offset, unsigned size) {
    struct pit *p = dev;
    struct pn_pit_channel *c = &p->s.channel[2];
    uint64_t t = now_ticks(p);
    settle(c, t);
    return (c->gate ? PORT61_GATE : 0) | (p->s.speaker ? PORT61_SPEAKER : 0) |
           (clock_now(p->dev.env.clock) / REFRESH_NS & 1 ? PORT61_REFRESH : 0) |
           (output(c, t) ? PORT61_OUT : 0);
}

static void port61_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct pit *p = dev;
    p->s.speaker = !!(value & PORT61_SPEAKER);
    set_gate(&p->s.channel[2], value & PORT61_GATE, now_ticks(p));
}

static const struct dev_ops pit_ops = {"pit", 1, 1, pit_read, pit_write};
static const struct dev_ops port61_ops = {"port61", 1, 1, port61_read, port61_write};

/* ---- As a device ---- */

static const struct dev_range pit_ranges[] = {{DEV_PIO, 0x40, 4, &pit_ops},
                                              {DEV_PIO, 0x61, 1, &port61_ops}};

static void pit_reset(void *dev) {
    struct pit *p = dev;
    p->s = (struct pn_pit){.line = 0};
    for (unsigned n = 0; n < 3; n++)
        p->s.channel[n] = (struct pn_pit_channel){
            .count = 0x10000, .access = 3, .mode = 3, .gate = n != 2};
    p->s.channel[2].stopped = 1;
}

/* A channel loaded in the future would never run; other times may be any. */
static bool channel_check(const struct pn_pit_channel *c, uint64_t t) {
    return c->count && c->count <= 0x10000 && c->next_count <= 0x10000 && c->start <= t &&
           c->before <= t + 0x10000 && c->mode <= 5 && c->access && c->access <= 3 &&
           c->latched <= 3 &&
           (c->bcd | c->gate | c->loaded | c->triggered | c->stopped | c->write_high |
            c->read_high | c->status_latched) <= 1;
}

static bool pit_check(const void *dev, const void *state) {
    const struct pn_pit *s = state;
    uint64_t t = now_ticks(dev);
    for (unsigned n = 0; n < 3; n++)
        if (!channel_check(&s->channel[n], t))
            return false;
    return s->speaker <= 1 && s->line <= 1;
}

static void pit_settle(void *dev) {
    arm(dev, now_ticks(dev));
}

static const struct dev_class pit_class = {
    .name = "pit",
    .version = 1,
    DEV_STATE(struct pit, s),
    DEV_RANGES(pit_ranges),
    .reset = pit_reset,
    .check = pit_check,
    .settle = pit_settle,
    .expire = on_rise,
};

struct pit *pit_create(const struct dev_env *env) {
    return dev_create(&pit_class, env, 0, NULL);
}

int pit_adopt(struct pit *p, const struct pn_pit *s) {
    struct pn_pit mine = *s;
    uint64_t t = now_ticks(p);
    /* Its clock may have been read a moment later than ours. */
    for (unsigned n = 0; n < 3; n++)
        if (mine.channel[n].start > t)
            mine.channel[n].start = t;
    mine.line = 0;
    int rc = dev_load(p, &mine);
    if (rc)
        return rc;
    p->s.line = output(&p->s.channel[0], t);
    return p->s.line;
}
