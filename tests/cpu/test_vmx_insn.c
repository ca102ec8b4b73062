/* SPDX-License-Identifier: MIT */
/*
 * VMX: which instructions of L2's exit, by which control, after which faults of their own, and
 * what the exits say.
 */
#include "fixture_vmx.h"

/* Bit `bit` of the controls in `word`; 0: always. */
static const struct {
    vmx_helper *fn;
    unsigned arg, word, bit, reason;
    bool ring3; /* exits in ring 3, too */
} insns[] = {
    {op_cpuid, 0, 0, 0, 10, true},
    {op_cache, 0, 0, 0, 13, false},    /* INVD */
    {op_hypercall, 0, 0, 0, 18, true}, /* VMCALL */
    {op_vmclear, 0, 0, 0, 19, true},
    {op_vmlaunch, 0, 0, 0, 20, true},
    {op_vmptrld, 0, 0, 0, 21, true},
    {op_vmptrst, 0, 0, 0, 22, true},
    {op_vmlaunch, 1, 0, 0, 24, true}, /* VMRESUME */
    {op_vmxoff, 0, 0, 0, 26, true},
    {op_vmxon, 0, 0, 0, 27, true},
    {op_invept, 0, 0, 0, 50, true},
    {op_invvpid, 0, 0, 0, 53, true},
    {op_vmread, 0, 0, 0, 23, true},
    {op_vmwrite, 0, 0, 0, 25, true},
    {op_hlt, 0, PROC, 7, 12, false},
    {op_invlpg, 0, PROC, 9, 14, false},
    {op_rdpmc, 0, PROC, 11, 15, false},
    {op_rdtsc, 0, PROC, 12, 16, true},
    {op_rdtsc, CPU_F_rdtscp, PROC, 12, 51, true},
    {op_invpcid, 0, PROC, 9, 58, false},
    {op_store_table, 0, PROC2, 2, 46, true},
    {op_store_table, 1, PROC2, 2, 46, true},
    {op_load_table, 0, PROC2, 2, 46, false},
    {op_load_table, 1, PROC2, 2, 46, false},
    {op_store_system, SEG_LDTR, PROC2, 2, 47, true},
    {op_store_system, SEG_TR, PROC2, 2, 47, true},
    {op_load_system, SEG_LDTR, PROC2, 2, 47, false},
    {op_load_system, SEG_TR, PROC2, 2, 47, false},
    {op_cache, 1, PROC2, 6, 54, false}, /* WBINVD */
    {op_rdrand, CPU_F_rdrand, PROC2, 11, 57, true},
    {op_rdrand, CPU_F_rdseed, PROC2, 16, 61, true},
};
#define INSNS (int)(sizeof insns / sizeof insns[0])

START_TEST(an_instruction_exits_if_its_bit_is_set) {
    struct insn in = vx_insn(insns[_i].arg);
    if (insns[_i].word)
        vx_set(insns[_i].word, 1u << insns[_i].bit);
    vx_enter();
    ck_assert_int_eq(vx_run(insns[_i].fn, &in), CPU_JUMP);
    vx_left(insns[_i].reason);
    ck_assert_uint_eq(vx_get(LENGTH), 4);
    ck_assert_uint_eq(vx_get(RIP), GUEST);
    ck_assert_uint_eq(vx_get(VECTORING), 0);
}
END_TEST

START_TEST(no_other_bit_makes_it_exit) {
    struct insn in = vx_insn(insns[_i].arg);
    if (!insns[_i].word)
        return;
    vx_put(PROC, PROC_MUST | 1u << 31 | 1u << 30 | 1u << 23 | 1u << 12 | 1u << 11 |
                     1u << 9 | 1u << 7);
    vx_put(PROC2,
           1u << 20 | 1u << 16 | 1u << 12 | 1u << 11 | 1u << 6 | 1u << 3 | 1u << 2);
    vx_clear(insns[_i].word, 1u << insns[_i].bit);
    vx_enter();
    vx_run(insns[_i].fn, &in);
    ck_assert_uint_eq(fx.cpu->vmx.guest, 1);
}
END_TEST

