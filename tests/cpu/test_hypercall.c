/* SPDX-License-Identifier: MIT */
/* VMCALL and VMMCALL, and what CPUID says of whom they call. */
#include <stdlib.h>
#include <string.h>

#include "fixture_sys.h"
#include "tests/suite.h"

static struct sys *s;
static uint64_t seen_nr, seen[4];
static unsigned calls;

static int64_t hypercall(void *opaque, unsigned vcpu, uint64_t nr,
                         const uint64_t arg[4]) {
    calls++;
    seen_nr = nr;
    memcpy(seen, arg, sizeof(seen));
    return -22;
}

static void setup(void) {
    s = sys_new("x86-64-v1");
    s->bus.hypercall = hypercall;
    calls = 0;
}
static void teardown(void) {
    sys_free(s);
}

static void load(void) {
    s->cpu->gpr[R_AX] = UINT64_C(0x100000005);
    s->cpu->gpr[R_BX] = UINT64_C(0xaaaaaaaa00000001);
    s->cpu->gpr[R_CX] = UINT64_C(0xbbbbbbbb00000002);
    s->cpu->gpr[R_DX] = UINT64_C(0xcccccccc00000003);
    s->cpu->gpr[R_SI] = UINT64_C(0xdddddddd00000004);
}

START_TEST(without_the_interface_vmcall_is_undefined) {
    struct insn in = sys_insn(4, 8);
    sys_long_mode(s);
    assert_fault(s, op_hypercall(s->cpu, &in), VEC_UD, 0);
    ck_assert_uint_eq(calls, 0);
}
END_TEST

START_TEST(vmcall_of_64_bit_code_has_64_bit_arguments) {
    struct insn in = sys_insn(4, 8);
    sys_long_mode(s);
    cpu_model_set_pv(s->model, 1);
    load();
    uint64_t rflags = cpu_rflags(s->cpu);
    ck_assert_int_eq(op_hypercall(s->cpu, &in), CPU_STOP);
    ck_assert_uint_eq(calls, 1);
    ck_assert_uint_eq(seen_nr, UINT64_C(0x100000005));
    ck_assert_uint_eq(seen[0], UINT64_C(0xaaaaaaaa00000001));
    ck_assert_uint_eq(seen[3], UINT64_C(0xdddddddd00000004));
    ck_assert_uint_eq(s->cpu->gpr[R_AX], (uint64_t)-22);
    ck_assert_uint_eq(s->cpu->gpr[R_CX], UINT64_C(0xbbbbbbbb00000002));
    ck_assert_uint_eq(cpu_rflags(s->cpu), rflags);
    /* Not from ring 3. */
    sys_cpl(s, 3);
    load();
    ck_assert_int_eq(op_hypercall(s->cpu, &in), CPU_STOP);
    ck_assert_uint_eq(s->cpu->gpr[R_AX], (uint64_t)-1);
    ck_assert_uint_eq(calls, 1);
}
END_TEST

/* Outside 64-bit mode everything has 32 bits. */
START_TEST(vmcall_of_other_code_has_32_bit_arguments) {
    struct insn in = sys_insn(4, 4);
    cpu_model_set_pv(s->model, 1);
    s->cpu->cr0 |= CR0_PE;
    cpu_update_mode(s->cpu);
    load();
    ck_assert_int_eq(op_hypercall(s->cpu, &in), CPU_STOP);
    ck_assert_uint_eq(seen_nr, 5);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_uint_eq(seen[i], i + 1);
    ck_assert_uint_eq(s->cpu->gpr[R_AX], UINT64_C(0xffffffea));
}
END_TEST

START_TEST(cpuid_names_kvm_only_with_the_interface) {
    uint32_t r[4];
    cpu_model_leaf(s->model, 0x40000000, 0, r);
    ck_assert_uint_eq(r[0], 0x40000000);
    ck_assert_mem_eq(&r[1], "penumbra\0\0\0\0", 12);
    cpu_model_leaf(s->model, 0x40000001, 0, r);
    ck_assert_uint_eq(r[0], 0);
    cpu_model_set_pv(s->model, 0x01000009);
    cpu_model_leaf(s->model, 0x40000000, 0, r);
    ck_assert_uint_eq(r[0], 0x40000001);
    ck_assert_mem_eq(&r[1], "KVMKVMKVM\0\0\0", 12);
    cpu_model_leaf(s->model, 0x40000001, 0, r);
    ck_assert_uint_eq(r[0], 0x01000009);
    ck_assert_uint_eq(r[1] | r[2] | r[3], 0);
    cpu_model_leaf(s->model, 0x40000002, 0, r);
    ck_assert_uint_eq(r[0] | r[1] | r[2] | r[3], 0);
}
END_TEST

/* KVM's MSRs reach the bus with the interface, and only then. */
START_TEST(kvms_msrs_reach_the_bus_only_with_the_interface) {
    uint64_t v;
    static const uint32_t msrs[] = {0x11, 0x12, 0x4b564d00, 0x4b564dff};
    for (size_t i = 0; i < sizeof(msrs) / sizeof(msrs[0]); i++) {
        cpu_model_set_pv(s->model, 0);
        ck_assert_int_eq(msr_read(s->cpu, msrs[i], &v), CPU_FAULT);
        ck_assert_int_eq(msr_write(s->cpu, msrs[i], 1), CPU_FAULT);
        cpu_model_set_pv(s->model, 1);
        ck_assert_int_eq(msr_read(s->cpu, msrs[i], &v), CPU_NEXT);
        ck_assert_uint_eq(v, 0x1234);
        ck_assert_int_eq(msr_write(s->cpu, msrs[i], 7), CPU_STOP);
        ck_assert_uint_eq(s->last_address, msrs[i]);
        ck_assert_uint_eq(s->last_value, 7);
    }
    ck_assert_int_eq(msr_read(s->cpu, 0x13, &v), CPU_FAULT);
    ck_assert_int_eq(msr_read(s->cpu, 0x4b564e00, &v), CPU_FAULT);
}
END_TEST

SUITE("hypercall", .setup = setup, .teardown = teardown,
      .tests = {without_the_interface_vmcall_is_undefined,
                vmcall_of_64_bit_code_has_64_bit_arguments,
                vmcall_of_other_code_has_32_bit_arguments,
                cpuid_names_kvm_only_with_the_interface,
                kvms_msrs_reach_the_bus_only_with_the_interface})
