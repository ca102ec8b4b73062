/* SPDX-License-Identifier: MIT */
/*
 * A virtio device's registers on PCI (VIRTIO 1.2, "Virtio Structure PCI Capabilities").
 * BAR 0:
 *
 *   0x0000  common configuration     0x1000  ISR status: reading clears it
 *   0x2000  the device's own         0x3000  notification, 4 bytes for each queue
 *   0x4000  MSI-X table              0x5000  its pending bits
 *
 * And PCI configuration access, a window to these in configuration space.
 */
#include <errno.h>
#include <string.h>

#include "dev/virtio_internal.h"

#define VENDOR   0x1af4u
#define ID_BASE  0x1040u
#define CAP_ID   0x09u
#define AREA     0x1000u /* each of them has one, and a number */
#define CAP_SIZE 14u     /* bytes behind id and next pointer */
#define CFG_DATA 16u     /* of the window: offset in the capability */

enum { COMMON, ISR, OWN, NOTIFY, TABLE, PBA };
enum { CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_DEVICE, CAP_WINDOW };

/* Common configuration: offsets, sizes, and whose they are. */
enum {
    DEVICE_FEATURE_SELECT = 0x00,
    DEVICE_FEATURE = 0x04,
    DRIVER_FEATURE_SELECT = 0x08,
    DRIVER_FEATURE = 0x0c,
    CONFIG_VECTOR = 0x10,
    NUM_QUEUES = 0x12,
    STATUS = 0x14,
    GENERATION = 0x15,
    QUEUE_SELECT = 0x16,
    QUEUE_SIZE = 0x18,
    QUEUE_VECTOR = 0x1a,
    QUEUE_ENABLE = 0x1c,
    QUEUE_NOTIFY_OFF = 0x1e,
    QUEUE_DESC = 0x20,
    QUEUE_DRIVER = 0x28,
    QUEUE_DEVICE = 0x30,
    COMMON_SIZE = 0x38,
};

/* ---- Common configuration ---- */

/* The selected queue, or NULL. */
static struct vq_state *selected(const struct virtio *v) {
    return v->s->queue_select < v->queues ? &v->s->queue[v->s->queue_select] : NULL;
}

static uint32_t half(uint64_t bits, uint32_t select) {
    return select > 1 ? 0 : (uint32_t)(bits >> select * 32);
}

static uint32_t queue_read(const struct virtio *v, unsigned at) {
    const struct vq_state *q = selected(v);
    if (!q)
        return at == QUEUE_VECTOR ? VIRTIO_NO_VECTOR : 0;
    switch (at) {
    case QUEUE_SIZE:
        return q->size;
    case QUEUE_VECTOR:
        return q->vector;
    case QUEUE_ENABLE:
        return q->enabled;
    case QUEUE_NOTIFY_OFF:
        return v->s->queue_select;
    case QUEUE_DESC:
    case QUEUE_DESC + 4:
        return half(q->desc, (at & 4) / 4);
    case QUEUE_DRIVER:
    case QUEUE_DRIVER + 4:
        return half(q->driver, (at & 4) / 4);
    case QUEUE_DEVICE:
    case QUEUE_DEVICE + 4:
        return half(q->device, (at & 4) / 4);
    }
    return 0;
}

static uint32_t common_read(const struct virtio *v, unsigned at) {
    const struct virtio_state *s = v->s;
    switch (at) {
    case DEVICE_FEATURE_SELECT:
        return s->device_select;
    case DEVICE_FEATURE:
        return half(v->features, s->device_select);
    case DRIVER_FEATURE_SELECT:
        return s->driver_select;
    case DRIVER_FEATURE:
        return half(s->driver_features, s->driver_select);
    case CONFIG_VECTOR:
        return s->config_vector;
    case NUM_QUEUES:
        return v->queues;
    case STATUS:
        return s->status;
    case GENERATION:
        return s->generation;
    case QUEUE_SELECT:
        return s->queue_select;
    }
    return queue_read(v, at);
}

static uint16_t vector(const struct virtio *v, uint32_t value) {
    return value < v->pci.vectors ? (uint16_t)value : VIRTIO_NO_VECTOR;
}

static void put_half(uint64_t *to, unsigned at, uint32_t value) {
    unsigned shift = (at & 4) * 8;
    *to = (*to & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)value << shift;
}

