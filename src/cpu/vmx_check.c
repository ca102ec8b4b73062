/* SPDX-License-Identifier: MIT */
/*
 * Which VMCSs may be entered with.
 *
 * Source: SDM volume 3, "Checks on VMX Controls and Host-State Area", "Checking and Loading
 * Guest State".
 */
#include "cpu/vmx.h"

#include "cpu/control.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool physical(const struct cpu *cpu, uint64_t a) {
    return !(a >> cpu->model->phys_bits);
}
static bool page(const struct cpu *cpu, uint64_t a) {
    return !(a & (PN_PAGE_SIZE - 1)) && physical(cpu, a);
}
static bool has(const struct vmcs *v, enum vmcs_field controls, unsigned bit) {
    return v->f[controls] >> bit & 1;
}
static bool has2(const struct vmcs *v, unsigned bit) {
    return has(v, VMCS_PROC_CONTROLS, VMX_PROC_SECONDARY) &&
           has(v, VMCS_PROC2_CONTROLS, bit);
}

static bool pat_possible(uint64_t pat) {
    for (unsigned i = 0; i < 64; i += 8) {
        unsigned t = pat >> i & 0xff;
        if (t > 7 || t == 2 || t == 3)
            return false;
    }
    return true;
}

/* ---- Controls ---- */

static bool words_allowed(const struct vmcs *v) {
    static const struct {
        enum vmx_group group;
        enum vmcs_field field;
    } words[] = {{VMX_PIN, VMCS_PIN_CONTROLS},
                 {VMX_PROC, VMCS_PROC_CONTROLS},
                 {VMX_PROC2, VMCS_PROC2_CONTROLS},
                 {VMX_EXIT, VMCS_EXIT_CONTROLS},
                 {VMX_ENTRY, VMCS_ENTRY_CONTROLS}};
    for (unsigned i = 0; i < COUNT(words); i++) {
        struct vmx_allowed a = vmx_allowed(words[i].group);
        uint32_t word = (uint32_t)v->f[words[i].field];
        if (words[i].group == VMX_PROC2 &&
            !has(v, VMCS_PROC_CONTROLS, VMX_PROC_SECONDARY))
            continue;
        if (word & ~a.may || ~word & a.must & ~a.free)
            return false;
    }
    return true;
}

/* The same of those of the virtual APIC. */
static bool apic_agrees(const struct cpu *cpu, const struct vmcs *v) {
    const uint64_t *f = v->f;
    bool delivers = has2(v, VMX_PROC2_VIRTUAL_INTERRUPTS), x2 = has2(v, VMX_PROC2_X2APIC);
    if (!has(v, VMCS_PROC_CONTROLS, VMX_PROC_TPR_SHADOW) &&
        (x2 || delivers || has2(v, VMX_PROC2_APIC_REGISTERS)))
        return false;
    if ((x2 && has2(v, VMX_PROC2_APIC_ACCESSES)) ||
        (delivers && !has(v, VMCS_PIN_CONTROLS, VMX_PIN_EXTERNAL)))
        return false;
    if (!has(v, VMCS_PIN_CONTROLS, VMX_PIN_POSTED))
        return true;
    return delivers && has(v, VMCS_EXIT_CONTROLS, VMX_EXIT_ACK_INTR) &&
           !(f[VMCS_POSTED_VECTOR] >> 8) && !(f[VMCS_POSTED_ADDRESS] & 63) &&
           physical(cpu, f[VMCS_POSTED_ADDRESS]);
}

