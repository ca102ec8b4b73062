/* SPDX-License-Identifier: MIT */
/*
 * The host's side of the differential test. The whole loop runs in a signal handler: it
 * fills the signal's frame with a case's state and TF, and returns; the kernel's IRET
 * starts the instruction, and whatever comes of it is the next signal.
 *
 * Descriptors: 3 the shared memory; 4, where a byte comes for each batch; 5, where one goes
 * when it is ready for a batch.
 *
 * Invariants
 * 1. Nothing of this process is below 4 GiB but the code and the data of the cases. What is
 *    above is in own[]; the first stack, which an access below it would let grow, is gone.
 * 2. The handler uses no thread-local storage: FS is the case's.
 */
#include <asm/prctl.h>
#include <cpuid.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "diff.h"

#define FX_SW_MAGIC     0x46505853u /* FP_XSTATE_MAGIC1 of asm/sigcontext.h */
#define FX_SW           464u
#define FX_LEGACY       416u
#define XSTATE_BV       512u
#define XSTATE_PKRU_BIT 0x200u

/* The vector state behind the header: where it is in a case, and in this host's frames. */
#define PARTS 4u
static const struct {
    uint32_t nr, at, size;
} parts[PARTS] = {{2, 576, 256}, {5, 832, 64}, {6, 896, 512}, {7, 1408, 1024}};
static uint32_t host_at[PARTS];

static struct diff_shared *sh;
static uint8_t *data, *code; /* writable views of the cases' memory */
static uint32_t code_at, code_len;
static int running, inside, bases_changed, kind64;
static struct diff_own first_stack;

/* The registers' order in gpr[]. */
static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                              REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                              REG_R12, REG_R13, REG_R14, REG_R15};

static long sys3(long nr, long a, long b, long c) {
    long ret;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return ret;
}

static void leave(const char *why) {
    sys3(SYS_write, 2, (long)why, (long)strlen(why));
    sys3(SYS_exit_group, 3, 0, 0);
}

/* ---- Segments ---- */

#define READ_SEG(name, to)  __asm__ volatile("mov %%" name ", %0" : "=r"(to))
#define WRITE_SEG(name, to) __asm__ volatile("mov %0, %%" name : : "r"((uint32_t)(to)))

static void set_bases(int code64) {
    uint32_t sel = code64 ? 0 : DIFF_DS;
    WRITE_SEG("fs", sel);
    WRITE_SEG("gs", sel);
    if (code64) {
        sys3(SYS_arch_prctl, ARCH_SET_FS, DIFF_FS, 0);
        sys3(SYS_arch_prctl, ARCH_SET_GS, DIFF_GS, 0);
    }
    kind64 = code64;
}

static void take_segments(const struct diff_case *c, uint64_t csgsfs,
                          struct diff_outcome *o) {
    READ_SEG("es", o->sel[DIFF_ES]);
    READ_SEG("ds", o->sel[DIFF_DS_]);
    READ_SEG("fs", o->sel[DIFF_FS_]);
    READ_SEG("gs", o->sel[DIFF_GS_]);
    o->sel[DIFF_CS_] = c->as64 ? DIFF_CS32 : (uint16_t)csgsfs;
    o->sel[DIFF_SS] = (uint16_t)(csgsfs >> 48);
    o->fs_base = c->code64 ? DIFF_FS : 0;
    o->gs_base = c->code64 ? DIFF_GS : 0;
    if (c->bases) {
        sys3(SYS_arch_prctl, ARCH_GET_FS, (long)&o->fs_base, 0);
        sys3(SYS_arch_prctl, ARCH_GET_GS, (long)&o->gs_base, 0);
        bases_changed = 1;
    }
}

/* ---- Vector state ---- */

/* Components that XSTATE_BV does not name are in their initial state. */
static void take_vectors(const uint8_t *fp, struct diff_outcome *o) {
    uint32_t magic;
    uint64_t bv = 3;
    memcpy(&magic, fp + FX_SW, 4);
    if (magic == FX_SW_MAGIC)
        memcpy(&bv, fp + XSTATE_BV, 8);
    memset(o->st, 0, sizeof o->st);
    memset(o->xmm, 0, sizeof o->xmm);
    o->fcw = 0x37f;
    o->fsw = o->ftw = 0;
    if (bv & 1) {
        memcpy(&o->fcw, fp, 2);
        memcpy(&o->fsw, fp + 2, 2);
        o->ftw = fp[4];
        for (unsigned i = 0; i < 8; i++)
            memcpy(o->st[i], fp + 32 + 16 * i, 10);
    }
    if (bv & 2)
        memcpy(o->xmm, fp + 160, 256);
    uint8_t *to[PARTS] = {(uint8_t *)o->ymm, (uint8_t *)o->k, (uint8_t *)o->zmm,
                          (uint8_t *)o->high};
    for (unsigned i = 0; i < PARTS; i++) {
        memset(to[i], 0, parts[i].size);
        if (bv >> parts[i].nr & 1)
            memcpy(to[i], fp + host_at[i], parts[i].size);
    }
    memcpy(&o->mxcsr, fp + 24, 4);
}

