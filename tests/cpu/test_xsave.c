/* SPDX-License-Identifier: MIT */
/*
 * Vector state: between memory and the host's registers, and through FXSAVE, XSAVE and
 * the x87 environment. Where the host has the same instruction, it is the oracle.
 */
#include <stdlib.h>
#include <string.h>

#include "cpu/xstate.h"
#include "fixture_sys.h"
#include "ops.h"
#include "tests/suite.h"

#define AREA 0x20000u

static struct sys *s;
static bool have;

static void setup(void) {
    s = sys_new("max");
    sys_long_mode(s);
    srand(3);
    have = cpu_has(s->cpu, CPU_F_xsave);
    if (!have)
        return;
    s->cpu->cr4 |= CR4_OSXSAVE | CR4_PKE;
    s->cpu->xcr0 = s->model->xcr0_valid;
    cpu_update_mode(s->cpu);
}
static void teardown(void) {
    sys_free(s);
}
#define NEED_XSAVE()                                                                     \
    if (!have) {                                                                         \
        printf("skipped: this host has no XSAVE\n");                                     \
        return;                                                                          \
    }

static enum cpu_rc run(enum cpu_rc (*op)(struct cpu *, const struct insn *), uint64_t at,
                       uint64_t mask) {
    struct insn in = sys_mem_insn(8, at);
    s->cpu->gpr[R_AX] = (uint32_t)mask;
    s->cpu->gpr[R_DX] = mask >> 32;
    return op(s->cpu, &in);
}

/* A state with every component in use; x87 stack partly full. */
static void random_state(struct cpu *cpu) {
    uint8_t *a = cpu->xsave;
    memset(a, 0, CPU_XSAVE_SIZE);
    for (unsigned i = FX_XMM; i < FX_LEGACY; i++)
        a[i] = (uint8_t)rand();
    bool wide = cpu->model->xcr0_valid & XSTATE_AVX512;
    for (unsigned i = XSAVE_AVX; i < (wide ? XSAVE_VECTOR_END : XSAVE_OPMASK); i++)
        a[i] = (uint8_t)rand();
    for (unsigned r = 0; r < 8; r++) {
        for (unsigned i = 0; i < 10; i++)
            a[FX_ST + 16 * r + i] = (uint8_t)rand();
        if (rand() % 4 == 0)
            memset(a + FX_ST + 16 * r, 0, 10);
        else
            a[FX_ST + 16 * r + 7] |= 0x80;
    }
    xstate_put(a, FX_FCW, 2, 0x340 | ((unsigned)rand() & 0xc3f));
    xstate_put(a, FX_FSW, 2, (unsigned)rand() & 0x7f40);
    xstate_put(a, FX_FTW, 1, (unsigned)rand());
    xstate_put(a, FX_MXCSR, 4, 0x1f80 | ((unsigned)rand() & 0x603f));
    xstate_put(a, XSAVE_HEADER, 8, cpu_model_vector(cpu->model));
    xstate_tidy_x87(cpu);
    cpu->pkru = ((uint32_t)rand() | 4) & ~3u; /* key 0 stays usable */
    pn_mmu_set_pkr(cpu->vmmu, cpu->pkru, 0);
}

/* Equal in all that the host keeps. */
static void same_state(const uint8_t *a, const uint8_t *b, bool avx) {
    ck_assert(!memcmp(a, b, FX_MASK));
    ck_assert(!memcmp(a + FX_ST, b + FX_ST, FX_LEGACY - FX_ST));
    if (avx) /* and AVX-512, which is 0 without it */
        ck_assert(!memcmp(a + XSAVE_AVX, b + XSAVE_AVX, XSAVE_VECTOR_END - XSAVE_AVX));
}

/* While the guest's state is live, the compiler's memset must not run. */
static void fill_without_sse(uint8_t *p, uint8_t v, size_t n) {
    __asm__ volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(v) : "memory");
}

