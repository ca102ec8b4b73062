/* SPDX-License-Identifier: MIT */
/*
 * Random bytes (VIRTIO 1.2, "Entropy Device"). Under virtual time they follow from a seed, so
 * that two runs have the same; under the host's time they are the host's.
 */
#include <string.h>

#include "dev/virtio_devices.h"

#define PIECE 256u
#define MOST  4096u /* bytes for one buffer: the driver asks again */

struct virtio_rng {
    struct virtio v;
    uint64_t seed;
    void (*fill)(void *buf, size_t size);
    struct {
        struct virtio_state v;
        uint64_t x; /* of the generator */
    } s;
};

/* splitmix64: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators". */
static uint64_t next(uint64_t *x) {
    uint64_t z = *x += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void fill(struct virtio_rng *r, uint8_t *buf, size_t size) {
    const struct dev_host *host = &r->v.dev.env.host;
    if (r->fill && host->real_time && host->real_time(host->opaque)) {
        r->fill(buf, size);
        return;
    }
    for (size_t i = 0; i < size; i += 8) {
        uint64_t v = next(&r->s.x);
        memcpy(buf + i, &v, size - i < 8 ? size - i : 8);
    }
}

static void serve(struct virtio *v, unsigned queue) {
    struct virtio_rng *r = (struct virtio_rng *)v;
    uint8_t buf[PIECE];
    struct vq_chain c;
    while (virtio_pop(v, queue, &c)) {
        uint32_t size = c.in_size < MOST ? c.in_size : MOST, at = 0;
        for (uint32_t n; at < size; at += n) {
            n = size - at < PIECE ? size - at : PIECE;
            fill(r, buf, n);
            if (virtio_write(v, queue, &c, at, buf, n) < n)
                return;
        }
        virtio_push(v, queue, &c, size);
    }
    virtio_interrupt(v, queue);
}

static const struct virtio_kind kind = {
    .type = VIRTIO_RNG,
    .class = 0x00ff00,
    .queues = 1,
    .serve = serve,
};

static int create(void *dev, const void *config) {
    const struct virtio_rng_config *c = config;
    struct virtio_rng *r = dev;
    r->seed = c->seed;
    r->fill = c->fill;
    return virtio_attach(&r->v, &r->s.v, &kind, &c->virtio);
}

static void reset(void *dev) {
    struct virtio_rng *r = dev;
    r->s.x = r->seed;
    virtio_reset(dev);
}

static const struct dev_class rng_class = {
    .name = "virtio_rng",
    .version = 1,
    VIRTIO_CLASS(struct virtio_rng),
    .check = virtio_check,
    .create = create,
    .reset = reset,
};

struct virtio_rng *virtio_rng_create(const struct dev_env *env,
                                     const struct virtio_rng_config *c) {
    return dev_create(&rng_class, env, c->virtio.slot, c);
}
