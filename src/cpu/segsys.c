/* SPDX-License-Identifier: MIT */
/*
 * Descriptor tables and what asks about descriptors: LGDT LIDT SGDT SIDT LLDT LTR SLDT
 * STR LAR LSL VERR VERW ARPL.
 *
 * Source: SDM volume 2, under each name; volume 3, "System Instructions", CR4.UMIP.
 */
#include "cpu/system.h"

#define SYS_LDT      2u
#define TSS_BUSY_BIT 2u

static bool umip_denies(const struct cpu *cpu) {
    return cpu->cr4 & CR4_UMIP && cpu->cpl;
}

/* ---- Table registers ---- */

static enum cpu_rc table_load(struct cpu *cpu, const struct insn *in, uint64_t *base,
                              uint32_t *limit) {
    uint8_t raw[10];
    unsigned size = mode_64(cpu) ? 8 : 4;
    uint64_t b = 0;
    uint16_t l;
    if (cpu->cpl)
        return cpu_raise_code(cpu, VEC_GP, 0);
    if (operand_read(cpu, in, raw, size + 2))
        return CPU_FAULT;
    memcpy(&l, raw, 2);
    memcpy(&b, raw + 2, size);
    if (size == 4 && in->opsize == 2)
        b &= 0xffffff;
    if (!canonical(cpu, b))
        return cpu_raise_code(cpu, VEC_GP, 0);
    *base = b;
    *limit = l;
    return CPU_NEXT;
}

static enum cpu_rc table_store(struct cpu *cpu, const struct insn *in, uint64_t base,
                               uint32_t limit) {
    uint8_t raw[10];
    unsigned size = mode_64(cpu) ? 8 : 4;
    uint16_t l = (uint16_t)limit;
    if (umip_denies(cpu))
        return cpu_raise_code(cpu, VEC_GP, 0);
    memcpy(raw, &l, 2);
    memcpy(raw + 2, &base, 8);
    return operand_write(cpu, in, raw, size + 2);
}

enum cpu_rc op_lgdt(struct cpu *cpu, const struct insn *in) {
    return table_load(cpu, in, &cpu->gdtr.base, &cpu->gdtr.limit);
}
enum cpu_rc op_lidt(struct cpu *cpu, const struct insn *in) {
    return table_load(cpu, in, &cpu->idtr.base, &cpu->idtr.limit);
}
enum cpu_rc op_sgdt(struct cpu *cpu, const struct insn *in) {
    return table_store(cpu, in, cpu->gdtr.base, cpu->gdtr.limit);
}
enum cpu_rc op_sidt(struct cpu *cpu, const struct insn *in) {
    return table_store(cpu, in, cpu->idtr.base, cpu->idtr.limit);
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
        if (upper >> 40 & 0x1f || !canonical(cpu, *base))
            return cpu_raise_code(cpu, VEC_GP, error);
    }
    return CPU_NEXT;
}

static enum cpu_rc privileged_prot(struct cpu *cpu) {
    if (!mode_prot(cpu))
        return cpu_raise(cpu, VEC_UD);
    return cpu->cpl ? cpu_raise_code(cpu, VEC_GP, 0) : CPU_NEXT;
}

enum cpu_rc op_lldt(struct cpu *cpu, const struct insn *in) {
    struct desc d;
    uint16_t sel;
    uint64_t base;
    if (privileged_prot(cpu) || sel_read(cpu, in, 0, &sel))
        return CPU_FAULT;
    if (sel_null(sel)) {
        seg_set_null(&cpu->seg[SEG_LDTR], sel);
        return CPU_NEXT;
    }
    if (system_fetch(cpu, sel, &d, &base))
        return CPU_FAULT;
    if (desc_is_segment(d.raw) || desc_type(d.raw) != SYS_LDT)
        return cpu_raise_code(cpu, VEC_GP, sel & ~3u);
    if (!desc_present(d.raw))
        return cpu_raise_code(cpu, VEC_NP, sel & ~3u);
    seg_set(&cpu->seg[SEG_LDTR], sel, d.raw);
    cpu->seg[SEG_LDTR].base = base;
    return CPU_NEXT;
}

