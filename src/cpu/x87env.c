/* SPDX-License-Identifier: MIT */
/*
 * FNSTENV, FLDENV, FNSAVE, FRSTOR: the x87 environment in its 14- and 28-byte formats
 * (SDM volume 1, "Saving the x87 FPU State"), FNINIT, FNCLEX, and the pointers FIP, FDP and
 * FOP. Helpers because the host would store addresses of translated code; here the code
 * notes the guest's own in cpu->x87.
 *
 * Invariants
 * 1. An image is read whole before any of the state changes.
 * 2. While FSW.ES is set, cpu->x87 names the instruction whose exception is pending: every
 *    later one that could be noted takes the exception first. What RULE_fop_at_fault keeps
 *    is copied before ES goes.
 * 3. Selectors do not move between engines: KVM keeps 64-bit pointers alone.
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

/* ---- The pointers ---- */

struct pointers {
    uint64_t ip, dp;
    uint16_t cs, ds, op;
};

static bool pending(const struct cpu *cpu) {
    return xstate_get(cpu->xsave, FX_FSW, 2) & FSW_ES;
}

/* As the environment has them now. */
static struct pointers pointers(const struct cpu *cpu) {
    struct pointers p = {cpu->x87.ip, cpu->x87.dp, cpu->x87.cs, cpu->x87.ds,
                         (uint16_t)cpu->x87.op};
    if (!pending(cpu) && cpu_follows(cpu, RULE_fop_at_fault))
        p.op = (uint16_t)cpu->x87.fault_op;
    if (cpu_follows(cpu, RULE_no_fcs_fds))
        p.cs = p.ds = 0;
    return p;
}

static void set_pointers(struct cpu *cpu, const struct pointers *p) {
    cpu->x87.ip = p->ip;
    cpu->x87.dp = p->dp;
    cpu->x87.op = cpu->x87.fault_op = p->op & 0x7ff;
    cpu->x87.cs = p->cs;
    cpu->x87.ds = p->ds;
}

void x87_forget_pointers(struct cpu *cpu) {
    set_pointers(cpu, &(struct pointers){.ip = 0});
}

static void put_image(struct cpu *cpu, const struct pointers *p, bool wide) {
    uint64_t narrow_ip = (uint32_t)p->ip | (uint64_t)p->cs << 32;
    uint64_t narrow_dp = (uint32_t)p->dp | (uint64_t)p->ds << 32;
    xstate_put(cpu->xsave, FX_FOP, 2, p->op);
    xstate_put(cpu->xsave, FX_FIP, 8, wide ? p->ip : narrow_ip);
    xstate_put(cpu->xsave, FX_FDP, 8, wide ? p->dp : narrow_dp);
}

void x87_put_pointers(struct cpu *cpu, bool wide) {
    struct pointers p = pointers(cpu);
    if (cpu_follows(cpu, RULE_pointers_at_fault) && !pending(cpu))
        p = (struct pointers){.ip = 0};
    put_image(cpu, &p, wide);
}

void x87_put_all(struct cpu *cpu) {
    struct pointers p = pointers(cpu);
    put_image(cpu, &p, true);
}

void x87_drop_pointers(struct cpu *cpu) {
    memset(cpu->xsave + FX_FOP, 0, FX_MXCSR - FX_FOP);
}

void x87_take_pointers(struct cpu *cpu, bool wide) {
    uint64_t ip = xstate_get(cpu->xsave, FX_FIP, 8);
    uint64_t dp = xstate_get(cpu->xsave, FX_FDP, 8);
    struct pointers p = {ip, dp, 0, 0, (uint16_t)xstate_get(cpu->xsave, FX_FOP, 2)};
    if (!wide)
        p = (struct pointers){(uint32_t)ip, (uint32_t)dp, (uint16_t)(ip >> 32),
                              (uint16_t)(dp >> 32), p.op};
    set_pointers(cpu, &p);
    x87_drop_pointers(cpu);
}

/* The pending exception, if there is one, goes. */
static void note_fault(struct cpu *cpu) {
    if (pending(cpu))
        cpu->x87.fault_op = cpu->x87.op;
}

/* ---- Exceptions ---- */

void x87_tell_ferr(struct cpu *cpu) {
    if (!(cpu->cr0 & CR0_NE) && cpu->bus->ferr && !pending(cpu))
        cpu->bus->ferr(cpu->bus->opaque, cpu->apic_id, false);
}

/* The masks, and a bit that changes nothing but tells a control word that the instruction
 * loads from this one. */
#define FCW_MASKS 0x3fu
#define FCW_X     0x1000u

uint16_t x87_ignore(struct cpu *cpu) {
    uint16_t fcw = (uint16_t)xstate_get(cpu->xsave, FX_FCW, 2);
    note_fault(cpu);
    xstate_put(cpu->xsave, FX_FCW, 2, (fcw | FCW_MASKS) ^ FCW_X);
    xstate_put(cpu->xsave, FX_FSW, 2,
               xstate_get(cpu->xsave, FX_FSW, 2) & ~(uint64_t)(FSW_ES | FSW_B));
    return fcw;
}

