/* SPDX-License-Identifier: MIT */
/*
 * Two results of `penumbra bench` compared: one JSON document, schema
 * "penumbra-compare-1" (bench/FORMATS.md), from which the text is printed.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#define COMPARISON_SCHEMA "penumbra-compare-1"

struct comparison_config {
    const char *const *path; /* all files of A, then as many of B */
    unsigned files;          /* of each */
    double limit;            /* per cent that B may take more than A; below 0: no limit */
    bool exact; /* no times: what is counted and modelled must be equal, or where there
                     is a limit modelled cycles within it */
};

/*
 * Compare two documents that result_load, or result_fold, returned. `verdict` is what a gate says:
 *     "passed"   nothing is beyond the limit
 *     "crossed"  something is: a time so much longer as would come by chance in at most one
 *                of 20 such comparisons, over all pairs; or an exact figure
 *     "untold"   not all could be judged: `reasons` says why
 *     null       neither a limit nor exact
 * Return: NULL: no memory.
 */
json_t *comparison_make(const json_t *a, const json_t *b,
                        const struct comparison_config *cfg);
