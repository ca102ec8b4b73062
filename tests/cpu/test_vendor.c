/* SPDX-License-Identifier: MIT */
/*
 * The rows of vendor.inc, as Intel and as AMD; those that tests/diff found are in
 * test_one.c. What user code can show is compared with this host's own CPU when it is that
 * vendor's.
 */
#include <cpuid.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/control.h"
#include "cpu/model.h"
#include "fixture_flat.h"
#include "fixture_guest.h"
#include "fixture_native.h"
#include "ops.h"
#include "tests/suite.h"

#define CODE_AT  0x100000u
#define START    0x100u /* in the page, which is full of INT3 */
#define STACK_AT 0x200000u
#define SP_AT    0x200800u
#define BACK     UINT64_C(0x10100340) /* on the stack, and in RAX */

static struct guest g;

static const struct guest_options options[] = {
    {.kind = PN_MMU_SHADOW},
    {.kind = PN_MMU_SHADOW, .max_block = 1},
    {.kind = PN_MMU_TDP},
    {.kind = PN_MMU_TDP, .max_block = 1},
};
#define OPTIONS ((int)(sizeof options / sizeof *options))

static const char *const model[] = {
    [CPU_INTEL] = "max,vendor=intel", [CPU_AMD] = "max,vendor=amd"};

static bool host_is(enum cpu_vendor vendor) {
    unsigned a, b, c, d;
    __cpuid(0, a, b, c, d);
    return !memcmp(&b, vendor == CPU_AMD ? "Auth" : "Genu", 4);
}

/* ---- In user code ---- */

struct result {
    uint64_t trap, error, rip;
    int64_t rsp;
    uint64_t rcx, top; /* top: eight bytes below the first RSP */
};

/* rip: from the page's start when it stayed in the page; rsp: from where it was. */
static const struct {
    const char *name;
    uint8_t code[8], n;
    struct result by[2];
} user[] = {
    {"66 jmp rel",
     {0x66, 0xe9, 0x10, 0, 0, 0},
     6,
     {{VEC_BP, 0, 0x117, 0, 2, 0}, {VEC_PF, 0x14, 0x114, 0, 2, 0}}},
    {"66 jmp rel8",
     {0x66, 0xeb, 0x10},
     3,
     {{VEC_BP, 0, 0x114, 0, 2, 0}, {VEC_PF, 0x14, 0x113, 0, 2, 0}}},
    {"66 jz rel",
     {0x66, 0x0f, 0x84, 0x10, 0, 0, 0},
     7,
     {{VEC_BP, 0, 0x118, 0, 2, 0}, {VEC_PF, 0x14, 0x115, 0, 2, 0}}},
    {"66 jz rel8",
     {0x66, 0x74, 0x10},
     3,
     {{VEC_BP, 0, 0x114, 0, 2, 0}, {VEC_PF, 0x14, 0x113, 0, 2, 0}}},
    {"66 jnz rel8",
     {0x66, 0x75, 0x10},
     3,
     {{VEC_BP, 0, 0x104, 0, 2, 0}, {VEC_BP, 0, 0x104, 0, 2, 0}}},
    {"66 loop",
     {0x66, 0xe2, 0x10},
     3,
     {{VEC_BP, 0, 0x114, 0, 1, 0}, {VEC_PF, 0x14, 0x113, 0, 1, 0}}},
    {"66 jrcxz",
     {0x66, 0xe3, 0x10},
     3,
     {{VEC_BP, 0, 0x104, 0, 2, 0}, {VEC_BP, 0, 0x104, 0, 2, 0}}},
    {"66 call rel",
     {0x66, 0xe8, 0x10, 0, 0, 0},
     6,
     {{VEC_BP, 0, 0x117, -8, 2, 0x10100106},
      {VEC_PF, 0x14, 0x114, -2, 2, UINT64_C(0x104) << 48}}},
    {"66 jmp rax",
     {0x66, 0xff, 0xe0},
     3,
     {{VEC_BP, 0, 0x341, 0, 2, 0}, {VEC_PF, 0x14, 0x340, 0, 2, 0}}},
    {"66 call rax",
     {0x66, 0xff, 0xd0},
     3,
     {{VEC_BP, 0, 0x341, -8, 2, 0x10100103},
      {VEC_PF, 0x14, 0x340, -2, 2, UINT64_C(0x103) << 48}}},
    {"66 jmp [rsp]",
     {0x66, 0xff, 0x24, 0x24},
     4,
     {{VEC_BP, 0, 0x341, 0, 2, 0}, {VEC_PF, 0x14, 0x340, 0, 2, 0}}},
    {"66 ret",
     {0x66, 0xc3},
     2,
     {{VEC_BP, 0, 0x341, 8, 2, 0}, {VEC_PF, 0x14, 0x340, 2, 2, 0}}},
    {"66 ret 16",
     {0x66, 0xc2, 0x10, 0},
     4,
     {{VEC_BP, 0, 0x341, 24, 2, 0}, {VEC_PF, 0x14, 0x340, 18, 2, 0}}},
    {"66 rex.w ret",
     {0x66, 0x48, 0xc3},
     3,
     {{VEC_BP, 0, 0x341, 8, 2, 0}, {VEC_BP, 0, 0x341, 8, 2, 0}}},
    {"0f 0d with a register",
     {0x0f, 0x0d, 0xc8},
     3,
     {{VEC_BP, 0, 0x104, 0, 2, 0}, {VEC_UD, 0, 0x100, 0, 2, 0}}},
};
#define USER ((int)(sizeof user / sizeof *user))

