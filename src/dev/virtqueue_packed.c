/* SPDX-License-Identifier: MIT */
/*
 * Packed virtqueues (VIRTIO 1.2, "Packed Virtqueues").
 *
 *   descriptors  16 bytes each: address, length, id, flags
 *   driver area, device area: when its owner wants to be told: place | wrap, flags
 *
 * A descriptor is available when its flag AVAIL is the wrap counter and USED is not; it is
 * used when both are the wrap counter.
 */
#include "dev/virtqueue_internal.h"

#define FLAG_AVAIL 0x80u
#define FLAG_USED  0x8000u
#define EVENT_WRAP 0x8000u

enum { TELL_ALWAYS, TELL_NEVER, TELL_AT };

struct desc {
    uint64_t gpa;
    uint32_t size;
    uint16_t id, flags;
};

struct event {
    uint16_t at, flags;
};

int vq_packed_begin(const struct vq *q) {
    const struct event always = {0, TELL_ALWAYS};
    return vq_put(q, q->s->device, &always, sizeof(always));
}

/* Return: 1: the descriptor at that place is available, 0, or -EFAULT. */
static int get(const struct vq *q, unsigned place, bool wrap, struct desc *d) {
    int rc = vq_get(q, q->s->desc + place * VQ_DESC + 14, &d->flags, 2);
    if (rc)
        return rc;
    bool avail = d->flags & FLAG_AVAIL, used = d->flags & FLAG_USED;
    if (avail != wrap || used == wrap)
        return 0;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    rc = vq_get(q, q->s->desc + place * VQ_DESC, d, 14);
    return rc ? rc : 1;
}

static int indirect(const struct vq *q, struct vq_chain *c, const struct desc *table) {
    struct desc d;
    if (!q->indirect || table->flags & (VQ_NEXT | VQ_WRITE) || !table->size ||
        table->size % VQ_DESC || table->gpa > UINT64_MAX - table->size)
        return -EINVAL;
    for (unsigned n = 0; n < table->size / VQ_DESC; n++) {
        int rc = vq_get(q, table->gpa + n * VQ_DESC, &d, sizeof(d));
        if (rc == 0 && d.flags & VQ_INDIRECT)
            rc = -EINVAL;
        if (rc == 0)
            rc = vq_add(q, c, d.gpa, d.size, d.flags & VQ_WRITE);
        if (rc)
            return rc;
    }
    return 0;
}

bool vq_packed_has_next(const struct vq *q) {
    struct desc d;
    return get(q, q->s->avail, q->s->avail_wrap, &d) > 0;
}

int vq_packed_pop(const struct vq *q, struct vq_chain *c) {
    struct desc d;
    unsigned place = q->s->avail;
    bool wrap = q->s->avail_wrap;
    int rc = get(q, place, wrap, &d);
    if (rc <= 0)
        return rc;
    for (;;) {
        rc = d.flags & VQ_INDIRECT ? indirect(q, c, &d)
                                   : vq_add(q, c, d.gpa, d.size, d.flags & VQ_WRITE);
        if (rc)
            return rc;
        c->count++;
        c->id = d.id;
        if (++place == q->s->size) {
            place = 0;
            wrap = !wrap;
        }
        if (!(d.flags & VQ_NEXT) || d.flags & VQ_INDIRECT)
            break;
        /* The first one was made available last: all of the chain is there. */
        rc = c->count < q->s->size ? get(q, place, wrap, &d) : -EINVAL;
        if (rc <= 0)
            return rc ? rc : -EINVAL;
    }
    q->s->avail = (uint16_t)place;
    q->s->avail_wrap = wrap;
    return 1;
}

int vq_packed_push(const struct vq *q, const struct vq_chain *c, uint32_t written) {
    struct vq_state *s = q->s;
    pn_gpa at = s->desc + s->used * VQ_DESC;
    struct desc d = {.size = written, .id = c->id};
    d.flags = (uint16_t)((s->used_wrap ? FLAG_AVAIL | FLAG_USED : 0) |
                         (written ? VQ_WRITE : 0));
    int rc = vq_put(q, at + 8, &d.size, 6);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (rc == 0)
        rc = vq_put(q, at + 14, &d.flags, 2);
    if (rc)
        return rc;
    unsigned next = s->used + c->count;
    if (next >= s->size) {
        next -= s->size;
        s->used_wrap ^= 1;
        s->told_valid = 0; /* `told` is of the round before: maybe this very place */
    }
    s->used = (uint16_t)next;
    return 0;
}

int vq_packed_interrupts(const struct vq *q) {
    struct vq_state *s = q->s;
    struct event e;
    uint16_t old = s->told;
    bool first = !s->told_valid;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    int rc = vq_get(q, s->driver, &e, sizeof(e));
    if (rc)
        return rc;
    s->told = s->used;
    s->told_valid = 1;
    if (e.flags != TELL_AT || !q->event_index)
        return e.flags != TELL_NEVER;
    uint16_t at = (uint16_t)(e.at & ~EVENT_WRAP);
    bool wrap = e.at & EVENT_WRAP;
    if (wrap != s->used_wrap) /* a place of the round before */
        at = (uint16_t)(at - s->size);
    return first || vq_passed(at, s->used, old);
}
