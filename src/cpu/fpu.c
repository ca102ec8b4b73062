/* SPDX-License-Identifier: MIT */
/*
 * Guest vector and x87 state between the host's registers and cpu->xsave.
 *
 * Invariants
 * 1. At rest (!vec_live) the state is in cpu->xsave, standard format: the components that
 *    XSTATE_BV names have their value there, the others their initial state, whatever is there; MXCSR
 *    always counts, MXCSR_MASK never. XCOMP_BV is 0. Where the host's standard format has other offsets, its
 *    compacted one stands there while the host reads or writes it.
 * 2. FOP, FIP and FDP are 0 in cpu->xsave: the host would give addresses of translated
 *    code. The guest's own are in cpu->x87 (x87env.c).
 * 3. What the host is given can never fault: header and MXCSR are made valid before.
 * 4. After a save the host's registers are what the C ABI asks for.
 */
#include "cpu/xstate.h"

static const uint32_t host_mxcsr = MXCSR_INIT;

/* Between these two the vector registers are the guest's: no compiler may use them. */
#define NO_VECTOR __attribute__((target("general-regs-only")))

static NO_VECTOR bool all_zero(const uint8_t *p, unsigned size) {
    uint64_t any = 0;
    for (unsigned i = 0; i < size; i += 8) {
        uint64_t v;
        memcpy(&v, p + i, 8);
        any |= v;
    }
    return any == 0;
}

/* ---- The host's side ---- */

static void make_valid(struct cpu *cpu) {
    uint64_t can = cpu->model->host_xcr0 ? cpu->model->host_xcr0 : CPU_VEC_MASK;
    uint64_t bv = xstate_get(cpu->xsave, XSAVE_HEADER, 8) & can;
    uint64_t mxcsr = xstate_get(cpu->xsave, FX_MXCSR, 4) & MXCSR_MASK;
    memset(cpu->xsave + XSAVE_HEADER, 0, XSAVE_EXTENDED - XSAVE_HEADER);
    if (cpu->model->host_compact) {
        if (!(bv & XSTATE_SSE) && mxcsr != MXCSR_INIT) { /* it comes with SSE only */
            xstate_init(cpu, XSTATE_SSE);
            bv |= XSTATE_SSE;
        }
        xstate_put(cpu->xsave, XSAVE_HEADER + 8, 8, XSAVE_COMPACT | can);
    }
    xstate_put(cpu->xsave, XSAVE_HEADER, 8, bv);
    xstate_put(cpu->xsave, FX_MXCSR, 4, mxcsr);
}

/* ---- SSE state alone ----
 * XSAVE and XRSTOR take some hundred cycles, also for the sixteen registers that most code
 * uses. Those go by plain moves while all else is in its initial state, here and in the host. */

/* Is nothing but SSE state in use in the host's registers? */
static NO_VECTOR bool host_sse_alone(const struct cpu_model *m) {
    uint32_t lo, hi;
    if (!m->host_tells)
        return false;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(1));
    return !(lo & m->host_xcr0 & ~(uint64_t)XSTATE_SSE);
}

/* x87 state is as after FNINIT. */
static NO_VECTOR bool x87_initial(const uint8_t *a) {
    return xstate_get(a, FX_FCW, 8) == FCW_INIT &&
           all_zero(a + FX_FIP, FX_MXCSR - FX_FIP) && all_zero(a + FX_ST, FX_XMM - FX_ST);
}

/* Is nothing but SSE state in use in cpu->xsave? It forgets names of what is in its initial state. */
static NO_VECTOR bool rest_sse_alone(struct cpu *cpu) {
    const uint8_t *a = cpu->xsave;
    uint64_t bv = xstate_get(a, XSAVE_HEADER, 8) & cpu->model->host_xcr0;
    if (!(bv & XSTATE_SSE))
        return false;
    if (bv == XSTATE_SSE)
        return true;
    if (bv & XSTATE_X87 && x87_initial(a))
        bv &= ~(uint64_t)XSTATE_X87;
    for (unsigned i = 0; i < XSAVE_PARTS; i++)
        if (bv >> xsave_parts[i].nr & 1 &&
            all_zero(a + xsave_parts[i].at, xsave_parts[i].size))
            bv &= ~(UINT64_C(1) << xsave_parts[i].nr);
    xstate_put(cpu->xsave, XSAVE_HEADER, 8, bv);
    return bv == XSTATE_SSE;
}

