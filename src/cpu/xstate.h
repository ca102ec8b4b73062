/* SPDX-License-Identifier: MIT */
/* Guest vector state at rest in cpu->xsave: what fpu.c, xsave.c and x87env.c share. */
#pragma once

#include "cpu/control.h"
#include "cpu/model.h"

#define XSAVE_COMPACT (UINT64_C(1) << 63) /* of XCOMP_BV */

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

/* After this all of cpu_model_vector has its value in cpu->xsave, whatever
 * XSTATE_BV said, and XSTATE_BV names them all. The state must be at rest (!vec_live). */
void xstate_settle(struct cpu *cpu);
/* Which components are not in their initial state, by their contents: the guest's
 * XINUSE. */
uint64_t cpu_xinuse(struct cpu *cpu);
/* Give x87 state that came from a guest's image the form that the host would store. */
void xstate_tidy_x87(struct cpu *cpu);
/* The initial state of the components in mask. */
void xstate_init(struct cpu *cpu, uint64_t mask);

/* ---- x87env.c: FOP, FIP, FDP and who hears of exceptions ---- */

/* Put the pointers into cpu->xsave as FXSAVE and XSAVE write them, and take them from there,
 * which leaves 0; wide: the form of 64-bit operand size, without selectors. */
void x87_put_pointers(struct cpu *cpu, bool wide);
void x87_take_pointers(struct cpu *cpu, bool wide);
/* For another engine: as the environment has them, wide. */
void x87_put_all(struct cpu *cpu);
/* Between the two the pointers were written: cpu->xsave has none again. */
void x87_drop_pointers(struct cpu *cpu);
/* As after FNINIT: there are none. */
void x87_forget_pointers(struct cpu *cpu);
/* The state was loaded or cleared: is an exception still there for FERR#? */
void x87_tell_ferr(struct cpu *cpu);
/* Run without a look at the pending exception, as IGNNE# lets it: before and after one
 * instruction. */
uint16_t x87_ignore(struct cpu *cpu);
void x87_heed(struct cpu *cpu, uint16_t ignored);
