/* SPDX-License-Identifier: MIT */
/*
 * Profiles as files: folded stacks, and pprof's profile.proto (github.com/google/pprof, proto/profile.proto)
 * as gzip. Of the latter a stack is part, function, process, from the leaf on; each name is one function
 * and one location of that number, and a string of the same number behind the constant ones.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/outfile.h"
#include "inspect/profile.h"

/* But for the process's number. */
static bool alike(const struct profile_row *a, const struct profile_row *b) {
    return a->process == b->process && a->function == b->function && a->part == b->part;
}

int profile_write_folded(const struct profile_rows *r, int fd) {
    FILE *out = outfile_stream(fd);
    if (!out)
        return -errno;
    for (size_t i = 0; i < r->rows;) {
        const struct profile_row *row = &r->row[i];
        uint64_t count = 0;
        for (; i < r->rows && alike(row, &r->row[i]); i++)
            count += r->row[i].count;
        fprintf(out, "%s;%s;%s %llu\n", r->name[row->process], r->name[row->function],
                r->name[row->part], (unsigned long long)count);
    }
    return outfile_close_stream(out);
}

/* ---- Protocol buffers, as far as this message needs them ---- */

enum { VARINT = 0, BYTES = 2 };

/* A message that grows. */
struct message {
    uint8_t *at;
    size_t size, room;
    bool failed;
};

static void put(struct message *m, const void *data, size_t size) {
    if (m->size + size > m->room) {
        size_t room = (m->size + size) * 2;
        uint8_t *more = realloc(m->at, room);
        m->failed |= !more;
        if (!more)
            return;
        m->at = more;
        m->room = room;
    }
    if (size)
        memcpy(m->at + m->size, data, size);
    m->size += size;
}

static void put_varint(struct message *m, uint64_t v) {
    uint8_t bytes[10];
    unsigned n = 0;
    do
        bytes[n++] = (uint8_t)(v & 0x7f) | (v > 0x7f ? 0x80 : 0);
    while (v >>= 7);
    put(m, bytes, n);
}

static void put_number(struct message *m, unsigned field, uint64_t v) {
    put_varint(m, field << 3 | VARINT);
    put_varint(m, v);
}

static void put_bytes(struct message *m, unsigned field, const void *data, size_t size) {
    put_varint(m, field << 3 | BYTES);
    put_varint(m, size);
    put(m, data, size);
}

/* Put `part` into m, and begin it anew. */
static void put_message(struct message *m, unsigned field, struct message *part) {
    put_bytes(m, field, part->at, part->size);
    m->failed |= part->failed;
    part->size = 0;
}

/* ---- The profile ---- */

/* Its members, and those of the messages within. */
enum {
    SAMPLE_TYPE = 1,
    SAMPLE = 2,
    LOCATION = 4,
    FUNCTION = 5,
    STRING = 6,
    TIME_NANOS = 9,
    DURATION_NANOS = 10,
    PERIOD_TYPE = 11,
    PERIOD = 12
};
enum { TYPE = 1, UNIT = 2 };
enum { SAMPLE_LOCATION = 1, SAMPLE_VALUE = 2, SAMPLE_LABEL = 3 };
enum { LABEL_KEY = 1, LABEL_NUMBER = 3 };
enum { ID = 1, FUNCTION_NAME = 2, FUNCTION_SYSTEM_NAME = 3, LOCATION_LINE = 4 };
enum { LINE_FUNCTION = 1 };

static const char *const constant[] = {"",     "samples",     "count",
                                       "time", "nanoseconds", "pid"};
enum { S_NONE, S_SAMPLES, S_COUNT, S_TIME, S_NANOSECONDS, S_PID, S_NAMES };

static void put_type(struct message *m, unsigned field, unsigned type, unsigned unit) {
    struct message t = {0};
    put_number(&t, TYPE, type);
    put_number(&t, UNIT, unit);
    put_message(m, field, &t);
    free(t.at);
}

static void put_sample(struct message *m, const struct profile_rows *r,
                       const struct profile_row *row) {
    const uint32_t stack[] = {row->part, row->function, row->process};
    const uint64_t value[] = {row->count, row->count * r->period_ns};
    struct message s = {0}, part = {0};
    for (unsigned i = 0; i < 3; i++)
        put_varint(&part, stack[i] + 1u);
    put_message(&s, SAMPLE_LOCATION, &part);
    for (unsigned i = 0; i < 2; i++)
        put_varint(&part, value[i]);
    put_message(&s, SAMPLE_VALUE, &part);
    if (row->pid) {
        put_number(&part, LABEL_KEY, S_PID);
        put_number(&part, LABEL_NUMBER, row->pid);
        put_message(&s, SAMPLE_LABEL, &part);
    }
    put_message(m, SAMPLE, &s);
    free(s.at);
    free(part.at);
}

static void put_name(struct message *m, unsigned number) {
    struct message one = {0}, line = {0};
    put_number(&one, ID, number + 1u);
    put_number(&one, FUNCTION_NAME, S_NAMES + number);
    put_number(&one, FUNCTION_SYSTEM_NAME, S_NAMES + number);
    put_message(m, FUNCTION, &one);
    put_number(&one, ID, number + 1u);
    put_number(&line, LINE_FUNCTION, number + 1u);
    put_message(&one, LOCATION_LINE, &line);
    put_message(m, LOCATION, &one);
    free(one.at);
    free(line.at);
}

static void put_profile(struct message *m, const struct profile_rows *r) {
    put_type(m, SAMPLE_TYPE, S_SAMPLES, S_COUNT);
    put_type(m, SAMPLE_TYPE, S_TIME, S_NANOSECONDS);
    for (size_t i = 0; i < r->rows; i++)
        put_sample(m, r, &r->row[i]);
    for (unsigned i = 0; i < r->names; i++)
        put_name(m, i);
    for (unsigned i = 0; i < S_NAMES; i++)
        put_bytes(m, STRING, constant[i], strlen(constant[i]));
    for (size_t i = 0; i < r->names; i++)
        put_bytes(m, STRING, r->name[i], strlen(r->name[i]));
    put_number(m, TIME_NANOS, r->begin_ns);
    put_number(m, DURATION_NANOS, r->took_ns);
    put_type(m, PERIOD_TYPE, S_TIME, S_NANOSECONDS);
    put_number(m, PERIOD, r->period_ns);
}

static int write_gzip(const struct message *m, int fd) {
    int own = dup(fd);
    gzFile z = own >= 0 ? gzdopen(own, "wb") : NULL;
    if (!z) {
        int rc = own < 0 ? -errno : -ENOMEM;
        if (own >= 0)
            close(own);
        return rc;
    }
    bool done = gzwrite(z, m->at, (unsigned)m->size) == (int)m->size;
    int error = done ? 0 : errno;
    if (gzclose(z) != Z_OK && !error)
        error = errno ? errno : EIO;
    return -error;
}

int profile_write_pprof(const struct profile_rows *r, int fd) {
    struct message m = {0};
    put_profile(&m, r);
    int rc = m.failed || m.size > INT32_MAX ? -ENOMEM : write_gzip(&m, fd);
    free(m.at);
    return rc;
}
