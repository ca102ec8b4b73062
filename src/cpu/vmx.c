/* SPDX-License-Identifier: MIT */
/*
 * The world switch: VM entry and VM exit.
 *
 * Sources: SDM volume 3, "VM Entries" and "VM Exits".
 */
#include "cpu/vmx.h"

#include "cpu/control.h"

/* CR0's bits that neither an entry nor an exit changes. */
#define CR0_KEPT (CR0_CD | CR0_NW)

/* ---- Controls ---- */

static void read_controls(struct cpu *cpu, const struct vmcs *v) {
    const uint64_t *f = v->f;
    bool secondary = vmx_control((uint32_t)f[VMCS_PROC_CONTROLS], VMX_PROC_SECONDARY);
    uint32_t proc2 = secondary ? (uint32_t)f[VMCS_PROC2_CONTROLS] : 0;
    bool offset = vmx_control((uint32_t)f[VMCS_PROC_CONTROLS], VMX_PROC_TSC_OFFSET);
    cpu->vmx.ctl = (struct vmx_ctl){
        .pin = (uint32_t)f[VMCS_PIN_CONTROLS],
        .proc = (uint32_t)f[VMCS_PROC_CONTROLS],
        .proc2 = proc2,
        .exit = (uint32_t)f[VMCS_EXIT_CONTROLS],
        .entry = (uint32_t)f[VMCS_ENTRY_CONTROLS],
        .exceptions = (uint32_t)f[VMCS_EXCEPTION_BITMAP],
        .pf_mask = (uint32_t)f[VMCS_PF_MASK],
        .pf_match = (uint32_t)f[VMCS_PF_MATCH],
        .cr3_targets = f[VMCS_CR3_TARGETS] > 4 ? 4 : (uint32_t)f[VMCS_CR3_TARGETS],
        .vpid = vmx_control(proc2, VMX_PROC2_VPID) ? (uint16_t)f[VMCS_VPID] : 0,
        .cr0_mask = f[VMCS_CR0_MASK],
        .cr4_mask = f[VMCS_CR4_MASK],
        .cr0_shadow = f[VMCS_CR0_SHADOW],
        .cr4_shadow = f[VMCS_CR4_SHADOW],
        .cr3_target = {f[VMCS_CR3_TARGET0], f[VMCS_CR3_TARGET1], f[VMCS_CR3_TARGET2],
                       f[VMCS_CR3_TARGET3]},
        .io = {f[VMCS_IO_BITMAP_A] & PN_PAGE_MASK, f[VMCS_IO_BITMAP_B] & PN_PAGE_MASK},
        .msr_map = f[VMCS_MSR_BITMAPS] & PN_PAGE_MASK,
        .eptp = vmx_control(proc2, VMX_PROC2_EPT) ? f[VMCS_EPTP] : 0,
        .xss_bitmap = f[VMCS_XSS_BITMAP],
        .pml = f[VMCS_PML_ADDRESS] & PN_PAGE_MASK,
        .vapic = f[VMCS_VIRTUAL_APIC] & PN_PAGE_MASK,
        .tpr_threshold = (uint32_t)f[VMCS_TPR_THRESHOLD] & 15,
        .functions = vmx_control(proc2, VMX_PROC2_VMFUNC) ? f[VMCS_VMFUNC_CONTROLS] : 0,
        .eptp_list = f[VMCS_EPTP_LIST] & PN_PAGE_MASK,
        .link = f[VMCS_LINK_POINTER],
        .vmread_map = f[VMCS_VMREAD_BITMAP] & PN_PAGE_MASK,
        .vmwrite_map = f[VMCS_VMWRITE_BITMAP] & PN_PAGE_MASK,
        .apic_access = f[VMCS_APIC_ACCESS] & PN_PAGE_MASK,
        .posted_vector = (uint8_t)f[VMCS_POSTED_VECTOR],
        .posted_at = f[VMCS_POSTED_ADDRESS] & ~UINT64_C(63),
        .eoi_exit = {f[VMCS_EOI_EXIT0], f[VMCS_EOI_EXIT1], f[VMCS_EOI_EXIT2],
                     f[VMCS_EOI_EXIT3]},
        .ve_at = f[VMCS_VE_ADDRESS] & PN_PAGE_MASK,
        .tsc_offset = offset ? (int64_t)f[VMCS_TSC_OFFSET] : 0,
    };
}

