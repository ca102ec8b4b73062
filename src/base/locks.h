/* SPDX-License-Identifier: MIT */
/* The order of locks (locks.inc), and its check: it costs nothing without assertions. */
#pragma once

enum lock {
#define PN_LOCK(name, doc) LOCK_##name,
#include "base/locks.inc"
#undef PN_LOCK
    LOCKS
};

#ifdef NDEBUG
static inline void lock_taken(enum lock lock) {
}
static inline void lock_given(enum lock lock) {
}
#else
/* This thread has taken it, or is about to give it back. Asserts that it holds none that stands
 * behind it in the list, nor this one; or that it holds it. */
void lock_taken(enum lock lock);
void lock_given(enum lock lock);
#endif
