/* SPDX-License-Identifier: MIT */
/*
 * Which states VMRUN and #VMEXIT accept.
 *
 * Source: APM volume 2, "Canonicalization and Consistency Checks", "Event Injection", "TLB
 * Control".
 */
#include "cpu/svm.h"

#include "cpu/control.h"

/* The maps' sizes. Of MSRPM's two pages the end may not be the last address either
 * (kvm-unit-tests' svm, of processors). */
#define IOPM_BYTES  0x3000u
#define MSRPM_BYTES 0x2001u

static bool reaches(const struct cpu *cpu, pn_gpa gpa, unsigned bytes) {
    return !((gpa + bytes - 1) >> cpu->model->phys_bits) && gpa + bytes > gpa;
}

bool svm_event_valid(uint64_t event) {
    unsigned type = event >> INJ_TYPE_SHIFT & 7, vector = event & 0xff;
    if (!(event & INJ_VALID))
        return true;
    if (type == INJ_EXCEPTION)
        return vector < 32 && vector != VEC_NMI;
    return type == INJ_INTR || type == INJ_NMI || type == INJ_SOFT;
}

static bool tlb_control_valid(const struct cpu *cpu, unsigned how) {
    return how < 2 || ((how == 3 || how == 7) && cpu_has(cpu, CPU_F_flushbyasid));
}

bool svm_control_valid(const struct cpu *cpu, const struct svm_ctl *c) {
    if (!(c->icpt[1] & 1) || !c->asid || !tlb_control_valid(cpu, c->tlb_control))
        return false;
    if (c->nested && c->ncr3 >> cpu->model->phys_bits)
        return false;
    return reaches(cpu, c->iopm, IOPM_BYTES) && reaches(cpu, c->msrpm, MSRPM_BYTES) &&
           svm_event_valid(c->event);
}

static bool pat_possible(uint64_t pat) {
    for (unsigned i = 0; i < 64; i += 8) {
        unsigned t = pat >> i & 0xff;
        if (t > 7 || t == 2 || t == 3)
            return false;
    }
    return true;
}

static bool control_registers(const struct cpu *cpu, uint64_t cr0, uint64_t cr3,
                              uint64_t cr4, uint64_t efer) {
    if (cr0 >> 32 || (cr0 & CR0_NW && !(cr0 & CR0_CD)))
        return false;
    if (cr4 & ~cpu->model->cr4_valid || (cr4 & CR4_CET && !(cr0 & CR0_WP)))
        return false;
    if (efer & ~(cpu->model->efer_valid | EFER_LMA) || !(efer & EFER_SVME))
        return false;
    return !(cr3 >> cpu->model->phys_bits);
}

static bool mode_possible(const struct svm_save *s, uint64_t cr0, uint64_t cr4,
                          uint64_t efer) {
    struct pn_segment cs;
    /* PG without PE is "Paged Real Mode". */
    if (!(efer & EFER_LME) || !(cr0 & CR0_PG))
        return !(cr4 & CR4_PCIDE);
    svm_load_segment(s, SAVE_CS, &cs);
    return cr0 & CR0_PE && cr4 & CR4_PAE && !(cs.attr & ATTR_L && cs.attr & ATTR_DB);
}

bool svm_save_valid(const struct cpu *cpu, const struct svm_save *s, bool host) {
    uint64_t cr0 = save_get(s, SAVE_CR0), cr4 = save_get(s, SAVE_CR4);
    uint64_t efer = save_get(s, SAVE_EFER), cr3 = save_get(s, SAVE_CR3);
    if (!control_registers(cpu, cr0, cr3, cr4, efer) || !mode_possible(s, cr0, cr4, efer))
        return false;
    if (cpu->svm.ctl.nested && !pat_possible(save_get(s, SAVE_PAT)))
        return false;
    if (cpu_has(cpu, CPU_F_shstk) && (!cet_control_valid(cpu, save_get(s, SAVE_S_CET)) ||
                                      !cet_ssp_valid(cpu, save_get(s, SAVE_SSP)) ||
                                      !loadable(cpu, save_get(s, SAVE_SSP_TABLE))))
        return false;
    return host || (!(save_get(s, SAVE_DR6) >> 32) && !(save_get(s, SAVE_DR7) >> 32));
}
