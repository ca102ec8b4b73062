/* SPDX-License-Identifier: MIT */
/*
 * AVX-512 and memory, against this host's own CPU: how much of it an instruction accesses,
 * and which elements may fault. SDM volume 2, "Fault Suppression" and "VPSCATTERDD": an
 * element that the mask does not choose is not accessed; the elements of a scatter below the
 * one that faults are stored, and their part of the mask is clear.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/decode.h"
#include "cpu/model.h"
#include "cpu/system.h"
#include "cpu/xstate.h"
#include "fixture_guest.h"
#include "fixture_native.h"
#include "tests/suite.h"

#define CODE_AT  0x100000u
#define DATA_AT  0x200000u /* one page; the next two are absent */
#define DATA_END (GUEST_BASE + DATA_AT + 4096)
#define CASES    6000u

static const struct guest_options options[] = {
    {.kind = PN_MMU_SHADOW},
    {.kind = PN_MMU_SHADOW, .max_block = 1},
    {.kind = PN_MMU_TDP},
    {.kind = PN_MMU_TDP, .max_block = 1},
};
#define OPTIONS ((int)(sizeof options / sizeof *options))

static struct guest g;

static uint8_t *host_data(void) {
    return (uint8_t *)(GUEST_BASE + DATA_AT); /* NOLINT: mapped there */
}

/* Return: false where the host has no AVX-512. */
static bool begin(const struct guest_options *opt) {
    void *code = (void *)(GUEST_BASE + CODE_AT), *data = host_data();
    int prot = PROT_READ | PROT_WRITE | PROT_EXEC;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    guest_create(&g, opt);
    if (!cpu_has(g.cpu, CPU_F_avx512f)) {
        printf("skipped: this host has no AVX-512\n");
        guest_destroy(&g);
        return false;
    }
    guest_idt(&g);
    guest_gpte(&g, DATA_END, 0);
    guest_gpte(&g, DATA_END + 0x1000, 0);
    ck_assert(native_init(g.model->host_xcr0, 0));
    ck_assert_ptr_eq(mmap(code, 4096, prot, flags, -1, 0), code);
    ck_assert_ptr_eq(mmap(data, 4096, prot, flags, -1, 0), data);
    ck_assert_ptr_eq(mmap(host_data() + 4096, 8192, PROT_NONE, flags, -1, 0),
                     host_data() + 4096);
    return true;
}

static void put_code(const uint8_t *code, unsigned n) {
    memcpy((void *)(GUEST_BASE + CODE_AT), code, n);
    pn_mmu_write_phys(g.mmu, CODE_AT, code, n);
}

static void on_host(const uint8_t *xsave, uint64_t rbx) {
    memset(NATIVE->gpr, 0, sizeof NATIVE->gpr);
    NATIVE->gpr[R_BX] = rbx;
    NATIVE->gpr[R_SP] = GUEST_BASE + DATA_AT + 0x800;
    NATIVE->rip = GUEST_BASE + CODE_AT;
    NATIVE->rflags = 2;
    memcpy(NATIVE->xsave, xsave, sizeof NATIVE->xsave);
    native_run();
}

static void empty_xsave(uint8_t *x) {
    memset(x, 0, CPU_XSAVE_SIZE);
    xstate_put(x, FX_FCW, 2, FCW_INIT);
    xstate_put(x, FX_MXCSR, 4, MXCSR_INIT);
    xstate_put(x, XSAVE_HEADER, 8, cpu_model_vector(g.model));
}

/* ---- Sizes ---- */

/* An encoding with its memory operand at RBX. Return: its length. */
static unsigned make_encoding(uint8_t *code, unsigned n, bool evex) {
    unsigned op = n & 255, map = 1 + (n >> 8 & 3) % 3, pp = n >> 10 & 3, w = n >> 12 & 1;
    unsigned l = n >> 13 & 3, b = n >> 15 & 1, reg = n >> 16 & 7, i = 0;
    if (evex) {
        code[i++] = 0x62;
        code[i++] = (uint8_t)(0xf0 | map);
        code[i++] = (uint8_t)(w << 7 | 0x7c | pp);
        code[i++] = (uint8_t)(l << 5 | b << 4 | 8);
    } else {
        code[i++] = 0xc4;
        code[i++] = (uint8_t)(0xe0 | map);
        code[i++] = (uint8_t)(w << 7 | 0x78 | (l & 1) << 2 | pp);
    }
    code[i++] = (uint8_t)op;
    code[i++] = (uint8_t)(reg << 3 | 3);
    memset(code + i, 0, 4);
    return i;
}

