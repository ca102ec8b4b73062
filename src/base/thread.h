/* SPDX-License-Identifier: MIT */
/* Threads of our own, beside the one that serves the console and the user. */
#pragma once

#include <pthread.h>
#include <signal.h>

/* A thread that no signal of the process is delivered to: signals are for the thread that serves
 * the console. *t is set when it returns 0. Return: 0 or -errno. */
int thread_start(pthread_t *t, void *(*fn)(void *), void *arg);

/* The same, but for signals that are addressed to this very thread, or that its own instructions
 * raise. blocked: those that stay blocked. */
int thread_start_with(pthread_t *t, void *(*fn)(void *), void *arg,
                      const sigset_t *blocked);
