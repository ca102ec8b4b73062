/* SPDX-License-Identifier: MIT */
/*
 * VMX's own instructions: VMX operation, VMCSs and their fields, invalidation.
 *
 * Source: SDM volume 3, "VMX Instruction Reference".
 */
#include "cpu/control.h"
#include "cpu/vmx.h"

/* ---- A VMCS in memory ---- */

void vmcs_read(struct cpu *cpu, pn_gpa at, struct vmcs *v) {
    memset(v, 0, sizeof *v);
    pn_mmu_read_phys(cpu->mmu, at + VMCS_AT_FIELDS, v, sizeof *v);
}

void vmcs_write(struct cpu *cpu, pn_gpa at, const struct vmcs *v, enum vmcs_field from,
                enum vmcs_field to) {
    pn_mmu_vcpu_write(cpu->vmmu, at + VMCS_AT_FIELDS + from * sizeof v->f[0], &v->f[from],
                      (to - from + 1) * sizeof v->f[0]);
}

/* A header's word. Where there is no memory all bits are 1. */
static uint32_t header(struct cpu *cpu, pn_gpa at) {
    uint32_t v = UINT32_MAX;
    pn_mmu_read_phys(cpu->mmu, at, &v, sizeof v);
    return v;
}

static void put_header(struct cpu *cpu, pn_gpa at, uint32_t v) {
    pn_mmu_vcpu_write(cpu->vmmu, at, &v, sizeof v);
}

/* ---- Fields ---- */

static const uint16_t encodings[VMCS_FIELDS] = {
#define VMCS_FIELD(name, encoding) [VMCS_##name] = (encoding),
#include "cpu/vmx_fields.inc"
};

static enum vmcs_field field_of(uint64_t encoding) {
    switch (encoding) {
#define VMCS_FIELD(name, encoding)                                                       \
    case (encoding):                                                                     \
        return VMCS_##name;
#include "cpu/vmx_fields.inc"
    default:
        return VMCS_FIELDS;
    }
}

/* Bits 14:13 of an encoding: 16, 64, 32 bits, or those of a register. */
static uint64_t width_mask(uint16_t encoding) {
    static const uint64_t masks[] = {0xffff, UINT64_MAX, UINT32_MAX, UINT64_MAX};
    return masks[encoding >> 13 & 3];
}
static bool is_64(uint16_t encoding) {
    return (encoding >> 13 & 3) == 1;
}

/* ---- How an instruction ends ---- */

/* Flags after one that failed, or did not. */
static enum cpu_rc finish(struct cpu *cpu, enum vmx_error error) {
    uint64_t flags = 0;
    if (error && cpu->vmx.vmcs == VMCS_NONE) {
        flags = FL_CF;
    } else if (error) {
        struct vmcs v;
        v.f[VMCS_INSN_ERROR] = error;
        vmcs_write(cpu, cpu->vmx.vmcs, &v, VMCS_INSN_ERROR, VMCS_INSN_ERROR);
        flags = FL_ZF;
    }
    cpu_set_arith_flags(cpu, flags);
    return CPU_STOP;
}

static enum cpu_rc fail_invalid(struct cpu *cpu) {
    cpu_set_arith_flags(cpu, FL_CF);
    return CPU_STOP;
}

/* What all of them need but VMXON, which does not need to be in VMX operation. Return:
 * CPU_NEXT: go on; or what the instruction came to. */
static enum cpu_rc begin(struct cpu *cpu, const struct insn *in, enum vmx_reason reason,
                         uint32_t info) {
    bool code = !mode_long(cpu) || mode_64(cpu);
    if (!cpu->vmx.on || !mode_prot(cpu) || !code)
        return cpu_raise(cpu, VEC_UD);
    if (cpu->vmx.guest)
        return vmx_leave_operand(cpu, in, reason, info);
    return cpu->cpl ? gp0(cpu) : CPU_NEXT;
}

static uint32_t reg2(unsigned reg) {
    return (uint32_t)VMX_SAYS(INFO_INVALIDATE_REGISTER2, reg);
}

/* The physical address that the operand in memory holds. */
static enum cpu_rc read_pointer(struct cpu *cpu, const struct insn *in, uint64_t *at) {
    return operand_read(cpu, in, at, sizeof *at);
}

static bool region_possible(const struct cpu *cpu, uint64_t at) {
    return !(at & (PN_PAGE_SIZE - 1)) && !(at >> cpu->model->phys_bits);
}

/* ---- VMX operation ---- */