static void check_size(struct decoder *dc, unsigned n, bool evex, const uint8_t *xsave,
                       unsigned *checked) {
    uint8_t code[24];
    struct dec d;
    unsigned len = make_encoding(code, n, evex);
    code[2] = (uint8_t)(evex || !(n & 1) ? code[2] : code[2] & ~0x78u);
    if (decode(dc, code, sizeof code, GUEST_BASE + CODE_AT, g.cpu->mode, &d) ||
        d.sh->cls != CLS_PLAIN || !(d.sh->flags & SH_MEM))
        return;
    ++*checked;
    code[len + d.sh->imm_len] = 0xcc;
    put_code(code, sizeof code);
    on_host(xsave, DATA_END - d.sh->mem_size);
    ck_assert_msg(NATIVE->trap == VEC_BP || NATIVE->trap == VEC_XM,
                  "%x of %s: %u bytes are too few: vector %lu", n, evex ? "EVEX" : "VEX",
                  d.sh->mem_size, NATIVE->trap);
    on_host(xsave, DATA_END - d.sh->mem_size + 1);
    ck_assert_msg(NATIVE->trap == VEC_PF ||
                      (d.sh->flags & SH_ALIGN && NATIVE->trap == VEC_GP),
                  "%x of %s: %u bytes are too many: vector %lu", n, evex ? "EVEX" : "VEX",
                  d.sh->mem_size, NATIVE->trap);
}

/* What is taken for smaller than it is would reach beyond a page of the guest's. */
START_TEST(no_operand_is_larger_than_its_shape_says) {
    static uint8_t xsave[CPU_XSAVE_SIZE];
    unsigned checked[2] = {0, 0};
    if (!begin(&options[0]))
        return;
    empty_xsave(xsave);
    struct decoder *dc = decoder_create(g.model);
    for (unsigned n = 0; n < 1u << 19; n++) {
        unsigned op = n & 255, reg = n >> 16 & 7;
        if ((n >> 8 & 3) == 3 || (reg != 1 && (op < 0x71 || op > 0x73)))
            continue;
        check_size(dc, n, true, xsave, &checked[1]);
        if (n >> 14 & 3)
            continue;
        check_size(dc, n, false, xsave, &checked[0]);
        decoder_trim(dc);
    }
    ck_assert_uint_gt(checked[0], 300);
    ck_assert_uint_gt(checked[1], 1500);
    decoder_destroy(dc);
    guest_destroy(&g);
}
END_TEST

/* ---- Masks ---- */