/* ---- The MMU's part ---- */

static uint32_t asid(const struct cpu *cpu) {
    return cpu->vmx.ctl.vpid ? cpu->vmx.ctl.vpid : VPID_NONE_ASID;
}

static void enter_world(struct cpu *cpu) {
    struct pn_world w = {.asid = asid(cpu),
                         .second = vmx_proc2(cpu, VMX_PROC2_EPT),
                         .ept = vmx_proc2(cpu, VMX_PROC2_EPT),
                         .mbec = vmx_proc2(cpu, VMX_PROC2_MBEC),
                         .eptp = cpu->vmx.ctl.eptp,
                         .apic = vmx_proc2(cpu, VMX_PROC2_APIC_ACCESSES),
                         .apic_at = cpu->vmx.ctl.apic_access,
                         .apic_as = vmx_apic_page(cpu),
                         .log = vmx_proc2(cpu, VMX_PROC2_PML),
                         .log_at = cpu->vmx.ctl.pml,
                         .log_index_at = cpu->vmx.vmcs + VMCS_AT_FIELDS +
                                         VMCS_PML_INDEX * sizeof(uint64_t)};
    struct pn_paging p;
    cpu_paging(cpu, &p);
    pn_mmu_set_world(cpu->vmmu, &w, &p);
}

static void leave_world(struct cpu *cpu) {
    struct pn_paging p;
    cpu_paging(cpu, &p);
    pn_mmu_set_world(cpu->vmmu, &(const struct pn_world){0}, &p);
}

/* Without a VPID an entry and an exit forget what was translated. */
static void flush_for(struct cpu *cpu, uint32_t which) {
    if (!cpu->vmx.ctl.vpid)
        pn_mmu_flush_asid(cpu->vmmu, which, false);
}

/* ---- Segments ---- */

static void load_segment(const struct vmcs *v, unsigned i, struct pn_segment *seg) {
    seg->sel = (uint16_t)v->f[VMCS_GUEST_ES_SEL + i];
    seg->limit = (uint32_t)v->f[VMCS_GUEST_ES_LIMIT + i];
    seg->attr = (uint32_t)v->f[VMCS_GUEST_ES_AR + i] & (ATTR_UNUSABLE | 0xf0ff);
    seg->base = v->f[VMCS_GUEST_ES_BASE + i];
}

static void save_segment(struct vmcs *v, unsigned i, const struct pn_segment *seg) {
    v->f[VMCS_GUEST_ES_SEL + i] = seg->sel;
    v->f[VMCS_GUEST_ES_LIMIT + i] = seg->limit;
    v->f[VMCS_GUEST_ES_AR + i] = seg->attr;
    v->f[VMCS_GUEST_ES_BASE + i] = seg->base;
}

/* ES, CS, SS, DS, FS, GS, LDTR, TR. */
static const uint8_t order[] = {SEG_ES, SEG_CS, SEG_SS,   SEG_DS,
                                SEG_FS, SEG_GS, SEG_LDTR, SEG_TR};

/* ---- The preemption timer: it counts the processor's own TSC, with or without an exit at 0 ---- */

static uint64_t own_tsc(const struct cpu *cpu) {
    return cpu_clock(cpu) + (uint64_t)cpu_own_tsc_offset(cpu);
}

static void start_timer(struct cpu *cpu, const struct vmcs *v) {
    uint64_t count = (uint32_t)v->f[VMCS_TIMER];
    cpu->vmx.timer_at = ((own_tsc(cpu) >> VMX_TIMER_RATE) + count) << VMX_TIMER_RATE;
}

uint64_t vmx_timer_left(const struct cpu *cpu) {
    uint64_t now = own_tsc(cpu) >> VMX_TIMER_RATE << VMX_TIMER_RATE;
    return cpu->vmx.timer_at > now ? cpu->vmx.timer_at - own_tsc(cpu) : 0;
}

static uint64_t timer_value(const struct cpu *cpu) {
    uint64_t now = own_tsc(cpu) >> VMX_TIMER_RATE,
             at = cpu->vmx.timer_at >> VMX_TIMER_RATE;
    return at > now ? (uint32_t)(at - now) : 0;
}