START_TEST(in_ring_3_privileged_ones_fault_before_they_exit) {
    struct insn in = vx_insn(insns[_i].arg);
    if (insns[_i].word)
        vx_set(insns[_i].word, 1u << insns[_i].bit);
    vx_enter();
    fix_user();
    fx.cpu->mode |= MODE_GUEST;
    enum cpu_rc rc = vx_run(insns[_i].fn, &in);
    if (insns[_i].ring3)
        vx_left(insns[_i].reason);
    else
        ck_fault(rc, VEC_GP, 0);
}
END_TEST

START_TEST(what_a_control_does_not_enable_is_undefined) {
    static const struct {
        vmx_helper *fn;
        unsigned arg, bit;
    } each[] = {{op_rdtsc, CPU_F_rdtscp, 3},
                {op_rdpid, 0, 3},
                {op_invpcid, 0, 12},
                {op_xsavec, CPU_F_xsaves, 20},
                {op_xrstor, CPU_F_xsaves, 20}};
    for (unsigned i = 0; i < sizeof each / sizeof each[0]; i++) {
        struct insn in = vx_insn(each[i].arg);
        vx_fill();
        vx_clear(PROC2, 1u << each[i].bit);
        vx_enter();
        ck_fault(vx_run(each[i].fn, &in), VEC_UD, -1);
        vx_leave();
    }
}
END_TEST

START_TEST(a_memory_operand_is_described) {
    struct insn in = vx_insn(1); /* LIDT */
    in.base = R_BX, in.index = R_SI, in.scale = 4, in.disp = -16, in.seg = SEG_FS;
    vx_set(PROC2, 1u << 2);
    vx_enter();
    vx_run(op_load_table, &in);
    vx_left(46);
    ck_assert_uint_eq(vx_get(QUALIFICATION), (uint64_t)-16);
    ck_assert_uint_eq(vx_get(INFO), 2 | 2u << 7 | 1u << 11 | 4u << 15 | R_SI << 18 |
                                        R_BX << 23 | 3u << 28);
}
END_TEST

START_TEST(control_registers_exit_by_their_controls) {
    static const struct {
        unsigned cr, write, bit;
    } each[] = {{3, 1, 15}, {3, 0, 16}, {8, 1, 19}, {8, 0, 20}};
    for (unsigned i = 0; i < 4; i++) {
        struct insn in = vx_mov(false, each[i].cr, each[i].write);
        vx_fill();
        vx_set(PROC, 1u << each[i].bit);
        vx_enter();
        fx.cpu->gpr[11] = 8;
        vx_run(op_mov_cr, &in);
        vx_left(28);
        ck_assert_uint_eq(vx_get(QUALIFICATION),
                          each[i].cr | (each[i].write ? 0 : 1u << 4) | 11u << 8);
    }
    struct insn in = vx_mov(false, 3, true);
    vx_fill();
    vx_set(PROC, 1u << 15);
    vx_put(TARGETS, 2);
    vx_put(0x600a, vx_get(0x6802));
    vx_enter();
    fx.cpu->gpr[11] = fx.cpu->cr3;
    vx_run(op_mov_cr, &in); /* a target */
    ck_assert_uint_eq(fx.cpu->vmx.guest, 1);
}
END_TEST

START_TEST(masked_bits_are_l1s) {
    struct insn in = vx_mov(false, 0, false);
    vx_put(0x6000, CR0_TS | CR0_WP);
    vx_put(0x6004, CR0_TS);
    vx_enter();
    fx.cpu->cr0 = (fx.cpu->cr0 & ~CR0_TS) | CR0_WP | CR0_MP;
    ck_assert_int_eq(vx_run(op_mov_cr, &in), CPU_NEXT);
    uint64_t seen = fx.cpu->gpr[11];
    ck_assert_uint_eq(seen & (CR0_TS | CR0_WP | CR0_MP), CR0_TS | CR0_MP);
    in = vx_mov(false, 0, true);
    fx.cpu->gpr[11] = seen & ~CR0_MP; /* its own, and no exit */
    ck_assert_int_eq(vx_run(op_mov_cr, &in), CPU_STOP);
    ck_assert_uint_eq(fx.cpu->cr0 & (CR0_TS | CR0_WP | CR0_MP), CR0_WP);
    in = vx_insn(0);
    vx_run(op_clts, &in); /* the shadow has TS */
    vx_left(28);
    ck_assert_uint_eq(vx_get(QUALIFICATION), 2u << 4);
    vx_enter();
    in = vx_mov(false, 0, true);
    fx.cpu->gpr[11] = seen | CR0_WP;
    vx_run(op_mov_cr, &in);
    vx_left(28);
    ck_assert_uint_eq(vx_get(QUALIFICATION), 11u << 8);
}
END_TEST

