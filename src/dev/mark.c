/* SPDX-License-Identifier: MIT */
/*
 * The mark port (penumbra/mark.h): one 32-bit register. A write is told to the machine, a
 * read gives what the machine answered to the last one.
 *
 * Invariant: accesses narrower than the register are not marks; they read all ones and
 * write nothing.
 */
#include "penumbra/mark.h"
#include "dev/dev.h"

#define MARK_SIZE 4u

struct mark_config {
    mark_fn told;
    void *opaque;
};

struct mark {
    struct device dev;
    struct mark_config cfg;
    struct {
        uint32_t answer;
    } s;
};

static uint64_t mark_read(void *dev, uint64_t offset, unsigned size) {
    const struct mark *m = dev;
    return offset == 0 && size == MARK_SIZE ? m->s.answer : UINT64_MAX;
}

static void mark_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct mark *m = dev;
    if (offset == 0 && size == MARK_SIZE)
        m->s.answer = m->cfg.told(m->cfg.opaque, (uint32_t)value);
}

static const struct dev_ops mark_ops = {"mark", 1, MARK_SIZE, mark_read, mark_write};

static const struct dev_range mark_ranges[] = {
    {DEV_PIO, PN_MARK_PORT, MARK_SIZE, &mark_ops}};

static int configure(void *dev, const void *config) {
    ((struct mark *)dev)->cfg = *(const struct mark_config *)config;
    return 0;
}

static const struct dev_class mark_class = {
    .name = "mark",
    .version = 1,
    DEV_STATE(struct mark, s),
    DEV_RANGES(mark_ranges),
    .create = configure,
};

struct mark *mark_create(const struct dev_env *env, mark_fn told, void *opaque) {
    const struct mark_config cfg = {told, opaque};
    return dev_create(&mark_class, env, 0, &cfg);
}