static void queue_write(struct virtio *v, unsigned at, uint32_t value) {
    struct vq_state *q = selected(v);
    if (!q)
        return;
    if (at == QUEUE_VECTOR)
        q->vector = vector(v, value);
    if (q->enabled) /* the rest is fixed then */
        return;
    switch (at) {
    case QUEUE_SIZE:
        if (value && value <= VQ_SIZE_MAX)
            q->size = (uint16_t)value;
        break;
    case QUEUE_ENABLE:
        if (value == 1)
            virtio_enable(v, v->s->queue_select);
        break;
    case QUEUE_DESC:
    case QUEUE_DESC + 4:
        put_half(&q->desc, at, value);
        break;
    case QUEUE_DRIVER:
    case QUEUE_DRIVER + 4:
        put_half(&q->driver, at, value);
        break;
    case QUEUE_DEVICE:
    case QUEUE_DEVICE + 4:
        put_half(&q->device, at, value);
        break;
    }
}

static void common_write(struct virtio *v, unsigned at, uint32_t value) {
    struct virtio_state *s = v->s;
    switch (at) {
    case DEVICE_FEATURE_SELECT:
        s->device_select = value;
        break;
    case DRIVER_FEATURE_SELECT:
        s->driver_select = value;
        break;
    case DRIVER_FEATURE:
        if (s->driver_select <= 1 && !(s->status & VIRTIO_FEATURES_OK))
            put_half(&s->driver_features, s->driver_select * 4, value);
        /* what is not offered cannot be taken */
        s->driver_features &= v->features;
        break;
    case CONFIG_VECTOR:
        s->config_vector = vector(v, value);
        break;
    case STATUS:
        virtio_set_status(v, (uint8_t)value);
        break;
    case QUEUE_SELECT:
        s->queue_select = (uint16_t)value;
        break;
    default:
        queue_write(v, at, value);
    }
}

/* ---- BAR 0 ---- */

static uint32_t isr_read(struct virtio *v) {
    uint8_t isr = v->s->isr;
    v->s->isr = 0;
    if (isr)
        pci_set_line(&v->pci, false);
    return isr;
}

static uint32_t own_read(const struct virtio *v, unsigned at, unsigned size) {
    uint32_t value = 0;
    if (at + size <= v->kind->config_size)
        memcpy(&value, v->s->config + at, size);
    return value;
}

static void own_write(struct virtio *v, unsigned at, unsigned size, uint32_t value) {
    const uint8_t *mask = v->kind->config_mask;
    if (!mask || at + size > v->kind->config_size)
        return;
    for (unsigned i = 0; i < size; i++)
        if (mask[at + i])
            v->s->config[at + i] = (uint8_t)(value >> i * 8);
    if (v->kind->configured)
        v->kind->configured(v);
}

static uint64_t bar_read(void *dev, uint64_t offset, unsigned size) {
    struct virtio *v = dev;
    unsigned at = offset & (AREA - 1);
    switch (offset / AREA) {
    case COMMON:
        return common_read(v, at);
    case ISR:
        return at ? 0 : isr_read(v);
    case OWN:
        return own_read(v, at, size);
    case TABLE:
    case PBA:
        return pci_msix_read(&v->pci, offset);
    }
    return 0;
}

static void bar_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct virtio *v = dev;
    unsigned at = offset & (AREA - 1);
    switch (offset / AREA) {
    case COMMON:
        common_write(v, at, (uint32_t)value);
        break;
    case OWN:
        own_write(v, at, size, (uint32_t)value);
        break;
    case NOTIFY:
        if (!(at & 3))
            virtio_notified(v, at / 4);
        break;
    case TABLE:
        if (size == 4)
            pci_msix_write(&v->pci, offset, (uint32_t)value);
        break;
    }
}

static const struct dev_ops bar_ops = {"virtio", 1, 4, bar_read, bar_write};
const struct dev_range virtio_ranges[1] = {
    {DEV_MMIO, DEV_NOWHERE, VIRTIO_BAR_SIZE, &bar_ops}};

/* ---- Bells ---- */

static void rung(struct dev_bell *bell) {
    const struct virtio_bell *b = (struct virtio_bell *)bell;
    virtio_notified(b->v, b->queue);
}

void virtio_put_bells(struct virtio *v) {
    const struct dev_host *host = &v->dev.env.host;
    for (unsigned i = 0; host->put_bell && i < v->queues; i++) {
        bool rings = v->s->queue[i].enabled && v->s->pci.at != DEV_NOWHERE;
        pn_gpa at = rings ? v->s->pci.at + NOTIFY * AREA + 4 * i : DEV_NOWHERE;
        if (at != v->bell[i].bell.at)
            host->put_bell(host->opaque, &v->bell[i].bell, at);
    }
}

static void moved(struct device *dev) {
    virtio_put_bells((struct virtio *)dev);
}

