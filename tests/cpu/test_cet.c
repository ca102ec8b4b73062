/* SPDX-License-Identifier: MIT */
/*
 * CET in running code: shadow stacks and indirect-branch tracking of user programs, under
 * both MMUs, with blocks of one instruction and of any length. Far transfers are
 * test_cet_far's.
 *
 * Source: SDM volume 1, "Control-flow Enforcement Technology (CET)"; volume 2 under each
 * instruction's name; volume 3, "Interrupt 21 - Control Protection Exception (#CP)".
 */
#include <string.h>

#include "cpu/control.h"
#include "cpu/model.h"
#include "fixture_guest.h"
#include "tests/suite.h"

#define CODE_AT   0x100000u
#define SP_AT     0x200800u
#define SHSTK_AT  0x300000u
#define ORDINARY  0x302000u /* a writable page */
#define SUPER_AT  0x303000u /* a supervisor's shadow stack */
#define BITMAP_AT 0x400000u
#define CODE      (GUEST_BASE + CODE_AT)
#define SSP       (GUEST_BASE + SHSTK_AT + 0x800)
#define STACK_PTE 0x65u /* P, U, A, D */

static struct guest g;
static uint64_t vector, error, rip, rflags, rsp;

static const struct guest_options options[] = {
    {.kind = PN_MMU_SHADOW},
    {.kind = PN_MMU_SHADOW, .max_block = 1},
    {.kind = PN_MMU_TDP},
    {.kind = PN_MMU_TDP, .max_block = 1},
};
#define OPTIONS ((int)(sizeof options / sizeof *options))

/* Ring 3 with that U_CET, or ring 0 with S_CET clear. */
static void begin(int option, bool user, uint64_t u_cet) {
    guest_create(&g, &options[option]);
    guest_idt(&g);
    if (user)
        guest_user(&g);
    guest_gpte(&g, GUEST_BASE + SHSTK_AT, SHSTK_AT | STACK_PTE);
    guest_gpte(&g, GUEST_BASE + SUPER_AT, SUPER_AT | (STACK_PTE & ~4u));
    g.cpu->cr4 |= CR4_CET;
    g.cpu->msr_u_cet = u_cet;
    g.cpu->ssp = SSP;
    cpu_update_paging(g.cpu);
    cpu_update_mode(g.cpu);
    memset(g.ram + CODE_AT, 0xcc, PN_PAGE_SIZE);
}

static void put(uint32_t at, uint64_t v) {
    pn_mmu_write_phys(g.mmu, at, &v, 8);
}
static uint64_t get(uint32_t at) {
    uint64_t v;
    memcpy(&v, g.ram + at, 8);
    return v;
}

/* Run to the trap that ends it. */
static void go(const char *code, unsigned n) {
    pn_mmu_write_phys(g.mmu, CODE_AT, code, n);
    guest_start(&g, CODE, GUEST_BASE + SP_AT);
    ck_assert_int_eq(cpu_run(g.cpu, cpu_insns(g.cpu) + 1000), CPU_EXIT_HALT);
    guest_trapped(&g, &vector, &error, &rip, &rflags, &rsp);
    rip -= CODE;
}
#define run(code) go(code, sizeof(code) - 1)

/* Ring 3 is left: its SSP is in PL3_SSP. */
#define ck_end(v, e, at, ssp)                                                            \
    do {                                                                                 \
        ck_assert_uint_eq(vector, v);                                                    \
        ck_assert_uint_eq(error, e);                                                     \
        ck_assert_uint_eq(rip, at);                                                      \
        ck_assert_uint_eq(g.cpu->msr_pl_ssp[3], ssp);                                    \
    } while (0)

/* ---- Shadow stacks ---- */

START_TEST(a_call_pushes_and_a_ret_pops_both_stacks) {
    begin(_i, true, CET_SHSTK);
    run("\xe8\x01\0\0\0\xcc\xc3"); /* call 6; int3; 6: ret */
    ck_end(VEC_BP, 0, 6, SSP);
    ck_assert_uint_eq(rsp, GUEST_BASE + SP_AT);
    ck_assert_uint_eq(get(SHSTK_AT + 0x7f8), CODE + 5);
    /* Indirect: by register, by memory. */
    g.cpu->msr_pl_ssp[3] = 0;
    guest_user(&g);
    g.cpu->gpr[R_AX] = CODE + 6;
    run("\xff\xd0\xcc\x90\x90\x90\xc3");
    ck_end(VEC_BP, 0, 3, SSP);
    ck_assert_uint_eq(get(SHSTK_AT + 0x7f8), CODE + 2);
    guest_user(&g);
    g.cpu->gpr[R_DI] = GUEST_BASE + ORDINARY;
    put(ORDINARY, CODE + 6);
    run("\xff\x17\xcc\x90\x90\x90\xc2\x10\0"); /* ret 16 */
    ck_end(VEC_BP, 0, 3, SSP);
    ck_assert_uint_eq(rsp, GUEST_BASE + SP_AT + 16);
    guest_destroy(&g);
}
END_TEST

