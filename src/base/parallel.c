/* SPDX-License-Identifier: MIT */
/* The lock around vCPUs that are threads: see parallel.h. */
#include "base/parallel.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/locks.h"

/* OUT_WAITED: somebody sleeps until it is OUT_NOT. */
enum { OUT_NOT, OUT, OUT_WAITED };

/* Who holds the lock has it for a microsecond, mostly, and who is out comes in within ten: less
 * than to sleep and wake takes. Where more threads run than processors, a sleeper gives way. */
#define SPINS 200u

static inline void pause_a_little(void) {
    __builtin_ia32_pause();
}

static void sleep_while(atomic_uint *word, unsigned value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(atomic_uint *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static bool take(pthread_mutex_t *lock) {
    for (unsigned i = 0; i < SPINS; i++) {
        pause_a_little();
        if (pthread_mutex_trylock(lock) == 0)
            return true;
    }
    pthread_mutex_lock(lock);
    return false;
}

/* Who waits for this vCPU holds the lock, so that a thread that gets it at once has nobody to
 * wake. trylock is a full barrier, as is the exchange of who waits. */
bool parallel_enter(struct parallel *p, unsigned vcpu) {
    atomic_uint *out = &p->vcpu[vcpu].out;
    atomic_store_explicit(out, OUT_NOT, memory_order_release);
    bool at_once = pthread_mutex_trylock(p->lock) == 0;
    if (!at_once) {
        atomic_thread_fence(memory_order_seq_cst);
        if (atomic_load(&p->waits))
            wake(out);
        take(p->lock);
    }
    lock_taken(LOCK_MACHINE);
    return at_once;
}

void parallel_leave(struct parallel *p, unsigned vcpu) {
    atomic_store_explicit(&p->vcpu[vcpu].out, OUT, memory_order_relaxed);
    lock_given(LOCK_MACHINE);
    pthread_mutex_unlock(p->lock);
}

bool parallel_still(struct parallel *p, unsigned vcpu) {
    atomic_uint *out = &p->vcpu[vcpu].out;
    if (atomic_load_explicit(out, memory_order_acquire) == OUT_NOT)
        return false;
    for (unsigned i = 0; i < 2 * SPINS; i++) {
        pause_a_little();
        if (atomic_load_explicit(out, memory_order_acquire) == OUT_NOT)
            return true;
    }
    atomic_store(&p->waits, 1);
    unsigned was = OUT;
    if (atomic_compare_exchange_strong(out, &was, OUT_WAITED))
        while (atomic_load(out) == OUT_WAITED)
            sleep_while(out, OUT_WAITED);
    atomic_store(&p->waits, 0);
    return true;
}
