/* SPDX-License-Identifier: MIT */
/*
 * RDMSR and WRMSR. The local APIC's MSRs belong to the bus; every other index that is not
 * here, or whose feature the model lacks, is #GP(0).
 *
 * Invariant: a value is checked whole before anything changes.
 */
#include "cpu/control.h"
#include "cpu/model.h"

#define MTRR_PAIRS 8u

/* Nothing speculates here, so every "not affected" bit is the truth; IBRS_ALL keeps
 * Linux from retpolines. */
#define ARCH_CAP                                                                         \
    (1u << 0 /* RDCL_NO */ | 1u << 1 /* IBRS_ALL */ | 1u << 3 /* SKIP_L1DFL_VMENTRY */ | \
     1u << 4 /* SSB_NO */ | 1u << 5 /* MDS_NO */ | 1u << 6 /* IF_PSCHANGE_MC_NO */ |     \
     1u << 8 /* TAA_NO */ | 1u << 13 /* SBDR_SSDP_NO */ | 1u << 14 /* FBSDP_NO */ |      \
     1u << 15 /* PSDP_NO */ | 1u << 20 /* BHI_NO */ | 1u << 24 /* PBRSB_NO */ |          \
     1u << 26 /* GDS_NO */ | 1u << 27 /* RFDS_NO */ | UINT64_C(1) << 62 /* ITS_NO */)

#define UCODE_REV       (UINT64_C(1) << 32)
#define SPEC_CTRL_VALID 0x1u /* IBRS */
/* PLATFORM_INFO: maximum non-turbo ratio 10 of 100 MHz. */
#define PLATFORM_INFO (UINT64_C(10) << 8 | UINT64_C(10) << 40)
/* fast strings may be turned off, CPUID limited, XD disabled; the rest is fixed */
#define MISC_ENABLE_WRITABLE UINT64_C(0x400400001)

static enum cpu_rc gp0(struct cpu *cpu) {
    return cpu_raise_code(cpu, VEC_GP, 0);
}

static bool canonical48_57(const struct cpu *cpu, uint64_t a) {
    /* MSRs take what the widest paging of the model takes (SDM: "checks ... CPUID"). */
    unsigned shift = cpu_has(cpu, CPU_F_la57) ? 7 : 16;
    return (uint64_t)((int64_t)(a << shift) >> shift) == a;
}

/* ---- Memory types ---- */

static bool mtrr_type(uint64_t type) {
    return type == 0 || type == 1 || type == 4 || type == 5 || type == 6;
}

/* Where an MTRR is kept in cpu->msr_mtrr. Return: NULL when it is none. */
static uint64_t *mtrr_slot(struct cpu *cpu, uint32_t index) {
    if (!cpu_has(cpu, CPU_F_mtrr))
        return NULL;
    if (index == MSR_MTRR_DEF)
        return &cpu->msr_mtrr[0];
    if (index == MSR_MTRR_FIX64K)
        return &cpu->msr_mtrr[1];
    if (index - MSR_MTRR_FIX16K < 2)
        return &cpu->msr_mtrr[2 + index - MSR_MTRR_FIX16K];
    if (index - MSR_MTRR_FIX4K < 8)
        return &cpu->msr_mtrr[4 + index - MSR_MTRR_FIX4K];
    if (index - MSR_MTRR_PHYS < 2 * MTRR_PAIRS)
        return &cpu->msr_mtrr[12 + index - MSR_MTRR_PHYS];
    return NULL;
}

static bool mtrr_valid(const struct cpu *cpu, uint32_t index, uint64_t v) {
    if (index == MSR_MTRR_DEF)
        return !(v & ~UINT64_C(0xcff)) && mtrr_type(v & 0xff);
    if (index >= MSR_MTRR_FIX64K) {
        for (unsigned i = 0; i < 64; i += 8)
            if (!mtrr_type(v >> i & 0xff))
                return false;
        return true;
    }
    if (v >> cpu->model->phys_bits)
        return false;
    return index & 1 ? !(v & 0x7ff) : !(v & 0xf00) && mtrr_type(v & 0xff);
}

