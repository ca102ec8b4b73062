/* SPDX-License-Identifier: MIT */
/*
 * Memory that comes and goes while the guest runs (VIRTIO 1.2, "Memory Device"): a region in
 * blocks of MEM_BLOCK bytes, of which the driver plugs as many as are asked for.
 *
 *   a request: type (2 bytes), 6 bytes, gpa (8), blocks (2), 6 bytes | type (2), 6 bytes, state (2)
 *
 * Invariants
 * 1. plugged is the number of bits that are set; it does not grow beyond what is asked for.
 * 2. A block that is unplugged, or plugged, reads as zeros. That a guest touches others is its
 *    own affair: they are memory of the region all the same.
 */
#include <string.h>

#include "dev/virtio_devices.h"

#define F_UNPLUGGED_INACCESSIBLE 1u

enum { T_PLUG, T_UNPLUG, T_UNPLUG_ALL, T_STATE };
enum { ACK, NACK, BUSY, ERROR };
enum { PLUGGED, UNPLUGGED, MIXED };

struct request {
    uint16_t type, pad[3];
    uint64_t gpa;
    uint16_t blocks, pad1[3];
};
struct answer {
    uint16_t type, pad[3], state;
};
#define ANSWER_SIZE 10u

struct mem_config {
    uint64_t block_size;
    uint16_t node, pad[3];
    uint64_t start, size, usable, plugged, requested;
};
_Static_assert(sizeof(struct mem_config) <= VIRTIO_CONFIG_MAX, "config");

struct virtio_mem {
    struct virtio v;
    pn_gpa start;
    uint64_t size;
    struct {
        struct virtio_state v;
        uint64_t requested, plugged; /* bytes */
        uint64_t map[MEM_BLOCKS_MAX / 64];
    } s;
};

static void publish(struct virtio_mem *m) {
    const struct mem_config c = {.block_size = MEM_BLOCK,
                                 .start = m->start,
                                 .size = m->size,
                                 .usable = m->size,
                                 .plugged = m->s.plugged,
                                 .requested = m->s.requested};
    memcpy(m->s.v.config, &c, sizeof(c));
}

static bool is_plugged(const struct virtio_mem *m, uint64_t block) {
    return m->s.map[block / 64] >> block % 64 & 1;
}

/* How many of them are. */
static uint64_t count(const struct virtio_mem *m, uint64_t first, uint64_t blocks) {
    uint64_t n = 0;
    for (uint64_t b = first; b < first + blocks; b++)
        n += is_plugged(m, b);
    return n;
}

static void set(struct virtio_mem *m, uint64_t first, uint64_t blocks, bool plugged) {
    for (uint64_t b = first; b < first + blocks; b++) {
        uint64_t bit = 1ull << b % 64;
        m->s.map[b / 64] = (m->s.map[b / 64] & ~bit) | (plugged ? bit : 0);
    }
    m->s.plugged = m->s.plugged + (plugged ? 1 : (uint64_t)-1) * blocks * MEM_BLOCK;
}

/* Return: whether the machine has its memory again. */
static bool give_back(struct virtio_mem *m, uint64_t first, uint64_t blocks) {
    const struct dev_host *host = &m->v.dev.env.host;
    uint64_t size = blocks * MEM_BLOCK;
    return host->discard_phys(host->opaque, m->start + first * MEM_BLOCK, size) == size;
}

static uint16_t unplug_all(struct virtio_mem *m) {
    if (!give_back(m, 0, m->size / MEM_BLOCK))
        return ERROR;
    memset(m->s.map, 0, sizeof(m->s.map));
    m->s.plugged = 0;
    return ACK;
}

