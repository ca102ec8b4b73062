/* SPDX-License-Identifier: MIT */
/* What the files of the migration share. */
#pragma once

#include <pthread.h>

#include "base/wire.h"
#include "machine/migrate.h"
#include "machine/snapshot_internal.h"
#include "penumbra/mark.h"

#define MIGRATE_SCHEMA "penumbra-migration-1"

/* ---- Records (migrate_record.c) ---- */

#define MIGRATE_BATCH 64u /* pages of one record: a word of a bitmap */
/* The table and the pages, which are sent as they are where they do not get smaller. */
#define MIGRATE_PAGES_MAX (16u + MIGRATE_BATCH * (8u + PN_PAGE_SIZE))

enum migrate_record {
#define RECORD(name, word, most) MIGRATE_##name,
#include "machine/migrate_records.inc"
    MIGRATE_RECORDS
};

/* One way in and one way out, each with records that are numbered. */
struct migrate_stream {
    int (*read)(void *opaque, void *to, size_t size); /* as wire_read */
    int (*write)(void *opaque, const void *from, size_t size);
    void *opaque;
    struct wire *wire;   /* closed with the stream; NULL: the opaque one is another's */
    const char *peer;    /* for lines */
    uint64_t key;        /* 0 up to HELLO: then of this session and stream */
    uint64_t sent, got;  /* records */
    pthread_mutex_t put; /* several threads may write */
    uint8_t *data;       /* of the last record that was read */
    size_t room;
};

void migrate_stream_open(struct migrate_stream *s, struct wire *w, const char *peer);
void migrate_stream_close(struct migrate_stream *s);
/* Of the session that both sides' numbers make; 0 is control, 1 and above the data streams. */
uint64_t migrate_key(uint64_t source, uint64_t destination, unsigned stream);

/* Return: 0, or -errno with a line in e. */
int migrate_put(struct migrate_stream *s, enum migrate_record type, const void *data,
                size_t size, struct err *e);
/* The next record but ALIVE; *data holds until the next call. Return: 0; -EBADMSG: damaged,
 * replayed, of no such stream; -EREMOTEIO: REFUSED, with the peer's line; or what the wire
 * says; with a line in e. */
int migrate_get(struct migrate_stream *s, enum migrate_record *type, const uint8_t **data,
                size_t *size, struct err *e);
/* The same, and it is of that type and size (0: of any size). */
int migrate_expect(struct migrate_stream *s, enum migrate_record type,
                   const uint8_t **data, size_t *size, struct err *e);
/* Tell the peer why, if it still listens. */
void migrate_refuse(struct migrate_stream *s, const char *line);

/* ---- Pages (migrate_pages.c) ---- */

/* PAGES: how many (4 bytes), enum migrate_compression (4), bytes behind the table (8); for
 * each page its number * 2 + 1, or + 0: zeros (8 bytes each, ascending); the pages that are
 * not zeros, one behind another, compressed as one. */
struct migrate_packer {
    enum migrate_compression compression;
    void *zstd;
    unsigned count, filled;
    uint64_t table[MIGRATE_BATCH];
    uint8_t *plain;                                   /* filled pages */
    uint8_t *record;                                  /* MIGRATE_PAGES_MAX */
    uint64_t pages, zeros, plain_bytes, packed_bytes; /* so far */
};
/* Return: 0 or -ENOMEM. */
int migrate_packer_open(struct migrate_packer *p, enum migrate_compression c);
void migrate_packer_close(struct migrate_packer *p);
/* Copy a page, which the guest may be writing, into the next record. Return: its bytes in
 * that record, or NULL: it is zeros. */
const uint8_t *migrate_packer_add(struct migrate_packer *p, uint64_t page,
                                  const uint8_t *from);
void migrate_packer_drop(struct migrate_packer *p); /* the page that was added last */
/* End the record. Return: its size; 0: it has no page. */
size_t migrate_packer_end(struct migrate_packer *p);

struct migrate_unpacker {
    void *zstd;
    uint8_t *plain; /* room for a batch */
};
int migrate_unpacker_open(struct migrate_unpacker *u);
void migrate_unpacker_close(struct migrate_unpacker *u);
/* What is done with each page; data NULL: zeros. Return: 0 or -errno, which ends it. */
typedef int (*migrate_page_fn)(void *opaque, uint64_t page, const uint8_t *data);
/* Any bytes are safe. pages: how many the guest has. Return: 0; -EBADMSG: no such record; or
 * fn's. */
int migrate_unpack(struct migrate_unpacker *u, const uint8_t *record, size_t size,
                   uint64_t pages, migrate_page_fn fn, void *opaque);

/* ---- All of the guest's pages, as one side knows them (migrate_pages.c) ---- */

struct migrate_pages {
    uint64_t ram, all;      /* pages: RAM's, then the window's */
    uint8_t *base, *window; /* window NULL: none, and zeros */
    uint64_t *there;        /* a bit: it is not zeros at the destination */
    uint64_t *hash;         /* XXH3 of what was sent or came last; only where `there` */
};
/* Return: 0 or -ENOMEM. */
int migrate_pages_open(struct migrate_pages *p, uint64_t ram, bool window);
void migrate_pages_close(struct migrate_pages *p);
static inline size_t migrate_words(const struct migrate_pages *p) {
    return (p->all + 63) / 64;
}
static inline bool migrate_is_there(const struct migrate_pages *p, uint64_t page) {
    return p->there[page / 64] >> page % 64 & 1;
}
static inline uint8_t *migrate_at(const struct migrate_pages *p, uint64_t page) {
    return page < p->ram ? p->base + page * PN_PAGE_SIZE
                         : p->window + (page - p->ram) * PN_PAGE_SIZE;
}
/* Of all pages, in order. */
uint64_t migrate_pages_digest(const struct migrate_pages *p);
/* A page is this now; NULL: zeros. No two threads note one page. */
void migrate_pages_note(struct migrate_pages *p, uint64_t page, const uint8_t *data);
/* Does memory hold what was noted, but for pages in `but` (NULL: none)? Return: the first page that does not;
 * p->all: all do. */
uint64_t migrate_pages_check(const struct migrate_pages *p, const uint64_t *but);

/* ---- State (migrate_state.c) ---- */

/* Can a machine with these devices (devices.h; NULL: none) be moved? All that they are must be in
 * their state. Return: 0, or -ENOTSUP with a line in e. */
int migrate_devices(const char *devices, struct err *e);

/* STATE: the size of the manifest (4 bytes), its text, the sections' bytes. The machine
 * stands. Return: malloced, or NULL with a line in e. */
uint8_t *migrate_state_pack(struct machine *m, size_t *size, struct err *e);
/* Any bytes are safe. peer: for lines. Return: 0 and a snapshot without memory, or -errno
 * with a line in e. */
int migrate_state_unpack(const uint8_t *data, size_t size, const char *peer,
                         struct snapshot **out, struct err *e);