START_TEST(a_changed_return_address_is_a_control_protection_fault) {
    begin(_i, true, CET_SHSTK);
    run("\xe8\x01\0\0\0\xcc\x48\xff\x04\x24\xc3"); /* 6: inc qword [rsp]; ret */
    ck_end(VEC_CP, CP_NEAR_RET, 10, SSP - 8);
    ck_assert_uint_eq(rsp, GUEST_BASE + SP_AT - 8);
    guest_destroy(&g);
}
END_TEST

/* SDM volume 2, "CALL": that is how position-independent code finds itself. */
START_TEST(a_call_of_the_next_instruction_pushes_nothing_there) {
    begin(_i, true, CET_SHSTK);
    run("\xe8\0\0\0\0\x58\xcc"); /* call 5; 5: pop rax */
    ck_end(VEC_BP, 0, 7, SSP);
    ck_assert_uint_eq(g.cpu->gpr[R_AX], CODE + 5);
    ck_assert_uint_eq(get(SHSTK_AT + 0x7f8), 0);
    guest_destroy(&g);
}
END_TEST

START_TEST(each_page_takes_its_own_kind_of_store) {
    static const struct {
        uint32_t ssp, error;
    } cases[] = {{ORDINARY + 8, 0x47}, {SUPER_AT + 8, 0x47}, {0x304008, 0x46}};
    begin(_i, true, CET_SHSTK);
    guest_gpte(&g, GUEST_BASE + 0x304000, 0);
    g.cpu->gpr[R_DI] = GUEST_BASE + SHSTK_AT;
    run("\x48\x8b\x07\x48\x89\x07"); /* mov rax, [rdi]; mov [rdi], rax */
    ck_end(VEC_PF, 7, 3, SSP);
    for (unsigned i = 0; i < 3; i++) {
        guest_user(&g);
        g.cpu->ssp = GUEST_BASE + cases[i].ssp;
        run("\xe8\x01\0\0\0");
        ck_end(VEC_PF, cases[i].error, 0, GUEST_BASE + cases[i].ssp);
        ck_assert_uint_eq(g.cpu->cr2, GUEST_BASE + cases[i].ssp - 8);
        ck_assert_uint_eq(rsp, GUEST_BASE + SP_AT);
    }
    guest_user(&g);
    g.cpu->ssp = GUEST_BASE + ORDINARY;
    run("\xc3\xcc\xcc\xcc\xcc");
    ck_end(VEC_PF, 0x45, 0, GUEST_BASE + ORDINARY);
    guest_user(&g);
    g.cpu->ssp = UINT64_C(1) << 60; /* not canonical */
    run("\xe8\x01\0\0\0");
    ck_assert_uint_eq(vector, VEC_GP);
    ck_assert_uint_eq(error, 0);
    guest_destroy(&g);
}
END_TEST

START_TEST(the_pointer_is_read_and_incremented) {
    begin(_i, true, CET_SHSTK);
    g.cpu->gpr[R_CX] = 0x302; /* 2: of the low byte */
    g.cpu->gpr[R_DX] = UINT64_MAX;
    run("\xf3\x48\x0f\x1e\xc8"   /* rdsspq rax */
        "\xf3\x48\x0f\xae\xe9"   /* incsspq rcx */
        "\xf3\x0f\x1e\xca"       /* rdsspd edx */
        "\xf3\x0f\xae\xe9\xcc"); /* incsspd ecx */
    ck_end(VEC_BP, 0, 19, SSP + 24);
    ck_assert_uint_eq(g.cpu->gpr[R_AX], SSP);
    ck_assert_uint_eq(g.cpu->gpr[R_DX], SSP + 16);
    /* What it steps over must be a shadow stack's. */
    guest_user(&g);
    g.cpu->gpr[R_CX] = 255;
    g.cpu->ssp = SSP + 0x100;
    guest_gpte(&g, GUEST_BASE + SHSTK_AT + 0x1000, (SHSTK_AT + 0x1000) | 0x67);
    run("\xf3\x48\x0f\xae\xe9");
    ck_end(VEC_PF, 0x45, 0, SSP + 0x100);
    guest_destroy(&g);
}
END_TEST

