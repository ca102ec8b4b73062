/* SPDX-License-Identifier: MIT */
/*
 * Virtio devices on PCI, modern ones alone (VIRTIO 1.2, "Virtio Over PCI Bus").
 *
 * A device is a file with a struct that begins with a struct virtio, a state that begins with
 * a struct virtio_state, a struct virtio_kind, and a dev_class whose functions are those
 * below. It pops buffers from its queues, and pushes each exactly once.
 *
 * Invariants
 * 1. A driver that breaks a rule of the rings ends the device: DEVICE_NEEDS_RESET is set,
 *    and nothing but a reset is served.
 * 2. Under virtual time a queue is served VIRTIO_LATENCY_NS after the driver's notification,
 *    all of it at that moment. Under the host's time it is served at once, and what takes
 *    long is done beside the machine (dev_host.offload).
 * 3. What was popped before a reset is never pushed after it: `epoch` tells. Nor does the host
 *    store in its places in guest memory then (virtio_dma): a reset waits for who does.
 */
#pragma once

#include <pthread.h>

#include "dev/pci.h"
#include "dev/virtqueue.h"

#define VIRTIO_QUEUES_MAX 8u
#define VIRTIO_CONFIG_MAX 64u
#define VIRTIO_LATENCY_NS 20000u
#define VIRTIO_BAR_SIZE   0x8000u

/* Device types ("Device Types"). */
enum {
    VIRTIO_NET = 1,
    VIRTIO_BLK = 2,
    VIRTIO_CONSOLE = 3,
    VIRTIO_RNG = 4,
    VIRTIO_BALLOON = 5,
    VIRTIO_9P = 9,
    VIRTIO_VSOCK = 19,
    VIRTIO_MEM = 24,
    VIRTIO_PMEM = 27
};

struct virtio_state {
    struct pci_state pci;
    uint64_t driver_features;
    uint64_t due;     /* when waiting queues are served; CLOCK_NEVER: none waits */
    uint32_t waiting; /* a bit for each queue that was notified */
    uint32_t device_select, driver_select; /* of features */
    uint16_t config_vector, queue_select;
    uint8_t status, generation, isr;
    uint8_t pad[5];
    struct vq_state queue[VIRTIO_QUEUES_MAX];
    uint8_t config[VIRTIO_CONFIG_MAX]; /* the device's own registers */
};

struct virtio;
struct virtio_kind {
    uint16_t type;
    uint32_t class; /* PCI's */
    unsigned queues;
    uint64_t features; /* its own; the transport's are added */
    unsigned config_size;
    const uint8_t
        *config_mask; /* bytes of config that the driver may write; NULL: none */
    /* The driver has notified the queue, and is ready. */
    void (*serve)(struct virtio *v, unsigned queue);
    void (*reset)(struct virtio *v);      /* config and what is its own; NULL: nothing */
    void (*configured)(struct virtio *v); /* the driver wrote to config; NULL: nothing */
};

/* Where the driver notifies a queue, as long as it is enabled (dev_host.put_bell). */
struct virtio_bell {
    struct dev_bell bell;
    struct virtio *v;
    unsigned queue;
};

struct virtio {
    struct device dev;
    struct pci_function pci;
    const struct virtio_kind *kind;
    struct virtio_state *s;
    unsigned queues;      /* those that this one has, at most kind->queues */
    uint64_t features;    /* offered */
    uint32_t epoch;       /* changes under `dma`, for writing */
    pthread_rwlock_t dma; /* for reading while the host stores: base/locks.inc, DMA */
    unsigned cfg_cap;     /* where VIRTIO_PCI_CAP_PCI_CFG is */
    struct virtio_bell bell[VIRTIO_QUEUES_MAX];
};

/* What every virtio device is given. */
struct virtio_config {
    struct pci_host *host;
    unsigned slot;
    bool split; /* does not offer packed rings */
};

/* In the device's create, with queues and further features set or 0. Return: 0 or -errno. */
int virtio_attach(struct virtio *v, struct virtio_state *s, const struct virtio_kind *k,
                  const struct virtio_config *c);
/* For struct dev_class; a device's own functions call them. */
void virtio_destroy(void *dev);
void virtio_reset(void *dev);
bool virtio_check(const void *dev, const void *state);
void virtio_settle(void *dev);
void virtio_expire(void *dev);
extern const struct dev_range virtio_ranges[1];
/* What their classes have in common; the state is the struct's member `s`. */
#define VIRTIO_CLASS(type)                                                               \
    DEV_STATE(type, s), DEV_RANGES(virtio_ranges),                                       \
        .destroy = virtio_destroy, .settle = virtio_settle, .expire = virtio_expire

static inline bool virtio_has(const struct virtio *v, unsigned feature) {
    return v->s->driver_features >> feature & 1;
}
/* Does the driver drive it? */
bool virtio_ready(const struct virtio *v);
/* The next buffer. Return: whether there is one. */
bool virtio_pop(struct virtio *v, unsigned queue, struct vq_chain *c);
bool virtio_has_next(struct virtio *v, unsigned queue);
/* Bytes of a buffer, as vq_read and vq_write. */
size_t virtio_read(struct virtio *v, unsigned queue, const struct vq_chain *c,
                   uint64_t at, void *buf, size_t size);
size_t virtio_write(struct virtio *v, unsigned queue, const struct vq_chain *c,
                    uint64_t at, const void *buf, size_t size);
/* As vq_places. */
unsigned virtio_places(const struct virtio *v, unsigned queue, const struct vq_chain *c,
                       bool write, uint64_t at, size_t size, struct iovec *place,
                       unsigned most);
/* A job may come to these places between the two, if the first returns true: no reset has come
 * since that epoch, and one that comes waits. */
bool virtio_dma_begin(struct virtio *v, uint32_t epoch);
void virtio_dma_end(struct virtio *v);
void virtio_push(struct virtio *v, unsigned queue, const struct vq_chain *c,
                 uint32_t written);
/* After pushes: an interrupt, if the driver wants one. */
void virtio_interrupt(struct virtio *v, unsigned queue);
/* The device has changed its configuration. */
void virtio_config_changed(struct virtio *v);
/* The driver broke a rule. */
void virtio_broken(struct virtio *v);
/* Serve a queue when VIRTIO_LATENCY_NS have passed, notified or not. */
void virtio_serve_later(struct virtio *v, unsigned queue);
/* Do a job: beside the machine, or at once (dev_host.real_time). */
void virtio_work(struct virtio *v, struct dev_job *job);
