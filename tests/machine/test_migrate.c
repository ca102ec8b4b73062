/* SPDX-License-Identifier: MIT */
/*
 * Records and pages of a migration: whoever changes, repeats, leaves out or mixes up what is
 * said is found out, and pages come out as they went in.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine/migrate_internal.h"
#include "tests/suite.h"

#define PAGES 200u
#define SEED  11u

static char text[512];
static struct err e = {text, sizeof(text)};

/* A wire in memory. */
struct line {
    uint8_t bytes[1 << 20];
    size_t used, at;
};

static int get_bytes(void *opaque, void *to, size_t size) {
    struct line *l = opaque;
    if (l->used - l->at < size)
        return -EPIPE;
    memcpy(to, l->bytes + l->at, size);
    l->at += size;
    return 0;
}

static int put_bytes(void *opaque, const void *from, size_t size) {
    struct line *l = opaque;
    ck_assert_uint_le(size, sizeof(l->bytes) - l->used);
    memcpy(l->bytes + l->used, from, size);
    l->used += size;
    return 0;
}

static struct migrate_stream stream(struct line *l, uint64_t key) {
    struct migrate_stream s;
    migrate_stream_open(&s, NULL, "peer");
    s.read = get_bytes;
    s.write = put_bytes;
    s.opaque = l;
    s.key = key;
    return s;
}

static struct line *three_records(uint64_t key) {
    struct line *l = calloc(1, sizeof(*l));
    struct migrate_stream s = stream(l, key);
    ck_assert_int_eq(migrate_put(&s, MIGRATE_NEED, "12345678", 8, &e), 0);
    ck_assert_int_eq(migrate_put(&s, MIGRATE_REFUSED, "no", 0, &e), 0);
    ck_assert_int_eq(migrate_put(&s, MIGRATE_STATE, "the state", 9, &e), 0);
    return l;
}

/* Return: how many records of the three are right before the first that is refused; 3: all. */
static int right(struct line *l, uint64_t key) {
    static const enum migrate_record types[] = {MIGRATE_NEED, MIGRATE_STATE};
    static const char *const want[] = {"12345678", "the state"};
    struct migrate_stream s = stream(l, key);
    int n = 0, rc = 0;
    l->at = 0;
    for (int i = 0; rc == 0 && i < 3; i++) {
        enum migrate_record type;
        const uint8_t *data;
        size_t size;
        rc = migrate_get(&s, &type, &data, &size, &e);
        if (rc == -EREMOTEIO) {
            ck_assert_int_eq(i, 1);
            rc = 0;
        } else if (rc == 0) {
            ck_assert_int_eq(type, types[i / 2]);
            ck_assert_uint_eq(size, strlen(want[i / 2]));
            ck_assert_int_eq(memcmp(data, want[i / 2], size), 0);
        } else {
            ck_assert(rc == -EBADMSG || rc == -EPIPE);
            ck_assert(text[0]);
        }
        n += rc == 0;
    }
    migrate_stream_close(&s);
    return n;
}

START_TEST(a_record_that_was_changed_anywhere_is_refused) {
    struct line *l = three_records(5);
    ck_assert_int_eq(right(l, 5), 3);
    for (size_t i = 0; i < l->used; i++) {
        l->bytes[i] ^= 1u << i % 8;
        ck_assert_int_lt(right(l, 5), 3);
        l->bytes[i] ^= 1u << i % 8;
    }
    for (size_t cut = l->used; cut--;) {
        l->used = cut;
        ck_assert_int_lt(right(l, 5), 3);
    }
    free(l);
}
END_TEST

START_TEST(a_record_of_another_session_or_stream_is_refused) {
    struct line *l = three_records(migrate_key(1, 2, 3));
    ck_assert_int_eq(right(l, migrate_key(1, 2, 3)), 3);
    ck_assert_int_eq(right(l, migrate_key(1, 2, 4)), 0);
    ck_assert_int_eq(right(l, migrate_key(1, 4, 3)), 0);
    ck_assert_int_eq(right(l, migrate_key(4, 2, 3)), 0);
    free(l);
}
END_TEST

START_TEST(a_record_that_comes_twice_or_not_at_all_is_refused) {
    struct line *l = three_records(5);
    const size_t first = 40 + 8; /* its head and its bytes */
    uint8_t kept[128];
    memcpy(kept, l->bytes, first);
    memmove(l->bytes, l->bytes + first, l->used - first);
    l->used -= first;
    ck_assert_int_eq(right(l, 5), 0);
    free(l);
    l = three_records(5);
    memmove(l->bytes + 2 * first, l->bytes + first, l->used - first);
    memcpy(l->bytes + first, kept, first);
    l->used += first;
    ck_assert_int_eq(right(l, 5), 1);
    free(l);
}
END_TEST

/* ---- Pages ---- */

struct memory {
    struct migrate_pages pages;
    uint8_t *bytes;
};

static void memory_open(struct memory *m) {
    m->bytes = calloc(PAGES, PN_PAGE_SIZE);
    ck_assert_int_eq(migrate_pages_open(&m->pages, PAGES, false), 0);
    m->pages.base = m->bytes;
}

static void memory_close(struct memory *m) {
    migrate_pages_close(&m->pages);
    free(m->bytes);
}