START_TEST(without_a_shadow_stack_the_instructions_are_nops_or_undefined) {
    static const char undefined[][7] = {
        "\xf3\x48\x0f\xae\xe9",     /* incsspq rcx */
        "\xf3\x0f\x01\xea",         /* saveprevssp */
        "\xf3\x0f\x01\x2f",         /* rstorssp [rdi] */
        "\x48\x0f\x38\xf6\x07",     /* wrssq [rdi], rax */
        "\xf3\x0f\x01\xe8",         /* setssbsy */
        "\xf3\x0f\xae\x37",         /* clrssbsy [rdi] */
        "\x66\x48\x0f\x38\xf5\x07", /* wrussq [rdi], rax */
    };
    begin(_i, true, 0);
    g.cpu->cr4 &= ~CR4_CET;
    g.cpu->gpr[R_DI] = GUEST_BASE + SHSTK_AT;
    cpu_update_mode(g.cpu);
    g.cpu->gpr[R_AX] = UINT64_MAX;
    run("\xf3\x48\x0f\x1e\xc8\xf3\x0f\x1e\xc8\xf3\x0f\x1e\xfa\xcc");
    ck_assert_uint_eq(vector, VEC_BP);
    ck_assert_uint_eq(g.cpu->gpr[R_AX], UINT64_MAX);
    for (unsigned i = 0; i < sizeof undefined / sizeof *undefined; i++) {
        guest_user(&g);
        go(undefined[i], sizeof undefined[i]);
        ck_assert_msg(vector == VEC_UD, "%u: vector %u", i, (unsigned)vector);
    }
    guest_destroy(&g);
}
END_TEST

START_TEST(wrss_writes_where_it_is_enabled) {
    begin(_i, true, CET_SHSTK | CET_WRSS);
    g.cpu->gpr[R_DI] = GUEST_BASE + SHSTK_AT + 0x10;
    g.cpu->gpr[R_AX] = UINT64_C(0x1122334455667788);
    run("\x48\x0f\x38\xf6\x07\x0f\x38\xf6\x47\x0c\xcc"); /* wrssd [rdi + 12], eax */
    ck_end(VEC_BP, 0, 11, SSP);
    ck_assert_uint_eq(get(SHSTK_AT + 0x10), UINT64_C(0x1122334455667788));
    ck_assert_uint_eq(get(SHSTK_AT + 0x18), UINT64_C(0x5566778800000000));
    guest_user(&g);
    g.cpu->gpr[R_DI] += 4;
    run("\x48\x0f\x38\xf6\x07"); /* misaligned */
    ck_end(VEC_GP, 0, 0, SSP);
    guest_user(&g);
    g.cpu->msr_u_cet = CET_SHSTK;
    run("\x48\x0f\x38\xf6\x07");
    ck_end(VEC_UD, 0, 0, SSP);
    guest_destroy(&g);
}
END_TEST

START_TEST(wruss_is_the_supervisors_store_to_a_users_stack) {
    begin(_i, false, 0);
    g.cpu->gpr[R_DI] = GUEST_BASE + SHSTK_AT + 0x10;
    g.cpu->gpr[R_AX] = 0x1234;
    run("\x66\x48\x0f\x38\xf5\x07\xcc");
    ck_assert_uint_eq(vector, VEC_BP);
    ck_assert_uint_eq(get(SHSTK_AT + 0x10), 0x1234);
    g.cpu->halted = 0;
    g.cpu->gpr[R_DI] = GUEST_BASE + SUPER_AT;
    run("\x66\x48\x0f\x38\xf5\x07\xcc");
    ck_assert_uint_eq(vector, VEC_PF);
    ck_assert_uint_eq(error, 0x47); /* as a user's access */
    guest_user(&g);
    run("\x66\x48\x0f\x38\xf5\x07\xcc");
    ck_assert_uint_eq(vector, VEC_GP);
    guest_destroy(&g);
}
END_TEST

