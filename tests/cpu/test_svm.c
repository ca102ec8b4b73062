/* SPDX-License-Identifier: MIT */
/*
 * SVM: each intercept on and off, the consistency checks, injection, interrupts, nested
 * paging's exits, and VMCBs of random bytes. Offsets and codes are the manual's, once more.
 */
#include "cpu/svm.h"
#include "fixture_flat.h"

#define VMCB    0x20000u
#define HSAVE   0x22000u
#define IOPM    0x24000u /* three pages */
#define MSRPM   0x28000u /* two */
#define NPT     0x30000u
#define GUEST   0x9000u /* where L2 begins */
#define MISC1   0x0cu
#define MISC2   0x10u
#define MISC3   0x14u
#define CODE    0x70u
#define INFO1   0x78u
#define INFO2   0x80u
#define INTINFO 0x88u
#define INJECT  0xa8u

static struct cpu_model *amd;

static uint64_t v(unsigned at) {
    return ram_get(VMCB + at, 8);
}
static void put(unsigned at, uint64_t value, unsigned size) {
    ram_put(VMCB + at, value, size);
}
static void save_seg(unsigned at, unsigned seg) {
    const struct pn_segment *s = &fx.cpu->seg[seg];
    put(0x400 + at, s->sel, 2);
    put(0x402 + at, (s->attr & 0xff) | (s->attr >> 4 & 0xf00), 2);
    put(0x404 + at, s->limit, 4);
    put(0x408 + at, s->base, 8);
}

/* L2 is as L1 is, at GUEST. */
static void fill(void) {
    struct cpu *c = fx.cpu;
    memset(fx.ram + VMCB, 0, 0x1000);
    memset(fx.ram + IOPM, 0, 0x6000);
    put(MISC2, 1, 4);
    put(0x40, IOPM, 8);
    put(0x48, MSRPM, 8);
    put(0x58, 1, 4);
    save_seg(0x00, SEG_ES);
    save_seg(0x10, SEG_CS);
    save_seg(0x20, SEG_SS);
    save_seg(0x30, SEG_DS);
    put(0x464, c->gdtr.limit, 4);
    put(0x468, c->gdtr.base, 8);
    put(0x484, c->idtr.limit, 4);
    put(0x488, c->idtr.base, 8);
    put(0x4d0, c->efer, 8);
    put(0x548, c->cr4, 8);
    put(0x550, c->cr3, 8);
    put(0x558, c->cr0, 8);
    put(0x560, 0x400, 8);
    put(0x568, 0xffff0ff0, 8);
    put(0x570, 2, 8);
    put(0x578, GUEST, 8);
    put(0x5d8, 0x38000, 8);
    put(0x668, 0x0007040600070406, 8);
}

static void create(void) {
    char err[128];
    fix_create_unaudited();
    ck_assert_int_eq(
        cpu_model_parse("max,vendor=amd,+svm,-la57,-shstk", &amd, err, sizeof err), 0);
    fx.cpu->model = amd;
    fix_long();
    fx.cpu->efer |= 0x1000;
    fx.cpu->svm.hsave = HSAVE;
    fill();
}
static void destroy(void) {
    fix_destroy();
    cpu_model_free(amd);
}

static enum cpu_rc vmrun(void) {
    struct insn in = insn_new(8);
    in.len = 3;
    fx.cpu->gpr[R_AX] = VMCB;
    return op_vmrun(fx.cpu, &in);
}

static void enter(void) {
    fx.cpu->cpl = 0;
    fx.cpu->rip = 0x8000;
    ck_assert_int_eq(vmrun(), CPU_JUMP);
    ck_assert_uint_eq(fx.cpu->svm.guest, 1);
    ck_assert_uint_eq(fx.cpu->rip, GUEST);
    ck_assert_uint_ne(fx.cpu->mode & MODE_GUEST, 0);
}

static void leave_l2(void) {
    if (fx.cpu->svm.guest)
        svm_exit(fx.cpu, 0x81, 0, 0, 0);
}

