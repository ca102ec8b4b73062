/* SPDX-License-Identifier: MIT */
/* Segment registers, descriptor tables and questions about descriptors. */
#include "cpu/control.h"
#include "fixture_flat.h"
#include "ops.h"
#include "tests/suite.h"

static enum cpu_rc mov_to(unsigned seg, uint16_t sel) {
    struct insn in = insn_new(2);
    in.op[0] = (struct operand){.kind = OP_SREG, .reg = (uint8_t)seg, .size = 2};
    in.op[1] = (struct operand){.kind = OP_REG, .reg = R_AX, .size = 4};
    fx.cpu->gpr[R_AX] = sel | 0xdead0000;
    return op_mov_sreg(fx.cpu, &in);
}

START_TEST(a_data_segment_load_checks_its_descriptor) {
    fix_prot();
    struct cpu *c = fx.cpu;
    ck_assert_int_eq(mov_to(SEG_DS, KDATA), CPU_NEXT);
    ck_assert_int_eq(mov_to(SEG_ES, READONLY), CPU_STOP); /* no longer flat */
    ck_assert_uint_eq(c->mode & MODE_FLAT, 0);
    ck_assert_int_eq(mov_to(SEG_ES, KDATA), CPU_STOP);
    ck_assert_int_eq(mov_to(SEG_FS, 3), CPU_NEXT);
    ck_assert(c->seg[SEG_FS].attr & ATTR_UNUSABLE);
    ck_assert_uint_eq(c->seg[SEG_FS].sel, 3);
    ck_fault(mov_to(SEG_DS, KDATA | 3), VEC_GP, KDATA); /* RPL 3, DPL 0 */
    ck_assert_int_eq(mov_to(SEG_DS, UDATA), CPU_NEXT);
    ck_fault(mov_to(SEG_DS, ABSENT), VEC_NP, ABSENT);
    ck_fault(mov_to(SEG_DS, EXECONLY), VEC_GP, EXECONLY);
    ck_assert_int_eq(mov_to(SEG_GS, CONFORM | 3),
                     CPU_NEXT); /* conforming: no ring check */
    ck_fault(mov_to(SEG_DS, TSS_SEL), VEC_GP, TSS_SEL);
    ck_fault(mov_to(SEG_DS, GDT_END), VEC_GP, GDT_END);
    ck_fault(mov_to(SEG_DS, 0xc), VEC_GP, 0xc); /* LDT is null */
    ck_fault(mov_to(SEG_CS, KCODE), VEC_UD, -1);
    ck_assert_uint_eq(c->seg[SEG_DS].sel, UDATA);
}
END_TEST

START_TEST(ss_takes_writable_data_of_its_ring_alone) {
    fix_prot();
    ck_fault(mov_to(SEG_SS, 0), VEC_GP, 0);
    ck_fault(mov_to(SEG_SS, UDATA), VEC_GP, UDATA);
    ck_fault(mov_to(SEG_SS, KDATA | 1), VEC_GP, KDATA);
    ck_fault(mov_to(SEG_SS, READONLY), VEC_GP, READONLY);
    ck_fault(mov_to(SEG_SS, KCODE), VEC_GP, KCODE);
    ck_fault(mov_to(SEG_SS, ABSENT), VEC_SS, ABSENT);
    ck_assert_int_eq(mov_to(SEG_SS, DATA16), CPU_STOP);
    ck_assert_uint_eq(fx.cpu->mode & MODE_SS32, 0);
    ck_assert_uint_eq(fx.cpu->intr_shadow, 2);
}
END_TEST

START_TEST(long_mode_takes_a_null_ss_below_ring_3) {
    fix_long();
    ck_assert_int_eq(mov_to(SEG_SS, 0), CPU_NEXT);
    ck_fault(mov_to(SEG_SS, 1), VEC_GP, 0);
    fix_user();
    ck_fault(mov_to(SEG_SS, 3), VEC_GP, 0);
}
END_TEST

START_TEST(a_load_sets_the_accessed_bit_in_either_table) {
    fix_prot();
    gdt_set(KDATA, make_desc(0x1000, 0xffff, 0x92));
    ck_assert_int_eq(mov_to(SEG_DS, KDATA), CPU_STOP);
    ck_assert_uint_eq(ram_get(GDT + KDATA + 5, 1), 0x93);
    ck_assert_uint_eq(fx.cpu->seg[SEG_DS].base, 0x1000);
    struct insn in = insn_reg(2, R_AX, 2);
    fx.cpu->gpr[R_AX] = LDT_SEL;
    ck_assert_int_eq(op_lldt(fx.cpu, &in), CPU_NEXT);
    ram_put(LDT + 8, make_desc(0x2000, 0xfff, 0xf3), 8);
    ck_assert_int_eq(mov_to(SEG_ES, 0xf), CPU_NEXT);
    ck_assert_uint_eq(fx.cpu->seg[SEG_ES].base, 0x2000);
    ck_fault(mov_to(SEG_ES, 0x104), VEC_GP, 0x104);
    fx.cpu->gpr[R_AX] = 0;
    ck_assert_int_eq(op_lldt(fx.cpu, &in), CPU_NEXT);
    ck_fault(mov_to(SEG_ES, 0xf), VEC_GP, 0xc);
}
END_TEST

