/* SPDX-License-Identifier: MIT */
/*
 * The other side of the host oracle: run code on this host's own CPU, at the addresses
 * and with the registers that the guest has, and catch what it does, faults included.
 */
#pragma once

#include <stdint.h>

/* At a fixed address below 2 GiB, so that entry and exit need no register to find it. */
struct native_state {
    uint64_t gpr[16];          /* 0x00 */
    uint64_t rip;              /* 0x80 */
    uint64_t rflags;           /* 0x88 */
    uint64_t fs;               /* 0x90 */
    uint64_t mask;             /* 0x98: of XRSTOR and XSAVE; 0: FXRSTOR, FXSAVE */
    uint64_t host_sp, host_fs; /* 0xa0 */
    uint64_t exit;   /* 0xb0: code jumps to the address in here when it is done */
    uint64_t active; /* 0xb8 */
    uint64_t trap, error, cr2; /* trap 256: none */
    uint8_t pad[0x400 - 0xd8];
    uint8_t xsave[4096]; /* 0x400, standard format */
};
#define NATIVE_STATE UINT64_C(0x0e000000)
#define NATIVE       ((struct native_state *)NATIVE_STATE)
#define NATIVE_EXIT  (NATIVE_STATE + 0xb0) /* jmp [this] */

/* Map the state, catch signals, and give GS its base for good: nothing of the host's uses
 * GS. mask: the model's host_xcr0. Call it after cpu_create, in the thread that runs.
 * Return: false when the host refuses one of these. */
int native_init(uint64_t mask, uint64_t gs);
/* Run from NATIVE->rip until the jump to NATIVE_EXIT or a fault. FS changes by system
 * call on both ways, since a host need not have FSGSBASE. */
void native_run(void);
