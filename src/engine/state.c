/* SPDX-License-Identifier: MIT */
/*
 * The software CPU's state to and from the engine-neutral one.
 *
 * Invariant: get after set gives back what was set, for every field that the CPU has.
 */
#include <errno.h>
#include <string.h>

#include "cpu/control.h"
#include "cpu/cpu.h"
#include "engine/engines.h"

/* MSRs that are plain fields of struct cpu. */
#define FIELD(index, name)                                                               \
    { index, offsetof(struct cpu, name) }
static const struct {
    uint32_t index;
    size_t offset;
} msr_fields[] = {
    FIELD(0x174, msr_sysenter_cs),
    FIELD(0x175, msr_sysenter_esp),
    FIELD(0x176, msr_sysenter_eip),
    FIELD(0x1a0, msr_misc_enable),
    FIELD(0x277, msr_pat),
    FIELD(0x48, msr_spec_ctrl),
    FIELD(0xc0000081, msr_star),
    FIELD(0xc0000082, msr_lstar),
    FIELD(0xc0000083, msr_cstar),
    FIELD(0xc0000084, msr_sfmask),
    FIELD(0xc0000102, msr_kernel_gs_base),
    FIELD(0xc0000103, msr_tsc_aux),
    FIELD(0xda0, msr_xss),
    FIELD(0x3b, tsc_adjust),
};
#undef FIELD

/* MTRRs: default type, fixed and variable ranges. */
static const uint16_t mtrrs[] = {
    0x2ff, 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d,
    0x26e, 0x26f, 0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207,
    0x208, 0x209, 0x20a, 0x20b, 0x20c, 0x20d, 0x20e, 0x20f,
};
_Static_assert(sizeof(msr_fields) / sizeof(msr_fields[0]) +
                       sizeof(mtrrs) / sizeof(mtrrs[0]) + 2 + 3 <=
                   PN_MSRS_MAX,
               "MSRs do not fit");

/* KVM's MSRs: where the guest's clock, steal time and EOI word are. */
static const uint32_t pv_msrs[] = {0x4b564d01, 0x4b564d03, 0x4b564d04};
#define PV_MSRS (sizeof(pv_msrs) / sizeof(pv_msrs[0]))

static void add_msr(struct pn_cpu_state *s, uint32_t index, uint64_t value) {
    s->msr[s->msr_count++] = (struct pn_msr){index, value};
}

static void get_msrs(struct cpu *cpu, struct pn_cpu_state *s) {
    uint64_t value;
    for (size_t i = 0; i < sizeof(msr_fields) / sizeof(msr_fields[0]); i++) {
        memcpy(&value, (const char *)cpu + msr_fields[i].offset, sizeof(value));
        add_msr(s, msr_fields[i].index, value);
    }
    for (size_t i = 0; i < sizeof(mtrrs) / sizeof(mtrrs[0]); i++)
        if (msr_read(cpu, mtrrs[i], &value) == CPU_NEXT)
            add_msr(s, mtrrs[i], value);
    static const uint32_t apic[] = {MSR_APIC_BASE, MSR_TSC_DEADLINE};
    for (size_t i = 0; i < 2; i++)
        if (cpu->bus->msr_read(cpu->bus->opaque, apic[i], &value) == 0)
            add_msr(s, apic[i], value);
    for (size_t i = 0; cpu_model_pv(cpu->model) && i < PV_MSRS; i++)
        if (cpu->bus->msr_read(cpu->bus->opaque, pv_msrs[i], &value) == 0)
            add_msr(s, pv_msrs[i], value);
}

int soft_state_get(struct cpu *cpu, struct pn_cpu_state *s) {
    if (cpu->vec_live)
        cpu_vec_save(cpu);
    memset(s, 0, sizeof(*s));
    memcpy(s->gpr, cpu->gpr, sizeof(s->gpr));
    s->rip = cpu->rip;
    s->rflags = cpu_rflags(cpu);
    for (unsigned i = 0; i < PN_SEGMENTS; i++) {
        const struct cpu_seg *g = &cpu->seg[i];
        s->seg[i] = (struct pn_segment){g->sel, g->attr, g->limit, g->base};
    }
    s->gdtr.base = cpu->gdtr.base;
    s->gdtr.limit = (uint16_t)cpu->gdtr.limit;
    s->idtr.base = cpu->idtr.base;
    s->idtr.limit = (uint16_t)cpu->idtr.limit;
    s->cr0 = cpu->cr0, s->cr2 = cpu->cr2, s->cr3 = cpu->cr3, s->cr4 = cpu->cr4;
    s->cr8 = cpu->bus->cr8_read(cpu->bus->opaque);
    s->efer = cpu->efer, s->xcr0 = cpu->xcr0;
    memcpy(s->pdpte, cpu->pdpte, sizeof(s->pdpte));
    memcpy(s->dr, cpu->dr, sizeof(s->dr));
    s->tsc = cpu_insns(cpu) + (uint64_t)cpu->tsc_offset;
    get_msrs(cpu, s);
    memcpy(s->xsave, cpu->xsave, sizeof(s->xsave));
    s->pkru = cpu->pkru;
    s->pending.halted = cpu->halted;
    s->pending.intr_shadow = cpu->intr_shadow && cpu->shadow_at == cpu_insns(cpu);
    s->pending.nmi_pending = cpu->nmi_pending;
    s->pending.nmi_blocked = cpu->nmi_blocked;
    s->pending.exception = s->pending.interrupt = -1;
    return 0;
}