START_TEST(debug_registers_exit_even_in_ring_3) {
    struct insn in = vx_mov(true, 6, false);
    vx_set(PROC, 1u << 23);
    vx_enter();
    fx.cpu->cpl = 3;
    vx_run(op_mov_dr, &in);
    vx_left(29);
    ck_assert_uint_eq(vx_get(QUALIFICATION), 6 | 1u << 4 | 11u << 8);
}
END_TEST

START_TEST(pause_exits_by_its_control) {
    struct insn in = vx_insn(0);
    vx_enter();
    ck_assert_int_eq(vmx_pause(fx.cpu, &in), CPU_NEXT);
    vx_leave();
    vx_fill();
    vx_set(PROC, 1u << 30);
    vx_enter();
    ck_assert_int_eq(vmx_pause(fx.cpu, &in), CPU_JUMP);
    vx_left(40);
}
END_TEST

START_TEST(msrs_exit_by_the_map) {
    static const struct {
        uint32_t index;
        unsigned byte, bit;
    } at[] = {{0x175, 0x2e, 5}, {0x1fff, 0x3ff, 7}, {MSR_LSTAR, 0x400 + 0x10, 2}};
    for (unsigned i = 0; i < 3; i++)
        for (unsigned write = 0; write < 2; write++)
            for (unsigned on = 0; on < 2; on++) {
                struct insn in = vx_insn(0);
                vx_fill();
                uint8_t bit = (uint8_t)(1u << at[i].bit);
                ram_put(MSRS + at[i].byte + (write ? 0x800 : 0), on ? bit : (uint8_t)~bit,
                        1);
                vx_enter();
                fx.cpu->gpr[R_CX] = at[i].index;
                vx_run(write ? op_wrmsr : op_rdmsr, &in);
                ck_assert_uint_eq(fx.cpu->vmx.guest, !on);
                if (on)
                    vx_left(write ? 32 : 31);
                vx_leave();
            }
    for (unsigned map = 0; map < 2; map++) { /* in no map; and without one */
        struct insn in = vx_insn(0);
        vx_fill();
        vx_clear(PROC, map ? 1u << 28 : 0);
        vx_enter();
        fx.cpu->gpr[R_CX] = map ? MSR_LSTAR : 0x40000000;
        vx_run(op_rdmsr, &in);
        vx_left(31);
    }
}
END_TEST

START_TEST(ports_exit_by_the_maps_and_say_how) {
    struct insn in = vx_insn(0);
    in.opcode = 0xed; /* IN EAX, DX */
    in.opsize = 4;
    ram_put(IO_B + (0x83fa - 0x8000) / 8, 1u << (0x3fa & 7),
            1); /* the third of its bytes */
    vx_enter();
    fx.cpu->gpr[R_DX] = 0x83f8;
    ck_assert_int_eq(op_port(fx.cpu, &in), CPU_JUMP);
    vx_left(30);
    ck_assert_uint_eq(vx_get(QUALIFICATION), 0x83f8u << 16 | 8 | 3);
    vx_fill();
    vx_enter();
    fx.cpu->gpr[R_DX] = 0xfffe; /* it wraps */
    ck_assert_int_eq(op_port(fx.cpu, &in), CPU_JUMP);
    vx_left(30);
    vx_fill();
    vx_clear(PROC, 1u << 25);
    vx_set(PROC, 1u << 24);
    vx_enter();
    in.opcode = 0xe6; /* OUT imm8, AL */
    in.imm = 0x80;
    ck_assert_int_eq(op_port(fx.cpu, &in), CPU_JUMP);
    vx_left(30);
    ck_assert_uint_eq(vx_get(QUALIFICATION), 0x80u << 16 | 1u << 6);
}
END_TEST

