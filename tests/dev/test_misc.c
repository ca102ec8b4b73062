/* SPDX-License-Identifier: MIT */
/* Reset ports, debug exit, POST, absent PCI, and the 8042. */
#include "fixture.h"

static struct fx f;
static struct misc *m;

static void setup(void) {
    fx_init(&f);
    m = misc_create(&f.env);
    ck_assert_ptr_nonnull(m);
}

static void done(void) {
    fx_done(&f);
}

START_TEST(no_pci) {
    setup();
    out8(&f, 0xcfb, 1); /* Linux' probe of configuration mechanism 1 */
    out32(&f, 0xcf8, 0x80000000);
    ck_assert_uint_eq(in32(&f, 0xcf8), 0xffffffff);
    ck_assert_uint_eq(in32(&f, 0xcfc), 0xffffffff);
    out8(&f, 0xcfb, 0); /* and 2 */
    out8(&f, 0xcf8, 0);
    out8(&f, 0xcfa, 0);
    ck_assert_uint_eq(in8(&f, 0xcf8), 0xff);
    ck_assert_uint_eq(f.resets, 0);
    done();
}
END_TEST

START_TEST(reset_register) {
    setup();
    ck_assert_uint_eq(in8(&f, 0xcf9), 0);
    out8(&f, 0xcf9, 0x02);
    ck_assert_uint_eq(f.resets, 0);
    out8(&f, 0xcf9, 0x06);
    ck_assert_uint_eq(f.resets, 1);
    out8(&f, 0xcf9, 0x06); /* no new edge */
    ck_assert_uint_eq(f.resets, 1);
    out32(&f, 0xcf8, 0xffffffff);
    ck_assert_uint_eq(f.resets, 1);
    out8(&f, 0xcf9, 0x00);
    out8(&f, 0xcf9, 0x0e);
    ck_assert_uint_eq(f.resets, 2);
    done();
}
END_TEST

START_TEST(port92) {
    setup();
    ck_assert_uint_eq(in8(&f, 0x92), 0x02);
    out8(&f, 0x92, 0x00);
    ck_assert_uint_eq(in8(&f, 0x92), 0x00);
    out8(&f, 0x64, 0xdf); /* the 8042's A20 is the same gate */
    ck_assert_uint_eq(in8(&f, 0x92), 0x02);
    out8(&f, 0x92, 0x03);
    ck_assert_uint_eq(f.resets, 1);
    out8(&f, 0x92, 0x03);
    ck_assert_uint_eq(f.resets, 1);
    done();
}
END_TEST

START_TEST(debug_exit) {
    setup();
    out8(&f, 0xf4, 0x10);
    ck_assert_uint_eq(f.exits, 1);
    ck_assert_uint_eq(f.code, 0x21);
    out32(&f, 0xf4, 0);
    ck_assert_uint_eq(f.code, 1);
    out32(&f, 0xf4, 0xffffffff);
    ck_assert_uint_eq(f.code, 0xffffffff);
    out8(&f, 0xf5, 7);
    ck_assert_uint_eq(f.exits, 3);
    ck_assert_uint_eq(in32(&f, 0xf4), 0xffffffff);
    done();
}
END_TEST

START_TEST(post_code) {
    setup();
    out8(&f, 0x80, 0x42);
    ck_assert_uint_eq(in8(&f, 0x80), 0x42);
    done();
}
END_TEST

static uint8_t ask(uint8_t command) {
    out8(&f, 0x64, command);
    ck_assert_uint_eq(in8(&f, 0x64) & 0x03, 0x01);
    uint8_t v = in8(&f, 0x60);

    ck_assert_uint_eq(in8(&f, 0x64) & 0x01, 0);
    return v;
}

START_TEST(i8042_commands) {
    setup();
    ck_assert_uint_eq(in8(&f, 0x64), 0x14);
    ck_assert_uint_eq(ask(0xaa), 0x55);
    ck_assert_uint_eq(ask(0xab), 0x00);
    ck_assert_uint_eq(ask(0xa9), 0x01); /* no mouse port */
    ck_assert_uint_eq(ask(0x20), 0x34);
    out8(&f, 0x64, 0x60);
    ck_assert_uint_eq(in8(&f, 0x64) & 0x08, 0x08);
    out8(&f, 0x60, 0x47);
    ck_assert_uint_eq(ask(0x20), 0x47);
    out8(&f, 0x64, 0xad);
    ck_assert_uint_eq(ask(0x20), 0x57);
    out8(&f, 0x64, 0xae);
    out8(&f, 0x64, 0xa7);
    ck_assert_uint_eq(ask(0x20), 0x67);
    for (unsigned n = 1; n < 32; n++) {
        out8(&f, 0x64, (uint8_t)(0x60 + n));
        out8(&f, 0x60, (uint8_t)n);
    }
    for (unsigned n = 1; n < 32; n++)
        ck_assert_uint_eq(ask((uint8_t)(0x20 + n)), n);
    ck_assert_uint_eq(ask(0xd0) & 3, 3);
    ck_assert_uint_eq(f.resets, 0);
    done();
}
END_TEST

START_TEST(i8042_resets) {
    setup();
    out8(&f, 0x64, 0xff);
    ck_assert_uint_eq(f.resets, 0);
    out8(&f, 0x64, 0xfe); /* Linux' way */
    ck_assert_uint_eq(f.resets, 1);
    out8(&f, 0x64, 0xd1);
    out8(&f, 0x60, 0xdf);
    ck_assert_uint_eq(f.resets, 1);
    out8(&f, 0x64, 0xd1);
    out8(&f, 0x60, 0xde);
    ck_assert_uint_eq(f.resets, 2);
    done();
}
END_TEST

START_TEST(i8042_nobody) {
    setup();
    out8(&f, 0x64, 0x60);
    out8(&f, 0x60, 0x44); /* interrupt off */
    out8(&f, 0x60, 0xf2);
    ck_assert_int_eq(f.level[1], 0);
    in8(&f, 0x60);
    out8(&f, 0x64, 0x60);
    out8(&f, 0x60, 0x45); /* interrupt on */
    out8(&f, 0x60, 0xf2); /* who is there? */
    ck_assert_int_eq(f.level[1], 1);
    ck_assert_uint_eq(in8(&f, 0x64) & 0x41, 0x41);
    ck_assert_uint_eq(in8(&f, 0x60), 0xfe);
    ck_assert_int_eq(f.level[1], 0);
    out8(&f, 0x64, 0xd4);
    out8(&f, 0x60, 0xf2);
    ck_assert_int_eq(f.level[1], 0);
    ck_assert_uint_eq(in8(&f, 0x64) & 0x61, 0x61);
    out8(&f, 0x64, 0xd3); /* the loop test of Linux' i8042_check_aux */
    out8(&f, 0x60, 0x5a);
    ck_assert_uint_ne(in8(&f, 0x60), 0x5a);
    out8(&f, 0x64, 0xd2);
    out8(&f, 0x60, 0x77);
    ck_assert_int_eq(f.level[1], 1);
    ck_assert_uint_eq(in8(&f, 0x60), 0x77);
    done();
}
END_TEST

int main(void) {
    const TTest *tests[] = {no_pci,    reset_register, port92,       debug_exit,
                            post_code, i8042_commands, i8042_resets, i8042_nobody};

    return fx_run("misc", tests, sizeof tests / sizeof *tests);
}