static void survive(void) {
    uint8_t before[CPU_XSAVE_SIZE];
    struct cpu *cpu = s->cpu;
    for (unsigned i = 0; i < 2000; i++) {
        random_state(cpu);
        if (i % 3 == 0)
            xstate_put(cpu->xsave, XSAVE_HEADER, 8,
                       (unsigned)rand() & cpu_model_vector(s->model));
        if (i % 7 == 0) /* what a snapshot may hold: must not fault the host */
            memset(cpu->xsave + XSAVE_HEADER + 8, 0xff, 56);
        memcpy(before, cpu->xsave, sizeof(before));
        cpu_vec_load(cpu);
        fill_without_sse(cpu->xsave, 0xee, XSAVE_HEADER);
        fill_without_sse(cpu->xsave + XSAVE_AVX, 0xee,
                         s->model->host_xcr0 & XSTATE_AVX512
                             ? XSAVE_VECTOR_END - XSAVE_AVX
                             : XSAVE_AVX_SIZE);
        cpu_vec_save(cpu);
        ck_assert(!cpu->vec_live);
        xstate_settle(cpu);
        uint8_t after[CPU_XSAVE_SIZE];
        memcpy(after, cpu->xsave, sizeof(after));
        memcpy(cpu->xsave, before, sizeof(before));
        xstate_settle(cpu);
        same_state(after, cpu->xsave, s->model->host_xcr0 & XSTATE_AVX);
    }
}

START_TEST(vector_state_survives_the_hosts_registers) {
    survive();
}
END_TEST

/* As on a host whose standard format has other offsets than ours. */
START_TEST(vector_state_survives_the_hosts_compact_format) {
    if (!(s->model->host_xcr0 & XSTATE_AVX512)) {
        printf("skipped: this host has no AVX-512\n");
        return;
    }
    s->model->host_compact = true;
    survive();
}
END_TEST

/* XRSTOR faults at the bit of a component that XCR0 does not have. */
START_TEST(the_host_is_given_no_component_that_it_lacks) {
    NEED_XSAVE();
    s->model->host_xcr0 = XSTATE_X87 | XSTATE_SSE;
    random_state(s->cpu);
    cpu_vec_load(s->cpu);
    cpu_vec_save(s->cpu);
    ck_assert_uint_eq(xstate_get(s->cpu->xsave, XSAVE_HEADER, 8),
                      XSTATE_X87 | XSTATE_SSE);
}
END_TEST

START_TEST(fxsave_writes_what_the_host_writes) {
    static uint8_t host[512] __attribute__((aligned(16)));
    struct cpu *cpu = s->cpu;
    for (unsigned i = 0; i < 500; i++) {
        random_state(cpu);
        memset(s->ram + AREA, 0xaa, 512);
        memset(host, 0xaa, sizeof(host));
        cpu_vec_load(cpu);
        __asm__ volatile("fxsave64 %0" : "+m"(host));
        cpu_vec_save(cpu);
        ck_assert_int_eq(run(op_fxsave, AREA, 0), CPU_NEXT);
        memset(host + FX_FOP, 0, FX_MXCSR - FX_FOP);
        xstate_put(host, FX_MASK, 4, MXCSR_MASK);
        ck_assert(!memcmp(host, s->ram + AREA, 512));
        uint8_t kept[CPU_XSAVE_SIZE];
        memcpy(kept, cpu->xsave, sizeof(kept));
        random_state(cpu);
        ck_assert_int_eq(run(op_fxrstor, AREA, 0), CPU_NEXT);
        same_state(kept, cpu->xsave, false);
    }
    s->ram[AREA + FX_MXCSR + 2] = 1;
    assert_fault(s, run(op_fxrstor, AREA, 0), VEC_GP, 0);
    assert_fault(s, run(op_fxsave, AREA + 8, 0), VEC_GP, 0);
    /* 32-bit code leaves XMM8..15 alone. */
    cpu->seg[SEG_CS].attr = ATTR_P | ATTR_S | ATTR_DB | ATTR_G | 11;
    cpu_update_mode(cpu);
    memset(s->ram + AREA, 0x55, 512);
    ck_assert_int_eq(run(op_fxsave, AREA, 0), CPU_NEXT);
    ck_assert_uint_eq(s->ram[AREA + FX_XMM + 128], 0x55);
    cpu->cr0 |= CR0_TS;
    ck_assert_int_eq(run(op_fxsave, AREA, 0), CPU_FAULT);
    ck_assert_uint_eq(cpu->fault.vector, VEC_NM);
}
END_TEST

