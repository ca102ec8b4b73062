/* SPDX-License-Identifier: MIT */
#include "fixture_native.h"

#include <asm/prctl.h>
#include <cpuid.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "cpu/model.h"

_Static_assert(offsetof(struct native_state, exit) == 0xb0, "asm");
_Static_assert(offsetof(struct native_state, xsave) == 0x400, "asm");
_Static_assert(SYS_arch_prctl == 158 && ARCH_SET_FS == 0x1002, "asm");

void native_enter(void);
void native_set_fs(uint64_t base);
extern const uint8_t native_exit[], native_leave[];

/* clang-format off */
#define S(off) "0x0e000000+" #off
__asm__(
    ".text\n"
    ".globl native_set_fs\n"
    "native_set_fs:\n"
    "mov %rdi, %rsi\n mov $0x1002, %edi\n mov $158, %eax\n syscall\n ret\n"
    ".globl native_enter\n"
    "native_enter:\n"
    "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n pushfq\n"
    "mov %rsp, " S(0xa0) "\n"
    "mov " S(0x90) ", %rdi\n call native_set_fs\n"
    "xor %edx, %edx\n mov " S(0x98) ", %eax\n test %eax, %eax\n jz 1f\n"
    "xrstor64 " S(0x400) "\n jmp 2f\n"
    "1: fxrstor64 " S(0x400) "\n 2:\n"
    "pushq " S(0x88) "\n popfq\n"
    "mov " S(0x08) ", %rcx\n mov " S(0x10) ", %rdx\n mov " S(0x18) ", %rbx\n"
    "mov " S(0x28) ", %rbp\n mov " S(0x30) ", %rsi\n mov " S(0x38) ", %rdi\n"
    "mov " S(0x40) ", %r8\n mov " S(0x48) ", %r9\n mov " S(0x50) ", %r10\n"
    "mov " S(0x58) ", %r11\n mov " S(0x60) ", %r12\n mov " S(0x68) ", %r13\n"
    "mov " S(0x70) ", %r14\n mov " S(0x78) ", %r15\n mov " S(0x00) ", %rax\n"
    "mov " S(0x20) ", %rsp\n"
    "jmp *" S(0x80) "\n"
    ".globl native_exit\n"
    "native_exit:\n"
    "mov %rax, " S(0x00) "\n mov %rcx, " S(0x08) "\n mov %rdx, " S(0x10) "\n"
    "mov %rbx, " S(0x18) "\n mov %rsp, " S(0x20) "\n mov %rbp, " S(0x28) "\n"
    "mov %rsi, " S(0x30) "\n mov %rdi, " S(0x38) "\n mov %r8, " S(0x40) "\n"
    "mov %r9, " S(0x48) "\n mov %r10, " S(0x50) "\n mov %r11, " S(0x58) "\n"
    "mov %r12, " S(0x60) "\n mov %r13, " S(0x68) "\n mov %r14, " S(0x70) "\n"
    "mov %r15, " S(0x78) "\n"
    "mov " S(0xa0) ", %rsp\n"
    "pushfq\n popq " S(0x88) "\n"
    "xor %edx, %edx\n mov " S(0x98) ", %eax\n test %eax, %eax\n jz 1f\n"
    "xsave64 " S(0x400) "\n jmp native_leave\n"
    "1: fxsave64 " S(0x400) "\n"
    ".globl native_leave\n"
    "native_leave:\n"
    "mov " S(0xa0) ", %rsp\n"
    "mov " S(0xa8) ", %rdi\n call native_set_fs\n"
    "fninit\n"
    "testb $4, " S(0x98) "\n jz 1f\n vzeroupper\n 1:\n"
    "pushq $0x1f80\n ldmxcsr (%rsp)\n add $8, %rsp\n"
    "popfq\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");
/* clang-format on */

static struct sigaction before[NSIG];

/* The registers' order in NATIVE->gpr. */
static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                              REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                              REG_R12, REG_R13, REG_R14, REG_R15};

/* Where this host's standard format has a part. */
static unsigned host_at(const struct xsave_part *p) {
    unsigned a, b, c, d;
    return __get_cpuid_count(0xd, p->nr, &a, &b, &c, &d) && a == p->size ? b : p->at;
}