/* EVEX with k1 and, as its vectors, ZMM0 and ZMM17; VSIB: ZMM2. */
static const struct {
    const char *name;
    uint8_t code[8], n;
    bool vsib;
} masked[] = {
    {"vmovdqu8 zmm0{k1}, [rbx]", {0x62, 0xf1, 0x7f, 0x49, 0x6f, 0x03}, 6, false},
    {"vmovdqu8 [rbx]{k1}, zmm0", {0x62, 0xf1, 0x7f, 0x49, 0x7f, 0x03}, 6, false},
    {"vmovdqu32 zmm0{k1}{z}, [rbx]", {0x62, 0xf1, 0x7e, 0xc9, 0x6f, 0x03}, 6, false},
    {"vmovdqu32 [rbx]{k1}, zmm17", {0x62, 0xe1, 0x7e, 0x49, 0x7f, 0x0b}, 6, false},
    {"vmovups ymm17{k1}, [rbx]", {0x62, 0xe1, 0x7c, 0x29, 0x10, 0x0b}, 6, false},
    {"vmovupd [rbx]{k1}, xmm0", {0x62, 0xf1, 0xfd, 0x09, 0x11, 0x03}, 6, false},
    {"vaddps zmm0{k1}, zmm17, [rbx]", {0x62, 0xf1, 0x74, 0x41, 0x58, 0x03}, 6, false},
    {"vaddps zmm0{k1}, zmm17, [rbx]{1to16}",
     {0x62, 0xf1, 0x74, 0x51, 0x58, 0x03},
     6,
     false},
    {"vmovss xmm0{k1}, [rbx]", {0x62, 0xf1, 0x7e, 0x09, 0x10, 0x03}, 6, false},
    {"vmovsd [rbx]{k1}, xmm17", {0x62, 0xe1, 0xff, 0x09, 0x11, 0x0b}, 6, false},
    {"vpcompressd [rbx]{k1}, zmm0", {0x62, 0xf2, 0x7d, 0x49, 0x8b, 0x03}, 6, false},
    {"vpexpandd zmm0{k1}, [rbx]", {0x62, 0xf2, 0x7d, 0x49, 0x89, 0x03}, 6, false},
    {"vpmovdb [rbx]{k1}, zmm0", {0x62, 0xf2, 0x7e, 0x49, 0x31, 0x03}, 6, false},
    {"vpmovzxbd zmm0{k1}, [rbx]", {0x62, 0xf2, 0x7d, 0x49, 0x31, 0x03}, 6, false},
    {"vcvtps2pd zmm0{k1}, [rbx]", {0x62, 0xf1, 0x7c, 0x49, 0x5a, 0x03}, 6, false},
    {"vcvtpd2ps xmm0{k1}, [rbx]", {0x62, 0xf1, 0xfd, 0x09, 0x5a, 0x03}, 6, false},
    {"vbroadcastf32x4 zmm0{k1}, [rbx]", {0x62, 0xf2, 0x7d, 0x49, 0x1a, 0x03}, 6, false},
    {"vpermd zmm0{k1}, zmm17, [rbx]", {0x62, 0xf2, 0x75, 0x41, 0x36, 0x03}, 6, false},
    {"vpcmpd k2{k1}, zmm0, [rbx], 1", {0x62, 0xf3, 0x7d, 0x49, 0x1f, 0x13, 1}, 7, false},
    {"vmovaps zmm0{k1}, [rbx]", {0x62, 0xf1, 0x7c, 0x49, 0x28, 0x03}, 6, false},
    {"vmovaps [rbx]{k1}, xmm0", {0x62, 0xf1, 0x7c, 0x09, 0x29, 0x03}, 6, false},
    {"kmovd k2, r11d", {0xc4, 0xc1, 0x7b, 0x92, 0xd3}, 5, false},
    {"kmovq k2, [rbx]", {0xc4, 0xe1, 0xf8, 0x90, 0x13}, 5, false},
    {"kmovd [rbx], k1", {0xc4, 0xe1, 0xf9, 0x91, 0x0b}, 5, false},
    {"vpgatherdd zmm0{k1}, [rbx+4*zmm2]",
     {0x62, 0xf2, 0x7d, 0x49, 0x90, 0x04, 0x93},
     7,
     true},
    {"vgatherqps ymm0{k1}, [rbx+4*zmm2]",
     {0x62, 0xf2, 0x7d, 0x49, 0x93, 0x04, 0x93},
     7,
     true},
    {"vpgatherdd ymm0{k1}, [rbx+4*ymm2]",
     {0x62, 0xf2, 0x7d, 0x29, 0x90, 0x04, 0x93},
     7,
     true},
    {"vpgatherdd xmm0{k1}, [rbx+4*xmm2]",
     {0x62, 0xf2, 0x7d, 0x09, 0x90, 0x04, 0x93},
     7,
     true},
    {"vgatherqps xmm0{k1}, [rbx+4*ymm2]",
     {0x62, 0xf2, 0x7d, 0x29, 0x93, 0x04, 0x93},
     7,
     true},
    {"vpgatherdd ymm0, [rbx+4*ymm2], ymm1",
     {0xc4, 0xe2, 0x75, 0x90, 0x04, 0x93},
     6,
     true},
    {"vpgatherdd xmm0, [rbx+4*xmm2], xmm1",
     {0xc4, 0xe2, 0x71, 0x90, 0x04, 0x93},
     6,
     true},
    {"vpscatterdd [rbx+4*zmm2]{k1}, zmm0",
     {0x62, 0xf2, 0x7d, 0x49, 0xa0, 0x04, 0x93},
     7,
     true},
    {"vscatterqpd [rbx+4*xmm2]{k1}, xmm17",
     {0x62, 0xe2, 0xfd, 0x09, 0xa3, 0x0c, 0x93},
     7,
     true},
};
#define MASKED (sizeof masked / sizeof *masked)