enum cpu_rc op_ltr(struct cpu *cpu, const struct insn *in) {
    struct desc d;
    uint16_t sel;
    uint64_t base;
    if (privileged_prot(cpu) || sel_read(cpu, in, 0, &sel))
        return CPU_FAULT;
    if (sel_null(sel))
        return cpu_raise_code(cpu, VEC_GP, 0);
    if (system_fetch(cpu, sel, &d, &base))
        return CPU_FAULT;
    /* An available TSS: 1 (16-bit, not in long mode) or 9. */
    unsigned type = desc_type(d.raw);
    if (desc_is_segment(d.raw) || (type != 9 && (type != 1 || mode_long(cpu))))
        return cpu_raise_code(cpu, VEC_GP, sel & ~3u);
    if (!desc_present(d.raw))
        return cpu_raise_code(cpu, VEC_NP, sel & ~3u);
    d.raw |= (uint64_t)TSS_BUSY_BIT << 40;
    uint8_t byte = (uint8_t)(d.raw >> 40);
    if (sys_write(cpu, d.addr + 5, &byte, 1))
        return CPU_FAULT;
    seg_set(&cpu->seg[SEG_TR], sel, d.raw);
    cpu->seg[SEG_TR].base = base;
    return CPU_NEXT;
}

static enum cpu_rc store_system(struct cpu *cpu, const struct insn *in, unsigned seg) {
    if (!mode_prot(cpu))
        return cpu_raise(cpu, VEC_UD);
    if (umip_denies(cpu))
        return cpu_raise_code(cpu, VEC_GP, 0);
    return sel_write(cpu, in, cpu->seg[seg].sel);
}

enum cpu_rc op_sldt(struct cpu *cpu, const struct insn *in) {
    return store_system(cpu, in, SEG_LDTR);
}
enum cpu_rc op_str(struct cpu *cpu, const struct insn *in) {
    return store_system(cpu, in, SEG_TR);
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

enum cpu_rc op_lar(struct cpu *cpu, const struct insn *in) {
    /* TSS 1 3 9 11, LDT 2, call gates 4 12, task gate 5; long mode: 2 9 11 12. */
    uint32_t system = mode_long(cpu) ? 0x1a04 : 0x1a3e;
    uint64_t raw;
    bool ok;
    if (ask(cpu, in, 1, system, &raw, &ok))
        return CPU_FAULT;
    if (ok)
        cpu_op_write(cpu, in, 0, raw >> 32 & 0xf0ff00);
    return set_zf(cpu, ok);
}

enum cpu_rc op_lsl(struct cpu *cpu, const struct insn *in) {
    uint32_t system = mode_long(cpu) ? 0x0a04 : 0x0a0e;
    uint64_t raw;
    bool ok;
    if (ask(cpu, in, 1, system, &raw, &ok))
        return CPU_FAULT;
    if (ok)
        cpu_op_write(cpu, in, 0, desc_limit(raw));
    return set_zf(cpu, ok);
}

enum cpu_rc op_verr(struct cpu *cpu, const struct insn *in) {
    uint64_t raw;
    bool ok;
    if (ask(cpu, in, 0, 0, &raw, &ok))
        return CPU_FAULT;
    return set_zf(cpu, ok && (desc_is_data(raw) || desc_type(raw) & TYPE_RW));
}

enum cpu_rc op_verw(struct cpu *cpu, const struct insn *in) {
    uint64_t raw;
    bool ok;
    if (ask(cpu, in, 0, 0, &raw, &ok))
        return CPU_FAULT;
    return set_zf(cpu, ok && desc_is_data(raw) && desc_type(raw) & TYPE_RW);
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
