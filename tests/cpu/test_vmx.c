/* SPDX-License-Identifier: MIT */
/*
 * VMX: its instructions' errors, fields, every control bit, and what an entry and an exit load
 * and save.
 */
#include "fixture_vmx.h"

/* ---- VMX operation ---- */

START_TEST(vmxon_needs_what_the_manual_says) {
    vx_ok(op_vmxoff(fx.cpu, &(struct insn){.len = 3}));
    ck_fault(op_vmxoff(fx.cpu, &(struct insn){.len = 3}), VEC_UD, -1);
    fx.cpu->vmx.feature_control = 1;
    ck_fault(vx_at(op_vmxon, VMXON_AT), VEC_GP, 0);
    fx.cpu->vmx.feature_control = 4;
    ck_fault(vx_at(op_vmxon, VMXON_AT), VEC_GP, 0);
    fx.cpu->vmx.feature_control = 5;
    fx.cpu->cr0 &= ~CR0_NE;
    ck_fault(vx_at(op_vmxon, VMXON_AT), VEC_GP, 0);
    fx.cpu->cr0 |= CR0_NE;
    fx.cpu->cr4 &= ~CR4_VMXE;
    ck_fault(vx_at(op_vmxon, VMXON_AT), VEC_UD, -1);
    fx.cpu->cr4 |= CR4_VMXE;
    vx_fails_invalid(vx_at(op_vmxon, VMXON_AT + 8));
    vx_fails_invalid(vx_at(op_vmxon, 1ull << 46));
    vx_fails_invalid(vx_at(op_vmxon, 0x2f000)); /* no revision */
    fix_user();
    ck_fault(vx_at(op_vmxon, VMXON_AT), VEC_GP, 0);
    fix_long();
    fx.cpu->cr0 |= CR0_NE, fx.cpu->cr4 |= CR4_VMXE;
    vx_ok(vx_at(op_vmxon, VMXON_AT));
    vx_fails_invalid(vx_at(op_vmxon, VMXON_AT)); /* no current VMCS */
    vx_ok(vx_at(op_vmptrld, VMCS_AT));
    vx_fails(vx_at(op_vmxon, VMXON_AT), 15);
}
END_TEST

START_TEST(in_vmx_operation_fixed_bits_stay) {
    ck_fault(cr_set(fx.cpu, 4, fx.cpu->cr4 & ~CR4_VMXE), VEC_GP, 0);
    ck_fault(cr_set(fx.cpu, 0, fx.cpu->cr0 & ~CR0_NE), VEC_GP, 0);
    vx_ok(op_vmxoff(fx.cpu, &(struct insn){.len = 3}));
    ck_assert_int_eq(cr_set(fx.cpu, 4, fx.cpu->cr4 & ~CR4_VMXE), CPU_STOP);
    ck_assert_int_eq(cr_set(fx.cpu, 0, fx.cpu->cr0 & ~CR0_NE), CPU_STOP);
}
END_TEST

START_TEST(feature_control_is_locked_once) {
    uint64_t value;
    fx.cpu->vmx.feature_control = 0;
    ck_fault(msr_write(fx.cpu, MSR_FEATURE_CONTROL, 1u << 18), VEC_GP, 0);
    ck_assert_int_eq(msr_write(fx.cpu, MSR_FEATURE_CONTROL, 4), CPU_NEXT);
    ck_assert_int_eq(msr_write(fx.cpu, MSR_FEATURE_CONTROL, 5), CPU_NEXT);
    ck_fault(msr_write(fx.cpu, MSR_FEATURE_CONTROL, 5), VEC_GP, 0);
    ck_assert_int_eq(msr_read(fx.cpu, MSR_FEATURE_CONTROL, &value), CPU_NEXT);
    ck_assert_uint_eq(value, 5);
}
END_TEST

