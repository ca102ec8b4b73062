/* SPDX-License-Identifier: MIT */
/* The workload without memory: what is left of a CPU's speed when no MMU is asked. */
#include "user.h"

#define ROUND_INSNS 12u

uint64_t work_compute(uint64_t *sum) {
    uint64_t x = 88172645463325252ul, rounds = ARG(compute, rounds), left = rounds, t;
    begin();
    /* xorshift64, Marsaglia 2003; ROUND_INSNS instructions */
    __asm__ volatile("1: movq %[x], %[t]\n\t"
                     "shlq $13, %[t]\n\t"
                     "xorq %[t], %[x]\n\t"
                     "movq %[x], %[t]\n\t"
                     "shrq $7, %[t]\n\t"
                     "xorq %[t], %[x]\n\t"
                     "movq %[x], %[t]\n\t"
                     "shlq $17, %[t]\n\t"
                     "xorq %[t], %[x]\n\t"
                     "addq %[x], %[sum]\n\t"
                     "decq %[left]\n\t"
                     "jnz 1b"
                     : [x] "+r"(x), [t] "=&r"(t), [sum] "+r"(*sum), [left] "+r"(left)
                     :
                     : "cc");
    end();
    return rounds * ROUND_INSNS;
}
