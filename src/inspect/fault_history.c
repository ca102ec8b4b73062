/* SPDX-License-Identifier: MIT */
/* Maps of a fixed size: see fault_history.h. calloc gives their memory as it is touched. */
#include "inspect/fault_history.h"

#include <errno.h>
#include <stdlib.h>

static uint32_t place(uint64_t key, uint32_t slots) {
    uint64_t h = key * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(h >> 32) & (slots - 1);
}

int fault_marks_begin(struct fault_marks *m, unsigned bits) {
    uint32_t slots = 1u << bits;
    *m = (struct fault_marks){
        .slot = calloc(slots, sizeof(*m->slot)), .slots = slots, .most = slots / 4 * 3};
    return m->slot ? 0 : -ENOMEM;
}

void fault_marks_end(struct fault_marks *m) {
    free(m->slot);
}

struct fault_mark *fault_marks_at(struct fault_marks *m, uint64_t key, bool add) {
    uint32_t at = place(key, m->slots);
    for (; m->slot[at].key; at = (at + 1) & (m->slots - 1))
        if (m->slot[at].key == key)
            return &m->slot[at];
    if (!add || m->used == m->most)
        return NULL;
    m->used++;
    m->slot[at].key = key;
    return &m->slot[at];
}

bool fault_marks_full(const struct fault_marks *m) {
    return m->used == m->most;
}

int fault_lines_begin(struct fault_lines *l, unsigned bits) {
    uint32_t slots = 1u << bits;
    *l = (struct fault_lines){
        .slot = calloc(slots, sizeof(*l->slot)), .slots = slots, .most = slots / 4 * 3};
    return l->slot ? 0 : -ENOMEM;
}

void fault_lines_end(struct fault_lines *l) {
    free(l->slot);
}

struct fault_line *fault_lines_at(struct fault_lines *l, uint64_t key, bool add) {
    uint32_t at = place(key, l->slots);
    for (; l->slot[at].key; at = (at + 1) & (l->slots - 1))
        if (l->slot[at].key == key)
            return &l->slot[at];
    if (!add || l->used == l->most)
        return NULL;
    l->used++;
    l->slot[at].key = key;
    return &l->slot[at];
}

bool fault_lines_full(const struct fault_lines *l) {
    return l->used == l->most;
}
