/* SPDX-License-Identifier: MIT */
/* One kind of work each: what a software CPU or an MMU is slow at does not hide behind another. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include <emmintrin.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "linux.h"

#define PAGE 4096u
#define LINE 64u

/* Pages of 4 KiB, whatever the kernel's policy of huge pages is. */
static uint8_t *map_pages(uint64_t size) {
    uint8_t *p =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        die("mmap");
    madvise(p, size, MADV_NOHUGEPAGE); /* a kernel without huge pages refuses: so be it */
    return p;
}

static uint64_t touch_pages(uint8_t *p, uint64_t size) {
    uint64_t sum = 0;
    for (uint64_t at = 0; at < size; at += PAGE)
        sum += ++*(volatile uint8_t *)(p + at);
    return sum;
}

uint64_t linux_integer(struct job *job) {
    uint64_t x = 1, sum = 0, t = measure_begin();
    for (uint64_t i = 0; i < job->n; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        sum += x >> 33 ^ i;
    }
    t = measure_end(t);
    job->sum = sum;
    return t;
}

/* Two multiplications, two additions and two integer operations on vectors of 16 bytes. */
uint64_t linux_simd(struct job *job) {
    const __m128d scale = _mm_set1_pd(0.999), step = _mm_set1_pd(1.0);
    __m128d a = _mm_set_pd(1, 2), b = _mm_set_pd(3, 4);
    __m128i k = _mm_set1_epi32(1);
    uint64_t t = measure_begin();
    for (uint64_t i = 0; i < job->n; i++) {
        a = _mm_add_pd(_mm_mul_pd(a, scale), step);
        b = _mm_add_pd(_mm_mul_pd(b, scale), a);
        k = _mm_xor_si128(_mm_add_epi32(k, _mm_castpd_si128(b)), _mm_castpd_si128(a));
    }
    t = measure_end(t);
    uint64_t lane[2];
    _mm_storeu_si128((__m128i *)lane, k);
    job->sum = lane[0] ^ lane[1];
    return t;
}

uint64_t linux_touch(struct job *job) {
    uint8_t *p = map_pages(job->n * PAGE);
    uint64_t t = measure_begin();
    job->sum = touch_pages(p, job->n * PAGE);
    t = measure_end(t);
    munmap(p, job->n * PAGE);
    return t;
}

uint64_t linux_stream(struct job *job) {
    uint64_t words = job->bytes / 8, sum = 0;
    uint64_t *p = (uint64_t *)(void *)map_pages(words * 8);
    for (uint64_t i = 0; i < words; i++)
        p[i] = i;
    uint64_t t = measure_begin();
    for (uint64_t i = 0, at = 0; i < job->n; i++, at = at + 1 < words ? at + 1 : 0)
        sum += *(volatile uint64_t *)(p + at);
    t = measure_end(t);
    job->sum = sum;
    munmap(p, words * 8);
    return t;
}

/* A line leads to the next; all of them are one circle (Sattolo's permutation). */
uint64_t linux_chase(struct job *job) {
    uint64_t lines = job->bytes / LINE, x = 88172645463325252ul, at = 0,
             t = measure_begin();
    uint8_t *p = map_pages(lines * LINE);
    for (uint64_t i = 0; i < lines; i++)
        *(uint64_t *)(void *)(p + i * LINE) = i;
    for (uint64_t i = lines - 1; i > 0; i--) {
        uint64_t *a = (uint64_t *)(void *)(p + i * LINE);
        uint64_t *b = (uint64_t *)(void *)(p + next_random(&x) % i * LINE), v = *a;
        *a = *b;
        *b = v;
    }
    for (uint64_t i = 0; i < job->n; i++)
        at = *(volatile uint64_t *)(void *)(p + at * LINE);
    t = measure_end(t);
    job->sum = at;
    munmap(p, lines * LINE);
    return t;
}

uint64_t linux_memset(struct job *job) {
    uint8_t *p = map_pages(job->bytes);
    touch_pages(p, job->bytes);
    uint64_t t = measure_begin();
    for (uint64_t i = 0; i < job->n; i++) {
        memset(p, (int)(i % 251), job->bytes);
        __asm__ volatile("" : : "r"(p) : "memory"); /* each of them is done */
    }
    t = measure_end(t);
    job->sum = p[job->bytes - 1];
    munmap(p, job->bytes);
    return t;
}

uint64_t linux_churn(struct job *job) {
    uint64_t t = measure_begin();
    for (uint64_t i = 0; i < job->n; i++) {
        uint8_t *p = map_pages(job->bytes);
        job->sum += touch_pages(p, job->bytes / PAGE * PAGE);
        munmap(p, job->bytes);
    }
    return measure_end(t);
}
