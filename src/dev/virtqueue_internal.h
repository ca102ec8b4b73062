/* SPDX-License-Identifier: MIT */
/* What the two kinds of rings share (virtqueue.c, virtqueue_split.c, virtqueue_packed.c). */
#pragma once

#include <errno.h>
#include <string.h>

#include "dev/virtqueue.h"

#define VQ_NEXT     1u
#define VQ_WRITE    2u
#define VQ_INDIRECT 4u
#define VQ_DESC     16u /* bytes of a descriptor */

struct vq_desc {
    uint64_t gpa;
    uint32_t size;
    uint16_t flags, next; /* packed: the other way round: vq_packed_desc */
};

/* Return: 0 or -EFAULT. */
int vq_get(const struct vq *q, pn_gpa gpa, void *buf, size_t size);
int vq_put(const struct vq *q, pn_gpa gpa, const void *buf, size_t size);
/* One more segment. Return: 0 or -EINVAL. */
int vq_add(const struct vq *q, struct vq_chain *c, uint64_t gpa, uint32_t size,
           bool write);
/* Is `event` among those from old up to, not including, now? "Driver Notifications". */
static inline bool vq_passed(uint16_t event, uint16_t now, uint16_t old) {
    return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

int vq_split_pop(const struct vq *q, struct vq_chain *c);
bool vq_split_has_next(const struct vq *q);
int vq_split_push(const struct vq *q, const struct vq_chain *c, uint32_t written);
int vq_split_interrupts(const struct vq *q);

int vq_packed_begin(const struct vq *q);
int vq_packed_pop(const struct vq *q, struct vq_chain *c);
bool vq_packed_has_next(const struct vq *q);
int vq_packed_push(const struct vq *q, const struct vq_chain *c, uint32_t written);
int vq_packed_interrupts(const struct vq *q);
