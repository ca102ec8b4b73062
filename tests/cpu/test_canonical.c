/* SPDX-License-Identifier: MIT */
/*
 * Addresses of 64-bit code that are not canonical. Near branches there: #GP(0) at the
 * branch, with RIP, RSP and the stack as they were (SDM volume 2, "JMP", "CALL", "RET": the
 * check comes before the push). Operands there: #GP(0), or #SS(0) by way of SS. Both are
 * compared with this host's own CPU. It cannot show direct branches: user code of Linux does
 * not reach the last page below 2^47.
 */
#include <string.h>
#include <sys/mman.h>

#include "cpu/model.h"
#include "cpu/system.h"
#include "fixture_guest.h"
#include "fixture_native.h"
#include "tests/suite.h"

#define CODE_AT  0x100000u
#define STACK_AT 0x200000u /* and the operand in memory, at its second half */
#define SP_AT    0x200800u
#define MEM_AT   0x200c00u
#define FILL     0x5a
#define CODE_MAX 16u

static struct guest g;

static const struct guest_options options[] = {
    {.kind = PN_MMU_SHADOW},
    {.kind = PN_MMU_SHADOW, .max_block = 1},
    {.kind = PN_MMU_TDP},
    {.kind = PN_MMU_TDP, .max_block = 1},
};
#define OPTIONS ((int)(sizeof options / sizeof *options))

static const uint64_t targets[] = {
    UINT64_C(0x0000800000000000), UINT64_C(0xffff7fffffffffff),
    UINT64_C(0x8000000000000000), UINT64_C(0x7fffffffffffffff),
    UINT64_C(0x0001000000000000), UINT64_C(0x00ff800000001000)};
#define TARGETS (sizeof targets / sizeof *targets)

/* Each behind another instruction. The target is in RAX, R10 and R12, and in memory at RBX and RSP. */
static const struct {
    const char *name;
    uint8_t code[8];
} branches[] = {
    {"jmp rax", {0x90, 0xff, 0xe0}},
    {"jmp r10", {0x90, 0x41, 0xff, 0xe2}},
    {"jmp [rbx]", {0x90, 0xff, 0x23}},
    {"jmp fs:[rbx]", {0x90, 0x64, 0xff, 0x23}},
    {"call rax", {0x90, 0xff, 0xd0}},
    {"call r10", {0x90, 0x41, 0xff, 0xd2}},
    {"call r12", {0x90, 0x41, 0xff, 0xd4}},
    {"call [rbx]", {0x90, 0xff, 0x13}},
    {"ret", {0x90, 0xc3}},
    {"ret 16", {0x90, 0xc2, 0x10, 0x00}},
    {"rep ret", {0x90, 0xf3, 0xc3}},
    {"push rax; ret", {0x50, 0xc3}},
};
#define BRANCHES (sizeof branches / sizeof *branches)

/* With the address behind the code's n bytes, or in RAX, R10 and R12. */
static const struct {
    const char *name;
    uint8_t code[8], n;
} operands[] = {
    {"mov al, moffs", {0xa0}, 1},
    {"mov ax, moffs", {0x66, 0xa1}, 2},
    {"mov eax, moffs", {0xa1}, 1},
    {"mov rax, moffs", {0x48, 0xa1}, 2},
    {"mov moffs, al", {0xa2}, 1},
    {"mov moffs, ax", {0x66, 0xa3}, 2},
    {"mov moffs, eax", {0xa3}, 1},
    {"mov moffs, rax", {0x48, 0xa3}, 2},
    {"mov rax, fs:moffs", {0x64, 0x48, 0xa1}, 3},
    {"mov gs:moffs, al", {0x65, 0xa2}, 2},
    {"mov rax, ss:moffs", {0x36, 0x48, 0xa1}, 3},
    {"mov rax, es:moffs", {0x26, 0x48, 0xa1}, 3},
    {"mov ecx, [rax]", {0x8b, 0x08}, 2},
    {"mov fs:[rax], cl", {0x64, 0x88, 0x08}, 3},
    {"xchg rcx, [r10]", {0x49, 0x87, 0x0a}, 3},
};
#define OPERANDS (sizeof operands / sizeof *operands)

struct result {
    uint64_t trap, error, rip, gpr[16];
    uint8_t stack[4096];
};

static void registers(uint64_t *gpr, uint64_t target) {
    for (unsigned i = 0; i < 16; i++)
        gpr[i] = 0x1111 * i;
    gpr[R_AX] = gpr[10] = gpr[12] = target;
    gpr[R_BX] = GUEST_BASE + MEM_AT;
    gpr[R_SP] = GUEST_BASE + SP_AT;
}

static void memory(uint8_t *stack, uint64_t target) {
    memset(stack, FILL, 4096);
    memcpy(stack + (SP_AT & 0xfff), &target, 8);
    memcpy(stack + (MEM_AT & 0xfff), &target, 8);
}