/* ---- MSR lists ---- */

struct list_entry {
    uint32_t index, reserved;
    uint64_t value;
};

/* No list may name x2APIC's registers; none that is loaded FS's and GS's bases. */
static bool listed(uint32_t index, bool load) {
    return index - MSR_X2APIC > 0xff &&
           !(load && (index == MSR_FS_BASE || index == MSR_GS_BASE));
}

/* Return: 0, or the number, from 1 on, of the entry that cannot be. */
static unsigned load_list(struct cpu *cpu, pn_gpa at, uint64_t count) {
    for (unsigned i = 0; i < count && i < MSR_LIST_MAX; i++) {
        struct list_entry e = {.reserved = 1};
        pn_mmu_read_phys(cpu->mmu, at + i * sizeof e, &e, sizeof e);
        if (e.reserved || !listed(e.index, true) ||
            msr_write(cpu, e.index, e.value) == CPU_FAULT)
            return i + 1;
    }
    return count > MSR_LIST_MAX ? MSR_LIST_MAX + 1 : 0;
}

static bool store_list(struct cpu *cpu, pn_gpa at, uint64_t count) {
    for (unsigned i = 0; i < count; i++) {
        struct list_entry e = {.reserved = 1};
        pn_mmu_read_phys(cpu->mmu, at + i * sizeof e, &e, sizeof e);
        if (i == MSR_LIST_MAX || e.reserved || !listed(e.index, false) ||
            msr_read(cpu, e.index, &e.value) == CPU_FAULT)
            return false;
        pn_mmu_vcpu_write(cpu->vmmu, at + i * sizeof e + 8, &e.value, sizeof e.value);
    }
    return true;
}

/* ---- The host's state ---- */

static bool is_nmi(uint64_t event) {
    return (event >> VMX_EVENT_TYPE_SHIFT & 7) == VMX_TYPE_NMI;
}

static void set_guest(struct cpu *cpu, bool guest) {
    cpu->vmx.guest = guest;
    cpu->vmx.timer = guest && vmx_pin(cpu, VMX_PIN_TIMER);
    cpu->intr_line = 1; /* what may come is another thing now */
}

/* A VMX abort: nothing can be told to the hypervisor. The guest is left all the same. */
static enum cpu_rc abort_exit(struct cpu *cpu, uint32_t why) {
    pn_mmu_vcpu_write(cpu->vmmu, cpu->vmx.vmcs + VMCS_AT_ABORT, &why, sizeof why);
    set_guest(cpu, false);
    cpu->vmx.virtual = 0;
    cpu->vmx.after = 0;
    leave_world(cpu);
    cpu_update_mode(cpu);
    cpu->fault_name = "VMX abort";
    return CPU_SHUTDOWN;
}

enum { ABORT_STORE = 1, ABORT_PDPTE = 2, ABORT_LOAD = 4, ABORT_HOST = 6 };

static void load_host_segments(struct cpu *cpu, const struct vmcs *v) {
    bool wide = vmx_control(cpu->vmx.ctl.exit, VMX_EXIT_HOST_64);
    static const uint8_t sel[] = {SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned i = 0; i < sizeof sel; i++) {
        uint16_t s = (uint16_t)v->f[VMCS_HOST_ES_SEL + i];
        bool code = sel[i] == SEG_CS, big = !(code && wide);
        uint32_t attr = ATTR_G | ATTR_P | ATTR_S | TYPE_RW | TYPE_ACC;
        attr |= (code ? TYPE_CODE : 0) | (big ? ATTR_DB : ATTR_L);
        if (!code && sel_null(s))
            attr |= ATTR_UNUSABLE;
        cpu->seg[sel[i]] =
            (struct pn_segment){.sel = s, .attr = attr, .limit = UINT32_MAX, .base = 0};
    }
    cpu->seg[SEG_FS].base = v->f[VMCS_HOST_FS_BASE];
    cpu->seg[SEG_GS].base = v->f[VMCS_HOST_GS_BASE];
    cpu->seg[SEG_LDTR] = (struct pn_segment){.attr = ATTR_UNUSABLE};
    cpu->seg[SEG_TR] = (struct pn_segment){.sel = (uint16_t)v->f[VMCS_HOST_TR_SEL],
                                           .attr = 0x8b,
                                           .limit = 0x67,
                                           .base = v->f[VMCS_HOST_TR_BASE]};
}