/* What one control needs of another. */
static bool words_agree(const struct vmcs *v) {
    bool virtual_nmi = has(v, VMCS_PIN_CONTROLS, VMX_PIN_VIRTUAL_NMI);
    if (virtual_nmi && !has(v, VMCS_PIN_CONTROLS, VMX_PIN_NMI))
        return false;
    if (!virtual_nmi && has(v, VMCS_PROC_CONTROLS, VMX_PROC_NMI_WINDOW))
        return false;
    if (!has(v, VMCS_PIN_CONTROLS, VMX_PIN_TIMER) &&
        has(v, VMCS_EXIT_CONTROLS, VMX_EXIT_SAVE_TIMER))
        return false;
    if (has2(v, VMX_PROC2_VMFUNC) &&
        (v->f[VMCS_VMFUNC_CONTROLS] & ~VMFUNC_EPTP ||
         (v->f[VMCS_VMFUNC_CONTROLS] && !has2(v, VMX_PROC2_EPT))))
        return false;
    return has2(v, VMX_PROC2_EPT) || !(has2(v, VMX_PROC2_UNRESTRICTED) ||
                                       has2(v, VMX_PROC2_PML) || has2(v, VMX_PROC2_MBEC));
}

bool vmx_eptp_valid(const struct cpu *cpu, uint64_t eptp) {
    unsigned type = EPTP_TYPE(eptp), levels = EPTP_WALK(eptp);
    if ((type != EPT_TYPE_UC && type != EPT_TYPE_WB) || (levels != 4 && levels != 5))
        return false;
    return !(eptp & 0xf80) && physical(cpu, eptp);
}

static bool list_possible(const struct cpu *cpu, uint64_t at, uint64_t count) {
    uint64_t last = at + (uint32_t)count * UINT64_C(16) - 1;
    return !(uint32_t)count || (!(at & 15) && physical(cpu, at) && physical(cpu, last));
}

static bool addresses_valid(const struct cpu *cpu, const struct vmcs *v) {
    const uint64_t *f = v->f;
    if (has(v, VMCS_PROC_CONTROLS, VMX_PROC_IO_BITMAPS) &&
        (!page(cpu, f[VMCS_IO_BITMAP_A]) || !page(cpu, f[VMCS_IO_BITMAP_B])))
        return false;
    if (has(v, VMCS_PROC_CONTROLS, VMX_PROC_MSR_BITMAPS) &&
        !page(cpu, f[VMCS_MSR_BITMAPS]))
        return false;
    if (has(v, VMCS_PROC_CONTROLS, VMX_PROC_TPR_SHADOW) &&
        !page(cpu, f[VMCS_VIRTUAL_APIC]))
        return false;
    if (has2(v, VMX_PROC2_APIC_ACCESSES) && !page(cpu, f[VMCS_APIC_ACCESS]))
        return false;
    if (has2(v, VMX_PROC2_VE) && !page(cpu, f[VMCS_VE_ADDRESS]))
        return false;
    if (has2(v, VMX_PROC2_VMFUNC) && f[VMCS_VMFUNC_CONTROLS] &&
        !page(cpu, f[VMCS_EPTP_LIST]))
        return false;
    if (has2(v, VMX_PROC2_PML) && !page(cpu, f[VMCS_PML_ADDRESS]))
        return false;
    if (has2(v, VMX_PROC2_SHADOWING) &&
        (!page(cpu, f[VMCS_VMREAD_BITMAP]) || !page(cpu, f[VMCS_VMWRITE_BITMAP])))
        return false;
    if (has2(v, VMX_PROC2_EPT) && !vmx_eptp_valid(cpu, f[VMCS_EPTP]))
        return false;
    return list_possible(cpu, f[VMCS_EXIT_MSR_STORE], f[VMCS_EXIT_MSR_STORES]) &&
           list_possible(cpu, f[VMCS_EXIT_MSR_LOAD], f[VMCS_EXIT_MSR_LOADS]) &&
           list_possible(cpu, f[VMCS_ENTRY_MSR_LOAD], f[VMCS_ENTRY_MSR_LOADS]);
}

