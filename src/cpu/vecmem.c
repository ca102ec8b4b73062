/* SPDX-License-Identifier: MIT */
/*
 * Vector instructions whose memory operand is not one piece: gathers, scatters and masked
 * moves, element by element on the vector state at rest (SDM volume 2, VPGATHERDD, VMASKMOV,
 * MASKMOVDQU). A masked load or store that faults changes nothing. A
 * gather that faults has loaded the elements below, and its mask names the others.
 *
 * in->opsize holds the element's size, in->imm the vector's length in bytes.
 */
#include "cpu/bulk.h"
#include "cpu/xlat.h"
#include "cpu/xstate.h"

struct vec {
    uint8_t b[32];
};
struct zmm {
    uint8_t b[64];
};

static void vec_get(const struct cpu *cpu, unsigned reg, struct vec *v) {
    memcpy(v->b, cpu->xsave + FX_XMM + 16 * reg, 16);
    memcpy(v->b + 16, cpu->xsave + XSAVE_AVX + 16 * reg, 16);
}

static void vec_put(struct cpu *cpu, unsigned reg, const struct vec *v) {
    memcpy(cpu->xsave + FX_XMM + 16 * reg, v->b, 16);
    memcpy(cpu->xsave + XSAVE_AVX + 16 * reg, v->b + 16, 16);
}

/* An instruction with VEX is done: the rest of its destination is 0. */
static void vec_clear_high(struct cpu *cpu, unsigned reg) {
    memset(cpu->xsave + XSAVE_ZMM_HI + 32 * reg, 0, 32);
}

static void zmm_get(const struct cpu *cpu, unsigned reg, struct zmm *v) {
    const uint8_t *a = cpu->xsave;
    if (reg >= 16) {
        memcpy(v->b, a + XSAVE_HI16 + 64 * (reg - 16), 64);
        return;
    }
    memcpy(v->b, a + FX_XMM + 16 * reg, 16);
    memcpy(v->b + 16, a + XSAVE_AVX + 16 * reg, 16);
    memcpy(v->b + 32, a + XSAVE_ZMM_HI + 32 * reg, 32);
}

static void zmm_put(struct cpu *cpu, unsigned reg, const struct zmm *v) {
    uint8_t *a = cpu->xsave;
    if (reg >= 16) {
        memcpy(a + XSAVE_HI16 + 64 * (reg - 16), v->b, 64);
        return;
    }
    memcpy(a + FX_XMM + 16 * reg, v->b, 16);
    memcpy(a + XSAVE_AVX + 16 * reg, v->b + 16, 16);
    memcpy(a + XSAVE_ZMM_HI + 32 * reg, v->b + 32, 32);
}

static uint64_t opmask(const struct cpu *cpu, unsigned k) {
    return xstate_get(cpu->xsave, XSAVE_OPMASK + 8 * k, 8);
}

/* The address of an element, without an alignment check. */
static enum cpu_rc element(struct cpu *cpu, const struct insn *in, uint64_t offset,
                           enum pn_access access, pn_gva *lin) {
    pn_gva last;
    if (cpu_lin(cpu, in->seg, offset + in->opsize - 1, 1, access, &last))
        return CPU_FAULT;
    return cpu_lin(cpu, in->seg, offset, 1, access, lin);
}

static bool chosen(const struct vec *mask, unsigned i, unsigned size) {
    return mask->b[(i + 1) * size - 1] & 0x80;
}

static enum cpu_rc gather_element(struct cpu *cpu, const struct insn *in, uint64_t offset,
                                  void *to) {
    pn_gva lin;
    if (cpu_follows(cpu, RULE_masked_align))
        return seg_read(cpu, in->seg, offset, to, in->opsize);
    if (element(cpu, in, offset, PN_READ, &lin))
        return CPU_FAULT;
    return cpu_read_lin(cpu, lin, to, in->opsize, cpu_tlb_mode(cpu));
}

/* A debug trap that is owed after elements have been loaded comes instead of the next one's
 * fault (SDM volume 2, "VGATHERDPD": "delivered in lieu of the exception"). */
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
    bool loaded = false;
    enum cpu_rc rc = CPU_NEXT;
    for (unsigned i = 0; i < n && rc == CPU_NEXT; i++) {
        int64_t k = 0;
        memcpy(&k, index.b + i * idx, idx);
        k = idx == 4 ? (int32_t)k : k;
        uint64_t offset = (base + (uint64_t)k * in->scale) & addr_mask(in->addrsize);
        if (chosen(&mask, i, elem))
            rc = gather_element(cpu, in, offset, dest.b + i * elem);
        loaded |= rc == CPU_NEXT && chosen(&mask, i, elem);
        if (rc == CPU_NEXT)
            memset(mask.b + i * elem, 0, elem);
    }
    if (rc == CPU_NEXT) {
        memset(dest.b + n * elem, 0, sizeof dest.b - n * elem);
        memset(&mask, 0, sizeof mask);
        vec_clear_high(cpu, in->op[0].reg);
        vec_clear_high(cpu, in->op[2].reg);
    }
    vec_put(cpu, in->op[2].reg, &mask);
    vec_put(cpu, in->op[0].reg, &dest);
    if (rc == CPU_FAULT && loaded && (cpu->mode & MODE_TF || cpu->db_pending))
        return string_resume(cpu);
    return rc;
}

