/* SPDX-License-Identifier: MIT */
/*
 * CR4.VME and CR4.PVI. Sources: SDM volume 3, table "Software Interrupt Handling Methods While
 * in Virtual-8086 Mode", and "Protected-Mode Virtual Interrupts".
 */
#include "fixture_flat.h"
#include "ops.h"
#include "tests/suite.h"

#define MAPS   0x88u /* the TSS's I/O bitmap; the other one is the 32 bytes below */
#define VECTOR 0x21u
#define SP     0x1000u

static uint64_t word(unsigned i) {
    return ram_get(0x20000 + fx.cpu->gpr[R_SP] + i * 2, 2);
}
static void push16(uint16_t v) {
    fx.cpu->gpr[R_SP] -= 2;
    ram_put(0x20000 + (uint32_t)fx.cpu->gpr[R_SP], v, 2);
}

/* In virtual-8086 mode at 1200:0034, the stack at 2000:1000. */
static void vm86(uint64_t cr4, unsigned level, uint64_t flags) {
    static const uint16_t sel[] = {[SEG_CS] = 0x1200, [SEG_SS] = 0x2000};
    struct cpu *c = fx.cpu;
    fix_prot();
    c->cr4 = (c->cr4 & ~(CR4_VME | CR4_PVI)) | cr4;
    c->seg[SEG_TR].limit = 0xfff;
    ram_put(TSS + 102, MAPS, 2);
    gate_set(VECTOR, KCODE, 0x5000, 14, 3, 0);
    ram_put(VECTOR * 4, 0x400056, 4); /* of the program's table: 0040:0056 */
    cpu_set_rflags(c, 2 | FL_VM | level << 12 | flags);
    for (unsigned s = SEG_ES; s <= SEG_GS; s++)
        seg_set_real(&c->seg[s], s == SEG_CS || s == SEG_SS ? sel[s] : 0, true);
    c->cpl = 3;
    c->rip = 0x34;
    c->gpr[R_SP] = SP;
    cpu_update_mode(c);
}

static enum cpu_rc int_n(void) {
    struct insn in = insn_new(2);
    in.imm = VECTOR;
    in.len = 2;
    return op_int(fx.cpu, &in);
}
static void redirect(bool own) {
    ram_put(TSS + MAPS - 32 + VECTOR / 8, own ? 0 : 1u << VECTOR % 8, 1);
}

START_TEST(int_n_goes_where_the_table_says) {
    struct cpu *c = fx.cpu;
    for (unsigned i = 0; i < 8; i++) {
        bool vme = i & 1, three = i & 2, own = i & 4;
        vm86(vme ? CR4_VME : 0, three ? 3 : 1, FL_IF | FL_TF | FL_VIF);
        redirect(own);
        if (!(vme && own) && !three) { /* methods 2, 3 */
            ck_fault(int_n(), VEC_GP, 0);
            ck_assert_uint_eq(c->gpr[R_SP], SP);
            continue;
        }
        ck_assert_int_eq(int_n(), CPU_JUMP);
        if (!(vme && own)) { /* 1, 4 */
            ck_assert_uint_eq(c->cpl, 0);
            ck_assert_uint_eq(c->rip, 0x5000);
            continue;
        }
        /* 5, 6 */
        ck_assert_uint_ne(c->mode & MODE_VM86, 0);
        ck_assert_uint_eq(c->seg[SEG_CS].base + c->rip, 0x456);
        ck_assert_uint_eq(c->gpr[R_SP], SP - 6);
        ck_assert_uint_eq(word(0), 0x36);
        ck_assert_uint_eq(word(1), 0x1200);
        ck_assert_uint_eq(word(2), 2 | FL_TF | FL_IF | FL_IOPL);
        ck_assert_uint_eq(c->sys_flags & (FL_TF | FL_IF | FL_VIF),
                          three ? FL_VIF : FL_IF);
    }
}
END_TEST

START_TEST(the_pushed_if_is_vif) {
    vm86(CR4_VME, 0, FL_IF);
    redirect(true);
    ck_assert_int_eq(int_n(), CPU_JUMP);
    ck_assert_uint_eq(word(2), 2 | FL_IOPL);
}
END_TEST

