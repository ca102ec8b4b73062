/* SPDX-License-Identifier: MIT */
/* IO-APIC: registers, edges, levels with remote IRR and EOI, destinations, modes. */
#include "fixture.h"
#include "tests/suite.h"

#define IOAPIC 0xfec00000u
#define LAPIC  0xfee00000u

static struct fx f;

static void setup(void) {
    fx_init(&f);
    fx_intc(&f, 1000000000);
    out8(&f, 0x21, 0xff);
    out8(&f, 0xa1, 0xff);
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++) {
        intc_set_current(f.intc, cpu);
        wr32(&f, LAPIC + 0xf0, 0x1ff);
    }
    intc_set_current(f.intc, 0);
}

static void teardown(void) {
    fx_done(&f);
}

static uint32_t get(unsigned reg) {
    wr32(&f, IOAPIC, reg);
    return rd32(&f, IOAPIC + 0x10);
}

static void put(unsigned reg, uint32_t value) {
    wr32(&f, IOAPIC, reg);
    wr32(&f, IOAPIC + 0x10, value);
}

static void route(unsigned pin, uint32_t low, uint8_t dest) {
    put(0x11 + pin * 2, (uint32_t)dest << 24);
    put(0x10 + pin * 2, low);
}

static void line(unsigned gsi, int level) {
    f.line.set(f.line.opaque, gsi, level);
}

static void eoi(unsigned cpu) {
    intc_set_current(f.intc, cpu);
    wr32(&f, LAPIC + 0xb0, 0);
    intc_set_current(f.intc, 0);
}

START_TEST(registers_keep_only_their_writable_bits) {
    ck_assert_uint_eq(get(1), 0x00170020);
    put(0, 0x05000000);
    ck_assert_uint_eq(get(0), 0x05000000);
    ck_assert_uint_eq(rd32(&f, IOAPIC), 0);
    for (unsigned pin = 0; pin < 24; pin++)
        ck_assert_uint_eq(get(0x10 + 2 * pin), 0x10000);
    put(0x12, 0xffffffff);
    ck_assert_uint_eq(get(0x12), 0x0001afff); /* status and remote IRR are read-only */
    put(0x13, 0xffffffff);
    ck_assert_uint_eq(get(0x13), 0xff000000);
    for (unsigned reg = 0x40; reg < 0x100; reg++) { /* beyond the last pin */
        put(reg, 0);
        ck_assert_uint_eq(get(reg), 0xffffffffu);
    }
    ck_assert_uint_eq(rd32(&f, IOAPIC + 0x20), 0);
}
END_TEST

START_TEST(an_edge_interrupts_once_unless_it_is_masked) {
    route(14, 0x77, 0);
    line(14, 1);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x77);
    eoi(0);
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
    line(14, 1); /* no new edge */
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
    line(14, 0);
    line(14, 1);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x77);
    ck_assert_uint_eq(get(0x10 + 28), 0x77); /* no remote IRR on edges */
    line(14, 0);
    route(14, 0x10077, 0);
    line(14, 1); /* masked: the edge is lost */
    route(14, 0x77, 0);
    eoi(0);
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
}
END_TEST

static bool msi(uint64_t address, uint32_t data) {
    return f.line.msi(f.line.opaque, address, data);
}

START_TEST(a_message_goes_past_the_pins) {
    ck_assert(msi(0xfee02000, 0x41));
    ck_assert_int_eq(intc_ack(f.intc, 2), 0x41);
    ck_assert(msi(0xfeeff000, 0x52)); /* everybody */
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++)
        ck_assert_int_eq(intc_ack(f.intc, cpu), 0x52);
    ck_assert(msi(0xfee01000, 0x400)); /* NMI */
    ck_assert_uint_eq(f.nmis[1], 1);
    ck_assert(!msi(0xfee07000, 0x43)); /* nobody has that id */
    ck_assert(!msi(0xfed00000, 0x43));
    ck_assert(!msi(0x1fee00000, 0x43));
}
END_TEST

