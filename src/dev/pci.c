/* SPDX-License-Identifier: MIT */
/*
 * A PCI function: configuration space, BAR 0, INTA, MSI, MSI-X, function-level reset by the
 * Advanced Features capability. See pci.h.
 *
 * Invariants
 * 1. The BAR is mapped exactly where `at` says. An address that another range has is
 *    nowhere, until BAR or command register are written again.
 * 2. A vector's pending bit is set only while the vector, or the function, is masked; MSI's
 *    only while its message is.
 */
#include <errno.h>
#include <string.h>

#include "dev/pci_internal.h"

#define CAP_MSI  0x05u
#define CAP_MSIX 0x11u
#define CAP_AF   0x13u

#define CONFIG_COMMAND 0x04u
#define CONFIG_STATUS  0x06u
#define CONFIG_HEADER  0x0eu
#define CONFIG_BAR     0x10u
#define CONFIG_CAPS    0x34u
#define CONFIG_LINE    0x3cu
#define CAPS_BEGIN     0x40u

#define HEADER_MULTI    0x80u
#define COMMAND_MEMORY  0x0002u
#define COMMAND_MASTER  0x0004u
#define COMMAND_NO_INTX 0x0400u
#define COMMAND_MASK    0x0406u
#define STATUS_INTX     0x08u /* low byte */
#define STATUS_CAPS     0x10u
#define BAR_LOW         0xfu

/* MSI with 64 address bits and masking: offsets in the capability ("MSI Capability Structure"). */
#define MSI_CONTROL  2u
#define MSI_ADDRESS  4u
#define MSI_DATA     12u
#define MSI_MASK     16u
#define MSI_PENDING  20u
#define MSI_SIZE     24u
#define MSI_ENABLE   1u
#define MSI_KIND     0x180u /* of its control: 64 bits, masking, one message */
#define MSIX_CONTROL 2u     /* offset in the capability */
#define MSIX_ENABLE  0x8000u
#define MSIX_MASKED  0x4000u
#define VECTOR_MASK  1u
#define AF_CONTROL   4u
#define AF_FLR       1u

static uint64_t get(const uint8_t *p, unsigned size) {
    uint64_t v = 0;
    memcpy(&v, p, size);
    return v;
}

static void put(uint8_t *p, uint64_t value, unsigned size) {
    memcpy(p, &value, size);
}

static uint32_t command(const struct pci_state *s) {
    return (uint32_t)get(s->config + CONFIG_COMMAND, 2);
}

bool pci_is_master(const struct pci_function *f) {
    return command(f->s) & COMMAND_MASTER;
}

/* ---- The BAR ---- */

static uint64_t bar_address(const struct pci_state *s) {
    uint64_t base = get(s->config + CONFIG_BAR, 4) & ~(uint64_t)BAR_LOW;
    return command(s) & COMMAND_MEMORY && base ? base : DEV_NOWHERE;
}

void pci_moved(struct pci_function *f) {
    if (f->moved)
        f->moved(f->dev);
}

static void map(struct pci_function *f) {
    uint64_t at = f->bar_size ? bar_address(f->s) : DEV_NOWHERE;
    if (at == f->s->at)
        return;
    f->s->at = at;
    if (f->bar_size && dev_bus_move(f->dev->env.bus, f->dev->range[0], at))
        f->s->at = DEV_NOWHERE;
    pci_moved(f);
}

void pci_settle(struct pci_function *f) {
    pci_host_map(f->host);
}

/* ---- INTA and MSI ---- */

static bool msi_on(const struct pci_function *f) {
    return f->msi_at && f->s->config[f->msi_at + MSI_CONTROL] & MSI_ENABLE &&
           !pci_msix_on(f);
}

static void send(const struct pci_function *f, uint64_t address, uint32_t data) {
    const struct irq_sink *irq = &f->dev->env.irq;
    if (irq->msi)
        irq->msi(irq->opaque, address, data);
}

static void send_msi(struct pci_function *f) {
    uint8_t *cap = f->s->config + f->msi_at;
    if (!pci_is_master(f))
        return;
    cap[MSI_PENDING] = cap[MSI_MASK];
    if (!cap[MSI_MASK])
        send(f, get(cap + MSI_ADDRESS, 8), (uint32_t)get(cap + MSI_DATA, 2));
}

/* The capability may have been written. was: whether it was on. */
static void msi_written(struct pci_function *f, bool was) {
    uint8_t *cap = f->s->config + f->msi_at;
    if (!f->msi_at)
        return;
    bool due = (cap[MSI_PENDING] && !cap[MSI_MASK]) || (!was && f->s->line);
    cap[MSI_PENDING] &= cap[MSI_MASK];
    if (due && msi_on(f))
        send_msi(f);
}

