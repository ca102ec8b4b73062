/* SPDX-License-Identifier: MIT */
/* Rows by keys: open addressing, linear probing, at most half full. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/faults_internal.h"

#define SLOTS_MIN 1024u

static uint64_t hash(const uint64_t *key, unsigned keys) {
    uint64_t h = 0;
    for (unsigned i = 0; i < keys; i++) {
        h = (h ^ key[i]) * 0x9e3779b97f4a7c15ull;
        h ^= h >> 32;
    }
    return h;
}

/* The place of a hash that none of the slots has. */
static struct counting_slot *free_slot(struct counting_slot *slot, size_t slots,
                                       uint64_t h) {
    size_t at = h & (slots - 1);
    while (slot[at].row)
        at = (at + 1) & (slots - 1);
    return &slot[at];
}

/* Slots that are all free get the rows' numbers. */
static void fill_slots(struct counting_slot *slot, size_t slots,
                       const struct fault_row *row, size_t rows, unsigned keys) {
    for (size_t i = 0; i < rows; i++) {
        uint64_t h = hash(row[i].key, keys);
        *free_slot(slot, slots, h) = (struct counting_slot){h >> 32, (uint32_t)i + 1};
    }
}

static struct fault_row *new_rows(size_t n) {
    return malloc(n * sizeof(struct fault_row));
}

int counting_begin(struct counting *t, const struct fault_by *by) {
    *t = (struct counting){.by = *by, .slots = SLOTS_MIN, .room = SLOTS_MIN / 2};
    t->slot = calloc(t->slots, sizeof(*t->slot));
    t->row = new_rows(t->room);
    return t->slot && t->row ? 0 : -ENOMEM;
}

/* Twice the room. */
static int grow(struct counting *t) {
    size_t slots = t->slots * 2;
    struct fault_row *row = new_rows(slots / 2);
    struct counting_slot *slot = calloc(slots, sizeof(*slot));
    if (!row || !slot) {
        free(row);
        free(slot);
        return -ENOMEM;
    }
    memcpy(row, t->row, t->rows * sizeof(*row));
    fill_slots(slot, slots, row, t->rows, t->by.keys);
    free(t->row);
    free(t->slot);
    t->row = row;
    t->slot = slot;
    t->slots = slots;
    t->room = slots / 2;
    return 0;
}

int counting_add(struct counting *t, const uint64_t key[FAULT_KEYS], uint64_t time,
                 bool own, const struct fault_price *price) {
    uint64_t mine[FAULT_BY_MAX] = {0};
    for (unsigned i = 0; i < t->by.keys; i++)
        mine[i] = key[t->by.key[i]];
    uint64_t h = hash(mine, t->by.keys);
    for (size_t at = h & (t->slots - 1); t->slot[at].row;
         at = (at + 1) & (t->slots - 1)) {
        struct fault_row *r = &t->row[t->slot[at].row - 1];
        if (t->slot[at].tag != h >> 32 || memcmp(r->key, mine, sizeof(mine)) != 0)
            continue;
        r->count++;
        r->own += own;
        r->first = time < r->first ? time : r->first;
        r->last = time > r->last ? time : r->last;
        r->refs += price->refs;
        r->cycles += price->cycles;
        return 0;
    }
    if (t->rows == FAULT_ROWS_MAX) {
        t->beyond++;
        return 0;
    }
    struct fault_row *r = &t->row[t->rows++];
    *r = (struct fault_row){.count = 1,
                            .own = own,
                            .first = time,
                            .last = time,
                            .refs = price->refs,
                            .cycles = price->cycles};
    memcpy(r->key, mine, sizeof(mine));
    *free_slot(t->slot, t->slots, h) = (struct counting_slot){h >> 32, (uint32_t)t->rows};
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

void counting_sort(struct counting *t) {
    qsort(t->row, t->rows, sizeof(*t->row), most_first);
    memset(t->slot, 0, t->slots * sizeof(*t->slot));
    fill_slots(t->slot, t->slots, t->row, t->rows, t->by.keys);
}

void counting_free(struct counting *t) {
    free(t->row);
    free(t->slot);
}