START_TEST(a_messages_hint_chooses_one_of_many) {
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++) {
        intc_set_current(f.intc, cpu);
        wr32(&f, LAPIC + 0xd0, 1u << (24 + cpu));
        wr32(&f, LAPIC + 0x80, cpu == 3 ? 0 : 0x20); /* the least busy */
    }
    ck_assert(msi(0xfee0f00c, 0x61));
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++)
        ck_assert_int_eq(intc_peek(f.intc, cpu), cpu == 3 ? 0x61 : -1);
    ck_assert(msi(0xfee0f004, 0x62)); /* logical, without the hint */
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++)
        ck_assert_int_eq(intc_peek(f.intc, cpu), 0x62);
}
END_TEST

START_TEST(the_isa_timer_is_pin_2) {
    route(2, 0x30, 0);
    route(0, 0x31, 0);
    line(0, 1);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x30);
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
}
END_TEST

START_TEST(a_level_is_sent_again_after_each_eoi_while_it_lasts) {
    route(17, 0x8055, 0);
    line(17, 1);
    ck_assert_uint_eq(get(0x10 + 34), 0xc055);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x55);
    ck_assert_uint_eq(rd32(&f, LAPIC + 0x180 + 0x20), 1u << (0x55 - 0x40)); /* TMR */
    line(17, 0);
    line(17, 1); /* not sent again before the EOI */
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
    eoi(0);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x55); /* still asserted: sent again */
    line(17, 0);
    eoi(0);
    ck_assert_uint_eq(get(0x10 + 34), 0x8055);
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
    route(17, 0x18055, 0);
    line(17, 1);
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
    route(17, 0x8055, 0); /* a level is seen when the mask falls */
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x55);
}
END_TEST

START_TEST(an_edge_clears_the_tmr_of_a_level_vector) {
    route(17, 0x8055, 0);
    line(17, 1);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x55);
    line(17, 0);
    eoi(0);
    wr32(&f, LAPIC + 0x300, 0x40055); /* now as an edge: TMR follows */
    ck_assert_uint_eq(rd32(&f, LAPIC + 0x180 + 0x20), 0);
}
END_TEST

static void ignore(void *opaque, unsigned cpu) {
    (void)opaque;
    (void)cpu;
}

START_TEST(each_change_of_a_line_is_an_event) {
    struct pn_event_rec event[8];
    struct pn_ring ring = {.mask = 1ull << PN_EV_set_irq, .rec = event, .size = 8};

    dev_destroy(f.intc);
    struct intc_config cfg = {.rings = &ring, .cpus = 1, .apic_hz = 1, .kick = ignore};
    struct intc *i = intc_create(&f.env, &cfg);
    struct irq_sink sink = intc_sink(i);

    sink.set(sink.opaque, 20, 1);
    sink.set(sink.opaque, 20, 1); /* no change, no event */
    sink.set(sink.opaque, 20, 0);
    sink.set(sink.opaque, 30, 1); /* no such gsi */
    ck_assert_uint_eq(ring.count, 2);
    ck_assert_uint_eq(event[0].arg[0], 20);
    ck_assert_uint_eq(event[0].arg[1], 1);
    ck_assert_uint_eq(event[1].arg[1], 0);
    dev_destroy(i);
}
END_TEST

START_TEST(remote_irr_is_cleared_by_edge_mode_or_the_eoi_register) {
    route(18, 0x8066, 0);
    line(18, 1);
    ck_assert_uint_eq(get(0x10 + 36), 0xc066);
    route(18, 0x10066, 0); /* to edge and back: how old kernels clear remote IRR */
    ck_assert_uint_eq(get(0x10 + 36), 0x10066);
    line(18, 0);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x66);
    eoi(0);
    route(18, 0x8066, 0);
    line(18, 1);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x66);
    line(18, 0);
    wr32(&f, IOAPIC + 0x40, 0x66); /* the EOI register */
    ck_assert_uint_eq(get(0x10 + 36), 0x8066);
}
END_TEST

