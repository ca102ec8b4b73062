/* SPDX-License-Identifier: MIT */
/* base/clock.h: order, rearming, cancelling, and the promise that clock_run ends. */
#include "fixture.h"

struct probe {
    struct clock_timer timer;
    struct fx *f;
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
        clock_cancel(&p->f->clock, &p->cancel->timer);
    if (p->again != CLOCK_NEVER)
        clock_arm(&p->f->clock, &p->timer, p->again);
}

static void probe_init(struct probe *p, struct fx *f, char name) {
    *p = (struct probe){.f = f, .name = name, .again = CLOCK_NEVER};
    clock_timer_init(&p->timer, on_fire, p);
}

START_TEST(in_order) {
    struct fx f;
    struct probe p[5];

    fx_init(&f);
    for (unsigned n = 0; n < 5; n++)
        probe_init(&p[n], &f, (char)('a' + n));
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
    fx_done(&f);
}
END_TEST

START_TEST(rearm_in_the_past_ends) {
    struct fx f;
    struct probe p, q;

    fx_init(&f);
    probe_init(&p, &f, 'p');
    probe_init(&q, &f, 'q');
    p.again = 0;
    clock_arm(&f.clock, &p.timer, 10);
    clock_arm(&f.clock, &q.timer, 20);
    f.now = 50;
    clock_run(&f.clock); /* p rearms itself in front of q */
    ck_assert_uint_eq(fired, 2);
    ck_assert_mem_eq(order, "pq", 2);
    clock_run(&f.clock);
    ck_assert_uint_eq(fired, 3);
    fx_done(&f);
}
END_TEST

START_TEST(cancel_from_a_callback) {
    struct fx f;
    struct probe p, q;

    fx_init(&f);
    probe_init(&p, &f, 'p');
    probe_init(&q, &f, 'q');
    p.cancel = &q;
    clock_arm(&f.clock, &p.timer, 10);
    clock_arm(&f.clock, &q.timer, 10);
    f.now = 10;
    clock_run(&f.clock);
    ck_assert_uint_eq(fired, 1);
    ck_assert_uint_eq(q.timer.deadline, CLOCK_NEVER);
    clock_cancel(&f.clock, &q.timer); /* twice is harmless */
    fx_done(&f);
}
END_TEST

static void count_change(void *opaque) {
    (void)opaque;
    fired++;
}

START_TEST(changed_is_told) {
    struct fx f;
    struct probe p, q;

    fx_init(&f);
    f.clock.changed = count_change;
    probe_init(&p, &f, 'p');
    probe_init(&q, &f, 'q');
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
    fx_done(&f);
}
END_TEST

int main(void) {
    const TTest *tests[] = {in_order, rearm_in_the_past_ends, cancel_from_a_callback,
                            changed_is_told};

    return fx_run("clock", tests, sizeof tests / sizeof *tests);
}
