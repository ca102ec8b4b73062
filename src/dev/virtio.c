/* SPDX-License-Identifier: MIT */
/*
 * A virtio device: its status, features and queues, and when these are served. See virtio.h;
 * virtio_pci.c has the registers.
 */
#include "dev/virtio_internal.h"

#include <string.h>

#include "base/locks.h"

struct vq virtio_vq(const struct virtio *v, unsigned queue) {
    return (struct vq){.s = &v->s->queue[queue],
                       .memory = &v->dev.env.host,
                       .packed = virtio_has(v, VIRTIO_F_RING_PACKED),
                       .indirect = virtio_has(v, VIRTIO_F_INDIRECT_DESC),
                       .event_index = virtio_has(v, VIRTIO_F_EVENT_IDX)};
}

bool virtio_ready(const struct virtio *v) {
    return v->s->status & VIRTIO_DRIVER_OK && !(v->s->status & VIRTIO_NEEDS_RESET) &&
           pci_is_master(&v->pci);
}

/* ---- Telling the driver ---- */

static void tell(struct virtio *v, uint16_t vector, uint8_t isr) {
    if (pci_msix_on(&v->pci)) {
        pci_send(&v->pci, vector);
        return;
    }
    v->s->isr |= isr;
    pci_set_line(&v->pci, true);
}

void virtio_config_changed(struct virtio *v) {
    v->s->generation++;
    if (v->s->status & VIRTIO_DRIVER_OK)
        tell(v, v->s->config_vector, VIRTIO_ISR_CONFIG);
}

void virtio_broken(struct virtio *v) {
    if (v->s->status & VIRTIO_NEEDS_RESET)
        return;
    v->s->status |= VIRTIO_NEEDS_RESET;
    virtio_config_changed(v);
}

void virtio_interrupt(struct virtio *v, unsigned queue) {
    const struct vq q = virtio_vq(v, queue);
    if (!virtio_ready(v) || !q.s->enabled)
        return;
    int wants = vq_interrupts(&q);
    if (wants < 0)
        virtio_broken(v);
    else if (wants)
        tell(v, q.s->vector, VIRTIO_ISR_QUEUE);
}

/* ---- Queues ---- */

bool virtio_pop(struct virtio *v, unsigned queue, struct vq_chain *c) {
    const struct vq q = virtio_vq(v, queue);
    if (!virtio_ready(v) || !q.s->enabled)
        return false;
    int rc = vq_pop(&q, c);
    if (rc < 0)
        virtio_broken(v);
    return rc > 0;
}

bool virtio_has_next(struct virtio *v, unsigned queue) {
    const struct vq q = virtio_vq(v, queue);
    return virtio_ready(v) && q.s->enabled && vq_has_next(&q);
}

/* Memory that is not there ends the device. */
static size_t all(struct virtio *v, size_t done, uint64_t wanted) {
    if (done < wanted)
        virtio_broken(v);
    return done;
}

static uint64_t part(uint32_t whole, uint64_t at, size_t size) {
    uint64_t left = at < whole ? whole - at : 0;
    return left < size ? left : size;
}

size_t virtio_read(struct virtio *v, unsigned queue, const struct vq_chain *c,
                   uint64_t at, void *buf, size_t size) {
    const struct vq q = virtio_vq(v, queue);
    return all(v, vq_read(&q, c, at, buf, size), part(c->out_size, at, size));
}

size_t virtio_write(struct virtio *v, unsigned queue, const struct vq_chain *c,
                    uint64_t at, const void *buf, size_t size) {
    const struct vq q = virtio_vq(v, queue);
    return all(v, vq_write(&q, c, at, buf, size), part(c->in_size, at, size));
}

unsigned virtio_places(const struct virtio *v, unsigned queue, const struct vq_chain *c,
                       bool write, uint64_t at, size_t size, struct iovec *place,
                       unsigned most) {
    const struct vq q = virtio_vq(v, queue);
    return vq_places(&q, c, write, at, size, place, most);
}

void virtio_dma_end(struct virtio *v) {
    lock_given(LOCK_DMA);
    pthread_rwlock_unlock(&v->dma);
}

bool virtio_dma_begin(struct virtio *v, uint32_t epoch) {
    pthread_rwlock_rdlock(&v->dma);
    lock_taken(LOCK_DMA);
    if (v->epoch == epoch)
        return true;
    virtio_dma_end(v);
    return false;
}

static void next_epoch(struct virtio *v) {
    pthread_rwlock_wrlock(&v->dma);
    lock_taken(LOCK_DMA);
    v->epoch++;
    virtio_dma_end(v);
}

void virtio_push(struct virtio *v, unsigned queue, const struct vq_chain *c,
                 uint32_t written) {
    const struct vq q = virtio_vq(v, queue);
    if (virtio_ready(v) && vq_push(&q, c, written))
        virtio_broken(v);
}

