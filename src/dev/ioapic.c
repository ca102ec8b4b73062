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

void ioapic_reset(struct intc *i) {
    i->s.ioapic.select = i->s.ioapic.id = 0;
    for (unsigned pin = 0; pin < PN_IOAPIC_PINS; pin++)
        i->s.ioapic.entry[pin] = ENTRY_MASKED;
}

static void send(struct intc *i, unsigned pin) {
    uint64_t e = i->s.ioapic.entry[pin];
    bool taken = intc_deliver(i, (uint32_t)(e >> 56), e & ENTRY_LOGICAL, false,
                              (enum apic_mode)(e >> 8 & 7), (uint8_t)e, e & ENTRY_LEVEL);
    if (taken && e & ENTRY_LEVEL)
        i->s.ioapic.entry[pin] |= ENTRY_RIRR;
}

/* A level pin sends when it is asserted, open, and not waiting for an EOI. */
static void service_level(struct intc *i, unsigned pin) {
    uint64_t e = i->s.ioapic.entry[pin];
    if (e & ENTRY_LEVEL && !(e & (ENTRY_MASKED | ENTRY_RIRR)) &&
        i->s.ioapic.line >> pin & 1)
        send(i, pin);
}

void ioapic_set(struct intc *i, unsigned pin, int level) {
    if (pin >= PN_IOAPIC_PINS)
        return;
    uint32_t bit = 1u << pin;
    bool rises = level && !(i->s.ioapic.line & bit);
    i->s.ioapic.line = level ? i->s.ioapic.line | bit : i->s.ioapic.line & ~bit;
    if (i->s.ioapic.entry[pin] & ENTRY_LEVEL)
        service_level(i, pin);
    else if (rises && !(i->s.ioapic.entry[pin] & ENTRY_MASKED))
        send(i, pin);
}

void ioapic_eoi(struct intc *i, uint8_t vector) {
    for (unsigned pin = 0; pin < PN_IOAPIC_PINS; pin++) {
        uint64_t e = i->s.ioapic.entry[pin];
        if ((uint8_t)e != vector || !(e & ENTRY_RIRR))
            continue;
        i->s.ioapic.entry[pin] = e & ~(uint64_t)ENTRY_RIRR;
        service_level(i, pin);
    }
}

static void write_entry(struct intc *i, unsigned index, uint32_t value) {
    unsigned pin = index >> 1, shift = (index & 1) * 32;
    uint64_t old = i->s.ioapic.entry[pin];
    uint64_t e = (old & ~((uint64_t)0xffffffffu << shift)) | (uint64_t)value << shift;
    e = (e & ENTRY_VALID & ~ENTRY_RO) | (old & ENTRY_RO);
    if (!(e & ENTRY_LEVEL))
        e &= ~(uint64_t)ENTRY_RIRR;
    i->s.ioapic.entry[pin] = e;
    service_level(i, pin);
}

static uint32_t read_window(const struct intc *i) {
    unsigned index = i->s.ioapic.select - 0x10u;
    switch (i->s.ioapic.select) {
    case 0:
    case 2: /* arbitration id */
        return (uint32_t)i->s.ioapic.id << 24;
    case 1:
        return IOAPIC_VERSION | (PN_IOAPIC_PINS - 1) << 16;
    }
    if (index / 2 >= PN_IOAPIC_PINS)
        return 0xffffffffu;
    return (uint32_t)(i->s.ioapic.entry[index >> 1] >> (index & 1) * 32);
}

uint64_t ioapic_read(void *dev, uint64_t offset, unsigned size) {
    const struct intc *i = dev;
    switch (offset) {
    case 0x00:
        return i->s.ioapic.select;
    case 0x10:
        return read_window(i);
    }
    return 0;
}

void ioapic_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct intc *i = dev;
    unsigned index = i->s.ioapic.select - 0x10u;
    switch (offset) {
    case 0x00:
        i->s.ioapic.select = (uint8_t)value;
        break;
    case 0x10:
        if (size == 4 && i->s.ioapic.select == 0)
            i->s.ioapic.id = value >> 24 & 0xf;
        else if (size == 4 && index / 2 < PN_IOAPIC_PINS)
            write_entry(i, index, (uint32_t)value);
        break;
    case 0x40:
        ioapic_eoi(i, (uint8_t)value);
        break;
    }
}

bool ioapic_check(const struct pn_ioapic *s) {
    if (s->id > 15 || s->line >> PN_IOAPIC_PINS)
        return false;
    for (unsigned pin = 0; pin < PN_IOAPIC_PINS; pin++) {
        uint64_t e = s->entry[pin];
        if (e & ~ENTRY_VALID || e & ENTRY_STATUS ||
            (e & ENTRY_RIRR && !(e & ENTRY_LEVEL)))
            return false;
    }
    return true;
}