/* The elements of a gather or scatter with an opmask, lowest first: what is in `from`, or
 * goes to `to`. Done with one clears its bit, so that a fault tells how far it came (SDM
 * volume 2, "VPSCATTERDD"). */
static enum cpu_rc move_elements(struct cpu *cpu, const struct insn *in, unsigned n,
                                 const uint8_t *from, uint8_t *to) {
    unsigned elem = in->opsize, idx = in->opcode & 1 ? 8 : 4, k = in->op[1].reg;
    uint64_t base =
        (in->base == INSN_NOREG ? 0 : cpu->gpr[in->base]) + (uint64_t)in->disp;
    uint64_t mask = opmask(cpu, k), left = mask;
    struct zmm index;
    pn_gva lin;
    enum cpu_rc rc = CPU_NEXT;
    zmm_get(cpu, in->index, &index);
    for (unsigned i = 0; i < n && rc == CPU_NEXT; i++) {
        int64_t at = 0;
        if (!(mask >> i & 1))
            continue;
        memcpy(&at, index.b + i * idx, idx);
        at = idx == 4 ? (int32_t)at : at;
        uint64_t offset = (base + (uint64_t)at * in->scale) & addr_mask(in->addrsize);
        if (to)
            rc = gather_element(cpu, in, offset, to + i * elem);
        else if ((rc = element(cpu, in, offset, PN_WRITE, &lin)) == CPU_NEXT)
            rc = cpu_write_lin(cpu, lin, from + i * elem, elem, cpu_tlb_mode(cpu));
        if (rc == CPU_NEXT)
            left &= ~(UINT64_C(1) << i);
    }
    xstate_put(cpu->xsave, XSAVE_OPMASK + 8 * k, 8, rc == CPU_NEXT ? 0 : left);
    if (rc == CPU_FAULT && left != mask && (cpu->mode & MODE_TF || cpu->db_pending))
        return string_resume(cpu);
    return rc;
}

static unsigned count_elements(const struct insn *in) {
    unsigned idx = in->opcode & 1 ? 8 : 4;
    return (unsigned)in->imm / (in->opsize > idx ? in->opsize : idx);
}

static enum cpu_rc op_gather_k(struct cpu *cpu, const struct insn *in) {
    unsigned n = count_elements(in), size = n * in->opsize;
    struct zmm dest;
    xstate_settle(cpu);
    zmm_get(cpu, in->op[0].reg, &dest);
    uint64_t before = opmask(cpu, in->op[1].reg);
    enum cpu_rc rc = move_elements(cpu, in, n, NULL, dest.b);
    if (rc == CPU_NEXT)
        memset(dest.b + size, 0, sizeof dest.b - size);
    else if (opmask(cpu, in->op[1].reg) != before) /* test_evex: one AMD processor */
        memset(dest.b + in->imm, 0, sizeof dest.b - in->imm);
    zmm_put(cpu, in->op[0].reg, &dest);
    return rc;
}

static enum cpu_rc op_scatter_k(struct cpu *cpu, const struct insn *in) {
    struct zmm src;
    xstate_settle(cpu);
    zmm_get(cpu, in->op[2].reg, &src);
    return move_elements(cpu, in, count_elements(in), src.b, NULL);
}

static enum cpu_rc masked_load(struct cpu *cpu, const struct insn *in) {
    struct vec dest = {{0}}, mask;
    uint64_t base = operand_offset(cpu, in);
    pn_gva lin;
    vec_get(cpu, in->op[1].reg, &mask);
    for (unsigned i = 0; i < in->imm / in->opsize; i++)
        if (chosen(&mask, i, in->opsize) &&
            (element(cpu, in, base + i * in->opsize, PN_READ, &lin) ||
             cpu_read_lin(cpu, lin, dest.b + i * in->opsize, in->opsize,
                          cpu_tlb_mode(cpu))))
            return CPU_FAULT;
    vec_put(cpu, in->op[0].reg, &dest);
    vec_clear_high(cpu, in->op[0].reg);
    return CPU_NEXT;
}

