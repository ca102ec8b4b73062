/* SPDX-License-Identifier: MIT */
/*
 * Single instructions of ring 3 that tests/diff has found to end otherwise than on
 * processors: one row each, with what is right on both vendors' and its source. "Seen":
 * there is no word in the manuals, but AMD's family 1Ah does so.
 */
#include <string.h>

#include "cpu/control.h"
#include "cpu/model.h"
#include "cpu/xstate.h"
#include "fixture_guest.h"
#include "tests/suite.h"

#define CODE_AT 0x100000u
#define START   0x100u    /* in the page, which is full of INT3 */
#define DATA_AT 0x300000u /* one page; the next one is absent */
#define DATA    (GUEST_BASE + DATA_AT)
#define NEXT    (DATA + 0x1000)
#define ODD     UINT64_C(0x8000000000000001) /* neither canonical nor aligned */

static const struct guest_options options[] = {
    {.kind = PN_MMU_SHADOW},
    {.kind = PN_MMU_SHADOW, .max_block = 1},
    {.kind = PN_MMU_TDP},
    {.kind = PN_MMU_TDP, .max_block = 1},
};
#define OPTIONS ((int)(sizeof options / sizeof *options))

static const char *const model[] = {
    [CPU_INTEL] = "max,vendor=intel", [CPU_AMD] = "max,vendor=amd"};

static struct guest g;

/* What is expected: vector, error code, RIP in the code page, CR2. */
struct end {
    uint64_t trap, error, rip, cr2;
};
#define DONE(n)                                                                          \
    { VEC_BP, 0, START + (n) + 1, 0 }
#define FAULT(v, error)                                                                  \
    { v, error, START, 0 }
#define PAGE(error, at)                                                                  \
    { VEC_PF, error, START, at }

struct row {
    const char *name;
    uint8_t code[16], n;
    uint64_t rbx, flags;
    struct end by[2];
    uint64_t rsp; /* 0: in the middle of the data */
};

/* #AC. SDM volume 3, "Alignment Check Exception", table "Alignment Requirements by Data
 * Type": a double quadword 16, a 32-bit far pointer 2, x87 environments as the operand is
 * wide. */
static const struct row alignment[] = {
    {"an SSE operand that must be aligned is #GP (volume 2, \"MOVAPS\")",
     {0x0f, 0x56, 0x03},
     3,
     DATA + 8,
     FL_AC,
     {FAULT(VEC_GP, 0), FAULT(VEC_GP, 0)},
     0},
    {"it is #GP before it is no canonical one in SS (seen)",
     {0x48, 0x89, 0xdd, 0x0f, 0x56, 0x45, 0x00},
     7,
     ODD,
     0,
     {{VEC_GP, 0, START + 3, 0}, {VEC_GP, 0, START + 3, 0}},
     0},
    {"movups",
     {0x0f, 0x10, 0x03},
     3,
     DATA + 8,
     FL_AC,
     {FAULT(VEC_AC, 0), FAULT(VEC_AC, 0)},
     0},
    {"fldenv", {0xd9, 0x23}, 2, DATA + 0x84, FL_AC, {DONE(2), DONE(2)}, 0},
    {"fldenv of 16 bits",
     {0x66, 0xd9, 0x23},
     3,
     DATA + 0x82,
     FL_AC,
     {DONE(3), DONE(3)},
     0},
    {"sgdt", {0x0f, 0x01, 0x03}, 3, DATA + 6, FL_AC, {DONE(3), DONE(3)}, 0},
    {"sgdt's base (volume 3, \"Segment Descriptor Tables\")",
     {0x0f, 0x01, 0x03},
     3,
     DATA,
     FL_AC,
     {FAULT(VEC_AC, 0), FAULT(VEC_AC, 0)},
     0},
    {"lfs of two words",
     {0x66, 0x0f, 0xb4, 0x03},
     4,
     DATA + 0x82,
     FL_AC,
     {DONE(4), DONE(4)},
     0},
    {"pop fs",
     {0x0f, 0xa1},
     2,
     0,
     FL_AC,
     {FAULT(VEC_AC, 0), FAULT(VEC_AC, 0)},
     DATA + 0x82},
    {"xsave (volume 2, \"XSAVE\")",
     {0x0f, 0xae, 0x23},
     3,
     ODD,
     FL_AC,
     {FAULT(VEC_GP, 0), FAULT(VEC_GP, 0)},
     0},
    {"fxsave (volume 2, \"FXSAVE\"; seen)",
     {0x0f, 0xae, 0x03},
     3,
     DATA + 8,
     FL_AC,
     {FAULT(VEC_GP, 0), FAULT(VEC_GP, 0)},
     0},
};

