/* SPDX-License-Identifier: MIT */
/* A thread begins with the signal mask of who starts it. */
#include "base/thread.h"

int thread_start_with(pthread_t *t, void *(*fn)(void *), void *arg,
                      const sigset_t *blocked) {
    sigset_t old;
    pthread_sigmask(SIG_SETMASK, blocked, &old);
    int rc = pthread_create(t, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -rc;
}

int thread_start(pthread_t *t, void *(*fn)(void *), void *arg) {
    sigset_t all;
    sigfillset(&all);
    return thread_start_with(t, fn, arg, &all);
}
