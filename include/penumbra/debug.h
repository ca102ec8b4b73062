/* SPDX-License-Identifier: MIT */
/*
 * What a debugger asks of an engine: where vCPUs are to stop. Nothing of it is in guest
 * memory or in a register that the guest can read.
 */
#pragma once

#include "penumbra/types.h"

#define PN_BREAKS_MAX  256u
#define PN_WATCHES_MAX 32u
#define PN_WATCH_BYTES 4096u /* of one watchpoint at most */

enum pn_watch_access { PN_WATCH_WRITE = 1, PN_WATCH_READ = 2, PN_WATCH_BOTH = 3 };

struct pn_watch {
    pn_gva gva;
    uint32_t size;               /* bytes, 1 to PN_WATCH_BYTES */
    enum pn_watch_access access; /* which accesses of the guest's count */
};

/* The same for every vCPU. A breakpoint is a value of RIP: the vCPU stops before it
 * executes the instruction there, in whatever address space. A watchpoint is at linear
 * addresses: the vCPU stops after the instruction that made the access. */
struct pn_debug {
    pn_gva breaks[PN_BREAKS_MAX]; /* ascending, each once */
    unsigned break_count;
    struct pn_watch watches[PN_WATCHES_MAX];
    unsigned watch_count;
};

/* Why a vCPU stopped: PN_EXIT_DEBUG. */
enum pn_debug_why { PN_DEBUG_NONE, PN_DEBUG_STEP, PN_DEBUG_BREAK, PN_DEBUG_WATCH };
struct pn_debug_stop {
    enum pn_debug_why why;
    /* PN_DEBUG_WATCH: the watchpoint's address, and what it counts; PN_DEBUG_BREAK: RIP. */
    pn_gva gva;
    enum pn_watch_access access;
};