void x87_heed(struct cpu *cpu, uint16_t ignored) {
    xstate_settle(cpu);
    if (xstate_get(cpu->xsave, FX_FCW, 2) == ((ignored | FCW_MASKS) ^ FCW_X))
        xstate_put(cpu->xsave, FX_FCW, 2, ignored);
    xstate_tidy_x87(cpu);
    x87_tell_ferr(cpu);
}

/* ---- The environment ---- */

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

/* In real-address and virtual-8086 mode the pointers of an environment are linear. */
static uint64_t linear(const struct cpu *cpu, uint16_t sel, uint64_t offset) {
    return mode_prot(cpu) ? offset : (uint64_t)sel * 16 + offset;
}

/* Bits 15..0, and those above in the word behind it. */
static void put_pointer(uint8_t *at, unsigned width, bool prot, uint64_t pointer,
                        uint32_t second) {
    if (prot) {
        xstate_put(at, 0, width, pointer);
        xstate_put(at, width, width, second);
    } else if (width == 2) {
        xstate_put(at, 0, 2, pointer);
        xstate_put(at, 2, 2, (pointer >> 16 & 15) << 12 | second);
    } else {
        xstate_put(at, 0, 4, 0xffff0000u | (pointer & 0xffff));
        xstate_put(at, 4, 4, (pointer >> 16 & 0xffff) << 12 | second);
    }
}

static uint64_t get_pointer(const uint8_t *at, unsigned width, bool prot) {
    if (prot)
        return xstate_get(at, 0, width);
    uint64_t above = xstate_get(at, width, width) >> 12 & (width == 2 ? 15 : 0xffff);
    return xstate_get(at, 0, 2) | above << 16;
}

static void put_pointers(struct cpu *cpu, unsigned width, uint8_t *at) {
    struct pointers p = pointers(cpu);
    bool prot = mode_prot(cpu);
    uint64_t ip = linear(cpu, cpu->x87.cs, p.ip), dp = linear(cpu, cpu->x87.ds, p.dp);
    uint32_t code = !prot ? p.op : width == 2 ? p.cs : p.cs | (uint32_t)p.op << 16;
    uint32_t data = !prot ? 0 : width == 2 ? p.ds : 0xffff0000u | p.ds;
    put_pointer(at, width, prot, ip, code);
    put_pointer(at + 2 * (size_t)width, width, prot, dp, data);
}

static void take_pointers(struct cpu *cpu, unsigned width, const uint8_t *at) {
    bool prot = mode_prot(cpu);
    uint64_t code = xstate_get(at, width, width);
    uint64_t data = xstate_get(at, 3 * width, width);
    struct pointers p = {.ip = get_pointer(at, width, prot),
                         .dp = get_pointer(at + 2 * (size_t)width, width, prot),
                         .cs = (uint16_t)(prot ? code : 0),
                         .ds = (uint16_t)(prot ? data : 0),
                         .op = (uint16_t)(!prot        ? code
                                          : width == 2 ? 0
                                                       : code >> 16)};
    set_pointers(cpu, &p);
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
    unsigned width = in->opsize == 2 ? 2 : 4;
    put_pointers(cpu, width, env + 3 * (size_t)width);
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
    take_pointers(cpu, width, env + 3 * (size_t)width);
    xstate_tidy_x87(cpu);
    turn(cpu, old_top, top_of(cpu));
}

/* FNINIT: the registers keep their contents, tagged empty. */
static void init(struct cpu *cpu) {
    turn(cpu, top_of(cpu), 0);
    xstate_put(cpu->xsave, FX_FCW, 8, FCW_INIT);
    x87_forget_pointers(cpu);
}

enum cpu_rc op_fninit(struct cpu *cpu, const struct insn *in) {
    if (x87_allowed(cpu, false))
        return CPU_FAULT;
    init(cpu);
    x87_tell_ferr(cpu);
    return CPU_NEXT;
}

enum cpu_rc op_fnclex(struct cpu *cpu, const struct insn *in) {
    if (x87_allowed(cpu, false))
        return CPU_FAULT;
    note_fault(cpu);
    xstate_put(cpu->xsave, FX_FSW, 2, xstate_get(cpu->xsave, FX_FSW, 2) & 0x7f00);
    x87_tell_ferr(cpu);
    return CPU_NEXT;
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
    if (in->arg) {
        init(cpu);
    } else { /* all exceptions are masked, so none is pending any longer */
        note_fault(cpu);
        xstate_put(cpu->xsave, FX_FCW, 2, xstate_get(cpu->xsave, FX_FCW, 2) | 0x3f);
        xstate_put(cpu->xsave, FX_FSW, 2,
                   xstate_get(cpu->xsave, FX_FSW, 2) & ~(uint64_t)(FSW_ES | FSW_B));
    }
    x87_tell_ferr(cpu);
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
    x87_tell_ferr(cpu);
    return CPU_NEXT;
}