static uint16_t answer(struct virtio_mem *m, const struct request *r, uint16_t *state) {
    if (r->type == T_UNPLUG_ALL)
        return unplug_all(m);
    uint64_t at = r->gpa - m->start, first = at / MEM_BLOCK, have;
    if (r->type > T_STATE || r->gpa < m->start || at % MEM_BLOCK || !r->blocks ||
        first >= m->size / MEM_BLOCK || r->blocks > m->size / MEM_BLOCK - first)
        return ERROR;
    have = count(m, first, r->blocks);
    if (r->type == T_STATE) {
        *state = have == r->blocks ? PLUGGED : have ? MIXED : UNPLUGGED;
        return ACK;
    }
    if (have != (r->type == T_PLUG ? 0 : r->blocks))
        return ERROR;
    if (r->type == T_PLUG &&
        m->s.plugged + r->blocks * (uint64_t)MEM_BLOCK > m->s.requested)
        return NACK;
    if (!give_back(m, first, r->blocks))
        return ERROR;
    set(m, first, r->blocks, r->type == T_PLUG);
    return ACK;
}

static void serve(struct virtio *v, unsigned queue) {
    struct virtio_mem *m = (struct virtio_mem *)v;
    struct vq_chain c;
    while (virtio_pop(v, queue, &c)) {
        struct request r;
        struct answer a = {0};
        if (c.out_size < sizeof(r) || c.in_size < ANSWER_SIZE) {
            virtio_broken(v);
            return;
        }
        if (virtio_read(v, queue, &c, 0, &r, sizeof(r)) < sizeof(r))
            return;
        a.type = answer(m, &r, &a.state);
        publish(m);
        if (virtio_write(v, queue, &c, 0, &a, ANSWER_SIZE) < ANSWER_SIZE)
            return;
        virtio_push(v, queue, &c, ANSWER_SIZE);
    }
    virtio_interrupt(v, queue);
}

/* The driver begins anew, and the memory that it had stays its own. */
static void restart(struct virtio *v) {
    publish((struct virtio_mem *)v);
}

static const struct virtio_kind kind = {
    .type = VIRTIO_MEM,
    .class = 0x00ff00,
    .queues = 1,
    .features = 1u << F_UNPLUGGED_INACCESSIBLE,
    .config_size = sizeof(struct mem_config),
    .serve = serve,
    .reset = restart,
};

bool virtio_mem_ask(struct virtio_mem *m, uint64_t size) {
    if (size > m->size || size % MEM_BLOCK)
        return false;
    m->s.requested = size;
    publish(m);
    virtio_config_changed(&m->v);
    return true;
}

uint64_t virtio_mem_plugged(const struct virtio_mem *m, uint64_t *requested) {
    *requested = m->s.requested;
    return m->s.plugged;
}

static int create(void *dev, const void *config) {
    const struct virtio_mem_config *c = config;
    struct virtio_mem *m = dev;
    m->start = c->start;
    m->size = c->size;
    return virtio_attach(&m->v, &m->s.v, &kind, &c->virtio);
}

/* At power-on nothing is plugged. */
static void reset(void *dev) {
    struct virtio_mem *m = dev;
    if (m->s.plugged)
        unplug_all(m);
    virtio_reset(dev);
}

static bool check(const void *dev, const void *state) {
    const struct virtio_mem *m = dev;
    const __typeof__(m->s) *s = state;
    uint64_t n = 0;
    for (uint64_t b = 0; b < MEM_BLOCKS_MAX; b++) {
        bool set = s->map[b / 64] >> b % 64 & 1;
        if (set && b >= m->size / MEM_BLOCK)
            return false;
        n += set;
    }
    return virtio_check(dev, state) && s->requested <= m->size &&
           s->requested % MEM_BLOCK == 0 && s->plugged == n * MEM_BLOCK;
}

static const struct dev_class mem_class = {
    .name = "virtio_mem",
    .version = 1,
    VIRTIO_CLASS(struct virtio_mem),
    .check = check,
    .create = create,
    .reset = reset,
};

struct virtio_mem *virtio_mem_create(const struct dev_env *env,
                                     const struct virtio_mem_config *c) {
    return dev_create(&mem_class, env, c->virtio.slot, c);
}