static void fill(uint8_t *code, uint8_t *stack, int i) {
    uint64_t back = BACK;
    memset(code, 0xcc, 4096);
    memcpy(code + START, user[i].code, user[i].n);
    memset(stack, 0, 4096);
    memcpy(stack + (SP_AT & 0xfff), &back, 8);
}

static void tidy(struct result *r, const uint8_t *stack) {
    r->error = r->trap == VEC_PF ? r->error : 0;
    r->rip = r->rip >> 12 == (GUEST_BASE + CODE_AT) >> 12 ? r->rip & 0xfff : r->rip;
    r->rsp -= (int64_t)(GUEST_BASE + SP_AT);
    memcpy(&r->top, stack + (SP_AT & 0xfff) - 8, 8);
}

static void on_host(int i, struct result *r) {
    uint8_t *code = (void *)(GUEST_BASE + CODE_AT),
            *stack = (void *)(GUEST_BASE + STACK_AT);
    fill(code, stack, i);
    memset(NATIVE->gpr, 0, sizeof NATIVE->gpr);
    NATIVE->gpr[R_AX] = BACK, NATIVE->gpr[R_CX] = 2;
    NATIVE->gpr[R_SP] = GUEST_BASE + SP_AT;
    NATIVE->rip = GUEST_BASE + CODE_AT + START;
    NATIVE->rflags = 2 | FL_ZF;
    native_run();
    *r = (struct result){NATIVE->trap,      NATIVE->error,
                         NATIVE->rip,       (int64_t)NATIVE->gpr[R_SP],
                         NATIVE->gpr[R_CX], 0};
    tidy(r, stack);
}

static void in_guest(int i, struct result *r) {
    uint8_t code[4096];
    uint64_t flags, rsp;
    fill(code, g.ram + STACK_AT, i);
    pn_mmu_write_phys(g.mmu, CODE_AT, code, sizeof code);
    guest_user(&g);
    memset(g.cpu->gpr, 0, sizeof g.cpu->gpr);
    g.cpu->gpr[R_AX] = BACK, g.cpu->gpr[R_CX] = 2;
    guest_start(&g, GUEST_BASE + CODE_AT + START, GUEST_BASE + SP_AT);
    cpu_set_rflags(g.cpu, 2 | FL_ZF);
    ck_assert_int_eq(cpu_run(g.cpu, cpu_insns(g.cpu) + 1000), CPU_EXIT_HALT);
    guest_trapped(&g, &r->trap, &r->error, &r->rip, &flags, &rsp);
    r->rsp = (int64_t)rsp;
    r->rcx = g.cpu->gpr[R_CX];
    tidy(r, g.ram + STACK_AT);
}

