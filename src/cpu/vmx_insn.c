/* SPDX-License-Identifier: MIT */
/*
 * What of L2's instructions exits before it is done, or does something else.
 *
 * Blocks of L2's, whose mode has MODE_GUEST, call these in the place of the helpers
 * (vmx_guard); no other block does. Where the instruction's own checks come first, and one
 * does not hold, the helper raises its fault: each check here repeats only whether it would.
 *
 * Source: SDM volume 3, "VMX Non-Root Operation", "Basic VM-Exit Information", "Information
 * for VM Exits Due to Instruction Execution".
 */
#include "cpu/vmx.h"

#include "cpu/bulk.h"
#include "cpu/control.h"
#include "cpu/nested.h"

/* ---- Leaving ---- */

static uint32_t size_code(unsigned bytes) {
    return bytes == 8 ? 2 : bytes == 4 ? 1 : 0;
}

static bool has_memory(const struct insn *in) {
    for (unsigned i = 0; i < in->op_count; i++)
        if (in->op[i].kind == OP_MEM)
            return true;
    return false;
}

/* The instruction-information field of one with a memory operand, but registers of its own. These
 * bits are where they are for all of them. */
static uint32_t operand_info(const struct insn *in) {
    uint64_t scale = in->scale > 1 ? (uint64_t)__builtin_ctz(in->scale) : 0;
    uint64_t index = in->index == INSN_NOREG ? VMX_SAYS(INFO_MEMORY_NO_INDEX, 1)
                                             : VMX_SAYS(INFO_MEMORY_INDEX, in->index);
    uint64_t base = in->base == INSN_NOREG ? VMX_SAYS(INFO_MEMORY_NO_BASE, 1)
                                           : VMX_SAYS(INFO_MEMORY_BASE, in->base);
    return (uint32_t)(VMX_SAYS(INFO_MEMORY_SCALE, scale) |
                      VMX_SAYS(INFO_MEMORY_ADDRESS_SIZE, size_code(in->addrsize)) |
                      VMX_SAYS(INFO_MEMORY_SEGMENT, in->seg) | index | base);
}

static bool leave(struct cpu *cpu, const struct insn *in, enum vmx_reason reason,
                  uint64_t qualification, enum cpu_rc *rc) {
    struct vmx_exit x = {
        .reason = reason, .qualification = qualification, .insn_len = in->len};
    *rc = vmx_leave(cpu, &x);
    return true;
}

enum cpu_rc vmx_leave_operand(struct cpu *cpu, const struct insn *in,
                              enum vmx_reason reason, uint32_t info) {
    struct vmx_exit x = {.reason = reason, .insn_len = in->len, .insn_info = info};
    if (has_memory(in)) {
        x.insn_info |= operand_info(in);
        x.qualification = (uint64_t)in->disp;
    }
    return vmx_leave(cpu, &x);
}

/* Leave if a bit of the processor-based controls is set. Return: it was. */
static bool plain(struct cpu *cpu, const struct insn *in, unsigned bit,
                  enum vmx_reason reason, enum cpu_rc *rc) {
    return vmx_proc(cpu, bit) && leave(cpu, in, reason, 0, rc);
}

static bool undefined(struct cpu *cpu, enum cpu_rc *rc) {
    *rc = cpu_raise(cpu, VEC_UD);
    return true;
}

/* ---- Control registers ---- */

enum { CR_TO, CR_FROM, CR_CLTS, CR_LMSW };

static uint64_t mov_cr(unsigned cr, unsigned type, unsigned reg) {
    return VMX_SAYS(CR_NUMBER, cr) | VMX_SAYS(CR_TYPE, type) | VMX_SAYS(CR_REGISTER, reg);
}

/* CR0 as L2 sees it. */
static uint64_t shadowed(uint64_t cr, uint64_t mask, uint64_t shadow) {
    return (cr & ~mask) | (shadow & mask);
}
static uint64_t seen_cr0(const struct cpu *cpu) {
    return shadowed(cpu->cr0, cpu->vmx.ctl.cr0_mask, cpu->vmx.ctl.cr0_shadow);
}
static uint64_t seen_cr4(const struct cpu *cpu) {
    return shadowed(cpu->cr4, cpu->vmx.ctl.cr4_mask, cpu->vmx.ctl.cr4_shadow);
}

