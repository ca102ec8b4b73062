/* SPDX-License-Identifier: MIT */
/* Real, protected and virtual-8086 mode: transfers, gates, tasks, near branches. */
#include "fixture_flat.h"
#include "ops.h"
#include "tests/suite.h"

static uint64_t stack32(unsigned i) {
    return ram_get((uint32_t)(fx.cpu->seg[SEG_SS].base + fx.cpu->gpr[R_SP]) + i * 4, 4);
}
static void push32(uint32_t v) {
    fx.cpu->gpr[R_SP] -= 4;
    ram_put((uint32_t)(fx.cpu->seg[SEG_SS].base + fx.cpu->gpr[R_SP]), v, 4);
}
static struct insn far_imm(unsigned opsize, uint64_t offset, uint16_t sel) {
    struct insn in = insn_new(opsize);
    in.op[0] = (struct operand){.kind = OP_IMM, .size = (uint8_t)opsize};
    in.imm = offset;
    in.imm2 = sel;
    return in;
}

/* ---- Real mode ---- */

START_TEST(far_calls_and_interrupts_work_in_real_mode) {
    fix_real();
    struct cpu *c = fx.cpu;
    struct insn in = far_imm(2, 0x1234, 0x3000);
    ck_assert_int_eq(op_call_far(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->seg[SEG_CS].base + c->rip, 0x31234);
    ck_assert_uint_eq(c->gpr[R_SP], 0xffc);
    ck_assert_uint_eq(ram_get(0x20ffc, 4), 0x10000002);
    in = insn_new(2);
    in.opcode = 0xcb;
    ck_assert_int_eq(op_ret_far(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->seg[SEG_CS].base + c->rip, 0x10002);
    /* INT 21h and IRET; the flags image has 16 bits. */
    ram_put(0x21 * 4, 0x40005678, 4);
    cpu_set_rflags(c, 2 | FL_IF | FL_CF | FL_ID);
    in = insn_new(2);
    in.imm = 0x21;
    ck_assert_int_eq(op_int(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->seg[SEG_CS].base + c->rip, 0x45678);
    ck_assert_uint_eq(cpu_rflags(c), 2 | FL_CF | FL_ID);
    ck_assert_uint_eq(ram_get(0x20ffa, 2), 4);
    in = insn_new(2);
    ck_assert_int_eq(op_iret(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 4);
    ck_assert_uint_eq(cpu_rflags(c), 2 | FL_IF | FL_CF | FL_ID);
    /* No error code is pushed; SP wraps; a vector beyond the IDT shuts down. */
    c->gpr[R_SP] = 0x10002;
    cpu_raise_code(c, VEC_GP, 5);
    ck_assert_int_eq(cpu_deliver_fault(c), CPU_JUMP);
    ck_assert_uint_eq(c->gpr[R_SP], 0x1fffc);
    c->idtr.limit = 0;
    cpu_raise(c, VEC_UD);
    ck_assert_int_eq(cpu_deliver_fault(c), CPU_SHUTDOWN);
}
END_TEST

START_TEST(near_branches_wrap_at_64k_in_16_bit_code) {
    fix_real();
    struct cpu *c = fx.cpu;
    struct insn in = far_imm(2, 0x18000, 0);
    ck_assert_int_eq(op_call_near(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x8000);
    ck_assert_uint_eq(ram_get(0x20ffe, 2), 2);
    in = insn_new(2);
    in.opcode = 0xc2;
    in.imm = 4;
    ck_assert_int_eq(op_ret_near(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 2);
    ck_assert_uint_eq(c->gpr[R_SP], 0x1004);
    in = far_imm(2, 0x100, 0);
    in.opcode = 0x74; /* JZ */
    op_jcc(c, &in);
    ck_assert_uint_eq(c->rip, 4);
    cpu_set_arith_flags(c, FL_ZF);
    op_jcc(c, &in);
    ck_assert_uint_eq(c->rip, 0x100);
    in.rip = 0x200;
    in.opcode = 0x7f; /* JNLE */
    op_jcc(c, &in);
    ck_assert_uint_eq(c->rip, 0x202);
    cpu_set_arith_flags(c, FL_SF | FL_OF);
    op_jcc(c, &in);
    ck_assert_uint_eq(c->rip, 0x100);
    in.opcode = 0xe2; /* LOOP, by CX */
    in.addrsize = 2;
    c->gpr[R_CX] = 0x10001;
    op_loop(c, &in);
    ck_assert_uint_eq(c->rip, 0x202);
    ck_assert_uint_eq(c->gpr[R_CX], 0x10000);
    op_jcxz(c, &in);
    ck_assert_uint_eq(c->rip, 0x100);
    in.opcode = 0xe1; /* LOOPE with ZF clear */
    op_loop(c, &in);
    ck_assert_uint_eq(c->rip, 0x202);
    ck_assert_uint_eq(c->gpr[R_CX], 0x1ffff);
    c->seg[SEG_CS].limit = 0xff;
    in.opcode = 0xe2;
    ck_fault(op_loop(c, &in), VEC_GP, 0);
    ck_assert_uint_eq(c->gpr[R_CX], 0x1ffff);
}
END_TEST

/* ---- Protected mode ---- */

START_TEST(a_32_bit_gate_switches_stacks) {
    fix_prot();
    struct cpu *c = fx.cpu;
    gate_set(VEC_GP, KCODE, 0x12345678, 14, 0, 0);
    fix_user();
    c->gpr[R_SP] = 0x40000;
    cpu_set_rflags(c, 2 | FL_IF);
    cpu_raise_code(c, VEC_GP, 0x18);
    ck_assert_int_eq(cpu_deliver_fault(c), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x12345678);
    ck_assert_uint_eq(c->gpr[R_SP], 0x28000 - 24);
    const uint64_t want[] = {0x18,    0x8000,   UCODE | 3, 2 | FL_IF | FL_RF,
                             0x40000, UDATA | 3};
    for (unsigned i = 0; i < 6; i++)
        ck_assert_uint_eq(stack32(i), want[i]);
    ck_assert_uint_eq(c->seg[SEG_SS].sel, KDATA);
    c->gpr[R_SP] += 4;
    struct insn in = insn_new(4);
    ck_assert_int_eq(op_iret(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->cpl, 3);
    ck_assert_uint_eq(c->gpr[R_SP], 0x40000);
    ck_assert_uint_eq(c->seg[SEG_SS].sel, UDATA | 3);
    /* Bad inner stacks. */
    ram_put(TSS + 8, 0, 4);
    struct event ev = {.vector = VEC_GP, .kind = EVENT_EXTERNAL};
    ck_fault(event_deliver(c, &ev), VEC_TS, 1);
    ram_put(TSS + 8, UDATA, 4);
    ck_fault(event_deliver(c, &ev), VEC_TS, UDATA | 1);
    ram_put(TSS + 8, ABSENT, 4);
    ck_fault(event_deliver(c, &ev), VEC_SS, ABSENT | 1);
    ram_put(TSS + 8, DOWN, 4); /* room only above 0xfff */
    ram_put(TSS + 4, 0x1008, 4);
    ck_fault(event_deliver(c, &ev), VEC_SS, DOWN | 1);
}
END_TEST

START_TEST(a_16_bit_gate_pushes_words) {
    fix_prot();
    struct cpu *c = fx.cpu;
    gate_set(0x40, KCODE, 0xdead1234, 6, 0, 0);
    struct insn in = insn_new(4);
    in.imm = 0x40;
    ck_assert_int_eq(op_int(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x1234);
    ck_assert_uint_eq(c->gpr[R_SP], 0x30000 - 6);
    in = insn_new(2);
    ck_assert_int_eq(op_iret(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x8002);
    gate_set(0x40, KCODE, 0, 14, 0, 0);
    fix_user();
    in.imm = 0x40;
    ck_fault(op_int(c, &in), VEC_GP, 0x40 * 8 + 2);
}
END_TEST

START_TEST(a_call_gate_copies_its_parameters) {
    fix_prot();
    struct cpu *c = fx.cpu;
    gdt_set(GATE_SEL, 0x5000 | KCODE << 16 | 2ull << 32 | 0xecull << 40);
    fix_user();
    c->gpr[R_SP] = 0x40000;
    push32(111);
    push32(222);
    struct insn in = far_imm(4, 0, GATE_SEL | 3);
    ck_assert_int_eq(op_call_far(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x5000);
    const uint64_t want[] = {0x8002, UCODE | 3, 222, 111, 0x3fff8, UDATA | 3};
    for (unsigned i = 0; i < 6; i++)
        ck_assert_uint_eq(stack32(i), want[i]);
    in = insn_new(4);
    in.opcode = 0xca;
    in.imm = 8;
    ck_assert_int_eq(op_ret_far(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->gpr[R_SP], 0x40000);
    ck_assert_uint_eq(c->cpl, 3);
    in = far_imm(4, 0, GATE_SEL | 3);
    gdt_set(GATE_SEL, 0x5000 | KCODE << 16 | 0x6cull << 40);
    ck_fault(op_call_far(c, &in), VEC_NP, GATE_SEL);
}
END_TEST

/* ---- Virtual-8086 mode ---- */

START_TEST(vm86_code_is_entered_by_iret_and_left_by_a_fault) {
    fix_prot();
    struct cpu *c = fx.cpu;
    gate_set(VEC_GP, KCODE, 0x5000, 14, 0, 0);
    static const uint32_t frame[] = {0x600, 0x500, 0x400, 0x300, 0x2000, 0x1000};
    for (unsigned i = 0; i < 6; i++) /* GS FS DS ES SS ESP */
        push32(frame[i]);
    push32(2 | FL_VM | FL_IF);
    push32(0x1200);
    push32(0x34);
    struct insn in = insn_new(4);
    ck_assert_int_eq(op_iret(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->mode & (MODE_VM86 | MODE_CPL3 | MODE_CODE32),
                      MODE_VM86 | MODE_CPL3);
    ck_assert_uint_eq(c->seg[SEG_CS].base + c->rip, 0x12034);
    ck_assert_uint_eq(c->seg[SEG_DS].base, 0x4000);
    ck_assert_uint_eq(c->seg[SEG_GS].limit, 0xffff);
    /* IOPL 0: INT n, PUSHF, POPF, IRET, CLI fault. */
    in = insn_new(2);
    in.imm = 0x21;
    ck_fault(op_int(c, &in), VEC_GP, 0);
    ck_fault(op_pushf(c, &in), VEC_GP, 0);
    ck_fault(op_popf(c, &in), VEC_GP, 0);
    ck_fault(op_iret(c, &in), VEC_GP, 0);
    ck_fault(op_cli(c, &in), VEC_GP, 0);
    ck_assert_int_eq(cpu_deliver_fault(c), CPU_JUMP);
    ck_assert_uint_eq(c->cpl, 0);
    ck_assert_uint_eq(c->mode & MODE_VM86, 0);
    ck_assert_uint_eq(c->gpr[R_SP], 0x28000 - 40);
    const uint64_t want[] = {0,      0x34,   0x1200, 2 | FL_VM | FL_IF | FL_RF,
                             0x1000, 0x2000, 0x300,  0x400,
                             0x500,  0x600};
    for (unsigned i = 0; i < 10; i++)
        ck_assert_uint_eq(stack32(i), want[i]);
    ck_assert(c->seg[SEG_DS].attr & ATTR_UNUSABLE);
    /* A handler that is not in ring 0. */
    c->gpr[R_SP] += 4;
    in = insn_new(4);
    ck_assert_int_eq(op_iret(c, &in), CPU_JUMP);
    gate_set(VEC_GP, UCODE, 0x5000, 14, 3, 0);
    struct event ev = {.vector = VEC_GP, .kind = EVENT_EXTERNAL};
    ck_fault(event_deliver(c, &ev), VEC_GP, UCODE | 1);
}
END_TEST

/* ---- Tasks ---- */

static void tss2_fill(void) {
    ram_put(TSS2 + 0x20, 0x9000, 4); /* EIP */
    ram_put(TSS2 + 0x24, 2, 4);
    for (unsigned i = 0; i < 8; i++)
        ram_put(TSS2 + 0x28 + i * 4, 0x1000 + i, 4);
    ram_put(TSS2 + 0x28 + R_SP * 4, 0x2c000, 4);
    static const uint16_t sel[] = {KDATA, KCODE, KDATA, KDATA, 0, UDATA};
    for (unsigned i = 0; i < 6; i++)
        ram_put(TSS2 + 0x48 + i * 4, sel[i], 4);
}

START_TEST(iret_returns_from_a_called_task) {
    fix_prot();
    struct cpu *c = fx.cpu;
    tss2_fill();
    c->gpr[R_BX] = 77;
    struct insn in = far_imm(4, 0, TASK_SEL);
    ck_assert_int_eq(op_call_far(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x9000);
    ck_assert_uint_eq(c->gpr[R_SP], 0x2c000);
    ck_assert_uint_eq(c->gpr[R_BX], 0x1003);
    ck_assert_uint_eq(c->seg[SEG_TR].sel, TSS2_SEL);
    ck_assert_uint_eq(c->seg[SEG_GS].sel, UDATA);
    ck_assert(c->seg[SEG_FS].attr & ATTR_UNUSABLE);
    ck_assert(c->sys_flags & FL_NT);
    ck_assert(c->cr0 & CR0_TS);
    ck_assert(c->mode & MODE_NOFPU);
    ck_assert_uint_eq(ram_get(TSS2, 2), TSS_SEL);
    ck_assert_uint_eq(ram_get(GDT + TSS2_SEL + 5, 1), 0x8b);
    ck_assert_uint_eq(ram_get(GDT + TSS_SEL + 5, 1), 0x8b);
    ck_assert_uint_eq(ram_get(TSS + 0x20, 4), 0x8002);
    ck_assert_uint_eq(ram_get(TSS + 0x28 + 12, 4), 77);
    ck_fault(op_call_far(c, &in), VEC_GP, TSS2_SEL); /* busy */
    in = insn_new(4);
    ck_assert_int_eq(op_iret(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x8002);
    ck_assert_uint_eq(c->gpr[R_BX], 77);
    ck_assert_uint_eq(c->seg[SEG_TR].sel, TSS_SEL);
    ck_assert(!(c->sys_flags & FL_NT));
    ck_assert_uint_eq(ram_get(GDT + TSS2_SEL + 5, 1), 0x89);
    ck_assert_uint_eq(ram_get(TSS2 + 0x24, 4) & FL_NT, 0);
    in = far_imm(4, 0, TSS2_SEL);
    ck_assert_int_eq(op_jmp_far(c, &in), CPU_JUMP);
    ck_assert_uint_eq(ram_get(GDT + TSS_SEL + 5, 1), 0x89);
    ck_assert(!(c->sys_flags & FL_NT));
}
END_TEST

START_TEST(a_task_gate_gets_the_error_code) {
    fix_prot();
    struct cpu *c = fx.cpu;
    tss2_fill();
    gate_set(VEC_GP, TSS2_SEL, 0, 5, 0, 0);
    fix_user();
    cpu_raise_code(c, VEC_GP, 0x1c);
    ck_assert_int_eq(cpu_deliver_fault(c), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x9000);
    ck_assert_uint_eq(c->cpl, 0);
    ck_assert_uint_eq(c->gpr[R_SP], 0x2bffc);
    ck_assert_uint_eq(stack32(0), 0x1c);
    ck_assert_uint_eq(ram_get(TSS + 0x20, 4), 0x8000);
    ck_assert(ram_get(TSS + 0x24, 4) & FL_RF);
    struct insn in = insn_new(4);
    c->gpr[R_SP] += 4;
    ck_assert_int_eq(op_iret(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->cpl, 3);
    ck_assert_uint_eq(c->rip, 0x8000);
}
END_TEST

START_TEST(a_bad_tss_faults_in_the_task_that_owns_the_fault) {
    fix_prot();
    struct cpu *c = fx.cpu;
    tss2_fill();
    gate_set(VEC_TS, KCODE, 0x7000, 14, 0, 0);
    gdt_set(TSS2_SEL, make_desc(TSS2, 0x66, 0x89));
    struct insn in = far_imm(4, 0, TSS2_SEL);
    ck_fault(op_jmp_far(c, &in), VEC_TS, TSS2_SEL);
    gdt_set(TSS2_SEL, make_desc(TSS2, 0x67, 0x09));
    ck_fault(op_jmp_far(c, &in), VEC_NP, TSS2_SEL);
    gdt_set(TSS2_SEL, make_desc(TSS2, 0x67, 0x89));
    /* A bad DS belongs to the new task: #TS at its EIP, on its stack. */
    ram_put(TSS2 + 0x54, KCODE | 4, 4);
    ck_assert_int_eq(op_jmp_far(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x7000);
    ck_assert_uint_eq(stack32(0), KCODE | 4);
    ck_assert_uint_eq(stack32(1), 0x9000);
    ck_assert_uint_eq(c->seg[SEG_TR].sel, TSS2_SEL);
    /* IRET by NT to a task that is not busy. */
    fix_prot();
    c->sys_flags |= FL_NT;
    ram_put(TSS, TSS2_SEL, 2);
    gdt_set(TSS2_SEL, make_desc(TSS2, 0x67, 0x89));
    in = insn_new(4);
    ck_fault(op_iret(c, &in), VEC_TS, TSS2_SEL);
}
END_TEST

START_TEST(a_16_bit_tss_switches_tasks) {
    fix_prot();
    struct cpu *c = fx.cpu;
    gdt_set(TSS2_SEL, make_desc(TSS2, 0x2b, 0x81));
    ram_put(TSS2 + 0x0e, 0x9000, 2);
    ram_put(TSS2 + 0x10, 2, 2);
    ram_put(TSS2 + 0x12 + R_SP * 2, 0xc000, 2);
    static const uint16_t sel[] = {KDATA, KCODE, KDATA, KDATA};
    for (unsigned i = 0; i < 4; i++)
        ram_put(TSS2 + 0x22 + i * 2, sel[i], 2);
    struct insn in = far_imm(4, 0, TSS2_SEL);
    ck_assert_int_eq(op_call_far(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x9000);
    ck_assert_uint_eq(c->gpr[R_SP] & 0xffff, 0xc000);
    in = insn_new(4);
    ck_assert_int_eq(op_iret(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x8002);
    ck_assert_uint_eq(ram_get(TSS2 + 0x0e, 2), 0x9002);
}
END_TEST

SUITE("cpu legacy modes", .setup = fix_create, .teardown = fix_destroy,
      .tests = {far_calls_and_interrupts_work_in_real_mode,
                near_branches_wrap_at_64k_in_16_bit_code, a_32_bit_gate_switches_stacks,
                a_16_bit_gate_pushes_words, a_call_gate_copies_its_parameters,
                vm86_code_is_entered_by_iret_and_left_by_a_fault,
                iret_returns_from_a_called_task, a_task_gate_gets_the_error_code,
                a_bad_tss_faults_in_the_task_that_owns_the_fault,
                a_16_bit_tss_switches_tasks})
