/* SPDX-License-Identifier: MIT */
/*
 * Descriptor tables and what asks about descriptors: LGDT LIDT SGDT SIDT LLDT LTR SLDT
 * STR LAR LSL VERR VERW ARPL.
 *
 * Source: SDM volume 2, under each name; volume 3, "System Instructions", CR4.UMIP.
 */
#include "cpu/bulk.h"

#define SYS_LDT      2u
#define TSS_BUSY_BIT 2u

static bool umip_denies(const struct cpu *cpu) {
    return cpu->cr4 & CR4_UMIP && cpu->cpl;
}

/* ---- Table registers ---- */

/* LGDT, LIDT; arg: the IDT. */
enum cpu_rc op_load_table(struct cpu *cpu, const struct insn *in) {
    uint8_t raw[10];
    unsigned size = mode_64(cpu) ? 8 : 4;
    uint64_t base = 0;
    uint16_t limit;
    if (cpu->cpl)
        return gp0(cpu);
    if (operand_read(cpu, in, raw, size + 2))
        return CPU_FAULT;
    memcpy(&limit, raw, 2);
    memcpy(&base, raw + 2, size);
    if (size == 4 && in->opsize == 2)
        base &= 0xffffff;
    if (!loadable(cpu, base))
        return gp0(cpu);
    *(in->arg ? &cpu->idtr : &cpu->gdtr) = (struct cpu_table){base, limit};
    return CPU_NEXT;
}

/* SGDT, SIDT */
enum cpu_rc op_store_table(struct cpu *cpu, const struct insn *in) {
    const struct cpu_table *t = in->arg ? &cpu->idtr : &cpu->gdtr;
    uint8_t raw[10];
    uint16_t limit = (uint16_t)t->limit;
    if (umip_denies(cpu))
        return gp0(cpu);
    memcpy(raw, &limit, 2);
    memcpy(raw + 2, &t->base, 8);
    /* Limit and base are aligned each for itself: SGDT's operand belongs at an odd word
     * (SDM volume 3, "Segment Descriptor Tables"). */
    unsigned base = mode_64(cpu) ? 8 : 4;
    uint64_t at = operand_offset(cpu, in);
    pn_gva lin, ignored;
    if (cpu_lin(cpu, in->seg, at, 2, PN_WRITE, &lin) || bulk_probe_write(cpu, lin, 2) ||
        cpu_lin(cpu, in->seg, (at + 2) & addr_mask(in->addrsize), base, PN_WRITE,
                &ignored))
        return CPU_FAULT;
    return cpu_write_lin(cpu, lin, raw, base + 2, cpu_tlb_mode(cpu));
}

/* ---- LDTR and TR ---- */

/* The descriptor of a system segment; in long mode it has 16 bytes. */
static enum cpu_rc system_fetch(struct cpu *cpu, uint16_t sel, struct desc *d,
                                uint64_t *base) {
    uint32_t error = sel & ~3u;
    if (sel & 4)
        return cpu_raise_code(cpu, VEC_GP, error);
    if (mode_long(cpu) && (sel | 7u) + 8 > cpu->gdtr.limit)
        return cpu_raise_code(cpu, VEC_GP, error);
    if (desc_fetch(cpu, sel, VEC_GP, 0, d))
        return CPU_FAULT;
    *base = desc_base(d->raw);
    if (mode_long(cpu)) {
        uint64_t upper;
        if (sys_read(cpu, d->addr + 8, &upper, 8))
            return CPU_FAULT;
        *base |= upper << 32;
        if (upper >> 40 & 0x1f || !loadable(cpu, *base))
            return cpu_raise_code(cpu, VEC_GP, error);
    }
    return CPU_NEXT;
}

/* LLDT, LTR; arg: the segment. */
enum cpu_rc op_load_system(struct cpu *cpu, const struct insn *in) {
    struct desc d;
    uint16_t sel;
    uint64_t base;
    bool tr = in->arg == SEG_TR;
    if (!mode_prot(cpu))
        return cpu_raise(cpu, VEC_UD);
    if (cpu->cpl)
        return gp0(cpu);
    if (sel_read(cpu, in, 0, &sel))
        return CPU_FAULT;
    if (sel_null(sel)) {
        if (tr)
            return gp0(cpu);
        seg_set_null(&cpu->seg[SEG_LDTR], sel);
        return CPU_NEXT;
    }
    if (system_fetch(cpu, sel, &d, &base))
        return CPU_FAULT;
    /* An available TSS: 1 (16-bit, not in long mode) or 9. */
    unsigned type = desc_type(d.raw);
    bool fits = tr ? type == 9 || (type == 1 && !mode_long(cpu)) : type == SYS_LDT;
    if (desc_is_segment(d.raw) || !fits)
        return cpu_raise_code(cpu, VEC_GP, sel & ~3u);
    if (!desc_present(d.raw))
        return cpu_raise_code(cpu, VEC_NP, sel & ~3u);
    if (tr) {
        d.raw |= (uint64_t)TSS_BUSY_BIT << 40;
        uint8_t byte = (uint8_t)(d.raw >> 40);
        if (sys_write(cpu, d.addr + 5, &byte, 1))
            return CPU_FAULT;
    }
    seg_set(&cpu->seg[in->arg], sel, d.raw);
    cpu->seg[in->arg].base = base;
    return CPU_NEXT;
}

