/* SPDX-License-Identifier: MIT */
/*
 * From operands to linear addresses: effective addresses, segment and canonical checks,
 * alignment checks; and the stack as helpers push and pop it.
 *
 * Sources: SDM volume 3, "Limit Checking", "Type Checking", "Canonical Checking" and
 * "Interrupt 17 - Alignment Check Exception (#AC)".
 */
#include "cpu/system.h"

/* ---- Segments ---- */

bool seg_past_4g(const struct cpu *cpu, uint64_t offset, unsigned size) {
    return offset + size - 1 > UINT32_MAX && !cpu_follows(cpu, RULE_wraps_4g);
}

/* Does s allow an access of size bytes at offset (outside 64-bit mode)? */
static bool seg_allows(const struct cpu *cpu, const struct pn_segment *s, uint64_t offset,
                       unsigned size, enum pn_access access) {
    uint32_t attr = s->attr;
    if (attr & ATTR_UNUSABLE)
        return false;
    if (attr & TYPE_CODE) {
        if (access == PN_WRITE || (access == PN_READ && !(attr & TYPE_RW)))
            return false;
    } else if (access == PN_WRITE && !(attr & TYPE_RW)) {
        return false;
    }
    uint64_t last = offset + size - 1;
    if ((attr & (TYPE_CODE | TYPE_DOWN)) == TYPE_DOWN)
        return offset > s->limit && last <= (attr & ATTR_DB ? UINT32_MAX : UINT16_MAX);
    if (s->limit == UINT32_MAX)
        return !seg_past_4g(cpu, offset, size);
    return last <= s->limit;
}

/* SDM volume 3, table "Alignment Requirements by Data Type". 80-bit reals count as their
 * mantissa. x87 environments (14 and 28 bytes, with the
 * registers 94 and 108) are aligned as their operand size is. YMM operands and state areas
 * count as double quadwords (tests/diff). */
static unsigned alignment(unsigned size) {
    switch (size) {
    case 14:
    case 94:
        return 2;
    case 28:
    case 108:
        return 4;
    default:
        return size >= 16 ? 16 : size >= 8 ? 8 : size >= 4 ? 4 : size >= 2 ? 2 : 1;
    }
}

static inline enum cpu_rc align_check(struct cpu *cpu, pn_gva lin, unsigned size) {
    if (likely(!(cpu->mode & MODE_ALIGN)))
        return CPU_NEXT;
    return lin & (alignment(size) - 1) ? cpu_raise_code(cpu, VEC_AC, 0) : CPU_NEXT;
}

enum cpu_rc lin_aligned(struct cpu *cpu, pn_gva lin, unsigned size) {
    return align_check(cpu, lin, size);
}

