/* SPDX-License-Identifier: MIT */
/* Local APIC: registers, priorities, EOI, IPIs and destinations, x2APIC, errors, LINT0,
 * the APIC base. */
#include "fixture.h"
#include "tests/suite.h"

#define LAPIC 0xfee00000u
#define BASE  0x1bu

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
    return rd32(&f, LAPIC + reg);
}

static void put(unsigned reg, uint32_t value) {
    wr32(&f, LAPIC + reg, value);
}

static void self(uint8_t vector) {
    put(0x300, 0x40000u | vector);
}

static int wrmsr(unsigned cpu, uint32_t msr, uint64_t value) {
    return intc_msr_write(f.intc, cpu, msr, value);
}

static uint64_t rdmsr(unsigned cpu, uint32_t msr) {
    uint64_t value;

    ck_assert_int_eq(intc_msr_read(f.intc, cpu, msr, &value), 0);
    return value;
}

static void x2apic(unsigned cpu) {
    ck_assert_int_eq(wrmsr(cpu, BASE, rdmsr(cpu, BASE) | 0x400), 0);
}

START_TEST(registers_have_their_values_of_reset) {
    fx_done(&f);
    fx_init(&f);
    fx_intc(&f, 1000000000);
    ck_assert_uint_eq(rdmsr(0, BASE), 0xfee00900);
    ck_assert_uint_eq(rdmsr(3, BASE), 0xfee00800);
    ck_assert_uint_eq(get(0x30), 0x01050014);
    ck_assert_uint_eq(get(0xf0), 0xff);
    ck_assert_uint_eq(get(0xe0), 0xffffffff);
    ck_assert_uint_eq(get(0x320), 0x10000);
    ck_assert_uint_eq(get(0x350), 0x700);
    intc_set_current(f.intc, 3);
    ck_assert_uint_eq(get(0x20), 0x03000000);
    ck_assert_uint_eq(get(0x350), 0x10000);
    put(0x350, 0x700); /* software-disabled: the mask cannot be taken off */
    ck_assert_uint_eq(get(0x350), 0x10700);
}
END_TEST

START_TEST(registers_keep_only_their_writable_bits) {
    put(0x80, 0x1ff);
    ck_assert_uint_eq(get(0x80), 0xff);
    ck_assert_uint_eq(intc_cr8_read(f.intc, 0), 0xf);
    intc_cr8_write(f.intc, 0, 0x3);
    ck_assert_uint_eq(get(0x80), 0x30);
    put(0xd0, 0xffffffff);
    ck_assert_uint_eq(get(0xd0), 0xff000000);
    put(0xe0, 0);
    ck_assert_uint_eq(get(0xe0), 0x0fffffff);
    put(0x20, 0x55000000); /* the id is read-only */
    ck_assert_uint_eq(get(0x20), 0);
    put(0x310, 0xffffffff);
    ck_assert_uint_eq(get(0x310), 0xff000000);
    put(0x3e0, 0xffffffff);
    ck_assert_uint_eq(get(0x3e0), 0xb);
    for (unsigned n = 0; n < 6; n++)
        put(0x320 + n * 16, 0xffffffff);
    ck_assert_uint_eq(get(0x320), 0x700ff);
    ck_assert_uint_eq(get(0x330), 0x107ff);
    ck_assert_uint_eq(get(0x340), 0x107ff);
    ck_assert_uint_eq(get(0x350), 0x1a7ff);
    ck_assert_uint_eq(get(0x360), 0x1a7ff);
    ck_assert_uint_eq(get(0x370), 0x100ff);
    put(0x370, 0x33);
    put(0xf0, 0xff); /* disabling masks every entry */
    ck_assert_uint_eq(get(0x370), 0x10033);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, LAPIC + 0x31, 1), 0);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, LAPIC + 0x30, 8), 0x01050014);
}
END_TEST

START_TEST(only_a_class_above_the_processors_is_delivered) {
    self(0x51);
    self(0x55);
    self(0x61);
    ck_assert_uint_eq(get(0x220), 1u << 0x11 | 1u << 0x15);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x61);
    ck_assert_uint_eq(get(0xa0), 0x60); /* PPR */
    ck_assert_uint_eq(get(0x130), 1u << 1);
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
    self(0x6f); /* the same class does not nest */
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
    self(0x70);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x70);
    put(0xb0, 0);
    put(0xb0, 0);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x6f);
    unsigned kicks = f.kicks[0];

    put(0xb0, 0);
    ck_assert_uint_gt(f.kicks[0], kicks); /* the EOI uncovers 0x55 */
    put(0x80, 0x50);
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
    ck_assert_uint_eq(get(0xa0), 0x50);
    ck_assert_int_eq(intc_ack(f.intc, 0), -1); /* masked in between: it stays */
    kicks = f.kicks[0];
    intc_cr8_write(f.intc, 0, 4);
    ck_assert_uint_gt(f.kicks[0], kicks);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x55);
    put(0xb0, 0);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x51);
    put(0xb0, 0);
    put(0xb0, 0); /* one too many */
    ck_assert_int_eq(intc_ack(f.intc, 0), -1);
}
END_TEST

