/* SPDX-License-Identifier: MIT */
/*
 * Single-step and data breakpoints on repeated strings. What single-stepping shows is
 * compared with this host's own CPU, trap by trap: SDM volume 3, "Single-Step Exception
 * Condition" and "Instruction-Breakpoint Exception Condition" (RF); APM volume 2, "Debug
 * Registers".
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "cpu/system.h"
#include "fixture_guest.h"
#include "tests/suite.h"

#define CODE_AT (GUEST_BASE + 0x8000)
#define STACK   (GUEST_BASE + 0x20000)
#define DATA    (GUEST_BASE + 0x40000) /* mapped here, too, by the host */
#define DATA_AT 0x40000u
#define BYTES   0x2000u
#define TRAPS   24u

struct trap {
    uint64_t rip, rcx, rsi, rdi, flags; /* rip: from the code's start */
};
struct trace {
    unsigned n;
    struct trap trap[TRAPS];
};

/* ---- What is stepped through: NOP, the string, NOP, RET ---- */

struct string_case {
    uint8_t code[8];
    uint64_t rcx, rsi, rdi;
    uint64_t flags;
};

static const struct string_case cases[] = {
    {{0xf3, 0xa4}, 3, DATA, DATA + 0x800, 0},                  /* rep movsb */
    {{0xf3, 0xa4}, 1, DATA, DATA + 0x800, FL_CF},              /* once */
    {{0xf3, 0xa4}, 0, DATA, DATA + 0x800, FL_CF},              /* never */
    {{0xf3, 0x48, 0xa5}, 4, DATA + 0x40, DATA + 0x840, FL_DF}, /* down, quadwords */
    {{0xf3, 0xaa}, 5, DATA, DATA + 0xffe, 0},                  /* rep stosb, two pages */
    {{0x67, 0xf3, 0xab}, 2, DATA, DATA + 0x900, 0},            /* by ECX and EDI */
    {{0xf3, 0x48, 0xad}, 3, DATA, DATA, 0},                    /* rep lodsq */
    {{0xf3, 0xa6}, 9, DATA, DATA + 0x1000, FL_OF},             /* repe cmpsb */
    {{0xf2, 0xae}, 9, DATA, DATA, 0},                          /* repne scasb */
    {{0xf3, 0x66, 0xaf}, 2, DATA, DATA, FL_ZF},                /* repe scasw */
    {{0xa4}, 7, DATA, DATA + 0x800, 0},                        /* no prefix: one trap */
};
#define CASES ((int)(sizeof cases / sizeof *cases))

static unsigned make_code(const struct string_case *c, uint8_t *code) {
    unsigned n = 0, i = 0;
    code[n++] = 0x90;
    do
        code[n++] = c->code[i++];
    while (c->code[i]);
    code[n++] = 0x90;
    code[n] = 0xc3;
    return n; /* where RET stands */
}

/* The accumulator is found by SCAS in the fifth byte. */
static void make_data(uint8_t *p) {
    for (unsigned i = 0; i < BYTES; i++)
        p[i] = (uint8_t)(i % 0x1000 * 7 + 1);
    p[0x1003] ^= 1; /* CMPS stops there */
}
#define ACCUMULATOR 29u

/* ---- The host's side ---- */

static uint8_t *host_code;
static struct trace host;

static void on_trap(int sig, siginfo_t *info, void *context) {
    greg_t *reg = ((ucontext_t *)context)->uc_mcontext.gregs;
    uint64_t rip = (uint64_t)reg[REG_RIP] - (uint64_t)host_code;
    if (rip == 0 || rip >= 16 || host.n == TRAPS)
        return;
    host.trap[host.n++] =
        (struct trap){rip, (uint64_t)reg[REG_RCX], (uint64_t)reg[REG_RSI],
                      (uint64_t)reg[REG_RDI], (uint64_t)reg[REG_EFL] & FL_ARITH};
}