/* ---- The window in configuration space ---- */

/* Where the window is; its size is 1, 2 or 4. Return: whether it is anywhere. */
static bool window(const struct virtio *v, uint32_t *offset, uint32_t *size) {
    const uint8_t *cap = v->s->pci.config + v->cfg_cap;
    memcpy(offset, cap + 8, 4);
    memcpy(size, cap + 12, 4);
    return cap[4] == 0 && (*size == 1 || *size == 2 || *size == 4) &&
           !(*offset % *size) && *offset <= VIRTIO_BAR_SIZE - *size;
}

static bool data(const struct virtio *v, unsigned at, unsigned size) {
    unsigned first = v->cfg_cap + CFG_DATA;
    return at < first + 4 && first < at + size;
}

static void window_reads(struct device *dev, unsigned at, unsigned size) {
    struct virtio *v = (struct virtio *)dev;
    uint32_t offset, bytes;
    if (!data(v, at, size) || !window(v, &offset, &bytes))
        return;
    uint32_t value = (uint32_t)bar_read(v, offset, bytes);
    memcpy(v->s->pci.config + v->cfg_cap + CFG_DATA, &value, 4);
}

static void window_written(struct device *dev, unsigned at, unsigned size) {
    struct virtio *v = (struct virtio *)dev;
    uint32_t offset, bytes, value;
    if (!data(v, at, size) || !window(v, &offset, &bytes))
        return;
    memcpy(&value, v->s->pci.config + v->cfg_cap + CFG_DATA, 4);
    bar_write(v, offset, bytes, value);
}

/* ---- Attaching ---- */

static void add_cap(struct virtio *v, uint8_t type, unsigned area, uint32_t length,
                    unsigned extra) {
    uint8_t body[CAP_SIZE + 4] = {0}, mask[CAP_SIZE + 4] = {0};
    uint32_t offset = area * AREA;
    body[0] = (uint8_t)(2 + CAP_SIZE + extra);
    body[1] = type;
    memcpy(body + 6, &offset, 4);
    memcpy(body + 10, &length, 4);
    if (type == CAP_NOTIFY) /* bytes for each queue */
        body[14] = 4;
    if (type == CAP_WINDOW) { /* bar, offset, length, data */
        mask[2] = 0xff;
        memset(mask + 6, 0xff, 12);
    }
    unsigned at = pci_add_capability(&v->pci, CAP_ID, body,
                                     type == CAP_WINDOW ? mask : NULL, CAP_SIZE + extra);
    if (type == CAP_WINDOW)
        v->cfg_cap = at;
}

static void function_reset(struct device *dev) {
    virtio_reset(dev);
}

int virtio_attach(struct virtio *v, struct virtio_state *s, const struct virtio_kind *k,
                  const struct virtio_config *c) {
    v->kind = k;
    v->s = s;
    pthread_rwlock_init(&v->dma, NULL);
    if (!v->queues)
        v->queues = k->queues;
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        v->bell[i] =
            (struct virtio_bell){.bell = {rung, DEV_NOWHERE, NULL}, .v = v, .queue = i};
    v->features |= k->features | 1ull << VIRTIO_F_VERSION_1 |
                   1ull << VIRTIO_F_INDIRECT_DESC | 1ull << VIRTIO_F_EVENT_IDX |
                   (uint64_t)!c->split << VIRTIO_F_RING_PACKED;
    v->pci = (struct pci_function){.dev = &v->dev,
                                   .s = &s->pci,
                                   .vendor = VENDOR,
                                   .id = (uint16_t)(ID_BASE + k->type),
                                   .subsystem = (uint16_t)(ID_BASE + k->type),
                                   .class = k->class,
                                   .bar_size = VIRTIO_BAR_SIZE,
                                   .vectors = v->queues + 1,
                                   .table = TABLE * AREA,
                                   .pba = PBA * AREA,
                                   .msi = true,
                                   .moved = moved,
                                   .reset = function_reset,
                                   .written = window_written,
                                   .reads = window_reads};
    int rc = pci_attach(c->host, &v->pci, c->slot);
    if (rc)
        return rc;
    add_cap(v, CAP_COMMON, COMMON, COMMON_SIZE, 0);
    add_cap(v, CAP_ISR, ISR, 1, 0);
    if (k->config_size)
        add_cap(v, CAP_DEVICE, OWN, k->config_size, 0);
    add_cap(v, CAP_NOTIFY, NOTIFY, 4 * v->queues, 4);
    add_cap(v, CAP_WINDOW, 0, 0, 4);
    return 0;
}