START_TEST(instructions_fail_by_their_numbers) {
    struct insn in = insn_new(8);
    vx_fails(vx_at(op_vmclear, VMCS_AT + 1), 2);
    vx_fails(vx_at(op_vmclear, 1ull << 46), 2);
    vx_fails(vx_at(op_vmclear, VMXON_AT), 3);
    vx_fails(vx_at(op_vmptrld, VMCS_AT + 0x800), 9);
    vx_fails(vx_at(op_vmptrld, VMXON_AT), 10);
    vx_fails(vx_at(op_vmptrld, 0x2f000), 11);
    in.arg = 1; /* VMRESUME */
    vx_fails(op_vmlaunch(fx.cpu, &in), 5);
    fx.cpu->intr_shadow = PN_SHADOW_MOV_SS;
    fx.cpu->shadow_at = cpu_insns(fx.cpu);
    vx_fails(vx_launch(), 26);
    fx.cpu->intr_shadow = 0;
    vx_enter();
    vx_leave();
    vx_fails(vx_launch(), 4);
    vx_ok(vx_at(op_vmclear, VMCS_AT)); /* it was the current one */
    vx_fails_invalid(vx_launch());
    vx_fails_invalid(vx_write(PIN, 0));
    vx_fails_invalid(vx_at(op_vmclear, VMXON_AT));
}
END_TEST

START_TEST(vmptrst_tells_the_current_vmcs) {
    vx_ok(vx_at(op_vmptrst, 0));
    ck_assert_uint_eq(ram_get(OPERAND, 8), VMCS_AT);
    vx_ok(vx_at(op_vmclear, VMCS_AT));
    vx_ok(vx_at(op_vmptrst, 0));
    ck_assert_uint_eq(ram_get(OPERAND, 8), ~0ull);
}
END_TEST

/* ---- Fields ---- */

static const uint16_t fields[] = {
#define VMCS_FIELD(name, encoding) (encoding),
#include "cpu/vmx_fields.inc"
};
#define FIELDS (sizeof fields / sizeof fields[0])

START_TEST(each_field_is_as_wide_as_its_encoding_says) {
    static const uint64_t widths[] = {0xffff, ~0ull, 0xffffffff, ~0ull};
    for (unsigned i = 0; i < FIELDS; i++) {
        uint64_t mask = widths[fields[i] >> 13 & 3], value = 0x8123456789abcdefull + i;
        vx_put(fields[i], value);
        ck_assert_uint_eq(vx_get(fields[i]), value & mask);
        if ((fields[i] >> 13 & 3) != 1)
            continue;
        ck_assert_uint_eq(vx_get(fields[i] + 1), value >> 32);
        vx_put(fields[i] + 1, 0x1234);
        ck_assert_uint_eq(vx_get(fields[i]), 0x1234ull << 32 | (uint32_t)value);
    }
    for (unsigned i = 0; i < FIELDS; i++) /* no two share a place */
        if (fields[i] != ERROR && (fields[i] >> 13 & 3) == 3)
            ck_assert_uint_eq(vx_get(fields[i]), 0x8123456789abcdefull + i);
}
END_TEST

START_TEST(what_is_no_field_is_refused) {
    vx_fails(vx_write(0x2802 + 0x800, 0), 12);
    vx_fails(vx_write(0x4001, 0), 12); /* high half of 32 bits */
    vx_fails(vx_write(0x1ffff, 0), 12);
    vx_fails(vx_write(0x2028 + 0x20, 0), 12); /* PASID translation is not built */
}
END_TEST

START_TEST(another_vmcs_has_other_fields) {
    vx_put(0x6802, 0x1111000);
    vx_ok(vx_at(op_vmptrld, OTHER_AT));
    vx_put(0x6802, 0x2222000);
    vx_ok(vx_at(op_vmptrld, VMCS_AT));
    ck_assert_uint_eq(vx_get(0x6802), 0x1111000);
}
END_TEST

/* ---- Controls ---- */

static const struct {
    unsigned field, msr, exact_msr;
} words[] = {{PIN, MSR_VMX_PIN, MSR_VMX_TRUE_PIN},
             {PROC, MSR_VMX_PROC, MSR_VMX_TRUE_PROC},
             {PROC2, MSR_VMX_PROC2, MSR_VMX_PROC2},
             {EXIT, MSR_VMX_EXIT, MSR_VMX_TRUE_EXIT},
             {ENTRY, MSR_VMX_ENTRY, MSR_VMX_TRUE_ENTRY}};

START_TEST(controls_are_what_the_capability_msrs_say) {
    uint64_t capability;
    unsigned field = words[_i].field;
    ck_assert_int_eq(msr_read(fx.cpu, words[_i].exact_msr, &capability), CPU_NEXT);
    for (unsigned bit = 0; bit < 32; bit++) {
        uint32_t one = 1u << bit;
        vx_fill();
        if (!(capability >> 32 & one)) {
            ck_assert_uint_eq(vx_get(field) & one, 0);
            vx_set(field, one);
            vx_fails(vx_launch(), 7);
        }
        vx_fill();
        if (capability & one) {
            vx_clear(field, one);
            vx_fails(vx_launch(), 7);
        }
    }
    ck_assert_int_eq(msr_read(fx.cpu, words[_i].msr, &capability), CPU_NEXT);
    vx_fill();
    vx_put(field, vx_get(field) | (uint32_t)capability);
    ck_assert(field == PROC || field == PROC2 || vx_launch() == CPU_JUMP);
}
END_TEST

