/* SPDX-License-Identifier: MIT */
/*
 * The transport of 9P (VIRTIO 1.2, device type 9; the configuration is the tag's length and the
 * tag). A buffer is a request, and behind it room for the answer.
 *
 * Invariants
 * 1. At most REQUESTS_MAX requests are on their way; others wait in the ring.
 * 2. An answer is as long as the room that the driver gave, and as P9_MESSAGE_MAX, at most.
 */
#include <stdlib.h>
#include <string.h>

#include "dev/virtio_devices.h"

#define F_TAG        0u
#define REQUESTS_MAX 16u

struct tag_config {
    uint16_t length;
    char tag[P9_TAG_MAX];
};

struct virtio_9p {
    struct virtio v;
    struct virtio_9p_config cfg;
    unsigned requests; /* on their way */
    struct {
        struct virtio_state v;
    } s;
};

struct request {
    struct dev_job job;
    struct virtio_9p *p;
    uint32_t epoch;
    size_t in_size, out_room, out_size;
    struct vq_chain chain;
    uint8_t *in, *out; /* one allocation with the struct */
};

static void serve(struct virtio *v, unsigned queue);

static void run(struct dev_job *job) {
    struct request *r = (struct request *)job;
    const struct dev_9p *server = &r->p->cfg.server;
    r->out_size =
        server->message(server->opaque, r->epoch, r->in, r->in_size, r->out, r->out_room);
}

static void done(struct dev_job *job) {
    struct request *r = (struct request *)job;
    struct virtio_9p *p = r->p;
    bool stalled = p->requests == REQUESTS_MAX;
    if (r->epoch == p->v.epoch &&
        virtio_write(&p->v, 0, &r->chain, 0, r->out, r->out_size) == r->out_size) {
        virtio_push(&p->v, 0, &r->chain, (uint32_t)r->out_size);
        virtio_interrupt(&p->v, 0);
    }
    free(r);
    p->requests--;
    if (stalled)
        serve(&p->v, 0);
}

static uint32_t at_most(uint32_t size) {
    return size < P9_MESSAGE_MAX ? size : P9_MESSAGE_MAX;
}

static void serve(struct virtio *v, unsigned queue) {
    struct virtio_9p *p = (struct virtio_9p *)v;
    struct vq_chain c;
    while (p->requests < REQUESTS_MAX && virtio_pop(v, queue, &c)) {
        uint32_t in = at_most(c.out_size), out = at_most(c.in_size);
        struct request *r = calloc(1, sizeof(*r) + in + out);
        if (!r) { /* the driver sees an answer without a header */
            virtio_push(v, queue, &c, 0);
            continue;
        }
        r->job = (struct dev_job){.run = run, .done = done};
        r->p = p;
        r->epoch = v->epoch;
        r->chain = c;
        r->in = (uint8_t *)(r + 1);
        r->out = r->in + in;
        r->in_size = in;
        r->out_room = out;
        if (virtio_read(v, queue, &c, 0, r->in, in) < in) {
            free(r);
            return;
        }
        p->requests++;
        virtio_work(v, &r->job);
    }
    virtio_interrupt(v, queue);
}

static void restart(struct virtio *v) {
    const struct virtio_9p *p = (struct virtio_9p *)v;
    struct tag_config c = {.length = (uint16_t)strlen(p->cfg.tag)};
    memcpy(c.tag, p->cfg.tag, c.length);
    memcpy(v->s->config, &c, sizeof(c));
}

static const struct virtio_kind kind = {
    .type = VIRTIO_9P,
    .class = 0x018000,
    .queues = 1,
    .features = 1u << F_TAG,
    .config_size = sizeof(struct tag_config),
    .serve = serve,
    .reset = restart,
};

static int create(void *dev, const void *config) {
    struct virtio_9p *p = dev;
    p->cfg = *(const struct virtio_9p_config *)config;
    return virtio_attach(&p->v, &p->s.v, &kind, &p->cfg.virtio);
}

static const struct dev_class p9_class = {
    .name = "virtio_9p",
    .version = 1,
    VIRTIO_CLASS(struct virtio_9p),
    .check = virtio_check,
    .create = create,
    .reset = virtio_reset,
};

struct virtio_9p *virtio_9p_create(const struct dev_env *env,
                                   const struct virtio_9p_config *c) {
    return dev_create(&p9_class, env, c->virtio.slot, c);
}
