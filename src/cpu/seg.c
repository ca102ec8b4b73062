/* SPDX-License-Identifier: MIT */
/*
 * Segment registers: descriptors, their checks, and the instructions that load and store
 * data segments and the FS and GS bases.
 *
 * Invariants
 * 1. A segment register changes only after every check, and the write of the accessed
 *    bit, has passed.
 *
 * Sources: SDM volume 2, "MOV", "POP", "LDS/LES/LFS/LGS/LSS", "SWAPGS", "RDFSBASE";
 * volume 3, "Segment Descriptors", "Protection".
 */
#include "cpu/system.h"

/* ---- Descriptors ---- */

enum cpu_rc desc_fetch(struct cpu *cpu, uint16_t sel, uint8_t vector, unsigned ext,
                       struct desc *d) {
    const struct pn_segment *ldt = &cpu->seg[SEG_LDTR];
    uint64_t base = cpu->gdtr.base, limit = cpu->gdtr.limit;
    if (sel & 4) {
        base = ldt->base;
        limit = ldt->limit;
    }
    if (unlikely((sel | 7u) > limit || (sel & 4 && ldt->attr & ATTR_UNUSABLE)))
        return cpu_raise_code(cpu, vector, (sel & ~3u) | ext);
    d->addr = base + (sel & ~7u);
    return sys_read(cpu, d->addr, &d->raw, 8);
}

enum cpu_rc desc_touch(struct cpu *cpu, struct desc *d) {
    if (likely(d->raw >> 40 & TYPE_ACC))
        return CPU_NEXT;
    d->raw |= (uint64_t)TYPE_ACC << 40;
    uint8_t byte = (uint8_t)(d->raw >> 40);
    return sys_write(cpu, d->addr + 5, &byte, 1);
}

void seg_set(struct pn_segment *s, uint16_t sel, uint64_t raw) {
    s->sel = sel;
    s->attr = desc_attr(raw);
    s->limit = desc_limit(raw);
    s->base = desc_base(raw);
}

void seg_set_null(struct pn_segment *s, uint16_t sel) {
    *s = (struct pn_segment){.sel = sel, .attr = ATTR_UNUSABLE | (sel & 3u) << 5};
}

void seg_set_real(struct pn_segment *s, uint16_t sel, bool vm86) {
    const uint32_t data = ATTR_P | ATTR_S | TYPE_RW | TYPE_ACC;
    s->sel = sel;
    s->base = (uint32_t)sel << 4;
    if (vm86) {
        s->attr = data | 3u << 5;
        s->limit = 0xffff;
    } else { /* limit and size stay: "unreal" mode */
        s->attr = (s->attr & (ATTR_DB | ATTR_G)) | data;
    }
}

/* ---- Loads ---- */

enum cpu_rc ss_fetch(struct cpu *cpu, uint16_t sel, unsigned cpl, uint8_t vector,
                     unsigned ext, struct desc *d) {
    uint32_t error = (sel & ~3u) | ext;
    if (desc_fetch(cpu, sel, vector, ext, d))
        return CPU_FAULT;
    if ((sel & 3) != cpl || desc_dpl(d->raw) != cpl || !desc_is_data(d->raw) ||
        !(desc_type(d->raw) & TYPE_RW))
        return cpu_raise_code(cpu, vector, error);
    return !desc_present(d->raw) ? cpu_raise_code(cpu, VEC_SS, error) : CPU_NEXT;
}

static enum cpu_rc load_ss(struct cpu *cpu, uint16_t sel) {
    struct desc d;
    if (sel_null(sel)) {
        if (!mode_64(cpu) || cpu->cpl == 3 || (sel & 3) != cpu->cpl)
            return gp0(cpu);
        seg_set_null(&cpu->seg[SEG_SS], sel);
        return CPU_NEXT;
    }
    if (ss_fetch(cpu, sel, cpu->cpl, VEC_GP, 0, &d) || desc_touch(cpu, &d))
        return CPU_FAULT;
    seg_set(&cpu->seg[SEG_SS], sel, d.raw);
    return CPU_NEXT;
}

static enum cpu_rc load_data(struct cpu *cpu, unsigned seg, uint16_t sel) {
    struct desc d;
    if (sel_null(sel)) {
        seg_set_null(&cpu->seg[seg], sel);
        return CPU_NEXT;
    }
    if (desc_fetch(cpu, sel, VEC_GP, 0, &d))
        return CPU_FAULT;
    unsigned type = desc_type(d.raw);
    bool usable = desc_is_data(d.raw) || (desc_is_code(d.raw) && type & TYPE_RW);
    bool ring = (type & (TYPE_CODE | TYPE_CONF)) != (TYPE_CODE | TYPE_CONF);
    unsigned dpl = desc_dpl(d.raw);
    if (!usable || (ring && ((sel & 3u) > dpl || cpu->cpl > dpl)))
        return cpu_raise_code(cpu, VEC_GP, sel & ~3u);
    if (!desc_present(d.raw))
        return cpu_raise_code(cpu, VEC_NP, sel & ~3u);
    if (desc_touch(cpu, &d))
        return CPU_FAULT;
    seg_set(&cpu->seg[seg], sel, d.raw);
    return CPU_NEXT;
}

enum cpu_rc seg_load(struct cpu *cpu, unsigned seg, uint16_t sel) {
    if (!mode_prot(cpu)) {
        seg_set_real(&cpu->seg[seg], sel, cpu->mode & MODE_VM86);
        return CPU_NEXT;
    }
    return seg == SEG_SS ? load_ss(cpu, sel) : load_data(cpu, seg, sel);
}