static const struct row vectors[] = {
    {"vmovups ymm at a double quadword",
     {0xc5, 0xfc, 0x10, 0x03},
     4,
     DATA + 16,
     FL_AC,
     {DONE(4), DONE(4)},
     0},
    {"vmaskmovps (volume 2, \"VMASKMOV\"; AMD: seen)",
     {0xc4, 0xe2, 0x71, 0x2c, 0x03},
     5,
     DATA + 4,
     FL_AC,
     {FAULT(VEC_AC, 0), DONE(5)},
     0},
    {"vmaskmovpd that reaches into an absent page",
     {0xc4, 0xe2, 0x79, 0x2f, 0x03},
     5,
     NEXT - 8,
     0,
     {PAGE(6, NEXT), PAGE(6, NEXT)},
     0},
    {"a gather (volume 2, \"VGATHERDPD\"; AMD: seen)",
     {0xc4, 0xe2, 0x79, 0x90, 0x14, 0x0b},
     6,
     DATA + 2,
     FL_AC,
     {FAULT(VEC_AC, 0), PAGE(4, NEXT + 2)},
     0},
};

static const struct row others[] = {
    {"fxsave's last bytes, which it does not write (seen)",
     {0x0f, 0xae, 0x03},
     3,
     NEXT - 0x1a0,
     0,
     {PAGE(6, NEXT), PAGE(6, NEXT)},
     0},
    {"maskmovq faults as one piece",
     {0x48, 0x89, 0xdf, 0x0f, 0xf7, 0xc1},
     6,
     NEXT - 4,
     0,
     {{VEC_PF, 6, START + 3, NEXT}, {VEC_PF, 6, START + 3, NEXT}},
     0},
    {"pop fs reads a word (KVM's emulator); all of it (seen)",
     {0x0f, 0xa1},
     2,
     0,
     0,
     {DONE(2), PAGE(4, NEXT)},
     NEXT - 2},
    {"REX.W makes a far pointer wider on Intel's alone",
     {0x48, 0x0f, 0xb4, 0x03},
     4,
     DATA + 0x80,
     0,
     {FAULT(VEC_GP, 0x1230), DONE(4)},
     0},
    {"mov rax, dr8",
     {0x44, 0x0f, 0x21, 0xc0},
     4,
     0,
     0,
     {FAULT(VEC_UD, 0), FAULT(VEC_UD, 0)},
     0},
    {"mov rax, dr0 after it",
     {0x0f, 0x21, 0xc0},
     3,
     0,
     0,
     {FAULT(VEC_GP, 0), FAULT(VEC_GP, 0)},
     0},
    {"mov rax, cr12",
     {0x44, 0x0f, 0x20, 0xe0},
     4,
     0,
     0,
     {FAULT(VEC_UD, 0), FAULT(VEC_UD, 0)},
     0},
    {"mov rax, cr4 after it",
     {0x0f, 0x20, 0xe0},
     3,
     0,
     0,
     {FAULT(VEC_GP, 0), FAULT(VEC_GP, 0)},
     0},
    {"16 bytes (volume 3, \"General Protection Exception\")",
     {0xf3, 0xf3, 0xf3, 0xf3, 0xf3, 0xf3, 0xf3, 0xf3, 0xf3, 0xf3, 0xf3, 0x35},
     12,
     0,
     0,
     {FAULT(VEC_GP, 0), FAULT(VEC_GP, 0)},
     0},
    {"the same instruction in 6",
     {0xf3, 0x35, 0, 0, 0, 0},
     6,
     0,
     0,
     {DONE(6), DONE(6)},
     0},
    {"66 before jmp [rbx] reads a word on AMD's (APM volume 3, \"JMP (Near)\")",
     {0x66, 0xff, 0x23},
     3,
     DATA + 0x82,
     FL_AC,
     {FAULT(VEC_AC, 0), {VEC_PF, 0x14, -(GUEST_BASE + CODE_AT), 0}},
     0},
};