START_TEST(a_suppressed_eoi_leaves_remote_irr_to_the_eoi_register) {
    wr32(&f, LAPIC + 0xf0, 0x11ff);
    route(18, 0x8066, 0);
    line(18, 1);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x66);
    line(18, 0);
    eoi(0);
    ck_assert_uint_eq(get(0x10 + 36), 0xc066);
    wr32(&f, IOAPIC + 0x40, 0x66);
    ck_assert_uint_eq(get(0x10 + 36), 0x8066);
}
END_TEST

START_TEST(a_pin_reaches_the_cpus_of_its_destination) {
    route(5, 0x45, 2);
    line(5, 1);
    ck_assert_int_eq(intc_peek(f.intc, 2), 0x45);
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
    route(6, 0x46, 0xff); /* everybody */
    line(6, 1);
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++)
        ck_assert_int_eq(intc_peek(f.intc, cpu), 0x46);
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++) {
        intc_set_current(f.intc, cpu);
        wr32(&f, LAPIC + 0xd0, 1u << (24 + cpu));
    }
    route(7, 0x847, 0x0a); /* flat: 1 and 3 */
    line(7, 1);
    ck_assert_int_eq(intc_peek(f.intc, 0), 0x46);
    ck_assert_int_eq(intc_peek(f.intc, 1), 0x47);
    ck_assert_int_eq(intc_peek(f.intc, 3), 0x47);
    route(9, 0x49, 77); /* nobody */
    line(9, 1);
    ck_assert_uint_eq(get(0x10 + 18), 0x49);
}
END_TEST

START_TEST(a_pin_sends_nmi_and_init_but_no_smi) {
    route(5, 0x400, 1); /* NMI */
    line(5, 1);
    ck_assert_uint_eq(f.nmis[1], 1);
    route(6, 0x500, 2); /* INIT */
    line(6, 1);
    ck_assert_uint_eq(f.inits[2], 1);
    for (unsigned mode = 2; mode < 8; mode += 5) { /* SMI, ExtINT: ignored */
        route(7, mode << 8, 0);
        line(7, 1);
        line(7, 0);
    }
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
}
END_TEST

START_TEST(lowest_priority_goes_to_the_least_busy_cpu) {
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++) {
        intc_set_current(f.intc, cpu);
        wr32(&f, LAPIC + 0xd0, 1u << (24 + cpu));
        wr32(&f, LAPIC + 0x80, cpu == 3 ? 0 : 0x20);
    }
    route(10, 0x95a, 0x0f); /* lowest priority, logical: CPU 3 has the lowest TPR */
    line(10, 1);
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++)
        ck_assert_int_eq(intc_peek(f.intc, cpu), cpu == 3 ? 0x5a : -1);
}
END_TEST

START_TEST(a_level_that_nobody_takes_leaves_no_remote_irr) {
    intc_set_current(f.intc, 1);
    wr32(&f, LAPIC + 0xf0, 0xff); /* software-disabled */
    route(20, 0x8070, 1);
    line(20, 1);
    ck_assert_uint_eq(get(0x10 + 40), 0x8070); /* no remote IRR: nobody will EOI */
}
END_TEST

SUITE("ioapic", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {
          registers_keep_only_their_writable_bits,
          an_edge_interrupts_once_unless_it_is_masked, a_message_goes_past_the_pins,
          a_messages_hint_chooses_one_of_many, the_isa_timer_is_pin_2,
          a_level_is_sent_again_after_each_eoi_while_it_lasts,
          an_edge_clears_the_tmr_of_a_level_vector, each_change_of_a_line_is_an_event,
          remote_irr_is_cleared_by_edge_mode_or_the_eoi_register,
          a_suppressed_eoi_leaves_remote_irr_to_the_eoi_register,
          a_pin_reaches_the_cpus_of_its_destination, a_pin_sends_nmi_and_init_but_no_smi,
          lowest_priority_goes_to_the_least_busy_cpu,
          a_level_that_nobody_takes_leaves_no_remote_irr})
