/* SPDX-License-Identifier: MIT */
/* Names of processes and regions by number: open addressing, at most half full. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "inspect/faults_internal.h"

#define NAMES_MAX (1u << 16)
#define SLOTS     (2 * NAMES_MAX)

static size_t slot_of(const char *name) {
    return XXH3_64bits(name, strlen(name)) % SLOTS;
}

int fault_names_add(struct fault_names *n, const char *name, uint64_t *number) {
    if (!n->slot) {
        n->slot = calloc(SLOTS, sizeof(*n->slot));
        n->name = calloc(NAMES_MAX, sizeof(*n->name));
        if (!n->slot || !n->name)
            return -ENOMEM;
    }
    size_t at = slot_of(name);
    for (; n->slot[at]; at = (at + 1) % SLOTS) {
        *number = n->slot[at] - 1;
        if (!strcmp(n->name[*number], name))
            return 0;
    }
    *number = FAULT_UNKNOWN;
    if (n->names == NAMES_MAX)
        return 0;
    n->name[n->names] = strdup(name);
    if (!n->name[n->names])
        return -ENOMEM;
    *number = n->names++;
    n->slot[at] = (uint32_t)n->names;
    return 0;
}

const char *fault_names_text(const struct fault_names *n, uint64_t number) {
    return number < n->names ? n->name[number] : NULL;
}

void fault_names_free(struct fault_names *n) {
    for (size_t i = 0; i < n->names; i++)
        free(n->name[i]);
    free(n->name);
    free(n->slot);
}