/* 32-bit code. RBX is EBX, and EBP, too. */
static const struct row legacy[] = {
    {"an operand across 4 GiB: #GP on AMD's (seen)",
     {0x8b, 0x03},
     2,
     0xffffffff,
     0,
     {PAGE(4, 0xffffffff), FAULT(VEC_GP, 0)},
     0},
    {"in SS it is #SS",
     {0x8b, 0x45, 0x00},
     3,
     0xffffffff,
     0,
     {PAGE(4, 0xffffffff), FAULT(VEC_SS, 0)},
     0},
    {"leave pops across 4 GiB",
     {0xc9},
     1,
     0xfffffffe,
     0,
     {PAGE(4, 0xfffffffe), FAULT(VEC_SS, 0)},
     0},
    {"a far pointer's offset is read before its selector is looked at (seen)",
     {0xc4, 0x03},
     2,
     0xfffffffb,
     0,
     {PAGE(4, 0xfffffffb), PAGE(4, 0xfffffffb)},
     0},
    {"an 80-bit operand's mantissa comes before its exponent (seen)",
     {0xdb, 0x2b},
     2,
     0xfffffff8,
     0,
     {PAGE(4, 0xfffffff8), PAGE(4, 0xfffffff8)},
     0},
    {"a mantissa across 4 GiB",
     {0xdb, 0x3b},
     2,
     0xfffffff9,
     0,
     {PAGE(6, 0xfffffff9), FAULT(VEC_GP, 0)},
     0},
    {"pop ds looks at the segment before the alignment (seen)",
     {0x1f},
     1,
     0,
     FL_AC,
     {FAULT(VEC_AC, 0), FAULT(VEC_SS, 0)},
     0xffffffff},
    {"bound's two words are aligned each for itself (seen)",
     {0x62, 0x0b},
     2,
     DATA + 0x84,
     FL_AC,
     {DONE(2), DONE(2)},
     0},
    {"bound",
     {0x62, 0x0b},
     2,
     DATA + 0x82,
     FL_AC,
     {FAULT(VEC_AC, 0), FAULT(VEC_AC, 0)},
     0},
};

static const struct row legacy_vectors[] = {
    {"an element of vmaskmovps across 4 GiB (seen)",
     {0xc4, 0xe2, 0x79, 0x2c, 0x13},
     5,
     0xffffffff,
     0,
     {PAGE(4, 0xffffffff), FAULT(VEC_GP, 0)},
     0},
    {"an element of vmaskmovps beyond them (seen)",
     {0xc4, 0xe2, 0x79, 0x2e, 0x03},
     5,
     0xfffffffc,
     0,
     {PAGE(6, 0xfffffffc), PAGE(6, 0xfffffffc)},
     0},
    {"or edx, -1; vpcmpestri with VEX.W has EDX's length (volume 2, \"PCMPESTRI\"); jz",
     {0x83, 0xca, 0xff, 0xc4, 0xe3, 0xf9, 0x61, 0xdd, 0x97, 0x74, 0x01},
     11,
     DATA,
     0,
     {DONE(12), DONE(12)},
     0},
    {"mov edi, ebx; maskmovdqu across 4 GiB with its second half (seen)",
     {0x89, 0xdf, 0x66, 0x0f, 0xf7, 0xef},
     6,
     0xfffffff1,
     0,
     {{VEC_PF, 6, START + 2, 0xfffffff1}, {VEC_PF, 6, START + 2, 0xfffffff1}},
     0},
    {"with its first half (seen)",
     {0x89, 0xdf, 0x66, 0x0f, 0xf7, 0xef},
     6,
     0xfffffff9,
     0,
     {{VEC_PF, 6, START + 2, 0xfffffff9}, {VEC_GP, 0, START + 2, 0}},
     0},
    {"vpextrd with VEX.W (volume 2, \"PEXTRD\"; AMD: seen)",
     {0xc4, 0xe3, 0xf9, 0x16, 0x03, 0x00},
     6,
     DATA,
     0,
     {DONE(6), FAULT(VEC_UD, 0)},
     0},
    {"vpinsrd with VEX.W",
     {0xc4, 0xe3, 0xf9, 0x22, 0xc3, 0x00},
     6,
     DATA,
     0,
     {DONE(6), FAULT(VEC_UD, 0)},
     0},
    {"vmovd with VEX.W stores four bytes (volume 2, \"MOVD\")",
     {0xc4, 0xe1, 0xf9, 0x7e, 0x03},
     5,
     NEXT - 4,
     0,
     {DONE(5), DONE(5)},
     0},
    {"vcvtsi2sd with VEX.W reads four (volume 2, \"CVTSI2SD\")",
     {0xc4, 0xe1, 0xfb, 0x2a, 0x03},
     5,
     NEXT - 4,
     0,
     {DONE(5), DONE(5)},
     0},
};

