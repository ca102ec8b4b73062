/* SPDX-License-Identifier: MIT */
/*
 * Properties of the system half under random descriptors, frames and operands, in every
 * mode: a helper that faults has changed no register; one that succeeds leaves CPL, CS
 * and the mode bits consistent; nothing crashes, whatever the tables hold.
 */
#include <stdlib.h>

#include "fixture_flat.h"
#include "ops.h"
#include "tests/suite.h"

#define ROUNDS 60000

static uint64_t seed;
static uint64_t rnd(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * 0x2545f4914f6cdd1dull;
}
static uint64_t pick(uint64_t n) {
    return (rnd() >> 20) % n;
}

/* A descriptor that often passes some checks: plausible type, DPL, P, L, D, base. */
static uint64_t random_desc(void) {
    static const uint32_t base[] = {0, 0, 0, TSS, TSS2, LDT, PAGES, 0xfffff000};
    static const uint32_t limit[] = {0xffffffff, 0xffffffff, 0xffff, 0xfff,
                                     0x67,       0x2b,       7};
    uint32_t attr = (uint32_t)pick(32) | (uint32_t)pick(4) << 5 | (pick(8) ? ATTR_P : 0) |
                    (uint32_t)(pick(16) << 12);
    return make_desc(base[pick(8)], limit[pick(7)], attr);
}

static uint16_t random_sel(void) {
    return (uint16_t)((pick(GDT_END / 8 + 1) << 3) | (pick(8) ? 0 : 4) | pick(4));
}

static uint64_t random_address(void) {
    switch (pick(8)) {
    case 0:
        return rnd();
    case 1:
        return MMIO + pick(64);
    case 2:
        return 1ull << 47;
    default:
        return PAGES + pick(0x4000);
    }
}

static void random_tables(void) {
    for (unsigned sel = 8; sel < GDT_END; sel += 8)
        if (!pick(4))
            gdt_set(sel, random_desc());
    for (unsigned i = 0; i < 8; i++)
        ram_put(LDT + i * 8, random_desc(), 8);
    for (unsigned v = 0; v < 64; v++) {
        gate_set(v, random_sel(), random_address(), pick(4) ? 14 + (unsigned)pick(2) : 5,
                 (unsigned)pick(4), (unsigned)pick(8));
        if (!pick(4))
            ram_put(IDT + v * 8 + 5, pick(256), 1);
    }
    for (unsigned i = 0; i < 0x68; i += 4) {
        ram_put(TSS + i, pick(3) ? random_sel() : random_address(), 4);
        ram_put(TSS2 + i, pick(3) ? random_sel() : random_address(), 4);
    }
    for (unsigned i = 0; i < 0x1000; i += 8)
        ram_put(PAGES + i, pick(2) ? random_sel() : random_address(), pick(2) ? 4 : 8);
    if (fx.cpu->efer & EFER_LMA)
        for (unsigned i = 0; i < 4; i++)
            ram_put(PT + i * 8, (PAGES + i * 0x1000) | (pick(8) ? 7 : pick(8)), 8);
}

static void random_mode(void) {
    struct cpu *c = fx.cpu;
    cpu_reset(c);
    switch (pick(4)) {
    case 0:
        fix_real();
        break;
    case 1:
        fix_prot();
        break;
    case 2:
        fix_prot();
        c->sys_flags |= FL_VM;
        for (unsigned i = 0; i < 6; i++)
            seg_set_real(&c->seg[i], (uint16_t)rnd(), true);
        c->cpl = 3;
        break;
    default:
        fix_long();
    }
    if (!pick(3) && mode_prot(c) && !(c->sys_flags & FL_VM))
        fix_user();
    c->cr4 |= pick(2) ? CR4_UMIP | CR4_FSGSBASE : 0;
    uint64_t vm = c->sys_flags & FL_VM;
    cpu_set_rflags(c, (rnd() & (FL_ARITH | FL_IF | FL_IOPL | FL_AC | FL_ID)) | 2 | vm |
                          (pick(8) ? 0 : FL_NT));
    if (!pick(4))
        seg_set(&c->seg[SEG_LDTR], LDT_SEL, make_desc(LDT, 0x3f, 0x82));
    if (!pick(8))
        c->seg[SEG_SS].limit = (uint32_t)pick(0x40000);
    for (unsigned i = 0; i < 16; i++)
        c->gpr[i] = pick(3) ? random_sel() : random_address();
    c->gpr[R_SP] = pick(8) ? PAGES + pick(0x1000) : random_address();
    c->msr_star = rnd();
    c->msr_lstar = 0xffffffff81000000;
    c->msr_sysenter_cs = pick(2) ? rnd() & 0xffff : 0;
    cpu_update_mode(c);
    cpu_update_paging(c);
}

typedef enum cpu_rc (*op_fn)(struct cpu *, const struct insn *);
static const op_fn ops[] = {op_mov_sreg, op_push_sreg, op_pop_sreg,   op_load_far_pointer,
                            op_lar,      op_lsl,       op_verr,       op_verw,
                            op_arpl,     op_lldt,      op_ltr,        op_sldt,
                            op_str,      op_lgdt,      op_lidt,       op_sgdt,
                            op_sidt,     op_jmp_far,   op_call_far,   op_ret_far,
                            op_iret,     op_int,       op_breakpoint, op_into,
                            op_int1,     op_syscall,   op_sysret,     op_sysenter,
                            op_sysexit,  op_pushf,     op_popf,       op_cli,
                            op_sti,      op_hlt,       op_jmp_near,   op_call_near,
                            op_ret_near, op_jcc,       op_loop,       op_jcxz,
                            op_swapgs,   op_rdfsbase,  op_wrgsbase};