/* Move AVX-512's parts between the host's places and ours. */
static void move_parts(bool to_host) {
    uint8_t *x = NATIVE->xsave, was[sizeof NATIVE->xsave];
    memcpy(was, x, sizeof was);
    for (unsigned i = 1; NATIVE->mask & XSTATE_AVX512 && i < XSAVE_PARTS; i++) {
        const struct xsave_part *p = &xsave_parts[i];
        unsigned host = host_at(p);
        if (to_host)
            memcpy(x + host, was + p->at, p->size);
        else
            memcpy(x + p->at, was + host, p->size);
    }
}

/* Components that the frame's XSTATE_BV does not name are in their initial state. */
static void take_xsave(const uint8_t *fp) {
    uint64_t bv = 3;
    memcpy(NATIVE->xsave, fp, NATIVE->mask & 4 ? 576 + 256 : 512);
    if (NATIVE->mask)
        memcpy(&bv, fp + 512, 8);
    for (unsigned i = 1; NATIVE->mask & XSTATE_AVX512 && i < XSAVE_PARTS; i++) {
        unsigned at = host_at(&xsave_parts[i]), size = xsave_parts[i].size;
        memset(NATIVE->xsave + at, 0, size);
        if (bv >> xsave_parts[i].nr & 1)
            memcpy(NATIVE->xsave + at, fp + at, size);
    }
    if (!(bv & 1)) {
        memset(NATIVE->xsave, 0, 24);
        NATIVE->xsave[0] = 0x7f, NATIVE->xsave[1] = 3;
        memset(NATIVE->xsave + 32, 0, 128);
    }
    if (!(bv & 2))
        memset(NATIVE->xsave + 160, 0, 256);
    if (!(bv & 4))
        memset(NATIVE->xsave + 576, 0, 256);
}

static void handler(int sig, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    if (!NATIVE->active) {
        const struct sigaction *old = &before[sig];
        if (old->sa_flags & SA_SIGINFO)
            old->sa_sigaction(sig, info, context);
        else
            signal(sig, SIG_DFL);
        return;
    }
    native_set_fs(NATIVE->host_fs); /* thread-locals again */
    greg_t *reg = uc->uc_mcontext.gregs;
    for (unsigned i = 0; i < 16; i++)
        NATIVE->gpr[i] = (uint64_t)reg[order[i]];
    NATIVE->rip = (uint64_t)reg[REG_RIP];
    NATIVE->rflags = (uint64_t)reg[REG_EFL];
    NATIVE->trap = (uint64_t)reg[REG_TRAPNO];
    NATIVE->error = (uint64_t)reg[REG_ERR];
    NATIVE->cr2 = (uint64_t)reg[REG_CR2];
    take_xsave((const uint8_t *)uc->uc_mcontext.fpregs);
    reg[REG_RIP] = (greg_t)native_leave;
    reg[REG_EFL] &= ~0x400;
}

int native_init(uint64_t mask, uint64_t gs) {
    void *p = mmap((void *)NATIVE_STATE, 0x2000, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    static uint8_t stack[65536];
    stack_t st = {.ss_sp = stack, .ss_size = sizeof stack};
    if (p != (void *)NATIVE_STATE || sigaltstack(&st, NULL) ||
        syscall(SYS_arch_prctl, ARCH_GET_FS, &NATIVE->host_fs) ||
        syscall(SYS_arch_prctl, ARCH_SET_GS, gs))
        return 0;
    struct sigaction sa = {.sa_sigaction = handler,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    static const int sigs[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (unsigned i = 0; i < sizeof sigs / sizeof *sigs; i++)
        sigaction(sigs[i], &sa, &before[sigs[i]]);
    NATIVE->mask = mask;
    NATIVE->exit = (uint64_t)native_exit;
    return 1;
}

void native_run(void) {
    NATIVE->xsave[512] &= (uint8_t)NATIVE->mask;
    NATIVE->trap = 256;
    move_parts(true);
    NATIVE->active = 1;
    native_enter();
    NATIVE->active = 0;
    move_parts(false);
}
