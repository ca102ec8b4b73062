/* SPDX-License-Identifier: MIT */
/* Control registers: what may be written when, and what a write brings about. */
#include <string.h>

#include "fixture_sys.h"
#include "ops.h"
#include "tests/suite.h"

static struct sys *s;

static void setup(void) {
    s = sys_new("x86-64-v1");
    sys_long_mode(s);
}
static void teardown(void) {
    sys_free(s);
}

static enum cpu_rc write_reg(unsigned kind, unsigned cr, uint64_t v) {
    struct insn in = sys_insn(8, 8);
    in.op_count = 2;
    in.op[0] = (struct operand){.kind = (uint8_t)kind, .reg = (uint8_t)cr, .size = 8};
    in.op[1] = (struct operand){.kind = OP_REG, .reg = R_BX, .size = 8};
    s->cpu->gpr[R_BX] = v;
    return kind == OP_CR ? op_mov_cr(s->cpu, &in) : op_mov_dr(s->cpu, &in);
}
static enum cpu_rc wr(unsigned cr, uint64_t v) {
    return write_reg(OP_CR, cr, v);
}
static enum cpu_rc read_reg(unsigned kind, unsigned cr, uint64_t *v) {
    struct insn in = sys_insn(8, 8);
    in.op_count = 2;
    in.op[0] = (struct operand){.kind = OP_REG, .reg = R_BX, .size = 8};
    in.op[1] = (struct operand){.kind = (uint8_t)kind, .reg = (uint8_t)cr, .size = 8};
    enum cpu_rc rc = kind == OP_CR ? op_mov_cr(s->cpu, &in) : op_mov_dr(s->cpu, &in);
    *v = s->cpu->gpr[R_BX];
    return rc;
}
static uint64_t rd(unsigned cr) {
    uint64_t v;
    ck_assert_int_eq(read_reg(OP_CR, cr, &v), CPU_NEXT);
    return v;
}
static void refuses(unsigned cr, uint64_t v) {
    uint64_t cr0 = s->cpu->cr0, cr3 = s->cpu->cr3, cr4 = s->cpu->cr4;
    assert_fault(s, wr(cr, v), VEC_GP, 0);
    ck_assert_uint_eq(cr0, s->cpu->cr0);
    ck_assert_uint_eq(cr3, s->cpu->cr3);
    ck_assert_uint_eq(cr4, s->cpu->cr4);
}

START_TEST(cr0_refuses_states_that_no_cpu_has) {
    uint64_t cr0 = rd(0);
    refuses(0, cr0 & ~(uint64_t)CR0_PE); /* PG without PE */
    refuses(0, cr0 | CR0_NW);            /* NW without CD */
    refuses(0, cr0 | UINT64_C(1) << 32);
    refuses(0, cr0 & ~(uint64_t)CR0_PG); /* 64-bit code cannot leave paging */
    ck_assert_int_eq(wr(0, (cr0 | CR0_TS) & ~(uint64_t)CR0_ET), CPU_STOP);
    ck_assert_uint_eq(rd(0), cr0 | CR0_TS);
    ck_assert(s->cpu->mode & MODE_NOSSE);
    struct insn in = sys_insn(4, 8);
    op_clts(s->cpu, &in);
    ck_assert_uint_eq(rd(0), cr0);
    ck_assert(!(s->cpu->mode & MODE_NOSSE));
    ck_assert_int_eq(wr(0, cr0 | 0x1ffaffc0), CPU_STOP); /* reserved bits read as 0 */
    ck_assert_uint_eq(rd(0), cr0);
    sys_cpl(s, 3);
    refuses(0, cr0);
}
END_TEST