/* ---- Their own faults ---- */

#define ALL_PROC                                                                         \
    (VX_PROC | 1u << 30 | 1u << 23 | 1u << 20 | 1u << 19 | 1u << 16 | 1u << 15 |         \
     1u << 12 | 1u << 11 | 1u << 9 | 1u << 7)

START_TEST(an_instructions_own_faults_come_before_its_exit) {
    static const struct {
        vmx_helper *fn;
        unsigned arg;
        uint64_t cr4;
        uint8_t cpl, vector;
    } each[] = {
        {op_store_table, 1, CR4_UMIP, 3, VEC_GP},
        {op_store_system, SEG_TR, CR4_UMIP, 3, VEC_GP},
        {op_smsw, 0, CR4_UMIP, 3, VEC_GP},
        {op_lmsw, 0, 0, 3, VEC_GP},
        {op_clts, 0, 0, 3, VEC_GP},
        {op_rdtsc, 0, CR4_TSD, 3, VEC_GP},
        {op_rdtsc, CPU_F_rdtscp, CR4_TSD, 3, VEC_GP},
        {op_rdmsr, 0, 0, 3, VEC_GP},
        {op_wrmsr, 0, 0, 3, VEC_GP},
        {op_xsetbv, 0, 0, 0, VEC_UD},    /* OSXSAVE is off */
        {op_hypercall, 1, 0, 0, VEC_UD}, /* VMMCALL */
    };
    for (unsigned i = 0; i < sizeof each / sizeof each[0]; i++) {
        struct insn in = vx_insn(each[i].arg);
        fx.cpu->cr4 |= each[i].cr4;
        vx_fill();
        vx_put(PROC, ALL_PROC);
        vx_set(PROC2, 4);
        vx_put(0x6000, ~0ull);
        vx_enter();
        if (each[i].cpl) {
            fix_user();
            fx.cpu->mode |= MODE_GUEST;
        }
        ck_assert_int_eq(vx_run(each[i].fn, &in), CPU_FAULT);
        ck_assert_uint_eq(fx.cpu->fault.vector, each[i].vector);
        vx_leave();
    }
}
END_TEST

START_TEST(what_ring_3_may_do_exits_there) {
    struct insn in = vx_insn(0);
    fx.cpu->cr4 |= CR4_PCE;
    vx_fill();
    vx_put(PROC, ALL_PROC);
    vx_enter();
    fix_user();
    vx_run(op_rdpmc, &in);
    vx_left(15);
}
END_TEST

START_TEST(xsetbv_exits_whatever_the_controls_are) {
    struct insn in = vx_insn(0);
    if (!(fx.cpu->model->cr4_valid & CR4_OSXSAVE))
        return; /* a host without XSAVE */
    for (unsigned ring = 0; ring < 4; ring += 3) {
        fx.cpu->cr4 |= CR4_OSXSAVE;
        vx_fill();
        vx_enter();
        if (ring) {
            fix_user();
            fx.cpu->mode |= MODE_GUEST;
            ck_fault(vx_run(op_xsetbv, &in), VEC_GP, 0);
            continue;
        }
        vx_run(op_xsetbv, &in);
        vx_left(55);
    }
}
END_TEST

START_TEST(moves_of_registers_that_are_none_fault) {
    static const struct {
        bool dr;
        uint8_t nr, cpl, lock;
        unsigned vector;
    } each[] = {
        {false, 1, 0, 0, VEC_UD}, {false, 5, 0, 0, VEC_UD}, {false, 3, 3, 0, VEC_GP},
        {false, 0, 0, 1, VEC_UD}, {true, 9, 0, 0, VEC_UD},  {true, 0, 0, 1, VEC_UD},
    };
    for (unsigned i = 0; i < sizeof each / sizeof each[0]; i++)
        for (unsigned write = 0; write < 2; write++) {
            struct insn in = vx_mov(each[i].dr, each[i].nr, write);
            in.lock = each[i].lock;
            fix_long();
            fx.cpu->cr0 |= CR0_NE, fx.cpu->cr4 |= CR4_VMXE;
            vx_fill();
            vx_put(PROC, ALL_PROC);
            vx_enter();
            if (each[i].cpl) {
                fix_user();
                fx.cpu->mode |= MODE_GUEST;
            }
            ck_assert_int_eq(vx_run(each[i].dr ? op_mov_dr : op_mov_cr, &in), CPU_FAULT);
            ck_assert_uint_eq(fx.cpu->fault.vector, each[i].vector);
            vx_leave();
        }
}
END_TEST

