/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the trace reader: whatever the file holds, it is refused with a line of text, or
 * every record of it prints.
 *
 * Byte 0 chooses: the rest is the file; or a good header and first line are put before
 * it, so that random bytes reach the names and the records.
 */
#include <stdlib.h>
#include <string.h>

#include "trace/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void print_all(const struct trace_file *f, FILE *out) {
    struct trace_filter t;
    char err[160];
    trace_filter_default(&t);
    t.by_gva = true;
    t.gva_to = UINT64_MAX;
    trace_file_mask(f, "page_fault,exception", &t.events, err, sizeof(err));
    for (uint64_t i = 0; i < trace_file_header(f)->records; i++) {
        const struct pn_event_rec *r = trace_file_record(f, i);
        trace_print(f, r, out);
        trace_filter_match(f, &t, r);
    }
    if (trace_file_record(f, trace_file_header(f)->records))
        abort();
}

/* A header that says what `size` bytes of text and records could be. */
static size_t dress(unsigned char *file, const uint8_t *data, size_t size) {
    static const char first[] = TRACE_SCHEMA "\n";
    const size_t line = sizeof(first) - 1;
    struct trace_header h = {.version = TRACE_VERSION, .record_size = 64, .vcpus = 1};
    size_t text = (data[0] & 0x7eu) / 2 * 64;
    memcpy(h.magic, TRACE_MAGIC, 8);
    size_t total = sizeof(h) + line + size;
    if (sizeof(h) + text > total)
        text = (total - sizeof(h)) / 64 * 64;
    h.text_size = (uint32_t)text;
    h.records = (total - sizeof(h) - text) / 64;
    memcpy(file, &h, sizeof(h));
    memcpy(file + sizeof(h), first, line);
    memcpy(file + sizeof(h) + line, data, size);
    return total;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size)
        return 0;
    char err[160] = "";
    bool dressed = data[0] & 1;
    size_t total = dressed
                       ? sizeof(struct trace_header) + strlen(TRACE_SCHEMA "\n") + size
                       : size - 1;
    unsigned char *file = malloc(total ? total : 1); /* aligned, and of the exact size */
    FILE *out = fopen("/dev/null", "w");
    if (!file || !out)
        abort();
    if (dressed)
        dress(file, data, size);
    else
        memcpy(file, data + 1, total);
    struct trace_file *f = NULL;
    if (trace_file_parse(file, total, &f, err, sizeof(err)) == 0) {
        print_all(f, out);
        trace_file_close(f);
    } else if (!err[0] || f) {
        abort();
    }
    fclose(out);
    free(file);
    return 0;
}
