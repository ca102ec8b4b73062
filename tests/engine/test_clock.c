/* SPDX-License-Identifier: MIT */
/*
 * --clock host in the soft engines: the TSC is the host's time, whatever instructions and
 * devices take, and nobody waits for time while a vCPU can run. No limit here is of the
 * host's clock: each time lies between two others that were read around it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/clock.h"
#include "penumbra/engine.h"
#include "tests/suite.h"

#define RAM_SIZE 0x100000u
#define CODE     0x1000u
#define RESULT   0x2000u
#define LOOPS    20000000u
#define BUSY_NS  3000000u
#define MS       1000000u

static const struct pn_engine_ops *ops;
static struct pn_engine *engine;
static uint8_t *ram;
static unsigned sleeps;
static uint64_t left_at; /* now() when the device's access ended */
static bool pulls_in;    /* the access asks the run to end */

/* The linker sends every call here (--wrap). */
int __wrap_nanosleep(const struct timespec *t, struct timespec *left);
int __wrap_clock_nanosleep(clockid_t clock, int flags, const struct timespec *t,
                           struct timespec *left);

int __wrap_nanosleep(const struct timespec *t, struct timespec *left) {
    sleeps++;
    return 0;
}

int __wrap_clock_nanosleep(clockid_t clock, int flags, const struct timespec *t,
                           struct timespec *left) {
    sleeps++;
    return 0;
}

/* A device that takes its time. */
static void pio_write(void *opaque, unsigned cpu, uint16_t port, unsigned size,
                      uint64_t value) {
    uint64_t end = host_ns() + BUSY_NS;
    while (host_ns() < end)
        ;
    left_at = ops->now(engine);
    if (pulls_in)
        ops->set_deadline(engine, left_at);
}

static int no_interrupt(void *opaque, unsigned cpu) {
    return -1;
}

static int no_msr(void *opaque, unsigned cpu, uint32_t index, uint64_t *value) {
    return -1;
}

static int no_msr_write(void *opaque, unsigned cpu, uint32_t index, uint64_t value) {
    return -1;
}

static uint64_t cr8_read(void *opaque, unsigned cpu) {
    return 0;
}

static void cr8_write(void *opaque, unsigned cpu, uint64_t value) {
}

/* A vCPU of one kind of engine at 16-bit code. */
static void start(const char *name, const uint8_t *code, size_t size) {
    static const struct pn_bus bus = {.pio_write = pio_write,
                                      .msr_read = no_msr,
                                      .msr_write = no_msr_write,
                                      .cr8_read = cr8_read,
                                      .cr8_write = cr8_write,
                                      .intr_peek = no_interrupt,
                                      .intr_ack = no_interrupt};
    struct pn_mmu_options opt;
    char err[200];
    pn_mmu_options_default(&opt);
    ops = pn_engine_find(name);
    const struct pn_memslot slot = {.size = RAM_SIZE, .hva = ram};
    const struct pn_engine_config cfg = {.cpus = 1,
                                         .mmu = &opt,
                                         .bus = &bus,
                                         .slot = &slot,
                                         .slot_count = 1,
                                         .host_clock = true,
                                         .start_ns = 5000 * (uint64_t)MS};
    ck_assert_int_eq(ops->create(&cfg, &engine, err, sizeof(err)), 0);
    struct pn_cpu_state *s = calloc(1, sizeof(*s));
    ck_assert_int_eq(ops->get_state(engine, 0, s), 0);
    s->rip = CODE;
    s->seg[PN_CS].sel = 0;
    s->seg[PN_CS].base = 0;
    ck_assert_int_eq(ops->set_state(engine, 0, s), 0);
    free(s);
    memcpy(ram + CODE, code, size);
    sleeps = 0;
    pulls_in = false;
}

static void setup(void) {
    ram =
        mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(ram, MAP_FAILED);
}

static void teardown(void) {
    ops->destroy(engine);
    munmap(ram, RAM_SIZE);
}

/* Of the machine's time, when the guest stored its TSC; 0: it has not. */
static uint64_t result(unsigned i) {
    uint64_t v;
    memcpy(&v, ram + RESULT + 8 * (size_t)i, 8);
    return v ? v - ops->tsc(engine, 0, 0) : 0;
}

static const char *const kinds[] = {"shadow", "tdp"};

/* rdtsc; store; out 16, al; rdtsc; store; hlt */
static const uint8_t around_a_device[] = {
    0x0f, 0x31, 0x66, 0xa3, 0x00, 0x20, 0x66, 0x89, 0x16, 0x04, 0x20, 0xe6, 0x10,
    0x0f, 0x31, 0x66, 0xa3, 0x08, 0x20, 0x66, 0x89, 0x16, 0x0c, 0x20, 0xf4};