static void put_vectors(const struct diff_case *c, uint8_t *fp) {
    uint32_t magic, mask;
    uint64_t bv;
    memcpy(&mask, fp + 28, 4);
    memcpy(fp, c->xsave, FX_LEGACY);
    memcpy(fp + 28, &mask, 4);
    memcpy(&magic, fp + FX_SW, 4);
    if (magic != FX_SW_MAGIC)
        return;
    memcpy(&bv, fp + XSTATE_BV, 8);
    bv = (bv & XSTATE_PKRU_BIT) | c->xsave[XSTATE_BV];
    memcpy(fp + XSTATE_BV, &bv, 8);
    for (unsigned i = 0; i < PARTS; i++)
        if (c->xsave[XSTATE_BV] >> parts[i].nr & 1)
            memcpy(fp + host_at[i], c->xsave + parts[i].at, parts[i].size);
}

/* ---- Cases ---- */

static void take(const struct diff_case *c, struct diff_outcome *o, ucontext_t *uc) {
    greg_t *reg = uc->uc_mcontext.gregs;
    for (unsigned i = 0; i < 16; i++)
        o->gpr[i] = (uint64_t)reg[order[i]];
    o->rip = (uint64_t)reg[REG_RIP];
    o->rflags = (uint64_t)reg[REG_EFL];
    o->trap = (uint64_t)reg[REG_TRAPNO];
    o->error = (uint64_t)reg[REG_ERR];
    o->cr2 = (uint64_t)reg[REG_CR2];
    take_segments(c, (uint64_t)reg[REG_CSGSFS], o);
    take_vectors((const uint8_t *)uc->uc_mcontext.fpregs, o);
    if (sh->keep)
        memcpy(sh->after, data, DIFF_DATA_SIZE);
    o->memory = diff_result(c, sh->before, data);
    diff_restore(sh->before, data);
}

static void put(const struct diff_case *c, ucontext_t *uc) {
    greg_t *reg = uc->uc_mcontext.gregs;
    uint64_t cs = c->code64 || c->as64 ? DIFF_CS64 : DIFF_CS32;
    for (unsigned i = 0; i < 16; i++)
        reg[order[i]] = (greg_t)c->gpr[i];
    reg[REG_RIP] = (greg_t)c->rip;
    reg[REG_EFL] = (greg_t)(c->rflags | DIFF_TF);
    reg[REG_CSGSFS] = (greg_t)(cs | (uint64_t)DIFF_DS << 48);
    put_vectors(c, (uint8_t *)uc->uc_mcontext.fpregs);
    memset(code + code_at, 0xcc, code_len);
    code_at = (uint32_t)(c->rip - DIFF_CODE);
    code_len = c->len;
    memcpy(code + code_at, c->code, c->len);
    diff_poke(c, data);
    if (bases_changed || kind64 != c->code64)
        set_bases(c->code64);
    bases_changed = 0;
    uint32_t sel = c->code64 ? 0 : DIFF_DS;
    WRITE_SEG("ds", sel);
    WRITE_SEG("es", sel);
}

static void skip(void) {
    while (sh->current < sh->count && sh->cases[sh->current].skip)
        sh->current = sh->current + 1;
}

static void next_batch(void) {
    char byte = 0;
    sys3(SYS_write, 5, (long)&byte, 1); /* done, or ready for the first */
    if (sys3(SYS_read, 4, (long)&byte, 1) != 1)
        sys3(SYS_exit_group, 0, 0, 0);
    running = 1;
    sh->current = sh->first;
    skip();
}

__attribute__((used)) void native_signal(int sig, siginfo_t *info, void *context);
void native_signal(int sig, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    if (inside)
        leave("diff_native: its own fault\n");
    inside = 1;
    if (running) {
        take(&sh->cases[sh->current], &sh->native[sh->current], uc);
        sh->current = sh->current + 1;
        skip();
    }
    if (!running)
        sys3(SYS_munmap, (long)first_stack.from,
             (long)(first_stack.to - first_stack.from), 0);
    while (!running || sh->current == sh->count)
        next_batch();
    put(&sh->cases[sh->current], uc);
    inside = 0;
}

/* AC may be set, and would make the handler's own accesses fault. NT and ID would stay for
 * the next case: a signal's frame does not restore them. */
void native_entry(int sig, siginfo_t *info, void *context);
__asm__(".text\n.globl native_entry\nnative_entry:\n"
        "pushfq\n andl $~0x244000, (%rsp)\n popfq\n jmp native_signal\n");

