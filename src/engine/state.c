/* SPDX-License-Identifier: MIT */
/*
 * The software CPU's state to and from the engine-neutral one.
 *
 * Invariant: get after set gives back what was set, for every field that the CPU has.
 */
#include <errno.h>
#include <string.h>

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
#define MSR_APIC_BASE 0x1b

int soft_state_get(const struct cpu *cpu, struct pn_cpu_state *s) {
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
    for (size_t i = 0; i < sizeof(msr_fields) / sizeof(msr_fields[0]); i++) {
        struct pn_msr *m = &s->msr[s->msr_count++];
        m->index = msr_fields[i].index;
        memcpy(&m->value, (const char *)cpu + msr_fields[i].offset, sizeof(m->value));
    }
    struct pn_msr *base = &s->msr[s->msr_count];
    base->index = MSR_APIC_BASE;
    if (cpu->bus->msr_read(cpu->bus->opaque, MSR_APIC_BASE, &base->value) == 0)
        s->msr_count++;
    memcpy(s->xsave, cpu->xsave, sizeof(s->xsave));
    s->pkru = cpu->pkru;
    s->pending.halted = cpu->halted;
    s->pending.intr_shadow = cpu->intr_shadow && cpu->shadow_at == cpu_insns(cpu);
    s->pending.nmi_pending = cpu->nmi_pending;
    s->pending.nmi_blocked = cpu->nmi_blocked;
    s->pending.exception = -1;
    return 0;
}

static void set_msrs(struct cpu *cpu, const struct pn_cpu_state *s) {
    for (unsigned m = 0; m < s->msr_count; m++) {
        if (s->msr[m].index == MSR_APIC_BASE)
            cpu->bus->msr_write(cpu->bus->opaque, MSR_APIC_BASE, s->msr[m].value);
        for (size_t i = 0; i < sizeof(msr_fields) / sizeof(msr_fields[0]); i++)
            if (msr_fields[i].index == s->msr[m].index)
                memcpy((char *)cpu + msr_fields[i].offset, &s->msr[m].value, 8);
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
    }
    return 0;
}
