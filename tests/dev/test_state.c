/* SPDX-License-Identifier: MIT */
/*
 * Each device, stopped in the middle of something: a new one that is given its state goes
 * on as it would have. And states that no device can have come to are refused.
 */
#include "fixture.h"
#include "tests/suite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define COM 0x3f8u
#define PM  ACPI_PM_BASE

static struct fx a, b; /* the device that was stopped, and the one that goes on */
static struct serial *serial[2];
static struct fw_cfg *fw[2];

static void out(void *opaque, const uint8_t *buf, size_t size) {
    struct fx *f = opaque;
    while (size-- && f->out_size < sizeof f->out)
        f->out[f->out_size++] = *buf++;
}

static uint32_t told(void *opaque, uint32_t value) {
    return ~value;
}

static void legacy(void *opaque, bool on) {
}

static void create(struct fx *f, unsigned n) {
    static const struct hpet_config hpet = {.legacy = legacy};
    fx_init(f);
    serial[n] = serial_create(&f->env, COM, 4, out, f);
    fw[n] = fw_cfg_create(&f->env);
    ck_assert(serial[n] && fw[n] && pit_create(&f->env) && rtc_create(&f->env, 0, 0, 0) &&
              acpi_pm_create(&f->env) && misc_create(&f->env) && ferr_create(&f->env) &&
              testdev_create(&f->env) && hpet_create(&f->env, &hpet) &&
              mark_create(&f->env, told, f));
    ck_assert_int_eq(fw_cfg_add(fw[n], 0x14, "0123456789", 10), 0);
}

static void setup(void) {
    create(&a, 0);
    create(&b, 1);
    fx_to(&a, 12345678);
}

static void teardown(void) {
    fx_done(&a);
    fx_done(&b);
}

/* b goes on where a stands. */
static void move(void) {
    struct dev_states *s = dev_bus_save(a.bus);
    b.now = a.now;
    ck_assert_ptr_nonnull(s);
    ck_assert_int_eq(dev_bus_load(b.bus, s), 0);
    dev_states_free(s);
}

static struct device *find(struct fx *f, const char *name) {
    struct device *d = *dev_bus_devices(f->bus);
    while (d && strcmp(d->class->name, name) != 0)
        d = d->next;
    ck_assert_ptr_nonnull(d);
    return d;
}

static unsigned pit_count(struct fx *f) {
    out8(f, 0x43, 0x80);
    unsigned low = in8(f, 0x42);
    return low | (unsigned)in8(f, 0x42) << 8;
}

START_TEST(a_count_that_waits_is_taken_at_the_end_of_the_period) {
    out8(&a, 0x61, 1);
    out8(&a, 0x43, 0xb4); /* channel 2, both bytes, mode 2 */
    out8(&a, 0x42, 0);
    out8(&a, 0x42, 0); /* 65536: 54.9 ms */
    out8(&a, 0x42, 0);
    out8(&a, 0x42, 0x10); /* 4096, from the next period on */
    fx_by(&a, 20000000);
    move();
    ck_assert_uint_gt(pit_count(&b), 0x1000);
    for (unsigned ms = 0; ms < 60; ms++) {
        ck_assert_uint_eq(pit_count(&a), pit_count(&b));
        fx_by(&a, 1000000);
        fx_by(&b, 1000000);
    }
    ck_assert_uint_le(pit_count(&b), 0x1000);
}
END_TEST

START_TEST(a_gate_that_has_not_risen_still_has_to) {
    out8(&a, 0x61, 1);
    out8(&a, 0x43, 0xb2); /* channel 2, mode 1: the gate is up already */
    out8(&a, 0x42, 0);
    out8(&a, 0x42, 0x10);
    move();
    ck_assert(in8(&b, 0x61) & 0x20); /* not triggered: high */
    fx_by(&b, 10000000);
    out8(&b, 0x61, 0);
    out8(&b, 0x61, 1);
    ck_assert(!(in8(&b, 0x61) & 0x20));
}
END_TEST

START_TEST(the_timers_next_tick_comes_when_it_would_have) {
    out8(&a, 0x43, 0x34);
    out8(&a, 0x40, 0x9c);
    out8(&a, 0x40, 0x2e);
    fx_by(&a, 33000000);
    move();
    memset(b.rises, 0, sizeof b.rises);
    unsigned before = a.rises[0];
    fx_by(&a, 70000000);
    fx_by(&b, 70000000);
    ck_assert_uint_eq(a.rises[0] - before, 7);
    ck_assert_uint_eq(a.rise_at[0], b.rise_at[0]);
}
END_TEST