/* The virtual TPR may not lie below its threshold already, or the entry is an exit at once. */
static bool tpr_valid(const struct cpu *cpu, const struct vmcs *v) {
    uint64_t threshold = v->f[VMCS_TPR_THRESHOLD];
    uint8_t tpr = 0xff;
    if (!has(v, VMCS_PROC_CONTROLS, VMX_PROC_TPR_SHADOW) ||
        has2(v, VMX_PROC2_VIRTUAL_INTERRUPTS))
        return true;
    pn_mmu_read_phys(cpu->mmu, v->f[VMCS_VIRTUAL_APIC] + VAPIC_TPR, &tpr, sizeof tpr);
    return threshold < 16 && (tpr >> 4 >= threshold || has2(v, VMX_PROC2_APIC_ACCESSES));
}

static bool event_valid(const struct vmcs *v) {
    uint32_t e = (uint32_t)v->f[VMCS_ENTRY_EVENT];
    unsigned type = e >> VMX_EVENT_TYPE_SHIFT & 7, vector = e & 0xff;
    bool real = has2(v, VMX_PROC2_UNRESTRICTED) && !(v->f[VMCS_GUEST_CR0] & CR0_PE);
    if (!(e & VMX_EVENT_VALID))
        return true;
    if (type == 1 || e & 0x7ffff000u || (type == VMX_TYPE_OTHER && vector))
        return false;
    if (type == VMX_TYPE_NMI ? vector != VEC_NMI
                             : type == VMX_TYPE_EXCEPTION && vector > 31)
        return false;
    if (e & VMX_EVENT_ERROR &&
        (type != VMX_TYPE_EXCEPTION || real || v->f[VMCS_ENTRY_ERROR] >> 16))
        return false;
    return type < VMX_TYPE_SOFT || type == VMX_TYPE_OTHER ||
           v->f[VMCS_ENTRY_INSN_LEN] <= 15;
}

bool vmx_controls_valid(const struct cpu *cpu, const struct vmcs *v) {
    if (!words_allowed(v) || !words_agree(v) || !apic_agrees(cpu, v) ||
        !addresses_valid(cpu, v))
        return false;
    if (v->f[VMCS_CR3_TARGETS] > 4 || (has2(v, VMX_PROC2_VPID) && !v->f[VMCS_VPID]))
        return false;
    return tpr_valid(cpu, v) && event_valid(v);
}

/* ---- What both areas have ---- */

static bool all_loadable(const struct cpu *cpu, const struct vmcs *v,
                         const uint8_t *fields, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        if (!loadable(cpu, v->f[fields[i]]))
            return false;
    return true;
}

static bool cr0_possible(uint64_t cr0, uint64_t fixed) {
    if ((cr0 & fixed) != fixed || cr0 & ~VMX_CR0_ALLOWED)
        return false;
    return !(cr0 & CR0_PG) || cr0 & CR0_PE;
}

static bool cr4_possible(const struct cpu *cpu, uint64_t cr0, uint64_t cr4) {
    return cr4 & CR4_VMXE && !(cr4 & ~cpu->model->cr4_valid) &&
           (!(cr4 & CR4_CET) || cr0 & CR0_WP);
}

static bool efer_possible(const struct cpu *cpu, uint64_t efer) {
    return !(efer & ~(cpu->model->efer_valid | EFER_LMA));
}

/* ---- The host's state ---- */

static bool host_segments(const struct vmcs *v) {
    bool wide = has(v, VMCS_EXIT_CONTROLS, VMX_EXIT_HOST_64);
    for (unsigned i = VMCS_HOST_ES_SEL; i <= VMCS_HOST_TR_SEL; i++)
        if (v->f[i] & 7)
            return false;
    return v->f[VMCS_HOST_CS_SEL] && v->f[VMCS_HOST_TR_SEL] &&
           (wide || v->f[VMCS_HOST_SS_SEL]);
}

static bool host_width(const struct cpu *cpu, const struct vmcs *v) {
    if (has(v, VMCS_EXIT_CONTROLS, VMX_EXIT_HOST_64))
        return v->f[VMCS_HOST_CR4] & CR4_PAE && loadable(cpu, v->f[VMCS_HOST_RIP]);
    return !has(v, VMCS_ENTRY_CONTROLS, VMX_ENTRY_GUEST_64) &&
           !(v->f[VMCS_HOST_CR4] & CR4_PCIDE) && !(v->f[VMCS_HOST_RIP] >> 32);
}