static bool pat_valid(uint64_t v) {
    for (unsigned i = 0; i < 64; i += 8) {
        unsigned t = v >> i & 0xff;
        if (t > 7 || t == 2 || t == 3)
            return false;
    }
    return true;
}

/* ---- The plain ones ---- */

/* MSRs that are one field of struct cpu, and what may be written to it. */
enum check { ANY, CANONICAL, BITS32 };
struct plain {
    uint64_t *field;
    enum check check;
};

static bool plain_msr(struct cpu *cpu, uint32_t index, struct plain *p) {
    bool lm = cpu_has(cpu, CPU_F_lm), sysc = cpu_has(cpu, CPU_F_syscall);
    switch (index) {
    case MSR_SYSENTER_CS:
        *p = (struct plain){&cpu->msr_sysenter_cs, BITS32};
        return cpu_has(cpu, CPU_F_sep);
    case MSR_SYSENTER_ESP:
        *p = (struct plain){&cpu->msr_sysenter_esp, CANONICAL};
        return cpu_has(cpu, CPU_F_sep);
    case MSR_SYSENTER_EIP:
        *p = (struct plain){&cpu->msr_sysenter_eip, CANONICAL};
        return cpu_has(cpu, CPU_F_sep);
    case MSR_STAR:
        *p = (struct plain){&cpu->msr_star, ANY};
        return sysc;
    case MSR_LSTAR:
        *p = (struct plain){&cpu->msr_lstar, CANONICAL};
        return lm && sysc;
    case MSR_CSTAR:
        *p = (struct plain){&cpu->msr_cstar, CANONICAL};
        return lm && sysc;
    case MSR_SFMASK:
        *p = (struct plain){&cpu->msr_sfmask, BITS32};
        return lm && sysc;
    case MSR_FS_BASE:
        *p = (struct plain){&cpu->seg[SEG_FS].base, CANONICAL};
        return lm;
    case MSR_GS_BASE:
        *p = (struct plain){&cpu->seg[SEG_GS].base, CANONICAL};
        return lm;
    case MSR_KERNEL_GS_BASE:
        *p = (struct plain){&cpu->msr_kernel_gs_base, CANONICAL};
        return lm;
    case MSR_TSC_AUX:
        *p = (struct plain){&cpu->msr_tsc_aux, BITS32};
        return cpu_has(cpu, CPU_F_rdtscp) || cpu_has(cpu, CPU_F_rdpid);
    default:
        return false;
    }
}

/* ---- Which MSRs the bus answers ---- */

static bool bus_msr(const struct cpu *cpu, uint32_t index) {
    if (index == MSR_APIC_BASE)
        return cpu_has(cpu, CPU_F_apic);
    if (index == MSR_TSC_DEADLINE)
        return cpu_has(cpu, CPU_F_tsc_deadline_timer);
    if (index - MSR_KVM_WALL_CLOCK_OLD < 2 || index - MSR_KVM_WALL_CLOCK < 0x100)
        return cpu->model->pv;
    return index - MSR_X2APIC < 0x100 && cpu_has(cpu, CPU_F_x2apic);
}

/* ---- RDMSR ---- */