START_TEST(a_program_changes_stacks_by_tokens) {
    const uint64_t to = GUEST_BASE + SHSTK_AT + 0x400;
    static const char both[] = "\xf3\x0f\x01\x2f\xf3\x0f\x01\xea\xcc";
    begin(_i, true, CET_SHSTK);
    g.cpu->gpr[R_DI] = to;
    put(SHSTK_AT + 0x400, (to + 8) | 1);
    run("\xf3\x0f\x01\x2f\xcc\xcc\xcc\xcc\xcc"); /* rstorssp [rdi] */
    ck_end(VEC_BP, 0, 5, to);
    ck_assert(!(rflags & FL_CF));
    ck_assert_uint_eq(get(SHSTK_AT + 0x400), SSP | 3); /* the previous one's */
    guest_user(&g);
    g.cpu->ssp = SSP;
    put(SHSTK_AT + 0x400, (to + 8) | 1);
    run(both); /* and saveprevssp */
    ck_end(VEC_BP, 0, 9, to + 8);
    ck_assert_uint_eq(get(SHSTK_AT + 0x7f8), SSP | 1);
    /* 4 bytes above: a hole, which CF tells of. */
    guest_user(&g);
    g.cpu->ssp = SSP;
    put(SHSTK_AT + 0x400, (to + 12) | 1);
    run("\xf3\x0f\x01\x2f\xcc\xcc\xcc\xcc\xcc");
    ck_end(VEC_BP, 0, 5, to);
    ck_assert(rflags & FL_CF);
    /* No token; one of 32-bit code; one for elsewhere. */
    const uint64_t bad[] = {0, to + 8, (to + 16) | 1, (to + 8) | 3};
    for (unsigned i = 0; i < 4; i++) {
        guest_user(&g);
        g.cpu->ssp = SSP;
        put(SHSTK_AT + 0x400, bad[i]);
        run(both);
        ck_end(VEC_CP, CP_RSTORSSP, 0, SSP);
        ck_assert_uint_eq(get(SHSTK_AT + 0x400), bad[i]);
    }
    guest_user(&g);
    g.cpu->gpr[R_DI] += 4;
    run(both);
    ck_end(VEC_GP, 0, 0, SSP);
    guest_destroy(&g);
}
END_TEST

/* ---- Indirect-branch tracking ---- */

#define WAITS (g.cpu->msr_u_cet & CET_WAIT)

/* `jmp` stands at 0, and goes to 0x10 where `target` stands. */
static void branch(const char *jmp, const char *target, uint64_t u_cet) {
    char code[0x20];
    memset(code, 0xcc, sizeof code);
    memcpy(code, jmp, strlen(jmp));
    memcpy(code + 0x10, target, strlen(target));
    guest_user(&g);
    g.cpu->msr_u_cet = u_cet;
    cpu_update_mode(g.cpu);
    g.cpu->gpr[R_AX] = CODE + 0x10;
    go(code, sizeof code);
}

#define ENDBR64 "\xf3\x0f\x1e\xfa"
#define ENDBR32 "\xf3\x0f\x1e\xfb"
#define JMP     "\xff\xe0"
#define CALL    "\xff\xd0"

START_TEST(an_indirect_branch_needs_an_endbranch) {
    static const char *const by[] = {JMP, CALL};
    begin(_i, true, CET_IBT);
    for (unsigned i = 0; i < 2; i++) {
        branch(by[i], ENDBR64, CET_IBT);
        ck_end(VEC_BP, 0, 0x15, 0);
        ck_assert(!WAITS);
        branch(by[i], "\x90", CET_IBT);
        ck_end(VEC_CP, CP_ENDBRANCH, 0x10, 0);
        ck_assert(WAITS);
        branch(by[i], ENDBR32, CET_IBT);
        ck_end(VEC_CP, CP_ENDBRANCH, 0x10, 0);
        branch(by[i], "\x0f\x0b", CET_IBT); /* it comes before #UD */
        ck_end(VEC_CP, CP_ENDBRANCH, 0x10, 0);
        branch(by[i], "\x90", 0);
        ck_end(VEC_BP, 0, 0x12, 0);
    }
    guest_destroy(&g);
}
END_TEST

