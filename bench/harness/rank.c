/* SPDX-License-Identifier: MIT */
/* Order statistics and rank sums. */
#include "bench/harness/rank.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EXACT_MAX 50u /* samples of both: their orders are counted in whole doubles */

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double rank_median(double *v, size_t n) {
    qsort(v, n, sizeof(*v), compare);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* From sorted values: how many are cut off at each end, below 0: not known. */
static struct interval cut(const double *sorted, size_t n, long off) {
    struct interval i = {.known = off >= 0};
    i.median = n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
    i.low = i.known ? sorted[off] : i.median;
    i.high = i.known ? sorted[n - 1 - (size_t)off] : i.median;
    return i;
}

/* Of n tosses of a coin, one in forty times so few or fewer are heads. Return: -1: 0 are
 * more frequent. */
static long few_heads(size_t n) {
    double term = pow(0.5, (double)n), sum = term;
    long k = -1;
    while (2 * sum <= RANK_5) {
        k++;
        term *= (double)(n - (size_t)k) / (double)(k + 1);
        sum += term;
    }
    return k;
}

struct interval rank_one(const double *v, size_t n) {
    double sorted[RANK_MAX];
    memcpy(sorted, v, n * sizeof(*v));
    qsort(sorted, n, sizeof(*sorted), compare);
    return cut(sorted, n, few_heads(n));
}

/* ---- Rank sums ---- */

/* The count of orders of na and nb values, by how many of the na * nb pairs are the wrong
 * way round: the coefficients of a Gaussian binomial. Return: of all orders, the part with
 * at most u. */
static double part_exact(size_t na, size_t nb, size_t u) {
    double orders[EXACT_MAX * EXACT_MAX / 4 + 1] = {1}, all = 1, sum = 0;
    for (size_t i = 1; i <= na; i++) {
        for (size_t j = u + 1; j-- > nb + i;)
            orders[j] -= orders[j - nb - i];
        for (size_t j = i; j <= u; j++)
            orders[j] += orders[j - i];
        all = all * (double)(nb + i) / (double)i;
    }
    for (size_t j = 0; j <= u; j++)
        sum += orders[j];
    return sum / all;
}

/* The part of all orders with at most u pairs the wrong way round. */
static double part(size_t na, size_t nb, size_t u) {
    double n = (double)na * (double)nb;
    if ((double)u >= n)
        return 1;
    if (na + nb <= EXACT_MAX)
        return part_exact(na, nb, u);
    double sigma = sqrt(n * (double)(na + nb + 1) / 12);
    return erfc((n / 2 - (double)u - 0.5) / sigma / sqrt(2)) / 2;
}

/* The most pairs that are so rarely or less often the wrong way round, one in forty times.
 * Return: -1: no pair already is more frequent. */
static long few_pairs(size_t na, size_t nb) {
    long low = -1, high = (long)(na * nb);
    while (high - low > 1) {
        long middle = low + (high - low) / 2;
        if (2 * part(na, nb, (size_t)middle) <= RANK_5)
            low = middle;
        else
            high = middle;
    }
    return low;
}

int rank_ratio(const double *a, size_t na, const double *b, size_t nb,
               struct interval *out) {
    double *ratio = malloc(na * nb * sizeof(*ratio));
    if (!ratio)
        return -ENOMEM;
    for (size_t i = 0; i < na; i++)
        for (size_t j = 0; j < nb; j++)
            ratio[i * nb + j] = b[j] / a[i];
    qsort(ratio, na * nb, sizeof(*ratio), compare);
    *out = cut(ratio, na * nb, few_pairs(na, nb));
    free(ratio);
    return 0;
}

double rank_above(const double *a, size_t na, const double *b, size_t nb, double times) {
    size_t below = 0;
    for (size_t i = 0; i < na; i++)
        for (size_t j = 0; j < nb; j++)
            below += b[j] <= times * a[i];
    return part(na, nb, below);
}

double rank_above_least(size_t na, size_t nb) {
    return part(na, nb, 0);
}