START_TEST(a_real_mode_load_keeps_the_limit) {
    fix_real();
    fx.cpu->seg[SEG_DS].limit = 0xffffffff; /* unreal */
    ck_assert_int_ne(mov_to(SEG_DS, 0x1234), CPU_FAULT);
    ck_assert_uint_eq(fx.cpu->seg[SEG_DS].base, 0x12340);
    ck_assert_uint_eq(fx.cpu->seg[SEG_DS].limit, 0xffffffff);
}
END_TEST

START_TEST(segments_are_pushed_popped_and_loaded_with_pointers) {
    fix_prot();
    struct cpu *c = fx.cpu;
    struct insn in = insn_new(4);
    in.op[0] = (struct operand){.kind = OP_SREG, .reg = SEG_DS, .size = 2};
    ram_put(0x2fffc, 0xffffffff, 4);
    ck_assert_int_eq(op_push_sreg(c, &in), CPU_NEXT);
    ck_assert_uint_eq(c->gpr[R_SP], 0x2fffc);
    ck_assert_uint_eq(ram_get(0x2fffc, 4), 0xffff0000 | KDATA);
    in.op[0].reg = SEG_FS;
    ck_assert_int_eq(op_pop_sreg(c, &in), CPU_NEXT);
    ck_assert_uint_eq(c->gpr[R_SP], 0x30000);
    struct insn lss = insn_mem(4, PAGES, 6);
    lss.op[1] = lss.op[0];
    lss.op[0] = (struct operand){.kind = OP_REG, .reg = R_SP, .size = 4};
    lss.opcode = 0xb2;
    ram_put(PAGES, 0x12345, 4);
    ram_put(PAGES + 4, DATA16, 2);
    ck_assert_int_eq(op_load_far_pointer(c, &lss), CPU_STOP);
    ck_assert_uint_eq(c->gpr[R_SP], 0x12345);
    ck_assert_uint_eq(c->seg[SEG_SS].sel, DATA16);
    ram_put(PAGES + 4, ABSENT, 2);
    ck_fault(op_load_far_pointer(c, &lss), VEC_SS, ABSENT);
    ck_assert_uint_eq(c->seg[SEG_SS].sel, DATA16);
}
END_TEST

/* ---- Bases ---- */

START_TEST(fs_and_gs_bases_are_canonical_and_swapped) {
    fix_long();
    struct cpu *c = fx.cpu;
    struct insn in = insn_reg(8, R_AX, 8);
    c->gpr[R_AX] = 1ull << 47;
    ck_fault(op_wrfsbase(c, &in), VEC_UD, -1); /* CR4.FSGSBASE is clear */
    c->cr4 |= CR4_FSGSBASE;
    ck_fault(op_wrfsbase(c, &in), VEC_GP, 0);
    c->gpr[R_AX] = 0xffff888000000000;
    ck_assert_int_eq(op_wrgsbase(c, &in), CPU_NEXT);
    c->msr_kernel_gs_base = 0x77;
    ck_assert_int_eq(op_swapgs(c, &in), CPU_NEXT);
    ck_assert_uint_eq(c->seg[SEG_GS].base, 0x77);
    ck_assert_uint_eq(c->msr_kernel_gs_base, 0xffff888000000000);
    ck_assert_int_eq(op_rdgsbase(c, &in), CPU_NEXT);
    ck_assert_uint_eq(c->gpr[R_AX], 0x77);
    mov_to(SEG_GS, 0);
    ck_assert_uint_eq(c->seg[SEG_GS].base, 0);
    fix_user();
    ck_fault(op_swapgs(c, &in), VEC_GP, 0);
}
END_TEST

/* ---- Tables ---- */

