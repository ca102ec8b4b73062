/* SPDX-License-Identifier: MIT */
/*
 * The trace file's writer: rings drain into blocks, which a thread puts into the file.
 *
 * Invariants
 * 1. A record is either in the file and the digest, or counted as lost; never half of it.
 * 2. After the first failed write, or beyond the limit, nothing more is written but the
 *    end: all later records are lost.
 * 3. What is written stands: a file is never read or written anywhere but at its end.
 * 4. Records stand in order of time, whichever vCPU they are of: all rings drain when one
 *    is full, so that what comes later is younger than all that is in the file.
 * Locking: one thread at a time fills and drains all the rings: the one that runs the
 * vCPUs, or the reader of KVM's tracepoints. What `put` touches is the queue's thread's
 * from the first block on; others touch it after queue_wait.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/outfile.h"
#include "trace/pack.h"
#include "trace/queue.h"
#include "trace/trace.h"

#define RING_RECORDS QUEUE_RECORDS /* 320 KiB per vCPU; one block */

_Static_assert(QUEUE_RECORDS <= PACK_RECORDS, "a block of the queue is one of the file");

struct trace_writer {
    struct outfile file; /* fd -1: no file */
    int failed;          /* errno of the first failed write */
    bool full;           /* the limit is reached */
    bool begun;          /* header and text are written */
    unsigned vcpus;
    uint64_t limit, size; /* of the file */
    struct trace_end end;
    struct trace_header header;
    struct pack *pack; /* NULL: no file */
    uint8_t *block;    /* struct trace_block and its frame */
    struct trace_digest *digest;
    struct queue *queue;
    struct pn_ring *rings;
    struct pn_event_rec *records; /* of all rings; NULL: the one fills blocks */
};

/* Append. A regular file that takes only a part is cut back. Return: 0 or errno. */
static int append(struct trace_writer *w, const void *buf, size_t size) {
    int rc = -file_write(w->file.fd, buf, size);
    if (rc) {
        if (w->file.temp && !ftruncate(w->file.fd, (off_t)w->size))
            lseek(w->file.fd, (off_t)w->size, SEEK_SET);
        return rc;
    }
    w->size += size;
    return 0;
}

/* The text: one line per event, its name and its fields as type:name, then padding. */
static char *schema_text(uint32_t *size) {
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return NULL;
    fprintf(f, "%s\n", TRACE_SCHEMA);
    for (unsigned i = 0; i < PN_EV_COUNT; i++)
        fprintf(f, "%s %s\n", pn_event_name(i), pn_event_fields(i));
    for (long at = ftell(f); at % 64; at++)
        fputc('\n', f);
    if (fclose(f)) {
        free(text);
        return NULL;
    }
    *size = (uint32_t)len;
    return text;
}

/* Header and text, once. Return: 0, or errno of this call's. */
static int begin(struct trace_writer *w) {
    if (w->begun)
        return 0;
    char *text = schema_text(&w->header.text_size);
    w->failed = text ? append(w, &w->header, sizeof(w->header)) : ENOMEM;
    if (!w->failed)
        w->failed = append(w, text, w->header.text_size);
    w->begun = true;
    free(text);
    return w->failed;
}

/* One block of the file. Return: whether it is in. */
static bool append_block(struct trace_writer *w, const struct pn_event_rec *rec,
                         uint32_t n) {
    if (begin(w))
        return false;
    struct trace_block *b = (void *)w->block;
    size_t size = pack_encode(w->pack, rec, n, b + 1);
    *b = (struct trace_block){.records = n, .size = (uint32_t)size};
    if (!size)
        w->failed = ENOMEM;
    else if (w->limit && w->size + sizeof(*b) + size > w->limit)
        w->full = true;
    else
        w->failed = append(w, b, sizeof(*b) + size);
    return !w->failed && !w->full;
}

static void put(void *opaque, const struct pn_event_rec *rec, uint32_t n) {
    struct trace_writer *w = opaque;
    bool keep = !w->failed && !w->full;
    if (keep && w->pack)
        keep = append_block(w, rec, n);
    if (keep) {
        trace_digest_add(w->digest, rec, n);
        w->end.records += n;
    } else {
        w->end.lost += n;
    }
}

/* The ring whose next record is the oldest, and up to what time it stays so. at: how many
 * records of each ring are taken. Return: NULL: all are. */
static struct pn_ring *oldest(struct trace_writer *w, const uint32_t *at,
                              uint64_t *until) {
    struct pn_ring *best = NULL;
    *until = UINT64_MAX;
    for (unsigned i = 0; i < w->vcpus; i++) {
        struct pn_ring *r = &w->rings[i];
        if (at[i] == r->count)
            continue;
        uint64_t time = r->rec[at[i]].time;
        if (!best || time < best->rec[at[best->vcpu]].time) {
            if (best)
                *until = best->rec[at[best->vcpu]].time;
            best = r;
        } else if (time < *until) {
            *until = time;
        }
    }
    return best;
}

static void merge(struct trace_writer *w) {
    struct pn_event_rec *block = queue_block(w->queue);
    uint32_t at[TRACE_VCPUS_MAX] = {0}, n = 0;
    uint64_t until;
    struct pn_ring *r;
    while ((r = oldest(w, at, &until))) {
        uint32_t *i = &at[r->vcpu];
        do {
            block[n++] = r->rec[(*i)++];
            if (n == QUEUE_RECORDS) {
                queue_pass(w->queue, n);
                block = queue_block(w->queue);
                n = 0;
            }
        } while (*i < r->count && r->rec[*i].time <= until);
    }
    queue_pass(w->queue, n);
}

