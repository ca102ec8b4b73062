/* SPDX-License-Identifier: MIT */
/* SVM: each instruction's intercept on and off, its own checks, and what the exit says. */
#include "fixture_svm.h"

/* Bit `bit` of the intercept word at `word`. */
static const struct {
    svm_helper *fn;
    unsigned arg, word, bit;
    uint64_t code;
    bool ring3; /* intercepted in ring 3, too */
} insns[] = {
    {op_smsw, 0, CR_BITS, 0, 0x00, true},
    {op_lmsw, 0, CR_BITS, 16, 0x10, false},
    {op_lmsw, 0, MISC1, 5, 0x65, false}, /* whatever it writes */
    {op_clts, 0, CR_BITS, 16, 0x10, false},
    {op_int, 0, MISC1, 21, 0x75, true},
    {op_store_table, 1, MISC1, 6, 0x66, true},
    {op_store_table, 0, MISC1, 7, 0x67, true},
    {op_store_system, SEG_LDTR, MISC1, 8, 0x68, true},
    {op_store_system, SEG_TR, MISC1, 9, 0x69, true},
    {op_load_table, 1, MISC1, 10, 0x6a, false},
    {op_load_table, 0, MISC1, 11, 0x6b, false},
    {op_load_system, SEG_LDTR, MISC1, 12, 0x6c, false},
    {op_load_system, SEG_TR, MISC1, 13, 0x6d, false},
    {op_rdtsc, 0, MISC1, 14, 0x6e, true},
    {op_rdpmc, 0, MISC1, 15, 0x6f, false},
    {op_pushf, 0, MISC1, 16, 0x70, true},
    {op_popf, 0, MISC1, 17, 0x71, true},
    {op_cpuid, 0, MISC1, 18, 0x72, true},
    {op_ud, 1, MISC1, 19, 0x73, true}, /* RSM */
    {op_iret, 0, MISC1, 20, 0x74, true},
    {op_cache, 0, MISC1, 22, 0x76, false}, /* INVD */
    {op_hlt, 0, MISC1, 24, 0x78, false},
    {op_invlpg, 0, MISC1, 25, 0x79, false},
    {op_invlpga, 0, MISC1, 26, 0x7a, false},
    {op_hypercall, 1, MISC2, 1, 0x81, true}, /* VMMCALL */
    {op_vmload, 0, MISC2, 2, 0x82, false},
    {op_vmsave, 0, MISC2, 3, 0x83, false},
    {op_stgi, 1, MISC2, 4, 0x84, false},
    {op_stgi, 0, MISC2, 5, 0x85, false},
    {op_rdtsc, CPU_F_rdtscp, MISC2, 7, 0x87, true},
    {op_int3, VEC_DB, MISC2, 8, 0x88, true}, /* ICEBP */
    {op_cache, 1, MISC2, 9, 0x89, false},    /* WBINVD */
    {op_invpcid, 0, MISC3, 2, 0xa2, false},
};
#define INSNS (int)(sizeof insns / sizeof insns[0])

START_TEST(an_instruction_exits_if_its_bit_is_set) {
    struct insn in = sv_insn(insns[_i].arg);
    sv_put(insns[_i].word, 1u << insns[_i].bit | (insns[_i].word == MISC2), 4);
    sv_enter();
    ck_assert_int_eq(sv_guarded(insns[_i].fn, &in), CPU_JUMP);
    sv_left(insns[_i].code);
    ck_assert_uint_eq(sv_get(0xc8), GUEST + 2); /* NRIP */
    ck_assert_uint_eq(ram_get(VMCB + 0x578, 8), GUEST);
}
END_TEST

START_TEST(no_other_bit_makes_it_exit) {
    struct insn in = sv_insn(insns[_i].arg);
    sv_put(MISC1,
           insns[_i].word == MISC1 ? 0x7fffffc0u & ~(1u << insns[_i].bit) : 0x7fffffc0u,
           4);
    sv_put(MISC2, insns[_i].word == MISC2 ? 0x3fffu & ~(1u << insns[_i].bit) : 0x3fffu,
           4);
    sv_put(MISC3, insns[_i].word == MISC3 ? 0 : 4, 4);
    sv_enter();
    fx.cpu->gpr[R_AX] = VMCB;
    sv_guarded(insns[_i].fn, &in);
    ck_assert_uint_eq(fx.cpu->svm.guest, 1);
}
END_TEST

