/* SPDX-License-Identifier: MIT */
/*
 * The Linux program's files share this. Every workload does `n` operations, returns the
 * nanoseconds they took by the guest's clock, and puts into *sum what must be the same
 * wherever it runs. On failure it prints a line and ends the process.
 */
#pragma once

#include <stdint.h>

struct job {
    uint64_t n, bytes;
    uint64_t sum;     /* out */
    const char *self; /* path of this program */
};

#define LINUX(name, ...) uint64_t linux_##name(struct job *job);
#include "linux.inc"

/* two.c: the program that a job of linux_build executes. Return: its exit code. */
int linux_compile(void);

/* main.c */
uint64_t now_ns(void);
/* What is measured begins and ends: the clock, and the mark port when asked for. */
uint64_t measure_begin(void);
uint64_t measure_end(uint64_t begun); /* Return: ns */
/* errno's text and the end. */
__attribute__((noreturn)) void die(const char *what);

static inline uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9e3779b97f4a7c15ul;
    return h ^ h >> 29;
}

static inline uint64_t next_random(uint64_t *x) {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}