/* L1 goes on behind VMRUN. */
static void left(uint64_t code) {
    ck_exits_counted();
    ck_assert_uint_eq(v(CODE), code);
    ck_assert_uint_eq(fx.cpu->svm.guest, 0);
    ck_assert_uint_eq(fx.cpu->svm.gif, 0);
    ck_assert_uint_eq(fx.cpu->mode & MODE_GUEST, 0);
    ck_assert_uint_eq(fx.cpu->rip, 0x8003);
}

/* ---- Instructions ---- */

static struct insn with_arg(unsigned arg) {
    struct insn in = insn_mem(8, PAGES, 8);
    in.rip = GUEST;
    in.arg = (uint16_t)arg;
    return in;
}

/* Bit `bit` of the intercept word at `word`. */
static const struct {
    svm_helper *fn;
    unsigned arg, word, bit;
    uint64_t code;
    bool ring3; /* intercepted in ring 3, too */
} insns[] = {
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

static enum cpu_rc run_guarded(svm_helper *fn, const struct insn *in) {
    return svm_guard(fn)(fx.cpu, in);
}

START_TEST(an_instruction_exits_if_its_bit_is_set) {
    struct insn in = with_arg(insns[_i].arg);
    put(insns[_i].word, 1u << insns[_i].bit | (insns[_i].word == MISC2), 4);
    enter();
    ck_assert_int_eq(run_guarded(insns[_i].fn, &in), CPU_JUMP);
    left(insns[_i].code);
    ck_assert_uint_eq(v(0xc8), GUEST + 2); /* NRIP */
    ck_assert_uint_eq(ram_get(VMCB + 0x578, 8), GUEST);
}
END_TEST

START_TEST(no_other_bit_makes_it_exit) {
    struct insn in = with_arg(insns[_i].arg);
    put(MISC1,
        insns[_i].word == MISC1 ? 0x7fffffc0u & ~(1u << insns[_i].bit) : 0x7fffffc0u, 4);
    put(MISC2, insns[_i].word == MISC2 ? 0x3fffu & ~(1u << insns[_i].bit) : 0x3fffu, 4);
    put(MISC3, insns[_i].word == MISC3 ? 0 : 4, 4);
    enter();
    fx.cpu->gpr[R_AX] = VMCB;
    run_guarded(insns[_i].fn, &in);
    ck_assert_uint_eq(fx.cpu->svm.guest, 1);
}
END_TEST

START_TEST(in_ring_3_privileged_ones_fault_before_they_exit) {
    struct insn in = with_arg(insns[_i].arg);
    put(insns[_i].word, 1u << insns[_i].bit | (insns[_i].word == MISC2), 4);
    enter();
    fix_user();
    enum cpu_rc rc = run_guarded(insns[_i].fn, &in);
    if (insns[_i].ring3)
        left(insns[_i].code);
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
                struct insn in = with_arg(0);
                in.op[write ? 0 : 1].kind = dr ? OP_DR : OP_CR;
                in.op[write ? 0 : 1].reg = (uint8_t)nr;
                in.op[write ? 1 : 0] =
                    (struct operand){.kind = OP_REG, .reg = 11, .size = 8};
                fill();
                put(dr ? 4 : 0, 1ull << (nr + write * 16), 4);
                enter();
                ck_assert_int_eq(run_guarded(dr ? op_mov_dr : op_mov_cr, &in), CPU_JUMP);
                left((dr ? 0x20 : 0) + nr + write * 16);
                ck_assert_uint_eq(v(INFO1), dr ? 11 : 1ull << 63 | 11);
            }
}
END_TEST