START_TEST(the_uart_keeps_its_fifo_and_the_timeout) {
    out8(&a, COM + 2, 0xc1); /* trigger at 14 */
    out8(&a, COM + 4, 8);
    out8(&a, COM + 1, 1);
    ck_assert_uint_eq(serial_input(serial[0], (const uint8_t *)"abc", 3), 3);
    ck_assert_uint_eq(in8(&a, COM), 'a');
    move();
    fx_by(&a, 100000000);
    fx_by(&b, 100000000);
    ck_assert_int_eq(b.level[4], 1);
    ck_assert_uint_eq(a.rise_at[4], b.rise_at[4]);
    ck_assert_uint_eq(in8(&b, COM + 2), 0xcc); /* character timeout */
    ck_assert_uint_eq(in8(&b, COM), 'b');
    ck_assert_uint_eq(in8(&b, COM), 'c');
    ck_assert(!(in8(&b, COM + 5) & 1));
}
END_TEST

static void cmos(struct fx *f, uint8_t reg, uint8_t value) {
    out8(f, 0x70, reg);
    out8(f, 0x71, value);
}

START_TEST(the_rtc_keeps_its_index_its_time_and_its_alarm) {
    cmos(&a, 11, 0x22);   /* AIE, 24 hours */
    cmos(&a, 1, 0xc0);    /* each second... */
    cmos(&a, 3, 0x02);    /* ... of minute 2 */
    cmos(&a, 0x40, 0x5a); /* CMOS memory */
    fx_by(&a, 30000000000);
    out8(&a, 0x70, 0x40);
    move();
    ck_assert_uint_eq(in8(&b, 0x71), 0x5a);
    fx_by(&b, 89000000000);
    ck_assert_uint_eq(b.rises[8], 0);
    fx_by(&a, 91000000000);
    fx_by(&b, 2000000000);
    ck_assert_uint_eq(b.rises[8], 1);
    ck_assert_uint_eq(a.rise_at[8], b.rise_at[8]);
    out8(&b, 0x70, 2);
    ck_assert_uint_eq(in8(&b, 0x71), 2);
}
END_TEST

START_TEST(the_pm_timer_interrupts_when_it_would_have) {
    out16(&a, PM + 2, 1);
    fx_by(&a, 2000000000);
    move();
    fx_by(&a, 1000000000);
    fx_by(&b, 1000000000);
    ck_assert_int_eq(b.level[ACPI_SCI_GSI], 1);
    ck_assert_uint_eq(a.rise_at[ACPI_SCI_GSI], b.rise_at[ACPI_SCI_GSI]);
    out16(&b, PM, 1);
    ck_assert_int_eq(b.level[ACPI_SCI_GSI], 0);
}
END_TEST

START_TEST(firmware_items_are_read_on_where_they_were_left) {
    out16(&a, 0x510, 0x14);
    ck_assert_uint_eq(in8(&a, 0x511), '0');
    ck_assert_uint_eq(in8(&a, 0x511), '1');
    out32(&a, 0x514, 0x01000000); /* the high half of a DMA address */
    move();
    ck_assert_uint_eq(in8(&b, 0x511), '2');
    out32(&b, 0x518, 0x00100000); /* 1 << 32 | 0x1000: not memory */
    ck_assert_uint_eq(in8(&b, 0x511), '3');
}
END_TEST

START_TEST(small_registers_are_kept_in_the_middle_of_a_command) {
    out8(&a, 0x64, 0x60); /* 8042: command byte, its data comes next */
    out8(&a, 0x80, 0x42);
    out8(&a, 0xcf9, 2);
    out32(&a, 0xe0, 0x11223344);
    wr32(&a, 0xff000010, 0xabcd);
    out32(&a, 0x5e0, 7);
    move();
    out8(&b, 0x60, 0x01);
    ck_assert_uint_eq(b.resets, 0);
    out8(&b, 0x64, 0x20);
    ck_assert_uint_eq(in8(&b, 0x60), 0x01);
    ck_assert_uint_eq(in8(&b, 0x80), 0x42);
    ck_assert_uint_eq(in8(&b, 0xcf9), 2);
    ck_assert_uint_eq(in32(&b, 0xe0), 0x11223344);
    ck_assert_uint_eq(rd32(&b, 0xff000010), 0xabcd);
    ck_assert_uint_eq(in32(&b, 0x5e0), ~7u);
}
END_TEST

/* ---- What is refused ---- */