static bool write_masked(struct cpu *cpu, const struct insn *in, unsigned cr, uint64_t v,
                         uint64_t qualification, enum cpu_rc *rc) {
    const struct vmx_ctl *c = &cpu->vmx.ctl;
    uint64_t mask = cr ? c->cr4_mask : c->cr0_mask, old = cr ? cpu->cr4 : cpu->cr0;
    if ((v ^ (cr ? c->cr4_shadow : c->cr0_shadow)) & mask)
        return leave(cpu, in, VMX_EXIT_CR, qualification, rc);
    *rc = cr_set(cpu, cr, shadowed(v, mask, old));
    return true;
}

static bool cr3_target(const struct cpu *cpu, uint64_t v) {
    for (unsigned i = 0; i < cpu->vmx.ctl.cr3_targets; i++)
        if (cpu->vmx.ctl.cr3_target[i] == v)
            return true;
    return false;
}

/* CR8 is the virtual TPR. */
static bool write_tpr(struct cpu *cpu, uint64_t v, enum cpu_rc *rc) {
    *rc = vmx_write_tpr(cpu, v);
    return true;
}

static bool read_tpr(struct cpu *cpu, unsigned reg, enum cpu_rc *rc) {
    cpu->gpr[reg] = vmx_read_tpr(cpu);
    *rc = CPU_NEXT;
    return true;
}

static bool write_cr(struct cpu *cpu, const struct insn *in, unsigned cr, unsigned reg,
                     enum cpu_rc *rc) {
    uint64_t v = mode_64(cpu) ? cpu->gpr[reg] : (uint32_t)cpu->gpr[reg];
    uint64_t q = mov_cr(cr, CR_TO, reg);
    if (cr == 0 || cr == 4)
        return write_masked(cpu, in, cr, v, q, rc);
    if (cr == 3)
        return vmx_proc(cpu, VMX_PROC_CR3_LOAD) && !cr3_target(cpu, v) &&
               leave(cpu, in, VMX_EXIT_CR, q, rc);
    if (cr == 8 && vmx_proc(cpu, VMX_PROC_CR8_LOAD))
        return leave(cpu, in, VMX_EXIT_CR, q, rc);
    return cr == 8 && vmx_proc(cpu, VMX_PROC_TPR_SHADOW) && write_tpr(cpu, v, rc);
}

static bool read_cr(struct cpu *cpu, const struct insn *in, unsigned cr, unsigned reg,
                    enum cpu_rc *rc) {
    uint64_t q = mov_cr(cr, CR_FROM, reg);
    if (cr == 3)
        return vmx_proc(cpu, VMX_PROC_CR3_STORE) && leave(cpu, in, VMX_EXIT_CR, q, rc);
    if (cr == 8 && vmx_proc(cpu, VMX_PROC_CR8_STORE))
        return leave(cpu, in, VMX_EXIT_CR, q, rc);
    if (cr == 8)
        return vmx_proc(cpu, VMX_PROC_TPR_SHADOW) && read_tpr(cpu, reg, rc);
    if (cr != 0 && cr != 4)
        return false;
    uint64_t v = cr ? seen_cr4(cpu) : seen_cr0(cpu);
    cpu->gpr[reg] = mode_64(cpu) ? v : (uint32_t)v;
    *rc = CPU_NEXT;
    return true;
}

static bool check_cr(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    bool write = in->op[0].kind == OP_CR;
    unsigned cr = in->op[write ? 0 : 1].reg, reg = in->op[write ? 1 : 0].reg;
    if (cpu->cpl || in->lock)
        return false;
    return write ? write_cr(cpu, in, cr, reg, rc) : read_cr(cpu, in, cr, reg, rc);
}

static bool check_smsw(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    if (cpu->cpl && cpu->cr4 & CR4_UMIP)
        return false;
    *rc = cpu_op_write(cpu, in, 0, seen_cr0(cpu));
    return true;
}

static bool check_lmsw(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    const struct vmx_ctl *c = &cpu->vmx.ctl;
    const uint64_t flags = CR0_MP | CR0_EM | CR0_TS;
    uint64_t v;
    if (cpu->cpl)
        return false;
    if (cpu_op_read(cpu, in, 0, &v)) {
        *rc = CPU_FAULT;
        return true;
    }
    uint64_t differ = (v ^ c->cr0_shadow) & c->cr0_mask;
    if (differ & flags || differ & v & CR0_PE) {
        struct vmx_exit x = {.reason = VMX_EXIT_CR, .insn_len = in->len};
        x.qualification =
            VMX_SAYS(CR_TYPE, CR_LMSW) | VMX_SAYS(CR_LMSW_SOURCE, (uint16_t)v);
        if (has_memory(in)) {
            x.qualification |= VMX_SAYS(CR_LMSW_MEMORY, 1);
            x.linear = operand_linear(cpu, in);
        }
        *rc = vmx_leave(cpu, &x);
        return true;
    }
    uint64_t may = ~c->cr0_mask;
    *rc = cr_set(cpu, 0, (cpu->cr0 & ~(flags & may)) | (v & (flags | CR0_PE) & may));
    return true;
}

