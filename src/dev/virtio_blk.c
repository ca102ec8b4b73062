/* SPDX-License-Identifier: MIT */
/*
 * A disk (VIRTIO 1.2, "Block Device").
 *
 *   a buffer: type, sector (16 bytes) | data | status (1 byte, the last that is written)
 *
 * Invariants
 * 1. No sector beyond the disk's end is touched; a disk that is read-only is never written.
 * 2. A flush is answered after everything that was answered before the driver asked for it has
 *    been made durable. Requests that are on their way together have no order.
 * 3. At most REQUESTS_MAX requests are on their way. One asks for REQUEST_MOST bytes at most. The
 *    host reads into guest memory and writes from there; where that cannot be, by a buffer of
 *    CHUNK_MAX bytes, piece by piece.
 * 4. Where the disk waits for room (dev_disk.waits), a request that found none is done again when
 *    the device is served next, and not lost.
 * 5. What the host has stored in guest memory is told before the guest has its answer, or its
 *    reset.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dev/virtio_devices.h"

/* "Feature bits" */
#define F_SIZE_MAX     1u
#define F_SEG_MAX      2u
#define F_RO           5u
#define F_BLK_SIZE     6u
#define F_FLUSH        9u
#define F_MQ           12u
#define F_DISCARD      13u
#define F_WRITE_ZEROES 14u

enum {
    T_IN = 0,
    T_OUT = 1,
    T_FLUSH = 4,
    T_GET_ID = 8,
    T_DISCARD = 11,
    T_WRITE_ZEROES = 13
};
enum { S_OK, S_IOERR, S_UNSUPP };

#define HEADER_SIZE  16u
#define ID_SIZE      20u
#define RANGE_SIZE   16u /* of a discard: sector, number, flags */
#define RANGE_UNMAP  1u
#define RANGES_MAX   64u
#define RANGE_MOST   (1u << 21) /* sectors */
#define SEGMENTS_MAX 126u
#define SEGMENT_MOST (256u << 10)
#define REQUEST_MOST (SEGMENTS_MAX * SEGMENT_MOST)
#define CHUNK_MAX    (1u << 20)
#define REQUESTS_MAX 64u

struct blk_config {
    uint64_t capacity;
    uint32_t size_max, seg_max;
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t blk_size;
    uint8_t topology[8], writeback, unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
    uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap, unused1[3];
};
_Static_assert(sizeof(struct blk_config) <= VIRTIO_CONFIG_MAX, "config");

struct request {
    struct dev_job job;
    struct virtio_blk *b;
    struct request *next; /* of those that nobody has */
    uint32_t epoch;
    unsigned queue;
    uint32_t type;
    uint64_t at;          /* on the disk, bytes */
    uint32_t total, done; /* of data */
    uint32_t chunk;       /* of them, that are being read or written */
    int rc;
    bool stored;     /* in guest memory, which has not been told; under virtio.dma */
    unsigned pieces; /* where the chunk is in guest memory; 0: it is in buf */
    struct iovec piece[SEGMENTS_MAX];
    uint8_t *buf; /* NULL: there is none */
    struct vq_chain chain;
};

struct virtio_blk {
    struct virtio v;
    struct dev_disk disk;
    char serial[ID_SIZE];
    uint32_t stalled; /* queues that wait for a request to end */
    struct request request[REQUESTS_MAX], *idle;
    struct request *again; /* for which the host had no room */
    struct {
        struct virtio_state v;
    } s;
};

/* ---- Beside the machine ---- */

static int erase(const struct request *r) {
    const struct dev_disk *disk = &r->b->disk;
    int rc = 0;
    for (uint32_t n = 0; rc == 0 && n < r->total; n += RANGE_SIZE) {
        uint64_t sector;
        uint32_t count;
        memcpy(&sector, r->buf + n, 8);
        memcpy(&count, r->buf + n + 8, 4);
        rc = disk->discard(disk->opaque, sector * DISK_SECTOR,
                           (uint64_t)count * DISK_SECTOR);
    }
    return rc;
}