/* One byte of a good state made a bad one: at, of the device's state. */
static void refuse(const char *name, size_t at, uint8_t value) {
    struct device *d = find(&a, name);
    uint8_t *good = malloc(d->class->state_size), *bad = malloc(d->class->state_size);
    uint8_t *still = malloc(d->class->state_size);
    dev_save(d, good);
    memcpy(bad, good, d->class->state_size);
    bad[at] = value;
    ck_assert_msg(dev_load(d, bad) == -EINVAL, "%s, byte %zu = %x", name, at, value);
    dev_save(d, still);
    ck_assert_int_eq(memcmp(still, good, d->class->state_size), 0);
    ck_assert_int_eq(dev_load(d, good), 0);
    free(good);
    free(bad);
    free(still);
}
#define CHANNEL(field)                                                                   \
    (2 * sizeof(struct pn_pit_channel) + offsetof(struct pn_pit_channel, field))

START_TEST(states_that_cannot_be_are_refused) {
    refuse("pit", CHANNEL(count) + 2, 2); /* above 65536 */
    refuse("pit", CHANNEL(count) + 2, 0); /* 0 */
    refuse("pit", CHANNEL(start) + 7, 1); /* loaded in the future */
    refuse("pit", CHANNEL(before) + 7, 0xff);
    refuse("pit", CHANNEL(mode), 6);
    refuse("pit", CHANNEL(access), 0);
    refuse("pit", CHANNEL(gate), 2); /* no flag */
    refuse("serial", 16, 16);        /* head */
    refuse("serial", 20, 2);         /* bytes in a FIFO that is off */
    refuse("rtc", 128, 0x80);        /* an index beyond the CMOS */
    refuse("rtc", 136 + 7, 0x7f);    /* a second beyond the year 9999 */
    refuse("acpi_pm", 7, 1);         /* half periods of the future */
    refuse("fw_cfg", 0, 1);          /* beyond the end of nothing */
}
END_TEST

START_TEST(all_states_are_loaded_or_none) {
    struct dev_states *s = dev_bus_save(a.bus);
    out8(&b, 0x80, 0x77);
    b.now = a.now;
    for (unsigned n = 0; n < s->count; n++)
        if (!strcmp(s->record[n].class->name, "pit"))
            memset(s->record[n].state, 0xff, s->record[n].class->state_size);
    ck_assert_int_eq(dev_bus_load(b.bus, s), -EINVAL);
    ck_assert_uint_eq(in8(&b, 0x80), 0x77);
    dev_states_free(s);
    s = dev_bus_save(a.bus);
    s->count--;
    ck_assert_int_eq(dev_bus_load(b.bus, s), -ENOENT); /* a device without a state */
    s->count++;
    dev_destroy(find(&b, "mark"));
    ck_assert_int_eq(dev_bus_load(b.bus, s), -ENOENT); /* a state without a device */
    dev_states_free(s);
    s = dev_bus_save(b.bus);
    s->record[0].class = s->record[1].class;
    ck_assert_int_eq(dev_bus_load(b.bus, s), -ENOENT); /* two for one */
    ck_assert_uint_eq(in8(&b, 0x80), 0x77);
    dev_states_free(s);
}
END_TEST

/* ---- Timers of one deadline ---- */

struct bell {
    struct device dev;
    uint64_t at;
};
static unsigned rung[3], rings;

static void ring(void *dev) {
    rung[rings++] = ((struct bell *)dev)->dev.instance;
}

static void wind(void *dev) {
    struct bell *bell = dev;
    dev_arm(&bell->dev, bell->at);
}

static const struct dev_class bell_class = {
    .name = "bell", DEV_STATE(struct bell, at), .settle = wind, .expire = ring};

START_TEST(equal_deadlines_keep_their_order) {
    static const unsigned order[3] = {1, 2, 0};
    struct bell *bell[3];
    for (unsigned n = 0; n < 3; n++) {
        bell[n] = dev_create(&bell_class, &a.env, n, NULL);
        ck_assert_ptr_nonnull(dev_create(&bell_class, &b.env, n, NULL));
    }
    for (unsigned n = 0; n < 3; n++) {
        bell[order[n]]->at = 99000000;
        wind(bell[order[n]]);
    }
    move();
    rings = 0;
    fx_to(&b, 99000000);
    ck_assert_uint_eq(rings, 3);
    ck_assert_int_eq(memcmp(rung, order, sizeof order), 0);
}
END_TEST

SUITE("state", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {a_count_that_waits_is_taken_at_the_end_of_the_period,
                a_gate_that_has_not_risen_still_has_to,
                the_timers_next_tick_comes_when_it_would_have,
                the_uart_keeps_its_fifo_and_the_timeout,
                the_rtc_keeps_its_index_its_time_and_its_alarm,
                the_pm_timer_interrupts_when_it_would_have,
                firmware_items_are_read_on_where_they_were_left,
                small_registers_are_kept_in_the_middle_of_a_command,
                states_that_cannot_be_are_refused, all_states_are_loaded_or_none,
                equal_deadlines_keep_their_order})