START_TEST(xsave_and_xrstor_keep_the_standard_format) {
    NEED_XSAVE();
    struct cpu *cpu = s->cpu;
    uint64_t all = cpu->xcr0;
    uint8_t *a = s->ram + AREA;
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t mask = (uint64_t)rand() & 0x2ff, use = (uint64_t)rand() & 0xe7;
        if (i % 4 == 0)
            mask = ~UINT64_C(0);
        random_state(cpu);
        xstate_init(cpu, use);
        uint32_t pkru = cpu->pkru;
        uint64_t inuse = (~use & CPU_VEC_MASK & all) | XSTATE_PKRU;
        ck_assert_uint_eq(cpu_xinuse(cpu) & all, inuse & all);
        memset(a, 0, 4096);
        xstate_put(a, XSAVE_HEADER, 8, 5);
        uint8_t kept[CPU_XSAVE_SIZE];
        memcpy(kept, cpu->xsave, sizeof(kept));
        bool opt = i % 2;
        ck_assert_int_eq(run(opt ? op_xsaveopt : op_xsave_full, AREA, mask), CPU_NEXT);
        uint64_t rfbm = mask & all;
        ck_assert_uint_eq(xstate_get(a, XSAVE_HEADER, 8), (5 & ~rfbm) | (rfbm & inuse));
        if (rfbm != all)
            continue;
        random_state(cpu);
        ck_assert_int_eq(run(op_xrstor_user, AREA, ~UINT64_C(0)), CPU_NEXT);
        same_state(kept, cpu->xsave, true);
        ck_assert_uint_eq(cpu->pkru, pkru);
    }
}
END_TEST

START_TEST(xsavec_and_xrstors_keep_the_compact_format) {
    NEED_XSAVE();
    struct cpu *cpu = s->cpu;
    uint64_t all = cpu->xcr0;
    uint8_t *a = s->ram + AREA;
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t mask = (uint64_t)rand() & 0x2e7 & all, use = (uint64_t)rand() & 0xe7;
        random_state(cpu);
        xstate_init(cpu, use);
        uint32_t pkru = cpu->pkru;
        memset(a, 0, 4096);
        uint8_t kept[CPU_XSAVE_SIZE];
        memcpy(kept, cpu->xsave, sizeof(kept));
        ck_assert_int_eq(run(i % 2 ? op_xsaves : op_xsave_compact, AREA, mask), CPU_NEXT);
        ck_assert_uint_eq(xstate_get(a, XSAVE_HEADER + 8, 8), mask | UINT64_C(1) << 63);
        if (mask & XSTATE_PKRU) {
            uint32_t at =
                576 + (mask & XSTATE_AVX ? 256 : 0) + (mask & XSTATE_OPMASK ? 64 : 0) +
                (mask & XSTATE_ZMM_HI ? 512 : 0) + (mask & XSTATE_HI16 ? 1024 : 0);
            ck_assert_uint_eq(xstate_get(a, at, 8), pkru);
        }
        random_state(cpu);
        uint32_t other = cpu->pkru;
        uint8_t fresh[CPU_XSAVE_SIZE];
        memcpy(fresh, cpu->xsave, sizeof(fresh));
        ck_assert_int_eq(run(i % 2 ? op_xrstors : op_xrstor_user, AREA, mask), CPU_NEXT);
        const uint8_t *x87 = mask & 1 ? kept : fresh, *sse = mask & 2 ? kept : fresh;
        ck_assert(!memcmp(cpu->xsave, x87, FX_MXCSR));
        ck_assert(!memcmp(cpu->xsave + FX_ST, x87 + FX_ST, 128));
        ck_assert(!memcmp(cpu->xsave + FX_XMM, sse + FX_XMM, 256));
        ck_assert(!memcmp(cpu->xsave + FX_MXCSR, sse + FX_MXCSR, 4));
        for (unsigned k = 0; k < XSAVE_PARTS; k++) {
            const struct xsave_part *p = &xsave_parts[k];
            const uint8_t *from = mask >> p->nr & 1 ? kept : fresh;
            ck_assert(!memcmp(cpu->xsave + p->at, from + p->at, p->size));
        }
        ck_assert_uint_eq(cpu->pkru, mask & XSTATE_PKRU ? pkru : other);
    }
}
END_TEST