START_TEST(selective_cr0_writes_exit_unless_ts_and_mp_alone_change) {
    struct insn in = with_arg(0);
    in.op[0] = (struct operand){.kind = OP_CR, .reg = 0};
    in.op[1] = (struct operand){.kind = OP_REG, .reg = 11, .size = 8};
    for (unsigned bit = 1; bit < 31; bit++) {
        if (bit == 4 || (bit > 5 && bit != 16 && bit != 18 && bit != 30))
            continue;
        fill();
        put(MISC1, 1u << 5, 4);
        enter();
        fx.cpu->gpr[11] = fx.cpu->cr0 ^ 1ull << bit;
        run_guarded(op_mov_cr, &in);
        ck_assert_int_eq(!fx.cpu->svm.guest, bit != 1 && bit != 3);
        if (!fx.cpu->svm.guest)
            left(0x65);
        leave_l2();
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
                struct insn in = with_arg(0);
                fill();
                put(MISC1, 1u << 28, 4);
                uint8_t bits = (uint8_t)(1u << (at[i].bit + write));
                ram_put(MSRPM + at[i].byte, on ? bits : (uint8_t)~bits, 1);
                enter();
                fx.cpu->gpr[R_CX] = at[i].index;
                run_guarded(write ? op_wrmsr : op_rdmsr, &in);
                ck_assert_uint_eq(fx.cpu->svm.guest, !on);
                if (on) {
                    left(0x7c);
                    ck_assert_uint_eq(v(INFO1), write);
                }
                leave_l2();
            }
    struct insn in = with_arg(0);
    fill();
    put(MISC1, 1u << 28, 4);
    enter();
    fx.cpu->gpr[R_CX] = 0x40000000; /* in no map */
    run_guarded(op_rdmsr, &in);
    left(0x7c);
}
END_TEST

START_TEST(ports_exit_by_the_map_and_say_how) {
    struct insn in = with_arg(0);
    in.opcode = 0xed; /* IN EAX, DX */
    in.opsize = 4;
    put(MISC1, 1u << 27, 4);
    ram_put(IOPM + 0x3fa / 8, 1u << (0x3fa & 7), 1); /* the third of its bytes */
    enter();
    fx.cpu->gpr[R_DX] = 0x3f8;
    ck_assert_int_eq(op_port(fx.cpu, &in), CPU_JUMP);
    left(0x7b);
    ck_assert_uint_eq(v(INFO1), 0x3f8u << 16 | 1 | 4u << 4);
    ck_assert_uint_eq(v(INFO2), GUEST + 2);
}
END_TEST

START_TEST(pause_exits_when_its_count_is_used_up) {
    struct insn in = with_arg(0);
    put(MISC1, 1u << 23, 4);
    put(0x3e, 3, 2);
    enter();
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(svm_pause(fx.cpu, &in), CPU_NEXT);
    ck_assert_int_eq(svm_pause(fx.cpu, &in), CPU_JUMP);
    left(0x77);
}
END_TEST

/* ---- VMRUN itself ---- */

START_TEST(vmrun_needs_svme_ring_0_and_an_aligned_page) {
    struct insn in = insn_new(8);
    fx.cpu->gpr[R_AX] = VMCB + 8;
    ck_fault(op_vmrun(fx.cpu, &in), VEC_GP, 0);
    fx.cpu->gpr[R_AX] = 1ull << 46;
    ck_fault(op_vmrun(fx.cpu, &in), VEC_GP, 0);
    fx.cpu->gpr[R_AX] = VMCB;
    fx.cpu->cpl = 3;
    ck_fault(op_vmrun(fx.cpu, &in), VEC_GP, 0);
    fx.cpu->cpl = 0;
    fx.cpu->efer &= ~(uint64_t)0x1000;
    ck_fault(op_vmrun(fx.cpu, &in), VEC_UD, -1);
}
END_TEST

