/* SPDX-License-Identifier: MIT */
/*
 * x87's pointers FIP, FDP and FOP, as either vendor's processors keep them, and what becomes
 * of its exceptions with CR0.NE clear. Sources: SDM volume 1, "x87 FPU Instruction and Operand
 * (Data) Pointers", "Last Instruction Opcode", "MS-DOS Compatibility Sub-mode"; AMD's values
 * are those of an EPYC running the same code.
 */
#include <string.h>

#include "cpu/system.h"
#include "cpu/xstate.h"
#include "fixture_guest.h"
#include "fixture_sys.h"
#include "ops.h"
#include "tests/suite.h"

#define CODE_AT (GUEST_BASE + 0x8000)
#define DATA    (GUEST_BASE + 0x40000)
#define DATA_AT 0x40000u
#define WORD    8u     /* of the data: a control word that masks no division by zero */
#define ENV_IN  0x40u  /* an environment to be loaded */
#define FXSAVED 0x100u /* what the guest saves */
#define ENV     0x400u

#define FINIT 0xdb, 0xe3
#define FCLEX 0xdb, 0xe2
#define FLD1  0xd9, 0xe8
#define FLDZ  0xd9, 0xee
#define FDIVP 0xde, 0xf9
#define FNOP  0xd9, 0xd0
#define FWAIT 0x9b
#define AT(offset)                                                                       \
    0x25, (DATA + (offset)) & 0xff, (DATA + (offset)) >> 8 & 0xff,                       \
        (DATA + (offset)) >> 16 & 0xff, (DATA + (offset)) >> 24
#define FLD    0xdd, 0x04, AT(0)
#define FDIVR  0xdc, 0x3c, AT(0)
#define UNMASK 0xd9, 0x2c, AT(WORD) /* fldcw */
#define LDENV  0xd9, 0x24, AT(ENV_IN)
#define SAVE                                                                             \
    0x48, 0x0f, 0xae, 0x04, AT(FXSAVED), /* fxsave64 */                                  \
        0xd9, 0x34, AT(ENV),             /* fnstenv */                                   \
        0xf4
#define MAX 24

static struct guest g;

static const struct guest_options options[] = {
    {.kind = PN_MMU_SHADOW, .model = "max,vendor=intel"},
    {.kind = PN_MMU_SHADOW, .model = "max,vendor=amd"},
    {.kind = PN_MMU_TDP, .model = "max,vendor=intel", .max_block = 1},
    {.kind = PN_MMU_TDP, .model = "max,vendor=amd", .max_block = 1},
};
#define OPTIONS ((int)(sizeof options / sizeof *options))

static bool is_amd(int option) {
    return option & 1;
}

static uint64_t data_get(unsigned at, unsigned size) {
    uint64_t v = 0;
    memcpy(&v, g.ram + DATA_AT + at, size);
    return v;
}

static void data_put(unsigned at, unsigned size, uint64_t v) {
    memcpy(g.ram + DATA_AT + at, &v, size);
}

static void load(const uint8_t *code, size_t size) {
    const double one_and_a_half = 1.5;
    memset(g.ram + DATA_AT, 0xee, 0x1000);
    memcpy(g.ram + DATA_AT, &one_and_a_half, 8);
    data_put(WORD, 2, 0x33b);
    memset(g.ram + 0x8000, 0xf4, 64);
    memcpy(g.ram + 0x8000, code, size);
    pn_mmu_drop_tlb(g.cpu->vmmu);
    cpu_drop_blocks(g.cpu);
    g.cpu->halted = PN_RUNS;
    guest_start(&g, CODE_AT, GUEST_BASE + 0x20000);
}

static enum cpu_exit run(void) {
    return cpu_run(g.cpu, cpu_insns(g.cpu) + 1000);
}

/* ---- The pointers ---- */

struct pointer_case {
    uint8_t code[MAX], size;
    int8_t at; /* of the instruction that FIP names; -1: of none */
    uint16_t op, fault_op;
    bool data, pending;
};

