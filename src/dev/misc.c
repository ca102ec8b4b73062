/* SPDX-License-Identifier: MIT */
/*
 * The small ports of a PC: POST code 0x80, system control 0x92, debug exit 0xf4, panics
 * 0x505 (QEMU's docs/specs/pvpanic), and the PCI configuration ports of a machine without PCI, with the reset register among them.
 *
 * Invariants
 * 1. Without a PCI bridge 0xcf8..0xcff read all ones, so that every probing of PCI fails;
 *    only a byte access to 0xcf9 is the reset register.
 * 2. A reset needs a rising bit: 0xcf9 bit 2, 0x92 bit 0.
 */
#include <errno.h>

#include "dev/dev.h"
#include "dev/i8042.h"
#include "dev/pci.h"

#define PORT92_RESET         0x01u
#define PORT92_A20           0x02u /* never masked (i8042.c): always 1 */
#define PVPANIC_PANICKED     0x01u
#define PVPANIC_CRASH_LOADED 0x02u
#define CF9_OFFSET           1u
#define CF9_RST_CPU          0x04u
#define CF9_MASK             0x0eu

struct misc {
    struct device dev;
    struct i8042 *i8042;
    struct pci_host *pci; /* NULL: the machine has none */
    struct {
        uint8_t post, port92, cf9;
    } s;
};

static uint64_t post_read(void *dev, uint64_t offset, unsigned size) {
    return ((struct misc *)dev)->s.post;
}

static void post_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    ((struct misc *)dev)->s.post = (uint8_t)value;
}

static uint64_t port92_read(void *dev, uint64_t offset, unsigned size) {
    const struct misc *m = dev;
    return m->s.port92 | PORT92_A20;
}

static void port92_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct misc *m = dev;
    bool rises = value & ~(uint64_t)m->s.port92 & PORT92_RESET;
    m->s.port92 = value & PORT92_RESET;
    if (rises)
        dev_ask(&m->dev, DEV_RESET, 0);
}

static void exit_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    if (offset == 0)
        dev_ask(dev, DEV_EXIT, (unsigned)value << 1 | 1);
}

/* Which events a guest may report. */
static uint64_t panic_read(void *dev, uint64_t offset, unsigned size) {
    return PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
}

/* A guest that loads a crash kernel goes on by itself. */
static void panic_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    if (value & PVPANIC_PANICKED)
        dev_ask(dev, DEV_PANIC, 0);
}

static uint64_t pci_read(void *dev, uint64_t offset, unsigned size) {
    const struct misc *m = dev;
    if (offset == CF9_OFFSET && size == 1)
        return m->s.cf9;
    return m->pci ? pci_port_read(m->pci, offset, size) : UINT64_MAX;
}

static void pci_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct misc *m = dev;
    if (offset != CF9_OFFSET || size != 1) {
        if (m->pci)
            pci_port_write(m->pci, offset, size, value);
        return;
    }
    bool rises = value & ~(uint64_t)m->s.cf9 & CF9_RST_CPU;
    m->s.cf9 = value & CF9_MASK;
    if (rises)
        dev_ask(&m->dev, DEV_RESET, 0);
}

static const struct dev_ops post_ops = {"post", 1, 1, post_read, post_write};
static const struct dev_ops port92_ops = {"port92", 1, 1, port92_read, port92_write};
static const struct dev_ops exit_ops = {"debug-exit", 1, 4, NULL, exit_write};
static const struct dev_ops panic_ops = {"pvpanic", 1, 1, panic_read, panic_write};
static const struct dev_ops pci_ops = {"pci-ports", 1, 4, pci_read, pci_write};

static const struct dev_range ranges[] = {{DEV_PIO, 0x80, 1, &post_ops},
                                          {DEV_PIO, 0x92, 1, &port92_ops},
                                          {DEV_PIO, 0xf4, 4, &exit_ops},
                                          {DEV_PIO, PVPANIC_PORT, 1, &panic_ops},
                                          {DEV_PIO, 0xcf8, 8, &pci_ops}};

static int create(void *dev, const void *config) {
    struct misc *m = dev;
    m->i8042 = i8042_create(&m->dev.env);
    return m->i8042 ? 0 : -ENOMEM;
}

static void destroy(void *dev) {
    dev_destroy(((struct misc *)dev)->i8042);
}

static const struct dev_class misc_class = {
    .name = "misc",
    .version = 1,
    DEV_STATE(struct misc, s),
    DEV_RANGES(ranges),
    .create = create,
    .destroy = destroy,
};

struct misc *misc_create(const struct dev_env *env) {
    return dev_create(&misc_class, env, 0, NULL);
}

void misc_set_pci(struct misc *m, struct pci_host *pci) {
    m->pci = pci;
}
