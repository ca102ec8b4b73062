/* SPDX-License-Identifier: MIT */
/*
 * QEMU's pc-testdev, which kvm-unit-tests' x86 images talk to (QEMU
 * hw/misc/pc-testdev.c):
 *
 *   0xe0..0xe3      what was written is read back, any size
 *   0xe4            write 4: a page that QEMU takes away for a moment, so that KVM drops
 *                   its mapping; our translations are already as if it had
 *   0xe8..0xeb      the same memory as 0xe0, byte by byte on the device's side
 *   0x2000..0x2017  write 1: level of gsi 0..23
 *   0xff000000      64 KiB of memory behind MMIO
 *
 * Invariant: an offset is within its range and offset + size is too; the bus says so.
 */
#include <string.h>

#include "dev/dev.h"
#include "penumbra/x86.h"

#define PORT_ECHO  0xe0u
#define PORT_FLUSH 0xe4u
#define PORT_BYTE  0xe8u
#define PORT_IRQ   0x2000u
#define MEM_BASE   0xff000000u
#define MEM_SIZE   0x10000u

struct testdev {
    struct device dev;
    struct {
        uint8_t echo[4];
        uint8_t mem[MEM_SIZE];
    } s;
};

static uint64_t echo_read(void *dev, uint64_t offset, unsigned size) {
    struct testdev *t = dev;
    uint64_t value = 0;
    memcpy(&value, t->s.echo + offset, size);
    return value;
}

static void echo_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct testdev *t = dev;
    memcpy(t->s.echo + offset, &value, size);
}

static void irq_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct testdev *t = dev;
    t->dev.env.irq.set(t->dev.env.irq.opaque, (unsigned)offset, value != 0);
}

static uint64_t mem_read(void *dev, uint64_t offset, unsigned size) {
    struct testdev *t = dev;
    uint64_t value = 0;
    memcpy(&value, t->s.mem + offset, size);
    return value;
}

static void mem_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct testdev *t = dev;
    memcpy(t->s.mem + offset, &value, size);
}

static const struct dev_ops echo_ops = {"testdev-echo", 1, 4, echo_read, echo_write};
static const struct dev_ops byte_ops = {"testdev-byte", 1, 1, echo_read, echo_write};
static const struct dev_ops flush_ops = {"testdev-flush", 4, 4, NULL, NULL};
static const struct dev_ops irq_ops = {"testdev-irq", 1, 1, NULL, irq_write};
static const struct dev_ops mem_ops = {"testdev-mem", 1, 8, mem_read, mem_write};

static const struct dev_range ranges[] = {
    {DEV_PIO, PORT_ECHO, 4, &echo_ops},       {DEV_PIO, PORT_FLUSH, 4, &flush_ops},
    {DEV_PIO, PORT_BYTE, 4, &byte_ops},       {DEV_PIO, PORT_IRQ, GSIS, &irq_ops},
    {DEV_MMIO, MEM_BASE, MEM_SIZE, &mem_ops},
};

static const struct dev_class testdev_class = {
    .name = "testdev",
    .version = 1,
    DEV_STATE(struct testdev, s),
    DEV_RANGES(ranges),
};

struct testdev *testdev_create(const struct dev_env *env) {
    return dev_create(&testdev_class, env, 0, NULL);
}
