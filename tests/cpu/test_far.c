/* SPDX-License-Identifier: MIT */
/* Far transfers, IRET, system calls and flags in long mode. */
#include "fixture_flat.h"
#include "ops.h"
#include "tests/suite.h"

static uint64_t stack(unsigned i) {
    return ram_get((uint32_t)fx.cpu->gpr[R_SP] + i * 8, 8);
}
static void push(uint64_t v) {
    fx.cpu->gpr[R_SP] -= 8;
    ram_put((uint32_t)fx.cpu->gpr[R_SP], v, 8);
}
static void frame(uint64_t rip, uint16_t cs, uint64_t rflags, uint64_t rsp, uint16_t ss) {
    fx.cpu->gpr[R_SP] = 0x30000;
    push(ss);
    push(rsp);
    push(rflags);
    push(cs);
    push(rip);
}
static enum cpu_rc iretq(void) {
    struct insn in = insn_new(8);
    return op_iret(fx.cpu, &in);
}
static struct insn far_mem(unsigned opsize, uint64_t offset, uint16_t sel) {
    struct insn in = insn_mem(opsize, PAGES, opsize + 2);
    ram_put(PAGES, offset, opsize);
    ram_put(PAGES + opsize, sel, 2);
    return in;
}

START_TEST(a_far_jump_checks_its_descriptor) {
    fix_long();
    struct cpu *c = fx.cpu;
    struct insn in = far_mem(8, 0xffff800000001000, KCODE);
    ck_assert_int_eq(op_jmp_far(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0xffff800000001000);
    in = far_mem(8, 1ull << 47, KCODE);
    ck_fault(op_jmp_far(c, &in), VEC_GP, 0);
    in = far_mem(4, 0x1000, 0);
    ck_fault(op_jmp_far(c, &in), VEC_GP, 0);
    in = far_mem(4, 0x1000, KDATA);
    ck_fault(op_jmp_far(c, &in), VEC_GP, KDATA);
    in = far_mem(4, 0x1000, UCODE);
    ck_fault(op_jmp_far(c, &in), VEC_GP, UCODE);
    gdt_set(KCODE32, make_desc(0, ~0u, A_CODE32 & ~ATTR_P));
    in = far_mem(4, 0x1000, KCODE32);
    ck_fault(op_jmp_far(c, &in), VEC_NP, KCODE32);
    gdt_set(KCODE32, make_desc(0, ~0u, A_CODE32 | ATTR_L));
    ck_fault(op_jmp_far(c, &in), VEC_GP, KCODE32);
    gdt_set(KCODE32, make_desc(0, 0xfff, A_CODE32 & ~ATTR_G));
    ck_fault(op_jmp_far(c, &in), VEC_GP, 0);
    gdt_set(KCODE32, make_desc(0, ~0u, A_CODE32));
    /* Call into compatibility mode and back. */
    c->rip = 0x8000;
    in = far_mem(4, 0x1000, KCODE32);
    ck_assert_int_eq(op_call_far(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->mode & (MODE_CODE64 | MODE_CODE32 | MODE_LMA),
                      MODE_CODE32 | MODE_LMA);
    ck_assert_uint_eq(ram_get(0x30000 - 8, 4), 0x8002);
    ck_assert_uint_eq(ram_get(0x30000 - 4, 4), KCODE);
    in = insn_new(4);
    in.opcode = 0xca;
    in.imm = 8;
    ck_assert_int_eq(op_ret_far(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x8002);
    ck_assert_uint_eq(c->gpr[R_SP], 0x30008);
    ck_assert(c->mode & MODE_CODE64);
}
END_TEST

START_TEST(a_call_gate_leads_to_ring_0_and_its_stack) {
    fix_long();
    struct cpu *c = fx.cpu;
    uint64_t target = 0xffff800000002000;
    ram_put(GDT + GATE_SEL,
            (target & 0xffff) | KCODE << 16 | 0xecull << 40 | (target & 0xffff0000) << 32,
            8);
    ram_put(GDT + GATE_SEL + 8, target >> 32, 8);
    fix_user();
    c->gpr[R_SP] = 0x40000;
    struct insn in = far_mem(4, 0xdead, GATE_SEL | 3);
    ck_assert_int_eq(op_call_far(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, target);
    ck_assert_uint_eq(c->cpl, 0);
    ck_assert_uint_eq(c->gpr[R_SP], 0x28000 - 32);
    ck_assert_uint_eq(stack(0), 0x8002);
    ck_assert_uint_eq(stack(1), UCODE | 3);
    ck_assert_uint_eq(stack(2), 0x40000);
    ck_assert_uint_eq(stack(3), UDATA | 3);
    /* And back with RETF: DS of ring 0 goes. */
    seg_set(&c->seg[SEG_DS], KDATA, ram_get(GDT + KDATA, 8));
    seg_set(&c->seg[SEG_ES], UDATA, ram_get(GDT + UDATA, 8));
    in = insn_new(8);
    in.opcode = 0xcb;
    ck_assert_int_eq(op_ret_far(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->cpl, 3);
    ck_assert_uint_eq(c->gpr[R_SP], 0x40000);
    ck_assert_uint_eq(c->seg[SEG_DS].sel, 0);
    ck_assert_uint_eq(c->seg[SEG_ES].sel, UDATA);
    /* A JMP may not go inward; an upper half with a type is no gate. */
    in = far_mem(4, 0, GATE_SEL | 3);
    ck_fault(op_jmp_far(c, &in), VEC_GP, KCODE);
    ram_put(GDT + GATE_SEL + 13, 1, 1);
    ck_fault(op_call_far(c, &in), VEC_GP, GATE_SEL);
    ram_put(GDT + GATE_SEL + 5, 0x8c, 1);
    ck_fault(op_call_far(c, &in), VEC_GP, GATE_SEL); /* DPL 0 */
}
END_TEST

START_TEST(a_call_gate_in_the_same_ring_keeps_the_stack) {
    fix_long();
    struct cpu *c = fx.cpu;
    ram_put(GDT + GATE_SEL, 0x2000 | KCODE << 16 | 0x8cull << 40, 8);
    ram_put(GDT + GATE_SEL + 8, 0, 8);
    struct insn in = far_mem(4, 0, GATE_SEL);
    ck_assert_int_eq(op_call_far(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x2000);
    ck_assert_uint_eq(c->gpr[R_SP], 0x30000 - 16);
    ck_assert_uint_eq(stack(0), 0x8002);
    ck_assert_uint_eq(stack(1), KCODE);
    ck_assert_int_eq(op_jmp_far(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->gpr[R_SP], 0x30000 - 16);
    /* From ring 3 to conforming code: the ring and the stack stay. */
    ram_put(GDT + GATE_SEL, 0x3000 | CONFORM << 16 | 0xecull << 40, 8);
    fix_user();
    ck_assert_int_eq(op_call_far(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->cpl, 3);
    ck_assert_uint_eq(c->seg[SEG_CS].sel, CONFORM | 3);
    /* Code segments that a gate may not name. */
    static const struct {
        uint16_t sel;
        uint8_t vector;
        long error;
    } bad[] = {{0, VEC_GP, 0}, {KDATA, VEC_GP, KDATA}, {KCODE32, VEC_GP, KCODE32}};
    for (unsigned i = 0; i < 3; i++) {
        ram_put(GDT + GATE_SEL, 0x3000 | (uint64_t)bad[i].sel << 16 | 0xecull << 40, 8);
        ck_fault(op_call_far(c, &in), bad[i].vector, bad[i].error);
    }
    gdt_set(KCODE, make_desc(0, ~0u, A_CODE64 & ~ATTR_P));
    ram_put(GDT + GATE_SEL, 0x3000 | KCODE << 16 | 0xecull << 40, 8);
    ck_fault(op_call_far(c, &in), VEC_NP, KCODE);
    c->gdtr.limit = GATE_SEL + 7; /* its upper half is beyond the table */
    ck_fault(op_call_far(c, &in), VEC_GP, GATE_SEL);
}
END_TEST

START_TEST(iretq_goes_to_ring_3) {
    fix_long();
    struct cpu *c = fx.cpu;
    frame(0x400000, UCODE | 3, 2 | FL_IF | FL_CF | FL_IOPL, 0x7fff0000, UDATA | 3);
    c->seg[SEG_FS].base = 0x123456789000; /* null selector: the base stays */
    c->seg[SEG_FS].attr = ATTR_UNUSABLE;
    ck_assert_int_eq(iretq(), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x400000);
    ck_assert_uint_eq(c->gpr[R_SP], 0x7fff0000);
    ck_assert_uint_eq(c->cpl, 3);
    ck_assert_uint_eq(cpu_rflags(c), 2 | FL_IF | FL_CF | FL_IOPL);
    ck_assert_uint_eq(c->seg[SEG_DS].sel, 0);
    ck_assert_uint_eq(c->seg[SEG_FS].base, 0x123456789000);
    ck_assert_uint_eq(cpu_tlb_mode(c), PN_TLB_USER);
}
END_TEST

START_TEST(iretq_refuses_frames_that_do_not_fit) {
    fix_long();
    struct cpu *c = fx.cpu;
    frame(0, 0, 2, 0, 0);
    ck_fault(iretq(), VEC_GP, 0);
    frame(0, KDATA, 2, 0, 0);
    ck_fault(iretq(), VEC_GP, KDATA);
    frame(0, UCODE, 2, 0, 0); /* RPL 0, DPL 3 */
    ck_fault(iretq(), VEC_GP, UCODE);
    frame(1ull << 47, KCODE, 2, 0, 0);
    ck_fault(iretq(), VEC_GP, 0);
    frame(0, UCODE | 3, 2, 0, 0); /* null SS for ring 3 */
    ck_fault(iretq(), VEC_GP, 0);
    frame(0, UCODE | 3, 2, 0, KDATA | 3);
    ck_fault(iretq(), VEC_GP, KDATA);
    frame(0, UCODE | 3, 2, 0, UDATA);
    ck_fault(iretq(), VEC_GP, UDATA);
    frame(0, KCODE, 2, 0, ABSENT);
    ck_fault(iretq(), VEC_SS, ABSENT);
    frame(0x1234, KCODE, 2, 0x29000, 0); /* null SS for ring 0 is fine */
    c->sys_flags |= FL_NT;
    ck_fault(iretq(), VEC_GP, 0);
    c->sys_flags &= ~(uint64_t)FL_NT;
    ck_assert_int_eq(iretq(), CPU_JUMP);
    ck_assert_uint_eq(c->gpr[R_SP], 0x29000);
    /* An outer ring returns to its own: IF and IOPL stay as they are. */
    cpu_set_rflags(c, 2 | FL_IF);
    fix_user();
    frame(0x1234, UCODE | 3, 2 | FL_IOPL | FL_ID | FL_AC, 0x29000, UDATA | 3);
    ck_assert_int_eq(iretq(), CPU_JUMP);
    ck_assert_uint_eq(cpu_rflags(c), 2 | FL_IF | FL_ID | FL_AC);
    frame(0x1234, KCODE, 2, 0x29000, KDATA);
    ck_fault(iretq(), VEC_GP, KCODE);
    /* The frame's page is missing for ring 3. */
    c->gpr[R_SP] = PAGES;
    ram_put(PT, 0, 8);
    pn_mmu_invlpg(c->vmmu, PAGES);
    ck_fault(iretq(), VEC_PF, PN_PF_USER);
    c->gpr[R_SP] = 1ull << 47;
    ck_fault(iretq(), VEC_SS, 0);
}
END_TEST

START_TEST(iretq_goes_to_32_bit_code) {
    fix_long();
    frame(0x400000, UCODE32 | 3, 2, 0x1ffff0000, UDATA | 3);
    ck_assert_int_eq(iretq(), CPU_JUMP);
    ck_assert_uint_eq(fx.cpu->gpr[R_SP], 0xffff0000);
    ck_assert_uint_eq(fx.cpu->mode & (MODE_CODE64 | MODE_CODE32 | MODE_SS32 | MODE_CPL3),
                      MODE_CODE32 | MODE_SS32 | MODE_CPL3);
}
END_TEST

START_TEST(sysret_undoes_syscall) {
    fix_long();
    struct cpu *c = fx.cpu;
    struct insn in = insn_new(8);
    c->msr_star = (uint64_t)UCODE32 << 48 | (uint64_t)KCODE << 32;
    c->msr_lstar = 0xffffffff81000000;
    c->msr_sfmask = 0x47700;
    fix_user();
    cpu_set_rflags(c, 2 | FL_IF | FL_ZF | FL_TF);
    cpu_update_mode(c);
    ck_assert_int_eq(op_syscall(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0xffffffff81000000);
    ck_assert_uint_eq(c->gpr[R_CX], 0x8002);
    ck_assert_uint_eq(c->gpr[11], 2 | FL_IF | FL_ZF | FL_TF);
    ck_assert_uint_eq(cpu_rflags(c), 2 | FL_ZF);
    ck_assert_uint_eq(c->seg[SEG_CS].sel, KCODE);
    ck_assert_uint_eq(c->seg[SEG_SS].sel, KDATA);
    ck_assert_uint_eq(c->step_skip, 1);
    uint32_t mode = c->mode;
    cpu_update_mode(c);
    ck_assert_uint_eq(c->mode, mode);

    c->gpr[11] &= ~(uint64_t)FL_TF;
    ck_assert_int_eq(op_sysret(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x8002);
    ck_assert_uint_eq(c->seg[SEG_CS].sel, UCODE | 3);
    ck_assert_uint_eq(c->seg[SEG_SS].sel, UDATA | 3);
    ck_assert_uint_eq(cpu_rflags(c), 2 | FL_IF | FL_ZF);
    ck_assert_uint_eq(c->db_pending, 0);
    ck_fault(op_sysret(c, &in), VEC_GP, 0);
    op_syscall(c, &in);
    c->gpr[R_CX] = 1ull << 47;
    ck_fault(op_sysret(c, &in), VEC_GP, 0);
    c->gpr[R_CX] = 0x1fffff000;
    c->gpr[11] |= FL_TF;
    in.opsize = 4;
    ck_assert_int_eq(op_sysret(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0xfffff000);
    ck_assert_uint_eq(c->db_pending, DR6_BS);
    ck_fault(op_syscall(c, &in), VEC_UD, -1); /* compatibility mode */
    fix_long();
    c->efer &= ~(uint64_t)EFER_SCE;
    ck_fault(op_syscall(c, &in), VEC_UD, -1);
}
END_TEST

START_TEST(sysexit_undoes_sysenter) {
    fix_long();
    struct cpu *c = fx.cpu;
    struct insn in = insn_new(4);
    ck_fault(op_sysenter(c, &in), VEC_GP, 0);
    c->msr_sysenter_cs = KCODE;
    c->msr_sysenter_eip = 0xffffffff81000000;
    c->msr_sysenter_esp = 0xffffffff82000000;
    fix_user();
    cpu_set_rflags(c, 2 | FL_IF);
    ck_assert_int_eq(op_sysenter(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0xffffffff81000000);
    ck_assert_uint_eq(c->gpr[R_SP], 0xffffffff82000000);
    ck_assert_uint_eq(cpu_rflags(c), 2);
    ck_assert(c->mode & MODE_CODE64);
    c->gpr[R_DX] = 0x100001000;
    c->gpr[R_CX] = 0x2000;
    ck_assert_int_eq(op_sysexit(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x1000);
    ck_assert_uint_eq(c->seg[SEG_CS].sel, (KCODE + 16) | 3);
    ck_assert(!(c->mode & MODE_CODE64));
    ck_fault(op_sysexit(c, &in), VEC_GP, 0);
    op_sysenter(c, &in);
    in.opsize = 8;
    c->gpr[R_DX] = 0x100001000;
    ck_assert_int_eq(op_sysexit(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x100001000);
    ck_assert_uint_eq(c->seg[SEG_CS].sel, (KCODE + 32) | 3);
}
END_TEST

START_TEST(popf_changes_what_the_privilege_allows) {
    fix_long();
    struct cpu *c = fx.cpu;
    struct insn in = insn_new(8);
    c->gpr[R_SP] = 0x30000;
    push(~0ull);
    ck_assert_int_eq(op_popf(c, &in), CPU_STOP); /* TF, AC: another mode */
    ck_assert_uint_eq(cpu_rflags(c), 2 | FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL |
                                         FL_NT | FL_AC | FL_ID);
    ck_assert_int_eq(op_pushf(c, &in), CPU_NEXT);
    ck_assert_uint_eq(stack(0), cpu_rflags(c));
    cpu_set_rflags(c, 2);
    cpu_update_mode(c);
    push(2 | FL_IF | FL_CF);
    ck_assert_int_eq(op_popf(c, &in), CPU_NEXT);
    c->intr_line = 1;
    push(2 | FL_IF);
    ck_assert_int_eq(op_popf(c, &in), CPU_STOP);
    c->intr_line = 0;
    fix_user();
    push(2 | FL_IOPL);
    ck_assert_int_eq(op_popf(c, &in), CPU_NEXT);
    ck_assert_uint_eq(cpu_rflags(c), 2 | FL_IF);
    ck_fault(op_cli(c, &in), VEC_GP, 0);
    ck_fault(op_sti(c, &in), VEC_GP, 0);
    ck_fault(op_hlt(c, &in), VEC_GP, 0);
    cpu_set_rflags(c, 2 | FL_IOPL);
    cpu_update_mode(c);
    ck_assert_int_eq(op_sti(c, &in), CPU_NEXT);
    push(2);
    ck_assert_int_eq(op_popf(c, &in), CPU_NEXT);
    ck_assert_uint_eq(cpu_rflags(c), 2 | FL_IOPL); /* CPL <= IOPL: IF went */
    in.opsize = 2;
    cpu_set_rflags(c, 2 | FL_AC | FL_ID);
    c->gpr[R_SP] = 0x30000;
    push(FL_CF);
    ck_assert_int_eq(op_popf(c, &in), CPU_NEXT);
    ck_assert_uint_eq(cpu_rflags(c), 2 | FL_AC | FL_ID | FL_CF);
}
END_TEST

START_TEST(hlt_halts_and_ud2_is_undefined) {
    fix_long();
    struct insn in = insn_new(8);
    ck_assert_int_eq(op_hlt(fx.cpu, &in), CPU_HALT);
    ck_assert_uint_eq(fx.cpu->halted, 1);
    ck_fault(op_ud(fx.cpu, &in), VEC_UD, -1);
}
END_TEST

SUITE("cpu far transfers", .setup = fix_create, .teardown = fix_destroy,
      .tests = {a_far_jump_checks_its_descriptor,
                a_call_gate_leads_to_ring_0_and_its_stack,
                a_call_gate_in_the_same_ring_keeps_the_stack, iretq_goes_to_ring_3,
                iretq_refuses_frames_that_do_not_fit, iretq_goes_to_32_bit_code,
                sysret_undoes_syscall, sysexit_undoes_sysenter,
                popf_changes_what_the_privilege_allows, hlt_halts_and_ud2_is_undefined})