START_TEST(a_tss_without_the_map_faults) {
    struct cpu *c = fx.cpu;
    vm86(CR4_VME, 3, 0);
    c->seg[SEG_TR].limit = 102;
    ck_fault(int_n(), VEC_GP, 0);
    c->seg[SEG_TR].limit = MAPS - 32 + VECTOR / 8;
    ck_assert_int_eq(int_n(), CPU_JUMP);
    vm86(CR4_VME, 3, 0);
    c->seg[SEG_TR].limit = MAPS - 32 + VECTOR / 8 - 1;
    ck_fault(int_n(), VEC_GP, 0);
    vm86(CR4_VME, 3, 0);
    ram_put(TSS + 102, 16, 2); /* it would begin before the TSS */
    ck_fault(int_n(), VEC_GP, 0);
    vm86(CR4_VME, 3, 0);
    c->seg[SEG_TR].attr = (c->seg[SEG_TR].attr & ~15u) | 3; /* a 16-bit TSS has none */
    ck_fault(int_n(), VEC_GP, 0);
}
END_TEST

/* CLI and STI set VIF; STI faults with VIP. Where they have no such meaning they fault. */
static void cli_and_sti(bool may) {
    struct cpu *c = fx.cpu;
    struct insn in = insn_new(2);
    uint64_t before = c->sys_flags;
    if (!may) {
        ck_fault(op_cli(c, &in), VEC_GP, 0);
        ck_fault(op_sti(c, &in), VEC_GP, 0);
        ck_assert_uint_eq(c->sys_flags, before);
        return;
    }
    ck_assert_int_eq(op_sti(c, &in), CPU_NEXT);
    ck_assert_uint_eq(c->sys_flags, before | FL_VIF);
    ck_assert_int_eq(op_cli(c, &in), CPU_NEXT);
    ck_assert_uint_eq(c->sys_flags, before);
    c->sys_flags |= FL_VIP;
    ck_fault(op_sti(c, &in), VEC_GP, 0);
    ck_assert_int_eq(op_cli(c, &in), CPU_NEXT);
    ck_assert_uint_eq(c->sys_flags, before | FL_VIP);
}

START_TEST(cli_and_sti_reach_vif) {
    struct cpu *c = fx.cpu;
    vm86(CR4_VME, 2, FL_IF);
    cli_and_sti(true);
    vm86(CR4_PVI, 2, FL_IF);
    cli_and_sti(false);
    /* In ring 3 of protected mode it is the other bit. */
    for (unsigned i = 0; i < 2; i++) {
        vm86(i ? CR4_PVI : CR4_VME, 2, FL_IF);
        c->sys_flags &= ~(uint64_t)FL_VM;
        cpu_update_mode(c);
        cli_and_sti(i);
        c->cpl = 2;
        c->sys_flags = 2 | 1 << 12 | FL_IF;
        cpu_update_mode(c);
        cli_and_sti(false);
    }
    /* With IOPL 3 they are what they always are. */
    vm86(CR4_VME, 3, 0);
    struct insn in = insn_new(2);
    ck_assert_int_eq(op_sti(c, &in), CPU_NEXT);
    ck_assert_uint_eq(c->sys_flags & (FL_IF | FL_VIF), FL_IF);
}
END_TEST

START_TEST(pushf_and_popf_show_vif_as_if) {
    struct cpu *c = fx.cpu;
    struct insn in = insn_new(2), wide = insn_new(4);
    vm86(CR4_VME, 1, FL_IF | FL_VIF);
    ck_fault(op_pushf(c, &wide), VEC_GP, 0);
    ck_fault(op_popf(c, &wide), VEC_GP, 0);
    ck_assert_int_eq(op_pushf(c, &in), CPU_NEXT);
    ck_assert_uint_eq(word(0), 2 | FL_IF | FL_IOPL);
    c->sys_flags = (c->sys_flags & ~(uint64_t)(FL_VIF | FL_IF)) | FL_TF;
    ck_assert_int_eq(op_pushf(c, &in), CPU_NEXT);
    ck_assert_uint_eq(word(0), 2 | FL_TF | FL_IOPL);
    vm86(CR4_VME, 1, FL_IF);
    push16(FL_IF | FL_DF | FL_CF);
    ck_assert_int_eq(op_popf(c, &in), CPU_NEXT);
    ck_assert_uint_eq(cpu_rflags(c),
                      2 | FL_VM | 1 << 12 | FL_IF | FL_VIF | FL_DF | FL_CF);
    push16(0);
    ck_assert_int_eq(op_popf(c, &in), CPU_NEXT);
    ck_assert_uint_eq(cpu_rflags(c), 2 | FL_VM | 1 << 12 | FL_IF);
    push16(FL_TF);
    ck_fault(op_popf(c, &in), VEC_GP, 0);
    ck_assert_uint_eq(c->gpr[R_SP], SP - 2);
    c->sys_flags |= FL_VIP;
    c->gpr[R_SP] = SP;
    push16(FL_IF);
    ck_fault(op_popf(c, &in), VEC_GP, 0);
    c->gpr[R_SP] = SP;
    push16(FL_IOPL);
    ck_assert_int_eq(op_popf(c, &in), CPU_NEXT);
    ck_assert_uint_eq(cpu_rflags(c), 2 | FL_VM | 1 << 12 | FL_IF | FL_VIP);
}
END_TEST

