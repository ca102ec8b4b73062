/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the trace reader: whatever the file holds, it is refused with a line of text, or
 * every record of it prints, and every format takes it for export or refuses its names.
 *
 * Byte 0 chooses: the rest is the file; or it is dressed as one, so that random bytes
 * reach the names and the records.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zstd.h>

#include "trace/export.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void print_all(struct trace_file *f, FILE *out) {
    struct trace_filter t;
    char err[160];
    trace_filter_default(&t);
    t.by_gva = true;
    t.gva_to = UINT64_MAX;
    trace_file_mask(f, "page_fault,exception", &t.events, err, sizeof(err));
    const struct pn_event_rec *r;
    for (size_t n; (n = trace_file_next(f, &r));)
        for (size_t i = 0; i < n; i++) {
            trace_print(f, &r[i], out);
            trace_filter_match(f, &t, &r[i]);
        }
    if (trace_file_state(f) == TRACE_OPEN)
        abort();
}

/* Into a folder that goes again, or nowhere. Records that were read are gone: the fuzzed
 * bytes are records once more. */
static void export_all(struct trace_file *f, const uint8_t *data, size_t size) {
    const struct export_format *format;
    struct pn_event_rec rec;
    char err[160] = "", path[64];
    snprintf(path, sizeof(path), "/tmp/pn-fuzz-trace-%d", (int)getpid());
    for (unsigned i = 0; (format = export_format(i)); i++) {
        struct export *x = NULL;
        if (export_begin(format, f, format->folder ? path : "/dev/null", &x, err,
                         sizeof(err))) {
            if (!err[0] || x)
                abort();
            continue;
        }
        for (size_t at = 0; at < size; at += sizeof(rec)) {
            memset(&rec, 0, sizeof(rec));
            memcpy(&rec, data + at, size - at < sizeof(rec) ? size - at : sizeof(rec));
            rec.vcpu &= 1;
            rec.id &= 127;
            if (export_add(x, &rec))
                abort();
        }
        export_abandon(x);
    }
}

/* A good header, and a first line before the first bytes as text; the others are what a
 * good frame unpacks to. Return: the size. */
static size_t dress(unsigned char *file, size_t room, const uint8_t *data, size_t size) {
    static const char first[] = TRACE_SCHEMA "\n";
    const size_t line = sizeof(first) - 1;
    struct trace_header h = {.version = TRACE_VERSION, .record_size = 80, .vcpus = 1};
    size_t text = (data[0] & 0x7eu) * 4 < size ? (data[0] & 0x7eu) * 4 : size;
    size_t padded = (line + text + 63) / 64 * 64, at = sizeof(h) + padded;
    struct trace_block b = {.records = 1u + data[size / 2]};
    memcpy(h.magic, TRACE_MAGIC, 8);
    h.text_size = (uint32_t)padded;
    memcpy(file, &h, sizeof(h));
    memcpy(file + sizeof(h), first, line);
    memset(file + sizeof(h) + line, '\n', padded - line);
    memcpy(file + sizeof(h) + line, data, text);
    b.size = (uint32_t)ZSTD_compress(file + at + sizeof(b), room - at - sizeof(b),
                                     data + text, size - text, 1);
    memcpy(file + at, &b, sizeof(b));
    return at + sizeof(b) + b.size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size)
        return 0;
    char err[160] = "";
    bool dressed = data[0] & 1;
    size_t total = size - 1, room = 1024 + ZSTD_compressBound(size);
    unsigned char *file = malloc(dressed ? room : total + 1);
    FILE *out = fopen("/dev/null", "w");
    if (!file || !out)
        abort();
    if (dressed)
        total = dress(file, room, data, size);
    else
        memcpy(file, data + 1, total);
    struct trace_file *f = NULL;
    if (trace_file_parse(file, total, &f, err, sizeof(err)) == 0) {
        print_all(f, out);
        export_all(f, data, size);
        trace_file_close(f);
    } else if (!err[0] || f) {
        abort();
    }
    fclose(out);
    free(file);
    return 0;
}
