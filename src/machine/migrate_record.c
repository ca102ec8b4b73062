/* SPDX-License-Identifier: MIT */
/*
 * Records on a stream: a head, and bytes. Under the digest of each are its type, its number in
 * the stream, its length and its bytes, with the session's key as the seed: one that is
 * damaged, cut, left out, sent twice, or of another session or stream does not have it.
 *
 * Invariants
 * 1. Nothing of a record is used before its digest was right.
 * 2. No record takes more memory than its kind may have (migrate_records.inc), nor before its
 *    head was right.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "machine/migrate_internal.h"

#define MAGIC 0x474d4e50u /* "PNMG" */

struct head {
    uint32_t magic;
    uint32_t type;
    uint64_t size, number;
    uint64_t body;   /* XXH3 of the bytes, with the key */
    uint64_t digest; /* of what is above, with the key */
};

static const struct {
    const char *word;
    size_t most;
} kinds[] = {
#define RECORD(name, word, most) {word, most},
#include "machine/migrate_records.inc"
};

static int read_wire(void *opaque, void *to, size_t size) {
    return wire_read(opaque, to, size);
}

static int write_wire(void *opaque, const void *from, size_t size) {
    return wire_write(opaque, from, size);
}

void migrate_stream_open(struct migrate_stream *s, struct wire *w, const char *peer) {
    *s = (struct migrate_stream){
        .read = read_wire, .write = write_wire, .opaque = w, .wire = w, .peer = peer};
    pthread_mutex_init(&s->put, NULL);
}

void migrate_stream_close(struct migrate_stream *s) {
    if (!s->peer)
        return;
    wire_close(s->wire);
    free(s->data);
    pthread_mutex_destroy(&s->put);
    *s = (struct migrate_stream){.peer = NULL};
}

uint64_t migrate_key(uint64_t source, uint64_t destination, unsigned stream) {
    const uint64_t both[] = {source, destination, stream};
    return XXH3_64bits(both, sizeof(both));
}

static uint64_t head_digest(const struct head *h, uint64_t key) {
    return XXH3_64bits_withSeed(h, offsetof(struct head, digest), key);
}

int migrate_put(struct migrate_stream *s, enum migrate_record type, const void *data,
                size_t size, struct err *e) {
    struct head h = {.magic = MAGIC,
                     .type = type,
                     .size = size,
                     .body = XXH3_64bits_withSeed(data, size, s->key)};
    pthread_mutex_lock(&s->put);
    h.number = s->sent++;
    h.digest = head_digest(&h, s->key);
    int rc = s->write(s->opaque, &h, sizeof(h));
    if (rc == 0 && size)
        rc = s->write(s->opaque, data, size);
    pthread_mutex_unlock(&s->put);
    return rc ? err_set(e, rc, "%s: %s", s->peer, wire_words(rc)) : 0;
}

static int bad(const struct migrate_stream *s, const char *what, struct err *e) {
    return err_set(e, -EBADMSG, "%s: record %" PRIu64 " %s", s->peer, s->got, what);
}

static int get_head(struct migrate_stream *s, struct head *h, struct err *e) {
    int rc = s->read(s->opaque, h, sizeof(*h));
    if (rc)
        return err_set(e, rc, "%s: %s", s->peer, wire_words(rc));
    if (h->magic != MAGIC)
        return bad(s, "is none of a migration's", e);
    if (h->digest != head_digest(h, s->key))
        return bad(s, "is damaged, or of another session", e);
    if (h->number != s->got)
        return bad(s, "is another one: sent twice, or left out", e);
    if (h->type >= MIGRATE_RECORDS || h->size > kinds[h->type].most)
        return bad(s, "is of a kind or size that there is not", e);
    return 0;
}

static int get_body(struct migrate_stream *s, const struct head *h, struct err *e) {
    if (h->size > s->room) {
        free(s->data);
        s->data = malloc(h->size);
        s->room = s->data ? h->size : 0;
        if (!s->data)
            return err_set(e, -ENOMEM, "out of memory");
    }
    int rc = h->size ? s->read(s->opaque, s->data, h->size) : 0;
    if (rc)
        return err_set(e, rc, "%s: in record %" PRIu64 " (%s): %s", s->peer, s->got,
                       kinds[h->type].word, wire_words(rc));
    return XXH3_64bits_withSeed(s->data, h->size, s->key) == h->body
               ? 0
               : bad(s, "is damaged", e);
}

int migrate_get(struct migrate_stream *s, enum migrate_record *type, const uint8_t **data,
                size_t *size, struct err *e) {
    struct head h;
    do {
        int rc = get_head(s, &h, e);
        if (rc == 0)
            rc = get_body(s, &h, e);
        if (rc)
            return rc;
        s->got++;
    } while (h.type == MIGRATE_ALIVE);
    if (h.type == MIGRATE_REFUSED)
        return err_set(e, -EREMOTEIO, "%s refuses it: %.*s", s->peer, (int)h.size,
                       (const char *)s->data);
    *type = h.type;
    *data = s->data;
    *size = h.size;
    return 0;
}

int migrate_expect(struct migrate_stream *s, enum migrate_record type,
                   const uint8_t **data, size_t *size, struct err *e) {
    enum migrate_record is;
    const uint8_t *bytes;
    size_t n;
    int rc = migrate_get(s, &is, &bytes, &n, e);
    if (rc)
        return rc;
    if (is != type || (*size && n != *size) || (!data && n))
        return err_set(e, -EBADMSG, "%s: a record '%s' of %zu bytes, where '%s' belongs",
                       s->peer, kinds[is].word, n, kinds[type].word);
    if (data)
        *data = bytes;
    *size = n;
    return 0;
}

void migrate_refuse(struct migrate_stream *s, const char *line) {
    struct err none = {NULL, 0};
    size_t most = kinds[MIGRATE_REFUSED].most, size = strlen(line);
    migrate_put(s, MIGRATE_REFUSED, line, size < most ? size : most, &none);
}
