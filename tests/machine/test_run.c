/* SPDX-License-Identifier: MIT */
/* The run loop: limits, ends, idle time, several vCPUs, over an engine that runs scripts.
 */
#include "fake_engine.h"
#include "machine/machine.h"
#include "tests/suite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MS 1000000ull

/* LAPIC registers */
#define LAPIC     0xfee00000ull
#define SVR       (LAPIC + 0xf0)
#define ICR_LOW   (LAPIC + 0x300)
#define ICR_HIGH  (LAPIC + 0x310)
#define LVT_TIMER (LAPIC + 0x320)
#define TIMER_ICR (LAPIC + 0x380)
#define TIMER_DCR (LAPIC + 0x3e0)

struct world {
    struct fake fake;
    struct fake *handle; /* cpu_model points here: the engine reads the pointer */
    struct machine_config cfg;
    struct machine *machine;
    struct machine_result result;
    char err[256];
    char out[256];
    size_t out_size;
    const char *input;
    unsigned idles;
};

static void serial_out(void *o, const uint8_t *buf, size_t size) {
    struct world *w = o;
    for (size_t i = 0; i < size && w->out_size < sizeof(w->out) - 1; i++)
        w->out[w->out_size++] = (char)buf[i];
}

static size_t serial_in(void *o, uint8_t *buf, size_t size) {
    struct world *w = o;
    size_t n = w->input ? strlen(w->input) : 0;
    if (n > size)
        n = size;
    memcpy(buf, w->input ? w->input : "", n);
    w->input = w->input ? w->input + n : NULL;
    return n;
}

static void idle(void *o, uint64_t ns, struct pollfd *also, unsigned count) {
    struct world *w = o;
    w->idles++;
}

static const uint8_t blob[4096] = {0xf4};

static void world_init(struct world *w, const struct step *script) {
    memset(w, 0, sizeof(*w));
    w->fake.script[0] = script;
    w->handle = &w->fake;
    w->cfg = (struct machine_config){.engine = &fake_engine,
                                     .ram = 4 << 20,
                                     .cpus = 1,
                                     .cpu_model = (const char *)&w->handle,
                                     .kernel_blob = blob,
                                     .kernel_blob_size = sizeof(blob),
                                     .format = FMT_FLAT,
                                     .flat_addr = 0x100000,
                                     .flat_bits = 64,
                                     .serial_out = serial_out,
                                     .idle = idle,
                                     .opaque = w};
    pn_mmu_options_default(&w->cfg.mmu);
}

static int world_run(struct world *w) {
    int rc = machine_create(&w->cfg, &w->machine, w->err, sizeof(w->err));
    ck_assert_msg(rc == 0, "%s", w->err);
    rc = machine_run(w->machine, &w->result, w->err, sizeof(w->err));
    machine_destroy(w->machine);
    return rc;
}

START_TEST(max_insns_is_exact) {
    static const struct step spin[] = {{STEP_RUN, 7, 0}, {STEP_LOOP, 0, 0}};
    static const uint64_t limits[] = {1, 2, 999999, 1000000, 1000001, 12345678};
    for (unsigned i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        struct world w;
        world_init(&w, spin);
        w.cfg.max_insns = limits[i];
        ck_assert_int_eq(world_run(&w), 0);
        ck_assert_int_eq(w.result.end, END_MAX_INSNS);
        ck_assert_uint_eq(w.result.guest_insns, limits[i]);
    }
}
END_TEST