/* One that faults has stored nothing. */
static enum cpu_rc masked_store(struct cpu *cpu, const struct insn *in, uint64_t base,
                                const struct vec *src, const struct vec *mask) {
    unsigned n = (unsigned)in->imm / in->opsize;
    pn_gva lin[32];
    for (unsigned i = 0; i < n; i++)
        if (chosen(mask, i, in->opsize) &&
            (element(cpu, in, base + i * in->opsize, PN_WRITE, &lin[i]) ||
             bulk_probe_write(cpu, lin[i], in->opsize)))
            return CPU_FAULT;
    for (unsigned i = 0; i < n; i++)
        if (chosen(mask, i, in->opsize) &&
            cpu_write_lin(cpu, lin[i], src->b + i * in->opsize, in->opsize,
                          cpu_tlb_mode(cpu)))
            return CPU_FAULT;
    return CPU_NEXT;
}

/* Intel's check the alignment of the operand as a whole, whatever the mask (SDM volume 2,
 * "VMASKMOV"). */
static enum cpu_rc masked_align(struct cpu *cpu, const struct insn *in,
                                enum pn_access access) {
    pn_gva lin;
    if (!(cpu->mode & MODE_ALIGN) || !cpu_follows(cpu, RULE_masked_align))
        return CPU_NEXT;
    return cpu_lin(cpu, in->seg, operand_offset(cpu, in), 16, access, &lin);
}

/* VMASKMOVPS and its like: op 1 is the mask. */
static enum cpu_rc op_vmaskmov(struct cpu *cpu, const struct insn *in) {
    struct vec src, mask;
    bool stores = in->op[0].kind == OP_MEM;
    xstate_settle(cpu);
    if (masked_align(cpu, in, stores ? PN_WRITE : PN_READ))
        return CPU_FAULT;
    if (!stores)
        return masked_load(cpu, in);
    vec_get(cpu, in->op[1].reg, &mask);
    vec_get(cpu, in->op[2].reg, &src);
    return masked_store(cpu, in, operand_offset(cpu, in), &src, &mask);
}

/* MASKMOVDQU and MASKMOVQ: op 0 is the source, op 1 the mask, memory is at DS:rDI. A byte
 * that the mask leaves alone may fault all the same (SDM volume 2, "MASKMOVQ"), and does on
 * processors. */
static enum cpu_rc probe_piece(struct cpu *cpu, const struct insn *in, uint64_t offset,
                               unsigned size) {
    pn_gva lin, last;
    if (cpu_lin(cpu, in->seg, offset + size - 1, 1, PN_WRITE, &last) ||
        cpu_lin(cpu, in->seg, offset, 8, PN_WRITE, &lin))
        return CPU_FAULT;
    return bulk_probe_write(cpu, lin, size);
}

static enum cpu_rc probe(struct cpu *cpu, const struct insn *in) {
    unsigned piece = cpu_follows(cpu, RULE_maskmov_whole) ? (unsigned)in->imm : 8;
    for (unsigned at = 0; at < in->imm; at += piece) {
        uint64_t offset = string_reg(cpu, R_DI, in->addrsize) + at;
        if (!(cpu->mode & MODE_CODE64))
            offset = (uint32_t)offset; /* the second half may begin at 0 */
        if (probe_piece(cpu, in, offset, piece))
            return CPU_FAULT;
    }
    return CPU_NEXT;
}

static enum cpu_rc op_maskmov_xmm(struct cpu *cpu, const struct insn *in) {
    struct vec src, mask;
    xstate_settle(cpu);
    vec_get(cpu, in->op[0].reg, &src);
    vec_get(cpu, in->op[1].reg, &mask);
    if (probe(cpu, in))
        return CPU_FAULT;
    return masked_store(cpu, in, string_reg(cpu, R_DI, in->addrsize), &src, &mask);
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
    mmx_enter(cpu); /* even if the store faults */
    if (probe(cpu, in))
        return CPU_FAULT;
    memcpy(src.b, cpu->xsave + FX_ST + 16 * (in->op[0].reg & 7), 8);
    memcpy(mask.b, cpu->xsave + FX_ST + 16 * (in->op[1].reg & 7), 8);
    return masked_store(cpu, in, string_reg(cpu, R_DI, in->addrsize), &src, &mask);
}

enum cpu_rc (*const vecmem_helper[])(struct cpu *, const struct insn *) = {
    [VECMEM_GATHER] = op_gather,       [VECMEM_GATHER_K] = op_gather_k,
    [VECMEM_SCATTER_K] = op_scatter_k, [VECMEM_VMASKMOV] = op_vmaskmov,
    [VECMEM_XMM] = op_maskmov_xmm,     [VECMEM_MMX] = op_maskmov_mmx};
