/* SPDX-License-Identifier: MIT */
/*
 * CET and far transfers: events, IRET, far CALL and RET, SYSCALL, tasks; and the registers
 * that govern it.
 *
 * Sources: SDM volume 2, "INT n", "IRET", "CALL", "RET", "SYSCALL"; volume 3, "Task
 * Switching", "Control Registers"; volume 1, "Supervisor Shadow Stack Token", "CET_U State".
 */
#include "cpu/cet.h"
#include "cpu/control.h"
#include "fixture_flat.h"
#include "ops.h"
#include "tests/suite.h"

#define SUPER_AT 0x201000u /* a supervisor's shadow stack */
#define USER_AT  0x202000u /* a user's */
#define TOKEN    0x201ff8u /* in the last 32 bytes of its block */
#define TOKEN2   0x2017f8u
#define HANDLER  0x9000u
#define SSP_TAB  0x14800u

static void token(uint32_t at) {
    ram_put(at, at, 8);
}

/* 64-bit mode; shadow stacks in both rings. */
static void enable(void) {
    struct cpu *c = fx.cpu;
    fix_long();
    ram_put(PT + 1 * 8, SUPER_AT | 0x61, 8);
    ram_put(PT + 2 * 8, USER_AT | 0x65, 8);
    token(TOKEN);
    token(TOKEN2);
    c->cr4 |= CR4_CET;
    c->msr_u_cet = c->msr_s_cet = CET_SHSTK;
    c->msr_pl_ssp[0] = TOKEN;
    c->ssp = SUPER_AT + 0x400;
    gate_set(VEC_UD, KCODE, HANDLER, 14, 3, 0);
    cpu_update_paging(c);
    cpu_update_mode(c);
}

static void enter_user(void) {
    fix_user();
    fx.cpu->ssp = USER_AT + 0x800;
}

static enum cpu_rc ud(void) {
    cpu_raise(fx.cpu, VEC_UD);
    return cpu_deliver_fault(fx.cpu);
}

static enum cpu_rc iretq(void) {
    struct insn in = insn_new(8);
    return op_iret(fx.cpu, &in);
}

/* ---- Events ---- */

START_TEST(an_event_from_ring_3_takes_the_token_and_iret_gives_it_back) {
    struct cpu *c = fx.cpu;
    enable();
    enter_user();
    ck_assert_int_eq(ud(), CPU_JUMP);
    ck_assert_uint_eq(c->ssp, TOKEN); /* no frame of ring 3's */
    ck_assert_uint_eq(ram_get(TOKEN, 8), TOKEN | 1);
    ck_assert_uint_eq(c->msr_pl_ssp[3], USER_AT + 0x800);
    ck_assert(c->mode & MODE_SHSTK);
    ck_assert_int_eq(iretq(), CPU_JUMP);
    ck_assert_uint_eq(c->cpl, 3);
    ck_assert_uint_eq(c->ssp, USER_AT + 0x800);
    ck_assert_uint_eq(ram_get(TOKEN, 8), TOKEN);
}
END_TEST

START_TEST(an_event_in_ring_0_pushes_cs_lip_and_ssp) {
    struct cpu *c = fx.cpu;
    enable();
    c->ssp -= 4; /* not aligned: a hole of zeros */
    uint64_t old = c->ssp;
    ram_put(SUPER_AT + 0x3f8, UINT64_MAX, 8);
    ck_assert_int_eq(ud(), CPU_JUMP);
    ck_assert_uint_eq(c->ssp, SUPER_AT + 0x3f8 - 24);
    ck_assert_uint_eq(ram_get((uint32_t)c->ssp, 8), old);
    ck_assert_uint_eq(ram_get((uint32_t)c->ssp + 8, 8), 0x8000);
    ck_assert_uint_eq(ram_get((uint32_t)c->ssp + 16, 8), KCODE);
    ck_assert_uint_eq(ram_get(SUPER_AT + 0x3f8, 4), 0);
    ck_assert_int_eq(iretq(), CPU_JUMP);
    ck_assert_uint_eq(c->ssp, old);
    ck_assert_uint_eq(c->rip, 0x8000);
}
END_TEST