START_TEST(long_mode_is_left_and_entered_by_cr0_pg) {
    struct cpu *cpu = s->cpu;
    /* Compatibility code leaves long mode, and goes back. */
    cpu->seg[SEG_CS].attr = ATTR_P | ATTR_S | ATTR_DB | ATTR_G | 11;
    cpu_update_mode(cpu);
    uint64_t cr0 = cpu->cr0, cr4 = cpu->cr4;
    ck_assert_int_eq(wr(0, cr0 & ~(uint64_t)CR0_PG), CPU_STOP);
    ck_assert_uint_eq(cpu->efer & (EFER_LMA | EFER_LME), EFER_LME);
    ck_assert(!(cpu->mode & MODE_LMA));
    ck_assert_int_eq(wr(4, cr4 & ~(uint64_t)CR4_PAE), CPU_STOP);
    refuses(0, cr0); /* LME without PAE */
    ck_assert_int_eq(wr(4, cr4), CPU_STOP);
    cpu->seg[SEG_CS].attr |= ATTR_L;
    refuses(0, cr0); /* CS.L set */
    cpu->seg[SEG_CS].attr &= ~ATTR_L;
    cpu->seg[SEG_TR].attr = ATTR_P | 3;
    refuses(0, cr0); /* a 16-bit TSS */
    cpu->seg[SEG_TR].attr = ATTR_P | 11;
    ck_assert_int_eq(wr(0, cr0), CPU_STOP);
    ck_assert(cpu->efer & EFER_LMA);
    ck_assert(cpu->mode & MODE_LMA);
}
END_TEST

START_TEST(cr4_refuses_what_the_model_lacks) {
    uint64_t cr4 = rd(4);
    refuses(4, cr4 & ~(uint64_t)CR4_PAE);
    refuses(4, cr4 | CR4_LA57); /* not in the model */
    refuses(4, cr4 | 1u << 13); /* VMXE */
    refuses(4, cr4 | 1u << 15);
    refuses(4, cr4 | UINT64_C(1) << 40);
    refuses(4, cr4 | CR4_PKE);
    s->cpu->cr3 |= 0x18;
    refuses(4, cr4 | CR4_PCIDE); /* CR3's low bits are not 0 */
    s->cpu->cr3 &= ~UINT64_C(0xfff);
    ck_assert_int_eq(wr(4, cr4 | CR4_PCIDE | CR4_SMEP | CR4_SMAP), CPU_STOP);
    ck_assert_uint_eq(rd(4), cr4 | CR4_PCIDE | CR4_SMEP | CR4_SMAP);
    /* AC lets supervisor code at user pages. */
    struct insn in = sys_insn(4, 8);
    uint64_t v;
    assert_fault(s, cpu_read_lin(s->cpu, 0x1000, &v, 8, cpu_tlb_mode(s->cpu)), VEC_PF,
                 PN_PF_PRESENT);
    ck_assert_int_eq(op_stac(s->cpu, &in), CPU_STOP);
    ck_assert_int_eq(cpu_read_lin(s->cpu, 0x1000, &v, 8, cpu_tlb_mode(s->cpu)), CPU_NEXT);
    ck_assert_int_eq(op_stac(s->cpu, &in), CPU_NEXT);
    ck_assert_int_eq(op_clac(s->cpu, &in), CPU_STOP);
    assert_fault(s, cpu_read_lin(s->cpu, 0x1000, &v, 8, cpu_tlb_mode(s->cpu)), VEC_PF,
                 PN_PF_PRESENT);
    sys_cpl(s, 3);
    ck_assert_int_eq(op_stac(s->cpu, &in), CPU_FAULT);
    ck_assert_uint_eq(s->cpu->fault.vector, VEC_UD);
}
END_TEST

START_TEST(a_load_of_cr3_is_seen_at_once) {
    uint64_t v;
    refuses(3, SYS_TABLES | UINT64_C(1) << 46);
    refuses(3, SYS_TABLES | CR3_NOFLUSH); /* PCIDE is off */
    ck_assert_int_eq(wr(3, SYS_TABLES | 0x18), CPU_STOP);
    ck_assert_uint_eq(rd(3), SYS_TABLES | 0x18);
    wr(3, SYS_TABLES);
    ck_assert_int_eq(wr(4, rd(4) | CR4_PCIDE), CPU_STOP);
    ck_assert_int_eq(wr(3, SYS_TABLES | 5 | CR3_NOFLUSH), CPU_STOP);
    ck_assert_uint_eq(rd(3), SYS_TABLES | 5);
    /* Another root maps page 1 elsewhere; the switch is seen at once. */
    uint8_t *ram = s->ram;
    memcpy(ram + 0x100000, ram + SYS_TABLES, 0x4000);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t e = (0x100000 + (i + 1) * 0x1000) | 7;
        memcpy(ram + 0x100000 + i * 0x1000, &e, 8);
    }
    v = 0x50007;
    memcpy(ram + 0x103000 + 8, &v, 8);
    ram[0x50010] = 0x99, ram[0x1010] = 0x11;
    ck_assert_int_eq(cpu_read_lin(s->cpu, 0x1010, &v, 1, PN_TLB_SUPER), CPU_NEXT);
    ck_assert_uint_eq((uint8_t)v, 0x11);
    ck_assert_int_eq(wr(3, 0x100000 | 6), CPU_STOP);
    ck_assert_int_eq(cpu_read_lin(s->cpu, 0x1010, &v, 1, PN_TLB_SUPER), CPU_NEXT);
    ck_assert_uint_eq((uint8_t)v, 0x99);
}
END_TEST