static void load_host_registers(struct cpu *cpu, const struct vmcs *v) {
    const uint64_t *f = v->f;
    bool wide = vmx_control(cpu->vmx.ctl.exit, VMX_EXIT_HOST_64);
    cpu->cr0 = (f[VMCS_HOST_CR0] & ~CR0_KEPT) | (cpu->cr0 & CR0_KEPT) | CR0_ET;
    cpu->cr3 = f[VMCS_HOST_CR3];
    cpu->cr4 = f[VMCS_HOST_CR4];
    if (wide)
        cpu->cr4 |= CR4_PAE;
    else
        cpu->cr4 &= ~CR4_PCIDE;
    cpu->efer &= ~(EFER_LMA | EFER_LME);
    cpu->efer |= wide ? EFER_LMA | EFER_LME : 0;
    if (vmx_control(cpu->vmx.ctl.exit, VMX_EXIT_LOAD_EFER))
        cpu->efer = f[VMCS_HOST_EFER];
    if (vmx_control(cpu->vmx.ctl.exit, VMX_EXIT_LOAD_PAT))
        cpu->msr_pat = f[VMCS_HOST_PAT];
    cpu->msr_sysenter_cs = (uint32_t)f[VMCS_HOST_SYSENTER_CS];
    cpu->msr_sysenter_esp = f[VMCS_HOST_SYSENTER_ESP];
    cpu->msr_sysenter_eip = f[VMCS_HOST_SYSENTER_EIP];
    cpu->gdtr = (struct cpu_table){f[VMCS_HOST_GDTR_BASE], 0xffff};
    cpu->idtr = (struct cpu_table){f[VMCS_HOST_IDTR_BASE], 0xffff};
    cpu->dr[7] = DR7_FIXED;
    cpu->vmx.debugctl = 0;
    cpu->rip = f[VMCS_HOST_RIP];
    cpu->gpr[R_SP] = f[VMCS_HOST_RSP];
    flags_load(cpu, FL_FIXED);
    cpu->db_pending = 0;
    cpu->intr_shadow = 0;
    cpu->cpl = 0;
}

/* The counter of an exit, beside world_exits. */
static enum pn_stat exit_kind(const struct vmcs *v) {
    switch (v->f[VMCS_EXIT_REASON] & UINT16_MAX) {
    case VMX_EXIT_EXCEPTION:
        return is_nmi(v->f[VMCS_EXIT_EVENT]) ? PN_STAT_world_exits_event
                                             : PN_STAT_world_exits_exception;
    case VMX_EXIT_INTERRUPT:
    case VMX_EXIT_INIT:
    case VMX_EXIT_INTR_WINDOW:
    case VMX_EXIT_NMI_WINDOW:
    case VMX_EXIT_TRAP:
    case VMX_EXIT_TIMER:
    case VMX_EXIT_TPR:
    case VMX_EXIT_EOI:
    case VMX_EXIT_PML_FULL:
        return PN_STAT_world_exits_event;
    case VMX_EXIT_CR:
    case VMX_EXIT_DR:
    case VMX_EXIT_APIC_ACCESS:
    case VMX_EXIT_APIC_WRITE:
        return PN_STAT_world_exits_register;
    case VMX_EXIT_IO:
        return PN_STAT_world_exits_io;
    case VMX_EXIT_RDMSR:
    case VMX_EXIT_WRMSR:
        return PN_STAT_world_exits_msr;
    case VMX_EXIT_VMCALL:
        return PN_STAT_world_exits_hypercall;
    case VMX_EXIT_VMCLEAR ... VMX_EXIT_VMXON:
    case VMX_EXIT_INVEPT:
    case VMX_EXIT_INVVPID:
        return PN_STAT_world_exits_level3;
    case VMX_EXIT_EPT_VIOLATION:
    case VMX_EXIT_EPT_MISCONFIG:
        return PN_STAT_world_exits_npf;
    case VMX_EXIT_GUEST_STATE:
    case VMX_EXIT_MSR_LOAD:
        return PN_STAT_world_exits_invalid;
    default:
        return PN_STAT_world_exits_insn;
    }
}