/* ---- CR0 and CR4, in part ---- */

START_TEST(cr4_is_masked_as_cr0_is) {
    struct insn read = vx_mov(false, 4, false), write = vx_mov(false, 4, true);
    vx_put(0x6002, CR4_VMXE | CR4_PGE);
    vx_put(0x6006, CR4_PGE);
    vx_enter();
    vx_run(op_mov_cr, &read);
    ck_assert_uint_eq(fx.cpu->gpr[11], CR4_PAE | CR4_PGE);
    fx.cpu->gpr[11] |= CR4_DE;
    ck_assert_int_eq(vx_run(op_mov_cr, &write), CPU_STOP);
    ck_assert_uint_eq(fx.cpu->cr4, CR4_PAE | CR4_DE | CR4_VMXE);
    fx.cpu->gpr[11] &= ~(uint64_t)CR4_PGE;
    vx_run(op_mov_cr, &write);
    vx_left(28);
    ck_assert_uint_eq(vx_get(QUALIFICATION), 4 | 11u << 8);
}
END_TEST

START_TEST(smsw_shows_the_shadow) {
    struct insn in = vx_insn(0);
    vx_put(0x6000, CR0_TS | CR0_MP);
    vx_put(0x6004, CR0_MP);
    vx_enter();
    fx.cpu->cr0 |= CR0_TS | CR0_EM;
    ck_assert_int_eq(vx_run(op_smsw, &in), CPU_NEXT);
    ck_assert_uint_eq(ram_get(OPERAND, 2) & 15, CR0_PE | CR0_MP | CR0_EM);
}
END_TEST

/* LMSW exits for what is masked and would change; PE it cannot clear. */
START_TEST(lmsw_exits_with_what_it_would_load) {
    static const struct {
        uint64_t mask, shadow;
        uint16_t value;
        bool memory, exits;
    } each[] = {
        {CR0_TS, 0, CR0_PE | CR0_TS, false, true},
        {CR0_TS, 0, CR0_PE | CR0_TS, true, true},
        {CR0_MP, 0, CR0_PE | CR0_MP, false, true},
        {CR0_EM, 0, CR0_PE | CR0_EM, false, true},
        {CR0_PE, 0, CR0_PE, false, true},
        {CR0_PE, CR0_PE, 0, false, false},
        {CR0_TS, CR0_TS, CR0_PE | CR0_TS, false, false},
        {CR0_TS, 0, CR0_PE | CR0_MP, false, false},
    };
    for (unsigned i = 0; i < sizeof each / sizeof each[0]; i++) {
        struct insn in = each[i].memory ? vx_memory(2) : vx_insn(0);
        in.op[0] = each[i].memory
                       ? in.op[0]
                       : (struct operand){.kind = OP_REG, .reg = 11, .size = 2};
        in.op_count = 1;
        in.rip = GUEST;
        vx_fill();
        vx_put(0x6000, each[i].mask);
        vx_put(0x6004, each[i].shadow);
        vx_enter();
        uint64_t old = fx.cpu->cr0;
        fx.cpu->gpr[11] = each[i].value;
        ram_put(OPERAND, each[i].value, 2);
        enum cpu_rc rc = vx_run(op_lmsw, &in);
        if (each[i].exits) {
            vx_left(28);
            ck_assert_uint_eq(vx_get(QUALIFICATION), 3u << 4 | each[i].memory << 6 |
                                                         (uint32_t)each[i].value << 16);
            ck_assert_uint_eq(vx_get(LINEAR), each[i].memory ? OPERAND : 0);
        } else {
            ck_assert_int_eq(rc, CPU_STOP);
            ck_assert_uint_eq(fx.cpu->cr0, (old & ~(CR0_MP | CR0_EM | CR0_TS)) |
                                               (each[i].value & ~each[i].mask &
                                                (CR0_MP | CR0_EM | CR0_TS)) |
                                               (old & each[i].mask));
        }
        vx_leave();
    }
    struct insn in = insn_mem(2, PAGES + 0x9000, 2);
    ram_put(PT + 9 * 8, 0, 8);
    vx_fill();
    vx_enter();
    ck_assert_int_eq(vx_run(op_lmsw, &in), CPU_FAULT); /* its operand is not there */
    ck_assert_uint_eq(fx.cpu->fault.vector, VEC_PF);
}
END_TEST