/* XMM0: ones, as a mask and as a source. XMM1: indices 0, 1000h, 0, 0. */
static void set_vectors(struct cpu *cpu) {
    memset(cpu->xsave, 0, 1024);
    xstate_put(cpu->xsave, FX_FCW, 2, FCW_INIT);
    xstate_put(cpu->xsave, FX_MXCSR, 4, MXCSR_INIT);
    memset(cpu->xsave + FX_XMM, 0xff, 16);
    xstate_put(cpu->xsave, FX_XMM + 20, 4, 0x1000);
    xstate_put(cpu->xsave, XSAVE_HEADER, 8, XSTATE_X87 | XSTATE_SSE);
    if (cpu_has(cpu, CPU_F_avx)) {
        memset(cpu->xsave + XSAVE_AVX, 0x5a, 256);
        xstate_put(cpu->xsave, XSAVE_HEADER, 8, XSTATE_X87 | XSTATE_SSE | XSTATE_AVX);
    }
}

/* At DATA + 80h: null selectors at 2 and 4, 1230h at 8. */
static void set_data(void) {
    memset(g.ram + DATA_AT, 0, 4096);
    xstate_put(g.ram + DATA_AT, 0x88, 2, 0x1230);
}

static void begin(const struct guest_options *opt, int vendor) {
    struct guest_options o = *opt;
    o.model = model[vendor];
    guest_create(&g, &o);
    guest_idt(&g);
    guest_gpte(&g, NEXT, 0);
    g.cpu->cr0 |= CR0_AM;
}

static void put_code(const uint8_t *code, unsigned n) {
    uint8_t page[4096];
    memset(page, 0xcc, sizeof page);
    memcpy(page + START, code, n);
    pn_mmu_write_phys(g.mmu, CODE_AT, page, sizeof page);
}

/* Attributes of CS. */
#define CODE64 0xa0fbu
#define CODE32 0xc0fbu

/* Run to the next event. Return: RFLAGS there. */
static uint64_t run_in(unsigned cs, const uint8_t *code, unsigned n, uint64_t rbx,
                       uint64_t rsp, uint64_t flags, struct end *e) {
    uint64_t rflags, sp;
    put_code(code, n);
    set_data();
    guest_user(&g);
    g.cpu->seg[SEG_CS].attr = cs;
    g.cpu->gpr[R_BX] = rbx;
    if (cs == CODE32)
        g.cpu->gpr[R_BP] = rbx;
    guest_start(&g, GUEST_BASE + CODE_AT + START, rsp ? rsp : DATA + 0x800);
    set_vectors(g.cpu);
    cpu_set_rflags(g.cpu, 2 | flags);
    cpu_update_mode(g.cpu);
    ck_assert_int_eq(cpu_run(g.cpu, cpu_insns(g.cpu) + 1000), CPU_EXIT_HALT);
    guest_trapped(&g, &e->trap, &e->error, &e->rip, &rflags, &sp);
    e->rip -= GUEST_BASE + CODE_AT;
    e->cr2 = e->trap == VEC_PF ? g.cpu->cr2 : 0;
    return rflags;
}