static bool check_clts(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    if (cpu->cpl || !(cpu->vmx.ctl.cr0_mask & CR0_TS))
        return false;
    if (cpu->vmx.ctl.cr0_shadow & CR0_TS)
        return leave(cpu, in, VMX_EXIT_CR, VMX_SAYS(CR_TYPE, CR_CLTS), rc);
    *rc = CPU_NEXT;
    return true;
}

/* ---- Debug registers: even before the privilege is looked at ---- */

static bool check_dr(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    bool write = in->op[0].kind == OP_DR;
    unsigned dr = in->op[write ? 0 : 1].reg, reg = in->op[write ? 1 : 0].reg;
    if (dr > 7 || in->lock || !vmx_proc(cpu, VMX_PROC_MOV_DR))
        return false;
    uint64_t q =
        VMX_SAYS(DR_NUMBER, dr) | VMX_SAYS(DR_FROM, !write) | VMX_SAYS(DR_REGISTER, reg);
    return leave(cpu, in, VMX_EXIT_DR, q, rc);
}

/* ---- Descriptor tables ---- */

static bool umip_denies(const struct cpu *cpu) {
    return cpu->cr4 & CR4_UMIP && cpu->cpl;
}

static bool check_table(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    bool write = in->fn == op_load_table;
    if (!vmx_proc2(cpu, VMX_PROC2_TABLES) || (write ? cpu->cpl : umip_denies(cpu)))
        return false;
    unsigned which = (in->arg ? 1 : 0) + (write ? 2 : 0);
    uint64_t info =
        VMX_SAYS(INFO_TABLE_WHICH, which) | VMX_SAYS(INFO_TABLE_WIDE, in->opsize >= 4);
    *rc = vmx_leave_operand(cpu, in, VMX_EXIT_GDTR_IDTR, (uint32_t)info);
    return true;
}

static bool check_system(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    bool write = in->fn == op_load_system;
    if (!vmx_proc2(cpu, VMX_PROC2_TABLES) || !mode_prot(cpu) ||
        (write ? cpu->cpl : umip_denies(cpu)))
        return false;
    unsigned which = (in->arg == SEG_TR ? 1 : 0) + (write ? 2 : 0);
    uint64_t info = VMX_SAYS(INFO_SYSTEM_WHICH, which);
    if (in->op[0].kind == OP_REG)
        info |= VMX_SAYS(INFO_SYSTEM_NO_MEMORY, 1) |
                VMX_SAYS(INFO_SYSTEM_REGISTER, in->op[0].reg);
    *rc = vmx_leave_operand(cpu, in, VMX_EXIT_LDTR_TR, (uint32_t)info);
    return true;
}

/* ---- The rest ---- */

/* RDTSC; RDTSCP, with its feature as arg. */
static bool check_rdtsc(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    if (in->arg && !vmx_proc2(cpu, VMX_PROC2_RDTSCP))
        return undefined(cpu, rc);
    if (cpu->cr4 & CR4_TSD && cpu->cpl)
        return false;
    return plain(cpu, in, VMX_PROC_RDTSC, in->arg ? VMX_EXIT_RDTSCP : VMX_EXIT_RDTSC, rc);
}
static bool check_rdpid(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return !vmx_proc2(cpu, VMX_PROC2_RDTSCP) && undefined(cpu, rc);
}
static bool check_rdpmc(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return (!cpu->cpl || cpu->cr4 & CR4_PCE) &&
           plain(cpu, in, VMX_PROC_RDPMC, VMX_EXIT_RDPMC, rc);
}
static bool check_cpuid(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return leave(cpu, in, VMX_EXIT_CPUID, 0, rc);
}
/* INVD and, with arg, WBINVD. */
static bool check_cache(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    if (cpu->cpl || (in->arg && !vmx_proc2(cpu, VMX_PROC2_WBINVD)))
        return false;
    return leave(cpu, in, in->arg ? VMX_EXIT_WBINVD : VMX_EXIT_INVD, 0, rc);
}
static bool check_hlt(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return !cpu->cpl && plain(cpu, in, VMX_PROC_HLT, VMX_EXIT_HLT, rc);
}
static bool check_xsetbv(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return cpu->cr4 & CR4_OSXSAVE && !cpu->cpl && leave(cpu, in, VMX_EXIT_XSETBV, 0, rc);
}
static bool check_invlpg(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return !cpu->cpl && vmx_proc(cpu, VMX_PROC_INVLPG) &&
           leave(cpu, in, VMX_EXIT_INVLPG, operand_linear(cpu, in), rc);
}
static bool check_invpcid(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    if (!vmx_proc2(cpu, VMX_PROC2_INVPCID))
        return undefined(cpu, rc);
    if (cpu->cpl || !vmx_proc(cpu, VMX_PROC_INVLPG))
        return false;
    *rc = vmx_leave_operand(cpu, in, VMX_EXIT_INVPCID,
                            (uint32_t)VMX_SAYS(INFO_INVALIDATE_REGISTER2, in->op[0].reg));
    return true;
}