bool pci_asks(const struct pci_function *f) {
    return f->s->line && !(command(f->s) & COMMAND_NO_INTX) && !pci_msix_on(f) &&
           !msi_on(f);
}

void pci_set_line(struct pci_function *f, bool level) {
    f->s->line = level;
    f->s->config[CONFIG_STATUS] = (uint8_t)((f->s->config[CONFIG_STATUS] & ~STATUS_INTX) |
                                            (level ? STATUS_INTX : 0));
    if (level && msi_on(f))
        send_msi(f);
    pci_host_lines(f->host);
}

/* ---- MSI-X ---- */

static uint32_t msix_control(const struct pci_function *f) {
    return f->msix ? (uint32_t)get(f->s->config + f->msix + MSIX_CONTROL, 2) : 0;
}

bool pci_msix_on(const struct pci_function *f) {
    return msix_control(f) & MSIX_ENABLE;
}

void pci_send(struct pci_function *f, unsigned vector) {
    if (vector >= f->vectors || !pci_msix_on(f) || !pci_is_master(f))
        return;
    const struct pci_vector *v = &f->s->vector[vector];
    if (v->control & VECTOR_MASK || msix_control(f) & MSIX_MASKED) {
        f->s->pending |= 1ull << vector;
        return;
    }
    f->s->pending &= ~(1ull << vector);
    send(f, v->address | (uint64_t)v->address_high << 32, v->data);
}

static void send_pending(struct pci_function *f) {
    for (unsigned n = 0; n < f->vectors; n++)
        if (f->s->pending >> n & 1)
            pci_send(f, n);
}

uint32_t pci_msix_read(const struct pci_function *f, uint64_t offset) {
    uint32_t word[4];
    if (offset >= f->pba && offset - f->pba < 8)
        return (uint32_t)(f->s->pending >> (offset - f->pba) * 8);
    if (offset < f->table || (offset - f->table) / 16 >= f->vectors || offset & 3)
        return 0;
    memcpy(word, &f->s->vector[(offset - f->table) / 16], sizeof(word));
    return word[(offset & 15) / 4];
}

void pci_msix_write(struct pci_function *f, uint64_t offset, uint32_t value) {
    if (offset < f->table || (offset - f->table) / 16 >= f->vectors || offset & 3)
        return;
    struct pci_vector *v = &f->s->vector[(offset - f->table) / 16];
    switch (offset & 15) {
    case 0:
        v->address = value & ~3u;
        break;
    case 4:
        v->address_high = value;
        break;
    case 8:
        v->data = value;
        break;
    case 12:
        v->control = value & VECTOR_MASK;
        send_pending(f);
        break;
    }
}

/* ---- Configuration space ---- */

static bool touches(unsigned at, unsigned size, unsigned what, unsigned length) {
    return what && at < what + length && what < at + size;
}

uint32_t pci_config_read(struct pci_function *f, unsigned at, unsigned size) {
    if (f->reads)
        f->reads(f->dev, at, size);
    return (uint32_t)get(f->s->config + at, size);
}

void pci_config_write(struct pci_function *f, unsigned at, unsigned size,
                      uint32_t value) {
    bool msi = msi_on(f);
    for (unsigned i = 0; i < size; i++) {
        uint8_t *p = &f->s->config[at + i], mask = f->mask[at + i];
        *p = (uint8_t)((*p & ~mask) | (value >> i * 8 & mask));
    }
    if (touches(at, size, f->af ? f->af + AF_CONTROL : 0, 1) &&
        f->s->config[f->af + AF_CONTROL] & AF_FLR) {
        f->reset(f->dev);
        return;
    }
    map(f);
    if (touches(at, size, f->msix, 4))
        send_pending(f);
    msi_written(f, msi);
    pci_host_lines(f->host);
    if (f->written)
        f->written(f->dev, at, size);
}

unsigned pci_add_capability(struct pci_function *f, uint8_t id, const void *body,
                            const uint8_t *mask, unsigned size) {
    unsigned at = f->caps_end;
    f->fixed[f->last_cap ? f->last_cap + 1 : CONFIG_CAPS] = (uint8_t)at;
    f->fixed[CONFIG_STATUS] |= STATUS_CAPS;
    f->fixed[at] = id;
    memcpy(f->fixed + at + 2, body, size);
    if (mask)
        memcpy(f->mask + at + 2, mask, size);
    f->last_cap = at;
    f->caps_end = (at + 2 + size + 3) & ~3u;
    return at;
}