static uint64_t run(const uint8_t *code, unsigned n, uint64_t rbx, uint64_t rsp,
                    uint64_t flags, struct end *e) {
    return run_in(CODE64, code, n, rbx, rsp, flags, e);
}

/* Run code of 32 bits. Return: the vector. */
static uint64_t run32(const uint8_t *code, unsigned n) {
    struct end e;
    run_in(CODE32, code, n, 0, 0, 0, &e);
    return e.trap;
}

static void check_rows(unsigned cs, const struct row *rows, unsigned n, int loop) {
    int vendor = loop & 1;
    begin(&options[loop >> 1], vendor);
    for (unsigned i = 0; i < n; i++) {
        const struct row *r = &rows[i];
        struct end e;
        run_in(cs, r->code, r->n, r->rbx, r->rsp, r->flags, &e);
        ck_assert_msg(!memcmp(&e, &r->by[vendor], sizeof e),
                      "%s: vector %d error %x rip %x cr2 %llx", r->name, (int)e.trap,
                      (unsigned)e.error, (unsigned)e.rip, (unsigned long long)e.cr2);
    }
    guest_destroy(&g);
}
#define COUNT(a) (unsigned)(sizeof(a) / sizeof((a)[0]))

START_TEST(alignment_is_checked_by_the_type_of_the_data) {
    check_rows(CODE64, alignment, COUNT(alignment), _i);
}
END_TEST

START_TEST(vector_operands_are_aligned_as_processors_ask) {
    if (__builtin_cpu_supports("avx"))
        check_rows(CODE64, vectors, COUNT(vectors), _i);
}
END_TEST

START_TEST(single_instructions_end_as_on_processors) {
    check_rows(CODE64, others, COUNT(others), _i);
}
END_TEST

START_TEST(instructions_of_32_bit_code_end_as_on_processors) {
    check_rows(CODE32, legacy, COUNT(legacy), _i);
    if (__builtin_cpu_supports("avx"))
        check_rows(CODE32, legacy_vectors, COUNT(legacy_vectors), _i);
}
END_TEST

/* SDM volume 2, "VZEROUPPER", "VZEROALL": of eight registers outside 64-bit mode. */
START_TEST(vzeroupper_of_32_bit_code_leaves_the_upper_eight_registers) {
    begin(&options[_i], CPU_INTEL);
    if (cpu_has(g.cpu, CPU_F_avx)) {
        for (unsigned all = 0; all < 2; all++) {
            const uint8_t *x = g.cpu->xsave;
            ck_assert_uint_eq(
                run32((uint8_t[]){0xc5, (uint8_t)(0xf8 | all << 2), 0x77}, 3), VEC_BP);
            xstate_settle(g.cpu);
            for (unsigned i = 0; i < 32; i++)
                ck_assert_uint_eq(xstate_get(x, XSAVE_AVX + 8 * i, 8),
                                  i < 16 ? 0 : UINT64_C(0x5a5a5a5a5a5a5a5a));
            ck_assert_uint_eq(xstate_get(x, FX_XMM, 8), all ? 0 : ~UINT64_C(0));
        }
    }
    guest_destroy(&g);
}
END_TEST

/* SDM volume 2, "BLENDVPD": "in 32-bit mode imm8[7] is ignored". XMM0 is the mask, XMM5 and
 * XMM0 are the sources. */
START_TEST(an_immediate_of_32_bit_code_names_one_of_eight_registers) {
    begin(&options[_i], CPU_INTEL);
    if (cpu_has(g.cpu, CPU_F_avx)) {
        ck_assert_uint_eq(run32((uint8_t[]){0xc4, 0xe3, 0x51, 0x4c, 0xf0, 0x80}, 6),
                          VEC_BP);
        xstate_settle(g.cpu);
        ck_assert_uint_eq(xstate_get(g.cpu->xsave, FX_XMM + 6 * 16, 8), ~UINT64_C(0));
    }
    guest_destroy(&g);
}
END_TEST

