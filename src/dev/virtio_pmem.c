/* SPDX-License-Identifier: MIT */
/*
 * Persistent memory (VIRTIO 1.2, "PMEM Device"): where it is, and a flush. Its bytes are a
 * memslot of the machine's, which the guest reads and writes by itself.
 *
 *   a buffer: type (4 bytes; 0: flush) | result (4 bytes; 0: done, 1: not)
 *
 * Invariant: a flush is answered after everything that the guest had stored before it has been
 * made durable. At most REQUESTS_MAX are on their way; others wait in the ring.
 */
#include <stdlib.h>
#include <string.h>

#include "dev/virtio_devices.h"

#define T_FLUSH      0u
#define FAILED       1u
#define REQUESTS_MAX 16u

struct pmem_config {
    uint64_t start, size;
};

struct virtio_pmem {
    struct virtio v;
    struct virtio_pmem_config cfg;
    unsigned requests; /* on their way */
    struct {
        struct virtio_state v;
    } s;
};

struct request {
    struct dev_job job;
    struct virtio_pmem *p;
    uint32_t epoch, result;
    struct vq_chain chain;
};

static void serve(struct virtio *v, unsigned queue);

static void run(struct dev_job *job) {
    struct request *r = (struct request *)job;
    const struct dev_pmem *host = &r->p->cfg.host;
    r->result = host->flush(host->opaque) ? FAILED : 0;
}

static void answer(struct virtio_pmem *p, const struct vq_chain *c, uint32_t result) {
    uint32_t size = c->in_size < sizeof(result) ? c->in_size : sizeof(result);
    if (virtio_write(&p->v, 0, c, 0, &result, size) == size)
        virtio_push(&p->v, 0, c, size);
}

static void done(struct dev_job *job) {
    struct request *r = (struct request *)job;
    struct virtio_pmem *p = r->p;
    bool stalled = p->requests-- == REQUESTS_MAX;
    if (r->epoch == p->v.epoch) {
        answer(p, &r->chain, r->result);
        virtio_interrupt(&p->v, 0);
    }
    free(r);
    if (stalled)
        serve(&p->v, 0);
}

/* Return: false: the device is broken. */
static bool begin(struct virtio_pmem *p, const struct vq_chain *c) {
    uint32_t type;
    struct request *r;
    if (c->out_size < sizeof(type) || c->in_size < sizeof(type)) {
        virtio_broken(&p->v);
        return false;
    }
    if (virtio_read(&p->v, 0, c, 0, &type, sizeof(type)) < sizeof(type))
        return false;
    if (type != T_FLUSH || !(r = calloc(1, sizeof(*r)))) {
        answer(p, c, FAILED);
        return true;
    }
    *r = (struct request){
        .job = {.run = run, .done = done}, .p = p, .epoch = p->v.epoch, .chain = *c};
    p->requests++;
    virtio_work(&p->v, &r->job);
    return true;
}

static void serve(struct virtio *v, unsigned queue) {
    struct virtio_pmem *p = (struct virtio_pmem *)v;
    struct vq_chain c;
    while (p->requests < REQUESTS_MAX && virtio_pop(v, queue, &c))
        if (!begin(p, &c))
            return;
    virtio_interrupt(v, queue);
}

static void restart(struct virtio *v) {
    const struct virtio_pmem *p = (struct virtio_pmem *)v;
    const struct pmem_config c = {p->cfg.start, p->cfg.size};
    memcpy(v->s->config, &c, sizeof(c));
}

static const struct virtio_kind kind = {
    .type = VIRTIO_PMEM,
    .class = 0x00ff00,
    .queues = 1,
    .config_size = sizeof(struct pmem_config),
    .serve = serve,
    .reset = restart,
};

static int create(void *dev, const void *config) {
    struct virtio_pmem *p = dev;
    p->cfg = *(const struct virtio_pmem_config *)config;
    return virtio_attach(&p->v, &p->s.v, &kind, &p->cfg.virtio);
}

static const struct dev_class pmem_class = {
    .name = "virtio_pmem",
    .version = 1,
    VIRTIO_CLASS(struct virtio_pmem),
    .check = virtio_check,
    .create = create,
    .reset = virtio_reset,
};

struct virtio_pmem *virtio_pmem_create(const struct dev_env *env,
                                       const struct virtio_pmem_config *c) {
    return dev_create(&pmem_class, env, c->virtio.slot, c);
}