START_TEST(vectors_are_delivered_from_the_highest_down) {
    for (unsigned v = 16; v < 256; v++)
        self((uint8_t)v);
    for (unsigned v = 255; v >= 16; v--) {
        ck_assert_int_eq(intc_peek(f.intc, 0), (int)v);
        ck_assert_int_eq(intc_ack(f.intc, 0), (int)v);
        put(0xb0, 0);
    }
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
}
END_TEST

START_TEST(a_shorthand_chooses_self_all_or_the_others) {
    put(0x300, 0x80040); /* all including self */
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++)
        ck_assert_int_eq(intc_ack(f.intc, cpu), 0x40);
    put(0x300, 0xc0060); /* all but self */
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
    for (unsigned cpu = 1; cpu < FX_CPUS; cpu++)
        ck_assert_int_eq(intc_ack(f.intc, cpu), 0x60);
    put(0x300, 0xc0400); /* NMI to the others */
    ck_assert_uint_eq(f.nmis[0] * 1000 + f.nmis[1] + f.nmis[2] + f.nmis[3], 3);
    put(0x300, 0x40400); /* NMI to self, as kvm-unit-tests send it */
    ck_assert_uint_eq(f.nmis[0], 1);
}
END_TEST

START_TEST(an_ipi_reaches_its_physical_destination) {
    put(0x310, 2u << 24);
    put(0x300, 0x4500); /* INIT to 2 */
    ck_assert_uint_eq(f.inits[2], 1);
    put(0x300, 0x8500); /* level de-assert: nothing */
    ck_assert_uint_eq(f.inits[2], 1);
    put(0x300, 0x4699);
    ck_assert_uint_eq(f.sipis[2], 1);
    ck_assert_uint_eq(f.sipi_vector[2], 0x99);
    ck_assert_uint_eq(get(0x300), 0x4699);
    put(0x310, 0xffu << 24); /* physical broadcast */
    put(0x300, 0x70);
    ck_assert_int_eq(intc_peek(f.intc, 0), 0x70);
    ck_assert_int_eq(intc_peek(f.intc, 1), 0x70);
}
END_TEST

START_TEST(an_ipi_reaches_the_members_of_a_logical_cluster) {
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++) {
        intc_set_current(f.intc, cpu);
        put(0xe0, 0x0fffffff); /* cluster model */
        put(0xd0, ((cpu / 2) << 4 | 1u << cpu % 2) << 24);
    }
    intc_set_current(f.intc, 0);
    put(0x310, 0x12000000u); /* cluster 1, member 1 */
    put(0x300, 0x840);
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++)
        ck_assert_int_eq(intc_ack(f.intc, cpu), cpu == 3 ? 0x40 : -1);
    put(0x310, 0xf1000000u); /* member 0 of every cluster */
    put(0x300, 0x850);
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++)
        ck_assert_int_eq(intc_ack(f.intc, cpu), cpu % 2 ? -1 : 0x50);
    put(0x310, 0x03000000u); /* both of cluster 0, lowest priority: 0 is busy with 0x50 */
    put(0x300, 0x960);
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
    ck_assert_int_eq(intc_peek(f.intc, 1), 0x60);
}
END_TEST

START_TEST(errors_show_after_a_write_to_the_error_status) {
    put(0x370, 0xfe);
    self(0x0f); /* send and receive illegal vector */
    ck_assert_uint_eq(get(0x280), 0);
    put(0x280, 0);
    ck_assert_uint_eq(get(0x280), 0x60);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0xfe);
    put(0xb0, 0);
    put(0x280, 0);
    ck_assert_uint_eq(get(0x280), 0);
    get(0x3f0); /* a register that is not there */
    put(0x280, 0);
    ck_assert_uint_eq(get(0x280), 0x80);
    put(0x370, 0x05); /* the error vector is illegal itself */
    put(0x3f0, 1);
    put(0x280, 0);
    ck_assert_uint_eq(get(0x280), 0xc0);
}
END_TEST

