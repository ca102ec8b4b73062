/* SPDX-License-Identifier: MIT */
/*
 * The trace file's reader. The file is mapped; nothing in it is trusted.
 *
 * Invariants
 * 1. After a successful open, text and records lie inside the mapping.
 * 2. The file's own names decide what an event is called; ids beyond 63 are refused, as
 *    masks have 64 bits.
 * No locks: a file is read by one thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "trace/trace.h"

#define EVENTS_MAX 64u

struct trace_file {
    void *map; /* NULL when parsed from memory */
    size_t map_size;
    struct trace_header header;
    const unsigned char *records;
    unsigned events;
    struct trace_event event[EVENTS_MAX];
};

_Static_assert(sizeof(struct trace_header) == 64, "as in the file");
_Static_assert(sizeof(struct pn_event_rec) == 80, "as in the file");

static int refuse(char *err, size_t err_size, const char *why) {
    snprintf(err, err_size, "not a usable trace: %s", why);
    return -EINVAL;
}

/* A type by its name, which the word begins with up to a colon. */
static enum pn_type type_of(const char *word, size_t len) {
    for (unsigned i = 0; i < PN_TYPE_COUNT; i++)
        if (strlen(pn_type_name(i)) == len && !memcmp(word, pn_type_name(i), len))
            return i;
    return PN_TYPE_hex;
}

/* "type:name" into the event's next field. Return: 0 or -errno. */
static int add_field(struct trace_event *e, const char *word, size_t len) {
    const char *colon = memchr(word, ':', len);
    if (e->fields == PN_FIELDS_MAX || !colon)
        return -EINVAL;
    size_t type = (size_t)(colon - word);
    char *name = strndup(colon + 1, len - type - 1);
    if (!name)
        return -ENOMEM;
    e->field[e->fields].type = type_of(word, type);
    e->field[e->fields++].name = name;
    return 0;
}

/* One line "name type:field type:field ..." into the next event. Return: 0 or -errno. */
static int add_event(struct trace_file *f, const char *line, size_t len) {
    if (f->events == EVENTS_MAX)
        return -EINVAL;
    struct trace_event *e = &f->event[f->events++];
    for (size_t i = 0; i < len;) {
        size_t end = i;
        while (end < len && line[end] != ' ') {
            if (line[end] < 0x21 || line[end] > 0x7e)
                return -EINVAL;
            end++;
        }
        if (end > i) {
            int rc = 0;
            if (e->name)
                rc = add_field(e, line + i, end - i);
            else if (!(e->name = strndup(line + i, end - i)))
                rc = -ENOMEM;
            if (rc)
                return rc;
        }
        i = end + 1;
    }
    return e->name ? 0 : -EINVAL;
}

static int parse_text(struct trace_file *f, const char *text, size_t size) {
    const size_t first = strlen(TRACE_SCHEMA "\n");
    if (size < first || memcmp(text, TRACE_SCHEMA "\n", first) != 0)
        return -EINVAL;
    for (size_t at = first; at < size && text[at] != '\n';) {
        const char *end = memchr(text + at, '\n', size - at);
        if (!end)
            return -EINVAL;
        int rc = add_event(f, text + at, (size_t)(end - (text + at)));
        if (rc)
            return rc;
        at = (size_t)(end - text) + 1;
    }
    return f->events ? 0 : -EINVAL;
}

static int parse(struct trace_file *f, const void *data, size_t size, char *err,
                 size_t err_size) {
    struct trace_header *h = &f->header;
    if (size < sizeof(*h))
        return refuse(err, err_size, "shorter than its header");
    memcpy(h, data, sizeof(*h));
    if (memcmp(h->magic, TRACE_MAGIC, sizeof(h->magic)) != 0)
        return refuse(err, err_size, "no penumbra trace");
    if (h->version != TRACE_VERSION) {
        snprintf(err, err_size,
                 "a trace of schema %" PRIu32 ": this penumbra reads schema %u alone",
                 h->version, TRACE_VERSION);
        return -EINVAL;
    }
    if (h->record_size != sizeof(struct pn_event_rec))
        return refuse(err, err_size, "damaged header");
    size_t left = size - sizeof(*h);
    if (h->text_size % 64)
        return refuse(err, err_size, "damaged header");
    if (h->text_size > left)
        return refuse(err, err_size, "truncated in the event names");
    const char *text = (const char *)data + sizeof(*h);
    left -= h->text_size;
    if (h->records > left / sizeof(struct pn_event_rec))
        return refuse(err, err_size, "truncated: fewer records than its header says");
    int rc = parse_text(f, text, h->text_size);
    if (rc == -ENOMEM) {
        snprintf(err, err_size, "trace: out of memory");
        return rc;
    }
    if (rc)
        return refuse(err, err_size, "damaged event names");
    f->records = (const unsigned char *)text + h->text_size;
    return 0;
}

int trace_file_parse(const void *data, size_t size, struct trace_file **out, char *err,
                     size_t err_size) {
    struct trace_file *f = calloc(1, sizeof(*f));
    if (!f) {
        snprintf(err, err_size, "trace: out of memory");
        return -ENOMEM;
    }
    int rc = parse(f, data, size, err, err_size);
    if (rc) {
        trace_file_close(f);
        return rc;
    }
    *out = f;
    return 0;
}

/* Map `fd` read-only. Return: 0 with *map NULL for an empty file, or -errno. */
static int map_file(int fd, void **map, size_t *size) {
    struct stat st;
    if (fstat(fd, &st))
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    *map = NULL;
    *size = (size_t)st.st_size;
    if (!*size)
        return 0;
    *map = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (*map == MAP_FAILED)
        return -errno;
    return 0;
}

int trace_file_open(const char *path, struct trace_file **out, char *err,
                    size_t err_size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *map = NULL;
    size_t size = 0;
    int rc = fd < 0 ? -errno : map_file(fd, &map, &size);
    if (fd >= 0)
        close(fd);
    if (rc) {
        snprintf(err, err_size, "%s: %s", path,
                 rc == -EINVAL ? "not a regular file" : strerror(-rc));
        return rc;
    }
    char why[160];
    rc = trace_file_parse(map, size, out, why, sizeof(why));
    if (rc) {
        snprintf(err, err_size, "%s: %s", path, why);
        if (map)
            munmap(map, size);
        return rc;
    }
    (*out)->map = map;
    (*out)->map_size = size;
    return 0;
}

void trace_file_close(struct trace_file *f) {
    if (!f)
        return;
    for (unsigned i = 0; i < f->events; i++) {
        free(f->event[i].name);
        for (unsigned j = 0; j < f->event[i].fields; j++)
            free(f->event[i].field[j].name);
    }
    if (f->map)
        munmap(f->map, f->map_size);
    free(f);
}

const struct trace_header *trace_file_header(const struct trace_file *f) {
    return &f->header;
}

const struct trace_event *trace_file_event(const struct trace_file *f, unsigned id) {
    return id < f->events ? &f->event[id] : NULL;
}

int trace_file_find(const struct trace_file *f, const char *name, size_t len) {
    for (unsigned i = 0; i < f->events; i++)
        if (strlen(f->event[i].name) == len && !memcmp(f->event[i].name, name, len))
            return (int)i;
    return -1;
}

const struct pn_event_rec *trace_file_record(const struct trace_file *f, uint64_t i) {
    if (i >= f->header.records)
        return NULL;
    return (const struct pn_event_rec *)(f->records + i * sizeof(struct pn_event_rec));
}
