/* SPDX-License-Identifier: MIT */
/* Medians, and how far they can be trusted: percentile bootstrap, deterministic (Efron
 * and Tibshirani, An Introduction to the Bootstrap, chapter 13). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define RESAMPLE_MAX  1000u /* samples of one kind */
#define RESAMPLE_SEED 1u

struct interval {
    double median, low, high; /* 95% */
};

/* Return: the median of n >= 1 values, which are sorted in place. */
double resample_median(double *v, size_t n);
/* The median of n (1..RESAMPLE_MAX) values. With one value the interval is that value. */
struct interval resample_one(const double *v, size_t n);
/* The ratio of medians, b over a. Values are above 0. */
struct interval resample_ratio(const double *a, size_t na, const double *b, size_t nb);
/* Can na and nb samples show any difference at 95%? The most extreme of all orders of
 * the pooled samples must be rarer than 1 in 20: 2 / C(na + nb, na) < 0.05. */
bool resample_enough(size_t na, size_t nb);
