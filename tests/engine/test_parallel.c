/* SPDX-License-Identifier: MIT */
/*
 * base/parallel.h: what its holder changes behind parallel_still nobody who is out sees half done, nor
 * who looks what he changes behind parallel_bar.
 * Under ThreadSanitizer it also shows that the one happens before the other.
 */
#include "base/locks.h"
#include "base/parallel.h"
#include "tests/suite.h"

#define THREADS 3u
#define TURNS   20000u
#define CHANGES 2000u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct parallel p = {.lock = &lock, .count = THREADS};
static volatile unsigned first, second; /* equal, but while the holder changes them */

struct vcpu {
    pthread_t thread;
    unsigned number, odd;
};

static void *run(void *opaque) {
    struct vcpu *v = opaque;
    parallel_enter(&p, v->number);
    for (unsigned i = 0; i < TURNS; i++) {
        parallel_leave(&p, v->number);
        unsigned a = first, b = second;
        v->odd += a != b;
        parallel_enter(&p, v->number);
    }
    lock_given(LOCK_MACHINE);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void change(void) {
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < THREADS; i++)
        parallel_still(&p, i);
    first = first + 1;
    for (unsigned i = 0; i < 100; i++)
        __builtin_ia32_pause();
    second = second + 1;
    pthread_mutex_unlock(&lock);
}

START_TEST(nobody_who_is_out_sees_half_a_change) {
    struct vcpu v[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        v[i] = (struct vcpu){.number = i};
        ck_assert_int_eq(pthread_create(&v[i].thread, NULL, run, &v[i]), 0);
    }
    for (unsigned i = 0; i < CHANGES; i++)
        change();
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(v[i].thread, NULL);
        ck_assert_uint_eq(v[i].odd, 0);
    }
    ck_assert_uint_eq(first, CHANGES);
    ck_assert_uint_eq(second, CHANGES);
}
END_TEST

/* ---- Looks ---- */

static atomic_bool ends;

static void *look(void *opaque) {
    struct vcpu *v = opaque;
    parallel_enter(&p, v->number);
    parallel_leave(&p, v->number);
    while (!ends) {
        if (!parallel_look(&p, v->number)) {
            parallel_enter(&p, v->number); /* which lets everybody look again */
            parallel_leave(&p, v->number);
            continue;
        }
        v->odd += first != second;
        parallel_looked(&p, v->number);
    }
    return NULL;
}

START_TEST(nobody_who_looks_sees_half_a_change) {
    struct vcpu v[THREADS - 1];
    for (unsigned i = 0; i < THREADS - 1; i++) {
        v[i] = (struct vcpu){.number = i};
        ck_assert_int_eq(pthread_create(&v[i].thread, NULL, look, &v[i]), 0);
    }
    for (unsigned i = 0; i < CHANGES; i++) {
        parallel_enter(&p, THREADS - 1);
        parallel_bar(&p);
        first = first + 1;
        for (unsigned k = 0; k < 100; k++)
            __builtin_ia32_pause();
        second = second + 1;
        parallel_leave(&p, THREADS - 1);
    }
    ends = true;
    for (unsigned i = 0; i < THREADS - 1; i++) {
        pthread_join(v[i].thread, NULL);
        ck_assert_uint_eq(v[i].odd, 0);
    }
}
END_TEST

START_TEST(nobody_looks_while_the_holder_bars) {
    parallel_enter(&p, 0);
    parallel_leave(&p, 0);
    ck_assert(parallel_look(&p, 0));
    parallel_looked(&p, 0);
    parallel_enter(&p, 1);
    parallel_bar(&p);
    ck_assert(!parallel_look(&p, 0));
    parallel_leave(&p, 1);
    ck_assert(parallel_look(&p, 0));
    parallel_looked(&p, 0);
}
END_TEST

START_TEST(who_is_in_is_not_waited_for) {
    ck_assert_uint_eq(parallel_enter(&p, 0), 0);
    ck_assert(!parallel_still(&p, 0));
    ck_assert(!parallel_still(&p, 1));
    lock_given(LOCK_MACHINE);
    pthread_mutex_unlock(&lock);
}
END_TEST

SUITE("parallel",
      .tests = {nobody_who_is_out_sees_half_a_change, nobody_who_looks_sees_half_a_change,
                nobody_looks_while_the_holder_bars, who_is_in_is_not_waited_for})