static enum cpu_rc read_rare(struct cpu *cpu, uint32_t index, uint64_t *value) {
    uint64_t *slot = mtrr_slot(cpu, index);
    *value = 0;
    if (slot) {
        *value = *slot;
        return CPU_NEXT;
    }
    switch (index) {
    case MSR_P5_MC_ADDR:
    case MSR_P5_MC_TYPE:
    case MSR_PLATFORM_ID:
    case MSR_MCG_CAP: /* no banks */
    case MSR_MCG_STATUS:
        return CPU_NEXT;
    case MSR_FEATURE_CONTROL:
        *value = 1; /* locked; no VMX, no SGX */
        return CPU_NEXT;
    case MSR_UCODE_REV:
        *value = UCODE_REV;
        return CPU_NEXT;
    case MSR_PLATFORM_INFO:
        *value = PLATFORM_INFO;
        return CPU_NEXT;
    case MSR_MISC_ENABLE:
        *value = cpu->msr_misc_enable;
        return CPU_NEXT;
    case MSR_MTRR_CAP:
        *value = 0x500 | MTRR_PAIRS; /* write-combining, fixed ranges */
        return cpu_has(cpu, CPU_F_mtrr) ? CPU_NEXT : gp0(cpu);
    case MSR_ARCH_CAPABILITIES:
        *value = ARCH_CAP;
        return cpu_has(cpu, CPU_F_arch_capabilities) ? CPU_NEXT : gp0(cpu);
    case MSR_SPEC_CTRL:
        *value = cpu->msr_spec_ctrl;
        return cpu_has(cpu, CPU_F_spec_ctrl) ? CPU_NEXT : gp0(cpu);
    case MSR_PAT:
        *value = cpu->msr_pat;
        return cpu_has(cpu, CPU_F_pat) ? CPU_NEXT : gp0(cpu);
    case MSR_XSS:
        *value = cpu->msr_xss;
        return cpu_has(cpu, CPU_F_xsaves) ? CPU_NEXT : gp0(cpu);
    case MSR_PKRS:
        *value = cpu->pkrs;
        return cpu_has(cpu, CPU_F_pks) ? CPU_NEXT : gp0(cpu);
    case MSR_TSC_ADJUST:
        *value = (uint64_t)cpu->tsc_adjust;
        return cpu_has(cpu, CPU_F_tsc_adjust) ? CPU_NEXT : gp0(cpu);
    default:
        return gp0(cpu);
    }
}

enum cpu_rc msr_read(struct cpu *cpu, uint32_t index, uint64_t *value) {
    struct plain p;
    if (index == MSR_TSC) {
        *value = cpu_tsc(cpu);
        return CPU_NEXT;
    }
    if (plain_msr(cpu, index, &p)) {
        *value = *p.field;
        return CPU_NEXT;
    }
    if (index == MSR_EFER) {
        *value = cpu->efer;
        return cpu->model->efer_valid ? CPU_NEXT : gp0(cpu);
    }
    if (bus_msr(cpu, index))
        return cpu->bus->msr_read(cpu->bus->opaque, index, value) ? gp0(cpu) : CPU_NEXT;
    return read_rare(cpu, index, value);
}

/* ---- WRMSR ---- */

static enum cpu_rc write_efer(struct cpu *cpu, uint64_t v) {
    uint64_t lma = cpu->efer & EFER_LMA;
    if (!cpu->model->efer_valid || v & ~(cpu->model->efer_valid | EFER_LMA))
        return gp0(cpu);
    if ((cpu->efer ^ v) & EFER_LME && cpu->cr0 & CR0_PG)
        return gp0(cpu);
    v = (v & ~EFER_LMA) | lma;
    uint64_t changed = cpu->efer ^ v;
    cpu->efer = v;
    if (changed & EFER_NXE)
        cpu_update_paging(cpu);
    cpu_update_mode(cpu);
    return CPU_STOP;
}

static enum cpu_rc write_tsc(struct cpu *cpu, int64_t offset) {
    cpu->tsc_adjust += offset - cpu->tsc_offset;
    cpu->tsc_offset = offset;
    cpu->stop_request |= cpu->model->pv != 0; /* what pvclock says moves too */
    return CPU_STOP;                          /* TSC deadlines move */
}

static enum cpu_rc write_bus(struct cpu *cpu, uint32_t index, uint64_t v) {
    if (index == MSR_APIC_BASE && v & 0x400 && !cpu_has(cpu, CPU_F_x2apic))
        return gp0(cpu);
    if (cpu->bus->msr_write(cpu->bus->opaque, index, v))
        return gp0(cpu);
    return CPU_STOP;
}

