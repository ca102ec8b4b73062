/* SPDX-License-Identifier: MIT */
/* The MMU of one vCPU: see view.h. */
#include "inspect/view.h"

#include <errno.h>
#include <stdlib.h>

static int own_mmu(struct view *v, struct machine *m) {
    uint32_t basic[4], extended[4], widths[4];
    v->ops->cpuid(v->engine, 1, 0, basic);
    v->ops->cpuid(v->engine, 0x80000001u, 0, extended);
    v->ops->cpuid(v->engine, 0x80000008u, 0, widths);
    struct pn_mmu_config cfg = {.kind = PN_MMU_SHADOW,
                                .maxphyaddr = (uint8_t)widths[0],
                                .lacks = pn_mmu_lacks(basic[3], extended[3])};
    struct pn_memslot slot[MACHINE_SLOTS_MAX];
    unsigned slots = machine_slots(m, slot);
    pn_mmu_options_default(&cfg.opt);
    int rc = pn_mmu_create(&cfg, &v->own);
    for (unsigned i = 0; i < slots && !rc; i++)
        rc = pn_mmu_slot_set(v->own, &slot[i]);
    return rc ? rc : pn_mmu_vcpu_create(v->own, &v->tlb, &v->stats, NULL, &v->vcpu);
}

static int take_registers(struct view *v) {
    struct pn_cpu_state *s = calloc(1, sizeof(*s));
    int rc = s ? v->ops->get_state(v->engine, v->cpu, s) : -ENOMEM;
    if (!rc) {
        const struct pn_paging p = {
            .cr0 = s->cr0,
            .cr3 = s->cr3,
            .cr4 = s->cr4,
            .efer = s->efer,
            .pdpte = {s->pdpte0, s->pdpte1, s->pdpte2, s->pdpte3},
            .pkru = s->pkru,
            .pkrs = (uint32_t)s->msr[PN_MSR_pkrs],
        };
        pn_mmu_set_paging(v->vcpu, &p);
    }
    free(s);
    return rc;
}

int view_open(struct view *v, struct machine *m, unsigned cpu, struct err *e) {
    *v = (struct view){.cpu = cpu, .ops = machine_ops(m), .engine = machine_engine(m)};
    if (cpu >= machine_cpus(m))
        return err_set(e, -EINVAL, "there is no vCPU %u", cpu);
    if (v->ops->mmu) {
        v->vcpu = v->ops->mmu(v->engine, cpu);
        return 0;
    }
    v->guest_only = true;
    int rc = own_mmu(v, m);
    if (!rc)
        rc = take_registers(v);
    if (rc)
        view_close(v);
    return rc ? err_sys(e, rc, "a view of vCPU %u", cpu) : 0;
}

void view_close(struct view *v) {
    pn_mmu_destroy(v->own); /* its vCPU goes along */
    v->own = NULL;
}
