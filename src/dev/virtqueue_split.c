/* SPDX-License-Identifier: MIT */
/*
 * Split virtqueues (VIRTIO 1.2, "Split Virtqueues").
 *
 *   descriptors  16 bytes each: address, length, flags, next
 *   driver area  flags, index, heads of chains, used_event
 *   device area  flags, index, {head, bytes written}, avail_event
 */
#include "dev/virtqueue_internal.h"

#define RING_INDEX      2u
#define RING_BEGIN      4u
#define NO_INTERRUPT    1u /* the driver's flags */
#define USED_ENTRY_SIZE 8u

static pn_gpa used_event(const struct vq *q) {
    return q->s->driver + RING_BEGIN + 2u * q->s->size;
}

static pn_gpa avail_event(const struct vq *q) {
    return q->s->device + RING_BEGIN + USED_ENTRY_SIZE * q->s->size;
}

/* The descriptors of an indirect table, which ends the chain. */
static int indirect(const struct vq *q, struct vq_chain *c, const struct vq_desc *table) {
    struct vq_desc d;
    unsigned count = table->size / VQ_DESC, at = 0;
    if (!q->indirect || table->flags & (VQ_NEXT | VQ_WRITE) || !count ||
        table->size % VQ_DESC || table->gpa > UINT64_MAX - table->size)
        return -EINVAL;
    for (;;) {
        int rc = vq_get(q, table->gpa + at * VQ_DESC, &d, sizeof(d));
        if (rc == 0 && d.flags & VQ_INDIRECT)
            rc = -EINVAL;
        if (rc == 0)
            rc = vq_add(q, c, d.gpa, d.size, d.flags & VQ_WRITE);
        if (rc || !(d.flags & VQ_NEXT))
            return rc;
        at = d.next;
        if (at >= count)
            return -EINVAL;
    }
}

/* Every step adds a segment, of which there are at most as many as the queue has. */
static int walk(const struct vq *q, struct vq_chain *c) {
    struct vq_desc d = {.next = c->id};
    do {
        if (d.next >= q->s->size)
            return -EINVAL;
        int rc = vq_get(q, q->s->desc + d.next * VQ_DESC, &d, sizeof(d));
        if (rc)
            return rc;
        if (d.flags & VQ_INDIRECT)
            return indirect(q, c, &d);
        rc = vq_add(q, c, d.gpa, d.size, d.flags & VQ_WRITE);
        if (rc)
            return rc;
    } while (d.flags & VQ_NEXT);
    return 0;
}

/* Return: 1: there is one, 0, or -errno. */
static int waits(const struct vq *q) {
    uint16_t index;
    int rc = vq_get(q, q->s->driver + RING_INDEX, &index, sizeof(index));
    if (rc)
        return rc;
    uint16_t n = (uint16_t)(index - q->s->avail);
    return n > q->s->size ? -EINVAL : n != 0;
}

bool vq_split_has_next(const struct vq *q) {
    return waits(q) > 0;
}

int vq_split_pop(const struct vq *q, struct vq_chain *c) {
    int rc = waits(q);
    if (rc == 0 && q->event_index) { /* ask, and look once more */
        rc = vq_put(q, avail_event(q), &q->s->avail, sizeof(q->s->avail));
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (rc == 0)
            rc = waits(q);
    }
    if (rc <= 0)
        return rc;
    rc = vq_get(q, q->s->driver + RING_BEGIN + 2u * (q->s->avail % q->s->size), &c->id,
                sizeof(c->id));
    if (rc == 0)
        rc = walk(q, c);
    if (rc)
        return rc;
    q->s->avail++;
    return 1;
}

int vq_split_push(const struct vq *q, const struct vq_chain *c, uint32_t written) {
    const uint32_t entry[2] = {c->id, written};
    uint16_t next = (uint16_t)(q->s->used + 1);
    int rc =
        vq_put(q, q->s->device + RING_BEGIN + USED_ENTRY_SIZE * (q->s->used % q->s->size),
               entry, sizeof(entry));
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (rc == 0)
        rc = vq_put(q, q->s->device + RING_INDEX, &next, sizeof(next));
    if (rc == 0)
        q->s->used = next;
    return rc;
}

int vq_split_interrupts(const struct vq *q) {
    struct vq_state *s = q->s;
    uint16_t event, old = s->told;
    bool first = !s->told_valid;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    int rc = vq_get(q, q->event_index ? used_event(q) : s->driver, &event, sizeof(event));
    if (rc)
        return rc;
    s->told = s->used;
    s->told_valid = 1;
    return q->event_index ? first || vq_passed(event, s->used, old)
                          : !(event & NO_INTERRUPT);
}