START_TEST(iret_to_another_place_is_a_control_protection_fault) {
    struct cpu *c = fx.cpu;
    enable();
    ck_assert_int_eq(ud(), CPU_JUMP);
    uint64_t ssp = c->ssp, rsp = c->gpr[R_SP];
    ram_put((uint32_t)rsp, 0x8001, 8);
    ck_fault(iretq(), VEC_CP, CP_FAR_RET);
    ck_assert_uint_eq(c->ssp, ssp);
    ck_assert_uint_eq(c->gpr[R_SP], rsp);
    ram_put((uint32_t)rsp, 0x8000, 8);
    ram_put((uint32_t)ssp + 16, KCODE | UINT64_C(1) << 32, 8);
    ck_fault(iretq(), VEC_CP, CP_FAR_RET);
    ram_put((uint32_t)ssp + 16, KCODE, 8);
    ram_put((uint32_t)ssp, SUPER_AT + 0x402, 8); /* SSP not aligned */
    ck_fault(iretq(), VEC_CP, CP_FAR_RET);
    c->ssp += 4;
    ck_fault(iretq(), VEC_CP, CP_FAR_RET);
}
END_TEST

/* What is wrong with the token is #GP(0), and ring 3 still is as it was. */
START_TEST(a_stack_in_use_or_misplaced_is_not_entered) {
    static const uint64_t place[] = {TOKEN, TOKEN - 4, TOKEN2 - 8, TOKEN};
    struct cpu *c = fx.cpu;
    struct event e = {.vector = VEC_UD, .kind = EVENT_FAULT, .rip = 0x8000};
    for (unsigned i = 0; i < 4; i++) {
        enable();
        enter_user();
        c->msr_pl_ssp[0] = place[i];
        ram_put((uint32_t)place[i], i == 0 ? place[i] | 1 : place[i], 8);
        if (i == 3) { /* an ordinary page */
            ram_put(PT + 1 * 8, SUPER_AT | 0x63, 8);
            pn_mmu_drop_tlb(c->vmmu);
            ck_fault(event_deliver(c, &e), VEC_PF, 0x43);
        } else {
            ck_fault(event_deliver(c, &e), VEC_GP, 0);
        }
        ck_assert_uint_eq(c->ssp, USER_AT + 0x800);
        ck_assert_uint_eq(c->cpl, 3);
        ck_assert_uint_eq(c->msr_pl_ssp[3], 0);
    }
}
END_TEST

START_TEST(an_ist_has_its_shadow_stack_in_the_table) {
    struct cpu *c = fx.cpu;
    enable();
    gate_set(VEC_UD, KCODE, HANDLER, 14, 0, 1);
    c->msr_ssp_table = SSP_TAB;
    ram_put(SSP_TAB + 8, TOKEN2, 8);
    uint64_t old = c->ssp;
    ck_assert_int_eq(ud(), CPU_JUMP);
    ck_assert_uint_eq(c->ssp, TOKEN2 - 24);
    ck_assert_uint_eq(ram_get(TOKEN2, 8), TOKEN2 | 1);
    ck_assert_uint_eq(ram_get(TOKEN2 - 24, 8), old);
    ck_assert_int_eq(iretq(), CPU_JUMP);
    ck_assert_uint_eq(c->ssp, old);
    ck_assert_uint_eq(ram_get(TOKEN2, 8), TOKEN2);
}
END_TEST