START_TEST(pae_loads_its_pdptes_and_checks_them) {
    struct cpu *cpu = s->cpu;
    sys_free(s);
    s = sys_new("x86-64-v1");
    cpu = s->cpu;
    uint64_t pdpte[4] = {0x3000 | 1, 0, 0, 0x4000 | 1};
    memcpy(s->ram + 0x2020, pdpte, sizeof(pdpte));
    wr(4, CR4_PAE);
    wr(3, 0x2020);
    ck_assert_int_eq(wr(0, CR0_PE | CR0_PG), CPU_STOP);
    ck_assert(!memcmp(cpu->pdpte, pdpte, sizeof(pdpte)));
    pdpte[1] = 0x5000 | 3; /* bit 1 is reserved */
    memcpy(s->ram + 0x2020, pdpte, sizeof(pdpte));
    refuses(3, 0x2020);
    ck_assert_uint_eq(cpu->pdpte[1], 0);
    pdpte[1] = 0x5000 | 1;
    memcpy(s->ram + 0x2020, pdpte, sizeof(pdpte));
    ck_assert_int_eq(wr(3, 0x2020), CPU_STOP);
    ck_assert_uint_eq(cpu->pdpte[1], 0x5001);
}
END_TEST

START_TEST(cr2_cr8_lmsw_and_smsw_keep_to_their_bits) {
    struct insn in = sys_insn(4, 8);
    uint64_t v;
    ck_assert_int_eq(wr(8, 9), CPU_STOP);
    ck_assert_uint_eq(s->cr8, 9);
    ck_assert_uint_eq(rd(8), 9);
    refuses(8, 16);
    ck_assert_int_eq(wr(2, UINT64_C(0x123456789abc)), CPU_NEXT);
    ck_assert_uint_eq(rd(2), UINT64_C(0x123456789abc));
    ck_assert_int_eq(wr(1, 0), CPU_FAULT);
    ck_assert_uint_eq(s->cpu->fault.vector, VEC_UD);
    ck_assert_int_eq(read_reg(OP_CR, 5, &v), CPU_FAULT);
    /* LMSW sets TS but cannot clear PE. */
    in.op[0] = (struct operand){.kind = OP_REG, .reg = R_BX, .size = 2};
    s->cpu->gpr[R_BX] = CR0_TS;
    ck_assert_int_eq(op_lmsw(s->cpu, &in), CPU_STOP);
    ck_assert_uint_eq(s->cpu->cr0 & 0xf, CR0_PE | CR0_TS);
    in.op[0].size = 4;
    ck_assert_int_eq(op_smsw(s->cpu, &in), CPU_NEXT);
    ck_assert_uint_eq(s->cpu->gpr[R_BX], (uint32_t)s->cpu->cr0);
    s->cpu->cr4 |= CR4_UMIP;
    sys_cpl(s, 3);
    assert_fault(s, op_smsw(s->cpu, &in), VEC_GP, 0);
    assert_fault(s, op_lmsw(s->cpu, &in), VEC_GP, 0);
    assert_fault(s, op_clts(s->cpu, &in), VEC_GP, 0);
    assert_fault(s, op_cache(s->cpu, &in), VEC_GP, 0);
    assert_fault(s, op_invlpg(s->cpu, &in), VEC_GP, 0);
}
END_TEST

