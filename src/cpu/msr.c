/* SPDX-License-Identifier: MIT */
/*
 * RDMSR and WRMSR. The local APIC's MSRs belong to the bus; every other index that is not
 * here, or whose feature the model lacks, is #GP(0).
 *
 * Invariant: a value is checked whole before anything changes.
 */
#include "cpu/control.h"
#include "cpu/model.h"
#include "cpu/svm.h"
#include "cpu/vmx.h"

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
/* The TSC counts at the frequency of P0. */
#define HWCR_TSC_FREQ_SEL (UINT64_C(1) << 24)
/* fast strings may be turned off, CPUID limited, XD disabled; the rest is fixed */
#define MISC_ENABLE_WRITABLE UINT64_C(0x400400001)

/* ---- Memory types ---- */

static bool mtrr_type(uint64_t type) {
    return type == 0 || type == 1 || type == 4 || type == 5 || type == 6;
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

/* ---- What WRMSR accepts of an MSR that is a field ---- */

/* Each may change *v into what is stored. Return: false for #GP. */
typedef bool take_fn(const struct cpu *cpu, uint32_t index, uint64_t *v);

static bool take_any(const struct cpu *cpu, uint32_t index, uint64_t *v) {
    return true;
}
static bool take_address(const struct cpu *cpu, uint32_t index, uint64_t *v) {
    return loadable(cpu, *v);
}
static bool take_low32(const struct cpu *cpu, uint32_t index, uint64_t *v) {
    *v = (uint32_t)*v;
    return true;
}
static bool take_only32(const struct cpu *cpu, uint32_t index, uint64_t *v) {
    return !(*v >> 32);
}
static bool take_xss(const struct cpu *cpu, uint32_t index, uint64_t *v) {
    return !(*v & ~cpu->model->xss_valid);
}
static bool take_cet(const struct cpu *cpu, uint32_t index, uint64_t *v) {
    return cet_control_valid(cpu, *v);
}
static bool take_ssp(const struct cpu *cpu, uint32_t index, uint64_t *v) {
    return cet_ssp_valid(cpu, *v);
}
static bool take_ibrs(const struct cpu *cpu, uint32_t index, uint64_t *v) {
    return !(*v & ~(uint64_t)SPEC_CTRL_VALID);
}
static bool take_misc_enable(const struct cpu *cpu, uint32_t index, uint64_t *v) {
    *v = (cpu->msr_misc_enable & ~MISC_ENABLE_WRITABLE) | (*v & MISC_ENABLE_WRITABLE);
    return true;
}
static bool take_pat(const struct cpu *cpu, uint32_t index, uint64_t *v) {
    return pat_valid(*v);
}
static bool take_mtrr(const struct cpu *cpu, uint32_t index, uint64_t *v) {
    return mtrr_valid(cpu, index, *v);
}

/* Once LOCK is set, it and SVMDIS stay as they are. */
static bool take_vm_cr(const struct cpu *cpu, uint32_t index, uint64_t *v) {
    uint64_t fixed = VM_CR_SVMDIS | VM_CR_LOCK;
    if (*v & ~(VM_CR_WRITABLE | fixed))
        return false;
    if (*v & VM_CR_SVMDIS && cpu->efer & EFER_SVME)
        return false;
    if (cpu->svm.vm_cr & VM_CR_LOCK)
        *v = (*v & ~fixed) | (cpu->svm.vm_cr & fixed);
    return true;
}
static bool take_hsave(const struct cpu *cpu, uint32_t index, uint64_t *v) {
    return !(*v & (PN_PAGE_SIZE - 1)) && !(*v >> cpu->model->phys_bits);
}

/* 8 bits before the point, 32 behind it. */
static bool take_tsc_ratio(const struct cpu *cpu, uint32_t index, uint64_t *v) {
    return !(*v >> 40);
}

static bool take_feature_control(const struct cpu *cpu, uint32_t index, uint64_t *v) {
    return !(cpu->vmx.feature_control & FEATURE_CONTROL_LOCK) &&
           !(*v & ~FEATURE_CONTROL_VALID);
}
static bool take_debugctl(const struct cpu *cpu, uint32_t index, uint64_t *v) {
    return !(*v & ~DEBUGCTL_VALID);
}

/* ---- MSRs that are one field of struct cpu ---- */

struct plain {
    uint64_t *field;
    take_fn *take;
};

#define HAS(feature) cpu_has(cpu, CPU_F_##feature)

/* Return: the model has it, and *p says where. */
static bool plain_msr(struct cpu *cpu, uint32_t index, struct plain *p) {
    switch (index) {
#define PN_MSR(name, index, soft, present, take, reset)                                  \
    case index:                                                                          \
        *p = (struct plain){&cpu->soft, take_##take};                                    \
        return present;
#include "penumbra/cpu_state.inc"
    case MSR_FS_BASE:
        *p = (struct plain){&cpu->seg[SEG_FS].base, take_address};
        return HAS(lm);
    case MSR_GS_BASE:
        *p = (struct plain){&cpu->seg[SEG_GS].base, take_address};
        return HAS(lm);
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

/* MSRs of AMD's that nothing here obeys. Return: it is one, and reads *value. */
static bool amd_msr(const struct cpu *cpu, uint32_t index, uint64_t *value) {
    *value = index == MSR_HWCR ? HWCR_TSC_FREQ_SEL : 0;
    return cpu_follows(cpu, RULE_amd_msrs) &&
           (index - MSR_K7_EVNTSEL0 < MSR_K7_COUNTERS || index == MSR_SYSCFG ||
            index == MSR_HWCR || index == MSR_NB_CFG || index == MSR_DEBUGCTL ||
            index - MSR_LAST_BRANCH < 4);
}

static enum cpu_rc read_rare(struct cpu *cpu, uint32_t index, uint64_t *value) {
    if (amd_msr(cpu, index, value) || vmx_capability(cpu, index, value))
        return CPU_NEXT;
    *value = 0;
    switch (index) {
    case MSR_P5_MC_ADDR:
    case MSR_P5_MC_TYPE:
        return HAS(mce) ? CPU_NEXT : gp0(cpu);
    case MSR_MCG_CAP: /* no banks */
    case MSR_MCG_STATUS:
        return HAS(mca) ? CPU_NEXT : gp0(cpu);
    case MSR_PLATFORM_ID:
        return cpu_follows(cpu, RULE_intel_msrs) ? CPU_NEXT : gp0(cpu);
    case MSR_FEATURE_CONTROL:
        *value = FEATURE_CONTROL_LOCK; /* no VMX, no SGX */
        return cpu_follows(cpu, RULE_intel_msrs) ? CPU_NEXT : gp0(cpu);
    case MSR_UCODE_REV:
        *value = UCODE_REV;
        return CPU_NEXT;
    case MSR_PLATFORM_INFO:
        *value = PLATFORM_INFO;
        return cpu_follows(cpu, RULE_intel_msrs) ? CPU_NEXT : gp0(cpu);
    case MSR_MTRR_CAP:
        *value = 0x500 | MTRR_PAIRS; /* write-combining, fixed ranges */
        return cpu_has(cpu, CPU_F_mtrr) ? CPU_NEXT : gp0(cpu);
    case MSR_ARCH_CAPABILITIES:
        *value = ARCH_CAP;
        return cpu_has(cpu, CPU_F_arch_capabilities) ? CPU_NEXT : gp0(cpu);
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
        return cpu->bus->msr_read(cpu->bus->opaque, cpu->apic_id, index, value)
                   ? gp0(cpu)
                   : CPU_NEXT;
    return read_rare(cpu, index, value);
}

/* ---- WRMSR ---- */

static enum cpu_rc write_efer(struct cpu *cpu, uint64_t v) {
    uint64_t lma = cpu->efer & EFER_LMA;
    if (!cpu->model->efer_valid || v & ~(cpu->model->efer_valid | EFER_LMA))
        return gp0(cpu);
    if ((cpu->efer ^ v) & EFER_LME && cpu->cr0 & CR0_PG)
        return gp0(cpu);
    if (v & EFER_SVME && cpu->svm.vm_cr & VM_CR_SVMDIS)
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
    uint64_t deadline;
    cpu->tsc_adjust += (uint64_t)(offset - cpu->tsc_offset);
    cpu->tsc_offset = offset;
    cpu->stop_request |= cpu->model->pv != 0; /* what pvclock says moves too */
    /* The deadline stays, and comes at another time: maybe it has passed. */
    if (bus_msr(cpu, MSR_TSC_DEADLINE) &&
        cpu->bus->msr_read(cpu->bus->opaque, cpu->apic_id, MSR_TSC_DEADLINE, &deadline) ==
            0 &&
        deadline)
        cpu->bus->msr_write(cpu->bus->opaque, cpu->apic_id, MSR_TSC_DEADLINE, deadline);
    return CPU_STOP;
}

static enum cpu_rc write_bus(struct cpu *cpu, uint32_t index, uint64_t v) {
    if (index == MSR_APIC_BASE && v & 0x400 && !cpu_has(cpu, CPU_F_x2apic))
        return gp0(cpu);
    if (cpu->bus->msr_write(cpu->bus->opaque, cpu->apic_id, index, v))
        return gp0(cpu);
    return CPU_STOP;
}

static enum cpu_rc write_rare(struct cpu *cpu, uint32_t index, uint64_t v) {
    uint64_t dropped;
    if (amd_msr(cpu, index, &dropped))
        return CPU_NEXT;
    switch (index) {
    case MSR_P5_MC_ADDR:
    case MSR_P5_MC_TYPE:
        return HAS(mce) ? CPU_NEXT : gp0(cpu);
    case MSR_UCODE_WRITE: /* an update that changes nothing */
    case MSR_UCODE_REV:
        return CPU_NEXT;
    case MSR_MCG_STATUS:
        return v || !HAS(mca) ? gp0(cpu) : CPU_NEXT;
    case MSR_PRED_CMD:
        return cpu_has(cpu, CPU_F_spec_ctrl) && !(v & ~(uint64_t)1) ? CPU_NEXT : gp0(cpu);
    default:
        return gp0(cpu);
    }
}

/* Some fields have consequences. */
static enum cpu_rc write_plain(struct cpu *cpu, uint32_t index, const struct plain *p,
                               uint64_t v) {
    if (!p->take(cpu, index, &v))
        return gp0(cpu);
    if (index == MSR_TSC_ADJUST)
        return write_tsc(cpu, cpu->tsc_offset + (int64_t)(v - cpu->tsc_adjust));
    *p->field = v;
    if (index == MSR_PKRS)
        pn_mmu_set_pkr(cpu->vmmu, cpu->pkru, (uint32_t)cpu->pkrs);
    else if (index == MSR_S_CET || index == MSR_U_CET)
        cpu_update_mode(cpu);
    else
        return CPU_NEXT;
    return CPU_STOP;
}

enum cpu_rc msr_write(struct cpu *cpu, uint32_t index, uint64_t value) {
    struct plain p;
    if (plain_msr(cpu, index, &p))
        return write_plain(cpu, index, &p, value);
    if (bus_msr(cpu, index))
        return write_bus(cpu, index, value);
    if (index == MSR_TSC)
        return write_tsc(cpu,
                         (int64_t)(value - cpu_clock(cpu)) + cpu_guest_tsc_offset(cpu));
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
    if (msr_read(cpu, (uint32_t)cpu->gpr[R_CX], &v))
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