static bool vmxon_allowed(const struct cpu *cpu) {
    return (cpu->cr0 & VMX_CR0_FIXED) == VMX_CR0_FIXED &&
           (cpu->vmx.feature_control & FEATURE_CONTROL_VALID) == FEATURE_CONTROL_VALID;
}

enum cpu_rc op_vmxon(struct cpu *cpu, const struct insn *in) {
    uint64_t at;
    bool code = !mode_long(cpu) || mode_64(cpu);
    if (!(cpu->cr4 & CR4_VMXE) || !mode_prot(cpu) || !code)
        return cpu_raise(cpu, VEC_UD);
    if (cpu->vmx.guest)
        return vmx_leave_operand(cpu, in, VMX_EXIT_VMXON, 0);
    if (cpu->cpl || (!cpu->vmx.on && !vmxon_allowed(cpu)))
        return gp0(cpu);
    if (cpu->vmx.on)
        return finish(cpu, VMX_ERROR_VMXON);
    if (read_pointer(cpu, in, &at))
        return CPU_FAULT;
    if (!region_possible(cpu, at) || header(cpu, at) != VMCS_REVISION)
        return fail_invalid(cpu);
    cpu->vmx.on = 1;
    cpu->vmx.vmxon = at;
    cpu->vmx.vmcs = VMCS_NONE;
    return finish(cpu, VMX_OK);
}

enum cpu_rc op_vmxoff(struct cpu *cpu, const struct insn *in) {
    enum cpu_rc rc = begin(cpu, in, VMX_EXIT_VMXOFF, 0);
    if (rc)
        return rc;
    cpu->vmx.on = 0;
    cpu->vmx.vmcs = VMCS_NONE;
    if (cpu->vmx.init) { /* it has waited for this */
        cpu_init(cpu, cpu->vmx.init == 2);
        return CPU_JUMP;
    }
    return finish(cpu, VMX_OK);
}

/* ---- Regions ---- */

enum cpu_rc op_vmclear(struct cpu *cpu, const struct insn *in) {
    uint64_t at;
    enum cpu_rc rc = begin(cpu, in, VMX_EXIT_VMCLEAR, 0);
    if (rc)
        return rc;
    if (read_pointer(cpu, in, &at))
        return CPU_FAULT;
    if (!region_possible(cpu, at))
        return finish(cpu, VMX_ERROR_VMCLEAR_ADDRESS);
    if (at == cpu->vmx.vmxon)
        return finish(cpu, VMX_ERROR_VMCLEAR_VMXON);
    put_header(cpu, at + VMCS_AT_LAUNCH, 0);
    if (cpu->vmx.vmcs == at)
        cpu->vmx.vmcs = VMCS_NONE;
    return finish(cpu, VMX_OK);
}

enum cpu_rc op_vmptrld(struct cpu *cpu, const struct insn *in) {
    uint64_t at;
    enum cpu_rc rc = begin(cpu, in, VMX_EXIT_VMPTRLD, 0);
    if (rc)
        return rc;
    if (read_pointer(cpu, in, &at))
        return CPU_FAULT;
    if (!region_possible(cpu, at))
        return finish(cpu, VMX_ERROR_VMPTRLD_ADDRESS);
    if (at == cpu->vmx.vmxon)
        return finish(cpu, VMX_ERROR_VMPTRLD_VMXON);
    if ((header(cpu, at) & ~VMCS_SHADOW) != VMCS_REVISION)
        return finish(cpu, VMX_ERROR_VMPTRLD_REVISION);
    cpu->vmx.vmcs = at;
    return finish(cpu, VMX_OK);
}

enum cpu_rc op_vmptrst(struct cpu *cpu, const struct insn *in) {
    enum cpu_rc rc = begin(cpu, in, VMX_EXIT_VMPTRST, 0);
    if (rc)
        return rc;
    if (operand_write(cpu, in, &cpu->vmx.vmcs, sizeof cpu->vmx.vmcs))
        return CPU_FAULT;
    return finish(cpu, VMX_OK);
}

/* ---- VMREAD, VMWRITE ---- */

/* What the exit says of two operands, r/m and a register. */
static uint32_t two_operands(const struct operand *rm, const struct operand *reg) {
    uint64_t info = VMX_SAYS(INFO_FIELD_REGISTER2, reg->reg);
    if (rm->kind == OP_REG)
        info |=
            VMX_SAYS(INFO_FIELD_NO_MEMORY, 1) | VMX_SAYS(INFO_FIELD_REGISTER, rm->reg);
    return (uint32_t)info;
}