static int transfer(struct request *r) {
    const struct dev_disk *disk = &r->b->disk;
    const struct iovec in_buf = {r->buf, r->chunk};
    const struct iovec *v = r->pieces ? r->piece : &in_buf;
    unsigned n = r->pieces ? r->pieces : 1;
    return r->type == T_IN ? disk->read(disk->opaque, r->at + r->done, v, n)
                           : disk->write(disk->opaque, r->at + r->done, v, n);
}

static void run(struct dev_job *job) {
    struct request *r = (struct request *)job;
    const struct dev_disk *disk = &r->b->disk;
    if (r->type == T_FLUSH) {
        r->rc = disk->flush(disk->opaque);
    } else if (r->type == T_DISCARD || r->type == T_WRITE_ZEROES) {
        r->rc = erase(r);
    } else if (!r->pieces) {
        r->rc = transfer(r);
    } else if (virtio_dma_begin(&r->b->v, r->epoch)) {
        r->rc = transfer(r);
        r->stored = r->type == T_IN;
        virtio_dma_end(&r->b->v);
    }
}

/* ---- In the machine ---- */

static void serve(struct virtio *v, unsigned queue);

static void answer(struct virtio_blk *b, unsigned queue, const struct vq_chain *c,
                   uint8_t status, uint32_t data) {
    if (virtio_write(&b->v, queue, c, c->in_size - 1, &status, 1))
        virtio_push(&b->v, queue, c, status == S_OK ? data + 1 : 1);
}

static void release(struct request *r) {
    struct virtio_blk *b = r->b;
    uint32_t stalled = b->stalled;
    free(r->buf);
    r->buf = NULL;
    r->next = b->idle;
    b->idle = r;
    b->stalled = 0;
    for (unsigned queue = 0; queue < b->v.queues; queue++)
        if (stalled >> queue & 1)
            serve(&b->v, queue);
}

static void finish(struct request *r) {
    struct virtio_blk *b = r->b;
    answer(b, r->queue, &r->chain, r->rc ? S_IOERR : S_OK,
           r->type == T_IN ? r->total : 0);
    virtio_interrupt(&b->v, r->queue);
    release(r);
}

/* Room for so much beside the guest's memory. Return: 0 or -ENOMEM. */
static int give_buffer(struct request *r) {
    if (!r->buf)
        r->buf = malloc(r->total < CHUNK_MAX ? r->total : CHUNK_MAX);
    return r->buf ? 0 : -ENOMEM;
}

/* The next piece of the data, which before a write comes in. */
static void go_on(struct request *r, bool direct) {
    struct virtio_blk *b = r->b;
    uint32_t left = r->total - r->done, from = r->type == T_OUT ? HEADER_SIZE : 0;
    r->chunk = left;
    r->pieces = direct ? virtio_places(&b->v, r->queue, &r->chain, r->type == T_IN,
                                       from + r->done, left, r->piece, SEGMENTS_MAX)
                       : 0;
    if (!r->pieces) {
        r->chunk = left < CHUNK_MAX ? left : CHUNK_MAX;
        r->rc = give_buffer(r);
        if (r->rc) {
            finish(r);
            return;
        }
        if (r->type == T_OUT && virtio_read(&b->v, r->queue, &r->chain, from + r->done,
                                            r->buf, r->chunk) < r->chunk) {
            release(r);
            return;
        }
    }
    virtio_work(&b->v, &r->job);
}

/* What the host has stored in guest memory is told. */
static void tell_stored(struct request *r) {
    if (r->stored)
        virtio_write(&r->b->v, r->queue, &r->chain, r->done, NULL, r->chunk);
    r->stored = false;
}

/* The guest does not hear of it: the machine stands, and then it is tried again. */
static void wait_for_room(struct request *r) {
    struct virtio_blk *b = r->b;
    const struct dev_host *host = &b->v.dev.env.host;
    r->next = b->again;
    b->again = r;
    virtio_serve_later(&b->v, r->queue);
    host->request(host->opaque, DEV_FULL, 0);
}

/* All that waits for room is done again, or forgotten. */
static void go_on_with_waiting(struct virtio_blk *b) {
    const struct dev_host *host = &b->v.dev.env.host;
    struct request *r = b->again, *next;
    b->again = NULL;
    for (; r; r = next) {
        next = r->next;
        host->request(host->opaque, DEV_ROOM, 0);
        r->rc = 0;
        if (r->epoch == b->v.epoch)
            virtio_work(&b->v, &r->job);
        else
            release(r);
    }
}

