/* SPDX-License-Identifier: MIT */
/*
 * Which bits of the words that an exit says a test has seen, against the list of all of them
 * (src/cpu/vmx_words.inc, for one).
 */
#pragma once

#include <stdint.h>

#define WORDS_ROWS 192

struct words_row {
    unsigned word;
    const char *name;
    unsigned low, width;
    uint64_t values; /* as in the list */
};

struct words {
    const struct words_row *row;
    unsigned rows;
    uint64_t ones[WORDS_ROWS], zeros[WORDS_ROWS], values[WORDS_ROWS];
};

/* A word had that value. It aborts the case where no row lets it. */
void words_see(struct words *w, unsigned word, uint64_t value);
/* It aborts the case where the rows of words first..last were not all seen, with each value. */
void words_all_seen(const struct words *w, unsigned first, unsigned last);