struct result {
    uint64_t trap, error, cr2;
    uint8_t xsave[XSAVE_VECTOR_END - FX_XMM]; /* from XMM0 on */
    uint8_t memory[4096];
};

/* Small numbers in single and double precision, whatever reads them; K1 at random; indices
 * that lead to the end of the page. */
static void random_state(uint8_t *x, uint8_t *memory) {
    empty_xsave(x);
    for (unsigned i = FX_XMM; i < XSAVE_VECTOR_END; i++)
        if (i < FX_LEGACY || i >= XSAVE_AVX)
            x[i] = (uint8_t)((unsigned)rand() % 4 + 0x3c);
    for (unsigned i = 0; i < 4096; i++)
        memory[i] = (uint8_t)((unsigned)rand() % 4 + 0x3c);
    for (unsigned i = 0; i < 16; i += 4) /* a mask of VEX */
        x[FX_XMM + 16 + i + 3] = x[XSAVE_AVX + 16 + i + 3] = rand() % 2 ? 0xbc : 0x3c;
    uint64_t k = (uint64_t)rand() << 40 ^ (uint64_t)rand() << 20 ^ (uint64_t)rand();
    for (unsigned n = (unsigned)rand() % 3; n; n--)
        k &= (uint64_t)rand() << 33 ^ (uint64_t)rand();
    xstate_put(x, XSAVE_OPMASK + 8, 8, rand() % 8 ? k : 0);
    for (unsigned i = 0; i < 64; i += 8) {
        uint8_t *lane = i < 16   ? x + FX_XMM + 32 + i
                        : i < 32 ? x + XSAVE_AVX + 32 + i - 16
                                 : x + XSAVE_ZMM_HI + 64 + i - 32;
        uint64_t v = (uint64_t)rand() % 20;
        memcpy(lane, &v, 8);
    }
}

static void take(struct result *r, const uint8_t *xsave, const uint8_t *memory) {
    memcpy(r->xsave, xsave + FX_XMM, sizeof r->xsave);
    memset(r->xsave + FX_LEGACY - FX_XMM, 0, XSAVE_EXTENDED - FX_LEGACY);
    memcpy(r->memory, memory, 4096);
}

static void host_result(const uint8_t *x, const uint8_t *memory, uint64_t rbx,
                        struct result *r) {
    memcpy(host_data(), memory, 4096);
    on_host(x, rbx);
    *r = (struct result){.trap = NATIVE->trap};
    r->cr2 = r->trap == VEC_PF ? NATIVE->cr2 : 0;
    r->error = r->trap == VEC_PF ? NATIVE->error & 0xffff : 0;
    take(r, NATIVE->xsave, host_data());
}

/* From XMM0 on: where a register's parts are, they differ. */
static void print(const struct result *got, const struct result *want) {
    for (unsigned i = 0; i < sizeof got->xsave; i += 16) {
        if (!memcmp(got->xsave + i, want->xsave + i, 16))
            continue;
        fprintf(stderr, "xsave %u:", FX_XMM + i);
        for (unsigned k = i; k < i + 16; k++)
            fprintf(stderr, " %02x%s%02x", got->xsave[k],
                    got->xsave[k] == want->xsave[k] ? "=" : "!", want->xsave[k]);
        fputc('\n', stderr);
    }
}

static void guest_result(const uint8_t *x, const uint8_t *memory, uint64_t rbx,
                         struct result *r) {
    struct cpu *cpu = g.cpu;
    uint64_t rip, flags, rsp;
    guest_user(&g);
    memset(cpu->gpr, 0, sizeof cpu->gpr);
    cpu->gpr[R_BX] = rbx;
    guest_start(&g, GUEST_BASE + CODE_AT, GUEST_BASE + DATA_AT + 0x800);
    cpu_set_rflags(cpu, 2);
    memcpy(cpu->xsave, x, CPU_XSAVE_SIZE);
    pn_mmu_write_phys(g.mmu, DATA_AT, memory, 4096);
    ck_assert_int_eq(cpu_run(cpu, cpu_insns(cpu) + 1000), CPU_EXIT_HALT);
    memset(r, 0, sizeof *r);
    guest_trapped(&g, &r->trap, &r->error, &rip, &flags, &rsp);
    r->cr2 = r->trap == VEC_PF ? cpu->cr2 : 0;
    xstate_settle(cpu);
    take(r, cpu->xsave, g.ram + DATA_AT);
}

