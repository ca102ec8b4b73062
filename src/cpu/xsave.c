/* SPDX-License-Identifier: MIT */
/*
 * XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR, XRSTORS on the state at rest (xstate.h).
 * Sources: SDM volume 1, chapter 13, "Managing State Using the XSAVE Feature Set".
 *
 * Invariants
 * 1. What is in use is told by contents, so that the guest sees the same XSTATE_BV
 *    whatever the host's own tracking says.
 * 2. An image is read and checked whole before any of the state changes; a save that
 *    faults has written nothing.
 * 3. XSAVEOPT uses the init optimisation only; the modified optimisation is optional.
 */
#include "cpu/bulk.h"
#include "cpu/xstate.h"

#define COMPACT XSAVE_COMPACT
#define AREA_MAX                                                                         \
    (XSAVE_VECTOR_END + XSAVE_PKRU_SIZE + XSAVE_CET_U_SIZE + XSAVE_CET_S_SIZE)
#define HEADER_SIZE 64u

/* XMM8..15, YMM8..15 and ZMM8..31 are neither saved nor restored outside 64-bit mode (SDM
 * volume 1, "AVX-512 State"). */
static unsigned vector_bytes(const struct cpu *cpu) {
    return mode_64(cpu) ? 256 : 128;
}
static unsigned part_bytes(const struct cpu *cpu, const struct xsave_part *p) {
    if (mode_64(cpu) || p->nr == 5)
        return p->size;
    return p->nr == 7 ? 0 : p->size / 2;
}

/* Where a component is in an area with that XCOMP_BV. */
static unsigned offset_of(const struct cpu *cpu, unsigned nr, uint64_t xcomp) {
    return cpu_xsave_offset(cpu->model, nr, xcomp, xcomp & COMPACT);
}

/* Checks that all of them share (arg: the feature that the instruction came with), and the operand's address. */
static enum cpu_rc x_operand(struct cpu *cpu, const struct insn *in, unsigned size,
                             enum pn_access access, pn_gva *lin) {
    if (!cpu_has(cpu, in->arg) || !(cpu->cr4 & CR4_OSXSAVE))
        return cpu_raise(cpu, VEC_UD);
    if (in->arg == CPU_F_xsaves && cpu->cpl)
        return gp0(cpu);
    if (cpu->cr0 & CR0_TS)
        return cpu_raise(cpu, VEC_NM);
    return operand_aligned(cpu, in, 64) ? CPU_FAULT
                                        : cpu_lin_operand(cpu, in, size, access, lin);
}

/* ---- Saving ---- */

static void put_from_area(struct cpu *cpu, const struct bulk_area *to, uint64_t save,
                          bool mxcsr, uint64_t xcomp) {
    const uint8_t *a = cpu->xsave;
    unsigned vec = vector_bytes(cpu);
    if ((save & 3) == 3) {
        bulk_put(cpu, to, 0, a, FX_XMM + vec);
    } else {
        if (save & XSTATE_X87) {
            bulk_put(cpu, to, 0, a, FX_MXCSR);
            bulk_put(cpu, to, FX_ST, a + FX_ST, FX_XMM - FX_ST);
        }
        if (save & XSTATE_SSE || mxcsr)
            bulk_put(cpu, to, FX_MXCSR, a + FX_MXCSR, 8);
        if (save & XSTATE_SSE)
            bulk_put(cpu, to, FX_XMM, a + FX_XMM, vec);
    }
    for (unsigned i = 0; i < XSAVE_PARTS; i++) {
        const struct xsave_part *p = &xsave_parts[i];
        unsigned size = part_bytes(cpu, p);
        if (save >> p->nr & 1 && size)
            bulk_put(cpu, to, offset_of(cpu, p->nr, xcomp), a + p->at, size);
    }
    if (save & XSTATE_PKRU) {
        uint64_t pkru = cpu->pkru;
        bulk_put(cpu, to, offset_of(cpu, XSTATE_PKRU_NR, xcomp), &pkru, XSAVE_PKRU_SIZE);
    }
    if (save & XSTATE_CET_U) {
        const uint64_t user[2] = {cpu->msr_u_cet, cpu->msr_pl_ssp[3]};
        bulk_put(cpu, to, offset_of(cpu, XSTATE_CET_U_NR, xcomp), user, sizeof(user));
    }
    if (save & XSTATE_CET_S)
        bulk_put(cpu, to, offset_of(cpu, XSTATE_CET_S_NR, xcomp), cpu->msr_pl_ssp,
                 XSAVE_CET_S_SIZE);
}

/* The data of the components in `save`; xcomp: XCOMP_BV as it will stand in the header. */
static void put_components(struct cpu *cpu, const struct insn *in,
                           const struct bulk_area *to, uint64_t save, bool mxcsr,
                           uint64_t xcomp) {
    x87_put_pointers(cpu, in->opsize == 8);
    put_from_area(cpu, to, save, mxcsr, xcomp);
    x87_drop_pointers(cpu);
}

