/* SPDX-License-Identifier: MIT */
/* Run control (machine/control.h) on the engines of the software CPU. */
#include <errno.h>
#include <string.h>

#include "machine/control.h"
#include "penumbra/x86.h"
#include "tests/suite.h"

#define ROUNDS 1000u
#define CODE   0x100000ull
#define LOOP   (CODE + 5)
#define STORE  (CODE + 8)
#define CELL   0x200000ull

/* mov ecx, ROUNDS; 1: inc rax; mov [CELL], rax; dec ecx; jnz 1b; xor al, al; out 0xf4, al */
static const uint8_t code[] = {0xb9, ROUNDS & 255, ROUNDS >> 8, 0,    0,    0x48,
                               0xff, 0xc0,         0x48,        0x89, 0x04, 0x25,
                               0x00, 0x00,         0x20,        0x00, 0xff, 0xc9,
                               0x75, 0xf1,         0x30,        0xc0, 0xe6, 0xf4};
#define INSNS (1 + 4 * ROUNDS + 2)

static const char *const engines[] = {"shadow", "tdp"};

struct world {
    struct machine *m;
    struct machine_stop stop;
    struct machine_result result;
    struct pn_cpu_state s;
    unsigned asked;
    char err[256];
};

static bool attend(void *opaque) {
    return ((struct world *)opaque)->asked++ < 5;
}

static void open_world(struct world *w, unsigned engine, bool attended) {
    memset(w, 0, sizeof(*w));
    struct machine_config cfg = {.engine = pn_engine_find(engines[engine]),
                                 .ram = 4 << 20,
                                 .cpus = 1,
                                 .kernel_blob = code,
                                 .kernel_blob_size = sizeof(code),
                                 .format = FMT_FLAT,
                                 .flat_addr = CODE,
                                 .flat_bits = 64,
                                 .attend = attended ? attend : NULL,
                                 .opaque = w};
    pn_mmu_options_default(&cfg.mmu);
    ck_assert_msg(!machine_create(&cfg, &w->m, w->err, sizeof(w->err)), "%s", w->err);
}

static enum machine_stop_why go(struct world *w) {
    ck_assert_msg(!machine_go(w->m, &w->stop, w->err, sizeof(w->err)), "%s", w->err);
    ck_assert_int_eq(machine_get_state(w->m, 0, &w->s), 0);
    return w->stop.why;
}

/* The guest ended as it does when nobody stops it. */
static void close_world(struct world *w) {
    ck_assert_int_eq(w->stop.why, MACHINE_ENDED);
    ck_assert_int_eq(machine_finish(w->m, 0, &w->result, w->err, sizeof(w->err)), 0);
    ck_assert_int_eq(w->result.end, END_DEBUG_EXIT);
    ck_assert_uint_eq(w->result.guest_insns, INSNS);
    ck_assert_uint_eq(w->result.guest_ns, INSNS);
    machine_destroy(w->m);
}

START_TEST(a_step_is_one_instruction) {
    static const uint64_t at[] = {LOOP, STORE, CODE + 16, CODE + 18, LOOP, STORE};
    struct world w;
    open_world(&w, (unsigned)_i, false);
    for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
        ck_assert_int_eq(machine_step(w.m, 0), 0);
        ck_assert_int_eq(go(&w), MACHINE_STEP);
        ck_assert_uint_eq(w.s.rip, at[i]);
    }
    ck_assert_uint_eq(w.s.gpr[0], 2);
    go(&w);
    close_world(&w);
}
END_TEST

START_TEST(all_of_a_guest_goes_by_steps_as_without) {
    struct world w;
    unsigned steps = 0;
    open_world(&w, (unsigned)_i, false);
    do {
        machine_step(w.m, 0);
        steps++;
    } while (go(&w) == MACHINE_STEP);
    ck_assert_uint_eq(steps, INSNS);
    close_world(&w);
}
END_TEST

START_TEST(a_breakpoint_stops_before_its_instruction_each_time) {
    struct world w;
    open_world(&w, (unsigned)_i, false);
    ck_assert_int_eq(machine_break(w.m, STORE, true), 0);
    ck_assert_int_eq(machine_break(w.m, STORE, true), 0);
    for (unsigned i = 1; i <= 3; i++) {
        uint64_t cell = 0;
        ck_assert_int_eq(go(&w), MACHINE_BREAK);
        ck_assert_uint_eq(w.s.rip, STORE);
        ck_assert_uint_eq(w.s.gpr[0], i);
        ck_assert_uint_eq(machine_read(w.m, &w.s, CELL, &cell, 8), 8);
        ck_assert_uint_eq(cell, i - 1);
    }
    machine_break(w.m, STORE, false);
    go(&w);
    close_world(&w);
}
END_TEST