START_TEST(in_ring_3_privileged_ones_fault_before_they_exit) {
    struct insn in = sv_insn(insns[_i].arg);
    sv_put(insns[_i].word, 1u << insns[_i].bit | (insns[_i].word == MISC2), 4);
    sv_enter();
    fix_user();
    enum cpu_rc rc = sv_guarded(insns[_i].fn, &in);
    if (insns[_i].ring3)
        sv_left(insns[_i].code);
    else
        ck_fault(rc, VEC_GP, 0);
}
END_TEST

START_TEST(control_and_debug_registers_exit_by_number) {
    static const uint8_t crs[] = {0, 2, 3, 4, 8};
    for (unsigned dr = 0; dr < 2; dr++)
        for (unsigned i = 0; i < 5; i++)
            for (unsigned write = 0; write < 2; write++) {
                unsigned nr = dr ? i == 4 ? 7 : i : crs[i];
                struct insn in = sv_insn(0);
                in.op[write ? 0 : 1].kind = dr ? OP_DR : OP_CR;
                in.op[write ? 0 : 1].reg = (uint8_t)nr;
                in.op[write ? 1 : 0] =
                    (struct operand){.kind = OP_REG, .reg = 11, .size = 8};
                sv_fill();
                sv_put(dr ? 4 : 0, 1ull << (nr + write * 16), 4);
                sv_enter();
                ck_assert_int_eq(sv_guarded(dr ? op_mov_dr : op_mov_cr, &in), CPU_JUMP);
                sv_left((dr ? 0x20 : 0) + nr + write * 16);
                ck_assert_uint_eq(sv_get(INFO1), dr ? 11 : 1ull << 63 | 11);
            }
}
END_TEST

START_TEST(selective_cr0_writes_exit_unless_ts_and_mp_alone_change) {
    struct insn in = sv_insn(0);
    in.op[0] = (struct operand){.kind = OP_CR, .reg = 0};
    in.op[1] = (struct operand){.kind = OP_REG, .reg = 11, .size = 8};
    for (unsigned bit = 1; bit < 31; bit++) {
        if (bit == 4 || (bit > 5 && bit != 16 && bit != 18 && bit != 30))
            continue;
        sv_fill();
        sv_put(MISC1, 1u << 5, 4);
        sv_enter();
        fx.cpu->gpr[11] = fx.cpu->cr0 ^ 1ull << bit;
        sv_guarded(op_mov_cr, &in);
        ck_assert_int_eq(!fx.cpu->svm.guest, bit != 1 && bit != 3);
        if (!fx.cpu->svm.guest) {
            sv_left(0x65);
            ck_assert_uint_eq(sv_get(INFO1), 1ull << 63 | 11);
        }
        sv_leave();
    }
}
END_TEST

START_TEST(msrs_exit_by_the_map) {
    static const struct {
        uint32_t index;
        unsigned byte, bit; /* of RDMSR's */
    } at[] = {{0x175, 0x5d, 2},
              {0x1fff, 0x7ff, 6},
              {MSR_LSTAR, 0x800 + 0x20, 4},
              {MSR_VM_CR, 0x1000 + 0x45, 0}};
    for (unsigned i = 0; i < 4; i++)
        for (unsigned write = 0; write < 2; write++)
            for (unsigned on = 0; on < 2; on++) {
                struct insn in = sv_insn(0);
                sv_fill();
                sv_put(MISC1, 1u << 28, 4);
                uint8_t bits = (uint8_t)(1u << (at[i].bit + write));
                ram_put(MSRPM + at[i].byte, on ? bits : (uint8_t)~bits, 1);
                sv_enter();
                fx.cpu->gpr[R_CX] = at[i].index;
                sv_guarded(write ? op_wrmsr : op_rdmsr, &in);
                ck_assert_uint_eq(fx.cpu->svm.guest, !on);
                if (on) {
                    sv_left(0x7c);
                    ck_assert_uint_eq(sv_get(INFO1), write);
                }
                sv_leave();
            }
    struct insn in = sv_insn(0);
    sv_fill();
    sv_put(MISC1, 1u << 28, 4);
    sv_enter();
    fx.cpu->gpr[R_CX] = 0x40000000; /* in no map */
    sv_guarded(op_rdmsr, &in);
    sv_left(0x7c);
}
END_TEST

