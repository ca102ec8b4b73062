/* SPDX-License-Identifier: MIT */
/*
 * A balloon (VIRTIO 1.2, "Traditional Memory Balloon Device"): inflate, deflate, deflate on
 * OOM, statistics, free page hinting and reporting. A page that the guest gives back reads as zeros
 * until the guest writes to it, and the host has it until then. A page that it only hints at stays
 * as it is.
 *
 * Queue 0 inflates, 1 deflates: numbers of 4 KiB pages, 4 bytes each. Then comes a queue of
 * statistics, whose one buffer the device keeps until it wants newer ones, one that hints, and one
 * that reports: their buffers are the free memory itself. Hints stand between two buffers with the
 * number that the device has asked by, and with 0. A queue whose feature the driver did not take has
 * no number, as Linux has it.
 */
#include <stddef.h>
#include <string.h>

#include "dev/virtio_devices.h"
#include "penumbra/x86.h"

#define F_STATS          1u
#define F_DEFLATE_ON_OOM 2u
#define F_HINT           3u
#define F_REPORTING      5u
#define NUMBERS          256u /* taken at once */

#define STAT_SIZE 10u /* a tag of 2 bytes, a value of 8 */

enum { INFLATE, DEFLATE, STATS, HINTS, REPORTING, QUEUES };

struct balloon_config {
    uint32_t wanted, actual; /* pages */
    uint32_t hint; /* enum virtio_balloon_hints; HINTS_ANEW and above: a number */
};