static void host_trace(const struct string_case *c) {
    uint64_t flags = c->flags | FL_TF, rcx = c->rcx, rsi = c->rsi, rdi = c->rdi;
    host.n = 0;
    mprotect(host_code, 4096, PROT_READ | PROT_WRITE);
    make_code(c, host_code);
    mprotect(host_code, 4096, PROT_READ | PROT_EXEC);
    __asm__ volatile("lea -256(%%rsp), %%rsp\n\t"
                     "push %[fl]\n\t"
                     "popfq\n\t"
                     "call *%[fn]\n\t"
                     "pushq $2\n\t"
                     "popfq\n\t"
                     "lea 256(%%rsp), %%rsp"
                     : "+c"(rcx), "+S"(rsi), "+D"(rdi)
                     : [fn] "r"(host_code), [fl] "r"(flags), "a"((uint64_t)ACCUMULATOR)
                     : "memory", "cc");
}

static void host_begin(void) {
    struct sigaction sa = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    sigaction(SIGTRAP, &sa, NULL);
    host_code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, flags, -1, 0);
    ck_assert(host_code != MAP_FAILED);
    ck_assert_ptr_eq(mmap((void *)DATA, BYTES, PROT_READ | PROT_WRITE,
                          flags | MAP_FIXED_NOREPLACE, -1, 0),
                     (void *)DATA);
}

/* ---- The guest's side ---- */

static const struct guest_options options[] = {
    {.kind = PN_MMU_SHADOW},
    {.kind = PN_MMU_SHADOW, .max_block = 1},
    {.kind = PN_MMU_TDP},
    {.kind = PN_MMU_TDP, .max_block = 1},
};
#define OPTIONS ((int)(sizeof options / sizeof *options))

static struct guest g;

static void guest_begin(const struct guest_options *opt) {
    guest_create(&g, opt);
    guest_idt(&g);
}

static void guest_enter(const struct string_case *c, uint64_t flags) {
    struct cpu *cpu = g.cpu;
    make_code(c, g.ram + 0x8000);
    pn_mmu_drop_tlb(cpu->vmmu);
    cpu_drop_blocks(cpu);
    guest_user(&g);
    guest_start(&g, CODE_AT, STACK);
    cpu->gpr[R_AX] = ACCUMULATOR;
    cpu->gpr[R_CX] = c->rcx, cpu->gpr[R_SI] = c->rsi, cpu->gpr[R_DI] = c->rdi;
    cpu_set_rflags(cpu, c->flags | flags | 2);
    cpu_update_mode(cpu);
}

/* Run to the next trap and note it. Return: its vector. */
static uint64_t guest_trap(struct trap *t) {
    struct cpu *cpu = g.cpu;
    uint64_t vector, error, rsp;
    ck_assert_int_eq(cpu_run(cpu, cpu_insns(cpu) + 1000), CPU_EXIT_HALT);
    guest_trapped(&g, &vector, &error, &t->rip, &t->flags, &rsp);
    t->rip -= CODE_AT;
    t->rcx = cpu->gpr[R_CX], t->rsi = cpu->gpr[R_SI], t->rdi = cpu->gpr[R_DI];
    return vector;
}

/* As the handler's IRET would. */
static void guest_resume(const struct trap *t) {
    guest_user(&g);
    guest_start(&g, CODE_AT + t->rip, STACK);
    cpu_set_rflags(g.cpu, t->flags);
    cpu_update_mode(g.cpu);
}

static void guest_trace(const struct string_case *c, struct trace *out) {
    unsigned end = make_code(c, g.ram + 0x8000);
    struct trap t;
    out->n = 0;
    guest_enter(c, FL_TF);
    do {
        ck_assert_uint_eq(guest_trap(&t), VEC_DB);
        ck_assert_uint_eq(g.cpu->dr[6], DR6_FIXED | DR6_BS);
        ck_assert_uint_lt(out->n, TRAPS);
        out->trap[out->n] = t;
        out->trap[out->n].flags &= FL_ARITH;
        /* Between iterations alone. The host's RF is lost where a hypervisor that takes
         * the trap gives it back. */
        ck_assert_uint_eq(t.flags & FL_RF, out->n && t.rip == 1 ? FL_RF : 0);
        out->n++;
        guest_resume(&t);
    } while (t.rip != end);
}

/* ---- The tests ---- */

static void same_trace(int which, const struct trace *got) {
    ck_assert_msg(got->n == host.n, "case %d: %u traps, on the host %u", which, got->n,
                  host.n);
    for (unsigned i = 0; i < got->n; i++) {
        const struct trap *a = &got->trap[i], *b = &host.trap[i];
        ck_assert_msg(!memcmp(a, b, sizeof *a),
                      "case %d, trap %u: rip %lu rcx %lx rsi %lx rdi %lx flags %lx; on "
                      "the host %lu %lx %lx %lx %lx",
                      which, i, a->rip, a->rcx, a->rsi, a->rdi, a->flags, b->rip, b->rcx,
                      b->rsi, b->rdi, b->flags);
    }
}