bool vmx_host_valid(const struct cpu *cpu, const struct vmcs *v) {
    static const uint8_t addresses[] = {VMCS_HOST_FS_BASE,     VMCS_HOST_GS_BASE,
                                        VMCS_HOST_TR_BASE,     VMCS_HOST_GDTR_BASE,
                                        VMCS_HOST_IDTR_BASE,   VMCS_HOST_SYSENTER_ESP,
                                        VMCS_HOST_SYSENTER_EIP};
    const uint64_t *f = v->f;
    uint64_t lm = has(v, VMCS_EXIT_CONTROLS, VMX_EXIT_HOST_64) ? EFER_LMA | EFER_LME : 0;
    if (!cr0_possible(f[VMCS_HOST_CR0], VMX_CR0_FIXED) ||
        !cr4_possible(cpu, f[VMCS_HOST_CR0], f[VMCS_HOST_CR4]) ||
        !physical(cpu, f[VMCS_HOST_CR3]))
        return false;
    if (!all_loadable(cpu, v, addresses, COUNT(addresses)))
        return false;
    if (has(v, VMCS_EXIT_CONTROLS, VMX_EXIT_LOAD_PAT) && !pat_possible(f[VMCS_HOST_PAT]))
        return false;
    if (has(v, VMCS_EXIT_CONTROLS, VMX_EXIT_LOAD_EFER) &&
        (!efer_possible(cpu, f[VMCS_HOST_EFER]) ||
         (f[VMCS_HOST_EFER] & (EFER_LMA | EFER_LME)) != lm))
        return false;
    return host_segments(v) && host_width(cpu, v);
}

bool vmx_host_mode_valid(const struct cpu *cpu, const struct vmcs *v) {
    bool lma = cpu->efer & EFER_LMA;
    return lma == has(v, VMCS_EXIT_CONTROLS, VMX_EXIT_HOST_64);
}

/* ---- The guest's segments ---- */

enum { ES, CS, SS, DS, FS, GS, LDTR, TR };

static uint64_t ar(const struct vmcs *v, unsigned seg) {
    return v->f[VMCS_GUEST_ES_AR + seg];
}
static uint64_t sel(const struct vmcs *v, unsigned seg) {
    return v->f[VMCS_GUEST_ES_SEL + seg];
}
static uint64_t base(const struct vmcs *v, unsigned seg) {
    return v->f[VMCS_GUEST_ES_BASE + seg];
}
static bool usable(const struct vmcs *v, unsigned seg) {
    return !(ar(v, seg) & ATTR_UNUSABLE);
}
static unsigned type_of(const struct vmcs *v, unsigned seg) {
    return ar(v, seg) & 15;
}
static unsigned dpl_of(const struct vmcs *v, unsigned seg) {
    return attr_dpl((uint32_t)ar(v, seg));
}

/* Present, nothing reserved, and granularity as the limit needs it. */
static bool attributes_possible(const struct vmcs *v, unsigned seg, bool system) {
    uint64_t a = ar(v, seg), limit = v->f[VMCS_GUEST_ES_LIMIT + seg];
    if (!(a & ATTR_P) || a & 0xfffe0f00u || system == !!(a & ATTR_S))
        return false;
    if ((limit & 0xfff) != 0xfff && a & ATTR_G)
        return false;
    return !(limit >> 20) || a & ATTR_G;
}

static bool vm86_segments(const struct vmcs *v) {
    for (unsigned seg = ES; seg <= GS; seg++)
        if (base(v, seg) != sel(v, seg) << 4 || ar(v, seg) != 0xf3 ||
            v->f[VMCS_GUEST_ES_LIMIT + seg] != 0xffff)
            return false;
    return true;
}