/* The loop is hot, chained and in the jump cache when the breakpoint comes. */
START_TEST(a_breakpoint_in_code_that_has_run_stops_too) {
    struct world w;
    open_world(&w, (unsigned)_i, true);
    ck_assert_int_eq(machine_break(w.m, CODE + 18, true), 0);
    for (unsigned i = 0; i < 500; i++)
        while (go(&w) == MACHINE_ASKED)
            ;
    machine_break_none(w.m);
    ck_assert_int_eq(machine_break(w.m, LOOP, true), 0);
    for (unsigned i = 500; i < ROUNDS - 1; i++) {
        ck_assert_int_eq(go(&w), MACHINE_BREAK);
        ck_assert_uint_eq(w.s.rip, LOOP);
        ck_assert_uint_eq(w.s.gpr[0], i);
    }
    machine_break_none(w.m);
    go(&w);
    close_world(&w);
}
END_TEST

START_TEST(a_watchpoint_stops_after_the_store_with_its_address) {
    static const struct pn_watch both = {CELL + 4, 2, PN_WATCH_BOTH};
    static const struct pn_watch reads = {CELL, 8, PN_WATCH_READ};
    static const struct pn_watch beside = {CELL + 8, 8, PN_WATCH_BOTH};
    struct world w;
    open_world(&w, (unsigned)_i, false);
    ck_assert_int_eq(machine_watch(w.m, &reads, true), 0);
    ck_assert_int_eq(machine_watch(w.m, &beside, true), 0);
    ck_assert_int_eq(machine_watch(w.m, &both, true), 0);
    for (unsigned i = 1; i <= 3; i++) {
        ck_assert_int_eq(go(&w), MACHINE_WATCH);
        ck_assert_uint_eq(w.stop.gva, both.gva);
        ck_assert_int_eq(w.stop.access, PN_WATCH_BOTH);
        ck_assert_uint_eq(w.s.rip, STORE + 8);
        ck_assert_uint_eq(w.s.gpr[0], i);
    }
    ck_assert_int_eq(machine_watch(w.m, &both, false), 0);
    go(&w);
    close_world(&w);
}
END_TEST

START_TEST(who_asks_is_served_and_changes_nothing) {
    struct world w;
    open_world(&w, (unsigned)_i, true);
    machine_ask(w.m);
    ck_assert_int_eq(go(&w), MACHINE_ASKED);
    ck_assert_uint_eq(w.s.rip, CODE);
    while (go(&w) == MACHINE_ASKED)
        ;
    ck_assert_uint_ge(w.asked, 1);
    close_world(&w);
}
END_TEST

START_TEST(what_is_written_is_what_runs) {
    static const uint8_t twice[] = {0x48, 0x01, 0xc0}; /* add rax, rax */
    struct world w;
    open_world(&w, (unsigned)_i, false);
    machine_break(w.m, STORE, true);
    ck_assert_int_eq(go(&w), MACHINE_BREAK);
    w.s.gpr[0] = 3;
    ck_assert_int_eq(machine_set_state(w.m, 0, &w.s), 0);
    ck_assert_uint_eq(machine_write(w.m, &w.s, LOOP, twice, sizeof(twice)),
                      sizeof(twice));
    ck_assert_int_eq(go(&w), MACHINE_BREAK);
    ck_assert_uint_eq(w.s.gpr[0], 6);
    machine_break_none(w.m);
    go(&w);
    close_world(&w);
}
END_TEST

START_TEST(limits_are_refused_and_what_is_no_ram_is_not_read) {
    struct pn_watch w = {CELL, 0, PN_WATCH_WRITE};
    struct world x;
    uint8_t buf[16];
    open_world(&x, 0, false);
    ck_assert_int_eq(machine_watch(x.m, &w, true), -EINVAL);
    w.size = PN_WATCH_BYTES + 1;
    ck_assert_int_eq(machine_watch(x.m, &w, true), -EINVAL);
    for (unsigned i = 0; i < PN_BREAKS_MAX; i++)
        ck_assert_int_eq(machine_break(x.m, 2 * i, true), 0);
    ck_assert_int_eq(machine_break(x.m, 1, true), -ENOSPC);
    ck_assert_int_eq(machine_break(x.m, 0, false), 0);
    ck_assert_int_eq(machine_break(x.m, 1, true), 0);
    ck_assert_int_eq(machine_step(x.m, 1), -ENOTSUP);
    machine_get_state(x.m, 0, &x.s);
    ck_assert_uint_eq(machine_read(x.m, NULL, (4 << 20) - 8, buf, 16), 8);
    ck_assert_uint_eq(machine_read(x.m, &x.s, (4 << 20) - 8, buf, 16), 8);
    ck_assert_uint_eq(machine_read(x.m, &x.s, 1ull << 47, buf, 16), 0);
    ck_assert_uint_eq(machine_write(x.m, NULL, UINT64_MAX - 3, buf, 16), 0);
    machine_destroy(x.m);
}
END_TEST