/* L2's hypercalls are for L1; AMD's instruction is none here. */
static bool check_hypercall(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    return in->arg ? undefined(cpu, rc) : leave(cpu, in, VMX_EXIT_VMCALL, 0, rc);
}

static bool check_rdrand(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    bool seed = in->arg == CPU_F_rdseed;
    if (!cpu_has(cpu, in->arg) ||
        !vmx_proc2(cpu, seed ? VMX_PROC2_RDSEED : VMX_PROC2_RDRAND))
        return false;
    uint64_t info = VMX_SAYS(INFO_RANDOM_REGISTER, in->op[0].reg) |
                    VMX_SAYS(INFO_RANDOM_SIZE, size_code(in->opsize));
    *rc = vmx_leave_operand(cpu, in, seed ? VMX_EXIT_RDSEED : VMX_EXIT_RDRAND,
                            (uint32_t)info);
    return true;
}

/* XSAVES and XRSTORS, of the instructions that these helpers run. */
static bool check_xsaves(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    if (in->arg != CPU_F_xsaves)
        return false;
    if (!vmx_proc2(cpu, VMX_PROC2_XSAVES))
        return undefined(cpu, rc);
    if (cpu->cpl || !(edx_eax(cpu) & cpu->msr_xss & cpu->vmx.ctl.xss_bitmap))
        return false;
    *rc = vmx_leave_operand(cpu, in,
                            in->fn == op_xrstor ? VMX_EXIT_XRSTORS : VMX_EXIT_XSAVES, 0);
    return true;
}

/* With NMI exits and no virtual NMIs IRET leaves their blocking alone. Else it unblocks them, even
 * if it faults. */
static bool check_iret(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    uint8_t blocked = cpu->nmi_blocked;
    if (!vmx_pin(cpu, VMX_PIN_NMI) || vmx_pin(cpu, VMX_PIN_VIRTUAL_NMI)) {
        cpu->vmx.iret_at = blocked ? cpu_insns(cpu) + 1 : 0;
        return false;
    }
    *rc = op_iret(cpu, in);
    if (cpu->vmx.guest)
        cpu->nmi_blocked = blocked;
    return true;
}

enum cpu_rc vmx_pause(struct cpu *cpu, const struct insn *in) {
    enum cpu_rc rc;
    return plain(cpu, in, VMX_PROC_PAUSE, VMX_EXIT_PAUSE, &rc) ? rc : CPU_NEXT;
}

/* ---- MSRs and ports ---- */

/* Is one of n bits of an L1 bitmap set? What is in no memslot reads as set. */
static bool map_bits(struct cpu *cpu, pn_gpa map, unsigned bit, unsigned n) {
    uint8_t byte = 0xff;
    for (unsigned i = bit; i < bit + n; i++) {
        pn_mmu_read_phys(cpu->mmu, map + i / 8, &byte, sizeof byte);
        if (byte >> (i & 7) & 1)
            return true;
    }
    return false;
}

/* RDMSR's bits of two ranges of 8,192 MSRs, then WRMSR's. */
static bool msr_exits(struct cpu *cpu, uint32_t index, bool write) {
    static const uint32_t first[] = {0, 0xc0000000u};
    if (!vmx_proc(cpu, VMX_PROC_MSR_BITMAPS))
        return true;
    for (unsigned i = 0; i < 2; i++)
        if (index - first[i] < 0x2000)
            return map_bits(cpu, cpu->vmx.ctl.msr_map,
                            (write ? 0x4000 : 0) + i * 0x2000 + (index - first[i]), 1);
    return true;
}

