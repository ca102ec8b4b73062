/* SPDX-License-Identifier: MIT */
/* base/clock.h: order, rearming, cancelling, and the promise that clock_run ends. */
#include "fixture.h"
#include "tests/suite.h"

static struct fx f;

static void setup(void) {
    fx_init(&f);
}

static void teardown(void) {
    fx_done(&f);
}

struct probe {
    struct clock_timer timer;
    char name;
    uint64_t again; /* rearm at this time when it fires; CLOCK_NEVER: do not */
    struct probe *cancel;
};

static char order[64];
static unsigned fired;

static void on_fire(void *opaque) {
    struct probe *p = opaque;

    ck_assert_uint_eq(p->timer.deadline, CLOCK_NEVER);
    order[fired++ % sizeof order] = p->name;
    if (p->cancel)
        clock_cancel(&f.clock, &p->cancel->timer);
    if (p->again != CLOCK_NEVER)
        clock_arm(&f.clock, &p->timer, p->again);
}

static void probe_init(struct probe *p, char name) {
    *p = (struct probe){.name = name, .again = CLOCK_NEVER};
    clock_timer_init(&p->timer, on_fire, p);
}

START_TEST(timers_fire_in_the_order_of_their_deadlines) {
    struct probe p[5];

    for (unsigned n = 0; n < 5; n++)
        probe_init(&p[n], (char)('a' + n));
    clock_arm(&f.clock, &p[0].timer, 30);
    clock_arm(&f.clock, &p[1].timer, 10);
    clock_arm(&f.clock, &p[2].timer, 20);
    clock_arm(&f.clock, &p[3].timer, 20); /* equal: after c */
    clock_arm(&f.clock, &p[4].timer, 5);
    clock_arm(&f.clock, &p[4].timer, 40); /* moved to the back */
    ck_assert_uint_eq(clock_next(&f.clock), 10);
    f.now = 29;
    clock_run(&f.clock);
    ck_assert_uint_eq(fired, 3);
    ck_assert_mem_eq(order, "bcd", 3);
    f.now = 100;
    clock_run(&f.clock);
    ck_assert_mem_eq(order, "bcdae", 5);
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER);
    clock_run(&f.clock);
    ck_assert_uint_eq(fired, 5);
}
END_TEST

START_TEST(a_timer_rearmed_in_the_past_waits_for_the_next_run) {
    struct probe p, q;

    probe_init(&p, 'p');
    probe_init(&q, 'q');
    p.again = 0;
    clock_arm(&f.clock, &p.timer, 10);
    clock_arm(&f.clock, &q.timer, 20);
    f.now = 50;
    clock_run(&f.clock); /* p rearms itself in front of q */
    ck_assert_uint_eq(fired, 2);
    ck_assert_mem_eq(order, "pq", 2);
    clock_run(&f.clock);
    ck_assert_uint_eq(fired, 3);
}
END_TEST

START_TEST(a_callback_may_cancel_another_timer) {
    struct probe p, q;

    probe_init(&p, 'p');
    probe_init(&q, 'q');
    p.cancel = &q;
    clock_arm(&f.clock, &p.timer, 10);
    clock_arm(&f.clock, &q.timer, 10);
    f.now = 10;
    clock_run(&f.clock);
    ck_assert_uint_eq(fired, 1);
    ck_assert_uint_eq(q.timer.deadline, CLOCK_NEVER);
    clock_cancel(&f.clock, &q.timer); /* twice is harmless */
}
END_TEST

static void count_change(void *opaque) {
    (void)opaque;
    fired++;
}

START_TEST(changed_is_told_of_each_new_first_deadline) {
    struct probe p, q;

    f.clock.changed = count_change;
    probe_init(&p, 'p');
    probe_init(&q, 'q');
    clock_arm(&f.clock, &p.timer, 10);
    ck_assert_uint_eq(fired, 1);
    clock_arm(&f.clock, &q.timer, 20); /* behind: not told */
    ck_assert_uint_eq(fired, 1);
    clock_arm(&f.clock, &q.timer, 5);
    ck_assert_uint_eq(fired, 2);
    clock_cancel(&f.clock, &q.timer);
    ck_assert_uint_eq(fired, 3);
    clock_arm(&f.clock, &p.timer, CLOCK_NEVER);
    ck_assert_uint_eq(fired, 4);
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER);
}
END_TEST

SUITE("clock", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {timers_fire_in_the_order_of_their_deadlines,
                a_timer_rearmed_in_the_past_waits_for_the_next_run,
                a_callback_may_cancel_another_timer,
                changed_is_told_of_each_new_first_deadline})