START_TEST(a_software_disabled_apic_accepts_only_nmis) {
    self(0x40);
    put(0xf0, 0xff);
    self(0x50);                                  /* not accepted any more */
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x40); /* what was there is still served */
    put(0xb0, 0);
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
    put(0x300, 0x40400); /* NMI still is */
    ck_assert_uint_eq(f.nmis[0], 1);
}
END_TEST

static void pic_ready(void) {
    out8(&f, 0x20, 0x11);
    out8(&f, 0x21, 0x20);
    out8(&f, 0x21, 0x04);
    out8(&f, 0x21, 0x01);
}

START_TEST(lint0_brings_the_8259_as_extint_fixed_or_nmi) {
    pic_ready();
    put(0x350, 0x10700);
    f.line.set(f.line.opaque, 4, 1);
    ck_assert_int_eq(intc_peek(f.intc, 0), -1); /* masked */
    put(0x350, 0x700);                          /* ExtINT: through to the 8259 */
    ck_assert_int_eq(intc_peek(f.intc, 0), 0x24);
    self(0x90);
    put(0x80, 0xff); /* no TPR stops ExtINT */
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x24);
    put(0x80, 0);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x90);
    put(0xb0, 0);
    out8(&f, 0x20, 0x20);
    put(0x350, 0x0043); /* fixed: the virtual wire of last resort */
    f.line.set(f.line.opaque, 4, 0);
    f.line.set(f.line.opaque, 4, 1);
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x43);
    put(0x350, 0x0400); /* NMI */
    out8(&f, 0x21, 0xff);
    out8(&f, 0x21, 0);
    ck_assert_uint_eq(f.nmis[0], 1);
}
END_TEST

START_TEST(the_apic_base_refuses_forbidden_changes_of_state) {
    put(0x80, 0x20);
    ck_assert_int_eq(wrmsr(0, BASE, 0xfee00800 | 1), -1);
    ck_assert_int_eq(wrmsr(0, BASE, 0xfee00800 | 1ull << 40), -1);
    ck_assert_int_eq(wrmsr(0, BASE, 0xfee00400), -1); /* invalid state */
    uint64_t value;

    ck_assert_int_eq(intc_msr_read(f.intc, 0, 0x802, &value), -1); /* not x2APIC */
    ck_assert_int_eq(wrmsr(0, 0x808, 0), -1);
    x2apic(0);
    ck_assert_uint_eq(rdmsr(0, BASE), 0xfee00d00);
    ck_assert_uint_eq(rdmsr(0, 0x808), 0x20);
    ck_assert_uint_eq(get(0x30), 0xffffffff); /* the page is gone */
    put(0x80, 0x70);
    ck_assert_uint_eq(rdmsr(0, 0x808), 0x20);
    ck_assert_int_eq(wrmsr(0, BASE, 0xfee00800), -1); /* not straight back */
    ck_assert_int_eq(wrmsr(0, BASE, 0xfee00000), 0);
    ck_assert_int_eq(wrmsr(0, BASE, 0xfee00c00), -1); /* not from disabled */
    intc_cr8_write(f.intc, 0, 9);                     /* CR8 lives on */
    ck_assert_uint_eq(intc_cr8_read(f.intc, 0), 9);
    ck_assert_uint_eq(get(0x30), 0xffffffff);
    intc_cr8_write(f.intc, 0, 0);
    ck_assert_int_eq(wrmsr(0, BASE, 0xfee00800), 0);
    ck_assert_uint_eq(rdmsr(0, BASE), 0xfee00900); /* BSP stays */
    ck_assert_uint_eq(get(0xf0), 0xff);            /* as after reset */
    ck_assert_int_eq(wrmsr(99, BASE, 0xfee00800), -1);
}
END_TEST

START_TEST(the_apic_page_moves_with_its_base) {
    ck_assert_int_eq(wrmsr(0, BASE, 0xfed40900), 0);
    ck_assert_uint_eq(rd32(&f, 0xfed40030), 0x01050014);
    ck_assert_uint_eq(get(0x30), 0xffffffff);
    intc_set_current(f.intc, 1); /* the others are where they were */
    ck_assert_uint_eq(get(0x30), 0x01050014);
    ck_assert_uint_eq(rd32(&f, 0xfed40030), 0xffffffff);
    intc_set_current(f.intc, 0);
    ck_assert_int_eq(wrmsr(0, BASE, 0xfec00900), 0); /* on top of the IO-APIC */
    wr32(&f, 0xfec00000, 1);
    ck_assert_uint_eq(rd32(&f, 0xfec00010), 0x00170020);
    intc_reset_cpu(f.intc, 0);
    ck_assert_uint_eq(get(0x30), 0x01050014);
}
END_TEST