START_TEST(lgdt_and_lidt_are_read_back_by_sgdt_and_sidt) {
    fix_long();
    struct cpu *c = fx.cpu;
    struct insn in = insn_mem(8, PAGES, 10);
    ram_put(PAGES, 0x7f, 2);
    ram_put(PAGES + 2, 0xffffff8000001000, 8);
    ck_assert_int_eq(op_lidt(c, &in), CPU_NEXT);
    ck_assert_uint_eq(c->idtr.base, 0xffffff8000001000);
    ck_assert_uint_eq(c->idtr.limit, 0x7f);
    ram_put(PAGES + 2, 1ull << 47, 8);
    ck_fault(op_lgdt(c, &in), VEC_GP, 0);
    in.disp = PAGES + 0x20;
    ck_assert_int_eq(op_sidt(c, &in), CPU_NEXT);
    ck_assert_uint_eq(ram_get(PAGES + 0x20, 2), 0x7f);
    ck_assert_uint_eq(ram_get(PAGES + 0x22, 8), 0xffffff8000001000);
    fix_user();
    ck_assert_int_eq(op_sidt(c, &in), CPU_NEXT);
    c->cr4 |= CR4_UMIP;
    ck_fault(op_sidt(c, &in), VEC_GP, 0);
    ck_fault(op_str(c, &in), VEC_GP, 0);
    ck_fault(op_lgdt(c, &in), VEC_GP, 0);
}
END_TEST

START_TEST(ltr_takes_an_available_tss_and_makes_it_busy) {
    fix_long();
    struct cpu *c = fx.cpu;
    struct insn in = insn_reg(2, R_AX, 2);
    c->gpr[R_AX] = 0;
    ck_fault(op_ltr(c, &in), VEC_GP, 0);
    c->gpr[R_AX] = TSS_SEL; /* busy already */
    ck_fault(op_ltr(c, &in), VEC_GP, TSS_SEL);
    gdt_set(TSS_SEL, make_desc(TSS, 0x67, 0x09));
    ck_fault(op_ltr(c, &in), VEC_NP, TSS_SEL);
    gdt_set(TSS_SEL, make_desc(TSS, 0x67, 0x89));
    ram_put(GDT + TSS_SEL + 8, 0xffffff80, 4);
    ck_assert_int_eq(op_ltr(c, &in), CPU_NEXT);
    ck_assert_uint_eq(c->seg[SEG_TR].base, 0xffffff8000000000 | TSS);
    ck_assert_uint_eq(ram_get(GDT + TSS_SEL + 5, 1), 0x8b);
    gdt_set(TSS_SEL, make_desc(TSS, 0x67, 0x81)); /* 16-bit: not in long mode */
    ck_fault(op_ltr(c, &in), VEC_GP, TSS_SEL);
    c->gpr[R_AX] = TSS_SEL | 4;
    ck_fault(op_ltr(c, &in), VEC_GP, TSS_SEL | 4);
    fix_real();
    c->cr0 = 0x10;
    cpu_update_mode(c);
    ck_fault(op_ltr(c, &in), VEC_UD, -1);
}
END_TEST

/* ---- Addresses as wide as CPUID says ---- */

#define WIDE    UINT64_C(0x00f0000000000000) /* canonical with 57 bits, not with 48 */
#define TOO_FAR UINT64_C(0x0100000000000000)

/* Every register that takes an address, with RAX or the tables set up for it. */
static enum cpu_rc load_address(unsigned which, uint64_t address) {
    struct cpu *c = fx.cpu;
    struct insn reg = insn_reg(8, R_AX, 8), sel = insn_reg(2, R_AX, 2);
    struct insn table = insn_mem(8, PAGES, 10), pcid = insn_mem(16, PAGES + 0x40, 16);
    c->gpr[R_AX] = address;
    ram_put(PAGES + 2, address, 8);
    ram_put(PAGES + 0x48, address, 8);
    pcid.op[0] = (struct operand){.kind = OP_REG, .reg = R_BX, .size = 8};
    c->gpr[R_BX] = 0;
    gdt_set(TSS_SEL, make_desc(TSS, 0x67, 0x89));
    ram_put(GDT + TSS_SEL + 8, address >> 32, 4);
    ram_put(GDT + LDT_SEL + 8, address >> 32, 4);
    switch (which) {
    case 0:
        return op_wrfsbase(c, &reg);
    case 1:
        return op_wrgsbase(c, &reg);
    case 2:
        return op_lgdt(c, &table);
    case 3:
        return op_lidt(c, &table);
    case 4:
        c->gpr[R_AX] = TSS_SEL;
        return op_ltr(c, &sel);
    case 5:
        c->gpr[R_AX] = LDT_SEL;
        return op_lldt(c, &sel);
    case 6:
        return op_invpcid(c, &pcid);
    default:
        return msr_write(c, which == 7 ? MSR_KERNEL_GS_BASE : MSR_LSTAR, address);
    }
}
#define ADDRESSES 9