START_TEST(xrstor_refuses_a_bad_header) {
    NEED_XSAVE();
    uint8_t *a = s->ram + AREA, *h = a + XSAVE_HEADER;
    const uint64_t all = ~UINT64_C(0);
    random_state(s->cpu);
    ck_assert_int_eq(run(op_xsave_full, AREA, all), CPU_NEXT);
    ck_assert_int_eq(run(op_xrstor_user, AREA, all), CPU_NEXT);
    assert_fault(s, run(op_xrstor_user, AREA + 16, all), VEC_GP, 0);
    assert_fault(s, run(op_xrstors, AREA, all), VEC_GP, 0); /* not compact */
    h[1] |= 0x40;
    assert_fault(s, run(op_xrstor_user, AREA, all), VEC_GP,
                 0); /* XSTATE_BV beyond XCR0 */
    h[1] &= ~0x40;
    h[8] = 1;
    assert_fault(s, run(op_xrstor_user, AREA, all), VEC_GP, 0); /* XCOMP_BV not 0 */
    h[8] = 0, h[20] = 1;
    assert_fault(s, run(op_xrstor_user, AREA, all), VEC_GP, 0);
    h[20] = 0, h[30] = 1; /* ignored in the standard format */
    ck_assert_int_eq(run(op_xrstor_user, AREA, all), CPU_NEXT);
    h[30] = 0, h[15] = 0x80;
    assert_fault(s, run(op_xrstor_user, AREA, all), VEC_GP, 0); /* BV not within XCOMP */
    h[15] = 0, a[FX_MXCSR + 3] = 1;
    assert_fault(s, run(op_xrstor_user, AREA, all), VEC_GP, 0);
    assert_fault(s, run(op_xrstor_user, AREA, XSTATE_AVX), VEC_GP, 0);
    ck_assert_int_eq(run(op_xrstor_user, AREA, XSTATE_X87), CPU_NEXT);
    /* Nothing is written when the second page faults. */
    sys_map(s, (AREA >> 12) + 1, 0, 0);
    memset(a, 0x33, 0x1000);
    assert_fault(s, run(op_xsave_full, AREA + 0xfc0, all), VEC_PF, PN_PF_WRITE);
    assert_fault(s, run(op_xsave_compact, AREA + 0xd00, all), VEC_PF, PN_PF_WRITE);
    for (unsigned i = 0; i < 0x1000; i++)
        ck_assert_uint_eq(a[i], 0x33);
    s->cpu->cr0 |= CR0_TS;
    ck_assert_int_eq(run(op_xsave_full, AREA, all), CPU_FAULT);
    ck_assert_uint_eq(s->cpu->fault.vector, VEC_NM);
    s->cpu->cr4 &= ~(uint64_t)CR4_OSXSAVE;
    ck_assert_int_eq(run(op_xsave_full, AREA, all), CPU_FAULT);
    ck_assert_uint_eq(s->cpu->fault.vector, VEC_UD);
}
END_TEST