START_TEST(ports_exit_by_the_map_and_say_how) {
    struct insn in = sv_insn(0);
    in.opcode = 0xed; /* IN EAX, DX */
    in.opsize = 4;
    sv_put(MISC1, 1u << 27, 4);
    ram_put(IOPM + 0x3fa / 8, 1u << (0x3fa & 7), 1); /* the third of its bytes */
    sv_enter();
    fx.cpu->gpr[R_DX] = 0x3f8;
    ck_assert_int_eq(op_port(fx.cpu, &in), CPU_JUMP);
    sv_left(0x7b);
    ck_assert_uint_eq(sv_get(INFO1), 0x3f8u << 16 | 1 | 4u << 4 | 4u << 7);
    ck_assert_uint_eq(sv_get(INFO2), GUEST + 2);
}
END_TEST

START_TEST(pause_exits_when_its_count_is_used_up) {
    struct insn in = sv_insn(0);
    sv_put(MISC1, 1u << 23, 4);
    sv_put(0x3e, 3, 2);
    sv_enter();
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(svm_pause(fx.cpu, &in), CPU_NEXT);
    ck_assert_int_eq(svm_pause(fx.cpu, &in), CPU_JUMP);
    sv_left(0x77);
}
END_TEST

/* ---- Their own faults ---- */

static void intercept_all(void) {
    sv_put(CR_BITS, ~0u, 4);
    sv_put(DR_BITS, ~0u, 4);
    sv_put(MISC1, 0x7fffffe0u, 4);
    sv_put(MISC2, 0x3fffu, 4);
    sv_put(MISC3, 4, 4);
}

START_TEST(an_instructions_own_faults_come_before_its_exit) {
    static const struct {
        svm_helper *fn;
        unsigned arg;
        uint64_t cr4;
        uint8_t cpl, vector;
    } each[] = {
        {op_store_table, 1, CR4_UMIP, 3, VEC_GP},
        {op_store_table, 0, CR4_UMIP, 3, VEC_GP},
        {op_store_system, SEG_TR, CR4_UMIP, 3, VEC_GP},
        {op_store_system, SEG_LDTR, CR4_UMIP, 3, VEC_GP},
        {op_smsw, 0, CR4_UMIP, 3, VEC_GP},
        {op_rdtsc, 0, CR4_TSD, 3, VEC_GP},
        {op_rdtsc, CPU_F_rdtscp, CR4_TSD, 3, VEC_GP},
        {op_xsetbv, 0, 0, 0, VEC_UD},    /* OSXSAVE is off */
        {op_hypercall, 0, 0, 0, VEC_UD}, /* VMCALL */
    };
    for (unsigned i = 0; i < sizeof each / sizeof each[0]; i++) {
        struct insn in = sv_insn(each[i].arg);
        fix_long();
        fx.cpu->efer |= 0x1000;
        fx.cpu->cr4 |= each[i].cr4;
        sv_fill();
        intercept_all();
        sv_enter();
        if (each[i].cpl) {
            fix_user();
            fx.cpu->mode |= MODE_GUEST;
        }
        enum cpu_rc rc = sv_guarded(each[i].fn, &in);
        ck_assert_int_eq(rc, CPU_FAULT);
        ck_assert_uint_eq(fx.cpu->fault.vector, each[i].vector);
        sv_leave();
    }
}
END_TEST

START_TEST(what_ring_3_may_do_exits_there) {
    struct insn in = sv_insn(0);
    fx.cpu->cr4 |= CR4_PCE;
    sv_fill();
    intercept_all();
    sv_enter();
    fix_user();
    sv_guarded(op_rdpmc, &in);
    sv_left(0x6f);
}
END_TEST

START_TEST(xsetbv_exits_before_its_ring_is_looked_at) {
    struct insn in = sv_insn(0);
    if (!(fx.cpu->model->cr4_valid & CR4_OSXSAVE))
        return; /* a host without XSAVE */
    for (unsigned ring = 0; ring < 4; ring += 3) {
        fix_long();
        fx.cpu->efer |= 0x1000;
        fx.cpu->cr4 |= CR4_OSXSAVE;
        sv_fill();
        sv_put(MISC2, 1u << 13 | 1, 4);
        sv_enter();
        if (ring)
            fix_user();
        ck_assert_int_eq(sv_guarded(op_xsetbv, &in), CPU_JUMP);
        sv_left(0x8d);
    }
}
END_TEST

static struct insn mov(unsigned kind, unsigned nr, bool write) {
    struct insn in = sv_insn(0);
    in.op[write ? 0 : 1] = (struct operand){.kind = (uint8_t)kind, .reg = (uint8_t)nr};
    in.op[write ? 1 : 0] = (struct operand){.kind = OP_REG, .reg = 11, .size = 8};
    return in;
}

