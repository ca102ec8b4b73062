/* SPDX-License-Identifier: MIT */
/*
 * The trace file's writer: rings drain into it.
 *
 * Invariants
 * 1. A record is either in the file and the digest, or counted as lost; never half of it.
 * 2. After the first failed write nothing more is written: all later records are lost.
 * 3. The file bears its final name only when whole (trace_close renames it).
 * Locking: one. The rings of several vCPUs drain from their own threads.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/outfile.h"
#include "trace/trace.h"

#define RING_RECORDS 4096u /* 320 KiB per vCPU */

struct trace_writer {
    struct outfile file; /* fd -1: no file */
    int failed;          /* errno of the first failed write */
    unsigned vcpus;
    uint64_t limit;
    uint64_t written; /* records */
    uint64_t lost;
    struct trace_header header;
    struct trace_digest *digest;
    struct pn_ring *rings;
    struct pn_event_rec *records; /* of all rings */
    pthread_mutex_t lock;
};

static int write_all(int fd, const void *buf, size_t size, off_t at) {
    const char *p = buf;
    while (size) {
        ssize_t n = pwrite(fd, p, size, at);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return errno;
        }
        p += n;
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

static void drain(struct pn_ring *ring) {
    struct trace_writer *w = ring->opaque;
    pthread_mutex_lock(&w->lock);
    uint64_t n = ring->count;
    if (w->failed)
        n = 0;
    else if (w->limit && n > w->limit - w->written)
        n = w->limit - w->written;
    if (n && w->file.fd >= 0) {
        off_t at = (off_t)(sizeof(w->header) + w->header.text_size +
                           w->written * sizeof(struct pn_event_rec));
        w->failed = write_all(w->file.fd, ring->rec, n * sizeof(*ring->rec), at);
        if (w->failed)
            n = 0;
    }
    trace_digest_add(w->digest, ring->rec, n);
    w->written += n;
    w->lost += ring->count - n;
    ring->count = 0;
    pthread_mutex_unlock(&w->lock);
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

static int open_file(struct trace_writer *w, const char *path, char *err,
                     size_t err_size) {
    char *text = schema_text(&w->header.text_size);
    int rc = text ? outfile_open(&w->file, path) : -ENOMEM;
    if (!rc)
        rc = -write_all(w->file.fd, &w->header, sizeof(w->header), 0);
    if (!rc)
        rc = -write_all(w->file.fd, text, w->header.text_size, sizeof(w->header));
    free(text);
    if (rc)
        snprintf(err, err_size, "cannot write trace %s: %s", path, strerror(-rc));
    return rc;
}

static int make_rings(struct trace_writer *w, uint64_t mask) {
    w->digest = trace_digest_create(w->vcpus);
    w->rings = calloc(w->vcpus, sizeof(*w->rings));
    w->records = calloc((size_t)w->vcpus * RING_RECORDS, sizeof(*w->records));
    if (!w->digest || !w->rings || !w->records)
        return -ENOMEM;
    for (unsigned i = 0; i < w->vcpus; i++)
        w->rings[i] = (struct pn_ring){
            .mask = mask,
            .rec = w->records + (size_t)i * RING_RECORDS,
            .size = RING_RECORDS,
            .vcpu = (uint16_t)i,
            .drain = drain,
            .opaque = w,
        };
    return 0;
}

static void free_writer(struct trace_writer *w) {
    outfile_abandon(&w->file);
    pthread_mutex_destroy(&w->lock);
    trace_digest_destroy(w->digest);
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
    pthread_mutex_init(&w->lock, NULL);
    w->header = (struct trace_header){
        .version = TRACE_VERSION,
        .record_size = sizeof(struct pn_event_rec),
        .vcpus = cfg->vcpus,
        .mask = cfg->mask & TRACE_ALL_EVENTS,
    };
    memcpy(w->header.magic, TRACE_MAGIC, sizeof(w->header.magic));
    int rc = make_rings(w, w->header.mask);
    if (rc)
        snprintf(err, err_size, "trace: out of memory");
    else if (cfg->path)
        rc = open_file(w, cfg->path, err, err_size);
    if (rc) {
        free_writer(w);
        return rc;
    }
    *out = w;
    return 0;
}

struct pn_ring *trace_rings(struct trace_writer *w) {
    return w->rings;
}

int trace_close(struct trace_writer *w, struct trace_totals *totals, char *err,
                size_t err_size) {
    for (unsigned i = 0; i < w->vcpus; i++) {
        drain(&w->rings[i]);
        w->lost += w->rings[i].lost;
    }
    w->header.records = w->written;
    w->header.lost = w->lost;
    w->header.digest = trace_digest_value(w->digest);
    if (totals)
        *totals = (struct trace_totals){w->written, w->lost, w->header.digest};
    int rc = w->failed;
    if (!rc && w->file.fd >= 0) {
        rc = write_all(w->file.fd, &w->header, sizeof(w->header), 0);
        if (!rc)
            rc = -outfile_commit(&w->file);
    }
    if (rc)
        snprintf(err, err_size, "cannot write the trace: %s", strerror(rc));
    free_writer(w);
    return -rc;
}

void trace_abandon(struct trace_writer *w) {
    if (w)
        free_writer(w);
}