static const struct pointer_case cases[] = {
    {{FLD1}, 2, 0, 0x1e8, 0, false, false},
    {{FLD}, 7, 0, 0x504, 0, true, false},
    {{FLD, FLD1}, 9, 7, 0x1e8, 0, true, false}, /* FDP stays */
    {{FLD, FNOP}, 9, 7, 0x1d0, 0, true, false},
    {{FLD, 0xdd, 0xc1}, 9, 7, 0x5c1, 0, true, false}, /* ffree st(1) */
    /* Control instructions are not named. */
    {{FLD, FCLEX}, 9, 0, 0x504, 0, true, false},
    {{FLD, 0xdb, 0xe1}, 9, 0, 0x504, 0, true, false}, /* fdisi */
    {{FLD, FWAIT}, 8, 0, 0x504, 0, true, false},
    {{FLD, 0xdf, 0xe0}, 9, 0, 0x504, 0, true, false}, /* fnstsw ax */
    {{FLD, UNMASK}, 14, 0, 0x504, 0, true, false},
    {{FLD, FINIT}, 9, -1, 0, 0, false, false},
    /* An exception that waits, and one that was. */
    {{UNMASK, FLD1, FLDZ, FDIVP}, 13, 11, 0x6f9, 0x6f9, false, true},
    {{UNMASK, FLDZ, FDIVR}, 16, 9, 0x43c, 0x43c, true, true},
    {{UNMASK, FLDZ, FDIVR, FCLEX, FLD1}, 20, 18, 0x1e8, 0x43c, true, false},
};
#define CASES ((int)(sizeof cases / sizeof *cases))

static void check_case(int which, bool amd) {
    const struct pointer_case *c = &cases[which];
    const uint8_t finit[] = {FINIT}, save[] = {SAVE};
    uint8_t code[64];
    memcpy(code, finit, 2);
    memcpy(code + 2, c->code, c->size);
    memcpy(code + 2 + c->size, save, sizeof save);
    load(code, 2 + c->size + sizeof save);
    ck_assert_int_eq(run(), CPU_EXIT_HALT);
    uint64_t ip = c->at < 0 ? 0 : CODE_AT + 2 + (uint64_t)c->at;
    uint64_t dp = c->data ? DATA : 0;
    uint16_t op = amd ? c->op : c->fault_op;
    uint16_t cs = amd && ip ? g.cpu->seg[SEG_CS].sel : 0;
    uint16_t ds = amd && dp ? g.cpu->seg[SEG_DS].sel : 0;
    ck_assert_msg(data_get(ENV + 12, 4) == (uint32_t)ip &&
                      data_get(ENV + 16, 4) == (cs | (uint32_t)op << 16) &&
                      data_get(ENV + 20, 4) == dp &&
                      data_get(ENV + 24, 4) == (ds | 0xffff0000u),
                  "case %d: FNSTENV %lx %lx %lx %lx", which, data_get(ENV + 12, 4),
                  data_get(ENV + 16, 4), data_get(ENV + 20, 4), data_get(ENV + 24, 4));
    bool all = !amd || c->pending;
    ck_assert_msg(data_get(FXSAVED + FX_FOP, 2) == (all ? op : 0) &&
                      data_get(FXSAVED + FX_FIP, 8) == (all ? ip : 0) &&
                      data_get(FXSAVED + FX_FDP, 8) == (all ? dp : 0),
                  "case %d: FXSAVE %lx %lx %lx", which, data_get(FXSAVED + FX_FOP, 2),
                  data_get(FXSAVED + FX_FIP, 8), data_get(FXSAVED + FX_FDP, 8));
}

START_TEST(the_pointers_name_the_last_instruction_as_the_vendor_does) {
    guest_create(&g, &options[_i]);
    for (int c = 0; c < CASES; c++)
        check_case(c, is_amd(_i));
    guest_destroy(&g);
}
END_TEST

