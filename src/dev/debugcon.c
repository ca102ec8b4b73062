/* SPDX-License-Identifier: MIT */
/*
 * QEMU's debug console: a byte written to port 0x402 is one of a text for whoever looks at firmware; a
 * read tells it whether anybody does (QEMU's hw/char/debugcon.c; SeaBIOS's docs, "Debugging").
 */
#include "dev/dev.h"

#define PORT  0x402u
#define THERE 0xe9u

struct debugcon {
    struct device dev;
    struct debugcon_config cfg;
    struct {
        uint8_t last;
    } s;
};

static uint64_t con_read(void *dev, uint64_t offset, unsigned size) {
    const struct debugcon *d = dev;
    return d->cfg.out ? THERE : UINT64_MAX;
}

static void con_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct debugcon *d = dev;
    d->s.last = (uint8_t)value;
    if (d->cfg.out)
        d->cfg.out(d->cfg.opaque, d->s.last);
}

static const struct dev_ops ops = {"debugcon", 1, 1, con_read, con_write};
static const struct dev_range ranges[] = {{DEV_PIO, PORT, 1, &ops}};

static int create(void *dev, const void *config) {
    ((struct debugcon *)dev)->cfg = *(const struct debugcon_config *)config;
    return 0;
}

static const struct dev_class class = {
    .name = "debugcon",
    .version = 1,
    DEV_STATE(struct debugcon, s),
    DEV_RANGES(ranges),
    .create = create,
};

struct debugcon *debugcon_create(const struct dev_env *env,
                                 const struct debugcon_config *cfg) {
    return dev_create(&class, env, 0, cfg);
}