struct virtio_balloon {
    struct virtio v;
    void (*hint)(void *opaque, pn_gpa gpa, size_t size);
    void *opaque;
    struct {
        struct virtio_state v;
        uint64_t inflated, deflated, reported;
        uint64_t stat[BALLOON_STATS];
        uint32_t wanted,
            known; /* known: a bit for each of stat that the driver has said */
        uint32_t hint, hint_last;     /* as config has it; the last number */
        uint16_t held_id, held_count; /* the buffer of statistics */
        uint8_t held, hints, pad[6];  /* hints: what comes answers the last number */
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
static bool free_pages(struct virtio_balloon *b, const struct vq_chain *c, bool hints) {
    for (unsigned i = c->out; i < c->out + c->in; i++) {
        const uint64_t mask = PN_PAGE_SIZE - 1;
        pn_gpa first = c->segment[i].gpa, end = (first + c->segment[i].size) & ~mask;
        if (first > UINT64_MAX - mask)
            continue;
        first = (first + mask) & ~mask;
        if (first >= end)
            continue;
        if (hints) {
            b->hint(b->opaque, first, end - first);
            continue;
        }
        b->s.reported += (end - first) >> PN_PAGE_SHIFT;
        if (!give_back(&b->v, first, end - first))
            return false;
    }
    return true;
}

/* A number, or pages. Return: false: the device is broken. */
static bool hear_hint(struct virtio_balloon *b, unsigned queue,
                      const struct vq_chain *c) {
    uint32_t number;
    if (c->out_size >= sizeof(number)) {
        if (virtio_read(&b->v, queue, c, 0, &number, sizeof(number)) < sizeof(number))
            return false;
        b->s.hints = number >= HINTS_ANEW && number == b->s.hint;
    }
    return !b->hint || !b->s.hints || free_pages(b, c, true);
}

/* Which of them is queue `queue`? QUEUES: none. */
static unsigned role(const struct virtio *v, unsigned queue) {
    static const unsigned feature[QUEUES] = {
        [STATS] = F_STATS, [HINTS] = F_HINT, [REPORTING] = F_REPORTING};
    unsigned what = 0;
    for (;; what++, queue--) {
        while (what < QUEUES && feature[what] && !virtio_has(v, feature[what]))
            what++;
        if (!queue || what == QUEUES)
            return what;
    }
}

/* What the driver says, and the buffer that is kept. Return: false: the device is broken. */
static bool hear_stats(struct virtio_balloon *b, unsigned queue,
                       const struct vq_chain *c) {
    uint8_t item[STAT_SIZE];
    uint16_t tag;
    for (uint32_t at = 0; at + STAT_SIZE <= c->out_size && at < BALLOON_STATS * STAT_SIZE;
         at += STAT_SIZE) {
        if (virtio_read(&b->v, queue, c, at, item, STAT_SIZE) < STAT_SIZE)
            return false;
        memcpy(&tag, item, sizeof(tag));
        if (tag >= BALLOON_STATS)
            continue;
        memcpy(&b->s.stat[tag], item + sizeof(tag), sizeof(b->s.stat[tag]));
        b->s.known |= 1u << tag;
    }
    b->s.held = 1;
    b->s.held_id = c->id;
    b->s.held_count = c->count;
    return true;
}

static void serve_stats(struct virtio_balloon *b, unsigned queue) {
    struct vq_chain c;
    if (!b->s.held && virtio_pop(&b->v, queue, &c))
        hear_stats(b, queue, &c);
}

bool virtio_balloon_ask_stats(struct virtio_balloon *b) {
    const struct vq_chain c = {.id = b->s.held_id, .count = b->s.held_count};
    if (!b->s.held)
        return false;
    b->s.held = 0;
    virtio_push(&b->v, STATS, &c, 0);
    virtio_interrupt(&b->v, STATS);
    return true;
}

static void serve(struct virtio *v, unsigned queue) {
    struct virtio_balloon *b = (struct virtio_balloon *)v;
    unsigned what = role(v, queue);
    struct vq_chain c;
    if (what == STATS) {
        serve_stats(b, queue);
        return;
    }
    while (virtio_pop(v, queue, &c)) {
        if (!(what == REPORTING ? free_pages(b, &c, false)
              : what == HINTS   ? hear_hint(b, queue, &c)
              : what < STATS    ? numbers(b, queue, &c)
                                : true))
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
    b->s.hint = HINTS_STOP;
    b->s.hints = 0;
    b->s.held = 0;
    b->s.known = 0;
}

static const uint8_t written[sizeof(struct balloon_config)] = {0, 0, 0, 0, 1, 1, 1, 1};
static const struct virtio_kind kind = {
    .type = VIRTIO_BALLOON,
    .class = 0x00ff00,
    .queues = QUEUES,
    .features = 1u << F_STATS | 1u << F_DEFLATE_ON_OOM | 1u << F_HINT | 1u << F_REPORTING,
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

void virtio_balloon_hints(struct virtio_balloon *b, enum virtio_balloon_hints what) {
    if (what == HINTS_ANEW && ++b->s.hint_last < HINTS_ANEW)
        b->s.hint_last = HINTS_ANEW;
    b->s.hint = what == HINTS_ANEW ? b->s.hint_last : what;
    b->s.hints = 0;
    memcpy(b->s.v.config + offsetof(struct balloon_config, hint), &b->s.hint,
           sizeof(b->s.hint));
    virtio_config_changed(&b->v);
}

struct virtio_balloon_report virtio_balloon_ask(const struct virtio_balloon *b) {
    struct balloon_config c;
    memcpy(&c, b->s.v.config, sizeof(c));
    struct virtio_balloon_report r = {.wanted = c.wanted,
                                      .actual = c.actual,
                                      .inflated = b->s.inflated,
                                      .deflated = b->s.deflated,
                                      .reported = b->s.reported,
                                      .known = b->s.known};
    memcpy(r.stat, b->s.stat, sizeof(r.stat));
    return r;
}

static int create(void *dev, const void *config) {
    const struct virtio_balloon_config *c = config;
    struct virtio_balloon *b = dev;
    b->hint = c->hint;
    b->opaque = c->opaque;
    return virtio_attach(&b->v, &b->s.v, &kind, &c->virtio);
}

static bool check(const void *dev, const void *state) {
    const struct virtio_balloon *b = dev;
    const __typeof__(b->s) *s = state;
    return virtio_check(dev, state) && s->known < 1u << BALLOON_STATS && s->held <= 1 &&
           s->hints <= 1 &&
           (!s->held || (s->v.queue[STATS].enabled && s->held_count &&
                         s->held_count <= s->v.queue[STATS].size &&
                         s->held_id < s->v.queue[STATS].size));
}

static const struct dev_class balloon_class = {
    .name = "virtio_balloon",
    .version = 3,
    VIRTIO_CLASS(struct virtio_balloon),
    .check = check,
    .create = create,
    .reset = virtio_reset,
};

struct virtio_balloon *virtio_balloon_create(const struct dev_env *env,
                                             const struct virtio_balloon_config *c) {
    return dev_create(&balloon_class, env, c->virtio.slot, c);
}
