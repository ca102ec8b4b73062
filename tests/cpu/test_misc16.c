/* SPDX-License-Identifier: MIT */
/* Stack and decimal instructions of 16- and 32-bit code. */
#include <string.h>

#include "fixture_sys.h"
#include "ops.h"
#include "tests/suite.h"

static struct sys *s;
static struct cpu *cpu;

/* 32-bit protected mode, flat, paging off. */
static void setup(void) {
    s = sys_new("x86-64-v1");
    cpu = s->cpu;
    cpu->cr0 = CR0_PE | CR0_ET;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        cpu->seg[i] = (struct pn_segment){.sel = 0x10,
                                          .attr = ATTR_P | ATTR_S | ATTR_DB | ATTR_G | 3,
                                          .limit = UINT32_MAX};
    cpu->seg[SEG_CS].attr |= 11;
    cpu_update_mode(cpu);
    cpu_update_paging(cpu);
    for (unsigned r = 0; r < 8; r++)
        cpu->gpr[r] = 0x11111111u * r + 0x1000;
    cpu->gpr[R_SP] = 0x8000;
}
static void teardown(void) {
    sys_free(s);
}

static uint64_t mem(uint64_t at, unsigned size) {
    uint64_t v = 0;
    memcpy(&v, s->ram + at, size);
    return v;
}

START_TEST(push_and_pop_of_esp_use_the_right_esp) {
    struct insn in = sys_insn(4, 4);
    in.op[0] = (struct operand){.kind = OP_REG, .reg = R_SP, .size = 4};
    ck_assert_int_eq(op_push(cpu, &in), CPU_NEXT);
    ck_assert_uint_eq(mem(0x7ffc, 4), 0x8000); /* the old ESP */
    ck_assert_int_eq(op_pop(cpu, &in), CPU_NEXT);
    ck_assert_uint_eq(cpu->gpr[R_SP], 0x8000); /* what was popped */
    /* POP [ESP]: the address is of after the increment. */
    struct insn pop = sys_mem_insn(4, 0);
    pop.addrsize = 4, pop.base = R_SP, pop.seg = SEG_SS;
    memcpy(s->ram + 0x8000, "\x78\x56\x34\x12", 4);
    ck_assert_int_eq(op_pop(cpu, &pop), CPU_NEXT);
    ck_assert_uint_eq(mem(0x8004, 4), 0x12345678);
    ck_assert_uint_eq(cpu->gpr[R_SP], 0x8004);
    /* A destination that faults leaves ESP alone. */
    cpu->seg[SEG_DS].limit = 0xfff;
    cpu_update_mode(cpu);
    pop.seg = SEG_DS;
    assert_fault(s, op_pop(cpu, &pop), VEC_GP, 0);
    ck_assert_uint_eq(cpu->gpr[R_SP], 0x8004);
    /* 16 bits. */
    struct insn imm = sys_insn(2, 4);
    imm.op[0] = (struct operand){.kind = OP_IMM, .size = 1};
    imm.imm = (uint64_t)-2;
    ck_assert_int_eq(op_push(cpu, &imm), CPU_NEXT);
    ck_assert_uint_eq(cpu->gpr[R_SP], 0x8002);
    ck_assert_uint_eq(mem(0x8002, 2), 0xfffe);
}
END_TEST

START_TEST(popa_undoes_pusha_but_for_esp) {
    struct insn in = sys_insn(4, 4);
    uint64_t before[8];
    memcpy(before, cpu->gpr, sizeof(before));
    ck_assert_int_eq(op_pusha(cpu, &in), CPU_NEXT);
    ck_assert_uint_eq(cpu->gpr[R_SP], 0x8000 - 32);
    for (unsigned r = 0; r < 8; r++)
        ck_assert_uint_eq(mem(0x8000 - 4 * (r + 1), 4), (uint32_t)before[r]);
    memset(cpu->gpr, 0, 4 * 8), cpu->gpr[R_BP] = cpu->gpr[R_SI] = cpu->gpr[R_DI] = 1;
    ck_assert_int_eq(op_popa(cpu, &in), CPU_NEXT);
    for (unsigned r = 0; r < 8; r++)
        ck_assert_uint_eq((uint32_t)cpu->gpr[r], (uint32_t)before[r]);
    in.opsize = 2;
    cpu->seg[SEG_SS].attr &= ~ATTR_DB; /* a 16-bit stack wraps */
    cpu_update_mode(cpu);
    cpu->gpr[R_SP] = 0xabcd0008;
    ck_assert_int_eq(op_pusha(cpu, &in), CPU_NEXT);
    ck_assert_uint_eq(cpu->gpr[R_SP], 0xabcdfff8);
    ck_assert_uint_eq(mem(0xfff8, 2), (uint16_t)before[R_DI]);
}
END_TEST

