/* SPDX-License-Identifier: MIT */
#include "driver.h"

#include <string.h>

#define AVAIL 0x80u
#define USED  0x8000u

uint64_t drv_config(unsigned slot, unsigned at) {
    return PCI_ECAM_BASE + ((uint64_t)slot << 15) + at;
}

static void common(struct drv *d, unsigned at, unsigned size, uint64_t value) {
    dev_bus_mmio_write(d->f->bus, d->bar + at, size, value);
}

static void set_features(struct drv *d, uint64_t without) {
    uint64_t features = 0;
    for (unsigned half = 0; half < 2; half++) {
        common(d, 0x00, 4, half);
        features |= (uint64_t)rd32(d->f, d->bar + 4) << half * 32;
    }
    features &= ~without;
    d->packed = features & DRV_PACKED_BIT;
    for (unsigned half = 0; half < 2; half++) {
        common(d, 0x08, 4, half);
        common(d, 0x0c, 4, features >> half * 32 & 0xffffffff);
    }
}

/* The queue's areas, and the device is told. */
static void set_queue(struct drv *d) {
    d->desc = 0x1000 + d->queue * 0x600u;
    d->driver = d->desc + 0x200;
    d->device = d->desc + 0x400;
    memset(d->f->mem + d->desc, 0, 0x600);
    common(d, 0x16, 2, d->queue);
    common(d, 0x18, 2, DRV_SIZE);
    common(d, 0x1a, 2, 0);
    common(d, 0x20, 8, d->desc);
    common(d, 0x28, 8, d->driver);
    common(d, 0x30, 8, d->device);
    common(d, 0x1c, 2, 1);
}

void drv_begin(struct drv *d, struct fx *f, unsigned slot, unsigned queue,
               uint64_t without) {
    *d = (struct drv){
        .f = f, .slot = slot, .queue = queue, .wrap = true, .seen_wrap = true};
    d->bar = rd32(f, drv_config(slot, 0x10)) & ~0xfull;
    dev_bus_mmio_write(f->bus, drv_config(slot, 4), 2, 6);
    common(d, DRV_STATUS, 1, 0);
    common(d, DRV_STATUS, 1, 3);
    set_features(d, without);
    common(d, DRV_STATUS, 1, 11);
    ck_assert_uint_eq(drv_status(d), 11);
    set_queue(d);
    common(d, DRV_STATUS, 1, 15);
    ck_assert_uint_eq(drv_status(d), 15);
}

void drv_more(struct drv *d, const struct drv *first, unsigned queue) {
    *d = *first;
    d->queue = queue;
    d->next = d->seen = 0;
    d->wrap = d->seen_wrap = true;
    set_queue(d);
}

uint8_t drv_status(struct drv *d) {
    return (uint8_t)dev_bus_mmio_read(d->f->bus, d->bar + DRV_STATUS, 1);
}

/* The last two members: flags and next, or id and flags. */
void drv_put(struct drv *d, unsigned place, uint64_t gpa, uint32_t size, uint16_t flags,
             uint16_t next) {
    uint8_t *p = d->f->mem + d->desc + place * 16;
    memcpy(p, &gpa, 8);
    memcpy(p + 8, &size, 4);
    memcpy(p + (d->packed ? 14 : 12), &flags, 2);
    memcpy(p + (d->packed ? 12 : 14), &next, 2);
}

static void give_split(struct drv *d, const struct drv_segment *s, unsigned count) {
    const uint16_t head = 0;
    for (unsigned i = 0; i < count; i++)
        drv_put(d, i, s[i].gpa, s[i].size,
                (uint16_t)(s[i].flags | (i + 1 < count ? DRV_NEXT : 0)),
                (uint16_t)(i + 1));
    memcpy(d->f->mem + d->driver + 4 + 2 * (d->next % DRV_SIZE), &head, 2);
    d->next++;
    memcpy(d->f->mem + d->driver + 2, &d->next, 2);
}

static void give_packed(struct drv *d, const struct drv_segment *s, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        drv_put(d, d->next, s[i].gpa, s[i].size,
                (uint16_t)(s[i].flags | (i + 1 < count ? DRV_NEXT : 0) |
                           (d->wrap ? AVAIL : USED)),
                7);
        if (++d->next == DRV_SIZE) {
            d->next = 0;
            d->wrap = !d->wrap;
        }
    }
}

void drv_give(struct drv *d, const struct drv_segment *s, unsigned count) {
    if (d->packed)
        give_packed(d, s, count);
    else
        give_split(d, s, count);
    common(d, 0x3000 + 4 * d->queue, 2, d->queue);
}

int64_t drv_take(struct drv *d) {
    uint32_t written;
    uint16_t index, flags;
    if (!d->packed) {
        memcpy(&index, d->f->mem + d->device + 2, 2);
        if (index == d->seen)
            return -1;
        memcpy(&written, d->f->mem + d->device + 4 + 8 * (d->seen++ % DRV_SIZE) + 4, 4);
        return written;
    }
    const uint8_t *p = d->f->mem + d->desc + d->seen * 16;
    memcpy(&flags, p + 14, 2);
    if (!!(flags & AVAIL) != d->seen_wrap || !!(flags & USED) != d->seen_wrap)
        return -1;
    memcpy(&written, p + 8, 4);
    d->seen = d->next;
    d->seen_wrap = d->wrap;
    return written;
}

int64_t drv_do(struct drv *d, const struct drv_segment *s, unsigned count) {
    drv_give(d, s, count);
    fx_by(d->f, VIRTIO_LATENCY_NS);
    return drv_take(d);
}
