/* SPDX-License-Identifier: MIT */
/* Points (machine/point.h): a guest that goes back does what it did before, and nothing of what it
 * did since is left, in memory, vCPUs, devices or time. */
#include <errno.h>
#include <string.h>

#include "machine/point.h"
#include "tests/suite.h"

#define CODE 0x100000ull
#define DATA 0x200000ull
#define KEEP 20u /* writes before the point */

/*
 *     mov edi, DATA
 * 1:  rdtsc; add ebx, eax; mov [rdi], ebx; add edi, 4096; inc ecx
 *     mov al, cl; out 0x71, al       (a register of the RTC's, which keeps it)
 *     cmp ecx, 100; jne 1b; xor al, al; out 0xf4, al
 * with the RTC's index at 0x40, which is memory.
 */
static const uint8_t code[] = {0xb0, 0x40, 0xe6, 0x70, 0xbf, 0x00, 0x00, 0x20, 0x00,
                               0x0f, 0x31, 0x01, 0xc3, 0x89, 0x1f, 0x81, 0xc7, 0x00,
                               0x10, 0x00, 0x00, 0xff, 0xc1, 0x88, 0xc8, 0xe6, 0x71,
                               0x83, 0xf9, 0x64, 0x75, 0xe9, 0x30, 0xc0, 0xe6, 0xf4};
#define LOOP (CODE + 9)

struct world {
    struct machine *m;
    struct machine_point *point;
    char text[256];
    struct err e;
};

static const char *const engines[] = {"shadow", "tdp"};

static void open_world(struct world *w, unsigned engine, enum pn_dirty_tracker tracker) {
    memset(w, 0, sizeof(*w));
    w->e = (struct err){w->text, sizeof(w->text)};
    struct machine_config cfg = {.engine = pn_engine_find(engines[engine]),
                                 .ram = 16 << 20,
                                 .cpus = 1,
                                 .kernel_blob = code,
                                 .kernel_blob_size = sizeof(code),
                                 .format = FMT_FLAT,
                                 .flat_addr = CODE,
                                 .flat_bits = 64,
                                 .dirty = tracker,
                                 .pv = 0};
    pn_mmu_options_default(&cfg.mmu);
    ck_assert_msg(!machine_create(&cfg, &w->m, w->text, sizeof(w->text)), "%s", w->text);
}

static void close_world(struct world *w) {
    machine_destroy(w->m);
}

static enum machine_stop_why go(struct world *w) {
    struct machine_stop stop;
    ck_assert_msg(!machine_go(w->m, &stop, w->text, sizeof(w->text)), "%s", w->text);
    return stop.why;
}

/* Until it is at LOOP for the nth time from now. */
static void go_rounds(struct world *w, unsigned n) {
    ck_assert_int_eq(machine_break(w->m, LOOP, true), 0);
    for (unsigned i = 0; i < n; i++)
        ck_assert_int_eq(go(w), MACHINE_BREAK);
    machine_break_none(w->m);
}

static uint64_t reset(struct world *w) {
    struct machine_reset done;
    ck_assert_msg(!machine_point_reset(w->point, &done, &w->e), "%s", w->text);
    return done.pages;
}

START_TEST(a_guest_that_goes_back_does_the_same_again) {
    struct world w;
    struct pn_cpu_state at_point, first_end, again;
    open_world(&w, (unsigned)_i, PN_TRACKER_WP);
    go_rounds(&w, KEEP + 1);
    ck_assert_msg(!machine_point_take(w.m, &w.point, &w.e), "%s", w.text);
    uint64_t digest = machine_ram_digest(w.m);
    ck_assert_int_eq(machine_get_state(w.m, 0, &at_point), 0);
    ck_assert_int_eq(go(&w), MACHINE_ENDED);
    uint64_t end = machine_ram_digest(w.m);
    machine_get_state(w.m, 0, &first_end);
    ck_assert_uint_ne(end, digest);
    for (unsigned round = 0; round < 3; round++) {
        ck_assert_uint_eq(reset(&w), 100 - KEEP);
        ck_assert_uint_eq(machine_ram_digest(w.m), digest);
        machine_get_state(w.m, 0, &again);
        ck_assert_mem_eq(again.gpr, at_point.gpr, sizeof(again.gpr));
        ck_assert_uint_eq(again.rip, at_point.rip);
        ck_assert_uint_eq(again.tsc, at_point.tsc);
        ck_assert_uint_eq(reset(&w), 0); /* nothing has been written since */
        ck_assert_int_eq(go(&w), MACHINE_ENDED);
        machine_get_state(w.m, 0, &again);
        ck_assert_uint_eq(machine_ram_digest(w.m), end);
        ck_assert_mem_eq(again.gpr, first_end.gpr, sizeof(again.gpr));
        ck_assert_uint_eq(again.tsc, first_end.tsc);
    }
    close_world(&w);
}
END_TEST

/* From outside, too; and other consumers of the log see that the pages were written back. */
START_TEST(what_others_wrote_goes_back_and_others_see_it) {
    struct world w;
    uint64_t value = 77, was = 1;
    open_world(&w, (unsigned)_i, PN_TRACKER_RING);
    go_rounds(&w, 1);
    ck_assert_msg(!machine_point_take(w.m, &w.point, &w.e), "%s", w.text);
    ck_assert_uint_eq(machine_write(w.m, NULL, DATA + 0x80000, &value, 8), 8);
    ck_assert_uint_eq(machine_write(w.m, NULL, CODE, &value, 8),
                      8); /* code that it ran */
    ck_assert_uint_eq(reset(&w), 2);
    ck_assert_uint_eq(machine_read(w.m, NULL, DATA + 0x80000, &was, 8), 8);
    ck_assert_uint_eq(was, 0);
    ck_assert_int_eq(go(&w), MACHINE_ENDED);
    close_world(&w);
}
END_TEST

START_TEST(a_machine_without_a_log_has_no_points) {
    struct world w;
    open_world(&w, 0, PN_TRACKER_OFF);
    ck_assert_int_eq(machine_point_take(w.m, &w.point, &w.e), -EINVAL);
    ck_assert(strstr(w.text, "--dirty-log"));
    close_world(&w);
}
END_TEST

SUITE("machine point", .tests = {a_machine_without_a_log_has_no_points},
      .loops = {{a_guest_that_goes_back_does_the_same_again, 2},
                {what_others_wrote_goes_back_and_others_see_it, 2}})
