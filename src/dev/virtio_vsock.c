/* SPDX-License-Identifier: MIT */
/*
 * Sockets between guest and host (VIRTIO 1.2, "Socket Device"): the transport. Queue 0 receives,
 * 1 sends, 2 has events, of which there are none. What packets mean is the host's (dev_vsock).
 *
 * Invariant: a packet is taken from the driver only while the host has room for VSOCK_DATA_MAX bytes.
 * One that says it is longer, or is longer than its buffer, ends the device.
 */
#include <string.h>

#include "dev/virtio_devices.h"

enum { RECEIVE, TRANSMIT, EVENT, QUEUES };

_Static_assert(sizeof(struct vsock_header) == 44, "as the driver has it");

struct virtio_vsock {
    struct virtio v;
    struct virtio_vsock_config cfg;
    uint8_t data[VSOCK_DATA_MAX];
    struct {
        struct virtio_state v;
    } s;
};

static void transmit(struct virtio_vsock *k) {
    const struct dev_vsock *host = &k->cfg.host;
    struct vsock_header h;
    struct vq_chain c;
    while (host->room(host->opaque) && virtio_pop(&k->v, TRANSMIT, &c)) {
        if (c.out_size < sizeof(h)) {
            virtio_broken(&k->v);
            return;
        }
        if (virtio_read(&k->v, TRANSMIT, &c, 0, &h, sizeof(h)) < sizeof(h))
            return;
        if (h.length > VSOCK_DATA_MAX || h.length > c.out_size - sizeof(h)) {
            virtio_broken(&k->v);
            return;
        }
        if (virtio_read(&k->v, TRANSMIT, &c, sizeof(h), k->data, h.length) < h.length)
            return;
        virtio_push(&k->v, TRANSMIT, &c, 0);
        host->packet(host->opaque, &h, k->data);
    }
    virtio_interrupt(&k->v, TRANSMIT);
}

static void serve(struct virtio *v, unsigned queue) {
    if (queue == TRANSMIT) /* the other buffers wait until something comes */
        transmit((struct virtio_vsock *)v);
}

void virtio_vsock_room(struct virtio_vsock *k) {
    if (virtio_has_next(&k->v, TRANSMIT))
        transmit(k);
}

bool virtio_vsock_listens(struct virtio_vsock *k) {
    return virtio_has_next(&k->v, RECEIVE);
}

int64_t virtio_vsock_send(struct virtio_vsock *k, const struct vsock_header *header,
                          const void *data, uint32_t size) {
    struct vsock_header h = *header;
    struct vq_chain c;
    if (!virtio_pop(&k->v, RECEIVE, &c))
        return -1;
    if (c.in_size < sizeof(h)) {
        virtio_broken(&k->v);
        return -1;
    }
    h.length = c.in_size - sizeof(h) < size ? c.in_size - sizeof(h) : size;
    if (virtio_write(&k->v, RECEIVE, &c, 0, &h, sizeof(h)) < sizeof(h) ||
        virtio_write(&k->v, RECEIVE, &c, sizeof(h), data, h.length) < h.length)
        return -1;
    virtio_push(&k->v, RECEIVE, &c, sizeof(h) + h.length);
    virtio_interrupt(&k->v, RECEIVE);
    return h.length;
}

static void restart(struct virtio *v) {
    const struct virtio_vsock *k = (struct virtio_vsock *)v;
    memcpy(v->s->config, &k->cfg.cid, sizeof(k->cfg.cid));
    if (k->cfg.host.restart)
        k->cfg.host.restart(k->cfg.host.opaque);
}

static const struct virtio_kind kind = {
    .type = VIRTIO_VSOCK,
    .class = 0x078000,
    .queues = QUEUES,
    .config_size = sizeof(uint64_t),
    .serve = serve,
    .reset = restart,
};

static int create(void *dev, const void *config) {
    struct virtio_vsock *k = dev;
    k->cfg = *(const struct virtio_vsock_config *)config;
    return virtio_attach(&k->v, &k->s.v, &kind, &k->cfg.virtio);
}

static const struct dev_class vsock_class = {
    .name = "virtio_vsock",
    .version = 1,
    VIRTIO_CLASS(struct virtio_vsock),
    .check = virtio_check,
    .create = create,
    .reset = virtio_reset,
};

struct virtio_vsock *virtio_vsock_create(const struct dev_env *env,
                                         const struct virtio_vsock_config *c) {
    return dev_create(&vsock_class, env, c->virtio.slot, c);
}