static bool check_msr(struct cpu *cpu, const struct insn *in, enum cpu_rc *rc) {
    bool write = in->fn == op_wrmsr;
    uint32_t index = (uint32_t)cpu->gpr[R_CX];
    if (cpu->cpl)
        return false;
    if (msr_exits(cpu, index, write))
        return leave(cpu, in, write ? VMX_EXIT_WRMSR : VMX_EXIT_RDMSR, 0, rc);
    return write ? vmx_x2apic_write(cpu, index, edx_eax(cpu), rc)
                 : vmx_x2apic_read(cpu, index, rc);
}

static bool port_exits(struct cpu *cpu, uint16_t port, unsigned size) {
    const uint64_t *io = cpu->vmx.ctl.io;
    if (!vmx_proc(cpu, VMX_PROC_IO_BITMAPS))
        return vmx_proc(cpu, VMX_PROC_IO);
    if (port + size > 0x10000) /* it wraps */
        return true;
    for (unsigned i = port; i < port + size; i++)
        if (map_bits(cpu, io[i >> 15], i & 0x7fff, 1))
            return true;
    return false;
}

bool vmx_port(struct cpu *cpu, const struct insn *in, uint16_t port, unsigned size,
              bool out, bool string, enum cpu_rc *rc) {
    if (!port_exits(cpu, port, size))
        return false;
    struct vmx_exit x = {.reason = VMX_EXIT_IO, .insn_len = in->len};
    x.qualification =
        VMX_SAYS(IO_SIZE, size - 1) | VMX_SAYS(IO_IN, !out) | VMX_SAYS(IO_PORT, port);
    if (string) {
        unsigned seg = out ? in->seg : SEG_ES, reg = out ? R_SI : R_DI;
        bool flat = mode_64(cpu) && seg != SEG_FS && seg != SEG_GS;
        x.linear = string_reg(cpu, reg, in->addrsize) + (flat ? 0 : cpu->seg[seg].base);
        if (!mode_64(cpu))
            x.linear = (uint32_t)x.linear;
        x.qualification |= VMX_SAYS(IO_STRING, 1) | VMX_SAYS(IO_REP, in->rep != 0);
        x.insn_info = (uint32_t)(VMX_SAYS(INFO_IO_ADDRESS_SIZE, size_code(in->addrsize)) |
                                 VMX_SAYS(INFO_IO_SEGMENT, seg));
    } else if (!(in->opcode & 8)) {
        x.qualification |= VMX_SAYS(IO_IMMEDIATE, 1);
    }
    *rc = vmx_leave(cpu, &x);
    return true;
}

/* ---- What looks for itself ---- */

bool vmx_task_switch(struct cpu *cpu, uint16_t sel, enum task_reason reason, uint64_t rip,
                     const struct event *ev, enum cpu_rc *rc) {
    static const uint8_t source[] = {
        [TASK_CALL] = 0, [TASK_IRET] = 1, [TASK_JMP] = 2, [TASK_GATE] = 3};
    struct vmx_exit x = {.reason = VMX_EXIT_TASK_SWITCH,
                         .qualification = sel | VMX_SAYS(TASK_SOURCE, source[reason])};
    if (!ev)
        x.insn_len = (uint32_t)(rip - cpu->rip) & 15;
    *rc = vmx_leave(cpu, &x);
    return true;
}

bool vmx_soft_exception(struct cpu *cpu, const struct insn *in, uint8_t vector,
                        enum cpu_rc *rc) {
    unsigned type = vector == VEC_DB ? VMX_TYPE_ICEBP : VMX_TYPE_SOFT_EXCEPTION;
    if (!(cpu->vmx.ctl.exceptions >> vector & 1))
        return false;
    struct vmx_exit x = {.reason = VMX_EXIT_EXCEPTION,
                         .event = VMX_EVENT_VALID | vector | type << VMX_EVENT_TYPE_SHIFT,
                         .insn_len = in->len};
    *rc = vmx_leave(cpu, &x);
    return true;
}

/* ---- The guards ---- */

#define VMX_INSN(helper, check)                                                          \
    static enum cpu_rc guard_##helper(struct cpu *cpu, const struct insn *in) {          \
        return nested_guarded(cpu, in, helper, check_##check);                           \
    }
#include "cpu/vmx_insn.inc"

vmx_helper *vmx_guard(vmx_helper *fn) {
    static const struct nested_guard guards[] = {
#define VMX_INSN(helper, check) {helper, guard_##helper},
#include "cpu/vmx_insn.inc"
    };
    return nested_find_guard(guards, sizeof guards / sizeof guards[0], fn);
}