static int put(void *opaque, uint64_t page, const uint8_t *data) {
    struct memory *m = opaque;
    if (data)
        memcpy(migrate_at(&m->pages, page), data, PN_PAGE_SIZE);
    else
        memset(migrate_at(&m->pages, page), 0, PN_PAGE_SIZE);
    migrate_pages_note(&m->pages, page, data);
    return 0;
}

/* Zeros, bytes that get smaller, and bytes that do not. */
static void scribble(uint8_t *page) {
    unsigned kind = (unsigned)rand() % 3;
    for (unsigned i = 0; i < PN_PAGE_SIZE; i++)
        page[i] = kind == 2 ? (uint8_t)rand() : (uint8_t)(kind * (i / 64));
}

static void send_all(struct migrate_packer *p, struct memory *from, struct memory *to) {
    struct migrate_unpacker u;
    ck_assert_int_eq(migrate_unpacker_open(&u), 0);
    for (uint64_t page = 0; page < PAGES; page++) {
        const uint8_t *data = migrate_packer_add(p, page, migrate_at(&from->pages, page));
        if (!data && !migrate_is_there(&from->pages, page))
            migrate_packer_drop(p);
        else
            migrate_pages_note(&from->pages, page, data);
        if (page % MIGRATE_BATCH != MIGRATE_BATCH - 1 && page != PAGES - 1)
            continue;
        size_t size = migrate_packer_end(p);
        ck_assert_uint_le(size, MIGRATE_PAGES_MAX);
        if (size)
            ck_assert_int_eq(migrate_unpack(&u, p->record, size, PAGES, put, to), 0);
    }
    migrate_unpacker_close(&u);
}

START_TEST(pages_come_out_as_they_went_in) {
    srand(SEED);
    for (unsigned c = 0; migrate_compression_name(c); c++) {
        struct memory from, to;
        struct migrate_packer p;
        memory_open(&from);
        memory_open(&to);
        ck_assert_int_eq(migrate_packer_open(&p, c), 0);
        for (unsigned round = 0; round < 4; round++) {
            for (uint64_t page = 0; page < PAGES; page++)
                if (rand() % 2)
                    scribble(migrate_at(&from.pages, page));
            send_all(&p, &from, &to);
            ck_assert_int_eq(memcmp(from.bytes, to.bytes, PAGES * PN_PAGE_SIZE), 0);
            ck_assert_uint_eq(migrate_pages_digest(&from.pages),
                              migrate_pages_digest(&to.pages));
            ck_assert_uint_eq(migrate_pages_check(&from.pages, NULL), PAGES);
            ck_assert_uint_eq(migrate_pages_check(&to.pages, NULL), PAGES);
        }
        ck_assert(c == MIGRATE_PLAIN ? p.packed_bytes == p.plain_bytes
                                     : p.packed_bytes < p.plain_bytes);
        from.bytes[77 * PN_PAGE_SIZE + 5] ^= 1;
        const uint64_t but[(PAGES + 63) / 64] = {[77 / 64] = 1ull << 77 % 64};
        ck_assert_uint_eq(migrate_pages_check(&from.pages, NULL), 77);
        ck_assert_uint_eq(migrate_pages_check(&from.pages, but), PAGES);
        migrate_packer_close(&p);
        memory_close(&from);
        memory_close(&to);
    }
}
END_TEST

START_TEST(pages_that_there_are_not_or_out_of_order_are_refused) {
    struct memory to;
    struct migrate_packer p;
    struct migrate_unpacker u;
    uint64_t number;
    memory_open(&to);
    ck_assert_int_eq(migrate_unpacker_open(&u), 0);
    ck_assert_int_eq(migrate_packer_open(&p, MIGRATE_LZ4), 0);
    memset(to.bytes, 1, PN_PAGE_SIZE);
    migrate_packer_add(&p, 3, to.bytes);
    migrate_packer_add(&p, 9, to.bytes);
    size_t size = migrate_packer_end(&p);
    ck_assert_int_eq(migrate_unpack(&u, p.record, size, 10, put, &to), 0);
    ck_assert_int_eq(migrate_unpack(&u, p.record, size, 9, put, &to), -EBADMSG);
    for (size_t cut = 0; cut < size; cut++)
        ck_assert_int_eq(migrate_unpack(&u, p.record, cut, 10, put, &to), -EBADMSG);
    memcpy(&number, p.record + 24, sizeof(number));
    ck_assert_uint_eq(number, 9 * 2 + 1);
    number = 3 * 2 + 1; /* a page twice */
    memcpy(p.record + 24, &number, sizeof(number));
    ck_assert_int_eq(migrate_unpack(&u, p.record, size, 10, put, &to), -EBADMSG);
    number = 9 * 2; /* fewer bytes than it says */
    memcpy(p.record + 24, &number, sizeof(number));
    ck_assert_int_eq(migrate_unpack(&u, p.record, size, 10, put, &to), -EBADMSG);
    migrate_packer_close(&p);
    migrate_unpacker_close(&u);
    memory_close(&to);
}
END_TEST

SUITE("migrate", .tests = {a_record_that_was_changed_anywhere_is_refused,
                           a_record_of_another_session_or_stream_is_refused,
                           a_record_that_comes_twice_or_not_at_all_is_refused,
                           pages_come_out_as_they_went_in,
                           pages_that_there_are_not_or_out_of_order_are_refused})
