/* SPDX-License-Identifier: MIT */
/*
 * A virtqueue as its device sees it: split and packed rings, indirect descriptors, event
 * index (Virtual I/O Device (VIRTIO) Version 1.2, "Basic Facilities of a Virtio Device").
 *
 * Invariants
 * 1. Rings and descriptors are in guest memory and may say anything, differently each time
 *    they are read: each is read once, and what was read is checked.
 * 2. A chain has at most as many descriptors as the queue, direct and indirect ones together,
 *    so that one that loops ends; those to read come first; the bytes of each kind are fewer
 *    than 2^32.
 * 3. What breaks a rule is an error, after which the queue is used no more until the device
 *    is reset.
 */
#pragma once

#include <sys/uio.h>

#include "dev/dev.h"

#define VQ_SIZE_MAX 256u

/* All that there is of a queue. */
struct vq_state {
    uint64_t desc, driver, device; /* gpa: descriptors; the driver's area; the device's */
    uint16_t size;                 /* descriptors */
    uint16_t vector;               /* MSI-X */
    uint16_t avail,
        used;      /* the next: split: counts that wrap; packed: places in the ring */
    uint16_t told; /* `used` when the driver was last considered for an interrupt */
    uint8_t told_valid;
    uint8_t avail_wrap, used_wrap; /* packed: the wrap counters */
    uint8_t enabled;
    uint8_t pad[3];
};

/* A queue and how it is to be read. */
struct vq {
    struct vq_state *s;
    const struct dev_host *memory;
    bool packed, indirect, event_index;
};

struct vq_segment {
    pn_gpa gpa;
    uint32_t size;
};

/* A buffer that the driver has made available: segments that the device reads, and behind
 * them those that it writes. */
struct vq_chain {
    uint16_t id;    /* whose it is */
    uint16_t count; /* places that it takes in a packed ring */
    unsigned out, in;
    uint32_t out_size, in_size; /* bytes */
    struct vq_segment segment[VQ_SIZE_MAX];
};

/* Could a queue of that size be at these addresses? */
bool vq_possible(const struct vq *q);
/* The queue begins. Return: 0 or -EFAULT. */
int vq_begin(const struct vq *q);
/* Return: 1 and the next buffer; 0: there is none, and the driver is asked to say when there
 * is; -EINVAL, -EFAULT: the driver broke a rule. */
int vq_pop(const struct vq *q, struct vq_chain *c);
/* Is there a next buffer? Takes nothing. */
bool vq_has_next(const struct vq *q);
/* Give a buffer back, with `written` bytes of it written. Return: 0 or -EFAULT. */
int vq_push(const struct vq *q, const struct vq_chain *c, uint32_t written);
/* After pushes: does the driver want an interrupt? Return: 1, 0 or -EFAULT. */
int vq_interrupts(const struct vq *q);

/* Bytes at an offset of what the device reads, and of what it writes (buf NULL: they are there
 * already: vq_places). Return: how many were done: fewer where the buffer or guest memory ends. */
size_t vq_read(const struct vq *q, const struct vq_chain *c, uint64_t at, void *buf,
               size_t size);
size_t vq_write(const struct vq *q, const struct vq_chain *c, uint64_t at,
                const void *buf, size_t size);

/* Where such bytes are on the host (dev_host.memory_at): of what the device writes, or reads.
 * Return: pieces; 0: they cannot be had, or are more than `most`. */
unsigned vq_places(const struct vq *q, const struct vq_chain *c, bool write, uint64_t at,
                   size_t size, struct iovec *place, unsigned most);

/* Could a queue have come to that state? */
bool vq_check(const struct vq *q);
