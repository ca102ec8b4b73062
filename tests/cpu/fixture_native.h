/* SPDX-License-Identifier: MIT */
/*
 * The other side of the host oracle: run code on this host's own CPU, at the addresses
 * and with the registers that the guest has, and catch what it does, faults included.
 */
#ifndef TESTS_CPU_FIXTURE_NATIVE_H
#define TESTS_CPU_FIXTURE_NATIVE_H

#include <stdint.h>

/* At a fixed address below 2 GiB, so that entry and exit need no register to find it. */
struct native_state {
    uint64_t gpr[16];                   /* 0x00 */
    uint64_t rip;                       /* 0x80 */
    uint64_t rflags;                    /* 0x88 */
    uint64_t fs, gs;                    /* 0x90, 0x98 */
    uint64_t host_sp, host_fs, host_gs; /* 0xa0 */
    uint64_t exit;   /* 0xb8: code jumps to the address in here when it is done */
    uint64_t active; /* 0xc0 */
    uint64_t trap, error, cr2; /* trap 256: none */
    uint8_t pad[0x400 - 0xe0];
    uint8_t xsave[4096]; /* 0x400, standard format */
};
#define NATIVE_STATE UINT64_C(0x0e000000)
#define NATIVE       ((struct native_state *)NATIVE_STATE)
#define NATIVE_EXIT  (NATIVE_STATE + 0xb8) /* jmp [this] */

/* Map the state and catch signals; call it after cpu_create. Return: false when the host
 * lacks XSAVE or FSGSBASE. */
int native_init(void);
/* Run from NATIVE->rip until the jump to NATIVE_EXIT or a fault. */
void native_run(void);

#endif