/* L1 goes on as its VMCS says; another vCPU may have changed that since the entry. */
static enum cpu_rc load_host(struct cpu *cpu, const struct vmcs *v) {
    const uint64_t *f = v->f;
    uint32_t gone = asid(cpu);
    cpu->vmx.in_flight = cpu->vmx.iret_at = 0;
    cpu->vmx.trap = 0;
    cpu->vmx.virtual = 0;
    cpu->vmx.after = 0;
    cpu->halted = PN_RUNS;
    set_guest(cpu, false);
    pn_count(cpu->stats, world_exits);
    cpu->stats->v[exit_kind(v)]++;
    if (!vmx_host_valid(cpu, v))
        return abort_exit(cpu, ABORT_HOST);
    load_host_registers(cpu, v);
    load_host_segments(cpu, v);
    if (pae_paging(cpu->cr0, cpu->cr4, cpu->efer)) {
        leave_world(cpu);
        if (cr3_load_pdptes(cpu, cpu->cr3))
            return abort_exit(cpu, ABORT_PDPTE);
    }
    leave_world(cpu);
    flush_for(cpu, gone);
    flush_for(cpu, 0);
    cpu_update_mode(cpu);
    if (load_list(cpu, f[VMCS_EXIT_MSR_LOAD], (uint32_t)f[VMCS_EXIT_MSR_LOADS]))
        return abort_exit(cpu, ABORT_LOAD);
    return CPU_JUMP;
}

/* ---- VM exit ---- */

static uint32_t interruptibility(const struct cpu *cpu) {
    uint32_t v = cpu->nmi_blocked ? BLOCKED_NMI : 0;
    if (cpu_shadowed(cpu))
        v |= cpu->intr_shadow == PN_SHADOW_MOV_SS ? BLOCKED_MOV_SS : BLOCKED_STI;
    return v;
}

static void save_control_registers(const struct cpu *cpu, struct vmcs *v) {
    uint64_t *f = v->f;
    f[VMCS_GUEST_CR0] = cpu->cr0;
    f[VMCS_GUEST_CR3] = cpu->cr3;
    f[VMCS_GUEST_CR4] = cpu->cr4;
    if (vmx_control(cpu->vmx.ctl.exit, VMX_EXIT_SAVE_DEBUG)) {
        f[VMCS_GUEST_DR7] = cpu->dr[7];
        f[VMCS_GUEST_DEBUGCTL] = cpu->vmx.debugctl;
    }
    if (vmx_control(cpu->vmx.ctl.exit, VMX_EXIT_SAVE_PAT))
        f[VMCS_GUEST_PAT] = cpu->msr_pat;
    if (vmx_control(cpu->vmx.ctl.exit, VMX_EXIT_SAVE_EFER))
        f[VMCS_GUEST_EFER] = cpu->efer;
    if (vmx_control(cpu->vmx.ctl.exit, VMX_EXIT_SAVE_TIMER))
        f[VMCS_TIMER] = timer_value(cpu);
    if (vmx_proc2(cpu, VMX_PROC2_EPT) && pae_paging(cpu->cr0, cpu->cr4, cpu->efer))
        memcpy(&f[VMCS_GUEST_PDPTE0], cpu->pdpte, sizeof cpu->pdpte);
    uint64_t wide = UINT64_C(1) << VMX_ENTRY_GUEST_64;
    f[VMCS_ENTRY_CONTROLS] &= ~wide;
    f[VMCS_ENTRY_CONTROLS] |= cpu->efer & EFER_LMA ? wide : 0;
}