START_TEST(enter_builds_the_frame_that_the_host_builds) {
    /* The host's own ENTER, in 64-bit mode, is the oracle. */
    static uint64_t stack[64];
    uint64_t sp = (uintptr_t)(stack + 48), bp = (uintptr_t)(stack + 40), keep;
    for (unsigned i = 0; i < 64; i++)
        stack[i] = 0x1000 + i;
    sys_long_mode(s);
    memcpy(s->ram + 0x10000, stack, sizeof(stack));
    uint64_t delta = (uintptr_t)stack - 0x10000;
    __asm__ volatile("mov %%rbp, %[keep]\n\t"
                     "mov %%rsp, %%r12\n\t"
                     "mov %[sp], %%rsp\n\t"
                     "mov %[bp], %%rbp\n\t"
                     "enter $16, $4\n\t"
                     "mov %%rsp, %[sp]\n\t"
                     "mov %%rbp, %[bp]\n\t"
                     "mov %%r12, %%rsp\n\t"
                     "mov %[keep], %%rbp"
                     : [sp] "+S"(sp), [bp] "+D"(bp), [keep] "=&d"(keep)
                     :
                     : "r12", "memory");
    struct insn in = sys_insn(8, 8);
    in.imm = 16, in.imm2 = 4;
    cpu->gpr[R_SP] = 0x10000 + 48 * 8, cpu->gpr[R_BP] = 0x10000 + 40 * 8;
    ck_assert_int_eq(op_enter(cpu, &in), CPU_NEXT);
    ck_assert_uint_eq(cpu->gpr[R_SP], sp - delta);
    ck_assert_uint_eq(cpu->gpr[R_BP], bp - delta);
    for (unsigned i = 0; i < 64; i++) {
        uint64_t v = mem(0x10000 + 8 * i, 8);
        ck_assert(v == stack[i] || v + delta == stack[i]);
    }
    ck_assert_int_eq(op_leave(cpu, &in), CPU_NEXT);
    ck_assert_uint_eq(cpu->gpr[R_SP], 0x10000 + 48 * 8);
    ck_assert_uint_eq(cpu->gpr[R_BP], 0x10000 + 40 * 8);
}
END_TEST

/* AX and flags in, AX and CF, AF out. */
static void adjust(enum cpu_rc (*op)(struct cpu *, const struct insn *), uint64_t imm,
                   uint16_t ax, uint64_t flags, uint16_t out, uint64_t out_flags) {
    struct insn in = sys_insn(1, 4);
    in.imm = imm;
    cpu->gpr[R_AX] = 0xdead0000u | ax;
    cpu_set_arith_flags(cpu, flags);
    ck_assert_int_eq(op(cpu, &in), CPU_NEXT);
    ck_assert_uint_eq(cpu->gpr[R_AX], 0xdead0000u | out);
    ck_assert_uint_eq(cpu_arith_flags(cpu) & (FL_CF | FL_AF), out_flags);
}

START_TEST(decimal_adjustments_are_the_manuals) {
    adjust(op_daa, 0, 0x00ae, 0, 0x0014, FL_CF | FL_AF); /* SDM's example of DAA */
    adjust(op_das, 0, 0x00ee, FL_CF | FL_AF, 0x0088, FL_CF | FL_AF);
    adjust(op_daa, 0, 0x0009, 0, 0x0009, 0);
    adjust(op_daa, 0, 0x0099, FL_CF, 0x00f9, FL_CF);
    adjust(op_das, 0, 0x0005, FL_AF, 0x00ff, FL_CF | FL_AF);
    adjust(op_aaa, 0, 0x000b, 0, 0x0101, FL_CF | FL_AF);
    adjust(op_aaa, 0, 0x0105, 0, 0x0105, 0);
    adjust(op_aas, 0, 0x020b, 0, 0x0105, FL_CF | FL_AF);
    adjust(op_aam, 10, 0x0037, 0, 0x0505, 0);
    adjust(op_aad, 10, 0x0505, 0, 0x0037, 0);
    adjust(op_salc, 0, 0x0012, FL_CF, 0x00ff, FL_CF);
    struct insn in = sys_insn(1, 4);
    ck_assert_int_eq(op_aam(cpu, &in), CPU_FAULT);
    ck_assert_uint_eq(cpu->fault.vector, VEC_DE);
}
END_TEST

START_TEST(bound_and_xlat_read_their_tables) {
    struct insn in = sys_mem_insn(4, 0x2000);
    in.addrsize = 4;
    in.op[1] = in.op[0];
    in.op[0] = (struct operand){.kind = OP_REG, .reg = R_BX, .size = 4};
    int32_t pair[2] = {-5, 10};
    memcpy(s->ram + 0x2000, pair, 8);
    for (int i = -7; i < 13; i++) {
        cpu->gpr[R_BX] = (uint32_t)i;
        ck_assert_int_eq(op_bound(cpu, &in), i < -5 || i > 10 ? CPU_FAULT : CPU_NEXT);
    }
    ck_assert_uint_eq(cpu->fault.vector, 5);
    cpu->gpr[R_BX] = 0x2f00, cpu->gpr[R_AX] = 0x12345680;
    s->ram[0x2f80] = 0x42;
    ck_assert_int_eq(op_xlat(cpu, &in), CPU_NEXT);
    ck_assert_uint_eq(cpu->gpr[R_AX], 0x12345642);
}
END_TEST

SUITE("misc16", .setup = setup, .teardown = teardown,
      .tests = {push_and_pop_of_esp_use_the_right_esp, popa_undoes_pusha_but_for_esp,
                enter_builds_the_frame_that_the_host_builds,
                decimal_adjustments_are_the_manuals, bound_and_xlat_read_their_tables})