static uint64_t narrow(const struct cpu *cpu, uint64_t v) {
    return mode_64(cpu) ? v : (uint32_t)v;
}

/* Which VMCS does the instruction access? L2's is the one that the link pointer names, where
 * VMCS shadowing is on and the bitmap lets the field pass. Return: CPU_NEXT and *vmcs; or what
 * the instruction came to. */
static enum cpu_rc which_vmcs(struct cpu *cpu, const struct insn *in, bool write,
                              uint64_t encoding, pn_gpa *vmcs) {
    const struct vmx_ctl *c = &cpu->vmx.ctl;
    const struct operand *rm = &in->op[write], *reg = &in->op[!write];
    uint8_t byte = 0xff;
    if (cpu->vmx.guest && vmx_proc2(cpu, VMX_PROC2_SHADOWING) && !(encoding >> 15))
        pn_mmu_read_phys(cpu->mmu,
                         (write ? c->vmwrite_map : c->vmread_map) + encoding / 8, &byte,
                         sizeof byte);
    *vmcs = cpu->vmx.vmcs;
    if (byte >> (encoding & 7) & 1)
        return begin(cpu, in, write ? VMX_EXIT_VMWRITE : VMX_EXIT_VMREAD,
                     two_operands(rm, reg));
    *vmcs = c->link;
    return cpu->cpl ? gp0(cpu) : CPU_NEXT;
}

/* The field that an encoding names, and whether it is the upper half of 64 bits. */
static enum vmcs_field field_half(uint64_t encoding, bool *high) {
    *high = encoding & 1 && encoding <= UINT16_MAX && is_64((uint16_t)encoding);
    return field_of(encoding & ~(uint64_t)*high);
}

static uint64_t read_field(struct cpu *cpu, pn_gpa vmcs, enum vmcs_field f) {
    uint64_t value = 0;
    pn_mmu_read_phys(cpu->mmu, vmcs + VMCS_AT_FIELDS + f * sizeof value, &value,
                     sizeof value);
    return value & width_mask(encodings[f]);
}

enum cpu_rc op_vmread(struct cpu *cpu, const struct insn *in) {
    uint64_t encoding = narrow(cpu, cpu->gpr[in->op[1].reg]);
    bool high;
    pn_gpa vmcs;
    enum cpu_rc rc = which_vmcs(cpu, in, false, encoding, &vmcs);
    if (rc)
        return rc;
    if (vmcs == VMCS_NONE)
        return fail_invalid(cpu);
    enum vmcs_field f = field_half(encoding, &high);
    if (f == VMCS_FIELDS)
        return finish(cpu, VMX_ERROR_FIELD);
    uint64_t value = read_field(cpu, vmcs, f);
    if (cpu_op_write(cpu, in, 0, high ? value >> 32 : value))
        return CPU_FAULT;
    return finish(cpu, VMX_OK);
}

enum cpu_rc op_vmwrite(struct cpu *cpu, const struct insn *in) {
    uint64_t encoding = narrow(cpu, cpu->gpr[in->op[0].reg]), value;
    struct vmcs v;
    bool high;
    pn_gpa vmcs;
    enum cpu_rc rc = which_vmcs(cpu, in, true, encoding, &vmcs);
    if (rc)
        return rc;
    if (vmcs == VMCS_NONE)
        return fail_invalid(cpu);
    if (cpu_op_read(cpu, in, 1, &value))
        return CPU_FAULT;
    enum vmcs_field f = field_half(encoding, &high);
    if (f == VMCS_FIELDS)
        return finish(cpu, VMX_ERROR_FIELD);
    if (high)
        value = (uint32_t)read_field(cpu, vmcs, f) | value << 32;
    else if (is_64(encodings[f]) && !mode_64(cpu))
        value = (read_field(cpu, vmcs, f) & ~(uint64_t)UINT32_MAX) | (uint32_t)value;
    v.f[f] = value & width_mask(encodings[f]);
    vmcs_write(cpu, vmcs, &v, f, f);
    return finish(cpu, VMX_OK);
}

/* ---- VM entry ---- */