static const struct {
    unsigned at, size;
    uint64_t value;
} wrong[] = {
    {MISC2, 4, 0},                          /* VMRUN not intercepted */
    {0x58, 4, 0},                           /* ASID 0 */
    {0x5c, 1, 2},                           /* TLB_CONTROL */
    {0x40, 8, (1ull << 46) - 0x2000},       /* IOPM ends beyond memory's limit */
    {0x48, 8, 1ull << 46},                  /* MSRPM */
    {0x4d0, 8, 0xd01},                      /* EFER.SVME */
    {0x4d0, 8, 0x21d01},                    /* EFER, a bit that must be 0 */
    {0x558, 8, 0xa0010011},                 /* CR0.NW without CD */
    {0x558, 8, 0x180010011},                /* CR0, upper half */
    {0x558, 8, 0x80010010},                 /* long mode without PE */
    {0x550, 8, 1ull << 46},                 /* CR3 */
    {0x548, 8, 0},                          /* long mode without PAE */
    {0x548, 8, 1ull << 40 | 0x20},          /* CR4 */
    {0x568, 8, 1ull << 32},                 /* DR6 */
    {0x560, 8, 1ull << 32},                 /* DR7 */
    {0x412, 2, 0xe9b},                      /* CS.L and CS.D: attributes G D L */
    {INJECT, 8, 1ull << 31 | 1u << 8},      /* a type that is none */
    {INJECT, 8, 1ull << 31 | 3u << 8 | 32}, /* no exception */
    {INJECT, 8, 1ull << 31 | 3u << 8 | 2},  /* NMI as an exception */
};

START_TEST(a_state_that_may_not_be_is_refused) {
    put(wrong[_i].at, wrong[_i].value, wrong[_i].size);
    ck_assert_int_eq(vmrun(), CPU_JUMP);
    left(~0ull);
}
END_TEST

START_TEST(l1s_state_comes_back_and_l2s_is_saved) {
    struct cpu *c = fx.cpu;
    struct insn in = with_arg(1);
    put(MISC2, 3, 4);
    c->gpr[R_SP] = 0x31110;
    c->sys_flags |= FL_IF;
    c->tsc_offset = 100;
    put(0x50, 5000, 8);
    enter();
    ck_assert_int_eq(c->tsc_offset, 5100);
    ck_assert_uint_eq(c->sys_flags & FL_IF, 0);
    c->gpr[R_AX] = 0x1234, c->cr2 = 0x5678;
    run_guarded(op_hypercall, &in);
    left(0x81);
    ck_assert_int_eq(c->tsc_offset, 100);
    ck_assert_uint_eq(c->gpr[R_AX], VMCB);
    ck_assert_uint_eq(c->gpr[R_SP], 0x31110);
    ck_assert_uint_eq(c->sys_flags & FL_IF, FL_IF);
    ck_assert_uint_eq(v(0x5f8), 0x1234);
    ck_assert_uint_eq(v(0x640), 0x5678);
    ck_assert_uint_eq(v(0x5d8), 0x38000);
}
END_TEST

/* ---- Events ---- */

START_TEST(an_exception_exits_by_its_vector_with_its_code) {
    put(8, 1u << VEC_PF | 1u << VEC_GP, 4);
    enter();
    fx.cpu->fault = (struct pn_fault){VEC_PF, true, 6, 0xabc000, 0};
    fx.cpu->cr2 = 1;
    ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
    left(0x40 + VEC_PF);
    ck_assert_uint_eq(v(INFO1), 6);
    ck_assert_uint_eq(v(INFO2), 0xabc000);
    ck_assert_uint_eq(v(0x640), 1); /* CR2 is as it was */
    ck_assert_uint_eq(v(INTINFO), 0);
}
END_TEST

START_TEST(an_injected_event_is_delivered_before_l2_begins) {
    gate_set(VEC_GP, KCODE, 0xa000, 14, 0, 0);
    put(8, 1u << VEC_GP, 4); /* the intercept is not for what is injected */
    put(INJECT, 1ull << 31 | 1u << 11 | 3u << 8 | VEC_GP | 0x55ull << 32, 8);
    fx.cpu->rip = 0x8000;
    ck_assert_int_eq(vmrun(), CPU_JUMP);
    ck_assert_uint_eq(fx.cpu->svm.guest, 1);
    ck_assert_uint_eq(fx.cpu->rip, 0xa000);
    ck_assert_uint_eq(ram_get((uint32_t)fx.cpu->gpr[R_SP], 8), 0x55);
    ck_assert_uint_eq(ram_get((uint32_t)fx.cpu->gpr[R_SP] + 8, 8), GUEST);
}
END_TEST

