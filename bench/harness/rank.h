/* SPDX-License-Identifier: MIT */
/*
 * Medians and ratios, and how far they can be trusted. Everything counts ranks: no shape of
 * a distribution is assumed, but that samples are independent of each other, which runs in
 * processes of their own are.
 *
 * The ratio is the median of all ratios of one of b to one of a (Hodges and Lehmann,
 * Annals of Mathematical Statistics 34, 1963). Its interval, and how rare what was seen is,
 * come from the exact distribution of the rank-sum statistic (Mann and Whitney, Annals of
 * Mathematical Statistics 18, 1947), a normal one above 50 samples.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define RANK_MAX 1000u /* samples of one kind */
#define RANK_5   0.05  /* one in twenty */

struct interval {
    double median, low, high;
    bool known; /* low and high are: there are samples enough for 95% */
};

/* Return: the median of n >= 1 values, which are sorted in place. */
double rank_median(double *v, size_t n);
/* The median of n (1..RANK_MAX) values, between order statistics. */
struct interval rank_one(const double *v, size_t n);
/* How many times as large as a's values those of b are. Values are above 0. Return: 0 or
 * -ENOMEM. */
int rank_ratio(const double *a, size_t na, const double *b, size_t nb,
               struct interval *out);

/* If b's were `times` a's, or less: how likely so large a b is by chance. */
double rank_above(const double *a, size_t na, const double *b, size_t nb, double times);
/* The least that rank_above can be with that many samples. */
double rank_above_least(size_t na, size_t nb);