/* VMLAUNCH and, with arg, VMRESUME. */
enum cpu_rc op_vmlaunch(struct cpu *cpu, const struct insn *in) {
    enum cpu_rc rc = begin(cpu, in, in->arg ? VMX_EXIT_VMRESUME : VMX_EXIT_VMLAUNCH, 0);
    if (rc)
        return rc;
    if (cpu->vmx.vmcs == VMCS_NONE || header(cpu, cpu->vmx.vmcs) & VMCS_SHADOW)
        return fail_invalid(cpu);
    if (cpu_shadowed(cpu) && cpu->intr_shadow == PN_SHADOW_MOV_SS)
        return finish(cpu, VMX_ERROR_MOV_SS);
    bool launched = header(cpu, cpu->vmx.vmcs + VMCS_AT_LAUNCH) == 1;
    if (launched && !in->arg)
        return finish(cpu, VMX_ERROR_NOT_CLEAR);
    if (!launched && in->arg)
        return finish(cpu, VMX_ERROR_NOT_LAUNCHED);
    pn_count(cpu->stats, world_entries);
    pn_emit(cpu->ring, world_entry, cpu->vmx.vmcs);
    enum vmx_error error = vmx_enter(cpu, &rc);
    return error ? finish(cpu, error) : rc;
}

/* ---- VM functions ---- */

/* Only L2 may ask for one: an EPTP of the list, by its number in ECX. */
enum cpu_rc op_vmfunc(struct cpu *cpu, const struct insn *in) {
    uint32_t function = (uint32_t)cpu->gpr[R_AX], i = (uint32_t)cpu->gpr[R_CX];
    uint64_t eptp = 0;
    if (!cpu->vmx.guest || !vmx_proc2(cpu, VMX_PROC2_VMFUNC))
        return cpu_raise(cpu, VEC_UD);
    if (function || !(cpu->vmx.ctl.functions & VMFUNC_EPTP) || i >= EPTP_LIST_SIZE)
        return vmx_leave_operand(cpu, in, VMX_EXIT_VMFUNC, 0);
    pn_mmu_read_phys(cpu->mmu, cpu->vmx.ctl.eptp_list + i * sizeof eptp, &eptp,
                     sizeof eptp);
    if (!vmx_eptp_valid(cpu, eptp))
        return vmx_leave_operand(cpu, in, VMX_EXIT_VMFUNC, 0);
    vmx_set_eptp(cpu, eptp, (uint16_t)i);
    return CPU_STOP;
}

/* ---- Invalidation ---- */

enum { INVEPT_CONTEXT = 1, INVEPT_ALL = 2 };
enum { INVVPID_ADDRESS, INVVPID_CONTEXT, INVVPID_ALL, INVVPID_NOT_GLOBAL };

enum cpu_rc op_invept(struct cpu *cpu, const struct insn *in) {
    uint64_t desc[2];
    enum cpu_rc rc = begin(cpu, in, VMX_EXIT_INVEPT, reg2(in->op[0].reg));
    if (rc)
        return rc;
    uint64_t type = narrow(cpu, cpu->gpr[in->op[0].reg]);
    if (type != INVEPT_CONTEXT && type != INVEPT_ALL)
        return finish(cpu, VMX_ERROR_OPERAND);
    if (operand_read(cpu, in, desc, sizeof desc))
        return CPU_FAULT;
    if (type == INVEPT_CONTEXT && !vmx_eptp_valid(cpu, desc[0]))
        return finish(cpu, VMX_ERROR_OPERAND);
    pn_mmu_flush_second(cpu->vmmu);
    return finish(cpu, VMX_OK);
}

enum cpu_rc op_invvpid(struct cpu *cpu, const struct insn *in) {
    uint64_t desc[2];
    enum cpu_rc rc = begin(cpu, in, VMX_EXIT_INVVPID, reg2(in->op[0].reg));
    if (rc)
        return rc;
    uint64_t type = narrow(cpu, cpu->gpr[in->op[0].reg]);
    if (type > INVVPID_NOT_GLOBAL)
        return finish(cpu, VMX_ERROR_OPERAND);
    if (operand_read(cpu, in, desc, sizeof desc))
        return CPU_FAULT;
    if (desc[0] >> 16 || (type != INVVPID_ALL && !desc[0]) ||
        (type == INVVPID_ADDRESS && !loadable(cpu, desc[1])))
        return finish(cpu, VMX_ERROR_OPERAND);
    if (type == INVVPID_ADDRESS)
        pn_mmu_invlpga(cpu->vmmu, desc[1], (uint32_t)desc[0]);
    else
        pn_mmu_flush_asid(cpu->vmmu, (uint32_t)desc[0], type == INVVPID_ALL);
    return finish(cpu, VMX_OK);
}