START_TEST(an_injected_software_event_returns_to_where_nrip_says) {
    static const unsigned events[] = {3u << 8 | VEC_BP, 3u << 8 | VEC_OF, 4u << 8 | 0x80};
    for (unsigned i = 0; i < 3; i++) {
        fill();
        gate_set((uint8_t)events[i], KCODE, 0xa000, 14, 0, 0);
        put(INJECT, 1ull << 31 | events[i], 8);
        put(0xc8, GUEST + 2, 8);
        fx.cpu->rip = 0x8000;
        ck_assert_int_eq(vmrun(), CPU_JUMP);
        ck_assert_uint_eq(fx.cpu->rip, 0xa000);
        ck_assert_uint_eq(ram_get((uint32_t)fx.cpu->gpr[R_SP], 8), GUEST + 2);
        fx.cpu->svm.guest = 0;
    }
}
END_TEST

START_TEST(what_interrupts_a_delivery_tells_of_it) {
    put(0x484, 0, 4); /* no IDT */
    put(8, 1u << VEC_GP, 4);
    put(INJECT, 1ull << 31 | 0x80, 8); /* an interrupt */
    fx.cpu->rip = 0x8000;
    ck_assert_int_eq(vmrun(), CPU_JUMP);
    left(0x40 + VEC_GP);
    ck_assert_uint_eq(v(INTINFO), 1ull << 31 | 0x80);
    ck_assert_uint_eq(v(INJECT) >> 31 & 1, 0);
}
END_TEST

START_TEST(a_triple_fault_exits_as_shutdown) {
    put(0x484, 0, 4);
    put(MISC1, 1u << 31, 4);
    enter();
    fx.cpu->fault = (struct pn_fault){.vector = VEC_UD};
    ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
    left(0x7f);
}
END_TEST

START_TEST(an_interrupt_exits_by_l1s_flag_and_stays_pending) {
    for (unsigned host_if = 0; host_if < 2; host_if++) {
        fill();
        put(MISC1, 1, 4);
        put(0x60, 1u << 24, 8); /* V_INTR_MASKING */
        fx.cpu->sys_flags = 2 | (host_if ? FL_IF : 0);
        enter();
        fx.irq = 0x31;
        fx.cpu->intr_line = 1;
        cpu_poll_events(fx.cpu);
        ck_assert_uint_eq(fx.cpu->svm.guest, !host_if);
        ck_assert_int_eq(fx.irq, 0x31);
        if (host_if) {
            left(0x60);
            cpu_poll_events(fx.cpu); /* GIF is clear */
            ck_assert_int_eq(fx.irq, 0x31);
        }
        leave_l2();
    }
}
END_TEST

START_TEST(a_virtual_interrupt_waits_for_if_and_its_priority) {
    gate_set(0x41, KCODE, 0xb000, 14, 0, 0);
    for (unsigned open = 0; open < 2; open++)
        for (unsigned prio = 3; prio < 6; prio++) {
            fill();
            put(0x60, 4 | 1u << 8 | prio << 16 | 1u << 24 | 0x41ull << 32, 8);
            put(0x570, 2 | (open ? FL_IF : 0), 8);
            enter();
            cpu_poll_events(fx.cpu);
            bool comes = open && prio > 4;
            ck_assert_uint_eq(fx.cpu->rip, comes ? 0xb000 : GUEST);
            ck_assert_uint_eq(fx.cpu->svm.int_ctl >> 8 & 1, !comes);
            leave_l2();
        }
    fill();
    put(MISC1, 1u << 4, 4);
    put(0x60, 1u << 8 | 1u << 20 | 1u << 24 | 0x41ull << 32, 8);
    put(0x570, 2 | FL_IF, 8);
    enter();
    cpu_poll_events(fx.cpu);
    left(0x64);
    ck_assert_uint_eq(v(0x60) >> 8 & 1, 1);
}
END_TEST

