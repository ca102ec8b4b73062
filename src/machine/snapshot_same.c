/* SPDX-License-Identifier: MIT */
/* Pages of several snapshots that are equal: snapshot.h. Their contents are told apart by XXH3. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "machine/snapshot_internal.h"

/* A page that is not of zeros. */
struct page {
    uint64_t hash;
    unsigned snapshot;
};

static int by_hash(const void *a, const void *b) {
    const struct page *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return x->snapshot < y->snapshot ? -1 : x->snapshot > y->snapshot;
}

/* The pages with one content: [p, p + n), those of a snapshot beside each other. */
static void count_content(const struct page *p, uint64_t n, struct snapshot_same *out) {
    bool between = p[0].snapshot != p[n - 1].snapshot;
    for (uint64_t i = 0, j; i < n; i = j) {
        struct snapshot_same *of = &out[p[i].snapshot];
        for (j = i; j < n && p[j].snapshot == p[i].snapshot; j++)
            ;
        of->contents++;
        *(between ? &of->between : j - i > 1 ? &of->within : &of->alone) += j - i;
    }
}

/* Is a page where it was, with what it held? */
static uint64_t in_place(const struct snap_memory *a, const struct snap_memory *b) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < a->pages && i < b->pages; i++)
        n += snap_hash_of(a, i) == snap_hash_of(b, i);
    return n;
}

int snapshot_same(const struct snapshot *const *s, unsigned count,
                  struct snapshot_same *out, uint64_t *contents) {
    uint64_t most = 0, n = 0;
    for (unsigned k = 0; k < count; k++)
        most += s[k]->memory.pages;
    struct page *p = malloc((most ? most : 1) * sizeof(*p));
    if (!p)
        return -ENOMEM;
    for (unsigned k = 0; k < count; k++) {
        const struct snap_memory *m = &s[k]->memory;
        out[k] = (struct snapshot_same){.pages = m->pages,
                                        .in_place = in_place(&s[0]->memory, m)};
        for (uint64_t i = 0; i < m->pages; i++) {
            if (m->page[i])
                p[n++] = (struct page){snap_hash_of(m, i), k};
            else
                out[k].zeros++;
        }
    }
    qsort(p, n, sizeof(*p), by_hash);
    *contents = 0;
    for (uint64_t i = 0, j; i < n; i = j) {
        for (j = i; j < n && p[j].hash == p[i].hash; j++)
            ;
        count_content(p + i, j - i, out);
        ++*contents;
    }
    free(p);
    return 0;
}
