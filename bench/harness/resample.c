/* SPDX-License-Identifier: MIT */
/*
 * Bootstrap intervals.
 *
 * Invariant: equal input gives equal output on every host: the generator is splitmix64
 * (Steele, Lea, Flood, OOPSLA 2014) from a fixed seed, and sorting is total.
 */
#include "bench/harness/resample.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DRAWS 2000u

static uint64_t next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double resample_median(double *v, size_t n) {
    qsort(v, n, sizeof(*v), compare);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static double draw_median(const double *v, size_t n, uint64_t *state) {
    double drawn[RESAMPLE_MAX];
    for (size_t i = 0; i < n; i++)
        drawn[i] = v[next(state) % n];
    return resample_median(drawn, n);
}

static double plain_median(const double *v, size_t n) {
    double copy[RESAMPLE_MAX];
    memcpy(copy, v, n * sizeof(*v));
    return resample_median(copy, n);
}

/* The middle 95% of the draws. */
static void cut(double draws[DRAWS], struct interval *i) {
    qsort(draws, DRAWS, sizeof(*draws), compare);
    i->low = draws[DRAWS / 40];
    i->high = draws[DRAWS - 1 - DRAWS / 40];
}

struct interval resample_one(const double *v, size_t n) {
    double draws[DRAWS];
    uint64_t state = RESAMPLE_SEED;
    struct interval i = {.median = plain_median(v, n)};
    for (size_t d = 0; d < DRAWS; d++)
        draws[d] = draw_median(v, n, &state);
    cut(draws, &i);
    return i;
}

struct interval resample_ratio(const double *a, size_t na, const double *b, size_t nb) {
    double draws[DRAWS];
    uint64_t state = RESAMPLE_SEED;
    struct interval i = {.median = plain_median(b, nb) / plain_median(a, na)};
    for (size_t d = 0; d < DRAWS; d++) {
        double over = draw_median(b, nb, &state);
        draws[d] = over / draw_median(a, na, &state);
    }
    cut(draws, &i);
    return i;
}

bool resample_enough(size_t na, size_t nb) {
    double orders = 1;
    for (size_t i = 1; i <= na; i++)
        orders = orders * (double)(nb + i) / (double)i;
    return 2 / orders < 0.05;
}
