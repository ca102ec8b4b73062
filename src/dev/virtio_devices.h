/* SPDX-License-Identifier: MIT */
/* The virtio devices; each create returns as dev_create does. */
#pragma once

#include "dev/virtio.h"

/* ---- A disk (virtio_blk.c) ---- */

#define DISK_SECTOR 512u

/* Where its bytes are. Calls come from one thread at a time. Return: 0 or -errno. */
struct dev_disk {
    uint64_t size; /* bytes, a multiple of DISK_SECTOR */
    bool read_only;
    int (*read)(void *opaque, uint64_t at, void *buf, size_t size);
    int (*write)(void *opaque, uint64_t at, const void *buf, size_t size);
    int (*flush)(void *opaque); /* what was written survives a power failure */
    int (*discard)(void *opaque, uint64_t at, uint64_t size); /* reads as zeros */
    void *opaque;
};

struct virtio_blk_config {
    struct virtio_config virtio;
    struct dev_disk disk;
    char serial[20]; /* what the guest is told it is called; not terminated when full */
    unsigned queues; /* from 1 to VIRTIO_QUEUES_MAX */
};
struct virtio_blk;
struct virtio_blk *virtio_blk_create(const struct dev_env *env,
                                     const struct virtio_blk_config *c);

/* ---- Random bytes (virtio_rng.c) ---- */

struct virtio_rng_config {
    struct virtio_config virtio;
    uint64_t seed;                        /* of the bytes under virtual time */
    void (*fill)(void *buf, size_t size); /* the host's, under its time */
};
struct virtio_rng;
struct virtio_rng *virtio_rng_create(const struct dev_env *env,
                                     const struct virtio_rng_config *c);

/* ---- A balloon (virtio_balloon.c) ---- */

struct virtio_balloon_config {
    struct virtio_config virtio;
};
struct virtio_balloon;
struct virtio_balloon *virtio_balloon_create(const struct dev_env *env,
                                             const struct virtio_balloon_config *c);
/* Ask the guest to give so many pages of 4 KiB up, or to take them back. */
void virtio_balloon_set(struct virtio_balloon *b, uint32_t pages);
struct virtio_balloon_report {
    uint32_t wanted,
        actual; /* pages in the balloon: asked for, and what the driver says */
    uint64_t inflated, deflated, reported; /* pages so far */
};
struct virtio_balloon_report virtio_balloon_ask(const struct virtio_balloon *b);

/* ---- A network card (virtio_net.c) ---- */

#define NET_FRAME_MAX 1536u /* bytes of an Ethernet frame, without its checksum */

/* Where the guest's frames go. */
struct dev_net {
    void (*send)(void *opaque, const void *frame, size_t size);
    void *opaque;
};

struct virtio_net_config {
    struct virtio_config virtio;
    struct dev_net net;
    uint8_t mac[6];
};
struct virtio_net;
struct virtio_net *virtio_net_create(const struct dev_env *env,
                                     const struct virtio_net_config *c);
/* A frame for the guest. Return: whether it has taken it. */
bool virtio_net_receive(struct virtio_net *n, const void *frame, size_t size);