/* What is saved or restored at most: XSAVES and XRSTORS know supervisor state too. */
static uint64_t allowed_by(const struct cpu *cpu, const struct insn *in) {
    return in->arg == CPU_F_xsaves ? cpu->xcr0 | cpu->msr_xss : cpu->xcr0;
}

/* XSAVE, XSAVEOPT: the standard format. */
enum cpu_rc op_xsave(struct cpu *cpu, const struct insn *in) {
    uint64_t rfbm = cpu->xcr0 & edx_eax(cpu), bv;
    unsigned size = cpu_xsave_size(cpu->model, rfbm, false);
    struct bulk_area area;
    pn_gva lin;
    if (x_operand(cpu, in, size, PN_WRITE, &lin) || bulk_area(cpu, lin, size, &area) ||
        bulk_read(cpu, lin + XSAVE_HEADER, &bv, 8))
        return CPU_FAULT;
    uint64_t inuse = cpu_xinuse(cpu);
    xstate_put(cpu->xsave, FX_MASK, 4, MXCSR_MASK);
    bv = (bv & ~rfbm) | (rfbm & inuse);
    uint64_t save = in->arg == CPU_F_xsaveopt ? rfbm & inuse : rfbm;
    put_components(cpu, in, &area, save, rfbm & (XSTATE_SSE | XSTATE_AVX), 0);
    bulk_put(cpu, &area, XSAVE_HEADER, &bv, 8);
    return CPU_NEXT;
}

/* XSAVEC, XSAVES: the compacted format. */
enum cpu_rc op_xsavec(struct cpu *cpu, const struct insn *in) {
    uint64_t rfbm = allowed_by(cpu, in) & edx_eax(cpu);
    unsigned size = cpu_xsave_size(cpu->model, rfbm, true);
    struct bulk_area area;
    pn_gva lin;
    if (x_operand(cpu, in, size, PN_WRITE, &lin) || bulk_area(cpu, lin, size, &area))
        return CPU_FAULT;
    uint64_t inuse = cpu_xinuse(cpu);
    xstate_put(cpu->xsave, FX_MASK, 4, MXCSR_MASK);
    if (xstate_get(cpu->xsave, FX_MXCSR, 4) != MXCSR_INIT)
        inuse |= XSTATE_SSE;
    uint64_t header[2] = {rfbm & inuse, COMPACT | rfbm};
    put_components(cpu, in, &area, header[0], false, header[1]);
    bulk_put(cpu, &area, XSAVE_HEADER, header, sizeof(header));
    return CPU_NEXT;
}

/* ---- Restoring ---- */

/* Is the header one that may be restored, with the features in `allowed` enabled? */
static bool header_valid(const struct cpu *cpu, const uint8_t *header, uint64_t allowed,
                         bool must_be_compact) {
    uint64_t bv = xstate_get(header, 0, 8), xcomp = xstate_get(header, 8, 8), any = 0;
    if (!(xcomp & COMPACT))
        return !must_be_compact && !xcomp && !xstate_get(header, 16, 8) &&
               !(bv & ~allowed);
    for (unsigned i = 16; i < HEADER_SIZE; i += 8)
        any |= xstate_get(header, i, 8);
    return cpu_has(cpu, CPU_F_xsavec) && !any && !(xcomp & ~COMPACT & ~allowed) &&
           !(bv & ~xcomp);
}

static uint64_t cet_word(const struct cpu *cpu, const uint8_t *image, unsigned nr,
                         unsigned i, uint64_t xcomp) {
    return xstate_get(image, offset_of(cpu, nr, xcomp) + 8 * i, 8);
}

/* May CET's MSRs be loaded with what the image has? As by WRMSR (SDM volume 1, "CET_U
 * State"). */
static bool cet_valid(const struct cpu *cpu, const uint8_t *image, uint64_t take,
                      uint64_t xcomp) {
    bool ok = true;
    if (take & XSTATE_CET_U)
        ok = cet_control_valid(cpu, cet_word(cpu, image, XSTATE_CET_U_NR, 0, xcomp)) &&
             cet_ssp_valid(cpu, cet_word(cpu, image, XSTATE_CET_U_NR, 1, xcomp));
    for (unsigned i = 0; take & XSTATE_CET_S && i < 3; i++)
        ok &= cet_ssp_valid(cpu, cet_word(cpu, image, XSTATE_CET_S_NR, i, xcomp));
    return ok;
}

/* Those of `take` from the image; those of `init` become 0. */
static void take_cet(struct cpu *cpu, const uint8_t *image, uint64_t take, uint64_t init,
                     uint64_t xcomp) {
    if ((take | init) & XSTATE_CET_U) {
        bool is = take & XSTATE_CET_U;
        cpu->msr_u_cet = is ? cet_word(cpu, image, XSTATE_CET_U_NR, 0, xcomp) : 0;
        cpu->msr_pl_ssp[3] = is ? cet_word(cpu, image, XSTATE_CET_U_NR, 1, xcomp) : 0;
    }
    for (unsigned i = 0; (take | init) & XSTATE_CET_S && i < 3; i++)
        cpu->msr_pl_ssp[i] =
            take & XSTATE_CET_S ? cet_word(cpu, image, XSTATE_CET_S_NR, i, xcomp) : 0;
}

