/* SPDX-License-Identifier: MIT */
/*
 * A balloon (VIRTIO 1.2, "Traditional Memory Balloon Device"): inflate, deflate, deflate on
 * OOM, free page reporting. A page that the guest gives back reads as zeros until the guest
 * writes to it, and the host has it until then.
 *
 * Queue 0 inflates, 1 deflates: numbers of 4 KiB pages, 4 bytes each. Queue 2 reports: its
 * buffers are the free memory itself.
 */
#include <string.h>

#include "dev/virtio_devices.h"
#include "penumbra/x86.h"

#define F_DEFLATE_ON_OOM 2u
#define F_REPORTING      5u
#define NUMBERS          256u /* taken at once */

enum { INFLATE, DEFLATE, REPORTING, QUEUES };

struct balloon_config {
    uint32_t wanted, actual; /* pages */
};

struct virtio_balloon {
    struct virtio v;
    struct {
        struct virtio_state v;
        uint64_t inflated, deflated, reported;
        uint32_t wanted, pad;
    } s;
};

static bool give_back(struct virtio *v, pn_gpa gpa, size_t size) {
    const struct dev_host *host = &v->dev.env.host;
    if (host->discard_phys(host->opaque, gpa, size) == size)
        return true;
    virtio_broken(v);
    return false;
}

/* Return: false: the device is broken. */
static bool numbers(struct virtio_balloon *b, unsigned queue, const struct vq_chain *c) {
    uint32_t number[NUMBERS];
    for (uint32_t at = 0, n; at + 4 <= c->out_size; at += n * 4) {
        n = (c->out_size - at) / 4 < NUMBERS ? (c->out_size - at) / 4 : NUMBERS;
        if (virtio_read(&b->v, queue, c, at, number, n * 4) < n * 4)
            return false;
        *(queue == INFLATE ? &b->s.inflated : &b->s.deflated) += n;
        for (uint32_t i = 0; queue == INFLATE && i < n; i++)
            if (!give_back(&b->v, (pn_gpa)number[i] << PN_PAGE_SHIFT, PN_PAGE_SIZE))
                return false;
    }
    return true;
}

/* Whole pages alone. */
static bool report(struct virtio_balloon *b, const struct vq_chain *c) {
    for (unsigned i = c->out; i < c->out + c->in; i++) {
        const uint64_t mask = PN_PAGE_SIZE - 1;
        pn_gpa first = c->segment[i].gpa, end = (first + c->segment[i].size) & ~mask;
        if (first > UINT64_MAX - mask)
            continue;
        first = (first + mask) & ~mask;
        if (first >= end)
            continue;
        b->s.reported += (end - first) >> PN_PAGE_SHIFT;
        if (!give_back(&b->v, first, end - first))
            return false;
    }
    return true;
}

static void serve(struct virtio *v, unsigned queue) {
    struct virtio_balloon *b = (struct virtio_balloon *)v;
    struct vq_chain c;
    while (virtio_pop(v, queue, &c)) {
        if (!(queue == REPORTING ? report(b, &c) : numbers(b, queue, &c)))
            return;
        virtio_push(v, queue, &c, 0);
    }
    virtio_interrupt(v, queue);
}

/* What is wanted outlives the driver. */
static void restart(struct virtio *v) {
    struct virtio_balloon *b = (struct virtio_balloon *)v;
    const struct balloon_config c = {.wanted = b->s.wanted};
    memcpy(v->s->config, &c, sizeof(c));
}

static const uint8_t written[sizeof(struct balloon_config)] = {0, 0, 0, 0, 1, 1, 1, 1};
static const struct virtio_kind kind = {
    .type = VIRTIO_BALLOON,
    .class = 0x00ff00,
    .queues = QUEUES,
    .features = 1u << F_DEFLATE_ON_OOM | 1u << F_REPORTING,
    .config_size = sizeof(struct balloon_config),
    .config_mask = written,
    .serve = serve,
    .reset = restart,
};

void virtio_balloon_set(struct virtio_balloon *b, uint32_t pages) {
    b->s.wanted = pages;
    memcpy(b->s.v.config, &pages, sizeof(pages));
    virtio_config_changed(&b->v);
}

struct virtio_balloon_report virtio_balloon_ask(const struct virtio_balloon *b) {
    struct balloon_config c;
    memcpy(&c, b->s.v.config, sizeof(c));
    return (struct virtio_balloon_report){.wanted = c.wanted,
                                          .actual = c.actual,
                                          .inflated = b->s.inflated,
                                          .deflated = b->s.deflated,
                                          .reported = b->s.reported};
}

static int create(void *dev, const void *config) {
    const struct virtio_balloon_config *c = config;
    struct virtio_balloon *b = dev;
    return virtio_attach(&b->v, &b->s.v, &kind, &c->virtio);
}

static const struct dev_class balloon_class = {
    .name = "virtio_balloon",
    .version = 1,
    VIRTIO_CLASS(struct virtio_balloon),
    .create = create,
    .reset = virtio_reset,
};

struct virtio_balloon *virtio_balloon_create(const struct dev_env *env,
                                             const struct virtio_balloon_config *c) {
    return dev_create(&balloon_class, env, c->virtio.slot, c);
}
