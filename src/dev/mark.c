/* SPDX-License-Identifier: MIT */
/*
 * The mark port (penumbra/mark.h): one 32-bit register. A write is told to the machine, a
 * read gives what the machine answered to the last one.
 *
 * Invariant: accesses narrower than the register are not marks; they read all ones and
 * write nothing.
 */
#include <stdlib.h>

#include "dev/dev.h"
#include "penumbra/mark.h"

#define MARK_SIZE 4u

struct mark {
    mark_fn told;
    void *opaque;
    uint32_t answer;
};

static uint64_t mark_read(void *dev, uint64_t offset, unsigned size) {
    const struct mark *m = dev;
    return offset == 0 && size == MARK_SIZE ? m->answer : UINT64_MAX;
}

static void mark_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct mark *m = dev;
    if (offset == 0 && size == MARK_SIZE)
        m->answer = m->told(m->opaque, (uint32_t)value);
}

static const struct dev_ops mark_ops = {.name = "mark",
                                        .min_size = 1,
                                        .max_size = MARK_SIZE,
                                        .read = mark_read,
                                        .write = mark_write};

struct mark *mark_create(struct dev_bus *bus, mark_fn told, void *opaque) {
    struct mark *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->told = told;
    m->opaque = opaque;
    if (dev_bus_add_pio(bus, PN_MARK_PORT, MARK_SIZE, &mark_ops, m)) {
        free(m);
        return NULL;
    }
    return m;
}

void mark_destroy(struct mark *m) {
    free(m);
}
