/* SPDX-License-Identifier: MIT */
/* RDMSR and WRMSR: values kept, values refused, who answers. */
#include <string.h>

#include "fixture_sys.h"
#include "ops.h"
#include "tests/suite.h"

static struct sys *s;

static void setup(void) {
    s = sys_new("x86-64-v1,+pks");
    sys_long_mode(s);
}
static void teardown(void) {
    sys_free(s);
}

static enum cpu_rc wr(uint32_t index, uint64_t v) {
    struct insn in = sys_insn(4, 8);
    s->cpu->gpr[R_CX] = index | UINT64_C(0xabc) << 32;
    s->cpu->gpr[R_AX] = (uint32_t)v | UINT64_C(0xdef) << 32;
    s->cpu->gpr[R_DX] = v >> 32;
    return op_wrmsr(s->cpu, &in);
}

static uint64_t rd(uint32_t index) {
    struct insn in = sys_insn(4, 8);
    s->cpu->gpr[R_CX] = index;
    ck_assert_msg(op_rdmsr(s->cpu, &in) == CPU_NEXT, "rdmsr %#x", index);
    ck_assert_uint_eq(s->cpu->gpr[R_AX] >> 32, 0);
    ck_assert_uint_eq(s->cpu->gpr[R_DX] >> 32, 0);
    return s->cpu->gpr[R_DX] << 32 | s->cpu->gpr[R_AX];
}

static void keeps(uint32_t index, uint64_t v) {
    ck_assert_msg(wr(index, v) != CPU_FAULT, "wrmsr %#x", index);
    ck_assert_uint_eq(rd(index), v);
}

static void refuses(uint32_t index, uint64_t v) {
    assert_fault(s, wr(index, v), VEC_GP, 0);
}

START_TEST(address_msrs_keep_canonical_addresses_alone) {
    static const uint32_t addresses[] = {0x175,      0x176,      0xc0000082, 0xc0000083,
                                         0xc0000100, 0xc0000101, 0xc0000102};
    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        keeps(addresses[i], UINT64_C(0xffff888012345678));
        keeps(addresses[i], UINT64_C(0x00007fffffffffff));
        refuses(addresses[i], UINT64_C(0x0000800000000000));
        refuses(addresses[i], UINT64_C(0x1234567890abcdef));
    }
    ck_assert_uint_eq(s->cpu->seg[SEG_FS].base, UINT64_C(0x00007fffffffffff));
    keeps(0xc0000081, UINT64_C(0x0123456789abcdef)); /* STAR */
    keeps(0xc0000084, 0x47700);
    keeps(0xc0000103, 77);
    refuses(0xc0000103, UINT64_C(1) << 32);
    keeps(0x48, 1);
    refuses(0x48, 2);
    keeps(0x6e1, 0x55555554);
    refuses(0x6e1, UINT64_C(1) << 32);
}
END_TEST

START_TEST(efer_guards_lme_and_lma) {
    uint64_t efer = rd(0xc0000080);
    ck_assert_uint_eq(efer, EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE);
    keeps(0xc0000080, efer & ~(uint64_t)EFER_SCE);
    refuses(0xc0000080, efer & ~(uint64_t)EFER_LME); /* paging is on */
    refuses(0xc0000080, efer | 1u << 12);            /* SVME */
    refuses(0xc0000080, efer | 1u << 1);
    ck_assert(wr(0xc0000080, efer & ~(uint64_t)EFER_LMA) != CPU_FAULT);
    ck_assert_uint_eq(rd(0xc0000080), efer); /* LMA is not the guest's to write */
}
END_TEST

START_TEST(mtrrs_and_pat_keep_valid_types_alone) {
    ck_assert_uint_eq(rd(0xfe), 0x508);
    keeps(0x2ff, 0xc06);
    refuses(0x2ff, 0xc02);
    refuses(0x2ff, 0x1000);
    keeps(0x250, UINT64_C(0x0606060606060606));
    refuses(0x26f, UINT64_C(0x0606060706060606));
    keeps(0x200, 0xc0000000 | 6);
    keeps(0x201, UINT64_C(0x3fffc0000800));
    refuses(0x201, 0x1);
    refuses(0x200, UINT64_C(1) << 46);
    keeps(0x20f, UINT64_C(0x3fffc0000800));
    refuses(0x210, 0);
    for (uint32_t i = 0x200; i < 0x210; i++)
        rd(i);
    keeps(0x277, UINT64_C(0x0407050600070106));
    refuses(0x277, UINT64_C(0x0407050600070206));
}
END_TEST

START_TEST(a_written_tsc_moves_tsc_adjust_along) {
    ck_assert_uint_eq(rd(0x10), 0);
    ck_assert_uint_eq(rd(0x3b), 0);
    s->cpu->insn_limit += 500;
    ck_assert_uint_eq(rd(0x10), 500);
    ck_assert_int_eq(wr(0x10, 10000), CPU_STOP);
    ck_assert_uint_eq(rd(0x10), 10000);
    ck_assert_uint_eq(rd(0x3b), 9500);
    ck_assert_int_eq(wr(0x3b, 0), CPU_STOP);
    ck_assert_uint_eq(rd(0x10), 500);
    struct insn in = sys_insn(4, 8);
    s->cpu->insn_limit += UINT64_C(5) << 32;
    ck_assert_int_eq(op_rdtsc(s->cpu, &in), CPU_NEXT);
    ck_assert_uint_eq(s->cpu->gpr[R_AX], 500);
    ck_assert_uint_eq(s->cpu->gpr[R_DX], 5);
    s->cpu->cr4 |= CR4_TSD;
    ck_assert_int_eq(op_rdtsc(s->cpu, &in), CPU_NEXT);
    sys_cpl(s, 3);
    assert_fault(s, op_rdtsc(s->cpu, &in), VEC_GP, 0);
}
END_TEST