START_TEST(clts_leaves_a_masked_bit_alone) {
    struct insn in = vx_insn(0);
    for (unsigned masked = 0; masked < 2; masked++) {
        vx_fill();
        vx_put(0x6000, masked ? CR0_TS : 0);
        vx_enter();
        fx.cpu->cr0 |= CR0_TS;
        vx_run(op_clts, &in);
        ck_assert_uint_eq(fx.cpu->vmx.guest, 1);
        ck_assert_uint_eq(fx.cpu->cr0 & CR0_TS, masked ? CR0_TS : 0);
        vx_leave();
    }
}
END_TEST

/* ---- The words that say how ---- */

START_TEST(a_register_operand_is_described) {
    struct insn in = vx_insn(SEG_TR);
    in.op[0] = (struct operand){.kind = OP_REG, .reg = R_SI, .size = 2};
    for (unsigned i = 0; i < 4; i++) { /* SLDT, STR, LLDT, LTR */
        in.arg = i & 1 ? SEG_TR : SEG_LDTR;
        vx_fill();
        vx_set(PROC2, 4);
        vx_enter();
        vx_run(i & 2 ? op_load_system : op_store_system, &in);
        vx_left(47);
        ck_assert_uint_eq(vx_get(INFO) & (0x7u << 28 | 0x4f8),
                          i << 28 | 1u << 10 | R_SI << 3);
    }
}
END_TEST

START_TEST(each_bit_of_a_ports_word) {
    enum cpu_rc rc;
    for (unsigned i = 0; i < 64; i++) {
        unsigned size = 1u << i % 3, out = i >> 2 & 1, rep = i >> 3 & 1;
        unsigned wide = 2u << (i >> 1) % 3, seg = i & 32 ? SEG_FS : SEG_DS;
        bool string = i & 16;
        struct insn in = vx_insn(0);
        in.rep = rep ? 0xf3 : 0;
        in.addrsize = (uint8_t)wide;
        in.seg = (uint8_t)seg;
        in.opcode = out ? 0xee : 0xec;
        vx_fill();
        ram_put(IO_A + 0x60 / 8, 1, 1);
        vx_enter();
        fx.cpu->gpr[R_SI] = 0x12345, fx.cpu->gpr[R_DI] = 0x23456;
        fx.cpu->seg[SEG_FS].base = 0x1000000;
        ck_assert(vmx_port(fx.cpu, &in, 0x60, size, out, string, &rc));
        vx_left(30);
        uint64_t q =
            (size - 1) | !out << 3 | string << 4 | (string && rep) << 5 | 0x60u << 16;
        ck_assert_uint_eq(vx_get(QUALIFICATION), q);
        if (!string)
            continue;
        uint64_t at = out ? 0x12345 : 0x23456;
        at &= wide == 2 ? 0xffff : ~0ull;
        ck_assert_uint_eq(vx_get(LINEAR), at + (out && seg == SEG_FS ? 0x1000000 : 0));
        uint64_t info = (wide == 2   ? 0u
                         : wide == 4 ? 1u
                                     : 2u)
                            << 7 |
                        (out ? seg == SEG_FS ? 4u : 3u : 0u) << 15;
        ck_assert_uint_eq(vx_get(INFO), info);
    }
    vx_fill();
    vx_clear(PROC, 1u << 25);
    vx_enter();
    struct insn in = vx_insn(0);
    ck_assert(!vmx_port(fx.cpu, &in, 0x60, 1, true, false, &rc)); /* no control */
    vx_leave();
    vx_fill();
    vx_enter();
    ck_assert(!vmx_port(fx.cpu, &in, 0x60, 1, true, false, &rc)); /* no bit */
}
END_TEST