/* An instruction as the decoder might give it to this helper. */
static struct insn random_insn(op_fn fn) {
    static const uint8_t far_op[] = {0xc4, 0xc5, 0xb2, 0xb4, 0xb5};
    bool wide = mode_64(fx.cpu);
    unsigned size = wide ? 2u << pick(3) : 2u << pick(2);
    struct insn in = insn_mem(size, random_address(), size);
    bool mem = pick(2);
    in.addrsize = wide ? (uint8_t)(pick(4) ? 8 : 4) : (uint8_t)(pick(2) ? 4 : 2);
    in.seg = (uint8_t)pick(6);
    in.opcode = (uint8_t)rnd();
    in.imm = pick(2) ? pick(64) : random_address();
    in.imm2 = random_sel();
    in.op[1] =
        (struct operand){.kind = OP_REG, .reg = (uint8_t)pick(8), .size = (uint8_t)size};
    if (!mem)
        in.op[0] = in.op[1];
    if (fn == op_mov_sreg || fn == op_push_sreg || fn == op_pop_sreg) {
        struct operand s = {.kind = OP_SREG, .reg = (uint8_t)pick(6), .size = 2};
        if (fn == op_pop_sreg && s.reg == SEG_CS)
            s.reg = SEG_DS;
        bool store = fn == op_mov_sreg && pick(2);
        in.op[1] = store ? s : in.op[0];
        in.op[0] = store ? in.op[0] : s;
    } else if (fn == op_load_far_pointer) {
        in.opcode = far_op[pick(5)];
        in.op[0] = in.op[1];
        in.op[1].kind = OP_MEM;
    } else if (fn == op_lar || fn == op_lsl) {
        struct operand o = in.op[0];
        in.op[0] = in.op[1];
        in.op[1] = o;
    } else if (fn == op_lgdt || fn == op_lidt || fn == op_sgdt || fn == op_sidt) {
        in.op[0].kind = OP_MEM;
    } else if (fn == op_jmp_far || fn == op_call_far) {
        in.op[0].kind = mem || wide ? OP_MEM : OP_IMM;
    }
    return in;
}

static void check_fault(const struct cpu *before, op_fn fn) {
    const struct cpu *c = fx.cpu;
    if (c->seg[SEG_TR].sel != before->seg[SEG_TR].sel)
        return; /* through a task gate: the fault is the new task's */
    ck_assert_mem_eq(c->gpr, before->gpr, sizeof c->gpr);
    ck_assert_mem_eq(c->seg, before->seg, sizeof c->seg);
    ck_assert_uint_eq(c->rip, before->rip);
    ck_assert_uint_eq(c->fl, before->fl);
    ck_assert_uint_eq(c->sys_flags, before->sys_flags);
    ck_assert_uint_eq(c->cpl, before->cpl);
    ck_assert_uint_eq(c->mode, before->mode);
    ck_assert_uint_eq(c->cr0, before->cr0);
    ck_assert_uint_eq(c->cr2, before->cr2);
    ck_assert_mem_eq(&c->gdtr, &before->gdtr, 2 * sizeof c->gdtr);
    /* Vectors with an error code have one, others have none. */
    ck_assert_uint_eq(c->fault.has_error, 0x27d00u >> c->fault.vector & 1);
}

static void check_success(void) {
    struct cpu *c = fx.cpu;
    uint32_t mode = c->mode;
    cpu_update_mode(c);
    ck_assert_uint_eq(mode, c->mode);
    ck_assert_uint_lt(c->cpl, 4);
    if (mode_prot(c) && c->seg[SEG_CS].sel)
        ck_assert_uint_eq(c->cpl, c->seg[SEG_CS].sel & 3u);
    if (mode & MODE_VM86)
        ck_assert_uint_eq(c->cpl, 3);
    if (!(mode & MODE_PE))
        ck_assert_uint_eq(c->cpl, 0);
    ck_assert_uint_eq(c->sys_flags & (FL_ARITH | FL_RF), 0);
    ck_assert_uint_eq(c->sys_flags & 2, 2);
}

START_TEST(a_helper_that_faults_has_changed_nothing) {
    static struct cpu before;
    unsigned faults = 0;
    seed = 0x9e3779b97f4a7c15ull + (uint64_t)_i;
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (i % 16 == 0) {
            random_mode();
            random_tables();
            pn_mmu_set_cr3(fx.cpu->vmmu, fx.cpu->cr3, false, fx.cpu->pdpte);
        } else {
            random_mode();
        }
        op_fn fn = ops[pick(sizeof ops / sizeof *ops)];
        struct insn in = random_insn(fn);
        in.rip = fx.cpu->rip;
        memcpy(&before, fx.cpu, sizeof before);
        enum cpu_rc rc = fn(fx.cpu, &in);
        if (rc == CPU_FAULT) {
            faults++;
            check_fault(&before, fn);
            rc = cpu_deliver_fault(fx.cpu);
            ck_assert(rc == CPU_JUMP || rc == CPU_SHUTDOWN);
        }
        if (rc != CPU_SHUTDOWN)
            check_success();
    }
    ck_assert_uint_gt(faults, ROUNDS / 10);
    ck_assert_uint_lt(faults, ROUNDS * 9 / 10);
}
END_TEST

SUITE("cpu system properties", .setup = fix_create_unaudited, .teardown = fix_destroy,
      .timeout = 300, .loops = {{a_helper_that_faults_has_changed_nothing, 4}})