START_TEST(each_iteration_of_a_string_traps_as_on_the_host) {
    struct trace got;
    host_begin();
    guest_begin(&options[_i]);
    for (int c = 0; c < CASES; c++) {
        make_data((void *)DATA);
        make_data(g.ram + DATA_AT);
        host_trace(&cases[c]);
        guest_trace(&cases[c], &got);
        same_trace(c, &got);
        ck_assert(!memcmp((void *)DATA, g.ram + DATA_AT, BYTES));
    }
    guest_destroy(&g);
}
END_TEST

/* ---- Debug registers ---- */

#define DR7_CODE(n)  (UINT64_C(1) << 2 * (n))
#define DR7_WRITE(n) (DR7_CODE(n) | UINT64_C(1) << (16 + 4 * (n)))

static void expect(struct trap *t, uint64_t rip, uint64_t rcx, uint64_t rf,
                   uint64_t dr6) {
    ck_assert_uint_eq(guest_trap(t), VEC_DB);
    ck_assert_uint_eq(t->rip, rip);
    ck_assert_uint_eq(t->rcx, rcx);
    ck_assert_uint_eq(t->flags & FL_RF, rf);
    ck_assert_uint_eq(g.cpu->dr[6], DR6_FIXED | dr6);
    g.cpu->dr[6] = DR6_FIXED;
    guest_resume(t);
}

/* A watchpoint in the middle traps between two iterations, one that the last iteration
 * hits behind the instruction. The code breakpoint is met before the first one alone. */
START_TEST(a_watchpoint_traps_between_iterations_and_sets_rf) {
    const struct string_case *c = &cases[0];
    struct trap t;
    guest_begin(&options[_i]);
    guest_enter(c, 0);
    g.cpu->dr[0] = c->rdi + 1;
    g.cpu->dr[1] = c->rdi + 2;
    g.cpu->dr[2] = CODE_AT + 1;
    g.cpu->dr[7] = DR7_FIXED | DR7_WRITE(0) | DR7_WRITE(1) | DR7_CODE(2);
    cpu_update_mode(g.cpu);
    expect(&t, 1, 3, 0, 4);
    t.flags |= FL_RF; /* as a handler does to go on */
    guest_resume(&t);
    expect(&t, 1, 1, FL_RF, 1);
    expect(&t, 3, 0, 0, 2);
    guest_destroy(&g);
}
END_TEST

/* ---- Interrupts ---- */

#define IRQ 31 /* the last vector that guest_idt has */

static int pending;

static int peek(void *opaque, unsigned vcpu) {
    return pending;
}
static int ack(void *opaque, unsigned vcpu) {
    int vector = pending;
    pending = -1;
    return vector;
}
static void out_raises(void *opaque, unsigned vcpu, uint16_t port, unsigned size,
                       uint64_t value) {
    pending = IRQ;
    g.cpu->intr_line = 1;
}

START_TEST(an_interrupt_between_iterations_sets_rf) {
    const struct string_case outs = {{0xf3, 0x6e}, 3, DATA, 0, 0}; /* rep outsb */
    struct trap t;
    guest_begin(&options[_i]);
    pending = -1;
    g.bus.intr_ack = ack;
    g.bus.intr_peek = peek;
    g.bus.pio_write = out_raises;
    guest_enter(&outs, FL_IF | FL_IOPL);
    for (unsigned left = 3; left-- > 0;) {
        ck_assert_uint_eq(guest_trap(&t), IRQ);
        ck_assert_uint_eq(t.rcx, left);
        ck_assert_uint_eq(t.rip, left ? 1 : 3);
        ck_assert_uint_eq(t.flags & FL_RF, left ? FL_RF : 0);
        guest_resume(&t);
    }
    guest_destroy(&g);
}
END_TEST

SUITE("single step",
      .loops = {{each_iteration_of_a_string_traps_as_on_the_host, OPTIONS},
                {a_watchpoint_traps_between_iterations_and_sets_rf, OPTIONS},
                {an_interrupt_between_iterations_sets_rf, OPTIONS}})