START_TEST(fnsave_and_fnstenv_write_what_the_host_writes) {
    static uint8_t host[108];
    struct cpu *cpu = s->cpu;
    struct insn in = sys_mem_insn(4, AREA);
    for (unsigned i = 0; i < 500; i++) {
        random_state(cpu);
        memset(host, 0, sizeof(host));
        cpu_vec_load(cpu);
        __asm__ volatile("fnsave %0" : "+m"(host));
        cpu_vec_save(cpu);
        uint8_t saved[CPU_XSAVE_SIZE];
        memcpy(saved, cpu->xsave, sizeof(saved));
        random_state(cpu);
        /* Take the host's image, give it back, and its environment. */
        memset(host + 12, 0, 12);
        memset(host + 24, 0, 2);
        memcpy(s->ram + AREA, host, 108);
        ck_assert_int_eq(op_frstor(cpu, &in), CPU_NEXT);
        memset(s->ram + AREA, 0, 108);
        uint8_t full[CPU_XSAVE_SIZE];
        memcpy(full, cpu->xsave, sizeof(full));
        ck_assert_int_eq(op_fnsave(cpu, &in), CPU_NEXT);
        ck_assert(!memcmp(s->ram + AREA, host, 108));
        ck_assert_uint_eq(xstate_get(cpu->xsave, FX_FCW, 8), FCW_INIT);
        /* FLDENV with that environment and FNINIT's registers gives the same state. */
        ck_assert_int_eq(op_fldenv(cpu, &in), CPU_NEXT);
        ck_assert(!memcmp(cpu->xsave, full, FX_MXCSR));
        ck_assert(!memcmp(cpu->xsave + FX_ST, full + FX_ST, 128));
        ck_assert_int_eq(op_fnstenv(cpu, &in), CPU_NEXT);
        ck_assert(!memcmp(s->ram + AREA, host, 28));
        ck_assert_uint_eq(xstate_get(cpu->xsave, FX_FCW, 2) & 0x3f, 0x3f);
    }
}
END_TEST

START_TEST(ldmxcsr_refuses_reserved_bits) {
    uint32_t v = 0x9fc0;
    struct insn in = sys_mem_insn(4, AREA);
    memcpy(s->ram + AREA, &v, 4);
    ck_assert_int_eq(op_ldmxcsr(s->cpu, &in), CPU_NEXT);
    in.disp += 4;
    ck_assert_int_eq(op_stmxcsr(s->cpu, &in), CPU_NEXT);
    ck_assert(!memcmp(s->ram + AREA, s->ram + AREA + 4, 4));
    s->ram[AREA + 6] = 1;
    assert_fault(s, op_ldmxcsr(s->cpu, &in), VEC_GP, 0);
    s->cpu->cr4 &= ~(uint64_t)CR4_OSFXSR;
    ck_assert_int_eq(op_stmxcsr(s->cpu, &in), CPU_FAULT);
    ck_assert_uint_eq(s->cpu->fault.vector, VEC_UD);
}
END_TEST

START_TEST(xsetbv_refuses_impossible_components) {
    NEED_XSAVE();
    struct insn in = sys_insn(4, 8);
    struct cpu *cpu = s->cpu;
    static const uint64_t bad[] = {0,    2,    6,    0x10, 0x18, 0x27,
                                   0x47, 0x67, 0xa7, 0xe3, 0xef, UINT64_C(1) << 62 | 3};
    cpu->gpr[R_CX] = 0;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        set_edx_eax(cpu, bad[i]);
        assert_fault(s, op_xsetbv(cpu, &in), VEC_GP, 0);
    }
    set_edx_eax(cpu, 0xe7);
    if (cpu_has(cpu, CPU_F_avx512f))
        ck_assert_int_eq(op_xsetbv(cpu, &in), CPU_STOP);
    else
        assert_fault(s, op_xsetbv(cpu, &in), VEC_GP, 0);
    set_edx_eax(cpu, 3);
    ck_assert_int_eq(op_xsetbv(cpu, &in), CPU_STOP);
    ck_assert_int_eq(op_xgetbv(cpu, &in), CPU_NEXT);
    ck_assert_uint_eq(cpu->gpr[R_AX], 3);
    cpu->gpr[R_CX] = 2;
    assert_fault(s, op_xgetbv(cpu, &in), VEC_GP, 0);
    /* PKRU through its own instructions. */
    cpu->gpr[R_CX] = 0;
    set_edx_eax(cpu, 0x55555554);
    ck_assert_int_eq(op_wrpkru(cpu, &in), CPU_NEXT);
    ck_assert_int_eq(op_rdpkru(cpu, &in), CPU_NEXT);
    ck_assert_uint_eq(cpu->gpr[R_AX], 0x55555554);
    cpu->gpr[R_DX] = 1;
    assert_fault(s, op_wrpkru(cpu, &in), VEC_GP, 0);
}
END_TEST

/* How often a store asked the MMU for an MMIO page. */
static uint64_t asked(void) {
    return s->stats.v[PN_STAT_pf_mmio] + s->stats.v[PN_STAT_pf_mmio_spte];
}

