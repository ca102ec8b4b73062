/* SPDX-License-Identifier: MIT */
/*
 * One host thread for each vCPU (--parallel), around one lock.
 *
 * A vCPU's thread holds the lock, or is out: it runs translated code, and reads of the machine
 * only what is its own vCPU's. Who holds the lock may change everything, but what a vCPU that is
 * out reads only after parallel_still has waited for it: it comes out at the end of a slice of
 * instructions at the latest, and then waits for the lock. So nobody is inside an access that
 * was decided before the change when parallel_still returns, and nobody begins one before the
 * lock is given back.
 *
 * Invariants
 * 1. Only a thread that holds the lock goes out; so who is not out stays so while the lock is
 *    held by somebody else.
 * 2. A thread that waits in parallel_still holds the lock and is not out: two never wait for
 *    each other.
 * Locks, in this order: locks.inc.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PARALLEL_MAX 64u

struct parallel {
    pthread_mutex_t *lock; /* the machine's */
    unsigned count;        /* vCPUs */
    atomic_uint waits;     /* somebody sleeps until a vCPU is in */
    struct parallel_vcpu {
        _Alignas(64) atomic_uint out; /* OUT_* */
    } vcpu[PARALLEL_MAX];
};

/* The thread of that vCPU takes the lock, and is not out any more. Return: it was free. */
bool parallel_enter(struct parallel *p, unsigned vcpu);
/* It gives the lock back, and is out. */
void parallel_leave(struct parallel *p, unsigned vcpu);
/* Under the lock: that vCPU is not out now. Return: it was. */
bool parallel_still(struct parallel *p, unsigned vcpu);
