/* SPDX-License-Identifier: MIT */
/*
 * Fields by name: 1 byte, the length of the name; the name; 2 bytes, the size; the value, as
 * this little-endian host has it. A field that one version has and another has not is found
 * by its name, and never read as another one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine/snapshot_internal.h"

void snap_put(struct snap_bytes *b, const void *data, size_t size) {
    if (b->failed || !size)
        return;
    if (size > b->room - b->size) {
        size_t room = (b->size + size) * 2;
        uint8_t *more = realloc(b->data, room);
        b->failed = !more;
        if (!more)
            return;
        b->data = more;
        b->room = room;
    }
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

void snap_put_field(struct snap_bytes *b, const struct snap_field *f, const void *from) {
    const uint8_t length = (uint8_t)strlen(f->name);
    const uint16_t size = (uint16_t)f->size;
    snap_put(b, &length, 1);
    snap_put(b, f->name, length);
    snap_put(b, &size, sizeof(size));
    snap_put(b, (const uint8_t *)from + f->offset, f->size);
}

/* They mostly come in order: begin at `from`. Return: count: none. */
static unsigned find(const struct snap_field *f, unsigned count, unsigned from,
                     const char *name, size_t length) {
    for (unsigned i = 0; i < count; i++) {
        unsigned n = (from + i) % count;
        if (strlen(f[n].name) == length && !memcmp(f[n].name, name, length))
            return n;
    }
    return count;
}

int snap_get_fields(const char *section, const uint8_t *data, size_t size,
                    const struct snap_field *f, unsigned count, void *to,
                    uint64_t seen[SNAP_FIELDS_MAX / 64], struct err *e) {
    const uint8_t *p = data, *end = data + size;
    memset(seen, 0, SNAP_FIELDS_MAX / 8);
    for (unsigned next = 0; p < end;) {
        size_t length = *p++;
        uint16_t bytes;
        if ((size_t)(end - p) < length + sizeof(bytes))
            return err_set(e, -EBADMSG, "section %s: cut short", section);
        const char *name = (const char *)p;
        unsigned n = find(f, count, next, name, length);
        p += length;
        memcpy(&bytes, p, sizeof(bytes));
        p += sizeof(bytes);
        if (n == count)
            return err_set(e, -EINVAL, "section %s: no field of ours is called '%.*s'",
                           section, (int)length, name);
        if (bytes != f[n].size || (size_t)(end - p) < bytes || snap_seen(seen, n) ||
            (f[n].flag && *p > 1))
            return err_set(e, -EINVAL, "section %s: field %s is not as it is here",
                           section, f[n].name);
        memcpy((uint8_t *)to + f[n].offset, p, bytes);
        seen[n / 64] |= 1ull << n % 64;
        p += bytes;
        next = n + 1;
    }
    return 0;
}