START_TEST(a_write_of_the_tsc_sets_the_deadline_anew) {
    ck_assert_int_eq(wr(MSR_TSC, 10000), CPU_STOP);
    ck_assert_uint_eq(s->last_address, MSR_TSC_DEADLINE);
    ck_assert_uint_eq(s->last_value, 0x1234); /* what the bus says it is */
    s->last_address = 0;
    ck_assert_int_eq(wr(MSR_TSC_ADJUST, 5), CPU_STOP);
    ck_assert_uint_eq(s->last_address, MSR_TSC_DEADLINE);
}
END_TEST

START_TEST(capability_msrs_are_read_only) {
    uint64_t caps = rd(0x10a);
    ck_assert_uint_eq(caps & 0x17b & ~0x40u, 0x13b); /* RDCL IBRS L1DFL SSB MDS TAA */
    ck_assert(caps >> 62 & 1);
    ck_assert_uint_ne(rd(0x8b) >> 32, 0);
    ck_assert_uint_eq(rd(0xce) >> 8 & 0xff, 10);
    ck_assert_uint_eq(rd(0x179), 0);
    ck_assert_uint_eq(rd(0x1a0) & 1, 1);
    refuses(0x10a, 0);
    refuses(0xce, 0);
    refuses(0xfe, 0);
    refuses(0x12345, 0);
    refuses(0xda0, 0); /* no XSAVES in v1 */
    struct insn in = sys_insn(4, 8);
    s->cpu->gpr[R_CX] = 0x12345;
    assert_fault(s, op_rdmsr(s->cpu, &in), VEC_GP, 0);
    sys_cpl(s, 3);
    refuses(0x10, 0);
    assert_fault(s, op_rdmsr(s->cpu, &in), VEC_GP, 0);
}
END_TEST

START_TEST(apic_msrs_go_to_the_bus) {
    ck_assert_uint_eq(rd(0x1b), 0xfee00900);
    ck_assert_int_eq(wr(0x1b, 0xfee00d00), CPU_STOP);
    ck_assert_uint_eq(s->apic_base, 0xfee00d00);
    ck_assert_uint_eq(rd(0x802), 0x1234);
    ck_assert_int_eq(wr(0x838, 99), CPU_STOP);
    ck_assert_uint_eq(s->last_address, 0x838);
    ck_assert_int_eq(wr(0x6e0, UINT64_C(1) << 40), CPU_STOP);
    ck_assert_uint_eq(s->last_value, UINT64_C(1) << 40);
    refuses(0x8ff, 0); /* the bus says no */
}
END_TEST

START_TEST(msrs_of_absent_features_fault) {
    sys_free(s);
    s = sys_new("x86-64-v1,-x2apic,-tsc_deadline_timer,-mtrr,-spec_ctrl,-tsc_adjust,"
                "-mca,-mce,-pat,-sep");
    sys_long_mode(s);
    refuses(0x802, 0);
    refuses(0x6e0, 0);
    refuses(0x2ff, 0);
    refuses(0x49, 1);
    refuses(0x3b, 0);
    refuses(0x17a, 0); /* MCG_STATUS */
    refuses(0x0, 0);
    refuses(0x277, 0x0007040600070406);
    refuses(0x174, 8);
    refuses(0x1b, 0xfee00d00);
    ck_assert(wr(0x1b, 0xfee00900) != CPU_FAULT);
}
END_TEST

START_TEST(rdrand_repeats_with_its_seed) {
    struct insn in = sys_insn(8, 8);
    in.op[0] = (struct operand){.kind = OP_REG, .reg = R_BX, .size = 8};
    s->cpu->rng = 42;
    ck_assert_int_eq(op_rdrnd(s->cpu, &in), CPU_NEXT);
    uint64_t first = s->cpu->gpr[R_BX];
    ck_assert_uint_eq(cpu_arith_flags(s->cpu), FL_CF);
    op_rdseed(s->cpu, &in);
    ck_assert_uint_ne(s->cpu->gpr[R_BX], first);
    s->cpu->rng = 42;
    op_rdrnd(s->cpu, &in);
    ck_assert_uint_eq(s->cpu->gpr[R_BX], first);
}
END_TEST

SUITE("msr", .setup = setup, .teardown = teardown,
      .tests = {address_msrs_keep_canonical_addresses_alone, efer_guards_lme_and_lma,
                mtrrs_and_pat_keep_valid_types_alone,
                a_written_tsc_moves_tsc_adjust_along,
                a_write_of_the_tsc_sets_the_deadline_anew, capability_msrs_are_read_only,
                apic_msrs_go_to_the_bus, msrs_of_absent_features_fault,
                rdrand_repeats_with_its_seed})