static bool code_segment(const struct vmcs *v, bool unrestricted) {
    unsigned type = type_of(v, CS), dpl = dpl_of(v, CS);
    if (type == 3 ? !unrestricted : !(type & TYPE_CODE) || !(type & TYPE_ACC))
        return false;
    if (type == 3          ? dpl != 0
        : type & TYPE_CONF ? dpl > dpl_of(v, SS)
                           : dpl != dpl_of(v, SS))
        return false;
    if (has(v, VMCS_ENTRY_CONTROLS, VMX_ENTRY_GUEST_64) && ar(v, CS) & ATTR_L &&
        ar(v, CS) & ATTR_DB)
        return false;
    return !(base(v, CS) >> 32) && attributes_possible(v, CS, false);
}

static bool stack_segment(const struct vmcs *v, bool unrestricted) {
    bool zero = type_of(v, CS) == 3 || !(v->f[VMCS_GUEST_CR0] & CR0_PE);
    if (!unrestricted &&
        ((sel(v, SS) & 3) != (sel(v, CS) & 3) || dpl_of(v, SS) != (sel(v, SS) & 3)))
        return false;
    if (zero && dpl_of(v, SS))
        return false;
    if (!usable(v, SS))
        return true;
    if (type_of(v, SS) != 3 && type_of(v, SS) != 7)
        return false;
    return !(base(v, SS) >> 32) && attributes_possible(v, SS, false);
}

static bool data_segment(const struct vmcs *v, unsigned seg, bool unrestricted) {
    unsigned type = type_of(v, seg);
    if (!usable(v, seg))
        return true;
    if (!(type & TYPE_ACC) || (type & TYPE_CODE && !(type & TYPE_RW)))
        return false;
    if (!unrestricted && type < 12 && dpl_of(v, seg) < (sel(v, seg) & 3))
        return false;
    if (seg <= DS && base(v, seg) >> 32)
        return false;
    return attributes_possible(v, seg, false);
}

static bool system_segments(const struct cpu *cpu, const struct vmcs *v) {
    bool wide = has(v, VMCS_ENTRY_CONTROLS, VMX_ENTRY_GUEST_64);
    unsigned type = type_of(v, TR);
    if (!usable(v, TR) || sel(v, TR) & 4 || !(type == 11 || (type == 3 && !wide)) ||
        !attributes_possible(v, TR, true))
        return false;
    if (!loadable(cpu, base(v, TR)))
        return false;
    return !usable(v, LDTR) ||
           (!(sel(v, LDTR) & 4) && type_of(v, LDTR) == 2 &&
            attributes_possible(v, LDTR, true) && loadable(cpu, base(v, LDTR)));
}

static bool segments_valid(const struct cpu *cpu, const struct vmcs *v) {
    bool unrestricted = has2(v, VMX_PROC2_UNRESTRICTED);
    if (!system_segments(cpu, v) || !loadable(cpu, base(v, FS)) ||
        !loadable(cpu, base(v, GS)))
        return false;
    if (v->f[VMCS_GUEST_RFLAGS] & FL_VM)
        return vm86_segments(v);
    if (!usable(v, CS) || !code_segment(v, unrestricted) ||
        !stack_segment(v, unrestricted))
        return false;
    for (unsigned seg = ES; seg <= GS; seg++)
        if (seg != CS && seg != SS && !data_segment(v, seg, unrestricted))
            return false;
    return true;
}

/* ---- The guest's registers ---- */

static bool guest_registers(const struct cpu *cpu, const struct vmcs *v) {
    const uint64_t *f = v->f;
    bool wide = has(v, VMCS_ENTRY_CONTROLS, VMX_ENTRY_GUEST_64);
    uint64_t fixed = has2(v, VMX_PROC2_UNRESTRICTED) ? CR0_NE : VMX_CR0_FIXED;
    if (!cr0_possible(f[VMCS_GUEST_CR0], fixed) ||
        !cr4_possible(cpu, f[VMCS_GUEST_CR0], f[VMCS_GUEST_CR4]) ||
        !physical(cpu, f[VMCS_GUEST_CR3]))
        return false;
    if (wide ? !(f[VMCS_GUEST_CR0] & CR0_PG) || !(f[VMCS_GUEST_CR4] & CR4_PAE)
             : f[VMCS_GUEST_CR4] & CR4_PCIDE)
        return false;
    return !has(v, VMCS_ENTRY_CONTROLS, VMX_ENTRY_LOAD_DEBUG) ||
           (!(f[VMCS_GUEST_DEBUGCTL] & ~DEBUGCTL_VALID) && !(f[VMCS_GUEST_DR7] >> 32));
}