START_TEST(max_insns_is_exact_with_several_cpus) {
    static const struct step boot[] = {{STEP_MMIO, SVR, 0x1ff},
                                       {STEP_MMIO, ICR_LOW, 0xc4500}, /* INIT, others */
                                       {STEP_MMIO, ICR_LOW, 0xc4608}, /* SIPI 8 */
                                       {STEP_RUN, 1000, 0},
                                       {STEP_LOOP, 3, 0}};
    static const struct step spin[] = {{STEP_RUN, 3, 0}, {STEP_LOOP, 0, 0}};
    struct world w;
    world_init(&w, boot);
    w.cfg.cpus = 3;
    w.fake.script[1] = w.fake.script[2] = spin;
    w.cfg.max_insns = 3000001;
    ck_assert_int_eq(world_run(&w), 0);
    ck_assert_int_eq(w.result.end, END_MAX_INSNS);
    ck_assert_uint_eq(w.result.guest_insns, 3000001);
    ck_assert_uint_eq(w.fake.start[1], 0x8000);
    ck_assert_uint_eq(w.fake.start[2], 0x8000);
    ck_assert_uint_ge(w.result.guest_ns, 3000000);
    ck_assert_uint_lt(w.result.guest_ns, 3001000);
}
END_TEST

START_TEST(every_end_has_its_name) {
    static const struct step off[] = {{STEP_OUT, 0x3f8, 'o'},
                                      {STEP_OUT, 0x605, 0x34}, /* S5: SLP_EN, type 5 */
                                      {STEP_RUN, 1ull << 40, 0}};
    static const struct step reset[] = {{STEP_OUT, 0xcf9, 6}, {STEP_RUN, 1ull << 40, 0}};
    static const struct step debug[] = {{STEP_OUT, 0xf4, 21}, {STEP_RUN, 1ull << 40, 0}};
    static const struct step crash[] = {{STEP_RUN, 5, 0}, {STEP_CRASH, 0, 0}};
    static const struct step dead[] = {{STEP_RUN, 5, 0}, {STEP_HLT, 0, 0}};
    static const struct {
        const struct step *script;
        enum machine_end end;
        unsigned code;
    } t[] = {{off, END_POWEROFF, 0},
             {reset, END_RESET, 0},
             {debug, END_DEBUG_EXIT, 43},
             {crash, END_SHUTDOWN, 0},
             {dead, END_DEADLOCK, 0}};
    for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        struct world w;
        world_init(&w, t[i].script);
        w.cfg.max_insns = 1 << 20;
        ck_assert_int_eq(world_run(&w), 0);
        ck_assert_msg(w.result.end == t[i].end, "%u: %d", i, w.result.end);
        ck_assert_uint_eq(w.result.code, t[i].code);
        ck_assert_uint_lt(w.result.guest_insns, 16);
    }
}
END_TEST

START_TEST(host_failure_is_an_error_with_a_line) {
    static const struct step fail[] = {{STEP_RUN, 5, 0}, {STEP_FAIL, 0, 0}};
    struct world w;
    world_init(&w, fail);
    ck_assert_int_eq(world_run(&w), -EIO);
    ck_assert_int_eq(w.result.end, END_ERROR);
    ck_assert_str_eq(w.err, "the script says so");
}
END_TEST

/* A halted guest with a timer costs no host time: it wakes at the very nanosecond. */
START_TEST(halt_skips_to_the_timer) {
    static const struct step s[] = {{STEP_MMIO, SVR, 0x1ff},
                                    {STEP_MMIO, TIMER_DCR, 0xb},     /* divide by 1 */
                                    {STEP_MMIO, LVT_TIMER, 0x20040}, /* periodic, 0x40 */
                                    {STEP_STI, 0, 0},
                                    {STEP_MMIO, TIMER_ICR, 1000000000},
                                    {STEP_HLT, 0, 0},
                                    {STEP_OUT, 0xf4, 0}};
    struct world w;
    world_init(&w, s);
    ck_assert_int_eq(world_run(&w), 0);
    ck_assert_int_eq(w.result.end, END_DEBUG_EXIT);
    ck_assert_uint_eq(w.result.guest_insns, 7);
    ck_assert_uint_eq(w.fake.seen[0].value, 0x140);
    ck_assert_uint_ge(w.fake.seen[0].time, 1000000004);
    ck_assert_uint_le(w.fake.seen[0].time, 1000000006);
    ck_assert_uint_lt(w.result.host_ns, 900 * MS);
    ck_assert_uint_eq(w.idles, 0);
}
END_TEST