START_TEST(a_task_switch_says_why) {
    static const struct {
        enum task_reason reason;
        unsigned source;
    } each[] = {{TASK_CALL, 0}, {TASK_IRET, 1}, {TASK_JMP, 2}, {TASK_GATE, 3}};
    const struct event ev = {.vector = VEC_GP, .kind = EVENT_FAULT, .rip = GUEST};
    for (unsigned i = 0; i < 4; i++) {
        bool gate = each[i].reason == TASK_GATE;
        vx_fill();
        vx_enter();
        ck_assert_int_eq(
            task_switch(fx.cpu, TSS2_SEL, each[i].reason, GUEST + 2, gate ? &ev : NULL),
            CPU_JUMP);
        vx_left(9);
        ck_assert_uint_eq(vx_get(QUALIFICATION),
                          TSS2_SEL | (uint64_t)each[i].source << 30);
        if (!gate)
            ck_assert_uint_eq(vx_get(LENGTH), 2);
    }
}
END_TEST

/* INT3 and INTO are software exceptions, and INT1 one of its own kind; they return behind. */
START_TEST(software_exceptions_exit_by_the_bitmap) {
    static const struct {
        vmx_helper *fn;
        unsigned vector, type;
    } each[] = {{op_int3, VEC_BP, 6}, {op_int3, VEC_DB, 5}, {op_into, VEC_OF, 6}};
    for (unsigned i = 0; i < 6; i++) {
        unsigned vector = each[i / 2].vector;
        struct insn in = vx_insn(vector);
        vx_fill();
        gate_set(vector, KCODE, 0xa000, 14, 0, 0);
        vx_put(0x4816, 0xc09b); /* a compatibility segment, for INTO */
        vx_put(EXCEPTIONS, i & 1 ? 1u << vector : ~(1u << vector));
        vx_enter();
        cpu_set_rflags(fx.cpu, FL_OF | 2);
        ck_assert_int_eq(vx_run(each[i / 2].fn, &in), CPU_JUMP);
        if (i & 1) {
            vx_left(0);
            ck_assert_uint_eq(vx_get(EVENT), VALID | each[i / 2].type << 8 | vector);
            ck_assert_uint_eq(vx_get(LENGTH), 4);
        } else {
            ck_assert_uint_eq(fx.cpu->rip, 0xa000);
        }
        vx_leave();
    }
}
END_TEST

/* ---- The rest ---- */

START_TEST(xsaves_exits_by_its_bitmap) {
    for (unsigned i = 0; i < 16; i++) {
        struct insn in = vx_insn(CPU_F_xsaves);
        bool restore = i & 1, asked = i & 2, held = i & 4, bit = i & 8;
        vx_fill();
        vx_put(0x202c, bit ? 1u << 11 : ~(1u << 11));
        vx_enter();
        fx.cpu->msr_xss = held ? 1u << 11 : 0;
        fx.cpu->gpr[R_AX] = asked ? 1u << 11 : 0, fx.cpu->gpr[R_DX] = 0;
        vx_run(restore ? op_xrstor : op_xsavec, &in);
        ck_assert_uint_eq(fx.cpu->vmx.guest, !(asked && held && bit));
        if (asked && held && bit)
            vx_left(restore ? 64 : 63);
        vx_leave();
        fx.cpu->msr_xss = 0;
    }
    struct insn in = vx_insn(0); /* XRSTOR */
    vx_fill();
    vx_put(0x202c, ~0ull);
    vx_enter();
    vx_run(op_xrstor, &in);
    ck_assert_uint_eq(fx.cpu->vmx.guest, 1);
}
END_TEST

/* Whose NMIs IRET unblocks: L2's with virtual NMIs, none where they exit alone. */
START_TEST(iret_unblocks_the_nmis_that_are_l2s) {
    static const struct {
        unsigned pin;
        bool stays;
    } each[] = {{0, false}, {1u << 3, true}, {1u << 3 | 1u << 5, false}};
    for (unsigned i = 0; i < 3; i++) {
        struct insn in = vx_insn(0);
        vx_fill();
        vx_set(PIN, each[i].pin);
        vx_put(BLOCKED, 8);
        vx_enter();
        for (unsigned k = 0; k < 5; k++)
            ram_put(0x39000 + k * 8, (uint64_t[]){0x9100, KCODE, 2, 0x39100, KDATA}[k],
                    8);
        ck_assert_int_eq(vx_run(op_iret, &in), CPU_JUMP);
        ck_assert_uint_eq(fx.cpu->rip, 0x9100);
        ck_assert_uint_eq(fx.cpu->nmi_blocked, each[i].stays);
        vx_leave();
        fx.cpu->nmi_blocked = 0;
    }
}
END_TEST

