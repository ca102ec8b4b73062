/* SPDX-License-Identifier: MIT */
/*
 * A process under a shadow stack of Linux's (Documentation/arch/x86/shstk.rst; the kernel has
 * CONFIG_X86_USER_SHADOW_STACK). A line for each thing that it finds right; the last one is
 * SHSTK-DONE. main does not return: below it the shadow stack is empty.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* asm/prctl.h and asm-generic/siginfo.h of kernels that have it. */
#define SHSTK_ENABLE 0x5001
#define SHSTK_WRSS   2
#define SHSTK_SHSTK  1
#define CPERR        10 /* SEGV_CPERR: control protection */

static void check(int right, const char *what) {
    printf("%s: %s\n", what, right ? "ok" : "wrong");
    fflush(stdout);
    if (!right)
        _exit(1);
}

/* Inline: a function that turned it on could not return. */
#define ENABLE(bits, ret)                                                                \
    __asm__ volatile("syscall"                                                           \
                     : "=a"(ret)                                                         \
                     : "a"(SYS_arch_prctl), "D"(SHSTK_ENABLE), "S"(bits)                 \
                     : "rcx", "r11", "memory")

static uint64_t *ssp(void) {
    uint64_t *p = NULL;
    __asm__ volatile("rdsspq %0" : "+r"(p));
    return p;
}

__attribute__((noinline)) static unsigned depth(unsigned n) {
    volatile unsigned below = n ? depth(n - 1) : 0;
    return below + 1;
}

static volatile sig_atomic_t caught, code;
static uint64_t *in_handler;

static void on_usr1(int sig) {
    caught = sig;
    in_handler = ssp();
}

static void on_segv(int sig, siginfo_t *info, void *context) {
    (void)context;
    _exit(sig == SIGSEGV && info->si_code == CPERR ? 42 : 43);
}

/* Return to where nobody called it from. */
__attribute__((noinline, noclone)) static void stray(void) {
    void **frame = __builtin_frame_address(0);
    frame[1] = (void *)(uintptr_t)_exit;
    __asm__ volatile("" : : : "memory");
}

static int child_of(void (*f)(void)) {
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        f();
        _exit(44);
    }
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* An ordinary store to the shadow stack is a page fault. */
static void store(void) {
    *(volatile uint64_t *)ssp() = 0;
}

static void on_plain_segv(int sig, siginfo_t *info, void *context) {
    (void)context;
    _exit(sig == SIGSEGV && info->si_code != CPERR ? 42 : 43);
}

static void handle(int sig, void (*f)(int, siginfo_t *, void *)) {
    struct sigaction sa = {.sa_sigaction = f, .sa_flags = SA_SIGINFO};
    sigaction(sig, &sa, NULL);
}

int main(void) {
    long ret;
    ENABLE(SHSTK_SHSTK, ret);
    check(ret == 0, "arch_prctl turns it on");
    check(ssp() != NULL, "SSP");
    check(depth(5000) == 5001, "calls and returns");
    signal(SIGUSR1, on_usr1);
    raise(SIGUSR1);
    check(caught == SIGUSR1 && in_handler < ssp(), "a signal's frame, and back");
    handle(SIGSEGV, on_segv);
    check(child_of(stray) == 42, "a stray return is SIGSEGV, SEGV_CPERR");
    handle(SIGSEGV, on_plain_segv);
    check(child_of(store) == 42, "a store there is SIGSEGV");
    ENABLE(SHSTK_WRSS, ret);
    check(ret == 0, "WRSS is allowed");
    uint64_t *free_slot = ssp() - 8;
    __asm__ volatile("wrssq %1, %0" : "=m"(*free_slot) : "r"(UINT64_C(0x1234)));
    check(*free_slot == 0x1234, "WRSS writes");
    puts("SHSTK-DONE");
    fflush(stdout);
    _exit(0);
}
