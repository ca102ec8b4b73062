/* SPDX-License-Identifier: MIT */
/* Guest vector state at rest in cpu->xsave: what fpu.c, xsave.c and x87env.c share. */
#pragma once

#include "cpu/control.h"
#include "cpu/model.h"

#define FSW_ES 0x80u
#define FSW_B  0x8000u

static inline uint64_t xstate_get(const uint8_t *area, unsigned at, unsigned size) {
    uint64_t v = 0;
    memcpy(&v, area + at, size);
    return v;
}
static inline void xstate_put(uint8_t *area, unsigned at, unsigned size, uint64_t v) {
    memcpy(area + at, &v, size);
}

/* After this every component of CPU_VEC_MASK has its value in cpu->xsave, whatever
 * XSTATE_BV said, and XSTATE_BV names them all. The state must be at rest (!vec_live). */
void xstate_settle(struct cpu *cpu);
/* Which components are not in their initial state, by their contents: the guest's
 * XINUSE. */
uint64_t cpu_xinuse(struct cpu *cpu);
/* Give x87 state that came from a guest's image the form that the host would store. */
void xstate_tidy_x87(struct cpu *cpu);
/* The initial state of the components in mask (PKRU included). */
void xstate_init(struct cpu *cpu, uint64_t mask);
