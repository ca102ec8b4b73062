/* SPDX-License-Identifier: MIT */
/*
 * The host bridge: configuration space by ports (PCI Local Bus Specification 3.0,
 * "Configuration Mechanism #1") and by memory (ECAM), and the four lines that INTA of all
 * slots share.
 *
 *   0xcf8  31 enable | 23..16 bus | 15..11 slot | 10..8 function | 7..2 register
 *   0xcfc  its four bytes
 *   ECAM   27..20 bus | 19..15 slot | 14..12 function | 11..0 register
 *
 * Invariants
 * 1. There is bus 0, and what functions there are on it: all else reads ones.
 * 2. A gsi is high exactly while a function behind it holds its INTA.
 * 3. The PAM registers outlive ACPI S3, as QEMU's do: firmware wakes in its shadow RAM.
 */
#include <errno.h>
#include <string.h>

#include "dev/pci_internal.h"

#define VENDOR    0x1b36u /* Red Hat: their generic PCI Express host bridge */
#define BRIDGE_ID 0x0008u
#define CLASS     0x060000u

/* What SeaBIOS and OVMF take for QEMU's i440FX. */
#define INTEL           0x8086u
#define ID_82441        0x1237u
#define QUMRANET        0x1af4u
#define QEMU_MACHINE_ID 0x1100u

#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_MASK   0x80fffffcu
#define PORT_DATA      4u
#define BAR_ALIGN      0x100000u /* each BAR is in a MiB of its own */

struct pci_host {
    struct device dev;
    struct pci_function own;
    struct pci_function *function[PCI_SLOTS]; /* function 0; the others are behind it */
    struct pci_pam pam;                       /* moved NULL: no such registers */
    uint8_t kept[PCI_PAM_SIZE];               /* what they were: a reset leaves them */
    struct {
        struct pci_state pci;
        uint32_t address;
        uint8_t line[PCI_GSIS];
    } s;
};

/* ---- Lines and BARs ---- */

void pci_host_lines(struct pci_host *h) {
    bool level[PCI_GSIS] = {false};
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
        for (const struct pci_function *f = h->function[slot]; f; f = f->next)
            level[slot % PCI_GSIS] |= pci_asks(f);
    for (unsigned i = 0; i < PCI_GSIS; i++)
        dev_line(&h->dev, &h->s.line[i], PCI_GSI + i, level[i]);
}

void pci_host_map(struct pci_host *h) {
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
        const struct pci_function *f = h->function[slot];
        if (f && f->bar_size)
            dev_bus_move(h->dev.env.bus, f->dev->range[0], DEV_NOWHERE);
    }
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
        struct pci_function *f = h->function[slot];
        if (f && f->bar_size && dev_bus_move(h->dev.env.bus, f->dev->range[0], f->s->at))
            f->s->at = DEV_NOWHERE;
        if (f)
            pci_moved(f);
    }
}

int pci_host_add(struct pci_host *h, struct pci_function *f, unsigned slot,
                 uint64_t *bar) {
    struct pci_function **at = &h->function[slot < PCI_SLOTS ? slot : 0];
    for (; *at && slot < PCI_SLOTS && (*at)->number < f->number; at = &(*at)->next) {
    }
    if (slot >= PCI_SLOTS || *at)
        return -EEXIST;
    /* BARs are of functions 0: one MiB for each slot */
    if (f->bar_size > (f->number ? 0 : BAR_ALIGN))
        return -ENOSPC;
    *bar = PCI_WINDOW_BASE + slot * BAR_ALIGN;
    *at = f;
    return 0;
}

void pci_host_remove(struct pci_host *h, const struct pci_function *f) {
    struct pci_function **at = &h->function[f->slot];
    while (*at && *at != f)
        at = &(*at)->next;
    if (*at)
        *at = f->next;
}

/* ---- Configuration space ---- */

static struct pci_function *find(struct pci_host *h, unsigned bus, unsigned slot,
                                 unsigned function) {
    struct pci_function *f = bus || slot >= PCI_SLOTS ? NULL : h->function[slot];
    while (f && f->number != function)
        f = f->next;
    return f;
}

static struct pci_function *by_address(struct pci_host *h, unsigned *at) {
    uint32_t a = h->s.address;
    *at = a & 0xfc;
    return a & ADDRESS_ENABLE ? find(h, a >> 16 & 0xff, a >> 11 & 31, a >> 8 & 7) : NULL;
}