static void done(struct dev_job *job) {
    struct request *r = (struct request *)job;
    struct virtio_blk *b = r->b;
    bool data = r->type == T_IN || r->type == T_OUT;
    tell_stored(r);
    if (r->epoch != b->v.epoch) { /* a reset has come in between */
        release(r);
        return;
    }
    if (r->rc == -EFAULT && r->pieces) {
        go_on(r, false);
        return;
    }
    if (r->rc == -ENOSPC && b->disk.waits) {
        wait_for_room(r);
        return;
    }
    if (r->rc == 0 && r->type == T_IN && !r->pieces &&
        virtio_write(&b->v, r->queue, &r->chain, r->done, r->buf, r->chunk) < r->chunk) {
        release(r);
        return;
    }
    r->done += r->chunk;
    if (r->rc == 0 && data && r->done < r->total)
        go_on(r, b->disk.direct);
    else
        finish(r);
}

/* Do all ranges of a discard lie on the disk? Return: a status. */
static uint8_t check_ranges(const struct request *r) {
    for (uint32_t n = 0; n < r->total; n += RANGE_SIZE) {
        uint64_t sector;
        uint32_t count, flags;
        memcpy(&sector, r->buf + n, 8);
        memcpy(&count, r->buf + n + 8, 4);
        memcpy(&flags, r->buf + n + 12, 4);
        if (flags & ~(r->type == T_WRITE_ZEROES ? RANGE_UNMAP : 0))
            return S_UNSUPP;
        if (count > RANGE_MOST || sector > r->b->disk.size / DISK_SECTOR ||
            count > r->b->disk.size / DISK_SECTOR - sector)
            return S_IOERR;
    }
    return S_OK;
}

/* Is it a request that can be done? Return: a status. */
static uint8_t check(struct request *r, uint64_t sector) {
    const struct dev_disk *disk = &r->b->disk;
    bool out = r->type == T_OUT || r->type == T_DISCARD || r->type == T_WRITE_ZEROES;
    r->total = out               ? r->chain.out_size - HEADER_SIZE
               : r->type == T_IN ? r->chain.in_size - 1
                                 : 0;
    if (out && disk->read_only)
        return S_IOERR;
    switch (r->type) {
    case T_IN:
    case T_OUT:
        r->at = sector * DISK_SECTOR;
        return !r->total || r->total % DISK_SECTOR || r->total > REQUEST_MOST ||
                       sector > disk->size / DISK_SECTOR || r->total > disk->size - r->at
                   ? S_IOERR
                   : S_OK;
    case T_FLUSH:
        return S_OK;
    case T_DISCARD:
    case T_WRITE_ZEROES:
        return !r->total || r->total % RANGE_SIZE || r->total / RANGE_SIZE > RANGES_MAX
                   ? S_IOERR
                   : S_OK;
    }
    return S_UNSUPP;
}

/* Begin a request, which owns itself from now on. */
static void start(struct request *r, uint64_t sector) {
    struct virtio_blk *b = r->b;
    uint8_t status = check(r, sector);
    bool erases = r->type == T_DISCARD || r->type == T_WRITE_ZEROES;
    if (status == S_OK && erases) {
        if (give_buffer(r))
            status = S_IOERR;
        else if (virtio_read(&b->v, r->queue, &r->chain, HEADER_SIZE, r->buf, r->total) <
                 r->total) {
            release(r);
            return;
        } else
            status = check_ranges(r);
    }
    if (status != S_OK) {
        answer(b, r->queue, &r->chain, status, 0);
        release(r);
    } else if (r->total && !erases) {
        go_on(r, b->disk.direct);
    } else {
        virtio_work(&b->v, &r->job);
    }
}

static void give_id(struct virtio_blk *b, unsigned queue, const struct vq_chain *c) {
    if (virtio_write(&b->v, queue, c, 0, b->serial,
                     c->in_size - 1 < ID_SIZE ? c->in_size - 1 : ID_SIZE))
        answer(b, queue, c, S_OK, ID_SIZE);
}