START_TEST(moves_of_registers_that_are_none_fault) {
    static const struct {
        unsigned kind, nr;
        uint64_t cr4, dr7;
        uint8_t cpl, vector;
    } each[] = {
        {OP_CR, 1, 0, 0, 0, VEC_UD},      {OP_CR, 5, 0, 0, 0, VEC_UD},
        {OP_DR, 4, CR4_DE, 0, 0, VEC_UD}, {OP_DR, 5, CR4_DE, 0, 0, VEC_UD},
        {OP_DR, 9, 0, 0, 0, VEC_UD},      {OP_DR, 0, 0, 1u << 13, 0, VEC_DB},
        {OP_CR, 3, 0, 0, 3, VEC_GP},      {OP_DR, 0, 0, 0, 3, VEC_GP},
    };
    for (unsigned i = 0; i < sizeof each / sizeof each[0]; i++) {
        struct insn in = mov(each[i].kind, each[i].nr, false);
        fix_long();
        fx.cpu->efer |= 0x1000;
        fx.cpu->cr4 |= each[i].cr4;
        sv_fill();
        intercept_all();
        sv_put(0x560, 0x400 | each[i].dr7, 8);
        sv_enter();
        if (each[i].cpl) {
            fix_user();
            fx.cpu->mode |= MODE_GUEST;
        }
        enum cpu_rc rc = sv_guarded(each[i].kind == OP_CR ? op_mov_cr : op_mov_dr, &in);
        ck_assert_int_eq(rc, CPU_FAULT);
        ck_assert_uint_eq(fx.cpu->fault.vector, each[i].vector);
        sv_leave();
    }
}
END_TEST

START_TEST(dr4_and_dr5_exit_by_their_own_bits) {
    for (unsigned nr = 4; nr < 6; nr++)
        for (unsigned write = 0; write < 2; write++) {
            struct insn in = mov(OP_DR, nr, write);
            sv_fill();
            sv_put(DR_BITS, 1u << (nr + write * 16), 4);
            sv_enter();
            sv_guarded(op_mov_dr, &in);
            sv_left(0x20 + nr + write * 16);
        }
}
END_TEST

START_TEST(a_lock_prefix_makes_cr8_of_cr0) {
    for (unsigned write = 0; write < 2; write++) {
        struct insn in = mov(OP_CR, 0, write);
        in.lock = 1;
        sv_fill();
        sv_put(CR_BITS, 1u << (8 + write * 16), 4);
        sv_enter();
        sv_guarded(op_mov_cr, &in);
        sv_left(8 + write * 16);
    }
}
END_TEST

/* ---- Events of instructions ---- */

START_TEST(an_int_exits_with_its_vector) {
    struct insn in = sv_insn(0);
    in.imm = 0x80;
    sv_put(MISC1, 1u << 21, 4);
    sv_enter();
    sv_guarded(op_int, &in);
    sv_left(0x75);
    ck_assert_uint_eq(sv_get(INFO1), 0x80);
}
END_TEST

/* L1, and so L2, is in 32-bit code. */
static void narrow(void) {
    fx.cpu->efer = 0x1000;
    fx.cpu->cr4 = 0;
    fix_prot();
    sv_fill();
}

/* INT3 and INTO exit as the exceptions that they raise, and return behind themselves. */
START_TEST(int3_and_into_exit_as_exceptions) {
    for (unsigned on = 0; on < 2; on++)
        for (unsigned into = 0; into < 2; into++) {
            unsigned vector = into ? VEC_OF : VEC_BP;
            struct insn in = sv_insn(vector);
            narrow();
            gate_set(vector, KCODE, 0xa000, 14, 0, 0);
            sv_put(EXC_BITS, on ? 1u << vector : ~(1u << vector), 4);
            sv_enter();
            cpu_set_rflags(fx.cpu, FL_OF | 2);
            ck_assert_int_eq(sv_guarded(into ? op_into : op_int3, &in), CPU_JUMP);
            if (on) {
                sv_left(0x40 + vector);
                ck_assert_uint_eq(sv_get(0xc8), GUEST + 2);
            } else {
                ck_assert_uint_eq(fx.cpu->rip, 0xa000);
                ck_assert_uint_eq(fx.cpu->svm.guest, 1);
            }
            sv_leave();
        }
}
END_TEST