/* PUSH ES: SDM volume 2, "PUSH"; AMD: seen. POPA: seen. */
START_TEST(the_stack_of_32_bit_code_is_the_vendors) {
    for (int vendor = 0; vendor < 2; vendor++) {
        struct end e;
        begin(&options[_i], vendor);
        run_in(CODE32, (uint8_t[]){0x6a, 0xff, 0x58, 0x06}, 4, 0, 0, 0, &e);
        ck_assert_uint_eq(e.trap, VEC_BP);
        ck_assert_uint_eq(xstate_get(g.ram + DATA_AT, 0x7fc, 4),
                          vendor == CPU_AMD ? 0x23 : 0xffff0023);
        g.cpu->gpr[R_DI] = 0x1111;
        run_in(CODE32, (uint8_t[]){0x61}, 1, 0x2222, NEXT - 8, 0, &e);
        ck_assert_uint_eq(e.trap, VEC_PF);
        ck_assert_uint_eq(g.cpu->gpr[R_DI], vendor == CPU_AMD ? 0 : 0x1111);
        ck_assert_uint_eq(g.cpu->gpr[R_BP], 0x2222);
        guest_destroy(&g);
    }
}
END_TEST

/* The element at the end of the canonical addresses lies beyond them with its last bytes: #GP,
 * and before the mask has chosen what would be a page fault (seen). */
START_TEST(an_element_across_the_end_of_the_addresses_is_gp) {
    struct end e;
    begin(&options[_i], CPU_AMD);
    if (cpu_has(g.cpu, CPU_F_avx512f) && cpu_has(g.cpu, CPU_F_avx512vl)) {
        /* VPADDD XMM0 {K1}, XMM0, [RBX], whose K1 KXNORW fills. */
        static const uint8_t code[] = {0xc5, 0xf4, 0x46, 0xc9, 0x62,
                                       0xf1, 0x7d, 0x09, 0xfe, 0x03};
        run(code, sizeof code, UINT64_C(0x7fffffffffff), 0, 0, &e);
        ck_assert_uint_eq(e.trap, VEC_GP);
        run(code, sizeof code, UINT64_C(0x7ffffffffffc), 0, 0, &e);
        ck_assert_uint_eq(e.trap, VEC_PF);
        run_in(CODE32, code, sizeof code, 0xfffffffc, 0, 0, &e);
        ck_assert_uint_eq(e.trap, VEC_PF);
        run_in(CODE32, code, sizeof code, 0xfffffffd, 0, 0, &e);
        ck_assert_uint_eq(e.trap, VEC_GP);
    }
    guest_destroy(&g);
}
END_TEST

/* SDM volume 2, "VMASKMOV": an exception leaves nothing half done here; seen. */
START_TEST(a_masked_store_that_faults_stores_nothing) {
    struct end e;
    begin(&options[_i], CPU_AMD);
    g.cpu->gpr[R_DI] = 0;
    run((uint8_t[]){0x66, 0x0f, 0xf7, 0xc0}, 4, 0, 0, 0, &e);
    ck_assert_uint_eq(e.trap, VEC_PF);
    if (cpu_has(g.cpu, CPU_F_avx)) {
        run(vectors[2].code, vectors[2].n, vectors[2].rbx, 0, 0, &e);
        ck_assert_uint_eq(xstate_get(g.ram + DATA_AT, 4096 - 8, 8), 0);
    }
    guest_destroy(&g);
}
END_TEST

/* APM volume 3, "LEAVE": with 66 BP is popped, and RSP is RBP and two. */
START_TEST(leave_with_66_pops_bp) {
    struct end e;
    begin(&options[_i], CPU_INTEL);
    g.cpu->gpr[R_BP] = DATA + 0x88;
    run((uint8_t[]){0x66, 0xc9, 0x90}, 3, 0, 0, 0, &e);
    ck_assert_uint_eq(e.trap, VEC_BP);
    ck_assert_uint_eq(g.cpu->gpr[R_BP], ((DATA + 0x88) & ~UINT64_C(0xffff)) | 0x1230);
    guest_destroy(&g);
}
END_TEST

/* VMOVSLDUP has no second source: vvvv is 1111b, all four bits, or it is undefined (SDM
 * volume 2, "VEX.vvvv"), although 32-bit code has only eight registers. */
