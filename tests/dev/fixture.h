/* SPDX-License-Identifier: MIT */
/* A bus, a clock that a test moves, and recorders for everything a device can do. */
#pragma once

#include <check.h>

#include "dev/dev.h"

#define FX_MEM  0x10000u
#define FX_CPUS 4u

struct fx {
    struct clock clock;
    uint64_t now;
    struct dev_bus *bus;
    /* fx.env.irq */
    int level[32];
    unsigned rises[32], falls[32];
    uint64_t rise_at[32]; /* time of the last rise */
    struct dev_env env;   /* all of it: fx_init */
    /* fx.env.host */
    unsigned poweroffs, resets, exits, panics, sleeps, wakes, alarms, code;
    uint8_t mem[FX_MEM]; /* guest memory from 0 */
    size_t told;         /* of it, as written by somebody else */
    /* serial */
    uint8_t out[256];
    unsigned out_size;
    /* intc */
    struct intc *intc;
    struct irq_sink line;
    unsigned kicks[FX_CPUS], nmis[FX_CPUS], inits[FX_CPUS], sipis[FX_CPUS];
    uint8_t sipi_vector[FX_CPUS];
    int64_t tsc_offset;
};

void fx_init(struct fx *f);
void fx_done(struct fx *f);
/* Interrupt controllers with FX_CPUS vCPUs and a timer clock of hz. */
void fx_intc(struct fx *f, uint64_t hz);
/* Move time, firing every timer at its own deadline on the way. */
void fx_to(struct fx *f, uint64_t ns);
void fx_by(struct fx *f, uint64_t ns);
/* Move time at once, as a skip of the machine does, and fire what is due. */
void fx_jump(struct fx *f, uint64_t ns);

uint8_t in8(struct fx *f, uint16_t port);
void out8(struct fx *f, uint16_t port, uint8_t value);
uint32_t in32(struct fx *f, uint16_t port);
void out32(struct fx *f, uint16_t port, uint32_t value);
void out16(struct fx *f, uint16_t port, uint16_t value);
uint32_t rd32(struct fx *f, uint64_t gpa);
void wr32(struct fx *f, uint64_t gpa, uint32_t value);
