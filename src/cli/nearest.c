/* SPDX-License-Identifier: MIT */
/* "did you mean": the candidate that the fewest slips of the finger make of a word. */
#include <string.h>

#include "cli/cli.h"

#define NEAREST_MAX 24u /* longer words are not looked at */

static unsigned least(unsigned a, unsigned b) {
    return a < b ? a : b;
}

/* Letters that are put in, left out, replaced, or exchanged with their neighbour. */
static unsigned slips(const char *a, size_t n, const char *b, size_t m) {
    unsigned row[3][NEAREST_MAX + 1]; /* of i - 2, i - 1 and i, in turn */
    for (unsigned j = 0; j <= m; j++)
        row[0][j] = j;
    for (unsigned i = 1; i <= n; i++) {
        unsigned *now = row[i % 3], *up = row[(i + 2) % 3], *up2 = row[(i + 1) % 3];
        now[0] = i;
        for (unsigned j = 1; j <= m; j++) {
            unsigned differs = a[i - 1] != b[j - 1];
            now[j] = least(least(up[j], now[j - 1]) + 1, up[j - 1] + differs);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], up2[j - 2] + 1);
        }
    }
    return row[n % 3][m];
}

void nearest_try(struct nearest *n, const char *candidate) {
    size_t length = strlen(candidate), longer = length > n->length ? length : n->length;
    if (longer > NEAREST_MAX)
        return;
    unsigned distance = slips(n->word, n->length, candidate, length);
    if (distance > longer / 3 || (n->best && distance >= n->distance))
        return;
    n->best = candidate;
    n->distance = distance;
}