static enum cpu_rc lin_legacy(struct cpu *cpu, unsigned seg, uint64_t offset,
                              unsigned size, enum pn_access access, pn_gva *lin) {
    const struct pn_segment *s = &cpu->seg[seg];
    if (unlikely(!seg_allows(cpu, s, offset, size, access)))
        return cpu_raise_code(cpu, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
    *lin = (uint32_t)(s->base + offset);
    return align_check(cpu, *lin, size);
}

enum cpu_rc cpu_lin(struct cpu *cpu, unsigned seg, uint64_t offset, unsigned size,
                    enum pn_access access, pn_gva *lin) {
    if (!mode_64(cpu))
        return lin_legacy(cpu, seg, offset, size, access, lin);
    pn_gva a = seg >= SEG_FS ? offset + cpu->seg[seg].base : offset;
    if (unlikely(!canonical(cpu, a) || !canonical(cpu, a + size - 1)))
        return cpu_raise_code(cpu, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
    *lin = a;
    return align_check(cpu, a, size);
}

uint64_t operand_offset(const struct cpu *cpu, const struct insn *in) {
    uint64_t ea = (uint64_t)in->disp;
    if (in->base != INSN_NOREG)
        ea += cpu->gpr[in->base];
    if (in->index != INSN_NOREG)
        ea += cpu->gpr[in->index] * in->scale;
    return ea & addr_mask(in->addrsize);
}

enum cpu_rc cpu_lin_operand(struct cpu *cpu, const struct insn *in, unsigned size,
                            enum pn_access access, pn_gva *lin) {
    return cpu_lin(cpu, in->seg, operand_offset(cpu, in), size, access, lin);
}

enum cpu_rc operand_aligned(struct cpu *cpu, const struct insn *in, unsigned align) {
    bool based = in->seg >= SEG_FS || !mode_64(cpu);
    uint64_t lin = operand_offset(cpu, in) + (based ? cpu->seg[in->seg].base : 0);
    return lin & (align - 1) ? gp0(cpu) : CPU_NEXT;
}

enum cpu_rc seg_read(struct cpu *cpu, unsigned seg, uint64_t offset, void *buf,
                     unsigned size) {
    pn_gva lin;
    if (cpu_lin(cpu, seg, offset, size, PN_READ, &lin))
        return CPU_FAULT;
    return cpu_read_lin(cpu, lin, buf, size, cpu_tlb_mode(cpu));
}

enum cpu_rc seg_write(struct cpu *cpu, unsigned seg, uint64_t offset, const void *buf,
                      unsigned size) {
    pn_gva lin;
    if (cpu_lin(cpu, seg, offset, size, PN_WRITE, &lin))
        return CPU_FAULT;
    return cpu_write_lin(cpu, lin, buf, size, cpu_tlb_mode(cpu));
}

/* ---- Operands of helpers ---- */

static inline uint64_t truncate(uint64_t v, unsigned size) {
    return size >= 8 ? v : v & ((1ull << size * 8) - 1);
}

enum cpu_rc cpu_op_read(struct cpu *cpu, const struct insn *in, unsigned i,
                        uint64_t *value) {
    const struct operand *o = &in->op[i];
    switch (o->kind) {
    case OP_REG:
        *value = truncate(cpu->gpr[o->reg], o->size);
        return CPU_NEXT;
    case OP_REG_HIGH:
        *value = cpu->gpr[o->reg] >> 8 & 0xff;
        return CPU_NEXT;
    case OP_SREG:
        *value = cpu->seg[o->reg].sel;
        return CPU_NEXT;
    case OP_IMM:
        *value = in->imm;
        return CPU_NEXT;
    default:
        *value = 0;
        return operand_read(cpu, in, value, o->size);
    }
}

enum cpu_rc cpu_op_write(struct cpu *cpu, const struct insn *in, unsigned i,
                         uint64_t value) {
    const struct operand *o = &in->op[i];
    switch (o->kind) {
    case OP_REG:
        if (o->size < 4) {
            uint64_t mask = (1ull << o->size * 8) - 1;
            value = (cpu->gpr[o->reg] & ~mask) | (value & mask);
        }
        cpu->gpr[o->reg] = o->size == 4 ? (uint32_t)value : value;
        return CPU_NEXT;
    case OP_REG_HIGH:
        cpu->gpr[o->reg] = (cpu->gpr[o->reg] & ~0xff00ull) | (value & 0xff) << 8;
        return CPU_NEXT;
    default:
        return operand_write(cpu, in, &value, o->size);
    }
}

enum cpu_rc operand_read(struct cpu *cpu, const struct insn *in, void *buf,
                         unsigned size) {
    return seg_read(cpu, in->seg, operand_offset(cpu, in), buf, size);
}

enum cpu_rc operand_write(struct cpu *cpu, const struct insn *in, const void *buf,
                          unsigned size) {
    return seg_write(cpu, in->seg, operand_offset(cpu, in), buf, size);
}

/* Two operands, each aligned for itself (tests/diff). */
enum cpu_rc far_read(struct cpu *cpu, const struct insn *in, unsigned size,
                     uint64_t *offset, uint16_t *sel) {
    uint64_t at = operand_offset(cpu, in);
    if (size == 8 && !cpu_follows(cpu, RULE_far_64))
        size = 4;
    *offset = 0;
    if (seg_read(cpu, in->seg, at, offset, size))
        return CPU_FAULT;
    return seg_read(cpu, in->seg, (at + size) & addr_mask(in->addrsize), sel, 2);
}

enum cpu_rc sel_read(struct cpu *cpu, const struct insn *in, unsigned i, uint16_t *sel) {
    struct insn narrow = *in;
    uint64_t v;
    narrow.op[i].size = 2;
    if (cpu_op_read(cpu, &narrow, i, &v))
        return CPU_FAULT;
    *sel = (uint16_t)v;
    return CPU_NEXT;
}

enum cpu_rc sel_write(struct cpu *cpu, const struct insn *in, uint16_t sel) {
    struct insn store = *in;
    if (store.op[0].kind == OP_MEM)
        store.op[0].size = 2;
    return cpu_op_write(cpu, &store, 0, sel);
}

/* ---- The stack ---- */

static enum cpu_rc stack_lin(struct cpu *cpu, const struct stack *st, uint64_t sp,
                             unsigned size, enum pn_access access, pn_gva *lin) {
    bool ok;
    if (st->seg) {
        *lin = (uint32_t)(st->seg->base + (sp & st->mask));
        ok = seg_allows(cpu, st->seg, sp & st->mask, size, access);
    } else {
        *lin = sp;
        ok = canonical(cpu, sp) && canonical(cpu, sp + size - 1);
    }
    if (unlikely(!ok))
        return cpu_raise_code(cpu, VEC_SS, st->error);
    return st->mode == PN_TLB_USER ? align_check(cpu, *lin, size) : CPU_NEXT;
}

enum cpu_rc stack_push_slow(struct cpu *cpu, struct stack *st, uint64_t value,
                            unsigned size) {
    pn_gva lin;
    if (stack_lin(cpu, st, st->sp - size, size, PN_WRITE, &lin) ||
        cpu_write_lin(cpu, lin, &value, size, st->mode))
        return CPU_FAULT;
    st->sp -= size;
    return CPU_NEXT;
}

enum cpu_rc stack_pop_slow(struct cpu *cpu, struct stack *st, unsigned size,
                           uint64_t *value) {
    pn_gva lin;
    *value = 0;
    if (stack_lin(cpu, st, st->sp, size, PN_READ, &lin) ||
        cpu_read_lin(cpu, lin, value, size, st->mode))
        return CPU_FAULT;
    st->sp += size;
    return CPU_NEXT;
}

void stack_commit(struct cpu *cpu, const struct stack *st) {
    if (st->mask == UINT16_MAX)
        cpu->gpr[R_SP] = (cpu->gpr[R_SP] & ~st->mask) | (st->sp & st->mask);
    else
        cpu->gpr[R_SP] = st->sp & st->mask;
}

enum cpu_rc stack_push_one(struct cpu *cpu, uint64_t value, unsigned size) {
    struct stack st;
    stack_here(cpu, &st);
    if (stack_push(cpu, &st, value, size))
        return CPU_FAULT;
    stack_commit(cpu, &st);
    return CPU_NEXT;
}

void set_stack_pointer(struct cpu *cpu, bool to64, uint64_t sp) {
    if (to64)
        cpu->gpr[R_SP] = sp;
    else if (cpu->seg[SEG_SS].attr & ATTR_DB)
        cpu->gpr[R_SP] = (uint32_t)sp;
    else
        cpu->gpr[R_SP] = (cpu->gpr[R_SP] & ~0xffffull) | (sp & 0xffff);
}

enum cpu_rc code_offset_check(struct cpu *cpu, uint64_t raw, uint16_t sel, uint64_t rip) {
    if (mode_long(cpu) && desc_long(raw)) {
        if (unlikely(desc_big(raw)))
            return cpu_raise_code(cpu, VEC_GP, sel & ~3u);
        return canonical(cpu, rip) ? CPU_NEXT : gp0(cpu);
    }
    return rip <= desc_limit(raw) ? CPU_NEXT : gp0(cpu);
}