static void save_guest(struct cpu *cpu, struct vmcs *v) {
    uint64_t *f = v->f;
    save_control_registers(cpu, v);
    for (unsigned i = 0; i < sizeof order; i++)
        save_segment(v, i, &cpu->seg[order[i]]);
    f[VMCS_GUEST_GDTR_LIMIT] = cpu->gdtr.limit;
    f[VMCS_GUEST_GDTR_BASE] = cpu->gdtr.base;
    f[VMCS_GUEST_IDTR_LIMIT] = cpu->idtr.limit;
    f[VMCS_GUEST_IDTR_BASE] = cpu->idtr.base;
    f[VMCS_GUEST_SYSENTER_CS] = cpu->msr_sysenter_cs;
    f[VMCS_GUEST_SYSENTER_ESP] = cpu->msr_sysenter_esp;
    f[VMCS_GUEST_SYSENTER_EIP] = cpu->msr_sysenter_eip;
    f[VMCS_GUEST_RSP] = cpu->gpr[R_SP];
    f[VMCS_GUEST_RIP] = cpu->rip;
    f[VMCS_GUEST_RFLAGS] = cpu_rflags(cpu);
    f[VMCS_INTERRUPTIBILITY] = interruptibility(cpu);
    f[VMCS_ACTIVITY] = cpu->halted == PN_HALTED ? ACTIVITY_HLT : ACTIVITY_ACTIVE;
    f[VMCS_PENDING_DEBUG] =
        cpu->db_pending | (cpu->db_pending & 15 ? PENDING_ENABLED : 0);
}

static void save_exit(struct cpu *cpu, struct vmcs *v, const struct vmx_exit *x) {
    uint64_t *f = v->f;
    f[VMCS_EXIT_REASON] = x->reason;
    f[VMCS_QUALIFICATION] = x->qualification;
    f[VMCS_GUEST_LINEAR] = x->linear;
    f[VMCS_GUEST_PHYSICAL] = x->physical;
    f[VMCS_EXIT_EVENT] = (uint32_t)x->event;
    f[VMCS_EXIT_ERROR] = x->event >> 32;
    f[VMCS_VECTORING_EVENT] = (uint32_t)cpu->vmx.in_flight;
    f[VMCS_VECTORING_ERROR] = cpu->vmx.in_flight >> 32;
    f[VMCS_EXIT_INSN_LEN] = cpu->vmx.in_flight ? cpu->vmx.in_flight_len : x->insn_len;
    f[VMCS_EXIT_INSN_INFO] = x->insn_info;
    f[VMCS_ENTRY_EVENT] &= ~VMX_EVENT_VALID;
}

/* NMIs are blocked behind an exit that one caused; what L2 had blocked for itself is gone. */
static void settle_nmi(struct cpu *cpu, const struct vmx_exit *x) {
    if (x->reason == VMX_EXIT_EXCEPTION && is_nmi(x->event))
        cpu->nmi_blocked = 1;
    else if (vmx_pin(cpu, VMX_PIN_VIRTUAL_NMI))
        cpu->nmi_blocked = 0;
}

enum cpu_rc vmx_leave(struct cpu *cpu, const struct vmx_exit *x) {
    struct vmcs v;
    pn_emit(cpu->ring, world_exit, x->reason, x->qualification, x->physical);
    vmcs_read(cpu, cpu->vmx.vmcs, &v);
    save_exit(cpu, &v, x);
    save_guest(cpu, &v);
    vmcs_write(cpu, cpu->vmx.vmcs, &v, VMCS_ENTRY_CONTROLS, VMCS_ENTRY_CONTROLS);
    vmcs_write(cpu, cpu->vmx.vmcs, &v, VMCS_ENTRY_EVENT, VMCS_ENTRY_EVENT);
    vmcs_write(cpu, cpu->vmx.vmcs, &v, VMCS_GUEST_PHYSICAL, VMCS_GUEST_SYSENTER_EIP);
    cpu->tsc_offset -= cpu->vmx.ctl.tsc_offset; /* the list has the processor's own TSC */
    if (!store_list(cpu, v.f[VMCS_EXIT_MSR_STORE], (uint32_t)v.f[VMCS_EXIT_MSR_STORES]))
        return abort_exit(cpu, ABORT_STORE);
    settle_nmi(cpu, x);
    return load_host(cpu, &v);
}

/* ---- VM entry ---- */

