/* SPDX-License-Identifier: MIT */
/*
 * The local APIC's timer: one-shot, periodic, and TSC-deadline (SDM volume 3, "APIC
 * Timer").
 *
 * The counter is not counted but computed: it stood at base_count at base_ns, and loses
 * one each `divide` ticks of apic_hz. A periodic counter is reloaded from `initial` in
 * the tick in which it reaches 0.
 *
 * Invariants
 * 1. base_count == 0: the counter stands at 0 and stays there until it is written.
 * 2. The device's timer is armed exactly when the counter runs or a deadline is set.
 * 3. Periods that passed while time skipped are one interrupt: the next one is always
 *    after now.
 * 4. Between one-shot and periodic the counter goes on; into and out of TSC-deadline mode
 *    it is disarmed (SDM "TSC-Deadline Mode").
 */
#include "base/ticks.h"
#include "dev/intc_internal.h"

#define MODE_MASK     0x60000u
#define MODE_PERIODIC 0x20000u
#define MODE_DEADLINE 0x40000u

static uint64_t now(const struct lapic *l) {
    return clock_now(l->intc->dev.env.clock);
}

static bool deadline_mode(const struct lapic *l) {
    return (l->s.lvt[LVT_TIMER] & MODE_MASK) == MODE_DEADLINE;
}

static bool periodic(const struct lapic *l) {
    return (l->s.lvt[LVT_TIMER] & MODE_MASK) == MODE_PERIODIC;
}

/* Divide configuration: bits 3, 1, 0; 111 is by 1. */
static unsigned shift(const struct lapic *l) {
    return ((l->s.divide & 3) + (l->s.divide >> 1 & 4) + 1) & 7;
}

/* Counter ticks since base_ns. */
static uint64_t elapsed(const struct lapic *l) {
    return ticks_at(now(l) - l->s.base_ns, l->intc->cfg.apic_hz) >> shift(l);
}

uint32_t lapic_timer_count(const struct lapic *l) {
    uint64_t ticks;
    if (!l->s.base_count || deadline_mode(l))
        return 0;
    ticks = elapsed(l);
    if (ticks < l->s.base_count)
        return l->s.base_count - (uint32_t)ticks;
    if (!periodic(l))
        return 0;
    return l->s.initial - (uint32_t)((ticks - l->s.base_count) % l->s.initial);
}

/* Arm for the next time that the counter reaches 0. Before the horizon, and with apic_hz
 * at most APIC_HZ_MAX, ticks and their shifts fit into 64 bits. */
static void arm_counter(struct lapic *l) {
    uint64_t ticks, next = l->s.base_count, ns;
    if (!l->s.base_count || now(l) > NS_HORIZON) {
        dev_arm(&l->dev, CLOCK_NEVER);
        return;
    }
    ticks = elapsed(l);
    if (ticks >= next)
        next += ((ticks - next) / l->s.initial + 1) * l->s.initial;
    ns = ticks_ns(next << shift(l), l->intc->cfg.apic_hz);
    dev_arm(&l->dev, ns_add(l->s.base_ns, ns));
}

/* Begin to count from `count` now. */
static void start(struct lapic *l, uint32_t count) {
    l->s.base_count = count;
    l->s.base_ns = now(l);
    arm_counter(l);
}

/* The counter may have reached 0 with clock_run still to come: that interrupt is not lost
 * when the guest writes the timer first. */
static void settle(struct lapic *l) {
    if (l->dev.timer.deadline > now(l) || deadline_mode(l))
        return;
    dev_arm(&l->dev, CLOCK_NEVER);
    lapic_timer_fire(l);
}

void lapic_timer_set_initial(struct lapic *l, uint32_t value) {
    if (deadline_mode(l))
        return;
    settle(l);
    l->s.initial = value;
    start(l, value);
}

void lapic_timer_set_divide(struct lapic *l, uint32_t value) {
    if (value == l->s.divide)
        return;
    settle(l);
    uint32_t count = lapic_timer_count(l);
    l->s.divide = value;
    if (!deadline_mode(l))
        start(l, count);
}

void lapic_timer_set_lvt(struct lapic *l, uint32_t value) {
    settle(l);
    uint32_t old = l->s.lvt[LVT_TIMER], count = lapic_timer_count(l);
    l->s.lvt[LVT_TIMER] = value;
    if (!((old ^ value) & MODE_MASK))
        return;
    if ((old ^ value) & MODE_DEADLINE) {
        l->s.deadline = 0;
        l->s.initial = 0;
        start(l, 0);
        return;
    }
    start(l, count);
}

uint64_t lapic_timer_deadline(const struct lapic *l) {
    return deadline_mode(l) ? l->s.deadline : 0;
}

/* Fire when the TSC has reached the deadline, else arm for when it will have. */
static void check_deadline(struct lapic *l) {
    struct intc *i = l->intc;
    uint64_t tsc = intc_tsc(i, l->cpu);
    if (l->s.deadline <= tsc) {
        l->s.deadline = 0;
        lapic_local(l, LVT_TIMER);
        return;
    }
    l->s.deadline_ns = ns_add(now(l), ticks_ns(l->s.deadline - tsc, i->cfg.apic_hz));
    dev_arm(&l->dev, l->s.deadline_ns);
}

void lapic_timer_set_deadline(struct lapic *l, uint64_t tsc) {
    if (!deadline_mode(l))
        return;
    if (l->dev.timer.deadline != CLOCK_NEVER && !tsc)
        dev_arm(&l->dev, CLOCK_NEVER);
    l->s.deadline = tsc;
    if (!tsc)
        return;
    check_deadline(l);
    if (!l->s.deadline)
        dev_arm(&l->dev, CLOCK_NEVER);
}

void lapic_timer_fire(void *lapic) {
    struct lapic *l = lapic;
    if (deadline_mode(l)) {
        check_deadline(l); /* the TSC may have been set back */
        return;
    }
    if (periodic(l) && l->s.initial)
        arm_counter(l);
    else
        l->s.base_count = 0;
    lapic_local(l, LVT_TIMER);
}

bool lapic_timer_check(const struct lapic *l, const struct lapic_state *s) {
    bool by_tsc = (s->lvt[LVT_TIMER] & MODE_MASK) == MODE_DEADLINE;
    return !(s->divide & ~0xbu) && s->base_count <= s->initial && s->base_ns <= now(l) &&
           (by_tsc ? !s->base_count : !s->deadline);
}

void lapic_timer_settle(void *lapic) {
    struct lapic *l = lapic;
    if (!deadline_mode(l))
        arm_counter(l);
    else if (l->s.deadline)
        dev_arm(&l->dev, l->s.deadline_ns);
}

void lapic_timer_reset(struct lapic *l) {
    dev_arm(&l->dev, CLOCK_NEVER);
    l->s.initial = l->s.divide = l->s.base_count = 0;
    l->s.base_ns = 0;
    l->s.deadline = l->s.deadline_ns = 0;
}

void lapic_timer_restore(struct lapic *l, uint32_t lvt, uint32_t initial, uint32_t divide,
                         uint32_t count) {
    lapic_timer_reset(l);
    l->s.lvt[LVT_TIMER] = lvt;
    l->s.initial = initial;
    l->s.divide = divide & 0xb;
    if (!deadline_mode(l))
        start(l, count < initial ? count : initial);
}
