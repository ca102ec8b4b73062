/* SPDX-License-Identifier: MIT */
/*
 * 8042 keyboard controller with no keyboard and no mouse: what remains are its self-test
 * and the reset line. Address line 20 is never masked, under no engine, so its bit of the
 * output port is 1 whatever is written. Every command is answered at once, and a byte for a
 * device comes back as 0xfe with the time-out bit: a driver that probes gives up without
 * waiting.
 *
 * Invariants
 * 1. One byte of output buffer: a new answer replaces the old one.
 * 2. The interrupt line is (output full, from the keyboard side) AND its enable bit.
 */
#include "dev/i8042.h"

#include <string.h>

#define GSI_KEYBOARD 1u

#define STATUS_OUT     0x01u /* output buffer full */
#define STATUS_SYSTEM  0x04u
#define STATUS_COMMAND 0x08u /* last write went to 0x64 */
#define STATUS_UNLOCK  0x10u
#define STATUS_AUX     0x20u
#define STATUS_TIMEOUT 0x40u

#define CTR_IRQ1   0x01u
#define CTR_SYSTEM 0x04u
#define CTR_KBDDIS 0x10u
#define CTR_AUXDIS 0x20u

#define OUT_RESET 0x01u /* active low */
#define OUT_A20   0x02u

#define RESEND   0xfeu
#define RAM_SIZE 32u

struct i8042 {
    struct device dev;
    struct {
        uint8_t ram[RAM_SIZE]; /* byte 0 is the controller command byte */
        uint8_t status, out, port;
        uint8_t command; /* waits for its data byte at 0x60; 0: none */
        uint8_t line;
    } s;
};

static void update(struct i8042 *k) {
    bool line =
        k->s.status & STATUS_OUT && k->s.ram[0] & CTR_IRQ1 && !(k->s.status & STATUS_AUX);
    dev_line(&k->dev, &k->s.line, GSI_KEYBOARD, line);
}

static void answer(struct i8042 *k, uint8_t value, uint8_t flags) {
    k->s.out = value;
    k->s.status &= (uint8_t) ~(STATUS_AUX | STATUS_TIMEOUT);
    k->s.status |= STATUS_OUT | flags;
}

static void write_output_port(struct i8042 *k, uint8_t value) {
    k->s.port = value | OUT_RESET | OUT_A20;
    if (!(value & OUT_RESET))
        dev_ask(&k->dev, DEV_RESET, 0);
}

static void command(struct i8042 *k, uint8_t value) {
    k->s.status |= STATUS_COMMAND;
    k->s.command = 0;
    switch (value) {
    case 0x20 ... 0x3f:
        answer(k, k->s.ram[value & (RAM_SIZE - 1)], 0);
        break;
    case 0x60 ... 0x7f:
    case 0xd1: /* output port */
    case 0xd2: /* as if from the keyboard */
    case 0xd3: /* as if from the mouse */
    case 0xd4: /* to the mouse */
        k->s.command = value;
        break;
    case 0xa4: /* password: none */
        answer(k, 0xf1, 0);
        break;
    case 0xa7:
        k->s.ram[0] |= CTR_AUXDIS;
        break;
    case 0xa8:
        k->s.ram[0] &= (uint8_t)~CTR_AUXDIS;
        break;
    case 0xa9: /* test the mouse port: clock stuck low, nobody there */
        answer(k, 0x01, 0);
        break;
    case 0xaa:
        k->s.ram[0] |= CTR_SYSTEM;
        k->s.status |= STATUS_SYSTEM;
        answer(k, 0x55, 0);
        break;
    case 0xab: /* test the keyboard port */
        answer(k, 0x00, 0);
        break;
    case 0xad:
        k->s.ram[0] |= CTR_KBDDIS;
        break;
    case 0xae:
        k->s.ram[0] &= (uint8_t)~CTR_KBDDIS;
        break;
    case 0xc0: /* input port: not locked */
        answer(k, 0x80, 0);
        break;
    case 0xd0:
        answer(k, k->s.port, 0);
        break;
    case 0xf0 ... 0xff: /* pulse output lines; bit 0 is the CPU's reset */
        if (!(value & OUT_RESET))
            dev_ask(&k->dev, DEV_RESET, 0);
        break;
    }
}

static void data(struct i8042 *k, uint8_t value) {
    uint8_t cmd = k->s.command;
    k->s.status &= (uint8_t)~STATUS_COMMAND;
    k->s.command = 0;
    switch (cmd) {
    case 0x60 ... 0x7f:
        k->s.ram[cmd & (RAM_SIZE - 1)] = value;
        k->s.status =
            (uint8_t)((k->s.status & ~STATUS_SYSTEM) | (k->s.ram[0] & CTR_SYSTEM));
        break;
    case 0xd1:
        write_output_port(k, value);
        break;
    case 0xd2:
        answer(k, value, 0);
        break;
    case 0xd3: /* no mouse port: not marked as from the mouse, and not what was sent */
        answer(k, RESEND, STATUS_TIMEOUT);
        break;
    case 0xd4:
        answer(k, RESEND, STATUS_AUX | STATUS_TIMEOUT);
        break;
    default: /* to the keyboard */
        answer(k, RESEND, STATUS_TIMEOUT);
        break;
    }
}

static uint64_t data_read(void *dev, uint64_t offset, unsigned size) {
    struct i8042 *k = dev;
    k->s.status &= (uint8_t) ~(STATUS_OUT | STATUS_AUX | STATUS_TIMEOUT);
    update(k);
    return k->s.out;
}

static void data_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct i8042 *k = dev;
    data(k, (uint8_t)value);
    update(k);
}

static uint64_t status_read(void *dev, uint64_t offset, unsigned size) {
    const struct i8042 *k = dev;
    return k->s.status | STATUS_UNLOCK;
}

static void command_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct i8042 *k = dev;
    command(k, (uint8_t)value);
    update(k);
}

static const struct dev_ops data_ops = {"i8042", 1, 1, data_read, data_write};
static const struct dev_ops command_ops = {"i8042-command", 1, 1, status_read,
                                           command_write};

static const struct dev_range ranges[] = {{DEV_PIO, 0x60, 1, &data_ops},
                                          {DEV_PIO, 0x64, 1, &command_ops}};

static void power_on(void *dev) {
    struct i8042 *k = dev;
    memset(&k->s, 0, sizeof k->s);
    k->s.status = STATUS_SYSTEM;
    k->s.ram[0] = CTR_SYSTEM | CTR_KBDDIS | CTR_AUXDIS;
    k->s.port = 0xcc | OUT_RESET | OUT_A20;
}

/* Every byte is a register that the guest writes, but for the line. */
static bool check(const void *dev, const void *state) {
    const size_t line = offsetof(struct i8042, s.line) - offsetof(struct i8042, s);
    return ((const uint8_t *)state)[line] <= 1;
}

static const struct dev_class i8042_class = {
    .name = "i8042",
    .version = 1,
    DEV_STATE(struct i8042, s),
    DEV_RANGES(ranges),
    .reset = power_on,
    .check = check,
};

struct i8042 *i8042_create(const struct dev_env *env) {
    return dev_create(&i8042_class, env, 0, NULL);
}