/* Interrupts off and timers that go on: it is seen for what it is, not run for ever. */
START_TEST(masked_timer_is_a_deadlock) {
    static const struct step s[] = {{STEP_MMIO, SVR, 0x1ff},
                                    {STEP_MMIO, TIMER_DCR, 0xb},
                                    {STEP_MMIO, LVT_TIMER, 0x20040},
                                    {STEP_MMIO, TIMER_ICR, 20000000},
                                    {STEP_HLT, 0, 0}};
    struct world w;
    world_init(&w, s);
    w.cfg.serial_in = serial_in;
    ck_assert_int_eq(world_run(&w), 0);
    ck_assert_int_eq(w.result.end, END_DEADLOCK);
}
END_TEST

START_TEST(timeout_and_quit_end_a_spin) {
    static const struct step spin[] = {{STEP_RUN, 7, 0}, {STEP_LOOP, 0, 0}};
    struct world w;
    world_init(&w, spin);
    w.cfg.timeout_ns = 50 * MS;
    ck_assert_int_eq(world_run(&w), 0);
    ck_assert_int_eq(w.result.end, END_TIMEOUT);
    ck_assert_uint_lt(w.result.host_ns, 5000 * MS);

    world_init(&w, spin);
    ck_assert_int_eq(machine_create(&w.cfg, &w.machine, w.err, sizeof(w.err)), 0);
    machine_quit(w.machine);
    ck_assert_int_eq(machine_run(w.machine, &w.result, w.err, sizeof(w.err)), 0);
    ck_assert_int_eq(w.result.end, END_QUIT);
    machine_destroy(w.machine);
}
END_TEST

/* More input than the FIFO holds arrives whole and in order, though it was there before
 * the guest's driver cleared the FIFO. */
START_TEST(console_input_waits_for_room) {
    static struct step s[96];
    unsigned n = 0;
    s[n++] = (struct step){STEP_RUN, 5 * MS, 0};
    s[n++] = (struct step){STEP_OUT, 0x3fa, 7}; /* FIFO on and clear */
    s[n++] = (struct step){STEP_OUT, 0x3fc, 8}; /* OUT2: interrupts are wired */
    s[n++] = (struct step){STEP_OUT, 0x3f9, 1}; /* and on */
    s[n++] = (struct step){STEP_RUN, 2 * MS, 0};
    for (unsigned i = 0; i < 40; i++) {
        s[n++] = (struct step){STEP_IN, 0x3f8, 0};
        s[n++] = (struct step){STEP_RUN, 100, 0};
    }
    s[n++] = (struct step){STEP_OUT, 0xf4, 0};
    static const char text[] = "abcdefghijklmnopqrstuvwxyz0123456789ABCD";
    struct world w;
    world_init(&w, s);
    w.cfg.serial_in = serial_in;
    w.input = text;
    ck_assert_int_eq(world_run(&w), 0);
    ck_assert_uint_eq(w.fake.seen_count, 40);
    for (unsigned i = 0; i < 40; i++)
        ck_assert_uint_eq(w.fake.seen[i].value, (uint8_t)text[i]);
}
END_TEST

