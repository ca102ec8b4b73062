/* SPDX-License-Identifier: MIT */
/* See fixture_words.h. */
#include "fixture_words.h"

#include <check.h>
#include <stdio.h>

#define ANY (~UINT64_C(0))

static uint64_t mask_of(const struct words_row *r) {
    return r->width == 64 ? ANY : (UINT64_C(1) << r->width) - 1;
}

void words_see(struct words *w, unsigned word, uint64_t value) {
    uint64_t named = 0;
    for (unsigned i = 0; i < w->rows; i++) {
        const struct words_row *r = &w->row[i];
        uint64_t mask = mask_of(r), v = value >> r->low & mask;
        if (r->word != word)
            continue;
        named |= mask << r->low;
        w->ones[i] |= v;
        w->zeros[i] |= ~v & mask;
        if (r->values == ANY)
            continue;
        ck_assert_msg(r->values ? v < 64 && r->values >> v & 1 : !v, "%s is %llx",
                      r->name, (unsigned long long)v);
        w->values[i] |= UINT64_C(1) << (v & 63);
    }
    ck_assert_msg(!(value & ~named), "word %u is %llx: reserved bits", word,
                  (unsigned long long)value);
}

void words_all_seen(const struct words *w, unsigned first, unsigned last) {
    unsigned missing = 0;
    ck_assert_uint_le(w->rows, WORDS_ROWS);
    for (unsigned i = 0; i < w->rows; i++) {
        const struct words_row *r = &w->row[i];
        uint64_t mask = mask_of(r), lack = r->values & ~w->values[i];
        if (r->word < first || r->word > last || !r->values)
            continue;
        if (r->values == ANY)
            lack = (mask & ~w->ones[i]) | (mask & ~w->zeros[i]);
        if (lack)
            fprintf(stderr, "%s: not seen: %llx (ones %llx, zeros %llx)\n", r->name,
                    (unsigned long long)lack, (unsigned long long)w->ones[i],
                    (unsigned long long)w->zeros[i]);
        missing += lack != 0;
    }
    ck_assert_msg(!missing, "%u rows were not seen", missing);
}
