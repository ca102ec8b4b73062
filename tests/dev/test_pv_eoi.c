/* SPDX-License-Identifier: MIT */
/* Interrupts that end without a write to the local APIC (paravirtual EOI). */
#include "fixture.h"
#include "tests/suite.h"

#define LAPIC 0xfee00000u

static struct fx f;
static bool bit, refuse; /* the guest's word; it cannot be written */
static unsigned offers, withdrawals;

static bool offer(void *o, unsigned cpu) {
    (void)o, (void)cpu;
    offers++;
    bit = !refuse;
    return !refuse;
}

static bool withdraw(void *o, unsigned cpu) {
    bool was = bit;

    (void)o, (void)cpu;
    withdrawals++;
    bit = false;
    return was;
}

static void nothing(void *o, unsigned cpu) {
    f.kicks[cpu]++;
    (void)o;
}

static void setup(void) {
    struct intc_config cfg;

    fx_init(&f);
    cfg = (struct intc_config){.cpus = 2,
                               .apic_hz = 1000000000,
                               .kick = nothing,
                               .eoi_offer = offer,
                               .eoi_withdraw = withdraw};
    f.intc = intc_create(&f.env, &cfg);
    ck_assert_ptr_nonnull(f.intc);
    f.line = intc_sink(f.intc);
    out8(&f, 0x21, 0xff);
    out8(&f, 0xa1, 0xff);
    wr32(&f, LAPIC + 0xf0, 0x1ff);
    bit = refuse = false;
    offers = withdrawals = 0;
}

static void teardown(void) {
    fx_done(&f);
}

static void self(uint8_t vector) {
    wr32(&f, LAPIC + 0x300, 0x40000u | vector);
}

/* What a guest's handler does at its end. */
static void guest_eoi(void) {
    if (bit)
        bit = false;
    else
        wr32(&f, LAPIC + 0xb0, 0);
}

START_TEST(an_interrupt_alone_needs_no_written_eoi) {
    for (unsigned n = 0; n < 5; n++) {
        self(0x51);
        ck_assert_int_eq(intc_ack(f.intc, 0), 0x51);
        ck_assert(bit);
        ck_assert_int_eq(intc_ack(f.intc, 0), -1); /* asking twice offers nothing twice */
        guest_eoi();
        ck_assert_int_eq(intc_peek(f.intc, 0), -1);
        ck_assert_int_eq(intc_ack(f.intc, 0), -1);
        ck_assert(!bit);
    }
    ck_assert_uint_eq(offers, 5);
    ck_assert_uint_eq(rd32(&f, LAPIC + 0x120), 0); /* in service: looking settles it */
}
END_TEST

/* One comes while the handler of another runs: that handler must write its EOI. */
START_TEST(an_interrupt_that_comes_meanwhile_takes_the_offer_back) {
    self(0x51);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x51);
    self(0x52);
    ck_assert(!bit);
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
    unsigned kicks = f.kicks[0];

    guest_eoi();
    ck_assert_uint_gt(f.kicks[0], kicks);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x52);
    ck_assert(bit);
    guest_eoi();
    self(0x53);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x53);
}
END_TEST

START_TEST(nothing_is_offered_beside_another_interrupt) {
    self(0x51);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x51);
    self(0x61);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x61);
    ck_assert(!bit);
    guest_eoi();
    guest_eoi();
    ck_assert_uint_eq(rd32(&f, LAPIC + 0x120) | rd32(&f, LAPIC + 0x130), 0);
    self(0x71);
    self(0x72);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x72);
    ck_assert(!bit);
    guest_eoi();
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x71);
    ck_assert(bit);
}
END_TEST

/* A level-triggered one is also the IO-APIC's to hear of. */
START_TEST(a_level_is_not_offered) {
    wr32(&f, 0xfec00000u, 0x10 + 18 * 2);
    wr32(&f, 0xfec00010u, 0x8066);
    f.line.set(f.line.opaque, 18, 1);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x66);
    ck_assert_uint_eq(offers, 0);
    guest_eoi();
    ck_assert_int_eq(intc_peek(f.intc, 0), 0x66); /* still asserted */
}
END_TEST

START_TEST(an_eoi_that_is_written_all_the_same_counts_once) {
    self(0x51);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x51);
    wr32(&f, LAPIC + 0xb0, 0);
    ck_assert(!bit);
    ck_assert_uint_eq(rd32(&f, LAPIC + 0x120), 0);
    refuse = true;
    self(0x51);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x51);
    guest_eoi();
    ck_assert_uint_eq(rd32(&f, LAPIC + 0x120), 0);
    ck_assert_uint_eq(withdrawals, 1);
}
END_TEST

START_TEST(a_state_that_is_handed_over_has_no_open_offer) {
    uint8_t page[INTC_LAPIC_PAGE];

    self(0x51);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x51);
    guest_eoi();
    intc_get_lapic(f.intc, 0, page); /* what is handed over is settled */
    ck_assert_uint_eq(page[0x122], 0);
}
END_TEST

START_TEST(a_reset_forgets_the_offer) {
    self(0x51);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x51);
    unsigned before = withdrawals;

    intc_reset_cpu(f.intc, 0);
    wr32(&f, LAPIC + 0xf0, 0x1ff);
    self(0x51);
    ck_assert_uint_eq(withdrawals, before);
}
END_TEST

/* Hypercalls send messages by vCPU. */
START_TEST(a_message_is_sent_only_to_a_cpu_that_accepts_it) {
    ck_assert(intc_send(f.intc, 0, 0x55));
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x55);
    ck_assert(!intc_send(f.intc, 1, 0x55)); /* switched off by software */
    ck_assert(!intc_send(f.intc, 2, 0x55)); /* no such vCPU */
    ck_assert(!intc_send(f.intc, ~0u, 0x55));
    ck_assert(!intc_send(f.intc, 0, 0x05)); /* an illegal vector */
}
END_TEST

SUITE("pv_eoi", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {an_interrupt_alone_needs_no_written_eoi,
                an_interrupt_that_comes_meanwhile_takes_the_offer_back,
                nothing_is_offered_beside_another_interrupt, a_level_is_not_offered,
                an_eoi_that_is_written_all_the_same_counts_once,
                a_state_that_is_handed_over_has_no_open_offer, a_reset_forgets_the_offer,
                a_message_is_sent_only_to_a_cpu_that_accepts_it})