START_TEST(other_branches_need_none) {
    begin(_i, true, CET_IBT);
    branch("\xeb\x0e", "\x90", CET_IBT); /* jmp 0x10 */
    ck_end(VEC_BP, 0, 0x12, 0);
    branch("\x50\xc3", "\x90", CET_IBT); /* push rax; ret */
    ck_end(VEC_BP, 0, 0x12, 0);
    branch("\x3e" JMP, "\x90", CET_IBT | CET_NOTRACK);
    ck_end(VEC_BP, 0, 0x12, 0);
    branch("\x3e" JMP, "\x90", CET_IBT);
    ck_end(VEC_CP, CP_ENDBRANCH, 0x10, 0);
    branch(JMP, "\x90", CET_IBT | CET_SUPPRESS);
    ck_end(VEC_BP, 0, 0x12, 0);
    /* An ENDBRANCH ends what suppresses the tracking. */
    branch(ENDBR64 JMP, "\x90", CET_IBT | CET_SUPPRESS);
    ck_end(VEC_CP, CP_ENDBRANCH, 0x10, 0);
    guest_destroy(&g);
}
END_TEST

/* A debugger's breakpoint may be there: the trap comes, and the tracker waits on. */
START_TEST(a_breakpoint_may_stand_for_an_endbranch) {
    begin(_i, true, CET_IBT);
    branch(JMP, "\xcc", CET_IBT);
    ck_end(VEC_BP, 0, 0x11, 0);
    ck_assert(WAITS);
    branch(JMP, "\xf1", CET_IBT);
    ck_end(VEC_DB, 0, 0x11, 0);
    ck_assert(WAITS);
    guest_destroy(&g);
}
END_TEST

START_TEST(the_bitmap_lets_legacy_code_be_a_target) {
    const uint64_t legacy = CET_IBT | CET_LEGACY | (GUEST_BASE + BITMAP_AT);
    const uint32_t byte = BITMAP_AT + (uint32_t)(CODE >> 15);
    begin(_i, true, CET_IBT);
    branch(JMP, "\x90", legacy);
    ck_end(VEC_CP, CP_ENDBRANCH, 0x10, 0);
    put(byte, 1u << (CODE >> 12 & 7));
    uint64_t before = cpu_insns(g.cpu);
    branch(JMP, "\x90", legacy);
    ck_end(VEC_BP, 0, 0x12, 0);
    ck_assert_uint_eq(g.cpu->msr_u_cet, legacy | CET_SUPPRESS);
    ck_assert_uint_eq(cpu_insns(g.cpu) - before, 4); /* jmp, nop, int3, hlt */
    branch(JMP, "\x90", legacy | CET_SUPP_DIS);
    ck_end(VEC_BP, 0, 0x12, 0);
    ck_assert_uint_eq(g.cpu->msr_u_cet, legacy | CET_SUPP_DIS);
    /* The bitmap is the program's own memory. */
    guest_gpte(&g, GUEST_BASE + (byte & ~0xfffu), 0);
    pn_mmu_drop_tlb(g.cpu->vmmu);
    branch(JMP, "\x90", legacy);
    ck_end(VEC_PF, 4, 0x10, 0);
    guest_destroy(&g);
}
END_TEST

/* Single steps, and what the tracker waits for across them. */
START_TEST(single_steps_see_every_instruction) {
    begin(_i, true, CET_IBT | CET_SHSTK);
    cpu_set_rflags(g.cpu, 2 | FL_TF);
    cpu_update_mode(g.cpu);
    g.cpu->gpr[R_AX] = CODE + 0x10;
    put(CODE_AT + 0x10, 0xccfa1e0ff3); /* endbr64 */
    run(CALL);
    ck_end(VEC_DB, 0, 0x10, SSP - 8);
    ck_assert(WAITS);
    guest_destroy(&g);
}
END_TEST

SUITE("cpu.cet",
      .loops = {{a_call_pushes_and_a_ret_pops_both_stacks, OPTIONS},
                {a_changed_return_address_is_a_control_protection_fault, OPTIONS},
                {a_call_of_the_next_instruction_pushes_nothing_there, OPTIONS},
                {each_page_takes_its_own_kind_of_store, OPTIONS},
                {the_pointer_is_read_and_incremented, OPTIONS},
                {without_a_shadow_stack_the_instructions_are_nops_or_undefined, OPTIONS},
                {wrss_writes_where_it_is_enabled, OPTIONS},
                {wruss_is_the_supervisors_store_to_a_users_stack, OPTIONS},
                {a_program_changes_stacks_by_tokens, OPTIONS},
                {an_indirect_branch_needs_an_endbranch, OPTIONS},
                {other_branches_need_none, OPTIONS},
                {a_breakpoint_may_stand_for_an_endbranch, OPTIONS},
                {the_bitmap_lets_legacy_code_be_a_target, OPTIONS},
                {single_steps_see_every_instruction, OPTIONS}})