static void set_msrs(struct cpu *cpu, const struct pn_cpu_state *s) {
    for (unsigned m = 0; m < s->msr_count; m++) {
        uint32_t index = s->msr[m].index;
        if (index == MSR_APIC_BASE || (index == MSR_TSC_DEADLINE && s->msr[m].value))
            cpu->bus->msr_write(cpu->bus->opaque, index, s->msr[m].value);
        for (size_t i = 0; i < sizeof(msr_fields) / sizeof(msr_fields[0]); i++)
            if (msr_fields[i].index == index)
                memcpy((char *)cpu + msr_fields[i].offset, &s->msr[m].value, 8);
        for (size_t i = 0; i < sizeof(mtrrs) / sizeof(mtrrs[0]); i++)
            if (mtrrs[i] == index)
                msr_write(cpu, index, s->msr[m].value);
        for (size_t i = 0; cpu_model_pv(cpu->model) && i < PV_MSRS; i++)
            if (pv_msrs[i] == index)
                cpu->bus->msr_write(cpu->bus->opaque, pv_msrs[i], s->msr[m].value);
    }
}

int soft_state_set(struct cpu *cpu, const struct pn_cpu_state *s) {
    if (s->msr_count > PN_MSRS_MAX)
        return -EINVAL;
    memcpy(cpu->gpr, s->gpr, sizeof(cpu->gpr));
    cpu->rip = s->rip;
    for (unsigned i = 0; i < PN_SEGMENTS; i++) {
        const struct pn_segment *g = &s->seg[i];
        cpu->seg[i] = (struct cpu_seg){g->sel, g->attr, g->limit, g->base};
    }
    cpu->cpl = s->seg[PN_SS].attr >> 5 & 3;
    cpu->gdtr.base = s->gdtr.base, cpu->gdtr.limit = s->gdtr.limit;
    cpu->idtr.base = s->idtr.base, cpu->idtr.limit = s->idtr.limit;
    cpu->cr0 = s->cr0, cpu->cr2 = s->cr2, cpu->cr3 = s->cr3, cpu->cr4 = s->cr4;
    cpu->bus->cr8_write(cpu->bus->opaque, s->cr8);
    cpu->efer = s->efer, cpu->xcr0 = s->xcr0;
    memcpy(cpu->pdpte, s->pdpte, sizeof(cpu->pdpte));
    memcpy(cpu->dr, s->dr, sizeof(cpu->dr));
    cpu->tsc_offset = (int64_t)(s->tsc - cpu_insns(cpu));
    set_msrs(cpu, s);
    memcpy(cpu->xsave, s->xsave, sizeof(cpu->xsave));
    cpu->vec_live = 0;
    cpu->pkru = s->pkru;
    cpu->halted = s->pending.halted;
    cpu->intr_shadow = s->pending.intr_shadow;
    cpu->shadow_at = cpu_insns(cpu);
    cpu->nmi_pending = s->pending.nmi_pending;
    cpu->nmi_blocked = s->pending.nmi_blocked;
    cpu->intr_line = 1;
    cpu_set_rflags(cpu, s->rflags);
    cpu_update_paging(cpu);
    cpu_update_mode(cpu);
    if (s->pending.exception >= 0) {
        cpu->fault =
            (struct pn_fault){(uint8_t)s->pending.exception, s->pending.has_error,
                              s->pending.error, s->pending.exception == 14 ? s->cr2 : 0};
        cpu_deliver_fault(cpu);
    } else if (s->pending.interrupt >= 0) {
        cpu_deliver_intr(cpu, (uint8_t)s->pending.interrupt);
    }
    return 0;
}
