/* SPDX-License-Identifier: MIT */
/* Who wins a point of a result by modelled cycles, and why, in words. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct verdict {
    const json_t *best, *next; /* results */
    double times; /* as many cycles for each operation as `best` takes, `next` does */
};

#define VERDICT_EQUAL 1.005 /* less is no win */

/* Modelled cycles for each operation; 0: not modelled. */
double verdict_per_op(const json_t *result);
/* Of the results of one point, which begin at `at`, two with the fewest cycles. Return: false: there are no
 * two with a model. */
bool verdict_find(const json_t *results, size_t at, struct verdict *v);
/* "shadow wins, tdp takes 1.12 times as many cycles" */
void verdict_text(const struct verdict *v, char *buf, size_t size);
/* "tdp pays most for walks of page tables (table entries read: 3.1M, shadow 1.2M)": what the difference comes from, and
 * what goes the other way; "" of two that are equal. */
void verdict_reason(const struct verdict *v, char *buf, size_t size);
/* One sentence for each point that has a verdict: [ "workload label: verdict, because reason." ] */
json_t *verdict_sentences(const json_t *results);