/* ---- When they are served ---- */

static bool real_time(const struct virtio *v) {
    const struct dev_host *host = &v->dev.env.host;
    return host->real_time && host->real_time(host->opaque);
}

static void serve(struct virtio *v) {
    uint32_t waiting = v->s->waiting;
    v->s->waiting = 0;
    v->s->due = CLOCK_NEVER;
    for (unsigned queue = 0; queue < v->queues; queue++)
        if (waiting >> queue & 1 && virtio_ready(v) && v->s->queue[queue].enabled)
            v->kind->serve(v, queue);
}

void virtio_serve_later(struct virtio *v, unsigned queue) {
    v->s->waiting |= 1u << queue;
    if (v->s->due == CLOCK_NEVER) {
        v->s->due = clock_now(v->dev.env.clock) + VIRTIO_LATENCY_NS;
        dev_arm(&v->dev, v->s->due);
    }
}

void virtio_notified(struct virtio *v, unsigned queue) {
    if (queue >= v->queues || !virtio_ready(v))
        return;
    v->s->waiting |= 1u << queue;
    if (real_time(v))
        serve(v);
    else
        virtio_serve_later(v, queue);
}

void virtio_expire(void *dev) {
    serve(dev);
}

void virtio_work(struct virtio *v, struct dev_job *job) {
    const struct dev_host *host = &v->dev.env.host;
    if (real_time(v)) {
        host->offload(host->opaque, job);
        return;
    }
    job->run(job);
    job->done(job);
}

/* ---- Status ---- */

/* What the driver's write of 0 does; PCI's registers stay. */
void virtio_restart(struct virtio *v) {
    struct virtio_state *s = v->s;
    const struct pci_state pci = s->pci;
    memset(s, 0, sizeof(*s));
    s->pci = pci;
    s->due = CLOCK_NEVER;
    s->config_vector = VIRTIO_NO_VECTOR;
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        s->queue[i].size = VQ_SIZE_MAX;
        s->queue[i].vector = VIRTIO_NO_VECTOR;
    }
    next_epoch(v);
    virtio_put_bells(v);
    dev_arm(&v->dev, CLOCK_NEVER);
    if (v->kind->reset)
        v->kind->reset(v);
    pci_set_line(&v->pci, false);
}

void virtio_set_status(struct virtio *v, uint8_t value) {
    struct virtio_state *s = v->s;
    if (!value) {
        virtio_restart(v);
        return;
    }
    uint8_t kept = s->status & VIRTIO_NEEDS_RESET;
    if (!virtio_has(v, VIRTIO_F_VERSION_1))
        value &= (uint8_t)~VIRTIO_FEATURES_OK;
    if (!(value & VIRTIO_FEATURES_OK))
        value &= (uint8_t)~VIRTIO_DRIVER_OK;
    s->status = (value & VIRTIO_STATUS_MASK) | kept;
}

void virtio_enable(struct virtio *v, unsigned queue) {
    const struct vq q = virtio_vq(v, queue);
    if (q.s->enabled || !(v->s->status & VIRTIO_FEATURES_OK))
        return;
    if (!vq_possible(&q) || !pci_is_master(&v->pci) || vq_begin(&q)) {
        virtio_broken(v);
        return;
    }
    q.s->enabled = 1;
    virtio_put_bells(v);
}

/* ---- As a device ---- */

void virtio_destroy(void *dev) {
    struct virtio *v = dev;
    pci_detach(&v->pci);
    pthread_rwlock_destroy(&v->dma);
}

void virtio_reset(void *dev) {
    struct virtio *v = dev;
    pci_reset(&v->pci);
    virtio_restart(v);
}

bool virtio_check(const void *dev, const void *state) {
    const struct virtio *v = dev;
    const struct virtio_state *s = state;
    uint64_t now = clock_now(v->dev.env.clock);
    struct virtio other = *v;
    struct virtio_state copy = *s;
    other.s = &copy;
    if (!pci_check(&v->pci, &s->pci) || s->driver_features & ~v->features ||
        s->status & ~(VIRTIO_STATUS_MASK | VIRTIO_NEEDS_RESET) || s->isr & ~3 ||
        (s->waiting ? s->due > now + VIRTIO_LATENCY_NS : s->due != CLOCK_NEVER) ||
        s->waiting >> v->queues)
        return false;
    if (s->status & VIRTIO_DRIVER_OK && !(s->status & VIRTIO_FEATURES_OK))
        return false;
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        const struct vq q = virtio_vq(&other, i);
        if (!vq_check(&q) || (i >= v->queues && q.s->enabled))
            return false;
    }
    return true;
}

/* A state that was taken where the host served at once has no deadline of ours. */
void virtio_settle(void *dev) {
    struct virtio *v = dev;
    pci_settle(&v->pci);
    next_epoch(v);
    virtio_put_bells(v);
    dev_arm(&v->dev, v->s->due);
}