START_TEST(a_masked_operand_ends_as_on_the_host) {
    static uint8_t x[CPU_XSAVE_SIZE], memory[4096];
    static struct result got, want;
    unsigned faults = 0;
    srand(9);
    if (!begin(&options[_i]))
        return;
    for (unsigned n = 0; n < CASES; n++) {
        unsigned i = n % MASKED;
        uint8_t code[9];
        memcpy(code, masked[i].code, masked[i].n);
        code[masked[i].n] = 0xcc;
        put_code(code, masked[i].n + 1u);
        random_state(x, memory);
        /* VSIB: the middle of the indices is the end of the page. */
        uint64_t rbx = DATA_END - (masked[i].vsib ? 40 : (unsigned)rand() % 72);
        host_result(x, memory, rbx, &want);
        guest_result(x, memory, rbx, &got);
        const char *name = masked[i].name;
        ck_assert_msg(got.trap == want.trap && got.error == want.error,
                      "%s: vector %lu %lu", name, got.trap, want.trap);
        ck_assert_msg(got.cr2 == want.cr2, "%s: cr2 %lx %lx", name, got.cr2, want.cr2);
        ck_assert_msg(!memcmp(got.memory, want.memory, 4096), "%s: memory", name);
        print(&got, &want);
        ck_assert_msg(!memcmp(got.xsave, want.xsave, sizeof got.xsave), "%s: registers",
                      name);
        faults += got.trap == VEC_PF;
    }
    ck_assert_uint_gt(faults, CASES / 8);
    ck_assert_uint_lt(faults, CASES - CASES / 8);
    guest_destroy(&g);
}
END_TEST

/* ---- Where it is off ---- */

START_TEST(avx512_is_undefined_until_xcr0_enables_it) {
    static const uint8_t vpaddd[] = {0x62, 0xf1, 0x7d, 0x48, 0xfe, 0xc0, 0xcc};
    uint64_t vector, error, rip, flags, rsp;
    if (!begin(&options[_i]))
        return;
    put_code(vpaddd, sizeof vpaddd);
    for (unsigned i = 0; i < 4; i++) {
        struct cpu *cpu = g.cpu;
        cpu->xcr0 = i == 1 ? 7 : CPU_VEC_MASK;
        cpu->cr0 = i == 2 ? cpu->cr0 | CR0_TS : cpu->cr0 & ~(uint64_t)CR0_TS;
        cpu->cr4 = i == 3 ? cpu->cr4 & ~(uint64_t)CR4_OSXSAVE : cpu->cr4 | CR4_OSXSAVE;
        guest_user(&g);
        guest_start(&g, GUEST_BASE + CODE_AT, GUEST_BASE + DATA_AT + 0x800);
        cpu_set_rflags(cpu, 2);
        cpu_update_mode(cpu);
        uint32_t mode = cpu->mode;
        mode_ring_changed(cpu); /* as SYSRET does: all that depends on XCR0 is kept */
        ck_assert_uint_eq(cpu->mode, mode);
        ck_assert_int_eq(cpu_run(cpu, cpu_insns(cpu) + 1000), CPU_EXIT_HALT);
        guest_trapped(&g, &vector, &error, &rip, &flags, &rsp);
        ck_assert_uint_eq(vector, i == 0 ? VEC_BP : i == 2 ? VEC_NM : VEC_UD);
    }
    guest_destroy(&g);
}
END_TEST

SUITE("evex", .timeout = 300, .tests = {no_operand_is_larger_than_its_shape_says},
      .loops = {{a_masked_operand_ends_as_on_the_host, OPTIONS},
                {avx512_is_undefined_until_xcr0_enables_it, OPTIONS}})