/* The instruction was begun, and its operand is not there: FIP stays. */
START_TEST(an_instruction_that_faults_is_not_named) {
    static const uint8_t code[] = {FINIT, FLD1, 0xdd, 0x04, AT(0x1000)};
    uint64_t vector, error, rip, rflags, rsp;
    guest_create(&g, &options[_i]);
    guest_idt(&g);
    guest_gpte(&g, DATA + 0x1000, 0);
    load(code, sizeof code);
    ck_assert_int_eq(run(), CPU_EXIT_HALT);
    guest_trapped(&g, &vector, &error, &rip, &rflags, &rsp);
    ck_assert_uint_eq(vector, VEC_PF);
    ck_assert_uint_eq(rip, CODE_AT + 4);
    ck_assert_uint_eq(g.cpu->x87.ip, CODE_AT + 2);
    guest_destroy(&g);
}
END_TEST

START_TEST(fldenv_sets_the_pointers) {
    static const uint8_t code[] = {LDENV, SAVE};
    guest_create(&g, &options[_i]);
    load(code, sizeof code);
    static const uint32_t env[7] = {0xffff037f, 0xffff0000, 0xffffffff, 0x11223344,
                                    0x07ab1234, 0x55667788, 0xffff4321};
    memcpy(g.ram + DATA_AT + ENV_IN, env, sizeof env);
    ck_assert_int_eq(run(), CPU_EXIT_HALT);
    bool amd = is_amd(_i);
    ck_assert_uint_eq(data_get(ENV + 12, 4), env[3]);
    ck_assert_uint_eq(data_get(ENV + 16, 4), amd ? env[4] : env[4] & 0xffff0000u);
    ck_assert_uint_eq(data_get(ENV + 20, 4), env[5]);
    ck_assert_uint_eq(data_get(ENV + 24, 4), amd ? env[6] : 0xffff0000u);
    guest_destroy(&g);
}
END_TEST

/* SDM volume 1, "Real Mode x87 FPU State Image in Memory": linear addresses, in pieces. */
START_TEST(environments_of_real_mode_have_linear_pointers) {
    struct sys *s = sys_new("max,vendor=amd");
    const uint32_t linear_ip = 0x56780 + 0x1234, linear_dp = 0x9abc0 + 0xfedc;
    struct insn in = sys_mem_insn(4, 0x2000);
    in.addrsize = 4;
    s->cpu->x87.ip = 0x1234, s->cpu->x87.cs = 0x5678;
    s->cpu->x87.dp = 0xfedc, s->cpu->x87.ds = 0x9abc;
    s->cpu->x87.op = 0x7ab;
    uint32_t wide[7];
    uint16_t narrow[7];
    for (unsigned turn = 0; turn < 2; turn++) { /* the second after a load of the first */
        in.opsize = 4;
        ck_assert_int_eq(op_fnstenv(s->cpu, &in), CPU_NEXT);
        memcpy(wide, s->ram + 0x2000, sizeof wide);
        ck_assert_uint_eq(wide[3], 0xffff0000u | (linear_ip & 0xffff));
        ck_assert_uint_eq(wide[4], (linear_ip >> 16) << 12 | 0x7ab);
        ck_assert_uint_eq(wide[5], 0xffff0000u | (linear_dp & 0xffff));
        ck_assert_uint_eq(wide[6], (linear_dp >> 16) << 12);
        in.opsize = 2;
        ck_assert_int_eq(op_fnstenv(s->cpu, &in), CPU_NEXT);
        memcpy(narrow, s->ram + 0x2000, sizeof narrow);
        ck_assert_uint_eq(narrow[3], linear_ip & 0xffff);
        ck_assert_uint_eq(narrow[4], linear_ip >> 16 << 12 | 0x7ab);
        ck_assert_uint_eq(narrow[5], linear_dp & 0xffff);
        ck_assert_uint_eq(narrow[6], linear_dp >> 16 << 12);
        ck_assert_int_eq(op_fldenv(s->cpu, &in), CPU_NEXT);
    }
    sys_free(s);
}
END_TEST

