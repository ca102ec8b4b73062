/* SPDX-License-Identifier: MIT */
/*
 * What the files of ring 3 share. They are linked into one object whose sections lie in
 * pages of ring 3's own (guest.ld): nothing here may refer to ring 0's files.
 */
#pragma once

#include "abi.h"
#include "bench/workload.h"
#include "penumbra/mark.h"

/* ---- Calls into ring 0 ---- */

static inline uint64_t call4(enum call number, uint64_t a, uint64_t b, uint64_t c,
                             uint64_t d) {
    uint64_t rax = number;
    __asm__ volatile("ud2" : "+a"(rax) : "D"(a), "S"(b), "d"(c), "c"(d) : "memory");
    return rax;
}

static inline uint64_t call(enum call number, uint64_t a, uint64_t b) {
    return call4(number, a, b, 0, 0);
}

static inline void outb(uint16_t port, uint8_t v) {
    __asm__ volatile("outb %0, %1" : : "a"(v), "d"(port) : "memory");
}

static inline uint8_t inb(uint16_t port) {
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "d"(port) : "memory");
    return v;
}

static inline void outl(uint16_t port, uint32_t v) {
    __asm__ volatile("outl %0, %1" : : "a"(v), "d"(port) : "memory");
}

static inline uint32_t inl(uint16_t port) {
    uint32_t v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "d"(port) : "memory");
    return v;
}

static inline uint64_t rdtsc(void) {
    uint32_t lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
    return lo | (uint64_t)hi << 32;
}

static inline void mark(enum pn_mark kind, uint64_t arg) {
    outl(PN_MARK_PORT, PN_MARK_VALUE(kind, arg));
}

/* ---- Output (user.c) ---- */

/* Print and pad with blanks to `width`. */
void text(const char *s, int width);
void number(uint64_t v, int width);
void hex(uint64_t v);
/* End the guest when ok is 0: a wrong result. */
void expect(int ok, const char *what);
/* "workload: error: what", and the guest's end with a code of enum workload_exit. */
__attribute__((noreturn)) void fail(unsigned code, const char *what);
void note(const char *what);

/* ---- Numbers ---- */

static inline uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9e3779b97f4a7c15ul;
    return h ^ h >> 29;
}

/* Gives every number below n once, scattered: a full-period sequence over the next power
 * of two, without the numbers from n on. */
struct shuffle {
    uint64_t n, mask, at;
};

static inline struct shuffle shuffle_of(uint64_t n) {
    struct shuffle s = {n, 0, n / 3};
    while (s.mask < n - 1)
        s.mask = s.mask << 1 | 1;
    return s;
}

static inline uint64_t shuffle_next(struct shuffle *s) {
    do
        s->at = (s->at * 0xd1342543de82ef95ul + 0x632be59bd9b4e019ul) & s->mask;
    while (s->at >= s->n);
    return s->at;
}

/* ---- The command line (user.c) ---- */

struct word {
    const char *name, *value; /* value NULL: no '=' */
    size_t name_size, value_size;
};

/* The next word of the line. Return: what follows it, or NULL at the end. */
const char *next_word(const char *p, struct word *w);
int is_word(const struct word *w, const char *name);
/* "workload: error: WORD: what", then what p allows unless it is NULL; the guest's end. */
__attribute__((noreturn)) void bad_word(const struct word *w, const char *what,
                                        const struct workload_param *p);

/* ---- A workload's life (user.c) ---- */

extern uint64_t workload_args[WORKLOAD_PARAMS];
#define ARG(workload, name) (workload_args[WORKLOAD_PARAM_##workload##_##name])

static inline volatile uint64_t *at(uint64_t gva) {
    return (volatile uint64_t *)gva;
}

/* Frames, or the end of the guest with a line. */
uint64_t frames(uint64_t bytes, uint64_t align);
/* Map a region of its own at REGION; large: in 2M pages. Return: pa of its first frame.
 */
uint64_t region(uint64_t bytes, int large);
/* The measured part begins and ends; between its rounds the host may look. */
void begin(void);
void round_done(uint64_t round);
void end(void);

/* Each: set-up, begin(), the work, end(), checks; *sum gets what must be the same
 * everywhere. Return: operations done. */
#define WORKLOAD(name, ...) uint64_t work_##name(uint64_t *sum);
#define PARAM(...)
#include "bench/workloads.inc"

/* demo.c */
void demo(const struct params *p);
