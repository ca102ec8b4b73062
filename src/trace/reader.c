/* SPDX-License-Identifier: MIT */
/*
 * The trace file's reader: from front to back, a block at a time. Nothing in it is
 * trusted.
 *
 * Invariants
 * 1. What trace_file_next returns was in a block whose checksum is right.
 * 2. The file's own names decide what an event is called; ids beyond 63 are refused, as
 *    masks have 64 bits.
 * No locks: a file is read by one thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trace/pack.h"
#include "trace/trace.h"

#define EVENTS_MAX 64u
#define TEXT_MAX   (1u << 20)

struct trace_file {
    FILE *in;
    struct trace_header header;
    enum trace_state state;
    long block;           /* where the last block begins; -1: not known */
    struct trace_end end; /* so far; of a whole file what it says */
    struct trace_digest *digest;
    struct pack *pack;
    void *frame; /* of pack_bound() bytes */
    struct pn_event_rec *records;
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

static int damaged(char *err, size_t err_size, const char *why) {
    snprintf(err, err_size, "damaged trace: %s", why);
    return -EBADMSG;
}

static int read_text(struct trace_file *f, char *err, size_t err_size) {
    size_t size = f->header.text_size;
    char *text = malloc(size + 1);
    int rc = -ENOMEM;
    if (text && fread(text, 1, size, f->in) != size)
        rc = damaged(err, err_size, "it ends in the event names");
    else if (text)
        rc = parse_text(f, text, size);
    free(text);
    return rc == -EINVAL ? damaged(err, err_size, "its event names") : rc;
}

static int read_start(struct trace_file *f, char *err, size_t err_size) {
    struct trace_header *h = &f->header;
    size_t got = fread(h, 1, sizeof(*h), f->in);
    if (got < sizeof(*h) && ferror(f->in)) {
        int rc = errno ? -errno : -EIO;
        snprintf(err, err_size, "%s", strerror(-rc));
        return rc;
    }
    if (got < sizeof(h->magic) || memcmp(h->magic, TRACE_MAGIC, sizeof(h->magic)) != 0)
        return refuse(err, err_size, "no penumbra trace");
    if (got < sizeof(*h))
        return damaged(err, err_size, "it ends in its header");
    if (h->version != TRACE_VERSION) {
        snprintf(err, err_size,
                 "a trace of schema %" PRIu32 ": this penumbra reads schema %u alone",
                 h->version, TRACE_VERSION);
        return -EINVAL;
    }
    if (h->record_size != sizeof(struct pn_event_rec) || h->text_size % 64 ||
        h->text_size > TEXT_MAX || !h->vcpus || h->vcpus > TRACE_VCPUS_MAX)
        return damaged(err, err_size, "its header");
    f->digest = trace_digest_create(h->vcpus);
    f->pack = pack_create();
    f->frame = malloc(pack_bound());
    f->records = malloc(PACK_RECORDS * sizeof(*f->records));
    if (!f->digest || !f->pack || !f->frame || !f->records)
        return -ENOMEM;
    return read_text(f, err, err_size);
}

/* Take over `in`. */
static int start(FILE *in, struct trace_file **out, char *err, size_t err_size) {
    struct trace_file *f = calloc(1, sizeof(*f));
    err[0] = 0;
    if (!f)
        fclose(in);
    else
        f->in = in;
    int rc = f ? read_start(f, err, err_size) : -ENOMEM;
    if (rc == -ENOMEM)
        snprintf(err, err_size, "trace: out of memory");
    if (rc)
        trace_file_close(f);
    else
        *out = f;
    return rc;
}

int trace_file_parse(const void *data, size_t size, struct trace_file **out, char *err,
                     size_t err_size) {
    if (!size)
        return refuse(err, err_size, "no penumbra trace");
    FILE *in = fmemopen((void *)(uintptr_t)data, size, "rb");
    if (!in) {
        snprintf(err, err_size, "trace: out of memory");
        return -ENOMEM;
    }
    return start(in, out, err, err_size);
}

int trace_file_open(const char *path, struct trace_file **out, char *err,
                    size_t err_size) {
    char why[160];
    FILE *in = strcmp(path, "-") ? fopen(path, "rbe") : fdopen(dup(STDIN_FILENO), "rb");
    if (!in) {
        int rc = -errno;
        snprintf(err, err_size, "%s: %s", path, strerror(-rc));
        return rc;
    }
    int rc = start(in, out, why, sizeof(why));
    if (rc)
        snprintf(err, err_size, "%s: %s", path, why);
    return rc;
}

/* Is the file what its writer says? */
static enum trace_state read_end(struct trace_file *f, uint32_t size) {
    struct trace_end end;
    if (size != sizeof(end))
        return TRACE_DAMAGED;
    if (fread(&end, sizeof(end), 1, f->in) != 1)
        return TRACE_INCOMPLETE;
    if (end.check != trace_end_check(&end) || end.records != f->end.records ||
        end.digest != trace_digest_value(f->digest) || fgetc(f->in) != EOF)
        return TRACE_DAMAGED;
    f->end = end;
    return TRACE_WHOLE;
}

static enum trace_state read_block(struct trace_file *f, size_t *n) {
    struct trace_block b;
    *n = 0;
    f->block = ftell(f->in);
    if (fread(&b, sizeof(b), 1, f->in) != 1)
        return TRACE_INCOMPLETE;
    if (!b.records)
        return read_end(f, b.size);
    if (b.records > PACK_RECORDS || b.size > pack_bound())
        return TRACE_DAMAGED;
    if (fread(f->frame, 1, b.size, f->in) != b.size)
        return TRACE_INCOMPLETE;
    if (!pack_decode(f->pack, f->frame, b.size, f->records, b.records))
        return TRACE_DAMAGED;
    *n = b.records;
    return TRACE_OPEN;
}

size_t trace_file_next(struct trace_file *f, const struct pn_event_rec **rec) {
    size_t n = 0;
    if (f->state == TRACE_OPEN)
        f->state = read_block(f, &n);
    trace_digest_add(f->digest, f->records, n);
    f->end.records += n;
    *rec = f->records;
    return n;
}

bool trace_file_more(struct trace_file *f) {
    if (f->state != TRACE_INCOMPLETE || f->block < 0 || fseek(f->in, f->block, SEEK_SET))
        return false;
    clearerr(f->in);
    f->state = TRACE_OPEN;
    return true;
}

enum trace_state trace_file_state(const struct trace_file *f) {
    return f->state;
}

const struct trace_end *trace_file_end(const struct trace_file *f) {
    return &f->end;
}

void trace_file_close(struct trace_file *f) {
    if (!f)
        return;
    for (unsigned i = 0; i < f->events; i++) {
        free(f->event[i].name);
        for (unsigned j = 0; j < f->event[i].fields; j++)
            free(f->event[i].field[j].name);
    }
    fclose(f->in);
    trace_digest_destroy(f->digest);
    pack_destroy(f->pack);
    free(f->frame);
    free(f->records);
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