START_TEST(a_handler_begins_with_an_endbranch) {
    struct cpu *c = fx.cpu;
    enable();
    c->msr_s_cet = CET_IBT | CET_SUPPRESS;
    cpu_update_mode(c);
    ck_assert_int_eq(ud(), CPU_JUMP);
    ck_assert_uint_eq(c->msr_s_cet, CET_IBT | CET_WAIT);
    ck_assert(c->mode & MODE_WAIT);
    struct insn in = insn_new(4);
    ck_assert_int_eq(op_endbr(c, &in), CPU_STOP);
    ck_assert_uint_eq(c->msr_s_cet, CET_IBT);
    ck_assert(!(c->mode & MODE_WAIT));
}
END_TEST

/* ---- SYSCALL ---- */

START_TEST(syscall_clears_ssp_and_sysret_takes_pl3_ssp) {
    struct cpu *c = fx.cpu;
    struct insn in = insn_new(8);
    enable();
    c->msr_s_cet |= CET_IBT;
    c->msr_star = UINT64_C(0x0018000800000000);
    c->msr_lstar = HANDLER;
    enter_user();
    ck_assert_int_eq(op_syscall(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->ssp, 0);
    ck_assert_uint_eq(c->msr_pl_ssp[3], USER_AT + 0x800);
    ck_assert(c->mode & MODE_WAIT);
    /* The kernel goes to its own stack. */
    in = insn_new(4);
    ck_assert_int_eq(op_setssbsy(c, &in), CPU_NEXT);
    ck_assert_uint_eq(c->ssp, TOKEN);
    ck_assert_uint_eq(ram_get(TOKEN, 8), TOKEN | 1);
    ck_fault(op_setssbsy(c, &in), VEC_CP, CP_SETSSBSY);
    struct insn mem = insn_mem(8, TOKEN, 8);
    ck_assert_int_eq(op_clrssbsy(c, &mem), CPU_NEXT);
    ck_assert_uint_eq(c->ssp, 0);
    ck_assert_uint_eq(ram_get(TOKEN, 8), TOKEN);
    ck_assert(!(cpu_arith_flags(c) & FL_CF));
    ck_assert_int_eq(op_clrssbsy(c, &mem), CPU_NEXT);
    ck_assert(cpu_arith_flags(c) & FL_CF);
    in = insn_new(8);
    ck_assert_int_eq(op_sysret(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->ssp, USER_AT + 0x800);
    in = insn_new(4);
    ck_fault(op_setssbsy(c, &in), VEC_GP, 0); /* in ring 3 */
}
END_TEST

/* ---- Far calls ---- */

START_TEST(a_far_call_pushes_what_its_far_return_compares) {
    struct cpu *c = fx.cpu;
    struct insn call = insn_new(4), ret = insn_new(4);
    enable();
    call = insn_new(4);
    call.imm = 0x9100, call.imm2 = KCODE, call.arg = 1;
    call.op[0] = (struct operand){.kind = OP_IMM};
    ret = insn_new(4);
    ret.opcode = 0xcb;
    uint64_t old = c->ssp, rsp = c->gpr[R_SP];
    ck_assert_int_eq(op_far(c, &call), CPU_JUMP);
    ck_assert_uint_eq(c->ssp, old - 24);
    ck_assert_uint_eq(ram_get((uint32_t)old - 8, 8), KCODE);
    ck_assert_uint_eq(ram_get((uint32_t)old - 16, 8), 0x8002);
    ck_assert_uint_eq(ram_get((uint32_t)old - 24, 8), old);
    ram_put((uint32_t)c->gpr[R_SP], 0x8003, 4);
    ck_fault(op_ret_far(c, &ret), VEC_CP, CP_FAR_RET);
    ram_put((uint32_t)c->gpr[R_SP], 0x8002, 4);
    ck_assert_int_eq(op_ret_far(c, &ret), CPU_JUMP);
    ck_assert_uint_eq(c->ssp, old);
    ck_assert_uint_eq(c->gpr[R_SP], rsp);
    ck_assert_uint_eq(c->rip, 0x8002);
    /* To 32-bit code, whose SSP must fit. */
    c->ssp = UINT64_C(0x100000400);
    call.imm2 = KCODE32;
    ck_fault(op_far(c, &call), VEC_GP, 0);
    call.arg = 0;
    ck_fault(op_far(c, &call), VEC_GP, 0);
}
END_TEST

/* ---- Tasks ---- */

#define TSS2_SSP 0x68u

static void new_task(uint32_t ssp) {
    static const uint8_t sel[6] = {KDATA, KCODE, KDATA, KDATA, KDATA, KDATA};
    gdt_set(TSS_SEL, make_desc(TSS, 0x6b, 0x8b));
    gdt_set(TSS2_SEL, make_desc(TSS2, 0x6b, 0x89));
    for (unsigned i = 0; i < 6; i++)
        ram_put(TSS2 + 0x48 + 4 * i, sel[i], 4);
    ram_put(TSS2 + 0x20, 0x9000, 4);  /* EIP */
    ram_put(TSS2 + 0x24, 2, 4);       /* EFLAGS */
    ram_put(TSS2 + 0x38, 0x2f000, 4); /* ESP */
    ram_put(TSS2 + 0x60, 0, 4);
    ram_put(TSS2 + TSS2_SSP, ssp, 4);
    token(TOKEN);
}

START_TEST(a_task_has_its_shadow_stack_in_its_tss) {
    struct cpu *c = fx.cpu;
    fix_prot();
    new_task(TOKEN);
    c->cr0 |= CR0_WP;
    c->cr4 |= CR4_CET;
    c->msr_s_cet = CET_SHSTK;
    c->ssp = SUPER_AT + 0x400;
    cpu_update_mode(c);
    ck_assert_int_eq(task_switch(c, TSS2_SEL, TASK_CALL, 0x8002, NULL), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x9000);
    ck_assert_uint_eq(c->ssp, TOKEN - 24);
    ck_assert_uint_eq(ram_get(TOKEN, 8), TOKEN | 1);
    ck_assert_uint_eq(ram_get(TOKEN - 8, 8), KCODE);
    ck_assert_uint_eq(ram_get(TOKEN - 16, 8), 0x8002);
    ck_assert_uint_eq(ram_get(TOKEN - 24, 8), SUPER_AT + 0x400);
    /* Back: the old task's EIP must be where the frame says. */
    ck_assert_int_eq(task_switch(c, TSS_SEL, TASK_IRET, 0x9001, NULL), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x8002);
    ck_assert_uint_eq(c->ssp, SUPER_AT + 0x400);
    ck_assert_uint_eq(ram_get(TOKEN, 8), TOKEN);
    /* A TSS without room for SSP, or of 16 bits. */
    gdt_set(TSS2_SEL, make_desc(TSS2, 0x67, 0x89));
    ck_fault(task_switch(c, TSS2_SEL, TASK_CALL, 0x8002, NULL), VEC_TS, TSS2_SEL);
    gdt_set(TSS2_SEL, make_desc(TSS2, 0x6b, 0x81));
    ck_fault(task_switch(c, TSS2_SEL, TASK_CALL, 0x8002, NULL), VEC_TS, TSS2_SEL);
}
END_TEST

/* ---- Registers ---- */

static enum cpu_rc mov_cr(unsigned cr, uint64_t v) {
    struct insn in = insn_new(8);
    in.op_count = 2;
    in.op[0] = (struct operand){.kind = OP_CR, .reg = (uint8_t)cr};
    in.op[1] = (struct operand){.kind = OP_REG, .reg = R_AX};
    fx.cpu->gpr[R_AX] = v;
    return op_mov_cr(fx.cpu, &in);
}

START_TEST(cr4_cet_needs_cr0_wp) {
    struct cpu *c = fx.cpu;
    fix_long();
    c->cr0 &= ~CR0_WP;
    ck_fault(mov_cr(4, c->cr4 | CR4_CET), VEC_GP, 0);
    ck_assert_int_eq(mov_cr(0, c->cr0 | CR0_WP), CPU_STOP);
    ck_assert_int_eq(mov_cr(4, c->cr4 | CR4_CET), CPU_STOP);
    ck_fault(mov_cr(0, c->cr0 & ~CR0_WP), VEC_GP, 0);
    ck_assert_int_eq(mov_cr(4, c->cr4 & ~CR4_CET), CPU_STOP);
    ck_assert_int_eq(mov_cr(0, c->cr0 & ~CR0_WP), CPU_STOP);
}
END_TEST

START_TEST(the_msrs_take_what_they_may_hold) {
    static const struct {
        uint32_t index;
        uint64_t value;
        bool ok;
    } cases[] = {
        {MSR_U_CET, 0x3f, true},
        {MSR_U_CET, 0xffffffff80000005, true},
        {MSR_S_CET, 0x40, false},
        {MSR_S_CET, 0x200, false},
        {MSR_S_CET, CET_IBT | CET_WAIT, true},
        {MSR_S_CET, CET_IBT | CET_SUPPRESS, true},
        {MSR_S_CET, CET_SUPPRESS | CET_WAIT, false},
        {MSR_U_CET, UINT64_C(1) << 60 | CET_IBT, false},
        {MSR_PL0_SSP, 0x1000, true},
        {MSR_PL0_SSP + 1, 0x1002, false},
        {MSR_PL0_SSP + 2, 0x1004, true},
        {MSR_PL0_SSP + 3, 1, false},
        {MSR_PL0_SSP + 3, UINT64_C(1) << 60, false},
        {MSR_SSP_TABLE, 0xffff800000001000, true},
        {MSR_SSP_TABLE, UINT64_C(1) << 60, false},
        {MSR_XSS, XSTATE_CET_U | XSTATE_CET_S, true},
        {MSR_XSS, XSTATE_PKRU, false},
    };
    fix_long();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t v = 0;
        bool ok = msr_write(fx.cpu, cases[i].index, cases[i].value) != CPU_FAULT;
        ck_assert_msg(ok == cases[i].ok, "case %zu", i);
        ck_assert_int_eq(msr_read(fx.cpu, cases[i].index, &v), CPU_NEXT);
        if (ok)
            ck_assert_uint_eq(v, cases[i].value);
    }
}
END_TEST

START_TEST(a_model_without_a_part_of_cet_refuses_its_bits) {
    static const struct {
        const char *name;
        bool cr4, shstk, ibt;
    } models[] = {{"max,-shstk,-ibt", false, false, false},
                  {"max,-ibt", true, true, false},
                  {"max,-shstk", true, false, true},
                  {"max,vendor=amd", true, true, false}};
    const struct cpu_model *kept = fx.model;
    for (unsigned i = 0; i < sizeof models / sizeof *models; i++) {
        struct cpu_model *m;
        char err[128];
        uint32_t leaf[4];
        uint64_t v;
        fix_long();
        ck_assert_int_eq(cpu_model_parse(models[i].name, &m, err, sizeof err), 0);
        fx.cpu->model = m;
        ck_assert(!(m->cr4_valid & CR4_CET) == !models[i].cr4);
        cpu_model_leaf(m, 7, 0, leaf);
        ck_assert_uint_eq(leaf[2] >> 7 & 1, models[i].shstk);
        ck_assert_uint_eq(leaf[3] >> 20 & 1, models[i].ibt);
        cpu_model_leaf(m, 0xd, 1, leaf);
        ck_assert_uint_eq(leaf[2], models[i].cr4 ? 0x1800 : 0);
        ck_assert((msr_read(fx.cpu, MSR_PL0_SSP, &v) == CPU_NEXT) == models[i].shstk);
        ck_assert((msr_read(fx.cpu, MSR_S_CET, &v) == CPU_NEXT) == models[i].cr4);
        if (models[i].cr4) {
            ck_assert((msr_write(fx.cpu, MSR_U_CET, CET_SHSTK) != CPU_FAULT) ==
                      models[i].shstk);
            ck_assert((msr_write(fx.cpu, MSR_U_CET, CET_IBT) != CPU_FAULT) ==
                      models[i].ibt);
        }
        fx.cpu->model = kept;
        cpu_model_free(m);
    }
}
END_TEST

START_TEST(xsaves_carries_the_msrs) {
    struct cpu *c = fx.cpu;
    const uint32_t area = 0x20000;
    fix_long();
    c->cr4 |= CR4_OSFXSR | CR4_OSXSAVE | CR4_CET;
    c->xcr0 = XSTATE_X87 | XSTATE_SSE;
    c->msr_xss = XSTATE_CET;
    c->msr_u_cet = CET_SHSTK | CET_IBT;
    for (unsigned i = 0; i < 4; i++)
        c->msr_pl_ssp[i] = 0x1000u * (i + 1);
    cpu_update_mode(c);
    struct insn in = insn_mem(8, area, 0);
    c->gpr[R_AX] = XSTATE_CET, c->gpr[R_DX] = 0;
    ck_assert_int_eq(op_xsaves(c, &in), CPU_NEXT);
    ck_assert_uint_eq(ram_get(area + 512, 8), XSTATE_CET);
    ck_assert_uint_eq(ram_get(area + 520, 8), XSTATE_CET | UINT64_C(1) << 63);
    static const uint64_t want[] = {CET_SHSTK | CET_IBT, 0x4000, 0x1000, 0x2000, 0x3000};
    for (unsigned i = 0; i < 5; i++)
        ck_assert_uint_eq(ram_get(area + 576 + 8 * i, 8), want[i]);
    c->msr_u_cet = 0;
    memset(c->msr_pl_ssp, 0, sizeof c->msr_pl_ssp);
    ck_assert_int_eq(op_xrstors(c, &in), CPU_NEXT);
    ck_assert_uint_eq(c->msr_u_cet, CET_SHSTK | CET_IBT);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_uint_eq(c->msr_pl_ssp[i], 0x1000u * (i + 1));
    /* What WRMSR would refuse, XRSTORS does. */
    ram_put(area + 576, CET_RESERVED, 8);
    ck_fault(op_xrstors(c, &in), VEC_GP, 0);
    ck_assert_uint_eq(c->msr_u_cet, CET_SHSTK | CET_IBT);
    ram_put(area + 576, 0, 8);
    ram_put(area + 592, 2, 8);
    ck_fault(op_xrstors(c, &in), VEC_GP, 0);
    /* In the initial state, neither is in use. */
    ram_put(area + 512, 0, 8);
    ck_assert_int_eq(op_xrstors(c, &in), CPU_NEXT);
    ck_assert_uint_eq(c->msr_u_cet | c->msr_pl_ssp[0] | c->msr_pl_ssp[3], 0);
    ck_assert_int_eq(op_xsaves(c, &in), CPU_NEXT);
    ck_assert_uint_eq(ram_get(area + 512, 8), 0);
}
END_TEST

SUITE("cpu.cet_far", .setup = fix_create, .teardown = fix_destroy,
      .tests = {an_event_from_ring_3_takes_the_token_and_iret_gives_it_back,
                an_event_in_ring_0_pushes_cs_lip_and_ssp,
                iret_to_another_place_is_a_control_protection_fault,
                a_stack_in_use_or_misplaced_is_not_entered,
                an_ist_has_its_shadow_stack_in_the_table,
                a_handler_begins_with_an_endbranch,
                syscall_clears_ssp_and_sysret_takes_pl3_ssp,
                a_far_call_pushes_what_its_far_return_compares,
                a_task_has_its_shadow_stack_in_its_tss, cr4_cet_needs_cr0_wp,
                the_msrs_take_what_they_may_hold,
                a_model_without_a_part_of_cet_refuses_its_bits, xsaves_carries_the_msrs})
