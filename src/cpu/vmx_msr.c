/* SPDX-License-Identifier: MIT */
/*
 * The capability MSRs: what of VMX there is, made of vmx_controls.inc and vmx_fields.inc.
 *
 * Source: SDM volume 3, appendix "VMX Capability Reporting Facility".
 */
#include "cpu/vmx.h"

/* ---- Controls ---- */

static const struct {
    enum vmx_group group;
    uint32_t may, must, free;
} control_rows[] = {
#define VMX_DEFAULT1(group, mask, free) {VMX_##group, mask, mask, free},
#define VMX_CONTROL(group, name, bit)   {VMX_##group, UINT32_C(1) << (bit), 0, 0},
#include "cpu/vmx_controls.inc"
};

struct vmx_allowed vmx_allowed(enum vmx_group group) {
    struct vmx_allowed a = {0, 0, 0};
    for (unsigned i = 0; i < sizeof control_rows / sizeof control_rows[0]; i++)
        if (control_rows[i].group == group) {
            a.may |= control_rows[i].may;
            a.must |= control_rows[i].must;
            a.free |= control_rows[i].free;
        }
    return a;
}

static uint64_t capability(enum vmx_group group, bool exact) {
    struct vmx_allowed a = vmx_allowed(group);
    return (uint64_t)a.may << 32 | (a.must & ~(exact ? a.free : 0));
}

/* ---- The others ---- */

#define BASIC_SIZE   (UINT64_C(4096) << 32)
#define BASIC_TYPE   ((uint64_t)EPT_TYPE_WB << 50)
#define BASIC_INS    (UINT64_C(1) << 54) /* exits due to INS and OUTS say how */
#define BASIC_TRUE   (UINT64_C(1) << 55) /* the TRUE MSRs are there */
#define BASIC_ERRORS (UINT64_C(1) << 56) /* injection with or without an error code */

/* Bits 9:1 of the highest index that any encoding has. */
static uint64_t highest_field(void) {
    static const uint16_t encodings[] = {
#define VMCS_FIELD(name, encoding) encoding,
#include "cpu/vmx_fields.inc"
    };
    uint64_t highest = 0;
    for (unsigned i = 0; i < sizeof encodings / sizeof encodings[0]; i++)
        if ((encodings[i] & 0x3feu) > highest)
            highest = encodings[i] & 0x3feu;
    return highest;
}

static uint64_t ept_vpid(const struct cpu *cpu) {
    uint64_t v = EPT_CAP_EXECUTE_ONLY | EPT_CAP_4_LEVELS | EPT_CAP_5_LEVELS | EPT_CAP_UC |
                 EPT_CAP_WB | EPT_CAP_2M | EPT_CAP_AD | EPT_CAP_INVEPT | VPID_CAP_INVVPID;
    return v | (cpu_has(cpu, CPU_F_pdpe1gb) ? EPT_CAP_1G : 0);
}

bool vmx_capability(const struct cpu *cpu, uint32_t index, uint64_t *value) {
    if (!cpu_has(cpu, CPU_F_vmx))
        return false;
    switch (index) {
    case MSR_VMX_BASIC:
        *value = VMCS_REVISION | BASIC_SIZE | BASIC_TYPE | BASIC_INS | BASIC_TRUE |
                 BASIC_ERRORS;
        return true;
    case MSR_VMX_PIN:
    case MSR_VMX_TRUE_PIN:
        *value = capability(VMX_PIN, index == MSR_VMX_TRUE_PIN);
        return true;
    case MSR_VMX_PROC:
    case MSR_VMX_TRUE_PROC:
        *value = capability(VMX_PROC, index == MSR_VMX_TRUE_PROC);
        return true;
    case MSR_VMX_EXIT:
    case MSR_VMX_TRUE_EXIT:
        *value = capability(VMX_EXIT, index == MSR_VMX_TRUE_EXIT);
        return true;
    case MSR_VMX_ENTRY:
    case MSR_VMX_TRUE_ENTRY:
        *value = capability(VMX_ENTRY, index == MSR_VMX_TRUE_ENTRY);
        return true;
    case MSR_VMX_PROC2:
        *value = capability(VMX_PROC2, false);
        return true;
    case MSR_VMX_MISC:
        *value = VMX_TIMER_RATE | VMX_MISC_STORES_LMA | VMX_MISC_ACTIVITY_HLT |
                 VMX_MISC_CR3_TARGETS | VMX_MISC_WRITES_ANY | VMX_MISC_LENGTH_0;
        return true;
    case MSR_VMX_CR0_FIXED0:
        *value = VMX_CR0_FIXED;
        return true;
    case MSR_VMX_CR0_FIXED1:
        *value = VMX_CR0_ALLOWED;
        return true;
    case MSR_VMX_CR4_FIXED0:
        *value = CR4_VMXE;
        return true;
    case MSR_VMX_CR4_FIXED1:
        *value = cpu->model->cr4_valid;
        return true;
    case MSR_VMX_VMCS_ENUM:
        *value = highest_field();
        return true;
    case MSR_VMX_VMFUNC:
        *value = VMFUNC_EPTP;
        return true;
    case MSR_VMX_EPT_VPID:
        *value = ept_vpid(cpu);
        return true;
    default:
        return false;
    }
}