void seg_drop_privileged(struct cpu *cpu, unsigned cpl) {
    static const uint8_t data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned i = 0; i < sizeof data; i++) {
        struct pn_segment *s = &cpu->seg[data[i]];
        bool conforming = (s->attr & (TYPE_CODE | TYPE_CONF)) == (TYPE_CODE | TYPE_CONF);
        if (attr_dpl(s->attr) >= cpl || conforming || s->attr & ATTR_UNUSABLE)
            continue;
        struct pn_segment old = *s;
        seg_set_null(s, 0);
        s->base = old.base, s->limit = old.limit;
    }
}

/* After a load: blocks depend on flatness and stack width; SS casts a shadow. */
static enum cpu_rc loaded(struct cpu *cpu, unsigned seg, bool shadow) {
    uint32_t before = cpu->mode;
    if (seg == SEG_SS && shadow) {
        cpu->intr_shadow = PN_SHADOW_MOV_SS;
        cpu->shadow_at = cpu_insns(cpu) + 1;
    }
    if (!mode_64(cpu))
        cpu_update_mode(cpu);
    bool wait = seg == SEG_SS && cpu_attention(cpu);
    return before != cpu->mode || wait ? CPU_STOP : CPU_NEXT;
}

enum cpu_rc op_mov_sreg(struct cpu *cpu, const struct insn *in) {
    uint16_t sel;
    if (in->op[0].kind != OP_SREG)
        return sel_write(cpu, in, cpu->seg[in->op[1].reg].sel);
    unsigned seg = in->op[0].reg;
    if (seg == SEG_CS)
        return cpu_raise(cpu, VEC_UD);
    if (sel_read(cpu, in, 1, &sel) || seg_load(cpu, seg, sel))
        return CPU_FAULT;
    return loaded(cpu, seg, true);
}

enum cpu_rc op_push_sreg(struct cpu *cpu, const struct insn *in) {
    struct stack st;
    unsigned size = in->opsize;
    uint16_t sel = cpu->seg[in->op[0].reg].sel;
    stack_here(cpu, &st);
    if (size == 4 && cpu_follows(cpu, RULE_push_word)) {
        st.sp -= 2;
        if (stack_push(cpu, &st, sel, 2))
            return CPU_FAULT;
    } else if (stack_push(cpu, &st, sel, size)) {
        return CPU_FAULT;
    }
    stack_commit(cpu, &st);
    return CPU_NEXT;
}

enum cpu_rc op_pop_sreg(struct cpu *cpu, const struct insn *in) {
    struct stack st;
    uint64_t v;
    unsigned seg = in->op[0].reg;
    stack_here(cpu, &st);
    unsigned size = cpu_follows(cpu, RULE_pop_word) ? 2 : in->opsize;
    if (size < in->opsize && cpu->mode & MODE_ALIGN && st.sp & (in->opsize - 1u))
        return cpu_raise_code(cpu, VEC_AC, 0);
    if (stack_pop(cpu, &st, size, &v) || seg_load(cpu, seg, (uint16_t)v))
        return CPU_FAULT;
    st.sp += in->opsize - size;
    stack_commit(cpu, &st);
    return loaded(cpu, seg, true);
}

/* LDS, LES, LFS, LGS, LSS: op[0] register, the memory operand is offset then selector. */
enum cpu_rc op_load_far_pointer(struct cpu *cpu, const struct insn *in) {
    static const uint8_t of_opcode[] = {[2] = SEG_SS, [4] = SEG_FS, [5] = SEG_GS};
    unsigned seg = in->opcode == 0xc4   ? SEG_ES
                   : in->opcode == 0xc5 ? SEG_DS
                                        : of_opcode[in->opcode & 7];
    uint64_t offset;
    uint16_t sel;
    if (in->op[1].kind != OP_MEM)
        return cpu_raise(cpu, VEC_UD);
    if (far_read(cpu, in, in->op[0].size, &offset, &sel) || seg_load(cpu, seg, sel))
        return CPU_FAULT;
    cpu_op_write(cpu, in, 0, offset);
    return loaded(cpu, seg, false);
}

/* ---- FS and GS bases ---- */

/* RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE; arg: the segment. */
enum cpu_rc op_rdbase(struct cpu *cpu, const struct insn *in) {
    if (!mode_64(cpu) || !(cpu->cr4 & CR4_FSGSBASE))
        return cpu_raise(cpu, VEC_UD);
    return cpu_op_write(cpu, in, 0, cpu->seg[in->arg].base);
}

enum cpu_rc op_wrbase(struct cpu *cpu, const struct insn *in) {
    uint64_t v;
    if (!mode_64(cpu) || !(cpu->cr4 & CR4_FSGSBASE))
        return cpu_raise(cpu, VEC_UD);
    cpu_op_read(cpu, in, 0, &v);
    if (!loadable(cpu, v))
        return gp0(cpu);
    cpu->seg[in->arg].base = v;
    return CPU_NEXT;
}

enum cpu_rc op_swapgs(struct cpu *cpu, const struct insn *in) {
    if (unlikely(!mode_64(cpu)))
        return cpu_raise(cpu, VEC_UD);
    if (unlikely(cpu->cpl))
        return gp0(cpu);
    uint64_t base = cpu->seg[SEG_GS].base;
    cpu->seg[SEG_GS].base = cpu->msr_kernel_gs_base;
    cpu->msr_kernel_gs_base = base;
    return CPU_NEXT;
}
