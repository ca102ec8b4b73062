/* SPDX-License-Identifier: MIT */
/*
 * The main() of a program of check tests, and its result:
 *
 *     SUITE("mmu.walk", .timeout = 300,
 *           .tests = {a_sentence, another_sentence},
 *           .loops = {{a_sentence_for_each_mode, 4}})
 *
 * Each case is printed by its name, so that `ctest -V` reads as a specification.
 */
#pragma once

#include <check.h>

/* Seconds. It ends a case that hangs; Check's own 4 end one that a busy host holds up. */
#define SUITE_TIMEOUT 60

struct suite {
    const char *name;
    void (*setup)(void), (*teardown)(void); /* around each case */
    double timeout;                         /* seconds of one case; 0: SUITE_TIMEOUT */
    const TTest *tests[64];
    struct {
        const TTest *test;
        int times; /* _i counts from 0 */
    } loops[24];
};

/* Return: main()'s. */
static inline int suite_run(const struct suite *s) {
    Suite *suite = suite_create(s->name);
    TCase *c = tcase_create(s->name);
    if (s->setup || s->teardown)
        tcase_add_checked_fixture(c, s->setup, s->teardown);
    tcase_set_timeout(c, s->timeout > 0 ? s->timeout : SUITE_TIMEOUT);
    for (unsigned i = 0; i < sizeof s->tests / sizeof *s->tests && s->tests[i]; i++)
        tcase_add_test(c, s->tests[i]);
    for (unsigned i = 0; i < sizeof s->loops / sizeof *s->loops && s->loops[i].test; i++)
        tcase_add_loop_test(c, s->loops[i].test, 0, s->loops[i].times);
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_VERBOSE);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}

#define SUITE(suite_name, ...)                                                           \
    int main(void) {                                                                     \
        return suite_run(&(const struct suite){.name = suite_name, __VA_ARGS__});        \
    }
