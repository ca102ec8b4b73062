/* SPDX-License-Identifier: MIT */
/* MMU configurations from the text of --mmu. */
#include <errno.h>
#include <string.h>

#include "bench/harness/lineup.h"
#include "tests/suite.h"

static struct lineup l;
static char text[256];
static struct err e = {text, sizeof(text)};

static void begin(void) {
    memset(&l, 0, sizeof(l));
}

/* That text is refused, with a line that says why. */
static void refused(const char *mmu, const char *why) {
    begin();
    ck_assert_int_eq(lineup_add(&l, mmu, &e), -EINVAL);
    ck_assert_msg(strstr(text, why) != NULL, "%s: %s", mmu, text);
}

START_TEST(each_configuration_has_its_own_options) {
    begin();
    ck_assert_int_eq(
        lineup_add(&l, "shadow,shadow:unsync=0,tdp:large_pages=0+tdp_levels=5", &e), 0);
    ck_assert_uint_eq(l.n, 3);
    ck_assert_str_eq(l.mmu[0].label, "shadow");
    ck_assert_uint_eq(l.mmu[0].opt.unsync, 1);
    ck_assert_uint_eq(l.mmu[1].opt.unsync, 0);
    ck_assert_uint_eq(l.mmu[1].opt.large_pages, 1);
    ck_assert_str_eq(l.mmu[2].label, "tdp:large_pages=0+tdp_levels=5");
    ck_assert_str_eq(l.mmu[2].engine->name, "tdp");
    ck_assert_uint_eq(l.mmu[2].opt.large_pages, 0);
    ck_assert_uint_eq(l.mmu[2].opt.tdp_levels, 5);
}
END_TEST

START_TEST(a_dirty_log_is_an_option_of_every_engine) {
    unsigned has = 0;
    begin();
    ck_assert_int_eq(lineup_add(&l, "tdp,tdp:log=pml/dbit,kvm:log=ring,tdp:log=off", &e),
                     0);
    ck_assert_uint_eq(l.n, 5);
    ck_assert(l.mmu[4].no_log && !l.mmu[3].no_log);
    ck_assert_int_eq(l.mmu[0].log, PN_TRACKER_OFF);
    ck_assert_int_eq(l.mmu[1].log, PN_TRACKER_PML);
    ck_assert_str_eq(l.mmu[2].label, "tdp:log=dbit");
    ck_assert_int_eq(l.mmu[3].log, PN_TRACKER_RING);
    begin();
    ck_assert_int_eq(lineup_add(&l, "shadow:log=all+prefetch=0", &e), 0);
    for (unsigned t = PN_TRACKER_OFF + 1; t < PN_TRACKERS; t++)
        has += pn_engine_find("shadow")->has_tracker(t);
    ck_assert_uint_eq(l.n, has);
    for (unsigned i = 0; i < l.n; i++)
        ck_assert_uint_eq(l.mmu[i].opt.prefetch, 0);
    begin();
    ck_assert_int_eq(lineup_add(&l, "tdp:log=all", &e), 0);
    ck_assert_uint_eq(l.n, has); /* both kinds have the same */
    refused("shadow:log=bitmap", "not one of wp, ");
    refused("kvm:unsync=0", "no such options, but log");
    refused("tdp:log=wp/wp", "named twice");
}
END_TEST

START_TEST(several_values_of_an_option_are_a_sweep) {
    const double want[] = {64, 128, 256};
    begin();
    ck_assert_int_eq(lineup_add(&l, "shadow:unsync=0+page_budget=64/128/256", &e), 0);
    ck_assert_uint_eq(l.n, 3);
    for (unsigned i = 0; i < 3; i++) {
        json_t *sweep = lineup_sweep(&l.mmu[i]);
        ck_assert_str_eq(json_string_value(json_object_get(sweep, "parameter")),
                         "page_budget");
        ck_assert_double_eq(json_number_value(json_object_get(sweep, "value")), want[i]);
        ck_assert_uint_eq(l.mmu[i].opt.unsync, 0);
        json_decref(sweep);
    }
    ck_assert_str_eq(l.mmu[1].label, "shadow:unsync=0+page_budget=128");
}
END_TEST

START_TEST(two_swept_options_give_each_combination_and_no_axis) {
    begin();
    ck_assert_int_eq(lineup_add(&l, "tdp:large_pages=0/1+tdp_levels=4/5", &e), 0);
    ck_assert_uint_eq(l.n, 4);
    ck_assert_str_eq(l.mmu[2].label, "tdp:large_pages=1+tdp_levels=4");
    ck_assert_str_eq(l.mmu[2].axis, "");
}
END_TEST

START_TEST(every_option_in_effect_is_told) {
    begin();
    ck_assert_int_eq(lineup_add(&l, "shadow:prefetch=0", &e), 0);
    json_t *all = lineup_options(&l.mmu[0].opt);
    ck_assert_int_eq(json_integer_value(json_object_get(all, "prefetch")), 0);
    ck_assert_int_eq(json_integer_value(json_object_get(all, "unsync")), 1);
    ck_assert_uint_eq(json_object_size(all), sizeof(l.mmu[0].opt) / sizeof(uint32_t));
    json_decref(all);
}
END_TEST

START_TEST(what_is_no_configuration_is_refused_by_name) {
    refused("", "not one of shadow, tdp, kvm");
    refused("shadow,", "not one of");
    refused("shadows", "'shadows': not one of");
    refused("shadow:", "no options");
    refused("shadow:unsync", "'unsync': not NAME=VALUE");
    refused("shadow:unsync=2", "unsync=2: not from 0 to 1");
    refused("shadow:unsync=0/2", "unsync=2: not from 0 to 1");
    refused("shadow:unsync=0/", "unsync=: not from 0 to 1");
    refused("shadow:nosuch=1", "'nosuch'");
    refused("shadow:unsync=0+unsync=1", "unsync is given twice");
    refused("shadow:unsync=0++prefetch=0", "not NAME=VALUE");
    refused("shadow:tdp_levels=5", "shadow: tdp_levels is an option of tdp alone");
    refused("tdp:unsync=0", "tdp: unsync is an option of shadow alone");
    refused("kvm:unsync=0", "kvm: its MMU has no such options");
}
END_TEST

START_TEST(equal_configurations_are_refused) {
    refused("shadow,tdp,shadow", "shadow is named twice");
    refused("shadow,shadow:unsync=1", "shadow and shadow:unsync=1 are the same");
    refused("shadow:prefetch=1+unsync=0,shadow:unsync=0+prefetch=1", "are the same");
}
END_TEST

START_TEST(more_configurations_than_there_is_room_for_are_refused) {
    char many[1024] = "shadow:prefetch=0";
    for (unsigned i = 1; i <= LINEUP_MAX; i++)
        snprintf(many + strlen(many), sizeof(many) - strlen(many), ",shadow:prefetch=%u",
                 20 + i);
    begin();
    ck_assert_int_eq(lineup_add(&l, many, &e), -ENOSPC);
    char longer[512] = "shadow:";
    memset(longer + 7, 'x', sizeof(longer) - 8);
    refused(longer, "too many options");
}
END_TEST

SUITE("lineup", .timeout = 60,
      .tests = {
          each_configuration_has_its_own_options, several_values_of_an_option_are_a_sweep,
          two_swept_options_give_each_combination_and_no_axis,
          a_dirty_log_is_an_option_of_every_engine, every_option_in_effect_is_told,
          what_is_no_configuration_is_refused_by_name, equal_configurations_are_refused,
          more_configurations_than_there_is_room_for_are_refused})
