/* SPDX-License-Identifier: MIT */
/*
 * FNSTENV, FLDENV, FNSAVE, FRSTOR: the x87 environment in its 14- and 28-byte formats
 * (SDM volume 1, "Saving the x87 FPU State"). Helpers because the host would store
 * addresses of translated code as FIP; here FOP, FIP and FDP are 0.
 *
 * Invariant: an image is read whole before any of the state changes.
 */
#include "cpu/bulk.h"
#include "cpu/xstate.h"

#define ST_BYTES 10u
#define ENV_MAX  28u

static unsigned env_size(const struct insn *in) {
    return in->opsize == 2 ? 14 : 28;
}

static enum cpu_rc x87_allowed(struct cpu *cpu, bool waits) {
    if (cpu->cr0 & (CR0_EM | CR0_TS))
        return cpu_raise(cpu, VEC_NM);
    xstate_settle(cpu);
    if (waits && xstate_get(cpu->xsave, FX_FSW, 2) & FSW_ES)
        return cpu_raise(cpu, VEC_MF);
    return CPU_NEXT;
}

static unsigned top_of(const struct cpu *cpu) {
    return xstate_get(cpu->xsave, FX_FSW, 2) >> 11 & 7;
}

static uint8_t *st_at(struct cpu *cpu, unsigned i) {
    return cpu->xsave + FX_ST + 16 * i;
}

/* The two-bit tag of a register's contents: 0 valid, 1 zero, 2 special. */
static unsigned tag_of(const uint8_t *st) {
    uint64_t mantissa = xstate_get(st, 0, 8);
    unsigned exponent = xstate_get(st, 8, 2) & 0x7fff;
    if (!exponent && !mantissa)
        return 1;
    return exponent && exponent != 0x7fff && mantissa >> 63 ? 0 : 2;
}

static uint16_t full_tags(struct cpu *cpu) {
    unsigned used = xstate_get(cpu->xsave, FX_FTW, 1), tags = 0;
    unsigned top = top_of(cpu);
    for (unsigned r = 0; r < 8; r++)
        tags |= (used >> r & 1 ? tag_of(st_at(cpu, (r - top) & 7)) : 3u) << 2 * r;
    return (uint16_t)tags;
}

static void env_put(struct cpu *cpu, const struct insn *in, uint8_t *env) {
    uint16_t word[3] = {(uint16_t)xstate_get(cpu->xsave, FX_FCW, 2),
                        (uint16_t)xstate_get(cpu->xsave, FX_FSW, 2), full_tags(cpu)};
    memset(env, 0, ENV_MAX);
    for (unsigned i = 0; i < 3; i++)
        if (in->opsize == 2)
            xstate_put(env, 2 * i, 2, word[i]);
        else
            xstate_put(env, 4 * i, 4, 0xffff0000u | word[i]);
    if (in->opsize != 2)
        xstate_put(env, 24, 4, 0xffff0000u);
}

/* The image keeps registers by their distance from the top of stack: with another top the
 * same registers stand elsewhere. */
static void turn(struct cpu *cpu, unsigned old_top, unsigned top) {
    uint8_t regs[128];
    memcpy(regs, st_at(cpu, 0), sizeof(regs));
    for (unsigned i = 0; i < 8; i++)
        memcpy(st_at(cpu, i), regs + 16 * ((i + top - old_top) & 7), 16);
}

static void env_take(struct cpu *cpu, const struct insn *in, const uint8_t *env) {
    unsigned width = in->opsize == 2 ? 2 : 4, used = 0, old_top = top_of(cpu);
    unsigned tags = xstate_get(env, 2 * width, 2);
    for (unsigned r = 0; r < 8; r++)
        used |= (unsigned)((tags >> 2 * r & 3) != 3) << r;
    xstate_put(cpu->xsave, FX_FCW, 2, xstate_get(env, 0, 2));
    xstate_put(cpu->xsave, FX_FSW, 2, xstate_get(env, width, 2));
    xstate_put(cpu->xsave, FX_FTW, 2, used);
    xstate_tidy_x87(cpu);
    turn(cpu, old_top, top_of(cpu));
}

/* FNSTENV and, with arg, FNSAVE: the registers follow the environment. */
enum cpu_rc op_fnstenv(struct cpu *cpu, const struct insn *in) {
    uint8_t image[ENV_MAX + 8 * ST_BYTES];
    unsigned env = env_size(in), size = env + (in->arg ? 8 * ST_BYTES : 0);
    pn_gva lin;
    if (x87_allowed(cpu, false) || cpu_lin_operand(cpu, in, size, PN_WRITE, &lin))
        return CPU_FAULT;
    env_put(cpu, in, image);
    for (unsigned i = 0; i < 8; i++)
        memcpy(image + env + ST_BYTES * i, st_at(cpu, i), ST_BYTES);
    if (bulk_write(cpu, lin, image, size))
        return CPU_FAULT;
    if (in->arg) { /* as FNINIT: the registers keep their contents, tagged empty */
        turn(cpu, top_of(cpu), 0);
        xstate_put(cpu->xsave, FX_FCW, 8, FCW_INIT);
    } else { /* all exceptions are masked, so none is pending any longer */
        xstate_put(cpu->xsave, FX_FCW, 2, xstate_get(cpu->xsave, FX_FCW, 2) | 0x3f);
        xstate_put(cpu->xsave, FX_FSW, 2,
                   xstate_get(cpu->xsave, FX_FSW, 2) & ~(uint64_t)(FSW_ES | FSW_B));
    }
    return CPU_NEXT;
}

/* FLDENV and, with arg, FRSTOR. */
enum cpu_rc op_fldenv(struct cpu *cpu, const struct insn *in) {
    uint8_t image[ENV_MAX + 8 * ST_BYTES];
    unsigned env = env_size(in), size = env + (in->arg ? 8 * ST_BYTES : 0);
    pn_gva lin;
    if (x87_allowed(cpu, true) || cpu_lin_operand(cpu, in, size, PN_READ, &lin) ||
        bulk_read(cpu, lin, image, size))
        return CPU_FAULT;
    env_take(cpu, in, image);
    for (unsigned i = 0; i < 8 && in->arg; i++) {
        memset(st_at(cpu, i), 0, 16);
        memcpy(st_at(cpu, i), image + env + ST_BYTES * i, ST_BYTES);
    }
    return CPU_NEXT;
}