static bool guest_msrs(const struct cpu *cpu, const struct vmcs *v) {
    static const uint8_t addresses[] = {VMCS_GUEST_SYSENTER_ESP, VMCS_GUEST_SYSENTER_EIP,
                                        VMCS_GUEST_GDTR_BASE, VMCS_GUEST_IDTR_BASE};
    const uint64_t *f = v->f;
    uint64_t efer = f[VMCS_GUEST_EFER];
    bool lma = efer & EFER_LMA, lme = efer & EFER_LME;
    if (!all_loadable(cpu, v, addresses, COUNT(addresses)) ||
        f[VMCS_GUEST_GDTR_LIMIT] >> 16 || f[VMCS_GUEST_IDTR_LIMIT] >> 16)
        return false;
    if (has(v, VMCS_ENTRY_CONTROLS, VMX_ENTRY_LOAD_PAT) &&
        !pat_possible(f[VMCS_GUEST_PAT]))
        return false;
    if (!has(v, VMCS_ENTRY_CONTROLS, VMX_ENTRY_LOAD_EFER))
        return true;
    return efer_possible(cpu, efer) &&
           lma == has(v, VMCS_ENTRY_CONTROLS, VMX_ENTRY_GUEST_64) &&
           (!(f[VMCS_GUEST_CR0] & CR0_PG) || lma == lme);
}

static bool guest_rip(const struct cpu *cpu, const struct vmcs *v) {
    const uint64_t *f = v->f;
    bool wide = has(v, VMCS_ENTRY_CONTROLS, VMX_ENTRY_GUEST_64);
    uint64_t flags = f[VMCS_GUEST_RFLAGS], event = f[VMCS_ENTRY_EVENT];
    bool external = event & VMX_EVENT_VALID &&
                    (event >> VMX_EVENT_TYPE_SHIFT & 7) == VMX_TYPE_EXTERNAL;
    if (!wide || !(ar(v, CS) & ATTR_L) ? f[VMCS_GUEST_RIP] >> 32
                                       : !loadable(cpu, f[VMCS_GUEST_RIP]))
        return false;
    if (flags >> 22 || flags & 0x8028 || !(flags & FL_FIXED))
        return false;
    if (flags & FL_VM && (wide || !(f[VMCS_GUEST_CR0] & CR0_PE)))
        return false;
    return !external || flags & FL_IF;
}

/* ---- What is not a register ---- */

/* May that event be injected into a guest that halts? */
static bool wakes(uint32_t event) {
    unsigned type = event >> VMX_EVENT_TYPE_SHIFT & 7, vector = event & 0xff;
    if (!(event & VMX_EVENT_VALID) || type == VMX_TYPE_EXTERNAL || type == VMX_TYPE_NMI ||
        type == VMX_TYPE_OTHER)
        return true;
    return type == VMX_TYPE_EXCEPTION && (vector == VEC_DB || vector == VEC_MC);
}

static bool activity_valid(const struct vmcs *v) {
    uint64_t blocked = v->f[VMCS_INTERRUPTIBILITY];
    if (v->f[VMCS_ACTIVITY] == ACTIVITY_ACTIVE)
        return true;
    return v->f[VMCS_ACTIVITY] == ACTIVITY_HLT && !dpl_of(v, SS) &&
           !(blocked & (BLOCKED_STI | BLOCKED_MOV_SS)) &&
           wakes((uint32_t)v->f[VMCS_ENTRY_EVENT]);
}

