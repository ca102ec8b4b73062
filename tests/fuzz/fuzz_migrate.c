/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes what a destination reads. Byte 0 chooses what the rest is:
 *   0  bytes of a stream as they are
 *   1  records of any type and bytes, with the digests that they should have: control's
 *   2  the same of a data stream: its pages go where they belong, or nowhere
 *   3  a record of pages
 *   4  a state
 */
#include <errno.h>
#include <stdlib.h>

#include "input.h"
#include "machine/migrate_in.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAGES 70u

static void require(bool ok) {
    if (!ok)
        abort();
}

static int read_input(void *opaque, void *to, size_t size) {
    struct input *in = opaque;
    if (in->size < size)
        return -EPIPE;
    memcpy(to, in->data, size);
    in->data += size;
    in->size -= size;
    return 0;
}

/* What was said, for who reads. */
struct said {
    uint8_t *bytes;
    size_t size;
};

static int append(void *opaque, const void *from, size_t size) {
    struct said *s = opaque;
    s->bytes = realloc(s->bytes, s->size + size + 1);
    require(s->bytes);
    memcpy(s->bytes + s->size, from, size);
    s->size += size;
    return 0;
}

/* Records of the input, each: a type, a length, bytes. */
static struct said say(struct input *in) {
    char text[400] = "";
    struct err e = {text, sizeof(text)};
    struct said s = {NULL, 0};
    struct migrate_stream out;
    migrate_stream_open(&out, NULL, "peer");
    out.write = append;
    out.opaque = &s;
    while (in->size) {
        unsigned type = (unsigned)take(in, 1) % (MIGRATE_RECORDS + 1);
        size_t size = (size_t)take(in, 2);
        size = size < in->size ? size : in->size;
        require(!migrate_put(&out, type, in->data, size, &e));
        in->data += size;
        in->size -= size;
    }
    migrate_stream_close(&out);
    return s;
}

static void read_all(struct input *in, struct migrate_receiver *r) {
    char text[400] = "";
    struct err e = {text, sizeof(text)};
    migrate_stream_open(&r->stream, NULL, "peer");
    r->stream.read = read_input;
    r->stream.opaque = in;
    if (r->in)
        migrate_receive_pages(r, &e);
    for (int rc = 0; rc == 0 && !r->in;) {
        enum migrate_record type;
        const uint8_t *data;
        size_t size;
        rc = migrate_get(&r->stream, &type, &data, &size, &e);
        require(rc || type < MIGRATE_RECORDS);
    }
    require(text[0] || r->in);
    migrate_stream_close(&r->stream);
}

/* Stream 0 of two: it has the first 64 pages. */
static void receive(struct input *in) {
    static uint8_t memory[PAGES * PN_PAGE_SIZE];
    struct said s = say(in);
    struct input again = {s.bytes, s.size};
    struct migrate_in to = {.streams = 2};
    struct migrate_receiver r = {.in = &to};
    require(!migrate_pages_open(&to.pages, PAGES, false));
    require(!migrate_unpacker_open(&r.unpacker));
    memset(memory, 0, sizeof(memory));
    to.pages.base = memory;
    read_all(&again, &r);
    require(migrate_pages_check(&to.pages, NULL) == PAGES);
    require(to.pages.there[1] == 0);
    migrate_unpacker_close(&r.unpacker);
    migrate_pages_close(&to.pages);
    free(s.bytes);
}

static int look(void *opaque, uint64_t page, const uint8_t *data) {
    volatile uint8_t last = data ? data[PN_PAGE_SIZE - 1] : 0;
    require(page < PAGES);
    (void)last;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    struct migrate_receiver none = {.in = NULL};
    char text[400] = "";
    struct err e = {text, sizeof(text)};
    struct snapshot *snapshot;
    struct migrate_unpacker u;
    struct said s;
    switch (take(&in, 1) % 5) {
    case 0:
        read_all(&in, &none);
        break;
    case 1:
        s = say(&in);
        in = (struct input){s.bytes, s.size};
        read_all(&in, &none);
        free(s.bytes);
        break;
    case 2:
        receive(&in);
        break;
    case 3:
        require(!migrate_unpacker_open(&u));
        migrate_unpack(&u, in.data, in.size, PAGES, look, NULL);
        migrate_unpacker_close(&u);
        break;
    default:
        if (!migrate_state_unpack(in.data, in.size, "peer", &snapshot, &e))
            snapshot_close(snapshot);
        else
            require(text[0]);
    }
    return 0;
}