/* An instruction is one access to a page, however many parts it stores there. */
START_TEST(a_save_asks_once_for_a_page_that_is_no_plain_memory) {
    NEED_XSAVE();
    random_state(s->cpu);
    sys_map(s, 0x30, SYS_MMIO >> 12, 7);
    ck_assert_int_eq(run(op_fxsave, 0x30000, 0), CPU_NEXT);
    ck_assert_uint_eq(asked(), 1);
    ck_assert_uint_eq(s->mmio_writes, FX_LEGACY / 8);
    ck_assert_int_eq(run(op_xsave_full, 0x30000, 3), CPU_NEXT);
    ck_assert_uint_eq(asked(), 3); /* it reads XSTATE_BV, too */
    ck_assert_uint_eq(s->mmio_reads, 1);
    ck_assert_int_eq(pn_mmu_track_add(s->cpu->mmu, AREA >> 12), 0);
    ck_assert_int_eq(run(op_fxsave, AREA, 0), CPU_NEXT);
    ck_assert_uint_eq(s->tracked, 1);
    ck_assert_uint_eq(s->stats.v[PN_STAT_code_stores], 1);
    ck_assert_int_eq(run(op_xsave_full, AREA, 3), CPU_NEXT);
    ck_assert_uint_eq(s->tracked, 3); /* the registers, and the header */
}
END_TEST

/* Over two pages, each plain (0), with code (1), MMIO (2) or not there (3). */
START_TEST(a_save_over_two_pages_stores_all_or_nothing_whatever_they_are) {
    NEED_XSAVE();
    unsigned kind[2] = {(unsigned)_i % 4, (unsigned)_i / 4};
    uint8_t *want = s->ram + AREA, *got = s->ram + AREA + 0x2000 - 0x240;
    random_state(s->cpu);
    memset(s->ram + AREA, 0x55, 0x3000);
    memset(want + XSAVE_HEADER, 0, 64);
    memset(got + XSAVE_HEADER, 0, 64);
    ck_assert_int_eq(run(op_xsave_full, AREA, s->cpu->xcr0), CPU_NEXT);
    for (unsigned i = 0; i < 2; i++) {
        unsigned page = (AREA >> 12) + 1 + i;
        if (kind[i] == 1)
            ck_assert_int_eq(pn_mmu_track_add(s->cpu->mmu, page), 0);
        if (kind[i] >= 2)
            sys_map(s, page, SYS_MMIO >> 12, kind[i] == 2 ? 7 : 0);
    }
    memset(&s->stats, 0, sizeof(s->stats));
    bool faults = kind[0] == 3 || kind[1] == 3;
    ck_assert_int_eq(run(op_xsave_full, AREA + 0x2000 - 0x240, s->cpu->xcr0),
                     faults ? CPU_FAULT : CPU_NEXT);
    for (unsigned i = 0; i < 0x1000; i++)
        if (got + i < s->ram + AREA + 0x3000 && (i < XSAVE_HEADER || i >= XSAVE_EXTENDED))
            ck_assert_uint_eq(got[i], faults || kind[i >= 0x240] == 2 ? 0x55 : want[i]);
    ck_assert_uint_eq(s->mmio_writes > 0, !faults && (kind[0] == 2 || kind[1] == 2));
    ck_assert_uint_eq(s->tracked > 0, !faults && (kind[0] == 1 || kind[1] == 1));
    ck_assert_uint_le(asked(), 2u * (kind[0] == 2) + (kind[1] == 2)); /* and its header */
}
END_TEST

SUITE("xsave", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {vector_state_survives_the_hosts_registers,
                vector_state_survives_the_hosts_compact_format,
                the_host_is_given_no_component_that_it_lacks,
                fxsave_writes_what_the_host_writes,
                xsave_and_xrstor_keep_the_standard_format,
                xsavec_and_xrstors_keep_the_compact_format, xrstor_refuses_a_bad_header,
                fnsave_and_fnstenv_write_what_the_host_writes,
                ldmxcsr_refuses_reserved_bits, xsetbv_refuses_impossible_components,
                a_save_asks_once_for_a_page_that_is_no_plain_memory},
      .loops = {{a_save_over_two_pages_stores_all_or_nothing_whatever_they_are, 16}})