static void take_components(struct cpu *cpu, const struct insn *in, const uint8_t *image,
                            uint64_t take, uint64_t xcomp) {
    uint8_t *a = cpu->xsave;
    unsigned vec = vector_bytes(cpu);
    if (take & XSTATE_X87) {
        memcpy(a, image, FX_MXCSR);
        memcpy(a + FX_ST, image + FX_ST, FX_XMM - FX_ST);
        x87_take_pointers(cpu, in->opsize == 8);
        xstate_tidy_x87(cpu);
    }
    if (take & XSTATE_SSE)
        memcpy(a + FX_XMM, image + FX_XMM, vec);
    for (unsigned i = 0; i < XSAVE_PARTS; i++) {
        const struct xsave_part *p = &xsave_parts[i];
        if (take >> p->nr & 1)
            memcpy(a + p->at, image + offset_of(cpu, p->nr, xcomp), part_bytes(cpu, p));
    }
    if (take & XSTATE_PKRU)
        cpu->pkru = (uint32_t)xstate_get(image, offset_of(cpu, XSTATE_PKRU_NR, xcomp), 4);
}

/* Where MXCSR comes from. Return: false when its value is not allowed. */
static bool new_mxcsr(const struct cpu *cpu, const uint8_t *image, uint64_t rfbm,
                      uint64_t bv, uint64_t xcomp, uint32_t *mxcsr) {
    *mxcsr = (uint32_t)xstate_get(cpu->xsave, FX_MXCSR, 4);
    if (xcomp & COMPACT) {
        if (!(rfbm & XSTATE_SSE))
            return true;
        *mxcsr = MXCSR_INIT;
        if (!(bv & XSTATE_SSE))
            return true;
    } else if (!(rfbm & (XSTATE_SSE | XSTATE_AVX))) {
        return true;
    }
    *mxcsr = (uint32_t)xstate_get(image, FX_MXCSR, 4);
    return !(*mxcsr & ~MXCSR_MASK);
}

static void init_components(struct cpu *cpu, uint64_t init) {
    unsigned vec = vector_bytes(cpu);
    if (init & XSTATE_X87) {
        xstate_init(cpu, XSTATE_X87);
        x87_forget_pointers(cpu);
    }
    if (init & XSTATE_SSE)
        memset(cpu->xsave + FX_XMM, 0, vec);
    for (unsigned i = 0; i < XSAVE_PARTS; i++)
        if (init >> xsave_parts[i].nr & 1)
            memset(cpu->xsave + xsave_parts[i].at, 0, part_bytes(cpu, &xsave_parts[i]));
    if (init & XSTATE_PKRU)
        cpu->pkru = 0;
}

enum cpu_rc op_xrstor(struct cpu *cpu, const struct insn *in) {
    uint8_t image[AREA_MAX];
    uint64_t allowed = allowed_by(cpu, in), rfbm = allowed & edx_eax(cpu);
    uint32_t mxcsr, pkru = cpu->pkru;
    pn_gva lin;
    if (x_operand(cpu, in, XSAVE_EXTENDED, PN_READ, &lin) ||
        bulk_read(cpu, lin + XSAVE_HEADER, image + XSAVE_HEADER, HEADER_SIZE))
        return CPU_FAULT;
    if (!header_valid(cpu, image + XSAVE_HEADER, allowed, in->arg == CPU_F_xsaves))
        return gp0(cpu);
    uint64_t bv = xstate_get(image, XSAVE_HEADER, 8);
    uint64_t xcomp = xstate_get(image, XSAVE_HEADER + 8, 8);
    uint64_t take = rfbm & bv;
    unsigned size =
        cpu_xsave_size(cpu->model, xcomp & COMPACT ? xcomp : take, xcomp & COMPACT);
    if (bulk_read(cpu, lin, image, XSAVE_HEADER) ||
        bulk_read(cpu, lin + XSAVE_EXTENDED, image + XSAVE_EXTENDED,
                  size - XSAVE_EXTENDED))
        return CPU_FAULT;
    if (!new_mxcsr(cpu, image, rfbm, bv, xcomp, &mxcsr) ||
        !cet_valid(cpu, image, take, xcomp))
        return gp0(cpu);
    xstate_settle(cpu);
    take_components(cpu, in, image, take, xcomp);
    init_components(cpu, rfbm & ~bv);
    take_cet(cpu, image, take, rfbm & ~bv, xcomp);
    xstate_put(cpu->xsave, FX_MXCSR, 4, mxcsr);
    if (rfbm & XSTATE_X87)
        x87_tell_ferr(cpu);
    if (pkru != cpu->pkru)
        pn_mmu_set_pkr(cpu->vmmu, cpu->pkru, cpu->pkrs);
    return CPU_NEXT;
}
