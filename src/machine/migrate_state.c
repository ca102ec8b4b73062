/* SPDX-License-Identifier: MIT */
/* The machine's state as one record: the sections of a snapshot, in memory. */
#define _GNU_SOURCE /* memfd_create */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine/devices.h"
#include "machine/migrate_internal.h"

int migrate_devices(const char *devices, struct err *e) {
    static const char *const word[] = {
#define DEVICE(name, word, options, doc) [DEVICE_##name] = word,
#include "machine/devices.inc"
    };
    struct device_spec *d = devices ? malloc(sizeof(*d)) : NULL;
    int rc = 0;
    if (devices && !d)
        return err_set(e, -ENOMEM, "out of memory");
    while (rc == 0 && d && (rc = device_next(&devices, d, e)) > 0)
        rc = d->kind == DEVICE_RNG || d->kind == DEVICE_BALLOON
                 ? 0
                 : err_set(e, -ENOTSUP,
                           "a guest with a device '%s' cannot be moved, but with "
                           "balloon and rng alone",
                           word[d->kind]);
    free(d);
    return rc;
}

/* The text, its size before it, and what the file has behind it. Return: malloced. */
static uint8_t *join(const char *text, int fd, size_t *size, struct err *e) {
    const uint32_t length = (uint32_t)strlen(text);
    off_t bytes = lseek(fd, 0, SEEK_END);
    uint8_t *all = bytes < 0 ? NULL : malloc(sizeof(length) + length + (size_t)bytes);
    if (!all) {
        err_set(e, -ENOMEM, "out of memory");
        return NULL;
    }
    memcpy(all, &length, sizeof(length));
    memcpy(all + sizeof(length), text, length);
    *size = sizeof(length) + length + (size_t)bytes;
    if (pread(fd, all + *size - bytes, (size_t)bytes, 0) == bytes)
        return all;
    err_sys(e, -EIO, "the machine's state");
    free(all);
    return NULL;
}

uint8_t *migrate_state_pack(struct machine *m, size_t *size, struct err *e) {
    struct snap_writer w = {.fd = -1, .memory_fd = -1, .sections = json_array()};
    uint8_t *all = NULL;
    w.dir = strdup("the machine's state");
    w.state_fd = memfd_create("penumbra-state", MFD_CLOEXEC);
    if (w.state_fd < 0 || !w.dir || !w.sections) {
        err_set(e, -ENOMEM, "out of memory");
    } else {
        struct snap_still *still = NULL;
        int rc = m->ops->threaded ? snap_still_of(m, &still, e) : 0;
        json_t *j =
            rc ? NULL : snap_save_state(still ? snap_still_machine(still) : m, &w, e);
        snap_still_free(still);
        char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
        all = text ? join(text, w.state_fd, size, e) : NULL;
        free(text);
        json_decref(j);
    }
    snap_writer_abandon(&w);
    return all;
}

int migrate_state_unpack(const uint8_t *data, size_t size, const char *peer,
                         struct snapshot **out, struct err *e) {
    uint32_t length = 0;
    char line[200] = "";
    struct err inner = {line, sizeof(line)};
    if (size >= sizeof(length))
        memcpy(&length, data, sizeof(length));
    if (size < sizeof(length) || size - sizeof(length) < length)
        return err_set(e, -EBADMSG, "%s: the state is cut short", peer);
    const uint8_t *text = data + sizeof(length), *state = text + length;
    size_t bytes = size - sizeof(length) - length;
    struct snapshot *s = calloc(1, sizeof(*s));
    uint8_t *copy = malloc(bytes + 1);
    if (!s || !copy || !(s->dir = strdup(peer))) {
        free(copy);
        free(s);
        return err_set(e, -ENOMEM, "out of memory");
    }
    s->memory.fd = -1;
    memcpy(copy, state, bytes);
    s->manifest = json_loadb((const char *)text, length, JSON_REJECT_DUPLICATES, NULL);
    int rc = snap_take_sections(s, copy, bytes, &inner);
    const char *schema = json_string_value(json_object_get(s->manifest, "schema"));
    if (rc == 0 && (!schema || strcmp(schema, SNAPSHOT_SCHEMA) != 0))
        rc = err_set(&inner, -EINVAL, "the state is %s, and not %s",
                     schema ? schema : "of no version", SNAPSHOT_SCHEMA);
    if (rc) {
        snapshot_close(s);
        return err_set(e, rc, "%s: %s", peer, line);
    }
    *out = s;
    return 0;
}
