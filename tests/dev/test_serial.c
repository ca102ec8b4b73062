/* SPDX-License-Identifier: MIT */
/* 16550A: registers, interrupt sources and their order, FIFO, timeouts, loopback. */
#include <string.h>

#include "fixture.h"
#include "tests/suite.h"

#define COM 0x3f8u
#define IRQ 4u

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR };

static struct fx f;
static struct serial *s;
static unsigned rooms;

static void out(void *opaque, const uint8_t *buf, size_t size) {
    struct fx *x = opaque;

    ck_assert_uint_le(x->out_size + size, sizeof x->out);
    memcpy(x->out + x->out_size, buf, size);
    x->out_size += (unsigned)size;
}

static void setup(void) {
    fx_init(&f);
    rooms = 0;
    s = serial_create(&f.env, COM, IRQ, out, &f);
    ck_assert_ptr_nonnull(s);
}

static void teardown(void) {
    fx_done(&f);
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER);
}

static uint8_t get(unsigned reg) {
    return in8(&f, (uint16_t)(COM + reg));
}

static void put(unsigned reg, uint8_t value) {
    out8(&f, (uint16_t)(COM + reg), value);
}

START_TEST(registers_read_as_those_of_a_16550a) {
    ck_assert_uint_eq(get(IIR), 0x01);
    ck_assert_uint_eq(get(LSR), 0x60);
    ck_assert_uint_eq(get(MSR), 0xb0);
    put(SCR, 0x5a);
    ck_assert_uint_eq(get(SCR), 0x5a);
    put(IER, 0xff);
    ck_assert_uint_eq(get(IER), 0x0f);
    put(IER, 0);
    put(MCR, 0xff);
    ck_assert_uint_eq(get(MCR), 0x1f);
    put(MCR, 0);
    put(LCR, 0x83);
    put(RBR, 0x34);
    put(IER, 0x12);
    ck_assert_uint_eq(get(RBR), 0x34);
    ck_assert_uint_eq(get(IER), 0x12);
    put(LCR, 0x03);
    ck_assert_uint_eq(get(IER), 0);
    ck_assert_uint_eq(f.out_size, 0);
    put(IIR, 0x01); /* FCR: a 16550A shows both FIFO bits */
    ck_assert_uint_eq(get(IIR), 0xc1);
    put(IIR, 0x00);
    ck_assert_uint_eq(get(IIR), 0x01);
}
END_TEST

START_TEST(a_byte_is_sent_at_once_with_the_bits_of_its_frame) {
    put(LCR, 0x03);
    for (const char *c = "hello"; *c; c++)
        put(RBR, (uint8_t)*c);
    ck_assert_uint_eq(f.out_size, 5);
    ck_assert_mem_eq(f.out, "hello", 5);
    ck_assert_uint_eq(get(LSR), 0x60);
    put(LCR, 0x02); /* seven bits */
    put(RBR, 0xc1);
    ck_assert_uint_eq(f.out[5], 0x41);
}
END_TEST

START_TEST(an_empty_thr_interrupts_once_for_each_byte) {
    put(LCR, 0x03);
    put(IER, 0x02);
    ck_assert_int_eq(f.level[IRQ], 0); /* OUT2 gates it */
    put(MCR, 0x08);
    ck_assert_int_eq(f.level[IRQ], 1);
    ck_assert_uint_eq(get(IIR), 0x02); /* reading it clears it */
    ck_assert_int_eq(f.level[IRQ], 0);
    ck_assert_uint_eq(get(IIR), 0x01);
    unsigned rises = f.rises[IRQ];

    put(RBR, 'x'); /* one edge for each byte */
    put(RBR, 'y');
    ck_assert_uint_eq(f.rises[IRQ], rises + 2);
    ck_assert_int_eq(f.level[IRQ], 1);
    put(IER, 0);
    ck_assert_int_eq(f.level[IRQ], 0);
    put(IER, 0x02); /* switched on with THR empty: an interrupt at once */
    ck_assert_int_eq(f.level[IRQ], 1);
    ck_assert_uint_eq(get(IIR), 0x02);
    put(IER, 0x02); /* on already: none */
    ck_assert_uint_eq(get(IIR), 0x01);
}
END_TEST

START_TEST(without_a_fifo_one_byte_is_received_at_a_time) {
    put(MCR, 0x08);
    put(IER, 0x01);
    ck_assert_uint_eq(serial_input(s, (const uint8_t *)"ab", 2), 1);
    ck_assert_int_eq(f.level[IRQ], 1);
    ck_assert_uint_eq(get(IIR), 0x04);
    ck_assert_uint_eq(get(LSR), 0x61);
    ck_assert_uint_eq(get(RBR), 'a');
    ck_assert_int_eq(f.level[IRQ], 0);
    ck_assert_uint_eq(get(LSR), 0x60);
}
END_TEST

static void on_room(void *opaque) {
    (void)opaque;
    rooms++;
}

START_TEST(the_fifo_interrupts_at_its_trigger_and_tells_of_room) {
    serial_on_room(s, on_room, NULL);
    put(MCR, 0x08);
    put(IIR, 0x81); /* trigger at 8 */
    put(IER, 0x01);
    ck_assert_uint_eq(serial_input(s, (const uint8_t *)"1234567", 7), 7);
    ck_assert_int_eq(f.level[IRQ], 0);
    ck_assert_uint_eq(serial_input(s, (const uint8_t *)"89abcdefghi", 11), 9);
    ck_assert_uint_eq(get(IIR), 0xc4);
    for (unsigned n = 0; n < 9; n++)
        ck_assert_uint_eq(get(RBR), "123456789"[n]);
    ck_assert_int_eq(f.level[IRQ], 0); /* 7 left: below the trigger */
    ck_assert_uint_eq(rooms, 0);
    for (unsigned n = 0; n < 7; n++)
        ck_assert_uint_eq(get(RBR), "abcdefg"[n]);
    ck_assert_uint_eq(rooms, 1);
    ck_assert_uint_eq(get(RBR), 0);
    ck_assert_uint_eq(rooms, 1);
    serial_input(s, (const uint8_t *)"zz", 2);
    put(IIR, 0x83); /* clear the receiver */
    ck_assert_uint_eq(get(LSR), 0x60);
    ck_assert_uint_eq(rooms, 2);
}
END_TEST