static bool interruptibility_valid(const struct vmcs *v, uint64_t *why) {
    uint64_t blocked = v->f[VMCS_INTERRUPTIBILITY], event = v->f[VMCS_ENTRY_EVENT];
    unsigned type = event >> VMX_EVENT_TYPE_SHIFT & 7;
    bool shadow = blocked & (BLOCKED_STI | BLOCKED_MOV_SS);
    if (blocked & ~(uint64_t)(BLOCKED_STI | BLOCKED_MOV_SS | BLOCKED_NMI) ||
        (blocked & BLOCKED_STI && blocked & BLOCKED_MOV_SS) ||
        (blocked & BLOCKED_STI && !(v->f[VMCS_GUEST_RFLAGS] & FL_IF)))
        return false;
    if (!(event & VMX_EVENT_VALID))
        return true;
    if (type == VMX_TYPE_EXTERNAL && shadow)
        return false;
    if (type != VMX_TYPE_NMI)
        return true;
    *why = shadow ? ENTRY_WRONG_NMI : ENTRY_WRONG;
    return !shadow &&
           !(blocked & BLOCKED_NMI && has(v, VMCS_PIN_CONTROLS, VMX_PIN_VIRTUAL_NMI));
}

static bool pending_valid(const struct vmcs *v) {
    uint64_t p = v->f[VMCS_PENDING_DEBUG], blocked = v->f[VMCS_INTERRUPTIBILITY];
    if (p & ~(uint64_t)(15 | PENDING_ENABLED | DR6_BS))
        return false;
    if (!(blocked & (BLOCKED_STI | BLOCKED_MOV_SS)) &&
        v->f[VMCS_ACTIVITY] != ACTIVITY_HLT)
        return true;
    bool steps =
        v->f[VMCS_GUEST_RFLAGS] & FL_TF && !(v->f[VMCS_GUEST_DEBUGCTL] & DEBUGCTL_BTF);
    return !(p & DR6_BS) == !steps;
}

static bool link_valid(const struct cpu *cpu, const struct vmcs *v) {
    uint64_t link = v->f[VMCS_LINK_POINTER];
    uint32_t revision = UINT32_MAX;
    if (link == VMCS_NONE)
        return true;
    if (!page(cpu, link) || link == cpu->vmx.vmcs)
        return false;
    pn_mmu_read_phys(cpu->mmu, link, &revision, sizeof revision);
    return revision ==
           (has2(v, VMX_PROC2_SHADOWING) ? VMCS_REVISION | VMCS_SHADOW : VMCS_REVISION);
}

static bool pdptes_valid(const struct cpu *cpu, const struct vmcs *v) {
    uint64_t reserved = 0x1e6 | ~((UINT64_C(1) << cpu->model->phys_bits) - 1);
    bool wide = has(v, VMCS_ENTRY_CONTROLS, VMX_ENTRY_GUEST_64);
    if (!has2(v, VMX_PROC2_EPT) || wide || !(v->f[VMCS_GUEST_CR0] & CR0_PG) ||
        !(v->f[VMCS_GUEST_CR4] & CR4_PAE))
        return true;
    for (unsigned i = 0; i < 4; i++)
        if (v->f[VMCS_GUEST_PDPTE0 + i] & 1 && v->f[VMCS_GUEST_PDPTE0 + i] & reserved)
            return false;
    return true;
}

bool vmx_guest_valid(const struct cpu *cpu, const struct vmcs *v, uint64_t *why) {
    *why = ENTRY_WRONG;
    if (!guest_registers(cpu, v) || !guest_msrs(cpu, v) || !segments_valid(cpu, v) ||
        !guest_rip(cpu, v) || !activity_valid(v) || !interruptibility_valid(v, why) ||
        !pending_valid(v))
        return false;
    *why = ENTRY_WRONG_LINK;
    if (!link_valid(cpu, v))
        return false;
    *why = ENTRY_WRONG_PDPTE;
    return pdptes_valid(cpu, v);
}