/* SLDT, STR; arg: the segment. */
enum cpu_rc op_store_system(struct cpu *cpu, const struct insn *in) {
    if (!mode_prot(cpu))
        return cpu_raise(cpu, VEC_UD);
    if (umip_denies(cpu))
        return gp0(cpu);
    return sel_write(cpu, in, cpu->seg[in->arg].sel);
}

/* ---- Questions about descriptors ---- */

static enum cpu_rc set_zf(struct cpu *cpu, bool zf) {
    uint64_t f = cpu_arith_flags(cpu) & ~(uint64_t)FL_ZF;
    cpu_set_arith_flags(cpu, zf ? f | FL_ZF : f);
    return CPU_NEXT;
}

/* Privilege: everything but conforming code needs DPL >= CPL and DPL >= RPL. */
static bool ring_allows(const struct cpu *cpu, uint16_t sel, uint64_t raw) {
    if (desc_is_code(raw) && desc_type(raw) & TYPE_CONF)
        return true;
    return desc_dpl(raw) >= cpu->cpl && desc_dpl(raw) >= (sel & 3u);
}

/* bit i of `system`: system type i is answered. */
static bool answers(const struct cpu *cpu, uint16_t sel, uint64_t raw, uint32_t system) {
    if (!raw || !ring_allows(cpu, sel, raw))
        return false;
    return desc_is_segment(raw) || (system >> desc_type(raw) & 1);
}

/* What op i selects, and whether it is answered for; *raw is 0, and it is not, for a null
 * selector or one beyond its table. */
static enum cpu_rc ask(struct cpu *cpu, const struct insn *in, unsigned i,
                       uint32_t system, uint64_t *raw, bool *ok) {
    struct desc d = {0};
    uint16_t sel;
    if (!mode_prot(cpu))
        return cpu_raise(cpu, VEC_UD);
    if (sel_read(cpu, in, i, &sel))
        return CPU_FAULT;
    if (!sel_null(sel) && desc_fetch(cpu, sel, VEC_GP, 0, &d)) {
        if (cpu->fault.vector != VEC_GP)
            return CPU_FAULT;
        d.raw = 0;
    }
    *raw = d.raw;
    *ok = answers(cpu, sel, d.raw, system);
    return CPU_NEXT;
}

/* LAR and, with arg, LSL, which has no answer for gates. */
enum cpu_rc op_lar(struct cpu *cpu, const struct insn *in) {
    /* TSS 1 3 9 11, LDT 2, call gates 4 12, task gate 5; long mode: 2 9 11 12. */
    static const uint32_t system[2][2] = {{0x1a3e, 0x1a04}, {0x0a0e, 0x0a04}};
    uint64_t raw;
    bool ok;
    if (ask(cpu, in, 1, system[in->arg][mode_long(cpu)], &raw, &ok))
        return CPU_FAULT;
    /* LAR: bits 19:16 are undefined (SDM), the limit's as processors have it. */
    if (ok)
        cpu_op_write(cpu, in, 0, in->arg ? desc_limit(raw) : raw >> 32 & 0xffff00);
    return set_zf(cpu, ok);
}

/* VERR and, with arg, VERW. */
enum cpu_rc op_verr(struct cpu *cpu, const struct insn *in) {
    uint64_t raw;
    bool ok;
    if (ask(cpu, in, 0, 0, &raw, &ok))
        return CPU_FAULT;
    bool data = desc_is_data(raw), rw = desc_type(raw) & TYPE_RW;
    return set_zf(cpu, ok && (in->arg ? data && rw : data || rw));
}

enum cpu_rc op_arpl(struct cpu *cpu, const struct insn *in) {
    uint64_t to, from;
    if (!mode_prot(cpu))
        return cpu_raise(cpu, VEC_UD);
    if (cpu_op_read(cpu, in, 0, &to) || cpu_op_read(cpu, in, 1, &from))
        return CPU_FAULT;
    bool raise = (to & 3) < (from & 3);
    if (raise && cpu_op_write(cpu, in, 0, (to & ~3ull) | (from & 3)))
        return CPU_FAULT;
    return set_zf(cpu, raise);
}