START_TEST(a_task_switch_says_why) {
    static const struct {
        enum task_reason reason;
        bool error, rf;
        uint64_t info2;
    } each[] = {
        {TASK_CALL, false, false, 0},
        {TASK_IRET, false, false, 1ull << 36},
        {TASK_JMP, false, true, 1ull << 38 | 1ull << 48},
        {TASK_GATE, false, false, 0},
        {TASK_GATE, true, false, 1ull << 48 | 1ull << 44 | 0x1234}, /* a fault sets RF */
    };
    const struct event ev = {
        .vector = VEC_GP, .kind = EVENT_FAULT, .has_error = true, .error = 0x1234};
    for (unsigned i = 0; i < sizeof each / sizeof each[0]; i++) {
        narrow();
        sv_put(MISC1, 1u << 29, 4);
        sv_enter();
        cpu_set_rflags(fx.cpu, 2 | (each[i].rf ? FL_RF : 0));
        ck_assert_int_eq(task_switch(fx.cpu, TSS2_SEL, each[i].reason, GUEST + 2,
                                     each[i].error ? &ev : NULL),
                         CPU_JUMP);
        sv_left(0x7d);
        ck_assert_uint_eq(sv_get(INFO1), TSS2_SEL);
        ck_assert_uint_eq(sv_get(INFO2), each[i].info2);
    }
    sv_put(MISC1, 0, 4);
    sv_enter();
    task_switch(fx.cpu, TSS2_SEL, TASK_JMP, GUEST + 2, NULL);
    ck_assert_uint_eq(fx.cpu->svm.guest, 1);
}
END_TEST

/* ---- Ports and addresses ---- */

START_TEST(each_bit_of_a_ports_word) {
    enum cpu_rc rc;
    for (unsigned i = 0; i < 32; i++) {
        unsigned size = 1u << i % 3, out = i >> 2 & 1, rep = i >> 3 & 1;
        unsigned wide = 2u << (i >> 1) % 3;
        bool string = i & 16;
        struct insn in = sv_insn(0);
        in.rep = rep ? 0xf3 : 0;
        in.addrsize = (uint8_t)wide;
        in.seg = SEG_FS;
        sv_fill();
        sv_put(MISC1, 1u << 27, 4);
        ram_put(IOPM + 0x60 / 8, 1, 1);
        sv_enter();
        ck_assert(svm_port(fx.cpu, &in, 0x60, size, out, string, &rc));
        sv_left(0x7b);
        uint64_t info = 0x60u << 16 | !out | (size == 1 ? 1u : size == 2 ? 2u : 4u) << 4;
        info |= (wide == 2 ? 1u : wide == 4 ? 2u : 4u) << 7; /* the address's size */
        if (string) /* STR, REP, the segment: ES of INS */
            info |= 1u << 2 | rep << 3 | (out ? 4u << 10 : 0);
        ck_assert_uint_eq(sv_get(INFO1), info);
    }
    sv_fill();
    sv_enter();
    struct insn in = sv_insn(0);
    ram_put(IOPM + 0x60 / 8, 1, 1);
    ck_assert(!svm_port(fx.cpu, &in, 0x60, 1, true, false, &rc)); /* the bit is off */
}
END_TEST

START_TEST(addresses_that_an_exit_tells_are_linear) {
    struct insn in = insn_mem(8, PAGES, 8);
    in.rip = GUEST;
    for (unsigned i = 0; i < 3; i++) { /* flat, by FS, and of 32 bits, which wrap */
        sv_fill();
        if (i == 2)
            narrow();
        sv_put(MISC1, 1u << 25, 4);
        sv_put(MISC3, 4, 4);
        for (unsigned pcid = 0; pcid < 2; pcid++) {
            sv_enter();
            fx.cpu->seg[SEG_FS].base = i == 2 ? 0xfffff000u : 0x5000;
            fx.cpu->seg[SEG_DS].base = 0x7000;
            in.seg = i ? SEG_FS : SEG_DS;
            in.op[0] =
                pcid ? (struct operand){.kind = OP_REG, .reg = 11, .size = 8} : in.op[0];
            fx.cpu->gpr[11] = 2;
            sv_guarded(pcid ? op_invpcid : op_invlpg, &in);
            sv_left(pcid ? 0xa2 : 0x79);
            ck_assert_uint_eq(sv_get(INFO1), PAGES + (i == 0   ? 0
                                                      : i == 1 ? 0x5000
                                                               : -0x1000u));
            if (pcid)
                ck_assert_uint_eq(sv_get(INFO2), 2);
        }
    }
}
END_TEST