START_TEST(what_holds_an_address_takes_as_many_bits_as_the_model_has) {
    char err[128];
    struct cpu_model *wide, *narrow = fx.model;
    ck_assert_int_eq(cpu_model_parse("max,+la57", &wide, err, sizeof err), 0);
    for (unsigned i = 0; i < ADDRESSES; i++) {
        fix_long(); /* CR4.LA57 is clear */
        fx.cpu->cr4 |= CR4_FSGSBASE;
        fx.cpu->model = wide;
        ck_assert_int_ne(load_address(i, WIDE), CPU_FAULT);
        fx.cpu->gdtr.base = GDT;
        ck_assert_int_eq(load_address(i, TOO_FAR), CPU_FAULT);
        ck_assert_uint_eq(fx.cpu->fault.vector, VEC_GP);
        fx.cpu->model = narrow;
        ck_assert_int_eq(load_address(i, WIDE), CPU_FAULT);
    }
    /* What is there is out of reach all the same. */
    struct cpu *c = fx.cpu;
    uint64_t v;
    c->seg[SEG_FS].base = WIDE;
    ck_fault(seg_read(c, SEG_FS, 0, &v, 8), VEC_GP, 0);
    cpu_model_free(wide);
}
END_TEST

static bool ask(enum cpu_rc (*op)(struct cpu *, const struct insn *), uint16_t sel) {
    struct insn in = insn_reg(4, R_DX, 4);
    in.op[1] = (struct operand){.kind = OP_REG, .reg = R_AX, .size = 4};
    if (op == op_verr || op == op_verw)
        in.op[0] = in.op[1];
    fx.cpu->gpr[R_AX] = sel;
    fx.cpu->gpr[R_DX] = 0xbad;
    ck_assert_int_eq(op(fx.cpu, &in), CPU_NEXT);
    return cpu_arith_flags(fx.cpu) & FL_ZF;
}

START_TEST(lar_lsl_verr_and_verw_answer_by_privilege) {
    fix_prot();
    ck_assert(ask(op_lar, KDATA));
    ck_assert_uint_eq(fx.cpu->gpr[R_DX], 0xcf9300);
    ck_assert(ask(op_lsl, KDATA));
    ck_assert_uint_eq(fx.cpu->gpr[R_DX], 0xffffffff);
    ck_assert(ask(op_lsl, TSS_SEL));
    ck_assert_uint_eq(fx.cpu->gpr[R_DX], 0x67);
    ck_assert(!ask(op_lar, 0));
    ck_assert_uint_eq(fx.cpu->gpr[R_DX], 0xbad);
    ck_assert(!ask(op_lar, GDT_END));
    ck_assert(ask(op_lar, TASK_SEL));
    ck_assert(!ask(op_lsl, TASK_SEL));
    ck_assert(!ask(op_lar, KDATA | 3));
    ck_assert(ask(op_lar, CONFORM | 3));
    ck_assert(ask(op_lar, ABSENT));
    ck_assert(ask(op_verr, READONLY) && !ask(op_verw, READONLY));
    ck_assert(ask(op_verw, KDATA) && !ask(op_verw, KCODE) && !ask(op_verr, EXECONLY));
    ck_assert(!ask(op_verr, TSS_SEL));
    fix_user();
    ck_assert(!ask(op_verr, KDATA) && ask(op_verr, UDATA | 3));
    fix_long();
    ck_assert(!ask(op_lar, TASK_SEL));
    ck_assert(ask(op_lar, TSS_SEL));
}
END_TEST

START_TEST(arpl_raises_the_rpl_and_says_so) {
    fix_prot();
    struct insn in = insn_reg(2, R_AX, 2);
    in.op[1] = (struct operand){.kind = OP_REG, .reg = R_BX, .size = 2};
    fx.cpu->gpr[R_AX] = 0x10;
    fx.cpu->gpr[R_BX] = 3;
    ck_assert_int_eq(op_arpl(fx.cpu, &in), CPU_NEXT);
    ck_assert_uint_eq(fx.cpu->gpr[R_AX], 0x13);
    ck_assert(cpu_arith_flags(fx.cpu) & FL_ZF);
    op_arpl(fx.cpu, &in);
    ck_assert(!(cpu_arith_flags(fx.cpu) & FL_ZF));
}
END_TEST

SUITE("cpu segments", .setup = fix_create, .teardown = fix_destroy,
      .tests = {
          a_data_segment_load_checks_its_descriptor,
          ss_takes_writable_data_of_its_ring_alone,
          long_mode_takes_a_null_ss_below_ring_3,
          a_load_sets_the_accessed_bit_in_either_table, a_real_mode_load_keeps_the_limit,
          segments_are_pushed_popped_and_loaded_with_pointers,
          fs_and_gs_bases_are_canonical_and_swapped,
          lgdt_and_lidt_are_read_back_by_sgdt_and_sidt,
          ltr_takes_an_available_tss_and_makes_it_busy,
          what_holds_an_address_takes_as_many_bits_as_the_model_has,
          lar_lsl_verr_and_verw_answer_by_privilege, arpl_raises_the_rpl_and_says_so})
