/* SPDX-License-Identifier: MIT */
/* Rows by keys: open addressing, linear probing, at most half full. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/faults_internal.h"

#define SLOTS_MIN 1024u

static size_t hash(const uint64_t *key, unsigned keys) {
    uint64_t h = 0;
    for (unsigned i = 0; i < keys; i++) {
        h = (h ^ key[i]) * 0x9e3779b97f4a7c15ull;
        h ^= h >> 32;
    }
    return h;
}

int counting_begin(struct counting *t, const struct fault_by *by) {
    *t = (struct counting){.by = *by, .slots = SLOTS_MIN, .room = SLOTS_MIN / 2};
    t->slot = calloc(t->slots, sizeof(*t->slot));
    t->row = malloc(t->room * sizeof(*t->row));
    return t->slot && t->row ? 0 : -ENOMEM;
}

/* Twice the room. */
static int grow(struct counting *t) {
    size_t slots = t->slots * 2;
    struct fault_row *row = realloc(t->row, slots / 2 * sizeof(*row));
    if (row)
        t->row = row;
    uint32_t *slot = calloc(slots, sizeof(*slot));
    if (!row || !slot) {
        free(slot);
        return -ENOMEM;
    }
    for (size_t i = 0; i < t->rows; i++) {
        size_t at = hash(t->row[i].key, t->by.keys) & (slots - 1);
        while (slot[at])
            at = (at + 1) & (slots - 1);
        slot[at] = (uint32_t)i + 1;
    }
    free(t->slot);
    t->slot = slot;
    t->slots = slots;
    t->room = slots / 2;
    return 0;
}

int counting_add(struct counting *t, const uint64_t key[FAULT_KEYS], uint64_t time,
                 bool own) {
    uint64_t mine[FAULT_BY_MAX] = {0};
    for (unsigned i = 0; i < t->by.keys; i++)
        mine[i] = key[t->by.key[i]];
    size_t at = hash(mine, t->by.keys) & (t->slots - 1);
    for (; t->slot[at]; at = (at + 1) & (t->slots - 1)) {
        struct fault_row *r = &t->row[t->slot[at] - 1];
        if (memcmp(r->key, mine, sizeof(mine)) != 0)
            continue;
        r->count++;
        r->own += own;
        r->first = time < r->first ? time : r->first;
        r->last = time > r->last ? time : r->last;
        return 0;
    }
    if (t->rows == FAULT_ROWS_MAX) {
        t->beyond++;
        return 0;
    }
    struct fault_row *r = &t->row[t->rows];
    *r = (struct fault_row){.count = 1, .own = own, .first = time, .last = time};
    memcpy(r->key, mine, sizeof(mine));
    t->slot[at] = (uint32_t)++t->rows;
    return t->rows == t->room ? grow(t) : 0;
}

static int most_first(const void *x, const void *y) {
    const struct fault_row *a = x, *b = y;
    if (a->count != b->count)
        return a->count > b->count ? -1 : 1;
    for (unsigned i = 0; i < FAULT_BY_MAX; i++)
        if (a->key[i] != b->key[i])
            return a->key[i] < b->key[i] ? -1 : 1;
    return 0;
}

void counting_end(struct counting *t) {
    qsort(t->row, t->rows, sizeof(*t->row), most_first);
}

void counting_free(struct counting *t) {
    free(t->row);
    free(t->slot);
}