START_TEST(an_undefined_vvvv_in_32_bit_code_is_its_own_encoding) {
    begin(&options[_i], CPU_INTEL);
    if (cpu_has(g.cpu, CPU_F_avx)) {
        ck_assert_uint_eq(run32((uint8_t[]){0xc4, 0xe1, 0x3e, 0x12, 0xc1}, 5), VEC_UD);
        ck_assert_uint_eq(run32((uint8_t[]){0xc4, 0xe1, 0x7e, 0x12, 0xc1}, 5), VEC_BP);
    }
    guest_destroy(&g);
}
END_TEST

/* SDM volume 2, "LAR": bits 19:16 are undefined; processors leave the limit's in. */
START_TEST(lar_keeps_the_limits_upper_bits) {
    struct end e;
    begin(&options[_i], CPU_INTEL);
    run((uint8_t[]){0x0f, 0x02, 0xc3}, 3, 0x23, 0, 0, &e);
    ck_assert_uint_eq(g.cpu->gpr[R_AX], 0xcff300);
    guest_destroy(&g);
}
END_TEST

/* SDM volume 3, "Resume Flag"; AMD: seen. */
START_TEST(a_step_within_a_string_instruction_has_rf_on_intels) {
    struct end e;
    for (int vendor = 0; vendor < 2; vendor++) {
        begin(&options[_i], vendor);
        g.cpu->gpr[R_CX] = 3;
        g.cpu->gpr[R_DI] = DATA;
        uint64_t flags = run((uint8_t[]){0xf3, 0xaa}, 2, 0, 0, FL_TF, &e);
        ck_assert_uint_eq(e.trap, VEC_DB);
        ck_assert_uint_eq(e.rip, START);
        ck_assert_uint_eq(!!(flags & FL_RF), vendor == CPU_INTEL);
        guest_destroy(&g);
    }
}
END_TEST

/* SDM volume 2, "VGATHERDPD": traps of elements already gathered are "delivered in lieu of
 * the exception". Element 0 is in the page, element 1 beyond it. */
START_TEST(a_step_comes_before_the_fault_of_a_gathers_later_element) {
    struct end e;
    begin(&options[_i], CPU_INTEL);
    if (cpu_has(g.cpu, CPU_F_avx2)) {
        g.cpu->gpr[R_AX] = DATA;
        run((uint8_t[]){0xc4, 0xe2, 0x79, 0x90, 0x14, 0x08}, 6, 0, 0, FL_TF, &e);
        ck_assert_uint_eq(e.trap, VEC_DB);
        ck_assert_uint_eq(e.rip, START);
        xstate_settle(g.cpu);
        ck_assert_uint_eq(xstate_get(g.cpu->xsave, FX_XMM, 8), 0xffffffff00000000);
        run((uint8_t[]){0xc4, 0xe2, 0x79, 0x90, 0x14, 0x08}, 6, 0, 0, 0, &e);
        ck_assert_uint_eq(e.trap, VEC_PF);
    }
    guest_destroy(&g);
}
END_TEST

SUITE("single instructions", .timeout = 120,
      .loops = {{alignment_is_checked_by_the_type_of_the_data, 2 * OPTIONS},
                {vector_operands_are_aligned_as_processors_ask, 2 * OPTIONS},
                {single_instructions_end_as_on_processors, 2 * OPTIONS},
                {instructions_of_32_bit_code_end_as_on_processors, 2 * OPTIONS},
                {vzeroupper_of_32_bit_code_leaves_the_upper_eight_registers, OPTIONS},
                {an_immediate_of_32_bit_code_names_one_of_eight_registers, OPTIONS},
                {the_stack_of_32_bit_code_is_the_vendors, OPTIONS},
                {an_element_across_the_end_of_the_addresses_is_gp, OPTIONS},
                {a_masked_store_that_faults_stores_nothing, OPTIONS},
                {leave_with_66_pops_bp, OPTIONS},
                {an_undefined_vvvv_in_32_bit_code_is_its_own_encoding, OPTIONS},
                {lar_keeps_the_limits_upper_bits, OPTIONS},
                {a_step_within_a_string_instruction_has_rf_on_intels, OPTIONS},
                {a_step_comes_before_the_fault_of_a_gathers_later_element, OPTIONS}})