/* ---- Operands ---- */

START_TEST(eptps_are_what_the_capability_msr_says) {
    static const struct {
        uint64_t eptp;
        bool good;
    } eptps[] = {
        {EPT | 0x1e, true},  {EPT | 0x18, true},         {EPT | 0x5e, true},
        {EPT | 0x26, true},  {EPT | 0x1f, false},        {EPT | 0x16, false},
        {EPT | 0x2e, false}, {EPT | 0x80 | 0x1e, false}, {1ull << 46 | 0x1e, false},
    };
    for (unsigned i = 0; i < sizeof eptps / sizeof eptps[0]; i++) {
        vx_fill();
        vx_set(PROC2, 1u << 1);
        vx_put(0x201a, eptps[i].eptp);
        struct insn in = vx_memory(16);
        in.op[0] = (struct operand){.kind = OP_REG, .reg = 11, .size = 8};
        ram_put(OPERAND, eptps[i].eptp, 8);
        fx.cpu->gpr[11] = 1;
        if (eptps[i].good) {
            vx_ok(op_invept(fx.cpu, &in));
            ck_assert_int_eq(vx_launch(), CPU_JUMP);
            vx_leave();
        } else {
            vx_fails(op_invept(fx.cpu, &in), 28);
            vx_fails(vx_launch(), 7);
        }
    }
}
END_TEST

/* Bits of it, one by one: execute-only, 4 and 5 levels, UC, WB, 2M, 1G, INVEPT, A and D, its two
 * types, INVVPID and its four; and no advanced information, nor supervisor shadow stacks. */
START_TEST(the_capabilities_of_ept_are_what_is_built_alone) {
    uint64_t value;
    ck_assert_int_eq(msr_read(fx.cpu, 0x48c, &value), CPU_NEXT);
    ck_assert_uint_eq(value, 1ull << 0 | 1ull << 6 | 1ull << 7 | 1ull << 8 | 1ull << 14 |
                                 1ull << 16 | 1ull << 17 | 1ull << 20 | 1ull << 21 |
                                 3ull << 25 | 1ull << 32 | 15ull << 40);
}
END_TEST

START_TEST(invvpid_refuses_what_the_manual_says) {
    static const struct {
        uint64_t type, vpid, address;
        bool good;
    } each[] = {
        {0, 1, 0, true},        {0, 1, 1ull << 47, false}, {1, 1, 1ull << 47, true},
        {2, 0, 0, true},        {3, 1, 0, true},           {4, 1, 0, false},
        {1, 0, 0, false},       {0, 0, 0, false},          {3, 0, 0, false},
        {1, 1 << 16, 0, false}, {2, 1 << 16, 0, false}};
    for (unsigned i = 0; i < sizeof each / sizeof each[0]; i++) {
        struct insn in = vx_memory(16);
        in.op[0] = (struct operand){.kind = OP_REG, .reg = 11, .size = 8};
        ram_put(OPERAND, each[i].vpid, 8);
        ram_put(OPERAND + 8, each[i].address, 8);
        fx.cpu->gpr[11] = each[i].type;
        if (each[i].good)
            vx_ok(op_invvpid(fx.cpu, &in));
        else
            vx_fails(op_invvpid(fx.cpu, &in), 28);
    }
}
END_TEST

/* ---- The switch itself ---- */

START_TEST(l1s_state_comes_back_and_l2s_is_saved) {
    struct cpu *c = fx.cpu;
    struct insn in = vx_insn(0);
    vx_set(PROC, 1u << 3);
    vx_put(0x2010, 5000);
    c->tsc_offset = 100;
    ram_put(LIST, MSR_LSTAR, 8);
    ram_put(LIST + 8, 0x1234000, 8);
    vx_put(0x200a, LIST);
    vx_put(0x4014, 1);
    ram_put(LIST + 16, MSR_LSTAR, 8);
    vx_put(0x2006, LIST + 16);
    vx_put(0x400e, 1);
    vx_enter();
    ck_assert_int_eq(c->tsc_offset, 5100);
    ck_assert_uint_eq(c->msr_lstar, 0x1234000);
    c->msr_lstar = 0x5678000;
    c->gpr[R_SP] = 0x31110;
    c->dr[7] = 0x455;
    vx_run(op_cpuid, &in);
    vx_left(10);
    ck_assert_int_eq(c->tsc_offset, 100);
    ck_assert_uint_eq(ram_get(LIST + 24, 8), 0x5678000);
    ck_assert_uint_eq(vx_get(0x681c), 0x31110);
    ck_assert_uint_eq(vx_get(0x681a), 0x455);
    ck_assert_uint_eq(c->dr[7], 0x400);
    ck_assert_uint_eq(cpu_rflags(c), 2);
}
END_TEST