/* ---- Translation ---- */

static void put(struct world *w, uint64_t gpa, uint64_t entry, unsigned size) {
    ck_assert_uint_eq(machine_write(w->m, NULL, gpa, &entry, size), size);
}

static uint64_t where(struct world *w, uint64_t gva) {
    pn_gpa gpa;
    return machine_translate(w->m, &w->s, gva, &gpa) ? gpa : UINT64_MAX;
}

START_TEST(every_format_of_tables_is_walked) {
    struct world w;
    open_world(&w, 0, false);
    machine_get_state(w.m, 0, &w.s);
    w.s.efer = w.s.cr4 = 0;
    w.s.cr0 = CR0_PE;
    ck_assert_uint_eq(where(&w, 0x12345), 0x12345);
    ck_assert_uint_eq(where(&w, 1ull << 32), UINT64_MAX);
    w.s.cr0 |= CR0_PG;
    w.s.cr3 = 0x300000;
    put(&w, 0x300004, 0x301001, 4); /* 4 MiB to 8 MiB: a table */
    put(&w, 0x301008, 0x7001, 4);
    put(&w, 0x300008, 0x00c06081, 4); /* 8 MiB: a page of 4 MiB, PSE-36 */
    ck_assert_uint_eq(where(&w, 0x402123), 0x7123);
    ck_assert_uint_eq(where(&w, 0x403123), UINT64_MAX);
    w.s.cr4 = CR4_PSE;
    ck_assert_uint_eq(where(&w, 0x812345), 0x300c12345);
    w.s.cr4 = CR4_PAE;
    w.s.pdpte1 = 0x302001;
    put(&w, 0x302008, 0x80000000002000e3, 8); /* a page of 2 MiB, NX */
    ck_assert_uint_eq(where(&w, 0x40212345), 0x212345);
    ck_assert_uint_eq(where(&w, 0x212345), UINT64_MAX);
    w.s.efer = EFER_LMA;
    w.s.cr3 = 0x303018; /* with PCD and PWT */
    put(&w, 0x303000 + 511 * 8, 0x304001, 8);
    put(&w, 0x304000, 0x40000081, 8); /* 1 GiB */
    ck_assert_uint_eq(where(&w, 0xffffff8000123456), 0x40123456);
    ck_assert_uint_eq(where(&w, 0x0000ff8000123456), UINT64_MAX);
    w.s.cr4 |= CR4_LA57;
    put(&w, 0x303000 + 8, 0x303001, 8);
    put(&w, 0x303000, 0x304001, 8);
    ck_assert_uint_eq(where(&w, 0x0001000000123456), 0x40123456);
    machine_destroy(w.m);
}
END_TEST

/* Tables that lead to themselves end with the levels. */
START_TEST(a_read_through_tables_sets_nothing_in_them) {
    struct world w;
    uint64_t before = 0x303001, after = 0, got;
    open_world(&w, 0, false);
    machine_get_state(w.m, 0, &w.s);
    w.s.cr3 = 0x303000;
    put(&w, 0x303000, before, 8);
    ck_assert_uint_eq(machine_read(w.m, &w.s, 0, &got, 8), 8);
    ck_assert_uint_eq(got, before);
    machine_read(w.m, NULL, 0x303000, &after, 8);
    ck_assert_uint_eq(after, before);
    machine_destroy(w.m);
}
END_TEST

SUITE("machine.control",
      .tests = {limits_are_refused_and_what_is_no_ram_is_not_read,
                every_format_of_tables_is_walked,
                a_read_through_tables_sets_nothing_in_them},
      .loops = {{a_step_is_one_instruction, 2},
                {all_of_a_guest_goes_by_steps_as_without, 2},
                {a_breakpoint_stops_before_its_instruction_each_time, 2},
                {a_breakpoint_in_code_that_has_run_stops_too, 2},
                {a_watchpoint_stops_after_the_store_with_its_address, 2},
                {who_asks_is_served_and_changes_nothing, 2},
                {what_is_written_is_what_runs, 2}})