START_TEST(bytes_below_the_trigger_interrupt_after_four_characters) {
    put(LCR, 0x83);
    put(RBR, 1); /* 115200 baud, 8n1: 4 characters are 40 bits */
    put(IER, 0);
    put(LCR, 0x03);
    put(MCR, 0x08);
    put(IIR, 0xc1);
    put(IER, 0x01);
    fx_to(&f, 1000);
    serial_input(s, (const uint8_t *)"q", 1);
    ck_assert_uint_eq(clock_next(&f.clock), 1000 + 40ull * 1000000000 / 115200);
    fx_by(&f, 347221);
    ck_assert_int_eq(f.level[IRQ], 0);
    fx_by(&f, 1);
    ck_assert_int_eq(f.level[IRQ], 1);
    ck_assert_uint_eq(get(IIR), 0xcc);
    ck_assert_uint_eq(get(IIR), 0xcc); /* only reading the byte clears it */
    ck_assert_uint_eq(get(RBR), 'q');
    ck_assert_uint_eq(get(IIR), 0xc1);
    ck_assert_int_eq(f.level[IRQ], 0);
}
END_TEST

START_TEST(loopback_turns_outputs_into_inputs) {
    put(LCR, 0x03);
    put(MCR, 0x10);
    ck_assert_uint_eq(get(MSR) & 0xf0, 0);
    put(MCR, 0x1a); /* RTS -> CTS, OUT2 -> DCD */
    ck_assert_uint_eq(get(MSR), 0x99);
    ck_assert_uint_eq(get(MSR), 0x90); /* deltas are read once */
    put(MCR, 0x14);                    /* OUT1 -> RI */
    ck_assert_uint_eq(get(MSR), 0x49);
    put(MCR, 0x10);
    ck_assert_uint_eq(get(MSR), 0x04); /* trailing edge of RI */
    ck_assert_uint_eq(serial_input(s, (const uint8_t *)"x", 1), 0); /* cut off */
    put(RBR, 0xa5);
    ck_assert_uint_eq(f.out_size, 0);
    ck_assert_uint_eq(get(LSR), 0x61);
    ck_assert_uint_eq(get(RBR), 0xa5);
    put(MCR, 0x00);
    ck_assert_uint_eq(get(MSR) & 0xf0, 0xb0);
}
END_TEST

START_TEST(an_overrun_replaces_the_byte_without_a_fifo) {
    put(LCR, 0x03);
    put(MCR, 0x18);
    put(IER, 0x05);
    put(RBR, 1);
    put(RBR, 2);                       /* RBR is overwritten */
    ck_assert_uint_eq(get(IIR), 0x06); /* line status goes first */
    ck_assert_uint_eq(get(LSR), 0x63);
    ck_assert_uint_eq(get(IIR), 0x04);
    ck_assert_uint_eq(get(LSR), 0x61);
    ck_assert_uint_eq(get(RBR), 2);
}
END_TEST

START_TEST(an_overrun_of_the_fifo_keeps_the_old_bytes) {
    put(LCR, 0x03);
    put(MCR, 0x18);
    put(IIR, 0x01);
    for (unsigned n = 0; n < 17; n++) /* a FIFO keeps the old ones */
        put(RBR, (uint8_t)n);
    ck_assert_uint_eq(get(LSR), 0x63);
    for (unsigned n = 0; n < 16; n++)
        ck_assert_uint_eq(get(RBR), n);
    ck_assert_uint_eq(get(LSR), 0x60);
}
END_TEST

START_TEST(interrupts_are_told_in_order_of_priority) {
    put(LCR, 0x03);
    put(MCR, 0x18);
    put(IER, 0x0f);
    put(MCR, 0x1b); /* modem deltas */
    put(RBR, 1);
    put(RBR, 2); /* overrun, data, THR */
    ck_assert_uint_eq(get(IIR), 0x06);
    get(LSR);
    ck_assert_uint_eq(get(IIR), 0x04);
    get(RBR);
    ck_assert_uint_eq(get(IIR), 0x02);
    ck_assert_uint_eq(get(IIR), 0x00);
    ck_assert_int_eq(f.level[IRQ], 1);
    get(MSR);
    ck_assert_uint_eq(get(IIR), 0x01);
    ck_assert_int_eq(f.level[IRQ], 0);
}
END_TEST

SUITE("serial", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {registers_read_as_those_of_a_16550a,
                a_byte_is_sent_at_once_with_the_bits_of_its_frame,
                an_empty_thr_interrupts_once_for_each_byte,
                without_a_fifo_one_byte_is_received_at_a_time,
                the_fifo_interrupts_at_its_trigger_and_tells_of_room,
                bytes_below_the_trigger_interrupt_after_four_characters,
                loopback_turns_outputs_into_inputs,
                an_overrun_replaces_the_byte_without_a_fifo,
                an_overrun_of_the_fifo_keeps_the_old_bytes,
                interrupts_are_told_in_order_of_priority})
