/* SPDX-License-Identifier: MIT */
/*
 * ACPI S3: a guest writes SLP_EN, and after the RTC's alarm or the power button its boot CPU
 * starts where the FACS says, with memory as it was and the devices as at power-on.
 */
#include "machine/control.h"
#include "machine/state.h"
#include "tests/suite.h"

#include <string.h>

#define RAM     (4u << 20)
#define LOAD_AT 0x100000u
#define VECTOR  0x9000u /* where the guest puts its real-mode code, and its 32-bit code: */
#define FLAT    0x9100u
#define WIDE    0x9180u   /* and its 64-bit code */
#define KEPT    0x300000u /* 0x600df00d before it sleeps */
#define WANTED  0x300010u /* what it is to put into the FACS, and into PM1_EN */
#define ENABLES 0x300014u
/* What the real-mode code has seen. */
#define SEEN_CS   0x600u
#define SEEN_STS  0x602u
#define SEEN_IMR  0x604u
#define SEEN_LCR  0x605u
#define SEEN_CR0  0x608u
#define SEEN_TSC  0x60cu
#define SEEN_EFER 0x614u
#define STARTED   0x610u /* by the other vCPU, each time it starts */

extern const uint8_t sleeper_begin[], sleeper_end[];
asm(".pushsection .rodata\n"
    ".macro put port, value\n"
    "  mov $\\value, %al\n  mov $\\port, %edx\n  out %al, %dx\n"
    ".endm\n"
    ".macro put16 port, reg\n  mov $\\port, %edx\n  out \\reg, %dx\n.endm\n"
    ".global sleeper_begin, sleeper_end\n"
    "sleeper_begin:\n"
    "  lea codes(%rip), %rsi\n  mov $0x9000, %edi\n  mov $0x400, %ecx\n  rep movsb\n"
    "  mov $0x300000, %ebx\n  movl $0x600df00d, (%rbx)\n"
    "  mov $0xf00cc, %edi\n  mov 0x10(%rbx), %eax\n  mov %eax, (%rdi)\n"
    "  mov $0xfee00000, %edi\n  movl $0x1ff, 0xf0(%rdi)\n" /* the other vCPU starts */
    "  movl $0xc4500, 0x300(%rdi)\n  movl $0xc4609, 0x300(%rdi)\n"
    "  mov $400000, %ecx\n1: dec %ecx\n  jnz 1b\n"
    "  put 0x21, 0xa5\n  put 0x3fb, 0x1f\n" /* these lose their power */
    "  put 0x43, 0x34\n  put 0x40, 0x9c\n  put 0x40, 0x2e\n"
    "  put 0x70, 1\n  put 0x71, 0xc0\n  put 0x70, 3\n  put 0x71, 0xc0\n"
    "  put 0x70, 5\n  put 0x71, 0xc0\n  put 0x70, 0xb\n  put 0x71, 0x22\n"
    "  mov 0x14(%rbx), %eax\n  put16 0x602, %ax\n"
    "  mov $0x2400, %eax\n  put16 0x604, %ax\n"
    "  movl $0, (%rbx)\n" /* no instruction follows */
    "2: hlt\n  jmp 2b\n"
    "codes:\n"
    ".code16\n"
    "  xor %ax, %ax\n  mov %ax, %ds\n"
    "  mov $0x1b, %ecx\n  rdmsr\n  test $1, %ah\n  jnz 3f\n" /* the boot CPU? */
    "  incw 0x610\n4: hlt\n  jmp 4b\n"
    "3: mov %cs, 0x600\n"
    "  mov $0x600, %dx\n  in %dx, %ax\n  mov %ax, 0x602\n"
    "  in $0x21, %al\n  mov %al, 0x604\n"
    "  mov $0x3fb, %dx\n  in %dx, %al\n  mov %al, 0x605\n"
    "  mov %cr0, %eax\n  mov %eax, 0x608\n  rdtsc\n  mov %eax, 0x60c\n"
    "  mov $0x604, %dx\n  mov $0x3400, %ax\n  out %ax, %dx\n  hlt\n"
    ".org codes + 0x100\n" /* FLAT */
    ".code32\n"
    "  mov %cr0, %eax\n  mov %eax, 0x608\n  mov %cs, 0x600\n"
    "  mov $0x604, %edx\n  mov $0x3400, %eax\n  out %ax, %dx\n  hlt\n"
    ".org codes + 0x180\n" /* WIDE */
    ".code64\n"
    "  mov %cr0, %rax\n  mov %eax, 0x608\n  mov %cs, 0x600\n"
    "  mov $0xc0000080, %ecx\n  rdmsr\n  mov %eax, 0x614\n"
    "  mov $0x604, %edx\n  mov $0x3400, %eax\n  out %ax, %dx\n  hlt\n"
    "  .skip 0x400\n"
    "sleeper_end:\n"
    ".popsection\n");