static void on_host(const uint8_t *bytes, uint64_t target, struct result *r) {
    void *code = (void *)(GUEST_BASE + CODE_AT), *stack = (void *)(GUEST_BASE + STACK_AT);
    memcpy(code, bytes, CODE_MAX);
    memory(stack, target);
    registers(NATIVE->gpr, target);
    NATIVE->rip = GUEST_BASE + CODE_AT;
    NATIVE->rflags = 2;
    native_run();
    *r = (struct result){
        .trap = NATIVE->trap, .error = NATIVE->error, .rip = NATIVE->rip - GUEST_BASE};
    memcpy(r->gpr, NATIVE->gpr, sizeof r->gpr);
    memcpy(r->stack, stack, sizeof r->stack);
}

/* What the guest's next trap is. */
static void take(struct result *r) {
    uint64_t flags;
    ck_assert_int_eq(cpu_run(g.cpu, cpu_insns(g.cpu) + 1000), CPU_EXIT_HALT);
    guest_trapped(&g, &r->trap, &r->error, &r->rip, &flags, &g.cpu->gpr[R_SP]);
    memcpy(r->gpr, g.cpu->gpr, sizeof r->gpr);
    memcpy(r->stack, g.ram + STACK_AT, sizeof r->stack);
}

static void in_guest(const uint8_t *bytes, uint64_t target, struct result *r) {
    memset(r, 0, sizeof *r);
    pn_mmu_write_phys(g.mmu, CODE_AT, bytes, CODE_MAX);
    memory(g.ram + STACK_AT, target);
    guest_user(&g);
    registers(g.cpu->gpr, target);
    g.cpu->rip = GUEST_BASE + CODE_AT;
    cpu_set_rflags(g.cpu, 2);
    take(r);
    r->rip -= GUEST_BASE;
}

static void host_begin(void) {
    int prot = PROT_READ | PROT_WRITE | PROT_EXEC;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    ck_assert(native_init(g.model->host_xcr0, 0));
    for (unsigned i = 0; i < 2; i++) {
        void *at = (void *)(GUEST_BASE + (i ? STACK_AT : CODE_AT));
        ck_assert_ptr_eq(mmap(at, 4096, prot, flags, -1, 0), at);
    }
}

/* Run the code on both sides. */
static void compare(const char *name, const uint8_t *code, uint64_t target) {
    struct result want, got;
    on_host(code, target, &want);
    in_guest(code, target, &got);
    ck_assert_msg(got.trap == want.trap && got.error == want.error && got.rip == want.rip,
                  "%s %lx: trap %lu error %lx rip %lx; on the host %lu %lx %lx", name,
                  target, got.trap, got.error, got.rip, want.trap, want.error, want.rip);
    ck_assert_msg(!memcmp(&got, &want, sizeof got), "%s %lx: rsp %lx, on the host %lx",
                  name, target, got.gpr[R_SP], want.gpr[R_SP]);
}

static void begin(const struct guest_options *opt) {
    guest_create(&g, opt);
    guest_idt(&g);
}

START_TEST(an_indirect_branch_to_no_address_faults_as_on_the_host) {
    begin(&options[_i]);
    host_begin();
    for (unsigned b = 0; b < BRANCHES; b++)
        for (unsigned t = 0; t < TARGETS; t++) {
            uint8_t code[CODE_MAX] = {0};
            memcpy(code, branches[b].code, sizeof branches->code);
            compare(branches[b].name, code, targets[t]);
        }
    guest_destroy(&g);
}
END_TEST

START_TEST(an_operand_at_no_address_faults_as_on_the_host) {
    begin(&options[_i]);
    host_begin();
    for (unsigned o = 0; o < OPERANDS; o++)
        for (unsigned t = 0; t < TARGETS; t++) {
            uint8_t code[CODE_MAX] = {0};
            memcpy(code, operands[o].code, operands[o].n);
            memcpy(code + operands[o].n, &targets[t], 8);
            compare(operands[o].name, code, targets[t]);
        }
    guest_destroy(&g);
}
END_TEST

/* ---- Direct ones: from the last page of the lower half, and the first of the upper ---- */

#define TABLES_AT 0x300000u
#define EDGE_AT   0x310000u
#define LOW_EDGE  UINT64_C(0x7ffffffff000)
#define HIGH_EDGE UINT64_C(0xffff800000000000)

static void put64(uint32_t at, uint64_t value) {
    pn_mmu_write_phys(g.mmu, at, &value, 8);
}

/* Map one frame at both edges. */
static void map_edges(void) {
    put64(GUEST_CR3 + 255 * 8, TABLES_AT | 7);
    put64(GUEST_CR3 + 256 * 8, TABLES_AT | 7);
    for (unsigned i = 0; i < 2; i++) {
        put64(TABLES_AT + i * 0x1000, (TABLES_AT + (i + 1) * 0x1000) | 7);
        put64(TABLES_AT + i * 0x1000 + 511 * 8, (TABLES_AT + (i + 1) * 0x1000) | 7);
    }
    put64(TABLES_AT + 0x2000, EDGE_AT | 7);
    put64(TABLES_AT + 0x2000 + 511 * 8, EDGE_AT | 7);
}

