/* SPDX-License-Identifier: MIT */
/*
 * The check of the order of locks. What a thread holds is the one mutable global here, of that
 * thread alone, and only where assertions are on: who takes a lock has no other place for it.
 */
#include "base/locks.h"

#include <assert.h>

#ifndef NDEBUG
static _Thread_local unsigned held;

void lock_taken(enum lock lock) {
    assert(held >> lock == 0);
    held |= 1u << lock;
}

void lock_given(enum lock lock) {
    assert(held >> lock & 1);
    held &= ~(1u << lock);
}
#endif