struct world {
    struct machine_config cfg;
    struct machine *m;
    struct machine_result result;
    unsigned idles;
};

static uint32_t get(const struct world *w, uint32_t gpa, unsigned size) {
    uint32_t value = 0;
    memcpy(&value, (const uint8_t *)w->m->ram.base + gpa, size);
    return value;
}

static void set(struct world *w, uint32_t gpa, uint32_t value) {
    memcpy((uint8_t *)w->m->ram.base + gpa, &value, sizeof(value));
}

static void begin(struct world *w, const char *engine, unsigned cpus) {
    *w = (struct world){.cfg = {.engine = pn_engine_find(engine),
                                .ram = RAM,
                                .cpus = cpus,
                                .kernel_blob = sleeper_begin,
                                .kernel_blob_size = (size_t)(sleeper_end - sleeper_begin),
                                .format = FMT_FLAT,
                                .flat_addr = LOAD_AT,
                                .flat_bits = 64,
                                .opaque = w}};
    pn_mmu_options_default(&w->cfg.mmu);
}

static void create(struct world *w, uint32_t vector, uint32_t enables) {
    char err[256];
    ck_assert_msg(machine_create(&w->cfg, &w->m, err, sizeof(err)) == 0, "%s", err);
    set(w, WANTED, vector);
    set(w, ENABLES, enables);
}

static void run(struct world *w, enum machine_end end) {
    char err[256];
    ck_assert_msg(machine_run(w->m, &w->result, err, sizeof(err)) == 0, "%s", err);
    ck_assert_int_eq(w->result.end, end);
    ck_assert_uint_eq(get(w, KEPT, 4), 0x600df00d);
}

/* As at power-on, but for memory. */
static void expect_power_on(const struct world *w) {
    ck_assert_uint_eq(get(w, SEEN_CS, 2), VECTOR >> 4);
    ck_assert_uint_eq(get(w, SEEN_IMR, 1), 0);
    ck_assert_uint_eq(get(w, SEEN_LCR, 1), 3);
    ck_assert_uint_eq(get(w, SEEN_CR0, 4), CR0_ET | CR0_NW | CR0_CD);
    ck_assert_uint_lt(get(w, SEEN_TSC, 4), 1000000);
}

static void wakes_by_the_alarm(const char *engine, unsigned cpus) {
    struct world w;
    uint8_t page[INTC_LAPIC_PAGE];
    begin(&w, engine, cpus);
    create(&w, VECTOR, 0x400);
    run(&w, END_POWEROFF);
    expect_power_on(&w);
    ck_assert_uint_eq(get(&w, SEEN_STS, 2), 0x8400); /* WAK, RTC */
    ck_assert_uint_eq(get(&w, STARTED, 2), cpus - 1);
    ck_assert_uint_ge(w.result.guest_ns, 1000000000);
    ck_assert_uint_lt(w.result.guest_ns, 1010000000);
    for (unsigned i = 0; i < cpus; i++) {
        intc_get_lapic(w.m->intc, i, page);
        ck_assert_msg(page[0xf1] == 0, "vCPU %u: its local APIC is on", i);
        ck_assert_int_eq(w.m->cpu[i].state == CPU_WAIT_SIPI, i != 0);
    }
    machine_destroy(w.m);
}

START_TEST(the_alarm_wakes_a_machine_as_at_power_on_but_for_memory) {
    wakes_by_the_alarm("shadow", 1);
    wakes_by_the_alarm("tdp", 1);
}
END_TEST

START_TEST(the_other_vcpus_wait_for_sipi_again) {
    wakes_by_the_alarm("shadow", 2);
    wakes_by_the_alarm("tdp", 2);
}
END_TEST