static enum cpu_rc write_rare(struct cpu *cpu, uint32_t index, uint64_t v) {
    uint64_t *slot = mtrr_slot(cpu, index);
    if (slot) {
        if (!mtrr_valid(cpu, index, v))
            return gp0(cpu);
        *slot = v;
        return CPU_NEXT;
    }
    switch (index) {
    case MSR_P5_MC_ADDR:
    case MSR_P5_MC_TYPE:
    case MSR_UCODE_WRITE: /* an update that changes nothing */
    case MSR_UCODE_REV:
        return CPU_NEXT;
    case MSR_MCG_STATUS:
        return v ? gp0(cpu) : CPU_NEXT;
    case MSR_MISC_ENABLE:
        cpu->msr_misc_enable =
            (cpu->msr_misc_enable & ~MISC_ENABLE_WRITABLE) | (v & MISC_ENABLE_WRITABLE);
        return CPU_NEXT;
    case MSR_SPEC_CTRL:
        if (!cpu_has(cpu, CPU_F_spec_ctrl) || v & ~(uint64_t)SPEC_CTRL_VALID)
            return gp0(cpu);
        cpu->msr_spec_ctrl = v;
        return CPU_NEXT;
    case MSR_PRED_CMD:
        return cpu_has(cpu, CPU_F_spec_ctrl) && !(v & ~(uint64_t)1) ? CPU_NEXT : gp0(cpu);
    case MSR_PAT:
        if (!cpu_has(cpu, CPU_F_pat) || !pat_valid(v))
            return gp0(cpu);
        cpu->msr_pat = v;
        return CPU_NEXT;
    case MSR_XSS:
        return cpu_has(cpu, CPU_F_xsaves) && v == 0 ? CPU_NEXT : gp0(cpu);
    case MSR_PKRS:
        if (!cpu_has(cpu, CPU_F_pks) || v >> 32)
            return gp0(cpu);
        cpu->pkrs = (uint32_t)v;
        pn_mmu_set_pkr(cpu->vmmu, cpu->pkru, cpu->pkrs);
        return CPU_STOP;
    case MSR_TSC_ADJUST:
        if (!cpu_has(cpu, CPU_F_tsc_adjust))
            return gp0(cpu);
        return write_tsc(cpu, cpu->tsc_offset + ((int64_t)v - cpu->tsc_adjust));
    default:
        return gp0(cpu);
    }
}

enum cpu_rc msr_write(struct cpu *cpu, uint32_t index, uint64_t value) {
    struct plain p;
    if (plain_msr(cpu, index, &p)) {
        if (p.check == CANONICAL && !canonical48_57(cpu, value))
            return gp0(cpu);
        if (index == MSR_TSC_AUX && value >> 32)
            return gp0(cpu);
        *p.field = p.check == BITS32 ? (uint32_t)value : value;
        return CPU_NEXT;
    }
    if (bus_msr(cpu, index))
        return write_bus(cpu, index, value);
    if (index == MSR_TSC)
        return write_tsc(cpu, (int64_t)(value - cpu_insns(cpu)));
    if (index == MSR_EFER)
        return write_efer(cpu, value);
    return write_rare(cpu, index, value);
}

/* ---- The instructions ---- */

/* For the TLB model: hypervisors leave to the guest what it uses at every context switch
 * (KVM, arch/x86/kvm/vmx/vmx.c, vmx_possible_passthrough_msrs). EFER is seen by the MMU.
 */
static bool exits(uint32_t index) {
    switch (index) {
    case MSR_TSC:
    case MSR_SYSENTER_CS:
    case MSR_SYSENTER_ESP:
    case MSR_SYSENTER_EIP:
    case MSR_SPEC_CTRL:
    case MSR_FS_BASE:
    case MSR_GS_BASE:
    case MSR_KERNEL_GS_BASE:
    case MSR_EFER:
        return false;
    default:
        return true;
    }
}

enum cpu_rc op_rdmsr(struct cpu *cpu, const struct insn *in) {
    uint64_t v;
    if (cpu->cpl)
        return gp0(cpu);
    if (exits((uint32_t)cpu->gpr[R_CX]))
        pn_mmu_exited(cpu->vmmu, PN_VM_OTHER);
    if (msr_read(cpu, (uint32_t)cpu->gpr[R_CX], &v) != CPU_NEXT)
        return CPU_FAULT;
    set_edx_eax(cpu, v);
    return CPU_NEXT;
}

enum cpu_rc op_wrmsr(struct cpu *cpu, const struct insn *in) {
    if (cpu->cpl)
        return gp0(cpu);
    if (exits((uint32_t)cpu->gpr[R_CX]))
        pn_mmu_exited(cpu->vmmu, PN_VM_OTHER);
    return msr_write(cpu, (uint32_t)cpu->gpr[R_CX], edx_eax(cpu));
}
