/* SPDX-License-Identifier: MIT */
/* What both kinds of virtqueues have: see virtqueue.h. */
#include "dev/virtqueue_internal.h"

#define ALIGN_DESC         16u
#define ALIGN_SPLIT_DRIVER 2u
#define ALIGN_AREA         4u
#define AREA_MAX           (VQ_SIZE_MAX * VQ_DESC) /* no area of a queue is larger */

int vq_get(const struct vq *q, pn_gpa gpa, void *buf, size_t size) {
    return q->memory->read_phys(q->memory->opaque, gpa, buf, size) == size ? 0 : -EFAULT;
}

int vq_put(const struct vq *q, pn_gpa gpa, const void *buf, size_t size) {
    return q->memory->write_phys(q->memory->opaque, gpa, buf, size) == size ? 0 : -EFAULT;
}

bool vq_possible(const struct vq *q) {
    const struct vq_state *s = q->s;
    const uint64_t top = UINT64_MAX - AREA_MAX;
    unsigned driver = q->packed ? ALIGN_AREA : ALIGN_SPLIT_DRIVER;
    return s->size && s->size <= VQ_SIZE_MAX &&
           (q->packed || !(s->size & (s->size - 1))) && s->desc <= top &&
           s->driver <= top && s->device <= top && !(s->desc % ALIGN_DESC) &&
           !(s->driver % driver) && !(s->device % ALIGN_AREA);
}

bool vq_check(const struct vq *q) {
    const struct vq_state *s = q->s;
    return s->size && s->size <= VQ_SIZE_MAX && (s->enabled | s->told_valid) <= 1 &&
           (s->avail_wrap | s->used_wrap) <= 1 && (!s->enabled || vq_possible(q)) &&
           (!q->packed || (s->avail < s->size && s->used < s->size));
}

int vq_begin(const struct vq *q) {
    q->s->avail = q->s->used = q->s->told = 0;
    q->s->told_valid = 0;
    q->s->avail_wrap = q->s->used_wrap = 1;
    return q->packed ? vq_packed_begin(q) : 0;
}

int vq_add(const struct vq *q, struct vq_chain *c, uint64_t gpa, uint32_t size,
           bool write) {
    unsigned n = c->out + c->in;
    uint32_t *sum = write ? &c->in_size : &c->out_size;
    if (n == q->s->size || (!write && c->in) || size > UINT32_MAX - *sum ||
        gpa > UINT64_MAX - size)
        return -EINVAL;
    c->segment[n] = (struct vq_segment){gpa, size};
    *sum += size;
    *(write ? &c->in : &c->out) += 1;
    return 0;
}

int vq_pop(const struct vq *q, struct vq_chain *c) {
    c->out = c->in = 0;
    c->out_size = c->in_size = 0;
    c->count = 0;
    return q->packed ? vq_packed_pop(q, c) : vq_split_pop(q, c);
}

bool vq_has_next(const struct vq *q) {
    return q->packed ? vq_packed_has_next(q) : vq_split_has_next(q);
}

int vq_push(const struct vq *q, const struct vq_chain *c, uint32_t written) {
    return q->packed ? vq_packed_push(q, c, written) : vq_split_push(q, c, written);
}

int vq_interrupts(const struct vq *q) {
    return q->packed ? vq_packed_interrupts(q) : vq_split_interrupts(q);
}

/* ---- What is in a buffer ---- */

/* in or out: where bytes go, or come from; neither: they are in the segments. */
static size_t copy(const struct vq *q, const struct vq_segment *s, unsigned count,
                   uint64_t at, uint8_t *in, const uint8_t *out, size_t size) {
    size_t done = 0;
    for (unsigned i = 0; i < count && done < size; i++) {
        if (at >= s[i].size) {
            at -= s[i].size;
            continue;
        }
        size_t n = s[i].size - at;
        if (n > size - done)
            n = size - done;
        if (in ? vq_get(q, s[i].gpa + at, in + done, n)
               : vq_put(q, s[i].gpa + at, out ? out + done : NULL, n))
            return done;
        done += n;
        at = 0;
    }
    return done;
}

size_t vq_read(const struct vq *q, const struct vq_chain *c, uint64_t at, void *buf,
               size_t size) {
    return copy(q, c->segment, c->out, at, buf, NULL, size);
}

size_t vq_write(const struct vq *q, const struct vq_chain *c, uint64_t at,
                const void *buf, size_t size) {
    return copy(q, c->segment + c->out, c->in, at, NULL, buf, size);
}

unsigned vq_places(const struct vq *q, const struct vq_chain *c, bool write, uint64_t at,
                   size_t size, struct iovec *place, unsigned most) {
    const struct vq_segment *s = c->segment + (write ? c->out : 0);
    unsigned count = write ? c->in : c->out, n = 0;
    if (!q->memory->memory_at)
        return 0;
    for (unsigned i = 0; i < count && size; i++) {
        if (at >= s[i].size) {
            at -= s[i].size;
            continue;
        }
        size_t piece = s[i].size - at < size ? s[i].size - at : size;
        uint8_t *p = q->memory->memory_at(q->memory->opaque, s[i].gpa + at, piece);
        bool joins =
            p && n && (uint8_t *)place[n - 1].iov_base + place[n - 1].iov_len == p;
        if (!p || (!joins && n == most))
            return 0;
        if (joins)
            place[n - 1].iov_len += piece;
        else
            place[n++] = (struct iovec){p, piece};
        size -= piece;
        at = 0;
    }
    return size ? 0 : n;
}