/* ---- CR0.NE ---- */

static char told[16]; /* one character a call */

static void ferr(void *opaque, unsigned cpu, bool pending) {
    ck_assert_uint_lt(strlen(told), sizeof told - 1);
    strcat(told, pending ? "P" : "-");
}

static const uint8_t divides[] = {FINIT, UNMASK, FLD1,  FLDZ, FDIVP,
                                  FWAIT, FLD1,   FCLEX, SAVE};

static void begin_division(const struct guest_options *opt, bool ne, bool listens) {
    guest_create(&g, opt);
    guest_idt(&g);
    told[0] = 0;
    g.bus.ferr = listens ? ferr : NULL;
    load(divides, sizeof divides);
    g.cpu->cr0 = ne ? g.cpu->cr0 | CR0_NE : g.cpu->cr0 & ~(uint64_t)CR0_NE;
    cpu_update_mode(g.cpu);
    ck_assert_int_eq(run(), CPU_EXIT_HALT);
}

START_TEST(with_ne_or_nobody_at_ferr_the_exception_is_mf) {
    uint64_t vector, error, rip, rflags, rsp;
    for (unsigned ne = 0; ne < 2; ne++) {
        begin_division(&options[_i], ne, ne);
        guest_trapped(&g, &vector, &error, &rip, &rflags, &rsp);
        ck_assert_uint_eq(vector, VEC_MF);
        ck_assert_uint_eq(rip, CODE_AT + 15); /* FWAIT */
        ck_assert_str_eq(told, "");
        guest_destroy(&g);
    }
}
END_TEST

/* Each instruction that waits tells of it, and goes on where no interrupt comes; FNCLEX
 * ends it. What FLD1 does is what a masked exception lets it. */
START_TEST(without_ne_ferr_tells_of_the_exception) {
    begin_division(&options[_i], false, true);
    ck_assert_str_eq(told, "-PP--");            /* FINIT, FWAIT, FLD1, FCLEX, FNSTENV */
    ck_assert_uint_eq(data_get(ENV, 2), 0x37b); /* bit 6 reads 1 */
    ck_assert_uint_eq(data_get(ENV + 4, 2) & 0x80ff, 0);
    ck_assert_uint_eq(data_get(ENV + 12, 4), (uint32_t)CODE_AT + 16);
    guest_destroy(&g);
}
END_TEST

/* FLDCW under a pending exception: the word that was loaded holds. */
START_TEST(a_control_word_loaded_meanwhile_holds) {
    static const uint8_t code[] = {FINIT, UNMASK, FLD1,         FLDZ, FDIVP,
                                   0xd9,  0x2c,   AT(WORD + 2), SAVE};
    guest_create(&g, &options[_i]);
    told[0] = 0;
    g.bus.ferr = ferr;
    load(code, sizeof code);
    data_put(WORD + 2, 2, 0x37f);
    g.cpu->cr0 &= ~(uint64_t)CR0_NE;
    cpu_update_mode(g.cpu);
    ck_assert_int_eq(run(), CPU_EXIT_HALT);
    ck_assert_uint_eq(data_get(ENV, 2), 0x37f);
    ck_assert_uint_eq(data_get(ENV + 4, 2) & 0x80ff, 4); /* ZE stays, ES does not */
    ck_assert_str_eq(told, "-P--"); /* FINIT, FLDCW before and after, FNSTENV */
    guest_destroy(&g);
}
END_TEST

SUITE("x87", .tests = {environments_of_real_mode_have_linear_pointers},
      .loops = {{the_pointers_name_the_last_instruction_as_the_vendor_does, OPTIONS},
                {an_instruction_that_faults_is_not_named, OPTIONS},
                {fldenv_sets_the_pointers, OPTIONS},
                {with_ne_or_nobody_at_ferr_the_exception_is_mf, OPTIONS},
                {without_ne_ferr_tells_of_the_exception, OPTIONS},
                {a_control_word_loaded_meanwhile_holds, OPTIONS}})
