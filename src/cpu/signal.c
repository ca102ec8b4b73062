/* SPDX-License-Identifier: MIT */
/*
 * Host signals that are the guest's faults: #DE, #MF, #XM, #GP for a misaligned vector
 * operand, and #UD for an encoding that the host knows better than the decoder arrive as
 * SIGFPE, SIGSEGV, SIGBUS or SIGILL inside translated code.
 *
 * Signal dispositions belong to the process and the handler needs to know whose code it
 * interrupted: the reference count and the thread's current cpu below are the only
 * mutable globals of this room. Signals that are not ours go to whom they went before.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

#include "cpu/xlat.h"

static const int caught[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL};
#define CAUGHT (sizeof caught / sizeof *caught)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned users;
static struct sigaction before[CAUGHT];
static _Thread_local struct xlat *current;

static void pass_on(int sig, siginfo_t *info, void *context) {
    for (unsigned i = 0; i < CAUGHT; i++) {
        if (caught[i] != sig)
            continue;
        const struct sigaction *old = &before[i];
        if (old->sa_flags & SA_SIGINFO)
            old->sa_sigaction(sig, info, context);
        else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN)
            old->sa_handler(sig);
        else
            signal(sig, SIG_DFL); /* it happens again, and ends the process */
    }
}

static void handler(int sig, siginfo_t *info, void *context) {
    ucontext_t *uc = context;
    greg_t *reg = uc->uc_mcontext.gregs;
    struct xlat *x = current;
    uint64_t at = x ? (uint64_t)reg[REG_RIP] - (uint64_t)x->rx : UINT64_MAX;
    if (x && at < x->size &&
        xlat_host_fault(x->cpu, (uint32_t)at, (unsigned)reg[REG_TRAPNO])) {
        reg[REG_RIP] = (greg_t)xlat_tramp_fault;
        return;
    }
    pass_on(sig, info, context);
}

int signals_acquire(void) {
    int err = 0;
    pthread_mutex_lock(&lock);
    if (users++ == 0) {
        struct sigaction sa = {.sa_sigaction = handler,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
        sigemptyset(&sa.sa_mask);
        for (unsigned i = 0; i < CAUGHT; i++)
            if (sigaction(caught[i], &sa, &before[i]))
                err = -errno;
    }
    pthread_mutex_unlock(&lock);
    return err;
}

void signals_release(void) {
    pthread_mutex_lock(&lock);
    if (--users == 0)
        for (unsigned i = 0; i < CAUGHT; i++)
            sigaction(caught[i], &before[i], NULL);
    pthread_mutex_unlock(&lock);
}

void signals_enter(struct xlat *x, stack_t *saved) {
    stack_t st = {.ss_sp = x->altstack, .ss_size = ALTSTACK_SIZE};
    sigaltstack(&st, saved);
    current = x;
}

void signals_leave(const stack_t *saved) {
    current = NULL;
    sigaltstack(saved, NULL);
}