START_TEST(the_tsc_is_the_hosts_time) {
    start(kinds[_i], around_a_device, sizeof(around_a_device));
    uint64_t before = ops->now(engine);
    ck_assert_uint_ge(before, 5000 * (uint64_t)MS);
    ck_assert_int_eq(ops->run(engine, 0, CLOCK_NEVER), PN_EXIT_HALT);
    uint64_t after = ops->now(engine);
    ck_assert_uint_ge(result(0), before);
    ck_assert_uint_le(result(0), left_at - BUSY_NS);
    ck_assert_uint_ge(result(1), left_at);
    ck_assert_uint_le(result(1), after);
    ck_assert_uint_eq(ops->insns(engine), 8);
}
END_TEST

/* mov ecx, LOOPS; 1: dec ecx; jnz 1b; rdtsc; store; hlt */
static const uint8_t a_loop[] = {0x66,
                                 0xb9,
                                 LOOPS & 0xff,
                                 LOOPS >> 8 & 0xff,
                                 LOOPS >> 16 & 0xff,
                                 LOOPS >> 24,
                                 0x66,
                                 0x49,
                                 0x75,
                                 0xfc,
                                 0x0f,
                                 0x31,
                                 0x66,
                                 0xa3,
                                 0x00,
                                 0x20,
                                 0x66,
                                 0x89,
                                 0x16,
                                 0x04,
                                 0x20,
                                 0xf4};

START_TEST(nobody_waits_while_a_vcpu_can_run) {
    start(kinds[_i], a_loop, sizeof(a_loop));
    uint64_t before = ops->now(engine), end;
    enum pn_exit_reason why;
    do {
        end = ops->now(engine) + MS;
        why = ops->run(engine, 0, end);
        if (why == PN_EXIT_DEADLINE)
            ck_assert_uint_ge(ops->now(engine), end);
    } while (why == PN_EXIT_DEADLINE);
    ck_assert_int_eq(why, PN_EXIT_HALT);
    ck_assert_uint_eq(sleeps, 0);
    ck_assert_uint_eq(ops->insns(engine), 2 * LOOPS + 5);
    ck_assert_uint_ge(result(0), before);
    ck_assert_uint_le(result(0), ops->now(engine));
}
END_TEST

START_TEST(an_idle_machine_does_not_skip_the_hosts_time) {
    start(kinds[_i], around_a_device, sizeof(around_a_device));
    ops->skip(engine, ops->now(engine) + 3600000ull * MS);
    uint64_t first = ops->now(engine);
    ck_assert_int_eq(ops->run(engine, 0, CLOCK_NEVER), PN_EXIT_HALT);
    ck_assert_uint_ge(result(0), first);
    ck_assert_uint_lt(result(0), 3600000ull * MS);
}
END_TEST

START_TEST(a_device_may_pull_the_deadline_in) {
    start(kinds[_i], around_a_device, sizeof(around_a_device));
    pulls_in = true;
    ck_assert_int_eq(ops->run(engine, 0, CLOCK_NEVER), PN_EXIT_DEADLINE);
    ck_assert_uint_eq(result(1), 0);
    ck_assert_int_eq(ops->run(engine, 0, CLOCK_NEVER), PN_EXIT_HALT);
    ck_assert_uint_ge(result(1), left_at);
}
END_TEST

/* What a repeated string does at one go takes the host's time, but is one instruction. */
START_TEST(a_timer_need_not_wait_for_the_end_of_a_repeated_string) {
    static const uint8_t code[] = {0xf3, 0xaa, 0xf4}; /* rep stosb; hlt */
    const uint64_t count = RAM_SIZE - RESULT;
    uint64_t left = count;
    enum pn_exit_reason why;
    start(kinds[_i], code, sizeof(code));
    struct pn_cpu_state *s = calloc(1, sizeof(*s));
    ck_assert_int_eq(ops->get_state(engine, 0, s), 0);
    s->cr0 |= CR0_PE;
    s->seg[PN_CS].attr = 0xc09b, s->seg[PN_ES].attr = 0xc093;
    s->seg[PN_CS].limit = s->seg[PN_ES].limit = UINT32_MAX;
    s->gpr[1] = count, s->gpr[7] = RESULT;
    ck_assert_int_eq(ops->set_state(engine, 0, s), 0);
    do {
        why = ops->run(engine, 0, CLOCK_NEVER);
        ck_assert_int_eq(ops->get_state(engine, 0, s), 0);
        ck_assert_uint_le(left - s->gpr[1], 65536);
        left = s->gpr[1];
    } while (why == PN_EXIT_DEADLINE);
    ck_assert_int_eq(why, PN_EXIT_HALT);
    ck_assert_uint_eq(left, 0);
    free(s);
}
END_TEST

SUITE("clock", .setup = setup, .teardown = teardown,
      .loops = {{the_tsc_is_the_hosts_time, 2},
                {nobody_waits_while_a_vcpu_can_run, 2},
                {an_idle_machine_does_not_skip_the_hosts_time, 2},
                {a_device_may_pull_the_deadline_in, 2},
                {a_timer_need_not_wait_for_the_end_of_a_repeated_string, 2}})