/* All sixteen, by MOVE(n), where %[xmm] is cpu->xsave + FX_XMM. */
#define EACH_XMM(move)                                                                   \
    move(0) move(1) move(2) move(3) move(4) move(5) move(6) move(7) move(8) move(9)      \
        move(10) move(11) move(12) move(13) move(14) move(15)
#define XMM_LOAD(n)  "movaps 16*" #n "(%[xmm]), %%xmm" #n "\n\t"
#define XMM_STORE(n) "movaps %%xmm" #n ", 16*" #n "(%[xmm])\n\t"

static NO_VECTOR void sse_load(struct cpu *cpu) {
    uint32_t mxcsr = (uint32_t)xstate_get(cpu->xsave, FX_MXCSR, 4) & MXCSR_MASK;
    __asm__ volatile(EACH_XMM(XMM_LOAD) "ldmxcsr %[mxcsr]"
                     :
                     : [xmm] "r"(cpu->xsave + FX_XMM), [mxcsr] "m"(mxcsr)
                     : "memory");
}

static NO_VECTOR void sse_save(struct cpu *cpu) {
    uint32_t mxcsr;
    __asm__ volatile(EACH_XMM(XMM_STORE) "stmxcsr %[mxcsr]\n\tldmxcsr %[host]"
                     : [mxcsr] "=m"(mxcsr)
                     : [xmm] "r"(cpu->xsave + FX_XMM), [host] "m"(host_mxcsr)
                     : "memory");
    xstate_put(cpu->xsave, FX_MXCSR, 4, mxcsr);
    xstate_put(cpu->xsave, XSAVE_HEADER, 8, XSTATE_SSE);
}

NO_VECTOR void cpu_vec_load(struct cpu *cpu) {
    uint32_t mask = (uint32_t)cpu->model->host_xcr0;
    if (cpu->vec_live)
        return;
    cpu->vec_live = 1;
    if (rest_sse_alone(cpu) && host_sse_alone(cpu->model)) {
        sse_load(cpu);
        return;
    }
    make_valid(cpu);
    if (mask) {
        __asm__ volatile("xrstor64 %0" : : "m"(cpu->xsave), "a"(mask), "d"(0) : "memory");
    } else {
        xstate_settle(cpu);
        __asm__ volatile("fxrstor64 %0" : : "m"(cpu->xsave) : "memory");
    }
}

/* XSAVEC writes no component that is in its initial state, and MXCSR with SSE only. */
static NO_VECTOR uint64_t save_compact(struct cpu *cpu, uint32_t mask) {
    __asm__ volatile("xsavec64 %0" : "+m"(cpu->xsave) : "a"(mask), "d"(0) : "memory");
    uint64_t bv = xstate_get(cpu->xsave, XSAVE_HEADER, 8);
    xstate_put(cpu->xsave, XSAVE_HEADER + 8, 8, 0);
    if (!(bv & XSTATE_SSE))
        xstate_put(cpu->xsave, FX_MXCSR, 4, MXCSR_INIT);
    return bv;
}

