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
 * Who is out may look into what the lock guards, for less than a microsecond, between
 * parallel_look and parallel_looked. Who holds the lock adds to it meanwhile; before he takes
 * something away he calls parallel_bar, and until the lock is given back nobody looks.
 *
 * Invariants
 * 1. Only a thread that holds the lock goes out; so who is not out stays so while the lock is
 *    held by somebody else.
 * 2. A thread that waits in parallel_still holds the lock and is not out: two never wait for
 *    each other.
 * 3. Who looks waits for nothing; so who bars may wait for him.
 * Locks, in this order: locks.inc.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PARALLEL_MAX 64u

/* ASKED: somebody who holds the lock waits for it to come in; WAITED: he sleeps until it is IN. */
enum { PARALLEL_IN, PARALLEL_OUT, PARALLEL_ASKED, PARALLEL_WAITED };

struct parallel {
    pthread_mutex_t *lock; /* the machine's */
    unsigned count;        /* vCPUs */
    atomic_uint waits;     /* somebody sleeps until a vCPU is in */
    _Alignas(64) atomic_uint barred;
    struct parallel_vcpu {
        _Alignas(64) atomic_uint out; /* PARALLEL_* */
        atomic_uint looks;            /* it does now */
    } vcpu[PARALLEL_MAX];
};

/* The thread of that vCPU takes the lock, and is not out any more. Return: nanoseconds that it
 * waited; 0: the lock was free. */
uint64_t parallel_enter(struct parallel *p, unsigned vcpu);
/* It gives the lock back, and is out. */
void parallel_leave(struct parallel *p, unsigned vcpu);
/* Under the lock: that vCPU is not out now. Return: it was. */
bool parallel_still(struct parallel *p, unsigned vcpu);
/* Of a vCPU that is out: somebody waits for it. */
static inline bool parallel_asked(const struct parallel *p, unsigned vcpu) {
    return atomic_load_explicit(&p->vcpu[vcpu].out, memory_order_relaxed) != PARALLEL_OUT;
}
/* Under the lock: nobody looks, until the lock is given back. */
void parallel_bar(struct parallel *p);
/* Of a vCPU that is out. Return: it may look; false: it may not now, and has to take the lock. */
static inline bool parallel_look(struct parallel *p, unsigned vcpu) {
    atomic_uint *looks = &p->vcpu[vcpu].looks;
    atomic_exchange(looks, 1); /* a full barrier: who bars sees this, or we see the bar */
    if (!atomic_load(&p->barred))
        return true;
    atomic_store_explicit(looks, 0, memory_order_release);
    return false;
}
/* It has looked. */
static inline void parallel_looked(struct parallel *p, unsigned vcpu) {
    atomic_store_explicit(&p->vcpu[vcpu].looks, 0, memory_order_release);
}