START_TEST(the_capability_msrs_say_what_there_is) {
    static const struct {
        uint32_t index;
        uint64_t value, mask;
    } each[] = {
        {0x480, REVISION | 4096ull << 32 | 6ull << 50 | 7ull << 54, ~0ull},
        {0x485, 1u << 5 | 1u << 6 | 4u << 16 | 1u << 29 | 1u << 30, ~31ull},
        {0x486, 0x80000021, ~0ull},
        {0x487, 0xffffffff, ~0ull},
        {0x488, 0x2000, ~0ull},
        {0x489, 0x2020, 0x2020},
        {0x48a, 0x2e, 0x3fe},
        {0x48c,
         1u << 0 | 1u << 6 | 1u << 7 | 1u << 8 | 1u << 14 | 1u << 16 | 1u << 20 |
             1u << 21 | 3u << 25 | 0xf01ull << 32,
         ~(1ull << 17)}, /* 1 GiB pages are a feature */
        {0x491, 1, ~0ull},
    };
    for (unsigned i = 0; i < sizeof each / sizeof each[0]; i++) {
        uint64_t value;
        ck_assert_int_eq(msr_read(fx.cpu, each[i].index, &value), CPU_NEXT);
        ck_assert_msg((value & each[i].mask) == (each[i].value & each[i].mask),
                      "%x: %llx", (unsigned)each[i].index, (unsigned long long)value);
        ck_fault(msr_write(fx.cpu, each[i].index, 0), VEC_GP, 0);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("vmx_insn");
    TCase *t = fix_case("vmx_insn");
    tcase_add_checked_fixture(t, vx_create, vx_destroy);
    tcase_add_loop_test(t, an_instruction_exits_if_its_bit_is_set, 0, INSNS);
    tcase_add_loop_test(t, no_other_bit_makes_it_exit, 0, INSNS);
    tcase_add_loop_test(t, in_ring_3_privileged_ones_fault_before_they_exit, 0, INSNS);
    tcase_add_test(t, what_a_control_does_not_enable_is_undefined);
    tcase_add_test(t, a_memory_operand_is_described);
    tcase_add_test(t, control_registers_exit_by_their_controls);
    tcase_add_test(t, masked_bits_are_l1s);
    tcase_add_test(t, debug_registers_exit_even_in_ring_3);
    tcase_add_test(t, pause_exits_by_its_control);
    tcase_add_test(t, msrs_exit_by_the_map);
    tcase_add_test(t, ports_exit_by_the_maps_and_say_how);
    tcase_add_test(t, an_instructions_own_faults_come_before_its_exit);
    tcase_add_test(t, what_ring_3_may_do_exits_there);
    tcase_add_test(t, xsetbv_exits_whatever_the_controls_are);
    tcase_add_test(t, moves_of_registers_that_are_none_fault);
    tcase_add_test(t, cr4_is_masked_as_cr0_is);
    tcase_add_test(t, smsw_shows_the_shadow);
    tcase_add_test(t, lmsw_exits_with_what_it_would_load);
    tcase_add_test(t, clts_leaves_a_masked_bit_alone);
    tcase_add_test(t, a_register_operand_is_described);
    tcase_add_test(t, each_bit_of_a_ports_word);
    tcase_add_test(t, a_task_switch_says_why);
    tcase_add_test(t, software_exceptions_exit_by_the_bitmap);
    tcase_add_test(t, xsaves_exits_by_its_bitmap);
    tcase_add_test(t, iret_unblocks_the_nmis_that_are_l2s);
    tcase_add_test(t, the_capability_msrs_say_what_there_is);
    suite_add_tcase(suite, t);
    return fix_run(suite);
}