START_TEST(without_the_features_their_fields_stay_0) {
    struct insn in = mov(OP_CR, 3, false);
    sv_destroy();
    sv_create_as(
        "max,vendor=amd,+svm,-la57,-shstk,-decodeassists,-nrip_save,-pausefilter");
    sv_put(CR_BITS, 1u << 3, 4);
    sv_put(MISC1, 1u << 23, 4);
    sv_put(0x3e, 3, 2);
    sv_enter();
    sv_guarded(op_mov_cr, &in);
    sv_left(3);
    ck_assert_uint_eq(sv_get(INFO1), 0);
    ck_assert_uint_eq(sv_get(0xc8), 0);
    sv_enter();
    ck_assert_int_eq(svm_pause(fx.cpu, &in), CPU_JUMP); /* nothing is counted */
    sv_left(0x77);
    sv_put(MISC1, 0, 4);
    sv_enter();
    ck_assert_int_eq(svm_pause(fx.cpu, &in), CPU_NEXT);
}
END_TEST

START_TEST(vmrun_exits_and_vmload_by_the_guests_own_rules) {
    struct insn in = sv_insn(0);
    sv_enter();
    fx.cpu->gpr[R_AX] = VMCB;
    ck_assert_int_eq(op_vmrun(fx.cpu, &in), CPU_JUMP);
    sv_left(0x80);
    sv_enter();
    fx.cpu->gpr[R_AX] = VMCB + 1;
    ck_fault(op_vmload(fx.cpu, &in), VEC_GP, 0);
    ck_fault(op_vmsave(fx.cpu, &in), VEC_GP, 0);
}
END_TEST

START_TEST(stgi_and_clgi_are_virtual_with_vgif) {
    struct insn in = sv_insn(0);
    sv_put(0x60, 1u << 25 | 1u << 9, 8); /* enabled, and set */
    sv_enter();
    for (unsigned on = 0; on < 2; on++) {
        in.arg = (uint16_t)on;
        ck_assert_int_eq(sv_guarded(op_stgi, &in), CPU_STOP);
        ck_assert_uint_eq(fx.cpu->svm.gif, 1);
        ck_assert_uint_eq(fx.cpu->svm.int_ctl >> 9 & 1, on);
    }
    svm_exit(fx.cpu, 0x81, 0, 0, 0);
    ck_assert_uint_eq(sv_get(0x60) >> 9 & 1, 1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("svm_insn");
    TCase *t = fix_case("svm_insn");
    tcase_add_checked_fixture(t, sv_create, sv_destroy);
    tcase_add_loop_test(t, an_instruction_exits_if_its_bit_is_set, 0, INSNS);
    tcase_add_loop_test(t, no_other_bit_makes_it_exit, 0, INSNS);
    tcase_add_loop_test(t, in_ring_3_privileged_ones_fault_before_they_exit, 0, INSNS);
    tcase_add_test(t, control_and_debug_registers_exit_by_number);
    tcase_add_test(t, selective_cr0_writes_exit_unless_ts_and_mp_alone_change);
    tcase_add_test(t, msrs_exit_by_the_map);
    tcase_add_test(t, ports_exit_by_the_map_and_say_how);
    tcase_add_test(t, pause_exits_when_its_count_is_used_up);
    tcase_add_test(t, an_instructions_own_faults_come_before_its_exit);
    tcase_add_test(t, what_ring_3_may_do_exits_there);
    tcase_add_test(t, xsetbv_exits_before_its_ring_is_looked_at);
    tcase_add_test(t, moves_of_registers_that_are_none_fault);
    tcase_add_test(t, dr4_and_dr5_exit_by_their_own_bits);
    tcase_add_test(t, a_lock_prefix_makes_cr8_of_cr0);
    tcase_add_test(t, an_int_exits_with_its_vector);
    tcase_add_test(t, int3_and_into_exit_as_exceptions);
    tcase_add_test(t, a_task_switch_says_why);
    tcase_add_test(t, each_bit_of_a_ports_word);
    tcase_add_test(t, addresses_that_an_exit_tells_are_linear);
    tcase_add_test(t, without_the_features_their_fields_stay_0);
    tcase_add_test(t, vmrun_exits_and_vmload_by_the_guests_own_rules);
    tcase_add_test(t, stgi_and_clgi_are_virtual_with_vgif);
    suite_add_tcase(suite, t);
    return fix_run(suite);
}