static void begin(struct request *r) {
    struct virtio_blk *b = r->b;
    const struct vq_chain *c = &r->chain;
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;
    if (c->out_size < HEADER_SIZE || !c->in_size) {
        virtio_broken(&b->v); /* there is no room for an answer */
        release(r);
    } else if (virtio_read(&b->v, r->queue, c, 0, &header, sizeof(header)) <
               sizeof(header)) {
        release(r);
    } else if (header.type == T_GET_ID) {
        if (c->in_size > 1)
            give_id(b, r->queue, c);
        else
            answer(b, r->queue, c, S_IOERR, 0);
        release(r);
    } else {
        r->type = header.type;
        start(r, header.sector);
    }
}

static void serve(struct virtio *v, unsigned queue) {
    struct virtio_blk *b = (struct virtio_blk *)v;
    struct request *r;
    go_on_with_waiting(b);
    while ((r = b->idle) && virtio_pop(v, queue, &r->chain)) {
        b->idle = r->next;
        r->epoch = v->epoch;
        r->queue = queue;
        r->done = r->total = r->chunk = 0;
        r->pieces = 0;
        r->rc = 0;
        begin(r);
    }
    if (!b->idle)
        b->stalled |= 1u << queue;
    virtio_interrupt(v, queue);
}

/* ---- As a device ---- */

static void fill_config(struct virtio *v) {
    const struct virtio_blk *b = (struct virtio_blk *)v;
    const struct blk_config c = {.capacity = b->disk.size / DISK_SECTOR,
                                 .size_max = SEGMENT_MOST,
                                 .seg_max = SEGMENTS_MAX,
                                 .blk_size = DISK_SECTOR,
                                 .num_queues = (uint16_t)v->queues,
                                 .max_discard_sectors = RANGE_MOST,
                                 .max_discard_seg = RANGES_MAX,
                                 .discard_sector_alignment = 1,
                                 .max_write_zeroes_sectors = RANGE_MOST,
                                 .max_write_zeroes_seg = RANGES_MAX,
                                 .write_zeroes_may_unmap = 1};
    memcpy(v->s->config, &c, sizeof(c));
}

/* Whatever the host has stored for requests that are forgotten is told now. */
static void reset(struct virtio *v) {
    struct virtio_blk *b = (struct virtio_blk *)v;
    for (unsigned i = 0; i < REQUESTS_MAX; i++)
        tell_stored(&b->request[i]);
    go_on_with_waiting(b);
    fill_config(v);
}

static const struct virtio_kind kind = {
    .type = VIRTIO_BLK,
    .class = 0x018000,
    .queues = VIRTIO_QUEUES_MAX,
    .features = 1u << F_SIZE_MAX | 1u << F_SEG_MAX | 1u << F_BLK_SIZE | 1u << F_FLUSH |
                1u << F_MQ,
    .config_size = sizeof(struct blk_config),
    .serve = serve,
    .reset = reset,
};

static int create(void *dev, const void *config) {
    const struct virtio_blk_config *c = config;
    struct virtio_blk *b = dev;
    b->disk = c->disk;
    memcpy(b->serial, c->serial, ID_SIZE);
    b->v.queues = c->queues;
    for (unsigned i = 0; i < REQUESTS_MAX; i++) {
        struct request *r = &b->request[i];
        *r = (struct request){.b = b, .next = b->idle};
        r->job =
            (struct dev_job){.any_order = c->disk.parallel, .run = run, .done = done};
        b->idle = r;
    }
    b->v.features =
        c->disk.read_only ? 1u << F_RO : 1u << F_DISCARD | 1u << F_WRITE_ZEROES;
    return virtio_attach(&b->v, &b->s.v, &kind, &c->virtio);
}

static const struct dev_class blk_class = {
    .name = "virtio_blk",
    .version = 1,
    VIRTIO_CLASS(struct virtio_blk),
    .check = virtio_check,
    .create = create,
    .reset = virtio_reset,
};

struct virtio_blk *virtio_blk_create(const struct dev_env *env,
                                     const struct virtio_blk_config *c) {
    return dev_create(&blk_class, env, c->virtio.slot, c);
}
