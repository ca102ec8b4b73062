/* SPDX-License-Identifier: MIT */
/*
 * The registers of a PC's interrupt controllers and its 8254, neutral of who emulates
 * them. The machine's own devices (src/dev) work on these structs, and the kernel's state
 * is turned into them and back. The local APICs travel with their vCPUs (struct
 * pn_cpu_state).
 *
 * Flags are uint8_t, 0 or 1: a state may come from bytes that nobody trusts.
 */
#pragma once

#include <stdint.h>

/* 8259A. */
struct pn_pic {
    uint8_t line; /* levels of the inputs */
    uint8_t irr, isr, imr;
    uint8_t base;  /* vector of input 0 */
    uint8_t first; /* the input of highest priority; rotation moves it */
    uint8_t elcr;  /* 1: level triggered */
    uint8_t init;  /* the ICW that is expected next: 0 none, 2, 3, 4 */
    uint8_t want_icw4, single;
    uint8_t read_isr, poll, special_mask, auto_eoi, rotate_auto, nested;
};

#define PN_IOAPIC_PINS 24
struct pn_ioapic {
    uint64_t entry[PN_IOAPIC_PINS]; /* redirection table, as the guest reads it */
    uint32_t line;                  /* levels of the pins */
    uint8_t select, id;
};

/* One counter of the 8254. Times are its ticks since the machine's clock was 0; d is what
 * it has counted: `before`, and the ticks since `start` unless the gate stops it. */
#define PN_PIT_HZ 1193182u
struct pn_pit_channel {
    uint32_t count;      /* the divisor in use: 1..65536 */
    uint32_t next_count; /* 0: none. Takes over at tick `next_at`; UINT64_MAX: at the
                            gate's edge alone */
    uint64_t start;      /* when it was loaded, or its gate rose */
    uint64_t next_at;
    uint64_t before;
    uint16_t latch;
    uint8_t status;
    uint8_t mode;   /* 0..5 */
    uint8_t access; /* 1 low, 2 high, 3 both */
    uint8_t write_low;
    uint8_t bcd, gate;
    uint8_t loaded;                /* a count has been written since the control word */
    uint8_t triggered;             /* modes 1, 5: the gate has risen since */
    uint8_t stopped;               /* the gate holds it */
    uint8_t write_high, read_high; /* which byte is next in access 3 */
    uint8_t latched; /* bytes to be read of latch: 0, 1 low, 2 high, 3 both */
    uint8_t status_latched;
};

struct pn_pit {
    struct pn_pit_channel channel[3];
    uint8_t speaker;
    uint8_t line; /* level of gsi 0 */
};

struct pn_chips {
    struct pn_pic pic[2]; /* master, slave on the master's input 2 */
    struct pn_ioapic ioapic;
    struct pn_pit pit;
};
