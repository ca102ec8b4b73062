/* SPDX-License-Identifier: MIT */
/*
 * Reset and INIT (SDM volume 3, "Processor State After Reset"; the INIT column keeps
 * CR0.CD/NW, the vector state and most MSRs).
 */
#include "cpu/system.h"

static void reset_segments(struct cpu *cpu) {
    for (unsigned i = 0; i < SEG_COUNT; i++)
        cpu->seg[i] = (struct cpu_seg){.attr = ATTR_P | ATTR_S | TYPE_RW | TYPE_ACC,
                                       .limit = 0xffff};
    cpu->seg[SEG_CS].sel = 0xf000;
    cpu->seg[SEG_CS].base = 0xffff0000u;
    cpu->seg[SEG_LDTR].attr = ATTR_P | 2;
    cpu->seg[SEG_TR].attr = ATTR_P | 11;
    cpu->gdtr.base = cpu->idtr.base = 0;
    cpu->gdtr.limit = cpu->idtr.limit = 0xffff;
}

/* What INIT resets too. */
static void reset_common(struct cpu *cpu) {
    uint32_t leaf[4] = {0};
    if (cpu->model)
        cpu_model_leaf(cpu->model, 1, 0, leaf);
    memset(cpu->gpr, 0, sizeof cpu->gpr);
    cpu->gpr[R_DX] = leaf[0];
    cpu->rip = 0xfff0;
    cpu_set_rflags(cpu, 2);
    reset_segments(cpu);
    cpu->cpl = 0;
    cpu->halted = 0;
    cpu->intr_shadow = 0;
    cpu->step_skip = 0;
    cpu->db_pending = 0;
    cpu->nmi_pending = cpu->nmi_blocked = 0;
    cpu->cr2 = cpu->cr3 = cpu->cr4 = cpu->efer = 0;
    memset(cpu->pdpte, 0, sizeof cpu->pdpte);
    memset(cpu->dr, 0, sizeof cpu->dr);
    cpu->dr[6] = DR6_FIXED;
    cpu->dr[7] = 0x400;
    cpu->owed.count = 0;
}

static void reset_vector(struct cpu *cpu) {
    uint64_t bv = 3; /* x87 and SSE are in the image; AVX is in its initial state */
    uint16_t fcw = 0x40;
    uint32_t mxcsr = 0x1f80;
    cpu->vec_live = 0;
    memset(cpu->xsave, 0, sizeof cpu->xsave);
    memcpy(cpu->xsave, &fcw, sizeof fcw);
    cpu->xsave[4] = 0xff; /* FTW 0x5555: every register holds +0.0 */
    memcpy(cpu->xsave + 24, &mxcsr, sizeof mxcsr);
    memcpy(cpu->xsave + 512, &bv, sizeof bv);
    cpu->xcr0 = 1;
}

static void reset_msrs(struct cpu *cpu) {
    cpu->msr_star = cpu->msr_lstar = cpu->msr_cstar = cpu->msr_sfmask = 0;
    cpu->msr_kernel_gs_base = 0;
    cpu->msr_sysenter_cs = cpu->msr_sysenter_esp = cpu->msr_sysenter_eip = 0;
    cpu->msr_pat = 0x0007040600070406ull;
    cpu->msr_tsc_aux = cpu->msr_spec_ctrl = cpu->msr_xss = 0;
    cpu->msr_misc_enable = 0x1801; /* fast strings; no BTS, no PEBS */
    memset(cpu->msr_mtrr, 0, sizeof cpu->msr_mtrr);
    cpu->pkru = cpu->pkrs = 0;
    cpu->tsc_offset = -(int64_t)cpu_insns(cpu);
    cpu->tsc_adjust = 0;
}

void cpu_reset(struct cpu *cpu) {
    reset_common(cpu);
    reset_vector(cpu);
    reset_msrs(cpu);
    cpu->cr0 = 0x60000010;
    cpu->init_pending = cpu->sipi_pending = 0;
    cpu->stop_request = 0;
    cpu_update_paging(cpu);
    cpu_update_mode(cpu);
}

void cpu_init_signal(struct cpu *cpu) {
    uint64_t base = 0;
    uint64_t cache = cpu->cr0 & 0x60000000;
    reset_common(cpu);
    cpu->cr0 = 0x10 | cache;
    cpu_update_paging(cpu);
    cpu_update_mode(cpu);
    /* Only the bootstrap processor goes on without a SIPI. */
    if (cpu->bus->msr_read(cpu->bus->opaque, 0x1b, &base) == 0 && !(base & 0x100))
        cpu->halted = HALTED_FOR_SIPI;
}

void cpu_unhalt(struct cpu *cpu) {
    if (cpu->halted != HALTED_FOR_SIPI)
        cpu->halted = 0;
}

void cpu_start_signal(struct cpu *cpu) {
    if (cpu->halted != HALTED_FOR_SIPI)
        return;
    cpu->halted = 0;
    cpu->rip = 0;
    cpu->seg[SEG_CS].sel = (uint16_t)(cpu->sipi_vector << 8);
    cpu->seg[SEG_CS].base = (uint64_t)cpu->sipi_vector << 12;
    cpu_update_mode(cpu);
}