/* An AP that halts does not lag: an IPI finds it at the sender's time. */
START_TEST(ipi_wakes_a_halted_cpu_in_time) {
    static const struct step boot[] = {
        {STEP_MMIO, SVR, 0x1ff},         {STEP_MMIO, ICR_LOW, 0xc4500},
        {STEP_MMIO, ICR_LOW, 0xc4610},   {STEP_RUN, 10 * MS, 0},
        {STEP_MMIO, ICR_HIGH, 1u << 24}, {STEP_MMIO, ICR_LOW, 0x4055},
        {STEP_RUN, 10 * MS, 0},          {STEP_OUT, 0xf4, 0}};
    static const struct step ap[] = {{STEP_MMIO, SVR, 0x1ff},
                                     {STEP_STI, 0, 0},
                                     {STEP_HLT, 0, 0},
                                     {STEP_RUN, 1ull << 40, 0}};
    struct world w;
    world_init(&w, boot);
    w.cfg.cpus = 2;
    w.fake.script[1] = ap;
    ck_assert_int_eq(world_run(&w), 0);
    ck_assert_int_eq(w.result.end, END_DEBUG_EXIT);
    ck_assert_uint_eq(w.fake.start[1], 0x10000);
    ck_assert_uint_eq(w.fake.seen_count, 1);
    ck_assert_uint_eq(w.fake.seen[0].value, 0x155);
    ck_assert_uint_ge(w.fake.seen[0].time, 10 * MS);
    ck_assert_uint_le(w.fake.seen[0].time, 10 * MS + 100000);
}
END_TEST

START_TEST(equal_runs_are_equal) {
    static const struct step boot[] = {{STEP_MMIO, SVR, 0x1ff},
                                       {STEP_MMIO, ICR_LOW, 0xc4500},
                                       {STEP_MMIO, ICR_LOW, 0xc4608},
                                       {STEP_IN, 0x40, 0},
                                       {STEP_IN, 0x608, 0},
                                       {STEP_RUN, 12345, 0},
                                       {STEP_LOOP, 3, 0}};
    static const struct step ap[] = {
        {STEP_IN, 0x608, 0}, {STEP_RUN, 777, 0}, {STEP_LOOP, 0, 0}};
    struct world w[2];
    for (unsigned i = 0; i < 2; i++) {
        world_init(&w[i], boot);
        w[i].cfg.cpus = 3;
        w[i].fake.script[1] = w[i].fake.script[2] = ap;
        w[i].cfg.max_insns = 5 * MS;
        ck_assert_int_eq(world_run(&w[i]), 0);
    }
    ck_assert_uint_eq(w[0].fake.seen_count, FAKE_SEEN);
    ck_assert_int_eq(memcmp(w[0].fake.seen, w[1].fake.seen, sizeof(w[0].fake.seen)), 0);
    ck_assert_uint_eq(w[0].result.guest_ns, w[1].result.guest_ns);
}
END_TEST

START_TEST(bad_configurations_are_one_line) {
    static const struct step s[] = {{STEP_HLT, 0, 0}};
    static const struct {
        uint64_t ram;
        unsigned cpus;
        const char *kernel, *want;
    } t[] = {{0, 1, NULL, "-m 0"},
             {1 << 20, 1, NULL, "-m 1M"},
             {(2 << 20) + 1, 1, NULL, "4K"},
             {65ull << 30, 1, NULL, "64G"},
             {4 << 20, 0, NULL, "-c 0"},
             {4 << 20, 1000, NULL, "-c 1000"},
             {4 << 20, 1, "/nonexistent", "/nonexistent"},
             {4 << 20, 1, "/tmp", "directory"}};
    for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        struct world w;
        world_init(&w, s);
        w.cfg.ram = t[i].ram;
        w.cfg.cpus = t[i].cpus;
        if (t[i].kernel) {
            w.cfg.kernel = t[i].kernel;
            w.cfg.kernel_blob = NULL;
        }
        ck_assert_int_lt(machine_create(&w.cfg, &w.machine, w.err, sizeof(w.err)), 0);
        ck_assert_msg(strstr(w.err, t[i].want) != NULL, "%s: %s", t[i].want, w.err);
    }
}
END_TEST

SUITE("run", .timeout = 60,
      .tests = {max_insns_is_exact, max_insns_is_exact_with_several_cpus,
                every_end_has_its_name, host_failure_is_an_error_with_a_line,
                halt_skips_to_the_timer, masked_timer_is_a_deadlock,
                timeout_and_quit_end_a_spin, console_input_waits_for_room,
                ipi_wakes_a_halted_cpu_in_time, equal_runs_are_equal,
                bad_configurations_are_one_line})