static void map_host(void) {
    int prot = PROT_READ | PROT_WRITE | PROT_EXEC;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    ck_assert(native_init(g.model->host_xcr0, 0));
    for (unsigned i = 0; i < 2; i++) {
        void *at = (void *)(GUEST_BASE + (i ? STACK_AT : CODE_AT));
        ck_assert_ptr_eq(mmap(at, 4096, prot, flags, -1, 0), at);
    }
}

START_TEST(user_code_sees_the_vendors_rules) {
    enum cpu_vendor vendor = _i / OPTIONS ? CPU_AMD : CPU_INTEL;
    struct guest_options opt = options[_i % OPTIONS];
    bool native = host_is(vendor);
    opt.model = model[vendor];
    guest_create(&g, &opt);
    guest_idt(&g);
    if (native)
        map_host();
    for (int i = 0; i < USER; i++) {
        struct result got = {0}, want = user[i].by[vendor], host = want;
        in_guest(i, &got);
        if (native)
            on_host(i, &host);
        ck_assert_msg(!memcmp(&got, &want, sizeof got),
                      "%s: trap %lu %lx rip %lx rsp %ld rcx %lu top %lx", user[i].name,
                      got.trap, got.error, got.rip, got.rsp, got.rcx, got.top);
        ck_assert_msg(!memcmp(&host, &want, sizeof host),
                      "%s on the host: trap %lu %lx rip %lx rsp %ld rcx %lu top %lx",
                      user[i].name, host.trap, host.error, host.rip, host.rsp, host.rcx,
                      host.top);
    }
    guest_destroy(&g);
}
END_TEST

/* ---- In supervisor code: LOCK MOV CR0 through the decoder ---- */

static uint64_t cr8;
static void cr8_write(void *opaque, unsigned vcpu, uint64_t value) {
    cr8 = value;
}

START_TEST(lock_makes_cr8_of_mov_cr0_on_amd) {
    enum cpu_vendor vendor = _i / OPTIONS ? CPU_AMD : CPU_INTEL;
    struct guest_options opt = options[_i % OPTIONS];
    uint64_t vector, error, rip, flags, rsp;
    opt.model = model[vendor];
    guest_create(&g, &opt);
    guest_idt(&g);
    g.bus.cr8_write = cr8_write;
    cr8 = 0;
    pn_mmu_write_phys(g.mmu, CODE_AT, "\xf0\x0f\x22\xc0\xcc", 5);
    g.cpu->gpr[R_AX] = 5;
    guest_start(&g, GUEST_BASE + CODE_AT, GUEST_BASE + SP_AT);
    ck_assert_int_eq(cpu_run(g.cpu, cpu_insns(g.cpu) + 1000), CPU_EXIT_HALT);
    guest_trapped(&g, &vector, &error, &rip, &flags, &rsp);
    ck_assert_uint_eq(vector, vendor == CPU_AMD ? VEC_BP : VEC_UD);
    ck_assert_uint_eq(cr8, vendor == CPU_AMD ? 5 : 0);
    guest_destroy(&g);
}
END_TEST

/* ---- By the helpers ---- */

static struct cpu_model *made[2];

static void use(enum cpu_vendor vendor) {
    fx.cpu->model = made[vendor];
    fx.cpu->efer |= EFER_SCE;
    fx.cpu->msr_star = UINT64_C(0x0018000800001234); /* CS 0x18 and 8; EIP 0x1234 */
    fx.cpu->msr_sysenter_cs = 8;
    cpu_update_mode(fx.cpu);
}

static void setup(void) {
    char err[128];
    fix_create();
    for (unsigned v = 0; v < 2; v++)
        ck_assert_int_eq(cpu_model_parse(model[v], &made[v], err, sizeof err), 0);
}
static void teardown(void) {
    fix_destroy();
    for (unsigned v = 0; v < 2; v++)
        cpu_model_free(made[v]);
}

static void compatibility(void) {
    fix_long();
    seg_set(&fx.cpu->seg[SEG_CS], KCODE32, ram_get(GDT + KCODE32, 8));
    cpu_update_mode(fx.cpu);
}

