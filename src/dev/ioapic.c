/* SPDX-License-Identifier: MIT */
/*
 * IO-APIC with 24 pins (82093AA data sheet; version 0x20, which has the EOI register).
 *
 * Redirection entry:
 *   63..56 destination | 16 masked | 15 level | 14 remote IRR (ro) | 13 polarity |
 *   12 delivery status (ro, 0) | 11 logical | 10..8 mode | 7..0 vector
 *
 * Invariants
 * 1. Polarity is kept but not acted on: a gsi's level 1 means asserted.
 * 2. An edge that comes while the pin is masked is lost (82093AA, "Interrupt Mask").
 * 3. A level pin sends again only after its EOI: remote IRR is set from the acceptance to
 *    the EOI. An edge pin never has remote IRR.
 */
#include <string.h>

#include "dev/intc_internal.h"

#define ENTRY_LOGICAL 0x800u
#define ENTRY_STATUS  0x1000u
#define ENTRY_RIRR    0x4000u
#define ENTRY_LEVEL   0x8000u
#define ENTRY_MASKED  0x10000u
#define ENTRY_RO      ((uint64_t)(ENTRY_RIRR | ENTRY_STATUS))
#define ENTRY_VALID   0xff0000000001ffffull

#define IOAPIC_VERSION 0x20u

void ioapic_reset(struct ioapic *a) {
    a->select = a->id = 0;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        a->entry[pin] = ENTRY_MASKED;
}

static void send(struct ioapic *a, unsigned pin) {
    uint64_t e = a->entry[pin];
    bool taken = intc_deliver(a->intc, (uint32_t)(e >> 56), e & ENTRY_LOGICAL, false,
                              (enum apic_mode)(e >> 8 & 7), (uint8_t)e, e & ENTRY_LEVEL);

    if (taken && e & ENTRY_LEVEL)
        a->entry[pin] |= ENTRY_RIRR;
}

/* A level pin sends when it is asserted, open, and not waiting for an EOI. */
static void service_level(struct ioapic *a, unsigned pin) {
    uint64_t e = a->entry[pin];

    if (e & ENTRY_LEVEL && !(e & (ENTRY_MASKED | ENTRY_RIRR)) && a->line >> pin & 1)
        send(a, pin);
}

void ioapic_set(struct ioapic *a, unsigned pin, int level) {
    if (pin >= IOAPIC_PINS)
        return;
    uint32_t bit = 1u << pin;
    bool rises = level && !(a->line & bit);

    a->line = level ? a->line | bit : a->line & ~bit;
    if (a->entry[pin] & ENTRY_LEVEL)
        service_level(a, pin);
    else if (rises && !(a->entry[pin] & ENTRY_MASKED))
        send(a, pin);
}

void ioapic_eoi(struct ioapic *a, uint8_t vector) {
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t e = a->entry[pin];

        if ((uint8_t)e != vector || !(e & ENTRY_RIRR))
            continue;
        a->entry[pin] = e & ~(uint64_t)ENTRY_RIRR;
        service_level(a, pin);
    }
}

static void write_entry(struct ioapic *a, unsigned index, uint32_t value) {
    unsigned pin = index >> 1, shift = (index & 1) * 32;
    uint64_t old = a->entry[pin];
    uint64_t e = (old & ~((uint64_t)0xffffffffu << shift)) | (uint64_t)value << shift;

    e = (e & ENTRY_VALID & ~ENTRY_RO) | (old & ENTRY_RO);
    if (!(e & ENTRY_LEVEL))
        e &= ~(uint64_t)ENTRY_RIRR;
    a->entry[pin] = e;
    service_level(a, pin);
}

static uint32_t read_window(const struct ioapic *a) {
    unsigned index = a->select - 0x10u;

    switch (a->select) {
    case 0:
    case 2: /* arbitration id */
        return (uint32_t)a->id << 24;
    case 1:
        return IOAPIC_VERSION | (IOAPIC_PINS - 1) << 16;
    }
    if (index / 2 >= IOAPIC_PINS)
        return 0xffffffffu;
    return (uint32_t)(a->entry[index >> 1] >> (index & 1) * 32);
}

static uint64_t ioapic_read(void *dev, uint64_t offset, unsigned size) {
    const struct ioapic *a = dev;

    (void)size;
    switch (offset) {
    case 0x00:
        return a->select;
    case 0x10:
        return read_window(a);
    }
    return 0;
}

static void ioapic_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct ioapic *a = dev;
    unsigned index = a->select - 0x10u;

    switch (offset) {
    case 0x00:
        a->select = (uint8_t)value;
        break;
    case 0x10:
        if (size == 4 && a->select == 0)
            a->id = value >> 24 & 0xf;
        else if (size == 4 && index / 2 < IOAPIC_PINS)
            write_entry(a, index, (uint32_t)value);
        break;
    case 0x40:
        ioapic_eoi(a, (uint8_t)value);
        break;
    }
}

const struct dev_ops ioapic_ops = {.name = "ioapic",
                                   .min_size = 1,
                                   .max_size = 4,
                                   .read = ioapic_read,
                                   .write = ioapic_write};