/* ---- What the host is ---- */

static void find_parts(void) {
    for (unsigned i = 0; i < PARTS; i++) {
        unsigned a, b, c, d;
        host_at[i] = parts[i].at;
        if (__get_cpuid_count(0xd, parts[i].nr, &a, &b, &c, &d) && a == parts[i].size)
            host_at[i] = b;
    }
}

static void probe_gdt(void) {
    for (unsigned i = 1; i < DIFF_SELECTORS; i++) {
        struct diff_descriptor *d = &sh->gdt[i];
        uint32_t sel = i * 8 + 3;
        __asm__("lar %2, %0\n setz %1" : "=r"(d->access), "=q"(d->visible) : "r"(sel));
        if (d->visible)
            __asm__("lsl %1, %0" : "=r"(d->limit) : "r"(sel));
    }
}

/* No real IDT ends at its first byte: Linux makes it up (arch/x86/kernel/umip.c). */
static bool kernel_has_umip(void) {
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } idt = {0, 0};
    __asm__("sidt %0" : "=m"(idt));
    return idt.limit == 0;
}

/* LSL tells Linux's processes the number of their CPU: it must not change any more. */
static void stay(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(sched_getcpu(), &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void *map(int fd, uint64_t at, size_t size, off_t offset, int prot) {
    void *p = mmap((void *)at, size, prot, MAP_SHARED | (at ? MAP_FIXED_NOREPLACE : 0),
                   fd, offset);
    if (p == MAP_FAILED || (at && p != (void *)at)) {
        fprintf(stderr, "diff_native: mmap %#lx: %s\n", (unsigned long)at,
                strerror(errno));
        exit(1);
    }
    return p;
}

static void map_cases(void) {
    int fd = memfd_create("diff", 0);
    if (fd < 0 || ftruncate(fd, DIFF_DATA_SIZE + DIFF_CODE_SIZE)) {
        perror("diff_native: memfd");
        exit(1);
    }
    data = map(fd, 0, DIFF_DATA_SIZE, 0, PROT_READ | PROT_WRITE);
    code = map(fd, 0, DIFF_CODE_SIZE, DIFF_DATA_SIZE, PROT_READ | PROT_WRITE);
    map(fd, DIFF_CODE, DIFF_CODE_SIZE, DIFF_DATA_SIZE, PROT_READ | PROT_EXEC);
    uint8_t *user = map(fd, DIFF_DATA, DIFF_DATA_SIZE, 0, PROT_READ | PROT_WRITE);
    mprotect(user + DIFF_READONLY * 4096, 4096, PROT_READ);
    mprotect(user + DIFF_ABSENT * 4096, 4096, PROT_NONE);
    memset(code, 0xcc, DIFF_CODE_SIZE);
    memcpy(data, sh->before, DIFF_DATA_SIZE);
    /* Present from now on: a fault has another error code on a page that is not. */
    for (unsigned i = 0; i < DIFF_PAGES; i++)
        if (i != DIFF_ABSENT)
            *(volatile uint8_t *)(user + i * 4096);
}

static void list_own(void) {
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned n = 0;
    char line[512];
    while (maps && fgets(line, sizeof line, maps)) {
        struct diff_own own;
        if (sscanf(line, "%lx-%lx", &own.from, &own.to) != 2 || !(own.from >> 32))
            continue;
        if (strstr(line, "[stack]"))
            first_stack = own;
        else if (n < DIFF_OWN)
            sh->own[n++] = own;
    }
    if (!first_stack.to || n == DIFF_OWN) {
        fprintf(stderr, "diff_native: /proc/self/maps is not as expected\n");
        exit(1);
    }
    fclose(maps);
}

int main(void) {
    static uint8_t stack[1 << 17] __attribute__((aligned(64)));
    static const int sigs[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGUSR1};
    stack_t st = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction sa = {.sa_sigaction = native_entry,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sh = map(3, 0, sizeof *sh, 0, PROT_READ | PROT_WRITE);
    map_cases();
    stay();
    find_parts();
    probe_gdt();
    /* Without a 32-bit code segment there is no 32-bit code. */
    uint32_t access = sh->gdt[DIFF_CS32 >> 3].access;
    sh->umip = kernel_has_umip();
    sh->code32 = sh->gdt[DIFF_CS32 >> 3].visible && access & 0x400000 && access & 0x800;
    if (sigaltstack(&st, NULL)) {
        perror("diff_native: sigaltstack");
        return 1;
    }
    for (unsigned i = 0; i < sizeof sigs / sizeof *sigs; i++)
        sigaction(sigs[i], &sa, NULL);
    kind64 = -1;
    list_own();
    raise(SIGUSR1);
    return 3;
}
