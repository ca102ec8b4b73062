/* SPDX-License-Identifier: MIT */
/*
 * The state of a PC's interrupt controllers and its 8254, neutral of who emulates them:
 * the machine's own devices, or the kernel's. The local APICs travel with their vCPUs
 * (struct pn_cpu_state). Levels of the interrupt lines are the devices' and the
 * machine's, not part of this.
 */
#ifndef PENUMBRA_IRQCHIP_H
#define PENUMBRA_IRQCHIP_H

#include <stdint.h>

/* 8259A. */
struct pn_pic {
    uint8_t line, irr, isr, imr;
    uint8_t base;  /* vector of input 0 */
    uint8_t first; /* the input of highest priority */
    uint8_t elcr;
    uint8_t init; /* the ICW that is expected next: 0 none, 2, 3, 4 */
    uint8_t want_icw4, read_isr, poll, special_mask, auto_eoi, rotate_auto, nested;
};

#define PN_IOAPIC_PINS 24
struct pn_ioapic {
    uint64_t entry[PN_IOAPIC_PINS]; /* redirection table, as the guest reads it */
    uint8_t select, id;
};

/* One counter of the 8254. */
struct pn_pit_channel {
    uint32_t count; /* 1..65536 */
    uint64_t ns;    /* since it was loaded, or since its gate's edge */
    uint16_t latch;
    uint8_t latched; /* bytes to be read of latch: 0, 1 low, 2 high, 3 both */
    uint8_t status, status_latched;
    uint8_t mode, access, bcd, gate, loaded;
    uint8_t write_low, write_high, read_high;
};

struct pn_irqchip {
    struct pn_pic pic[2];
    struct pn_ioapic ioapic;
    struct pn_pit_channel pit[3];
    uint8_t speaker;
};

#endif