static void load_control_registers(struct cpu *cpu, const struct vmcs *v) {
    const uint64_t *f = v->f;
    uint32_t entry = cpu->vmx.ctl.entry;
    cpu->cr0 = (f[VMCS_GUEST_CR0] & ~CR0_KEPT & VMX_CR0_WRITABLE) |
               (cpu->cr0 & CR0_KEPT) | CR0_ET;
    cpu->cr3 = f[VMCS_GUEST_CR3];
    cpu->cr4 = f[VMCS_GUEST_CR4];
    if (vmx_control(entry, VMX_ENTRY_LOAD_DEBUG)) {
        cpu->dr[7] = (f[VMCS_GUEST_DR7] & 0xffff23ff) | DR7_FIXED;
        cpu->vmx.debugctl = f[VMCS_GUEST_DEBUGCTL];
    }
    cpu->efer &= ~EFER_LMA;
    if (f[VMCS_GUEST_CR0] & CR0_PG)
        cpu->efer &= ~EFER_LME;
    if (vmx_control(entry, VMX_ENTRY_GUEST_64))
        cpu->efer |= EFER_LMA | EFER_LME;
    if (vmx_control(entry, VMX_ENTRY_LOAD_EFER))
        cpu->efer = f[VMCS_GUEST_EFER];
    if (vmx_control(entry, VMX_ENTRY_LOAD_PAT))
        cpu->msr_pat = f[VMCS_GUEST_PAT];
    if (vmx_proc2(cpu, VMX_PROC2_EPT) && pae_paging(cpu->cr0, cpu->cr4, cpu->efer))
        memcpy(cpu->pdpte, &f[VMCS_GUEST_PDPTE0], sizeof cpu->pdpte);
}

static void load_blocking(struct cpu *cpu, uint64_t blocked) {
    cpu->intr_shadow = PN_NO_SHADOW;
    if (blocked & (BLOCKED_STI | BLOCKED_MOV_SS)) {
        cpu->intr_shadow = blocked & BLOCKED_STI ? PN_SHADOW_STI : PN_SHADOW_MOV_SS;
        cpu->shadow_at = cpu_insns(cpu) + 1;
    }
    cpu->nmi_blocked = (blocked & BLOCKED_NMI) != 0;
}

static void load_guest(struct cpu *cpu, const struct vmcs *v) {
    const uint64_t *f = v->f;
    load_control_registers(cpu, v);
    for (unsigned i = 0; i < sizeof order; i++)
        load_segment(v, i, &cpu->seg[order[i]]);
    cpu->gdtr =
        (struct cpu_table){f[VMCS_GUEST_GDTR_BASE], (uint16_t)f[VMCS_GUEST_GDTR_LIMIT]};
    cpu->idtr =
        (struct cpu_table){f[VMCS_GUEST_IDTR_BASE], (uint16_t)f[VMCS_GUEST_IDTR_LIMIT]};
    cpu->msr_sysenter_cs = (uint32_t)f[VMCS_GUEST_SYSENTER_CS];
    cpu->msr_sysenter_esp = f[VMCS_GUEST_SYSENTER_ESP];
    cpu->msr_sysenter_eip = f[VMCS_GUEST_SYSENTER_EIP];
    cpu->gpr[R_SP] = f[VMCS_GUEST_RSP];
    cpu->rip = f[VMCS_GUEST_RIP];
    flags_load(cpu, f[VMCS_GUEST_RFLAGS]);
    cpu->cpl = (uint8_t)attr_dpl(cpu->seg[SEG_SS].attr);
    load_blocking(cpu, f[VMCS_INTERRUPTIBILITY]);
    bool vectors = f[VMCS_ENTRY_EVENT] & VMX_EVENT_VALID;
    cpu->db_pending = vectors ? 0 : f[VMCS_PENDING_DEBUG] & (DR6_BS | 15);
    cpu->halted = f[VMCS_ACTIVITY] == ACTIVITY_HLT && !vectors ? PN_HALTED : PN_RUNS;
    cpu->tsc_offset += cpu->vmx.ctl.tsc_offset;
}