NO_VECTOR void cpu_vec_save(struct cpu *cpu) {
    uint32_t mask = (uint32_t)cpu->model->host_xcr0;
    uint64_t bv = XSTATE_X87 | XSTATE_SSE;
    if (!cpu->vec_live)
        return;
    cpu->vec_live = 0;
    if (host_sse_alone(cpu->model)) {
        sse_save(cpu);
        return;
    }
    if (cpu->model->host_compact) {
        bv = save_compact(cpu, mask);
    } else if (mask) {
        __asm__ volatile("xsave64 %0" : "+m"(cpu->xsave) : "a"(mask), "d"(0) : "memory");
        bv = xstate_get(cpu->xsave, XSAVE_HEADER, 8);
    } else {
        __asm__ volatile("fxsave64 %0" : "+m"(cpu->xsave) : : "memory");
        xstate_put(cpu->xsave, XSAVE_HEADER, 8, bv);
    }
    if (bv & XSTATE_X87) {
        x87_drop_pointers(cpu);
        __asm__ volatile("fninit");
    }
    if (bv & (XSTATE_AVX | XSTATE_AVX512))
        __asm__ volatile("vzeroupper");
    __asm__ volatile("ldmxcsr %0" : : "m"(host_mxcsr));
}

/* ---- The state at rest ---- */

void xstate_init(struct cpu *cpu, uint64_t mask) {
    if (mask & XSTATE_X87) {
        memset(cpu->xsave, 0, FX_MXCSR);
        memset(cpu->xsave + FX_ST, 0, FX_XMM - FX_ST);
        xstate_put(cpu->xsave, FX_FCW, 2, FCW_INIT);
    }
    if (mask & XSTATE_SSE)
        memset(cpu->xsave + FX_XMM, 0, FX_LEGACY - FX_XMM);
    for (unsigned i = 0; i < XSAVE_PARTS; i++)
        if (mask >> xsave_parts[i].nr & 1)
            memset(cpu->xsave + xsave_parts[i].at, 0, xsave_parts[i].size);
}

void xstate_settle(struct cpu *cpu) {
    uint64_t all = cpu_model_vector(cpu->model);
    xstate_init(cpu, all & ~xstate_get(cpu->xsave, XSAVE_HEADER, 8));
    xstate_put(cpu->xsave, XSAVE_HEADER, 8, all);
}

void xstate_tidy_x87(struct cpu *cpu) {
    uint8_t *a = cpu->xsave;
    uint64_t fcw = (xstate_get(a, FX_FCW, 2) & 0x1f3f) | 0x40;
    uint64_t fsw = xstate_get(a, FX_FSW, 2) & ~(uint64_t)(FSW_ES | FSW_B);
    if (fsw & ~fcw & 0x3f)
        fsw |= FSW_ES | FSW_B;
    xstate_put(a, FX_FCW, 2, fcw);
    xstate_put(a, FX_FSW, 2, fsw);
    a[FX_FTW + 1] = 0;
    x87_drop_pointers(cpu);
    for (unsigned i = 0; i < 8; i++)
        memset(a + FX_ST + 16 * i + 10, 0, 6);
}

uint64_t cpu_xinuse(struct cpu *cpu) {
    const uint8_t *a = cpu->xsave;
    uint64_t inuse = 0;
    xstate_settle(cpu);
    x87_put_pointers(cpu, true); /* as XSAVE would */
    if (!x87_initial(a))
        inuse |= XSTATE_X87;
    x87_drop_pointers(cpu);
    if (!all_zero(a + FX_XMM, FX_LEGACY - FX_XMM))
        inuse |= XSTATE_SSE;
    for (unsigned i = 0; i < XSAVE_PARTS; i++)
        if (!all_zero(a + xsave_parts[i].at, xsave_parts[i].size))
            inuse |= UINT64_C(1) << xsave_parts[i].nr;
    if (!mode_64(cpu)) /* ZMM16..31 are in 64-bit mode only */
        inuse &= ~XSTATE_HI16;
    if (cpu->pkru)
        inuse |= XSTATE_PKRU;
    if (cpu->msr_u_cet | cpu->msr_pl_ssp[3])
        inuse |= XSTATE_CET_U;
    if (cpu->msr_pl_ssp[0] | cpu->msr_pl_ssp[1] | cpu->msr_pl_ssp[2])
        inuse |= XSTATE_CET_S;
    return inuse;
}