START_TEST(an_nmi_exits_and_waits_for_stgi) {
    struct insn in = insn_new(8);
    gate_set(2, KCODE, 0xc000, 14, 0, 0);
    put(MISC1, 2, 4);
    enter();
    fx.cpu->nmi_pending = 1;
    cpu_poll_events(fx.cpu);
    left(0x61);
    cpu_poll_events(fx.cpu);
    ck_assert_uint_eq(fx.cpu->nmi_pending, 1);
    in.arg = 1;
    ck_assert_int_eq(op_stgi(fx.cpu, &in), CPU_STOP);
    cpu_poll_events(fx.cpu);
    ck_assert_uint_eq(fx.cpu->rip, 0xc000);
}
END_TEST

/* ---- Nested paging ---- */

/* One to one up to 4 MiB, but PAGES + 0x1000 is absent, + 0x2000 read-only, + 0x3000 holds
 * what stands in + 0x4000. */
static void nest(void) {
    ram_put(NPT, (NPT + 0x1000) | 7, 8);
    ram_put(NPT + 0x1000, (NPT + 0x2000) | 7, 8);
    ram_put(NPT + 0x2000, 0x87, 8);
    ram_put(NPT + 0x2008, (NPT + 0x3000) | 7, 8);
    for (unsigned i = 0; i < 512; i++)
        ram_put(NPT + 0x3000 + i * 8, (PAGES + i * 0x1000) | 7, 8);
    ram_put(NPT + 0x3008, 0, 8);
    ram_put(NPT + 0x3010, (PAGES + 0x2000) | 5, 8);
    ram_put(NPT + 0x3018, (PAGES + 0x4000) | 7, 8);
    put(0x90, 1, 8);
    put(0xb0, NPT, 8);
}

START_TEST(nested_faults_exit_with_what_was_asked_for) {
    uint64_t q = 7;
    nest();
    enter();
    ck_assert_int_eq(cpu_read_lin(fx.cpu, PAGES + 0x1008, &q, 8, PN_TLB_SUPER),
                     CPU_FAULT);
    ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
    left(0x400);
    ck_assert_uint_eq(v(INFO1), 1ull << 32 | 4);
    ck_assert_uint_eq(v(INFO2), PAGES + 0x1008);
    enter();
    ck_assert_int_eq(cpu_write_lin(fx.cpu, PAGES + 0x2010, &q, 8, PN_TLB_SUPER),
                     CPU_FAULT);
    ck_assert_int_eq(cpu_deliver_fault(fx.cpu), CPU_JUMP);
    left(0x400);
    ck_assert_uint_eq(v(INFO1), 1ull << 32 | 7);
    ck_assert_uint_eq(v(INFO2), PAGES + 0x2010);
}
END_TEST

START_TEST(l2_reads_where_both_tables_lead_and_sees_changes_after_a_flush) {
    uint64_t q;
    nest();
    ram_put(PAGES + 0x4000, 0x1111, 8);
    ram_put(PAGES + 0x5000, 0x2222, 8);
    enter();
    ck_assert_int_eq(cpu_read_lin(fx.cpu, PAGES + 0x3000, &q, 8, PN_TLB_SUPER), CPU_NEXT);
    ck_assert_uint_eq(q, 0x1111);
    /* A and D, as by a user's store to the guest's tables, and by the read. */
    ck_assert_uint_eq(ram_get(NPT + 0x2000, 8) & 0x60, 0x60);
    ck_assert_uint_eq(ram_get(NPT + 0x3018, 8) & 0x60, 0x20);
    svm_exit(fx.cpu, 0x81, 0, 0, 0);
    ck_assert_int_eq(cpu_read_lin(fx.cpu, PAGES + 0x4000, &q, 8, PN_TLB_SUPER), CPU_NEXT);
    ck_assert_uint_eq(q, 0x1111); /* L1's own is not L2's */
    ram_put(NPT + 0x3018, (PAGES + 0x5000) | 7, 8);
    put(0x5c, 3, 1);
    enter();
    ck_assert_int_eq(cpu_read_lin(fx.cpu, PAGES + 0x3000, &q, 8, PN_TLB_SUPER), CPU_NEXT);
    ck_assert_uint_eq(q, 0x2222);
}
END_TEST