START_TEST(an_msr_that_cannot_be_loaded_fails_the_entry) {
    static const uint32_t bad[] = {MSR_FS_BASE, MSR_GS_BASE, 0x802, 0x40000000};
    for (unsigned i = 0; i < 4; i++) {
        vx_fill();
        ram_put(LIST, MSR_LSTAR, 8);
        ram_put(LIST + 8, 0, 8);
        ram_put(LIST + 16, bad[i], 8);
        ram_put(LIST + 24, 0, 8);
        vx_put(0x200a, LIST);
        vx_put(0x4014, 2);
        ck_assert_int_eq(vx_launch(), CPU_JUMP);
        vx_left(0x80000022);
        ck_assert_uint_eq(vx_get(QUALIFICATION), 2);
    }
    vx_fill();
    vx_put(0x2008, LIST);
    vx_put(0x4010, 2);
    vx_enter();
    const struct vmx_exit x = {.reason = 10};
    ck_assert_int_eq(vmx_leave(fx.cpu, &x), CPU_SHUTDOWN); /* an abort */
    ck_assert_uint_eq(ram_get(VMCS_AT + 4, 4), 4);
}
END_TEST

/* Whatever of it aborts, an exit leaves L2. */
START_TEST(an_abort_leaves_l2) {
    static const struct {
        unsigned address, count, indicator;
    } lists[] = {{0x2006, 0x400e, 1}, {0x2008, 0x4010, 4}};
    const struct vmx_exit x = {.reason = 10};
    for (unsigned i = 0; i < 3; i++) {
        vx_fill();
        if (i < 2) {
            ram_put(LIST, 0x40000000, 8); /* no MSR */
            vx_put(lists[i].address, LIST);
            vx_put(lists[i].count, 1);
        }
        vx_enter();
        if (i == 2) /* another vCPU's doing */
            ram_put(VMCS_AT + VMCS_AT_FIELDS + VMCS_HOST_RIP * 8, UINT64_C(1) << 63, 8);
        ck_assert_int_eq(vmx_leave(fx.cpu, &x), CPU_SHUTDOWN);
        ck_assert_uint_eq(ram_get(VMCS_AT + 4, 4), i < 2 ? lists[i].indicator : 6);
        ck_assert_uint_eq(fx.cpu->vmx.guest, 0);
        ck_assert_uint_eq(fx.cpu->mode & MODE_GUEST, 0);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("vmx");
    TCase *t = fix_case("vmx");
    tcase_add_checked_fixture(t, vx_create, vx_destroy);
    tcase_add_test(t, vmxon_needs_what_the_manual_says);
    tcase_add_test(t, an_abort_leaves_l2);
    tcase_add_test(t, in_vmx_operation_fixed_bits_stay);
    tcase_add_test(t, feature_control_is_locked_once);
    tcase_add_test(t, instructions_fail_by_their_numbers);
    tcase_add_test(t, vmptrst_tells_the_current_vmcs);
    tcase_add_test(t, each_field_is_as_wide_as_its_encoding_says);
    tcase_add_test(t, what_is_no_field_is_refused);
    tcase_add_test(t, another_vmcs_has_other_fields);
    tcase_add_loop_test(t, controls_are_what_the_capability_msrs_say, 0, 5);
    tcase_add_test(t, eptps_are_what_the_capability_msr_says);
    tcase_add_test(t, invvpid_refuses_what_the_manual_says);
    tcase_add_test(t, the_capabilities_of_ept_are_what_is_built_alone);
    tcase_add_test(t, l1s_state_comes_back_and_l2s_is_saved);
    tcase_add_test(t, an_msr_that_cannot_be_loaded_fails_the_entry);
    suite_add_tcase(suite, t);
    return fix_run(suite);
}