/* The entry has failed, and is an exit: of L2's state nothing is stored. */
static enum cpu_rc fail_entry(struct cpu *cpu, struct vmcs *v, enum vmx_reason reason,
                              uint64_t qualification) {
    v->f[VMCS_EXIT_REASON] = VMX_ENTRY_FAILED | reason;
    v->f[VMCS_QUALIFICATION] = qualification;
    vmcs_write(cpu, cpu->vmx.vmcs, v, VMCS_EXIT_REASON, VMCS_EXIT_REASON);
    vmcs_write(cpu, cpu->vmx.vmcs, v, VMCS_QUALIFICATION, VMCS_QUALIFICATION);
    pn_emit(cpu->ring, world_exit, v->f[VMCS_EXIT_REASON], qualification, 0);
    return load_host(cpu, v);
}

/* PDPTEs without EPT are loaded as by MOV CR3; where they cannot be, the state is none. */
static bool load_pdptes(struct cpu *cpu) {
    if (vmx_proc2(cpu, VMX_PROC2_EPT) || !pae_paging(cpu->cr0, cpu->cr4, cpu->efer))
        return true;
    if (cr3_load_pdptes(cpu, cpu->cr3))
        return false;
    cpu_update_paging(cpu);
    return true;
}

static enum cpu_rc enter_guest(struct cpu *cpu, struct vmcs *v) {
    const uint64_t *f = v->f;
    uint32_t one = 1;
    load_guest(cpu, v);
    set_guest(cpu, true);
    start_timer(cpu, v);
    flush_for(cpu, asid(cpu));
    enter_world(cpu);
    cpu_update_mode(cpu);
    if (!load_pdptes(cpu)) {
        cpu->tsc_offset -= cpu->vmx.ctl.tsc_offset;
        return fail_entry(cpu, v, VMX_EXIT_GUEST_STATE, ENTRY_WRONG_PDPTE);
    }
    unsigned bad =
        load_list(cpu, f[VMCS_ENTRY_MSR_LOAD], (uint32_t)f[VMCS_ENTRY_MSR_LOADS]);
    if (bad) {
        cpu->tsc_offset -= cpu->vmx.ctl.tsc_offset;
        return fail_entry(cpu, v, VMX_EXIT_MSR_LOAD, bad);
    }
    pn_mmu_vcpu_write(cpu->vmmu, cpu->vmx.vmcs + VMCS_AT_LAUNCH, &one, sizeof one);
    vmx_apic_enter(cpu);
    return f[VMCS_ENTRY_EVENT] & VMX_EVENT_VALID ? vmx_inject(cpu, v) : CPU_JUMP;
}

enum vmx_error vmx_enter(struct cpu *cpu, enum cpu_rc *rc) {
    struct vmcs v;
    uint64_t why;
    vmcs_read(cpu, cpu->vmx.vmcs, &v);
    if (!vmx_controls_valid(cpu, &v))
        return VMX_ERROR_CONTROLS;
    read_controls(cpu, &v);
    if (!vmx_host_valid(cpu, &v) || !vmx_host_mode_valid(cpu, &v))
        return VMX_ERROR_HOST;
    *rc = vmx_guest_valid(cpu, &v, &why) ? enter_guest(cpu, &v)
                                         : fail_entry(cpu, &v, VMX_EXIT_GUEST_STATE, why);
    return VMX_OK;
}

void vmx_set_eptp(struct cpu *cpu, uint64_t eptp, uint16_t index) {
    struct vmcs v;
    v.f[VMCS_EPTP_INDEX] = index;
    if (vmx_proc2(cpu, VMX_PROC2_VE))
        vmcs_write(cpu, cpu->vmx.vmcs, &v, VMCS_EPTP_INDEX, VMCS_EPTP_INDEX);
    v.f[VMCS_EPTP] = cpu->vmx.ctl.eptp = eptp;
    vmcs_write(cpu, cpu->vmx.vmcs, &v, VMCS_EPTP, VMCS_EPTP);
    enter_world(cpu);
}

void vmx_refresh(struct cpu *cpu) {
    struct vmcs v;
    cpu->vmx.stale = 0;
    if (!cpu->vmx.guest)
        return;
    vmcs_read(cpu, cpu->vmx.vmcs, &v);
    read_controls(cpu, &v);
    cpu->vmx.timer = vmx_pin(cpu, VMX_PIN_TIMER);
    cpu->tsc_offset += cpu->vmx.ctl.tsc_offset;
    enter_world(cpu);
    vmx_apic_refresh(cpu);
    cpu_update_mode(cpu);
}