static void drain_all(struct trace_writer *w) {
    if (w->records) {
        merge(w);
    } else {
        queue_pass(w->queue, w->rings[0].count);
        w->rings[0].rec = queue_block(w->queue);
    }
    for (unsigned i = 0; i < w->vcpus; i++)
        w->rings[i].count = 0;
}

static void drain(struct pn_ring *ring) {
    drain_all(ring->opaque);
}

static int open_file(struct trace_writer *w, const char *path, char *err,
                     size_t err_size) {
    w->pack = pack_create();
    w->block = malloc(sizeof(struct trace_block) + pack_bound());
    int rc = w->pack && w->block ? outfile_open(&w->file, path) : -ENOMEM;
    if (rc)
        snprintf(err, err_size, "cannot write trace %s: %s", path, strerror(-rc));
    return rc;
}

static int make_rings(struct trace_writer *w, uint64_t mask) {
    w->digest = trace_digest_create(w->vcpus);
    w->rings = calloc(w->vcpus, sizeof(*w->rings));
    if (w->vcpus > 1)
        w->records = malloc((size_t)w->vcpus * RING_RECORDS * sizeof(*w->records));
    if (!w->digest || !w->rings || (w->vcpus > 1 && !w->records))
        return -ENOMEM;
    int rc = queue_create(put, w, &w->queue);
    if (rc)
        return rc;
    for (unsigned i = 0; i < w->vcpus; i++)
        w->rings[i] = (struct pn_ring){
            .mask = mask,
            .rec = w->records ? w->records + (size_t)i * RING_RECORDS
                              : queue_block(w->queue),
            .size = RING_RECORDS,
            .vcpu = (uint16_t)i,
            .drain = drain,
            .opaque = w,
        };
    return 0;
}

static void free_writer(struct trace_writer *w) {
    queue_destroy(w->queue);
    outfile_abandon(&w->file);
    trace_digest_destroy(w->digest);
    pack_destroy(w->pack);
    free(w->block);
    free(w->rings);
    free(w->records);
    free(w);
}

int trace_open(const struct trace_config *cfg, struct trace_writer **out, char *err,
               size_t err_size) {
    if (!cfg->vcpus || cfg->vcpus > TRACE_VCPUS_MAX) {
        snprintf(err, err_size, "a trace holds 1 to %u vCPUs, not %u", TRACE_VCPUS_MAX,
                 cfg->vcpus);
        return -EINVAL;
    }
    struct trace_writer *w = calloc(1, sizeof(*w));
    if (!w) {
        snprintf(err, err_size, "trace: out of memory");
        return -ENOMEM;
    }
    w->file.fd = -1;
    w->vcpus = cfg->vcpus;
    w->limit = cfg->limit;
    w->header = (struct trace_header){
        .version = TRACE_VERSION,
        .record_size = sizeof(struct pn_event_rec),
        .vcpus = cfg->vcpus,
        .mask = cfg->mask & TRACE_ALL_EVENTS,
    };
    memcpy(w->header.magic, TRACE_MAGIC, sizeof(w->header.magic));
    int rc = make_rings(w, w->header.mask);
    if (rc)
        snprintf(err, err_size, "trace: %s", strerror(-rc));
    else if (cfg->path)
        rc = open_file(w, cfg->path, err, err_size);
    if (rc) {
        free_writer(w);
        return rc;
    }
    *out = w;
    return 0;
}

int trace_begin(struct trace_writer *w, uint64_t kernel_moved, char *err,
                size_t err_size) {
    queue_wait(w->queue);
    w->header.known = TRACE_KNOWS_KERNEL_MOVED;
    w->header.kernel_moved = kernel_moved;
    int rc = w->file.fd >= 0 ? begin(w) : 0;
    if (rc)
        snprintf(err, err_size, "cannot write trace %s: %s", w->file.path, strerror(rc));
    return -rc;
}

int trace_flush(struct trace_writer *w, struct trace_so_far *out) {
    drain_all(w);
    queue_wait(w->queue);
    *out = (struct trace_so_far){w->file.temp, w->end.records, w->end.lost};
    for (unsigned i = 0; i < w->vcpus; i++)
        out->lost += w->rings[i].lost;
    return w->failed ? -w->failed : w->file.temp ? 0 : -ENOTSUP;
}

struct pn_ring *trace_rings(struct trace_writer *w) {
    return w->rings;
}

/* The end, and the file's name. Return: 0 or errno of what failed first. */
static int finish(struct trace_writer *w) {
    struct {
        struct trace_block block;
        struct trace_end end;
    } last = {{.size = sizeof(last.end)}, w->end};
    last.end.check = trace_end_check(&w->end);
    int rc = begin(w);
    if (!rc)
        rc = append(w, &last, sizeof(last));
    int named = -outfile_commit(&w->file);
    return w->failed ? w->failed : rc ? rc : named;
}

int trace_close(struct trace_writer *w, struct trace_end *end, char *err,
                size_t err_size) {
    drain_all(w);
    queue_wait(w->queue);
    for (unsigned i = 0; i < w->vcpus; i++)
        w->end.lost += w->rings[i].lost;
    w->end.digest = trace_digest_value(w->digest);
    if (end)
        *end = w->end;
    int rc = w->file.fd >= 0 ? finish(w) : 0;
    if (rc)
        snprintf(err, err_size,
                 "cannot write the trace: %s; it holds the first %" PRIu64
                 " events, %" PRIu64 " are lost",
                 strerror(rc), w->end.records, w->end.lost);
    free_writer(w);
    return -rc;
}

void trace_abandon(struct trace_writer *w) {
    if (w)
        free_writer(w);
}