static void add_standard_capabilities(struct pci_function *f) {
    if (f->vectors) {
        uint8_t body[10], mask[10] = {0, (MSIX_ENABLE | MSIX_MASKED) >> 8};
        put(body, f->vectors - 1, 2);
        put(body + 2, f->table, 4); /* both in BAR 0 */
        put(body + 6, f->pba, 4);
        f->msix = pci_add_capability(f, CAP_MSIX, body, mask, sizeof(body));
    }
    if (f->msi) {
        uint8_t body[MSI_SIZE - 2] = {0}, mask[MSI_SIZE - 2] = {MSI_ENABLE};
        put(body, MSI_KIND, 2);
        put(mask + MSI_ADDRESS - 2, UINT64_MAX & ~3ull, 8);
        put(mask + MSI_DATA - 2, 0xffff, 2);
        put(mask + MSI_MASK - 2, 1, 1);
        f->msi_at = pci_add_capability(f, CAP_MSI, body, mask, sizeof(body));
    }
    if (f->reset) { /* length, capabilities: TP and FLR; control, status */
        static const uint8_t body[4] = {6, 3}, mask[4] = {0, 0, AF_FLR};
        f->af = pci_add_capability(f, CAP_AF, body, mask, sizeof(body));
    }
}

int pci_attach(struct pci_host *host, struct pci_function *f, unsigned slot) {
    uint64_t bar = 0;
    int rc = pci_host_add(host, f, slot, &bar);
    if (rc)
        return rc;
    f->host = host;
    f->slot = slot;
    put(f->fixed, f->vendor, 2);
    put(f->fixed + 2, f->id, 2);
    put(f->fixed + 8, 1, 1); /* revision */
    put(f->fixed + 9, f->class, 3);
    put(f->fixed + 0x2c, f->subsystem_vendor ? f->subsystem_vendor : f->vendor, 2);
    put(f->fixed + 0x2e, f->subsystem, 2);
    put(f->mask + CONFIG_COMMAND, COMMAND_MASK, 2);
    f->fixed[CONFIG_HEADER] = f->multifunction ? HEADER_MULTI : 0;
    f->mask[0x0c] = f->mask[CONFIG_LINE] = 0xff; /* cache line size; for drivers */
    f->caps_end = CAPS_BEGIN;
    if (f->bar_size) {
        put(f->fixed + CONFIG_BAR, bar, 4);
        put(f->mask + CONFIG_BAR, ~(f->bar_size - 1) & ~(uint64_t)BAR_LOW, 4);
        put(f->fixed + CONFIG_COMMAND, COMMAND_MEMORY, 2);
        f->fixed[CONFIG_LINE] = (uint8_t)(PCI_GSI + slot % PCI_GSIS);
        f->fixed[CONFIG_LINE + 1] = 1; /* INTA */
    }
    add_standard_capabilities(f);
    return 0;
}

void pci_detach(struct pci_function *f) {
    if (f->host)
        pci_host_remove(f->host, f);
}

void pci_reset(struct pci_function *f) {
    memset(f->s, 0, sizeof(*f->s));
    memcpy(f->s->config, f->fixed, sizeof(f->fixed));
    for (unsigned n = 0; n < f->vectors; n++)
        f->s->vector[n].control = VECTOR_MASK;
    f->s->at = UINT64_MAX - 1; /* nowhere that it can be: mapped anew */
    map(f);
    pci_host_lines(f->host);
}

bool pci_check(const struct pci_function *f, const struct pci_state *s) {
    for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
        uint8_t free = f->mask[i] | (i == CONFIG_STATUS ? STATUS_INTX : 0) |
                       (f->msi_at && i == f->msi_at + MSI_PENDING ? 1 : 0);
        if ((s->config[i] ^ f->fixed[i]) & ~free)
            return false;
    }
    if (f->af && s->config[f->af + AF_CONTROL])
        return false;
    if (f->msi_at &&
        s->config[f->msi_at + MSI_PENDING] & ~s->config[f->msi_at + MSI_MASK])
        return false;
    for (unsigned n = 0; n < PCI_VECTORS_MAX; n++)
        if (s->vector[n].control & ~VECTOR_MASK || s->vector[n].address & 3)
            return false;
    if (f->vectors < 64 && s->pending >> f->vectors)
        return false;
    return s->line <= 1 && (s->at == DEV_NOWHERE || s->at == bar_address(s));
}