/* Pieces are within four bytes: the bus cuts at its own. */
uint64_t pci_port_read(void *host, uint64_t offset, unsigned size) {
    struct pci_host *h = host;
    unsigned at;
    if (offset < PORT_DATA)
        return offset == 0 && size == 4 ? h->s.address : UINT64_MAX;
    struct pci_function *f = by_address(h, &at);
    unsigned lane = (unsigned)offset - PORT_DATA;
    return f && lane + size <= 4 ? pci_config_read(f, at + lane, size) : UINT64_MAX;
}

void pci_port_write(void *host, uint64_t offset, unsigned size, uint64_t value) {
    struct pci_host *h = host;
    unsigned at;
    if (offset < PORT_DATA) {
        if (offset == 0 && size == 4)
            h->s.address = (uint32_t)value & ADDRESS_MASK;
        return;
    }
    struct pci_function *f = by_address(h, &at);
    unsigned lane = (unsigned)offset - PORT_DATA;
    if (f && lane + size <= 4)
        pci_config_write(f, at + lane, size, (uint32_t)value);
}

static struct pci_function *by_ecam(struct pci_host *h, uint64_t offset, unsigned *at) {
    *at = offset & 0xfff;
    return find(h, (unsigned)(offset >> 20), offset >> 15 & 31, offset >> 12 & 7);
}

/* Extended configuration space has no capabilities, and reads 0. */
static uint64_t ecam_read(void *dev, uint64_t offset, unsigned size) {
    unsigned at;
    struct pci_function *f = by_ecam(dev, offset, &at);
    if (!f)
        return UINT64_MAX;
    return at + size <= PCI_CONFIG_SIZE ? pci_config_read(f, at, size) : 0;
}

static void ecam_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    unsigned at;
    struct pci_function *f = by_ecam(dev, offset, &at);
    if (f && at + size <= PCI_CONFIG_SIZE)
        pci_config_write(f, at, size, (uint32_t)value);
}

/* ---- As a device ---- */

static const struct dev_ops ecam_ops = {"pci-ecam", 1, 4, ecam_read, ecam_write};
static const struct dev_range ranges[] = {
    {DEV_MMIO, PCI_ECAM_BASE, PCI_ECAM_SIZE, &ecam_ops}};

static void tell_pam(struct pci_host *h) {
    memcpy(h->kept, h->s.pci.config + PCI_PAM_AT, sizeof(h->kept));
    if (h->pam.moved)
        h->pam.moved(h->pam.opaque, h->kept);
}

static void written(struct device *dev, unsigned at, unsigned size) {
    if (at < PCI_PAM_AT + PCI_PAM_SIZE && at + size > PCI_PAM_AT)
        tell_pam((struct pci_host *)dev);
}

static int create(void *dev, const void *config) {
    struct pci_host *h = dev;
    const struct pci_pam *pam = config;
    h->own = (struct pci_function){.dev = &h->dev,
                                   .s = &h->s.pci,
                                   .vendor = VENDOR,
                                   .id = BRIDGE_ID,
                                   .class = CLASS};
    if (pam) {
        h->pam = *pam;
        h->own.vendor = INTEL;
        h->own.id = ID_82441;
        h->own.subsystem_vendor = QUMRANET;
        h->own.subsystem = QEMU_MACHINE_ID;
        h->own.written = written;
        memset(h->own.mask + PCI_PAM_AT, 0x33, PCI_PAM_SIZE);
        h->own.mask[PCI_PAM_AT] = 0x30;
    }
    return pci_attach(h, &h->own, 0);
}

static void reset(void *dev) {
    struct pci_host *h = dev;
    h->s.address = 0;
    memset(h->s.line, 0, sizeof(h->s.line));
    pci_reset(&h->own);
    if (h->pam.moved)
        memcpy(h->s.pci.config + PCI_PAM_AT, h->kept, sizeof(h->kept));
}

static bool check(const void *dev, const void *state) {
    const struct pci_host *h = dev;
    const __typeof__(h->s) *s = state;
    for (unsigned i = 0; i < PCI_GSIS; i++)
        if (s->line[i] > 1)
            return false;
    return !(s->address & ~ADDRESS_MASK) && pci_check(&h->own, &s->pci);
}

static void settle(void *dev) {
    pci_host_map(dev);
    tell_pam(dev);
}

static const struct dev_class host_class = {
    .name = "pci_host",
    .version = 1,
    DEV_STATE(struct pci_host, s),
    DEV_RANGES(ranges),
    .create = create,
    .reset = reset,
    .check = check,
    .settle = settle,
};

struct pci_host *pci_host_create(const struct dev_env *env) {
    return dev_create(&host_class, env, 0, NULL);
}

struct pci_host *pci_host_create_440fx(const struct dev_env *env,
                                       const struct pci_pam *pam) {
    return dev_create(&host_class, env, 0, pam);
}
