/* SPDX-License-Identifier: MIT */
/*
 * Vector instructions whose memory operand is not one piece: gathers and masked moves,
 * element by element on the vector state at rest (SDM volume 2, VPGATHERDD, VMASKMOV,
 * MASKMOVDQU). A masked load that faults changes nothing; a store that faults may have
 * stored elements below the faulting one, and does so again when it is restarted. A
 * gather that faults has loaded the elements below, and its mask names the others.
 *
 * in->opsize holds the element's size, in->imm the vector's length in bytes.
 */
#include "cpu/xlat.h"
#include "cpu/xstate.h"

struct vec {
    uint8_t b[32];
};

static void vec_get(const struct cpu *cpu, unsigned reg, struct vec *v) {
    memcpy(v->b, cpu->xsave + FX_XMM + 16 * reg, 16);
    memcpy(v->b + 16, cpu->xsave + XSAVE_AVX + 16 * reg, 16);
}

static void vec_put(struct cpu *cpu, unsigned reg, const struct vec *v) {
    memcpy(cpu->xsave + FX_XMM + 16 * reg, v->b, 16);
    memcpy(cpu->xsave + XSAVE_AVX + 16 * reg, v->b + 16, 16);
}

static enum cpu_rc load(struct cpu *cpu, const struct insn *in, uint64_t offset,
                        void *to) {
    return seg_read(cpu, in->seg, offset & addr_mask(in->addrsize), to, in->opsize);
}

static enum cpu_rc store(struct cpu *cpu, const struct insn *in, uint64_t offset,
                         const void *from) {
    return seg_write(cpu, in->seg, offset & addr_mask(in->addrsize), from, in->opsize);
}

static bool chosen(const struct vec *mask, unsigned i, unsigned size) {
    return mask->b[(i + 1) * size - 1] & 0x80;
}

static enum cpu_rc op_gather(struct cpu *cpu, const struct insn *in) {
    unsigned elem = in->opsize, idx = in->opcode & 1 ? 8 : 4;
    unsigned wide = elem > idx ? elem : idx;
    uint64_t base =
        (in->base == INSN_NOREG ? 0 : cpu->gpr[in->base]) + (uint64_t)in->disp;
    struct vec dest, mask, index;
    xstate_settle(cpu);
    vec_get(cpu, in->op[0].reg, &dest);
    vec_get(cpu, in->op[2].reg, &mask);
    vec_get(cpu, in->index, &index);
    unsigned n = (unsigned)in->imm / wide;
    enum cpu_rc rc = CPU_NEXT;
    for (unsigned i = 0; i < n && rc == CPU_NEXT; i++) {
        int64_t k = 0;
        memcpy(&k, index.b + i * idx, idx);
        k = idx == 4 ? (int32_t)k : k;
        uint64_t offset = base + (uint64_t)k * in->scale;
        if (chosen(&mask, i, elem))
            rc = load(cpu, in, offset, dest.b + i * elem);
        if (rc == CPU_NEXT)
            memset(mask.b + i * elem, 0, elem);
    }
    if (rc == CPU_NEXT) {
        memset(dest.b + n * elem, 0, sizeof dest.b - n * elem);
        memset(&mask, 0, sizeof mask);
    }
    vec_put(cpu, in->op[2].reg, &mask);
    vec_put(cpu, in->op[0].reg, &dest);
    return rc;
}

static enum cpu_rc masked_load(struct cpu *cpu, const struct insn *in) {
    struct vec dest = {{0}}, mask;
    uint64_t base = operand_offset(cpu, in);
    vec_get(cpu, in->op[1].reg, &mask);
    for (unsigned i = 0; i < in->imm / in->opsize; i++)
        if (chosen(&mask, i, in->opsize) &&
            load(cpu, in, base + i * in->opsize, dest.b + i * in->opsize))
            return CPU_FAULT;
    vec_put(cpu, in->op[0].reg, &dest);
    return CPU_NEXT;
}

static enum cpu_rc masked_store(struct cpu *cpu, const struct insn *in, uint64_t base,
                                const struct vec *src, const struct vec *mask) {
    for (unsigned i = 0; i < in->imm / in->opsize; i++)
        if (chosen(mask, i, in->opsize) &&
            store(cpu, in, base + i * in->opsize, src->b + i * in->opsize))
            return CPU_FAULT;
    return CPU_NEXT;
}

/* VMASKMOVPS and its like: op 1 is the mask. */
static enum cpu_rc op_vmaskmov(struct cpu *cpu, const struct insn *in) {
    struct vec src, mask;
    xstate_settle(cpu);
    if (in->op[0].kind != OP_MEM)
        return masked_load(cpu, in);
    vec_get(cpu, in->op[1].reg, &mask);
    vec_get(cpu, in->op[2].reg, &src);
    return masked_store(cpu, in, operand_offset(cpu, in), &src, &mask);
}

/* MASKMOVDQU and MASKMOVQ: op 0 is the source, op 1 the mask, memory is at DS:rDI. */
static enum cpu_rc op_maskmov_xmm(struct cpu *cpu, const struct insn *in) {
    struct vec src, mask;
    xstate_settle(cpu);
    vec_get(cpu, in->op[0].reg, &src);
    vec_get(cpu, in->op[1].reg, &mask);
    return masked_store(cpu, in, cpu->gpr[R_DI], &src, &mask);
}

/* MMX register i is ST(i) once TOP is 0, which every MMX instruction makes it. */
static void mmx_enter(struct cpu *cpu) {
    unsigned fsw = (unsigned)xstate_get(cpu->xsave, FX_FSW, 2), top = fsw >> 11 & 7;
    uint8_t st[128];
    for (unsigned i = 0; i < 8; i++)
        memcpy(st + 16 * ((i + top) & 7), cpu->xsave + FX_ST + 16 * i, 16);
    memcpy(cpu->xsave + FX_ST, st, sizeof st);
    xstate_put(cpu->xsave, FX_FSW, 2, fsw & ~0x3800u);
    xstate_put(cpu->xsave, FX_FTW, 1, 0xff);
}

static enum cpu_rc op_maskmov_mmx(struct cpu *cpu, const struct insn *in) {
    struct vec src, mask;
    xstate_settle(cpu);
    if (xstate_get(cpu->xsave, FX_FSW, 2) & FSW_ES)
        return cpu_raise(cpu, 16);
    mmx_enter(cpu);
    memcpy(src.b, cpu->xsave + FX_ST + 16 * (in->op[0].reg & 7), 8);
    memcpy(mask.b, cpu->xsave + FX_ST + 16 * (in->op[1].reg & 7), 8);
    return masked_store(cpu, in, cpu->gpr[R_DI], &src, &mask);
}

enum cpu_rc (*const vecmem_helper[])(struct cpu *, const struct insn *) = {
    [VECMEM_GATHER] = op_gather,
    [VECMEM_VMASKMOV] = op_vmaskmov,
    [VECMEM_XMM] = op_maskmov_xmm,
    [VECMEM_MMX] = op_maskmov_mmx};
