/* SPDX-License-Identifier: MIT */
/*
 * FXSAVE, FXRSTOR, LDMXCSR, STMXCSR on the state at rest (xstate.h).
 *
 * Invariant: an image is read and checked whole before any of the state changes.
 */
#include "cpu/bulk.h"
#include "cpu/xstate.h"

/* XMM8..15 exist in 64-bit mode only; FXSAVE and XSAVE leave their place alone in others.
 */
static unsigned xmm_end(const struct cpu *cpu) {
    return mode_64(cpu) ? FX_LEGACY : FX_XMM + 128;
}

static enum cpu_rc fx_operand(struct cpu *cpu, const struct insn *in,
                              enum pn_access access, pn_gva *lin) {
    if (cpu->cr0 & (CR0_EM | CR0_TS))
        return cpu_raise(cpu, VEC_NM);
    /* Where #AC is enabled, it may come instead (SDM volume 2, "FXSAVE"); on AMD's family
     * 1Ah it does when the operand is no quadword's (tests/diff). */
    if (cpu->mode & MODE_ALIGN && operand_aligned(cpu, in, 8))
        return cpu_raise_code(cpu, VEC_AC, 0);
    return operand_aligned(cpu, in, 16) ? CPU_FAULT
                                        : cpu_lin_operand(cpu, in, FX_SIZE, access, lin);
}

enum cpu_rc op_fxsave(struct cpu *cpu, const struct insn *in) {
    struct bulk_area area;
    pn_gva lin;
    /* Writable must be all of it, although the last bytes are software's (tests/diff). */
    if (fx_operand(cpu, in, PN_WRITE, &lin) || bulk_area(cpu, lin, FX_SIZE, &area))
        return CPU_FAULT;
    xstate_settle(cpu);
    xstate_put(cpu->xsave, FX_MASK, 4, MXCSR_MASK);
    x87_put_pointers(cpu, in->opsize == 8);
    bulk_put(cpu, &area, 0, cpu->xsave, xmm_end(cpu));
    x87_drop_pointers(cpu);
    return CPU_NEXT;
}

enum cpu_rc op_fxrstor(struct cpu *cpu, const struct insn *in) {
    uint8_t image[FX_SIZE];
    pn_gva lin;
    if (fx_operand(cpu, in, PN_READ, &lin) || bulk_read(cpu, lin, image, FX_SIZE))
        return CPU_FAULT;
    if (xstate_get(image, FX_MXCSR, 4) & ~(uint64_t)MXCSR_MASK)
        return gp0(cpu);
    xstate_settle(cpu);
    memcpy(cpu->xsave, image, xmm_end(cpu));
    x87_take_pointers(cpu, in->opsize == 8);
    xstate_tidy_x87(cpu);
    x87_tell_ferr(cpu);
    return CPU_NEXT;
}

/* ---- MXCSR ---- */

static enum cpu_rc sse_allowed(struct cpu *cpu, bool vex) {
    uint64_t need = XSTATE_SSE | XSTATE_AVX;
    bool avx = cpu_has(cpu, CPU_F_avx) && mode_prot(cpu) && cpu->cr4 & CR4_OSXSAVE &&
               (cpu->xcr0 & need) == need;
    if (vex ? !avx : cpu->cr0 & CR0_EM || !(cpu->cr4 & CR4_OSFXSR))
        return cpu_raise(cpu, VEC_UD);
    return cpu->cr0 & CR0_TS ? cpu_raise(cpu, VEC_NM) : CPU_NEXT;
}

/* LDMXCSR and, with arg, VLDMXCSR. */
enum cpu_rc op_ldmxcsr(struct cpu *cpu, const struct insn *in) {
    uint32_t v;
    if (sse_allowed(cpu, in->arg) || operand_read(cpu, in, &v, 4))
        return CPU_FAULT;
    if (v & ~MXCSR_MASK)
        return gp0(cpu);
    xstate_put(cpu->xsave, FX_MXCSR, 4, v);
    return CPU_NEXT;
}

/* STMXCSR and, with arg, VSTMXCSR. */
enum cpu_rc op_stmxcsr(struct cpu *cpu, const struct insn *in) {
    if (sse_allowed(cpu, in->arg))
        return CPU_FAULT;
    return operand_write(cpu, in, cpu->xsave + FX_MXCSR, 4);
}