static const struct {
    const char *name;
    uint64_t at;
    uint8_t code[8];
    uint64_t rcx;
    uint64_t goes; /* where to; 0: it faults */
} direct[] = {
    {"jmp rel8", LOW_EDGE + 0xff0, {0xeb, 0x10}, 0, 0},
    {"jmp rel32", LOW_EDGE + 0x100, {0xe9, 0x00, 0x10, 0, 0}, 0, 0},
    {"call", LOW_EDGE + 0x100, {0xe8, 0x00, 0x10, 0, 0}, 0, 0},
    {"jz rel8, taken", LOW_EDGE + 0xff0, {0x74, 0x10}, 0, 0},
    {"jz rel32, taken", LOW_EDGE + 0x100, {0x0f, 0x84, 0x00, 0x10, 0, 0}, 0, 0},
    {"jnz rel8, not taken", LOW_EDGE + 0xfe0, {0x75, 0x20}, 0, LOW_EDGE + 0xfe2},
    {"loop, taken", LOW_EDGE + 0xff0, {0xe2, 0x10}, 2, 0},
    {"loop, not taken", LOW_EDGE + 0xff0, {0xe2, 0x10}, 1, LOW_EDGE + 0xff2},
    {"jrcxz, taken", LOW_EDGE + 0xff0, {0xe3, 0x10}, 0, 0},
    {"jrcxz, not taken", LOW_EDGE + 0xff0, {0xe3, 0x10}, 5, LOW_EDGE + 0xff2},
    {"jmp rel8 down", HIGH_EDGE + 0x10, {0xeb, 0x80}, 0, 0},
    {"jmp rel8 to the last byte", LOW_EDGE + 0xff0, {0xeb, 0x0d}, 0, LOW_EDGE + 0xfff},
};
#define DIRECT (sizeof direct / sizeof *direct)

START_TEST(a_direct_branch_to_no_address_faults_where_it_stands) {
    begin(&options[_i]);
    map_edges();
    for (unsigned i = 0; i < DIRECT; i++) {
        uint32_t at = EDGE_AT + (direct[i].at & 0xfff);
        uint64_t goes = direct[i].goes;
        struct result r = {0};
        put64(at, 0), pn_mmu_write_phys(g.mmu, at, direct[i].code, 8);
        if (goes)
            pn_mmu_write_phys(g.mmu, EDGE_AT + (goes & 0xfff), "\xcc", 1);
        memory(g.ram + STACK_AT, 0);
        guest_user(&g);
        registers(g.cpu->gpr, 0);
        g.cpu->gpr[R_CX] = direct[i].rcx;
        g.cpu->rip = direct[i].at;
        cpu_set_rflags(g.cpu, 2 | FL_ZF);
        take(&r);
        ck_assert_msg(r.trap == (goes ? VEC_BP : VEC_GP) && !r.error, "%s: trap %lu %lx",
                      direct[i].name, r.trap, r.error);
        ck_assert_msg(r.rip == (goes ? goes + 1 : direct[i].at), "%s: rip %lx",
                      direct[i].name, r.rip);
        ck_assert_msg(r.gpr[R_CX] == direct[i].rcx - (goes && direct[i].rcx == 1), "%s",
                      direct[i].name);
        ck_assert_uint_eq(r.gpr[R_SP], GUEST_BASE + SP_AT);
        ck_assert_uint_eq(g.ram[SP_AT - 1], FILL);
    }
    guest_destroy(&g);
}
END_TEST

/* Instructions that follow one another have no branch to fault at: the fetch does. */
START_TEST(running_off_the_last_address_faults_beyond_it) {
    struct result r = {0};
    begin(&options[_i]);
    map_edges();
    pn_mmu_write_phys(g.mmu, EDGE_AT + 0xffe, "\x90\x90", 2);
    guest_user(&g);
    registers(g.cpu->gpr, 0);
    g.cpu->rip = LOW_EDGE + 0xffe;
    take(&r);
    ck_assert_uint_eq(r.trap, VEC_GP);
    ck_assert_uint_eq(r.rip, LOW_EDGE + 0x1000);
    guest_destroy(&g);
}
END_TEST

SUITE("canonical addresses",
      .loops = {{an_indirect_branch_to_no_address_faults_as_on_the_host, OPTIONS},
                {an_operand_at_no_address_faults_as_on_the_host, OPTIONS},
                {a_direct_branch_to_no_address_faults_where_it_stands, OPTIONS},
                {running_off_the_last_address_faults_beyond_it, OPTIONS}})