START_TEST(iret_of_a_program_loads_vif) {
    struct cpu *c = fx.cpu;
    struct insn in = insn_new(2), wide = insn_new(4);
    vm86(CR4_VME, 0, FL_IF);
    ck_fault(op_iret(c, &wide), VEC_GP, 0);
    push16(FL_IF | FL_ZF | FL_IOPL);
    push16(0x3000);
    push16(0x12);
    ck_assert_int_eq(op_iret(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->seg[SEG_CS].base + c->rip, 0x30012);
    ck_assert_uint_eq(cpu_rflags(c), 2 | FL_VM | FL_IF | FL_VIF | FL_ZF);
    for (unsigned i = 0; i < 2; i++) {
        vm86(CR4_VME, 0, i ? FL_VIP : 0);
        push16(i ? FL_IF : FL_TF);
        push16(0x3000);
        push16(0x12);
        ck_fault(op_iret(c, &in), VEC_GP, 0);
        ck_assert_uint_eq(c->rip, 0x34);
        ck_assert_uint_eq(c->gpr[R_SP], SP - 6);
    }
}
END_TEST

/* IRET of ring 0 to virtual-8086 mode with these flags. Return: does a #GP come at once? */
static bool conflicts(uint64_t cr4, uint64_t flags) {
    static const uint32_t frame[] = {0, 0, 0, 0, 0x2000, 0x1000};
    struct cpu *c = fx.cpu;
    struct insn in = insn_new(4);
    fix_prot();
    c->cr4 = (c->cr4 & ~(CR4_VME | CR4_PVI)) | cr4;
    gate_set(VEC_GP, KCODE, 0x5000, 14, 0, 0);
    uint32_t at = (uint32_t)(c->seg[SEG_SS].base + c->gpr[R_SP]) - 36;
    ram_put(at, 0x34, 4);
    ram_put(at + 4, 0x1200, 4);
    ram_put(at + 8, 2 | FL_VM | flags, 4);
    for (unsigned i = 0; i < 6; i++)
        ram_put(at + 32 - i * 4, frame[i], 4);
    c->gpr[R_SP] -= 36;
    ck_assert_int_eq(op_iret(c, &in), CPU_JUMP);
    if (c->mode & MODE_VM86)
        return false;
    ck_assert_uint_eq(c->rip, 0x5000);
    uint32_t sp = (uint32_t)(c->seg[SEG_SS].base + c->gpr[R_SP]);
    ck_assert_uint_eq(ram_get(sp, 4), 0);
    ck_assert_uint_eq(ram_get(sp + 4, 4), 0x34); /* the instruction that does not begin */
    ck_assert_uint_eq(ram_get(sp + 8, 4), 0x1200);
    return true;
}

START_TEST(vif_with_vip_faults_before_the_next_instruction) {
    ck_assert(conflicts(CR4_VME, FL_VIF | FL_VIP));
    ck_assert(!conflicts(CR4_VME, FL_VIF | FL_VIP | FL_IOPL));
    ck_assert(!conflicts(CR4_VME, FL_VIF));
    ck_assert(!conflicts(CR4_VME, FL_VIP));
    ck_assert(!conflicts(CR4_PVI, FL_VIF | FL_VIP));
}
END_TEST

SUITE("cpu virtual interrupts", .setup = fix_create, .teardown = fix_destroy,
      .tests = {int_n_goes_where_the_table_says, the_pushed_if_is_vif,
                a_tss_without_the_map_faults, cli_and_sti_reach_vif,
                pushf_and_popf_show_vif_as_if, iret_of_a_program_loads_vif,
                vif_with_vip_faults_before_the_next_instruction})