START_TEST(syscall_outside_64_bit_code_is_amds) {
    struct cpu *c = fx.cpu;
    compatibility();
    use(CPU_INTEL);
    struct insn in = insn_new(4);
    ck_fault(op_syscall(c, &in), VEC_UD, -1);
    ck_fault(op_sysret(c, &in), VEC_UD, -1);
    use(CPU_AMD);
    c->msr_cstar = 0x777000, c->msr_lstar = 0x888000, c->msr_sfmask = FL_IF;
    cpu_set_rflags(c, 2 | FL_IF | FL_CF);
    ck_assert_int_eq(op_syscall(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x777000);
    ck_assert_uint_eq(c->gpr[R_CX], 0x8002);
    ck_assert_uint_eq(c->gpr[11], 2 | FL_IF | FL_CF);
    ck_assert_uint_eq(cpu_rflags(c), 2 | FL_CF);
    ck_assert(mode_64(c));
    /* Back into 32-bit code, from 32-bit code: R11 is not asked. */
    compatibility();
    use(CPU_AMD);
    c->gpr[R_CX] = UINT64_C(0x100009000), c->gpr[11] = 0;
    cpu_set_rflags(c, 2 | FL_CF);
    ck_assert_int_eq(op_sysret(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x9000);
    ck_assert_uint_eq(c->seg[SEG_CS].sel, 0x1b);
    ck_assert_uint_eq(c->cpl, 3);
    ck_assert_uint_eq(cpu_rflags(c), 2 | FL_IF | FL_CF);
    /* Without long mode the entry is in STAR, and no flag but IF, VM and RF goes. */
    c->efer = 0;
    fix_prot();
    use(CPU_AMD);
    c->gpr[11] = 77;
    cpu_set_rflags(c, 2 | FL_IF | FL_CF | FL_DF);
    ck_assert_int_eq(op_syscall(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->rip, 0x1234);
    ck_assert_uint_eq(c->gpr[R_CX], 0x8002);
    ck_assert_uint_eq(c->gpr[11], 77);
    ck_assert_uint_eq(cpu_rflags(c), 2 | FL_CF | FL_DF);
    use(CPU_INTEL);
    ck_fault(op_syscall(c, &in), VEC_UD, -1);
}
END_TEST

START_TEST(amds_sysret_leaves_rcx_and_ss_alone) {
    struct cpu *c = fx.cpu;
    fix_long();
    struct insn in = insn_new(8);
    c->gpr[R_CX] = UINT64_C(1) << 47, c->gpr[11] = 2;
    seg_set_null(&c->seg[SEG_SS], 0);
    use(CPU_INTEL);
    ck_fault(op_sysret(c, &in), VEC_GP, 0);
    ck_assert_uint_eq(c->cpl, 0);
    use(CPU_AMD);
    ck_assert_int_eq(op_sysret(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->cpl, 3);
    ck_assert_uint_eq(c->rip, UINT64_C(1) << 47); /* the fetch faults, in ring 3 */
    ck_assert_uint_eq(c->seg[SEG_SS].sel, 0x20);
    ck_assert(c->seg[SEG_SS].attr & ATTR_UNUSABLE);
    fix_long();
    use(CPU_INTEL);
    c->gpr[R_CX] = 0x9000;
    seg_set_null(&c->seg[SEG_SS], 0);
    ck_assert_int_eq(op_sysret(c, &in), CPU_JUMP);
    ck_assert_uint_eq(c->seg[SEG_SS].sel, 0x23);
    ck_assert(!(c->seg[SEG_SS].attr & ATTR_UNUSABLE));
}
END_TEST

START_TEST(sysenter_in_long_mode_is_intels) {
    struct cpu *c = fx.cpu;
    fix_long();
    struct insn in = insn_new(4);
    use(CPU_AMD);
    ck_fault(op_sysenter(c, &in), VEC_UD, -1);
    ck_fault(op_sysexit(c, &in), VEC_UD, -1);
    use(CPU_INTEL);
    ck_assert_int_eq(op_sysenter(c, &in), CPU_JUMP);
    c->efer = 0;
    fix_prot();
    use(CPU_AMD);
    ck_assert_int_eq(op_sysenter(c, &in), CPU_JUMP);
}
END_TEST

START_TEST(a_return_to_an_outer_ring_takes_the_selector_alone) {
    for (unsigned v = 0; v < 2; v++) {
        fix_long();
        use(v);
        fx.cpu->seg[SEG_FS] = (struct pn_segment){KDATA, 0xc093, 0x1234, 0x5678000};
        seg_drop_privileged(fx.cpu, 3);
        ck_assert_uint_eq(fx.cpu->seg[SEG_FS].sel, 0);
        ck_assert(fx.cpu->seg[SEG_FS].attr & ATTR_UNUSABLE);
        ck_assert_uint_eq(fx.cpu->seg[SEG_FS].base, 0x5678000);
        ck_assert_uint_eq(fx.cpu->seg[SEG_FS].limit, 0x1234);
    }
}
END_TEST

START_TEST(intels_own_msrs_fault_on_amd) {
    static const uint32_t index[] = {0x17, 0x3a, 0xce, 0x1a0};
    uint64_t value;
    for (unsigned i = 0; i < sizeof index / sizeof *index; i++) {
        fix_long();
        use(CPU_INTEL);
        ck_assert_int_eq(msr_read(fx.cpu, index[i], &value), CPU_NEXT);
        use(CPU_AMD);
        ck_fault(msr_read(fx.cpu, index[i], &value), VEC_GP, 0);
    }
}
END_TEST

START_TEST(amds_own_msrs_are_there_without_a_bit_of_cpuid) {
    static const struct {
        uint32_t index;
        uint64_t reads;
    } t[] = {
        {0xc0010000, 0}, {0xc0010001, 0},       {0xc0010002, 0}, {0xc0010003, 0},
        {0xc0010004, 0}, {0xc0010005, 0},       {0xc0010006, 0}, {0xc0010007, 0},
        {0xc0010010, 0}, {0xc0010015, 1 << 24}, {0xc001001f, 0},
    };
    for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        uint64_t value = 1;
        fix_long();
        use(CPU_AMD);
        ck_assert_int_eq(msr_write(fx.cpu, t[i].index, 0x530076), CPU_NEXT);
        ck_assert_int_eq(msr_read(fx.cpu, t[i].index, &value), CPU_NEXT);
        ck_assert_uint_eq(value, t[i].reads);
        use(CPU_INTEL);
        ck_fault(msr_read(fx.cpu, t[i].index, &value), VEC_GP, 0);
        ck_fault(msr_write(fx.cpu, t[i].index, 0), VEC_GP, 0);
    }
    use(CPU_AMD);
    ck_fault(msr_write(fx.cpu, 0xc0010008, 0), VEC_GP, 0);
}
END_TEST

START_TEST(cpuid_names_the_vendor) {
    uint32_t r[4];
    cpu_model_leaf(made[CPU_AMD], 0, 0, r);
    ck_assert(!memcmp(&r[1], "Auth", 4) && !memcmp(&r[3], "enti", 4) &&
              !memcmp(&r[2], "cAMD", 4));
    cpu_model_leaf(made[CPU_AMD], 0x80000000, 0, r);
    ck_assert(!memcmp(&r[1], "Auth", 4));
    cpu_model_leaf(made[CPU_AMD], 1, 0, r);
    ck_assert_uint_eq(((r[0] >> 8) & 15) + (r[0] >> 20 & 255), 0x1a);
    cpu_model_leaf(made[CPU_AMD], 0x80000001, 0, r);
    ck_assert(r[2] >> 4 & 1); /* AltMovCr8 */
    cpu_model_leaf(made[CPU_INTEL], 0x80000001, 0, r);
    ck_assert(!(r[2] >> 4 & 1));
    cpu_model_leaf(made[CPU_AMD], 0x12345678, 0, r);
    ck_assert_uint_eq(r[0] | r[1] | r[2] | r[3], 0);
    ck_assert(cpu_model_names_vendor(made[CPU_INTEL]));
}
END_TEST

SUITE("vendors", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {syscall_outside_64_bit_code_is_amds, amds_sysret_leaves_rcx_and_ss_alone,
                sysenter_in_long_mode_is_intels,
                a_return_to_an_outer_ring_takes_the_selector_alone,
                intels_own_msrs_fault_on_amd,
                amds_own_msrs_are_there_without_a_bit_of_cpuid, cpuid_names_the_vendor},
      .loops = {{user_code_sees_the_vendors_rules, 2 * OPTIONS},
                {lock_makes_cr8_of_mov_cr0_on_amd, 2 * OPTIONS}})
