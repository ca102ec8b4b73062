/* SPDX-License-Identifier: MIT */
/* The lock around vCPUs that are threads: see parallel.h. */
#include "base/parallel.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/locks.h"

/* Who holds the lock has it for a microsecond, mostly, and who is out comes in within ten: less
 * than to sleep and wake takes. Where more threads run than processors, a sleeper gives way. */
#define SPINS 200u

/* Who looks wakes nobody, which would cost each look; only a thread that was preempted then is
 * slept for. */
#define LOOK_NS 50000

static inline void pause_a_little(void) {
    __builtin_ia32_pause();
}

/* Until it is woken, or for that long; 0: for ever. */
static void sleep_while(atomic_uint *word, unsigned value, long ns) {
    const struct timespec most = {.tv_nsec = ns};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, ns ? &most : NULL, NULL, 0);
}

static void wake(atomic_uint *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void take(pthread_mutex_t *lock) {
    for (unsigned i = 0; i < SPINS; i++) {
        pause_a_little();
        if (pthread_mutex_trylock(lock) == 0)
            return;
    }
    pthread_mutex_lock(lock);
}

/* Who waits for this vCPU holds the lock, so that a thread that gets it at once has nobody to
 * wake. trylock is a full barrier, as is the exchange of who waits. */
uint64_t parallel_enter(struct parallel *p, unsigned vcpu) {
    atomic_uint *out = &p->vcpu[vcpu].out;
    uint64_t waited = 0;
    atomic_store_explicit(out, PARALLEL_IN, memory_order_release);
    if (pthread_mutex_trylock(p->lock)) {
        uint64_t begin = host_ns();
        atomic_thread_fence(memory_order_seq_cst);
        if (atomic_load(&p->waits))
            wake(out);
        take(p->lock);
        waited = host_ns() - begin;
        waited += !waited;
    }
    lock_taken(LOCK_MACHINE);
    return waited;
}

void parallel_leave(struct parallel *p, unsigned vcpu) {
    if (atomic_load_explicit(&p->barred, memory_order_relaxed))
        atomic_store_explicit(&p->barred, 0, memory_order_release);
    atomic_store_explicit(&p->vcpu[vcpu].out, PARALLEL_OUT, memory_order_relaxed);
    lock_given(LOCK_MACHINE);
    pthread_mutex_unlock(p->lock);
}

bool parallel_still(struct parallel *p, unsigned vcpu) {
    atomic_uint *out = &p->vcpu[vcpu].out;
    unsigned was = PARALLEL_OUT;
    if (atomic_load_explicit(out, memory_order_acquire) == PARALLEL_IN ||
        (!atomic_compare_exchange_strong(out, &was, PARALLEL_ASKED) &&
         was == PARALLEL_IN))
        return false;
    for (unsigned i = 0; i < 2 * SPINS; i++) {
        pause_a_little();
        if (atomic_load_explicit(out, memory_order_acquire) == PARALLEL_IN)
            return true;
    }
    atomic_store(&p->waits, 1);
    was = PARALLEL_ASKED;
    if (atomic_compare_exchange_strong(out, &was, PARALLEL_WAITED))
        while (atomic_load(out) == PARALLEL_WAITED)
            sleep_while(out, PARALLEL_WAITED, 0);
    atomic_store(&p->waits, 0);
    return true;
}

/* It stays from one holder of the lock to the next where the first is no vCPU. */
void parallel_bar(struct parallel *p) {
    if (atomic_load_explicit(&p->barred, memory_order_relaxed))
        return;
    atomic_store(&p->barred, 1); /* a full barrier, as in parallel_look */
    for (unsigned i = 0; i < p->count; i++) {
        atomic_uint *looks = &p->vcpu[i].looks;
        for (unsigned n = 0; atomic_load_explicit(looks, memory_order_acquire); n++)
            if (n < SPINS)
                pause_a_little();
            else
                sleep_while(looks, 1, LOOK_NS);
    }
}
