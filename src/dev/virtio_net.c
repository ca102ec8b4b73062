/* SPDX-License-Identifier: MIT */
/*
 * A network card (VIRTIO 1.2, "Network Device") without offloads: queue 0 receives, 1 sends; a
 * buffer is a header of 12 bytes and a frame.
 *
 * Invariant: a frame that comes while the driver has no buffer for it is lost.
 */
#include <string.h>

#include "dev/virtio_devices.h"

#define F_MTU    3u
#define F_MAC    5u
#define F_STATUS 16u

#define HEADER_SIZE 12u
#define NUM_BUFFERS 10u /* offset in the header */
#define LINK_UP     1u

enum { RECEIVE, TRANSMIT, QUEUES };

struct net_config {
    uint8_t mac[6];
    uint16_t status, max_pairs, mtu;
};

struct virtio_net {
    struct virtio v;
    struct dev_net net;
    uint8_t mac[6];
    uint8_t frame[NET_FRAME_MAX]; /* on its way out */
    struct {
        struct virtio_state v;
    } s;
};

static void serve(struct virtio *v, unsigned queue) {
    struct virtio_net *n = (struct virtio_net *)v;
    struct vq_chain c;
    if (queue != TRANSMIT) /* buffers to receive into wait until a frame comes */
        return;
    while (virtio_pop(v, queue, &c)) {
        uint32_t size = c.out_size > HEADER_SIZE ? c.out_size - HEADER_SIZE : 0;
        if (size && size <= NET_FRAME_MAX) {
            if (virtio_read(v, queue, &c, HEADER_SIZE, n->frame, size) < size)
                return;
            n->net.send(n->net.opaque, n->frame, size);
        }
        virtio_push(v, queue, &c, 0);
    }
    virtio_interrupt(v, queue);
}

bool virtio_net_receive(struct virtio_net *n, const void *frame, size_t size) {
    const uint8_t header[HEADER_SIZE] = {[NUM_BUFFERS] = 1};
    struct vq_chain c;
    if (size > NET_FRAME_MAX || !virtio_pop(&n->v, RECEIVE, &c))
        return false;
    bool fits = c.in_size >= HEADER_SIZE + size;
    if (fits && (virtio_write(&n->v, RECEIVE, &c, 0, header, HEADER_SIZE) < HEADER_SIZE ||
                 virtio_write(&n->v, RECEIVE, &c, HEADER_SIZE, frame, size) < size))
        return false;
    virtio_push(&n->v, RECEIVE, &c, fits ? HEADER_SIZE + (uint32_t)size : 0);
    virtio_interrupt(&n->v, RECEIVE);
    return fits;
}

static void restart(struct virtio *v) {
    const struct virtio_net *n = (struct virtio_net *)v;
    struct net_config c = {.status = LINK_UP, .mtu = n->net.mtu};
    memcpy(c.mac, n->mac, sizeof(c.mac));
    memcpy(v->s->config, &c, sizeof(c));
}

static const struct virtio_kind kind = {
    .type = VIRTIO_NET,
    .class = 0x020000,
    .queues = QUEUES,
    .features = 1u << F_MTU | 1u << F_MAC | 1u << F_STATUS,
    .config_size = sizeof(struct net_config),
    .serve = serve,
    .reset = restart,
};

static int create(void *dev, const void *config) {
    const struct virtio_net_config *c = config;
    struct virtio_net *n = dev;
    n->net = c->net;
    memcpy(n->mac, c->mac, sizeof(n->mac));
    return virtio_attach(&n->v, &n->s.v, &kind, &c->virtio);
}

static const struct dev_class net_class = {
    .name = "virtio_net",
    .version = 1,
    VIRTIO_CLASS(struct virtio_net),
    .check = virtio_check,
    .create = create,
    .reset = virtio_reset,
};

struct virtio_net *virtio_net_create(const struct dev_env *env,
                                     const struct virtio_net_config *c) {
    return dev_create(&net_class, env, c->virtio.slot, c);
}
