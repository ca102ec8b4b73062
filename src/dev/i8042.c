/* SPDX-License-Identifier: MIT */
/*
 * 8042 keyboard controller with no keyboard and no mouse: what remains are its self-test,
 * the reset line and the A20 gate. Every command is answered at once, and a byte for a
 * device comes back as 0xfe with the time-out bit: a driver that probes gives up without
 * waiting.
 *
 * Invariants
 * 1. One byte of output buffer: a new answer replaces the old one.
 * 2. The interrupt line is (output full, from the keyboard side) AND its enable bit.
 */
#include "dev/i8042.h"

#include <stdlib.h>

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
    struct irq_sink irq;
    struct dev_host host;
    uint8_t ram[RAM_SIZE]; /* byte 0 is the controller command byte */
    uint8_t status, out, port;
    uint8_t command; /* waits for its data byte at 0x60; 0: none */
    int line;
};

static void update(struct i8042 *k) {
    int line =
        k->status & STATUS_OUT && k->ram[0] & CTR_IRQ1 && !(k->status & STATUS_AUX);

    if (line == k->line)
        return;
    k->line = line;
    k->irq.set(k->irq.opaque, GSI_KEYBOARD, line);
}

static void reset(struct i8042 *k) {
    if (k->host.request)
        k->host.request(k->host.opaque, DEV_RESET, 0);
}

static void answer(struct i8042 *k, uint8_t value, uint8_t flags) {
    k->out = value;
    k->status &= (uint8_t) ~(STATUS_AUX | STATUS_TIMEOUT);
    k->status |= STATUS_OUT | flags;
}

static void write_output_port(struct i8042 *k, uint8_t value) {
    k->port = value | OUT_RESET;
    if (!(value & OUT_RESET))
        reset(k);
}

static void command(struct i8042 *k, uint8_t value) {
    k->status |= STATUS_COMMAND;
    k->command = 0;
    switch (value) {
    case 0x20 ... 0x3f:
        answer(k, k->ram[value & (RAM_SIZE - 1)], 0);
        break;
    case 0x60 ... 0x7f:
    case 0xd1: /* output port */
    case 0xd2: /* as if from the keyboard */
    case 0xd3: /* as if from the mouse */
    case 0xd4: /* to the mouse */
        k->command = value;
        break;
    case 0xa4: /* password: none */
        answer(k, 0xf1, 0);
        break;
    case 0xa7:
        k->ram[0] |= CTR_AUXDIS;
        break;
    case 0xa8:
        k->ram[0] &= (uint8_t)~CTR_AUXDIS;
        break;
    case 0xa9: /* test the mouse port: clock stuck low, nobody there */
        answer(k, 0x01, 0);
        break;
    case 0xaa:
        k->ram[0] |= CTR_SYSTEM;
        k->status |= STATUS_SYSTEM;
        answer(k, 0x55, 0);
        break;
    case 0xab: /* test the keyboard port */
        answer(k, 0x00, 0);
        break;
    case 0xad:
        k->ram[0] |= CTR_KBDDIS;
        break;
    case 0xae:
        k->ram[0] &= (uint8_t)~CTR_KBDDIS;
        break;
    case 0xc0: /* input port: not locked */
        answer(k, 0x80, 0);
        break;
    case 0xd0:
        answer(k, k->port, 0);
        break;
    case 0xdd:
        k->port &= (uint8_t)~OUT_A20;
        break;
    case 0xdf:
        k->port |= OUT_A20;
        break;
    case 0xf0 ... 0xff: /* pulse output lines; bit 0 is the CPU's reset */
        if (!(value & OUT_RESET))
            reset(k);
        break;
    }
}

static void data(struct i8042 *k, uint8_t value) {
    uint8_t cmd = k->command;

    k->status &= (uint8_t)~STATUS_COMMAND;
    k->command = 0;
    switch (cmd) {
    case 0x60 ... 0x7f:
        k->ram[cmd & (RAM_SIZE - 1)] = value;
        k->status = (uint8_t)((k->status & ~STATUS_SYSTEM) | (k->ram[0] & CTR_SYSTEM));
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

    (void)offset;
    (void)size;
    k->status &= (uint8_t) ~(STATUS_OUT | STATUS_AUX | STATUS_TIMEOUT);
    update(k);
    return k->out;
}

static void data_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct i8042 *k = dev;

    (void)offset;
    (void)size;
    data(k, (uint8_t)value);
    update(k);
}

static uint64_t status_read(void *dev, uint64_t offset, unsigned size) {
    const struct i8042 *k = dev;

    (void)offset;
    (void)size;
    return k->status | STATUS_UNLOCK;
}

static void command_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct i8042 *k = dev;

    (void)offset;
    (void)size;
    command(k, (uint8_t)value);
    update(k);
}

static const struct dev_ops data_ops = {.name = "i8042",
                                        .min_size = 1,
                                        .max_size = 1,
                                        .read = data_read,
                                        .write = data_write};
static const struct dev_ops command_ops = {.name = "i8042-command",
                                           .min_size = 1,
                                           .max_size = 1,
                                           .read = status_read,
                                           .write = command_write};

struct i8042 *i8042_create(struct dev_bus *bus, struct irq_sink irq,
                           const struct dev_host *host) {
    struct i8042 *k = calloc(1, sizeof *k);

    if (!k)
        return NULL;
    k->irq = irq;
    k->host = *host;
    k->status = STATUS_SYSTEM;
    k->ram[0] = CTR_SYSTEM | CTR_KBDDIS | CTR_AUXDIS;
    k->port = 0xcc | OUT_RESET | OUT_A20;
    if (dev_bus_add_pio(bus, 0x60, 1, &data_ops, k) ||
        dev_bus_add_pio(bus, 0x64, 1, &command_ops, k)) {
        dev_bus_remove(bus, k);
        free(k);
        return NULL;
    }
    return k;
}

void i8042_destroy(struct i8042 *k) {
    free(k);
}

bool i8042_a20(const struct i8042 *k) {
    return k->port & OUT_A20;
}

void i8042_set_a20(struct i8042 *k, bool on) {
    k->port = (uint8_t)((k->port & ~OUT_A20) | (on ? OUT_A20 : 0));
}