START_TEST(the_x_vector_is_entered_in_flat_32_bit_code) {
    struct world w;
    begin(&w, "shadow", 1);
    create(&w, VECTOR, 0x400);
    set(&w, ACPI_FACS + 24, FLAT);
    run(&w, END_POWEROFF);
    ck_assert_uint_eq(get(&w, SEEN_CR0, 4) & (CR0_PE | CR0_PG), CR0_PE);
    ck_assert_uint_eq(get(&w, SEEN_CS, 2), 0x10);
    machine_destroy(w.m);
}
END_TEST

START_TEST(the_x_vector_may_be_entered_in_64_bit_code) {
    static const char *const engine[] = {"shadow", "tdp"};
    struct world w;
    for (unsigned i = 0; i < 2; i++) {
        begin(&w, engine[i], 1);
        create(&w, VECTOR, 0x400);
        ck_assert_uint_eq(get(&w, ACPI_FACS + 36, 4), 2); /* that it may is said */
        set(&w, ACPI_FACS + 24, WIDE);
        set(&w, ACPI_FACS + 40, 1);
        run(&w, END_POWEROFF);
        ck_assert_uint_eq(get(&w, SEEN_CR0, 4) & (CR0_PE | CR0_PG), CR0_PE | CR0_PG);
        ck_assert_uint_eq(get(&w, SEEN_EFER, 4) & EFER_LMA, EFER_LMA);
        machine_destroy(w.m);
    }
}
END_TEST

START_TEST(a_64_bit_vector_out_of_reach_is_none) {
    struct world w;
    begin(&w, "shadow", 1);
    create(&w, VECTOR, 0x400);
    set(&w, ACPI_FACS + 28, 0x80);
    set(&w, ACPI_FACS + 40, 1);
    run(&w, END_RESET);
    machine_destroy(w.m);
}
END_TEST

START_TEST(without_a_vector_the_machine_boots_anew) {
    struct world w;
    begin(&w, "tdp", 1);
    create(&w, 0, 0x400);
    run(&w, END_RESET);
    machine_destroy(w.m);
}
END_TEST

START_TEST(an_alarm_that_is_not_enabled_wakes_nobody) {
    struct world w;
    begin(&w, "shadow", 1);
    create(&w, VECTOR, 0);
    run(&w, END_DEADLOCK);
    ck_assert_uint_eq(get(&w, SEEN_CS, 2), 0);
    machine_destroy(w.m);
}
END_TEST

static size_t no_input(void *o, uint8_t *buf, size_t size) {
    return 0;
}

static bool presses(void *o) {
    struct world *w = o;
    if (w->m && w->m->sleep == ASLEEP && !w->idles++)
        machine_press_power(w->m);
    return false;
}

START_TEST(the_power_button_wakes_whatever_is_enabled) {
    struct world w;
    begin(&w, "shadow", 1);
    w.cfg.serial_in = no_input;
    w.cfg.attend = presses;
    create(&w, VECTOR, 0);
    run(&w, END_POWEROFF);
    expect_power_on(&w);
    ck_assert_uint_eq(get(&w, SEEN_STS, 2) & 0x8500, 0x8100); /* WAK, PWRBTN */
    machine_destroy(w.m);
}
END_TEST

START_TEST(it_may_wake_under_another_engine) {
    struct world w;
    begin(&w, "shadow", 2);
    w.cfg.handovers = 1;
    w.cfg.handover[0] =
        (struct machine_handover){.to = pn_engine_find("tdp"), .at_ns = 500000000};
    create(&w, VECTOR, 0x400);
    run(&w, END_POWEROFF);
    expect_power_on(&w);
    ck_assert_str_eq(machine_ops(w.m)->name, "tdp");
    machine_destroy(w.m);
}
END_TEST

SUITE("sleep", .timeout = 120,
      .tests = {
          the_alarm_wakes_a_machine_as_at_power_on_but_for_memory,
          the_other_vcpus_wait_for_sipi_again,
          the_x_vector_is_entered_in_flat_32_bit_code,
          the_x_vector_may_be_entered_in_64_bit_code,
          a_64_bit_vector_out_of_reach_is_none, without_a_vector_the_machine_boots_anew,
          an_alarm_that_is_not_enabled_wakes_nobody,
          the_power_button_wakes_whatever_is_enabled, it_may_wake_under_another_engine})
