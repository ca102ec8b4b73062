/* SPDX-License-Identifier: MIT */
/*
 * The chipset's part of x87 exceptions with CR0.NE clear: FERR# raises gsi 13; a write to
 * port 0xf0 takes it back, and asserts IGNNE# while FERR# lasts (Intel 82371AB data sheet,
 * "Coprocessor Error Register"; SDM volume 1, "MS-DOS Compatibility Sub-mode"). So it is
 * raised anew only when FERR# has fallen and rises. The CPU needs no IGNNE#: where no
 * interrupt comes, it goes on by itself (src/cpu/run.c).
 */
#include "dev/dev.h"

#define GSI 13u

struct ferr {
    struct device dev;
    struct {
        uint8_t ferr, line;
    } s;
};

void ferr_set(struct ferr *f, bool pending) {
    if (pending && !f->s.ferr)
        dev_line(&f->dev, &f->s.line, GSI, true);
    f->s.ferr = pending;
}

static void ferr_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct ferr *f = dev;
    dev_line(&f->dev, &f->s.line, GSI, false);
}

static const struct dev_ops ferr_ops = {"ferr", 1, 1, NULL, ferr_write};
static const struct dev_range ferr_ranges[] = {{DEV_PIO, 0xf0, 1, &ferr_ops}};

static bool ferr_check(const void *dev, const void *state) {
    const uint8_t *s = state; /* ferr, line */
    return s[0] <= 1 && s[1] <= 1;
}

static const struct dev_class ferr_class = {
    .name = "ferr",
    .version = 1,
    DEV_STATE(struct ferr, s),
    DEV_RANGES(ferr_ranges),
    .check = ferr_check,
};

struct ferr *ferr_create(const struct dev_env *env) {
    return dev_create(&ferr_class, env, 0, NULL);
}