START_TEST(x2apic_registers_refuse_reserved_bits) {
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++)
        x2apic(cpu);
    ck_assert_uint_eq(rdmsr(3, 0x802), 3);
    ck_assert_uint_eq(rdmsr(3, 0x80d), 8);
    ck_assert_int_eq(wrmsr(0, 0x802, 0), -1);
    ck_assert_int_eq(wrmsr(0, 0x803, 0), -1);
    ck_assert_int_eq(wrmsr(0, 0x80d, 0), -1);
    ck_assert_int_eq(wrmsr(0, 0x80e, 0), -1); /* no DFR */
    ck_assert_int_eq(wrmsr(0, 0x831, 0), -1); /* no ICR2 */
    ck_assert_int_eq(wrmsr(0, 0x808, 0x100), -1);
    ck_assert_int_eq(wrmsr(0, 0x80b, 1), -1);
    ck_assert_int_eq(wrmsr(0, 0x828, 1), -1);
    ck_assert_int_eq(wrmsr(0, 0x80f, 0x2000), -1);
    ck_assert_int_eq(wrmsr(0, 0x832, 1u << 20), -1);
    ck_assert_int_eq(wrmsr(0, 0x830, 1u << 20), -1);
    ck_assert_int_eq(wrmsr(0, 0x838, 1ull << 32), -1);
    ck_assert_int_eq(wrmsr(0, 0x83f, 0x100), -1);
    uint64_t value;

    ck_assert_int_eq(intc_msr_read(f.intc, 0, 0x80b, &value), -1);
    ck_assert_int_eq(intc_msr_read(f.intc, 0, 0x83f, &value), -1);
}
END_TEST

START_TEST(an_ipi_of_x2apic_has_a_destination_of_32_bits) {
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++)
        x2apic(cpu);
    ck_assert_int_eq(wrmsr(0, 0x83f, 0x41), 0); /* self IPI */
    ck_assert_int_eq(intc_ack(f.intc, 0), 0x41);
    ck_assert_uint_eq(rdmsr(0, 0x812), 2);
    ck_assert_int_eq(wrmsr(0, 0x80b, 0), 0);
    ck_assert_uint_eq(rdmsr(0, 0x812), 0);
    ck_assert_int_eq(wrmsr(0, 0x830, 2ull << 32 | 0x4042), 0);
    ck_assert_uint_eq(rdmsr(0, 0x830), 2ull << 32 | 0x4042);
    ck_assert_int_eq(intc_ack(f.intc, 2), 0x42);
    ck_assert_int_eq(wrmsr(0, 0x830, 0xaull << 32 | 0x853), 0); /* cluster 0: 1 and 3 */
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++)
        ck_assert_int_eq(intc_ack(f.intc, cpu), cpu % 2 ? 0x53 : -1);
    ck_assert_int_eq(wrmsr(0, 0x830, 0xffffffffull << 32 | 0x61), 0);
    for (unsigned cpu = 0; cpu < FX_CPUS; cpu++)
        ck_assert_int_eq(intc_ack(f.intc, cpu), 0x61);
    ck_assert_int_eq(wrmsr(0, 0x830, 0xffull << 32 | 0x71), 0); /* no broadcast */
    ck_assert_int_eq(intc_peek(f.intc, 0), -1);
}
END_TEST

START_TEST(init_keeps_x2apic_mode) {
    x2apic(1);
    ck_assert_int_eq(wrmsr(1, 0x808, 0x30), 0);
    put(0x310, 1u << 24);
    put(0x300, 0x4500);
    ck_assert_uint_eq(f.inits[1], 1);
    ck_assert_uint_eq(rdmsr(1, BASE), 0xfee00c00);
    ck_assert_uint_eq(rdmsr(1, 0x808), 0);
    intc_reset_cpu(f.intc, 1);
    ck_assert_uint_eq(rdmsr(1, BASE), 0xfee00800);
}
END_TEST

SUITE("lapic", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {registers_have_their_values_of_reset,
                registers_keep_only_their_writable_bits,
                only_a_class_above_the_processors_is_delivered,
                vectors_are_delivered_from_the_highest_down,
                a_shorthand_chooses_self_all_or_the_others,
                an_ipi_reaches_its_physical_destination,
                an_ipi_reaches_the_members_of_a_logical_cluster,
                errors_show_after_a_write_to_the_error_status,
                a_software_disabled_apic_accepts_only_nmis,
                lint0_brings_the_8259_as_extint_fixed_or_nmi,
                the_apic_base_refuses_forbidden_changes_of_state,
                the_apic_page_moves_with_its_base, x2apic_registers_refuse_reserved_bits,
                an_ipi_of_x2apic_has_a_destination_of_32_bits, init_keeps_x2apic_mode})
