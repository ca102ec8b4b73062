/* SPDX-License-Identifier: MIT */
/*
 * The mark port: how a guest under measurement tells the host where it is.
 *
 * A mark is a 32-bit OUT to PN_MARK_PORT: kind in bits 31:24, argument in 23:0. The host
 * sees it between the instruction before the OUT and the one after it. A 32-bit IN gives
 * what the last request came to (PN_MARK_DONE...); all ones: no such port here.
 *
 *     workload:   set-up and warm-up | PHASE 1 | measured | PHASE 2 | checks, report
 *     in rounds:  ... | PHASE 1 | round 1 | ROUND 1 | round 2 | ROUND 2 | ... | PHASE 2
 *
 * The window is memory of the host's that is no part of guest RAM: requests put it at one
 * of two guest physical addresses and take it away. Its contents stay.
 *
 * Guests include this file too: no types, no other includes.
 */
#pragma once

#define PN_MARK_PORT 0x5e0u

enum pn_mark {
    PN_MARK_PHASE = 1,   /* argument: enum pn_mark_phase */
    PN_MARK_ROUND = 2,   /* argument: rounds done; the host may harvest a dirty log */
    PN_MARK_ADD = 3,     /* request: the window appears at A; argument: its 4K pages */
    PN_MARK_MOVE = 4,    /* request: it goes to the other address */
    PN_MARK_DELETE = 5,  /* request: it goes away */
    PN_MARK_HANDOVER = 6 /* the machine may go on under another MMU from here */
};

enum pn_mark_phase {
    PN_PHASE_BEGIN = 1, /* the measured part begins */
    PN_PHASE_END = 2    /* it is over */
};

#define PN_MARK_VALUE(kind, arg) ((unsigned)(kind) << 24 | ((unsigned)(arg)&0xffffffu))
#define PN_MARK_KIND(value)      ((unsigned)(value) >> 24)
#define PN_MARK_ARG(value)       ((unsigned)(value)&0xffffffu)

/* What a request came to. */
#define PN_MARK_NONE   0u /* nothing asked yet, or nobody serves requests */
#define PN_MARK_DONE   1u
#define PN_MARK_FAILED 2u
#define PN_MARK_ABSENT 0xffffffffu

/* In the MMIO hole, where no device is. */
#define PN_WINDOW_A         0xd0000000u
#define PN_WINDOW_B         0xd8000000u
#define PN_WINDOW_PAGES_MAX 4096u