/* ---- Hostile ---- */

static uint64_t rnd(uint64_t *s) {
    *s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
    return *s;
}

START_TEST(random_vmcbs_end_in_l2_or_in_l1) {
    uint64_t seed = 0x9e3779b97f4a7c15 + (uint64_t)_i, entered = 0;
    for (unsigned round = 0; round < 1000; round++) {
        fill();
        nest();
        put(0x90, rnd(&seed) & 1, 8);
        unsigned changes = rnd(&seed) % 6;
        for (unsigned i = 0; i < changes; i++) {
            unsigned at = rnd(&seed) % (round & 1 ? 0xe0 : 0x6a0);
            put(at, rnd(&seed) & rnd(&seed), 1 + rnd(&seed) % 8);
        }
        fx.cpu->rip = 0x8000;
        enum cpu_rc rc = vmrun();
        ck_assert(rc == CPU_JUMP || rc == CPU_SHUTDOWN);
        if (rc == CPU_SHUTDOWN) { /* a triple fault of L2's that L1 wants */
            ck_assert_uint_eq(fx.cpu->svm.guest, 1);
        }
        entered += fx.cpu->svm.guest;
        for (unsigned i = 0; fx.cpu->svm.guest && i < 4; i++) {
            uint64_t q = rnd(&seed);
            pn_gva at = (rnd(&seed) & 0x3fffff) | (i == 3 ? rnd(&seed) : 0);
            if (cpu_write_lin(fx.cpu, at & ~7ull, &q, 8, cpu_tlb_mode(fx.cpu)) ==
                CPU_FAULT)
                cpu_deliver_fault(fx.cpu);
        }
        leave_l2();
        ck_assert_uint_eq(fx.cpu->svm.guest, 0);
        destroy();
        create();
    }
    ck_assert_uint_gt(entered, 100);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("svm");
    TCase *t = tcase_create("svm");
    tcase_add_checked_fixture(t, create, destroy);
    tcase_add_loop_test(t, an_instruction_exits_if_its_bit_is_set, 0, INSNS);
    tcase_add_loop_test(t, no_other_bit_makes_it_exit, 0, INSNS);
    tcase_add_loop_test(t, in_ring_3_privileged_ones_fault_before_they_exit, 0, INSNS);
    tcase_add_test(t, control_and_debug_registers_exit_by_number);
    tcase_add_test(t, selective_cr0_writes_exit_unless_ts_and_mp_alone_change);
    tcase_add_test(t, msrs_exit_by_the_map);
    tcase_add_test(t, ports_exit_by_the_map_and_say_how);
    tcase_add_test(t, pause_exits_when_its_count_is_used_up);
    tcase_add_test(t, vmrun_needs_svme_ring_0_and_an_aligned_page);
    tcase_add_loop_test(t, a_state_that_may_not_be_is_refused, 0,
                        (int)(sizeof wrong / sizeof wrong[0]));
    tcase_add_test(t, l1s_state_comes_back_and_l2s_is_saved);
    tcase_add_test(t, an_exception_exits_by_its_vector_with_its_code);
    tcase_add_test(t, an_injected_event_is_delivered_before_l2_begins);
    tcase_add_test(t, an_injected_software_event_returns_to_where_nrip_says);
    tcase_add_test(t, what_interrupts_a_delivery_tells_of_it);
    tcase_add_test(t, a_triple_fault_exits_as_shutdown);
    tcase_add_test(t, an_interrupt_exits_by_l1s_flag_and_stays_pending);
    tcase_add_test(t, a_virtual_interrupt_waits_for_if_and_its_priority);
    tcase_add_test(t, an_nmi_exits_and_waits_for_stgi);
    tcase_add_test(t, nested_faults_exit_with_what_was_asked_for);
    tcase_add_test(t, l2_reads_where_both_tables_lead_and_sees_changes_after_a_flush);
    tcase_add_loop_test(t, random_vmcbs_end_in_l2_or_in_l1, 0, 4);
    suite_add_tcase(suite, t);
    return fix_run(suite);
}