START_TEST(debug_registers_have_fixed_bits_and_a_guard) {
    uint64_t v;
    ck_assert_int_eq(read_reg(OP_DR, 6, &v), CPU_NEXT);
    ck_assert_uint_eq(v, 0xffff0ff0);
    ck_assert(write_reg(OP_DR, 0, UINT64_C(0xffffffff81000000)) != CPU_FAULT);
    ck_assert(write_reg(OP_DR, 6, 0xffffffff) != CPU_FAULT);
    read_reg(OP_DR, 6, &v);
    ck_assert_uint_eq(v, 0xffffefff);
    ck_assert(write_reg(OP_DR, 5, 0x1) != CPU_FAULT); /* DR7, DE being off */
    read_reg(OP_DR, 7, &v);
    ck_assert_uint_eq(v, 0x401);
    assert_fault(s, write_reg(OP_DR, 7, UINT64_C(1) << 32), VEC_GP, 0);
    s->cpu->cr4 |= CR4_DE;
    ck_assert_int_eq(read_reg(OP_DR, 4, &v), CPU_FAULT);
    ck_assert_uint_eq(s->cpu->fault.vector, VEC_UD);
    write_reg(OP_DR, 7, DR7_GD);
    ck_assert_int_eq(read_reg(OP_DR, 0, &v), CPU_FAULT);
    ck_assert_uint_eq(s->cpu->fault.vector, VEC_DB);
    sys_cpl(s, 3);
    assert_fault(s, read_reg(OP_DR, 0, &v), VEC_GP, 0);
}
END_TEST

START_TEST(invlpg_and_invpcid_drop_what_they_name) {
    struct insn in = sys_mem_insn(8, 0x1234);
    uint8_t v;
    uint64_t pte = 0x60007;
    s->ram[0x1010] = 1, s->ram[0x60010] = 2;
    cpu_read_lin(s->cpu, 0x1010, &v, 1, PN_TLB_SUPER);
    pn_mmu_write_phys(s->cpu->mmu, SYS_TABLES + 0x3008, &pte, 8);
    ck_assert_int_eq(op_invlpg(s->cpu, &in), CPU_STOP);
    cpu_read_lin(s->cpu, 0x1010, &v, 1, PN_TLB_SUPER);
    ck_assert_uint_eq(v, 2);
    /* INVPCID: descriptor checks, then a flush of everything. */
    uint64_t desc[2] = {0, 0x1000};
    memcpy(s->ram + 0x70000, desc, 16);
    in = sys_mem_insn(16, 0x70000);
    in.op[1] = in.op[0];
    in.op[0] = (struct operand){.kind = OP_REG, .reg = R_BX, .size = 8};
    pte = 0x1007;
    pn_mmu_write_phys(s->cpu->mmu, SYS_TABLES + 0x3008, &pte, 8);
    s->cpu->gpr[R_BX] = 2;
    ck_assert_int_eq(op_invpcid(s->cpu, &in), CPU_STOP);
    cpu_read_lin(s->cpu, 0x1010, &v, 1, PN_TLB_SUPER);
    ck_assert_uint_eq(v, 1);
    s->cpu->gpr[R_BX] = 4;
    assert_fault(s, op_invpcid(s->cpu, &in), VEC_GP, 0);
    s->cpu->gpr[R_BX] = 1;
    s->ram[0x70000] = 3; /* a PCID without PCIDE */
    assert_fault(s, op_invpcid(s->cpu, &in), VEC_GP, 0);
    s->cpu->cr4 |= CR4_PCIDE;
    ck_assert_int_eq(op_invpcid(s->cpu, &in), CPU_STOP);
    s->ram[0x70007] = 1;
    assert_fault(s, op_invpcid(s->cpu, &in), VEC_GP, 0);
    s->ram[0x70007] = 0, s->ram[0x7000e] = 0x80;
    s->cpu->gpr[R_BX] = 0;
    assert_fault(s, op_invpcid(s->cpu, &in), VEC_GP, 0);
}
END_TEST

SUITE("cr", .setup = setup, .teardown = teardown,
      .tests = {cr0_refuses_states_that_no_cpu_has,
                long_mode_is_left_and_entered_by_cr0_pg, cr4_refuses_what_the_model_lacks,
                a_load_of_cr3_is_seen_at_once, pae_loads_its_pdptes_and_checks_them,
                cr2_cr8_lmsw_and_smsw_keep_to_their_bits,
                debug_registers_have_fixed_bits_and_a_guard,
                invlpg_and_invpcid_drop_what_they_name})
