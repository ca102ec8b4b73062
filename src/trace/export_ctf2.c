/* SPDX-License-Identifier: MIT */
/*
 * The metadata of a folder in the Common Trace Format 2 (diamon.org/ctf, CTF2-SPEC-2.0): a JSON text
 * sequence (RFC 7464), an object for each fragment. The streams are those of CTF 1.8: packed
 * little-endian integers and strings. Names of events and fields need no quoting: export_begin has
 * looked.
 */
#include <inttypes.h>

#include "trace/export_internal.h"

#define RECORD_SEPARATOR "\x1e"

/* ---- Field classes ---- */

/* Of `bits`, printed to that base. role: what it is to readers, or NULL. */
static void put_integer(unsigned bits, unsigned base, const char *role, FILE *out) {
    fprintf(out,
            "{\"type\":\"fixed-length-unsigned-integer\",\"length\":%u,"
            "\"byte-order\":\"little-endian\",\"alignment\":8,"
            "\"preferred-display-base\":%u",
            bits, base);
    if (role)
        fprintf(out, ",\"roles\":[\"%s\"]", role);
}

static void open_members(FILE *out) {
    fputs("{\"type\":\"structure\",\"member-classes\":[", out);
}

static void close_members(FILE *out) {
    fputs("]}", out);
}

static void begin_member(const char *name, bool first, FILE *out) {
    fprintf(out, "%s{\"name\":\"%s\",\"field-class\":", first ? "" : ",", name);
}

struct plain {
    const char *name;
    unsigned bits, base;
    const char *role;
};

static void put_plain(const struct plain *p, bool first, FILE *out) {
    begin_member(p->name, first, out);
    put_integer(p->bits, p->base, p->role, out);
    fputs("}}", out);
}

static void put_plains(const struct plain *p, unsigned n, FILE *out) {
    open_members(out);
    for (unsigned i = 0; i < n; i++)
        put_plain(&p[i], !i, out);
    close_members(out);
}

static void put_field(enum pn_type type, const char *name, bool first, FILE *out) {
    const char *word;
    begin_member(name, first, out);
    if (export_ctf_is_text(type)) {
        fputs("{\"type\":\"null-terminated-string\"}}", out);
        return;
    }
    bool decimal = type == PN_TYPE_count || type == PN_TYPE_flag ||
                   type == PN_TYPE_level || trace_word(type, 0);
    put_integer(64, decimal ? 10 : 16, NULL, out);
    if (trace_word(type, 0)) {
        fputs(",\"mappings\":{", out);
        for (uint64_t i = 0; (word = trace_word(type, i)); i++)
            fprintf(out, "%s\"%s\":[[%" PRIu64 ",%" PRIu64 "]]", i ? "," : "", word, i,
                    i);
        fputs("}", out);
    }
    fputs("}}", out);
}

/* ---- Fragments ---- */

static void begin_fragment(const char *type, FILE *out) {
    fprintf(out, RECORD_SEPARATOR "{\"type\":\"%s\"", type);
}

static void end_fragment(FILE *out) {
    fputs("}\n", out);
}

static void put_trace(const struct trace_file *f, FILE *out) {
    static const struct plain header[] = {
        {"magic", 32, 16, "packet-magic-number"},
        {"stream_id", 32, 10, "data-stream-class-id"},
        {"stream_instance_id", 64, 10, "data-stream-id"}};
    begin_fragment("preamble", out);
    fputs(",\"version\":2", out);
    end_fragment(out);
    begin_fragment("trace-class", out);
    fprintf(out,
            ",\"environment\":{\"tracer_name\":\"penumbra\","
            "\"kernel_moved\":\"0x%" PRIx64 "\"},\"packet-header-field-class\":",
            trace_file_header(f)->kernel_moved);
    put_plains(header, sizeof(header) / sizeof(header[0]), out);
    end_fragment(out);
    begin_fragment("clock-class", out);
    fputs(",\"id\":\"guest\",\"name\":\"guest\",\"frequency\":1000000000,\"description\":"
          "\"guest instructions, a nanosecond each; under KVM nanoseconds\"",
          out);
    end_fragment(out);
}

static void put_stream(FILE *out) {
    static const struct plain packet[] = {
        {"content_size", 64, 10, "packet-content-length"},
        {"packet_size", 64, 10, "packet-total-length"},
        {"timestamp_begin", 64, 10, "default-clock-timestamp"},
        {"timestamp_end", 64, 10, "packet-end-default-clock-timestamp"},
        {"events_discarded", 64, 10, "discarded-event-record-counter-snapshot"},
        {"packet_seq_num", 64, 10, "packet-sequence-number"}};
    static const struct plain header[] = {
        {"id", 16, 10, "event-record-class-id"},
        {"timestamp", 64, 10, "default-clock-timestamp"}};
    static const struct plain place[] = {
        {"vcpu", 16, 10, NULL}, {"rip", 64, 16, NULL}, {"cr3", 64, 16, NULL}};
    begin_fragment("data-stream-class", out);
    fputs(
        ",\"id\":0,\"default-clock-class-id\":\"guest\",\"packet-context-field-class\":",
        out);
    put_plains(packet, sizeof(packet) / sizeof(packet[0]), out);
    fputs(",\"event-record-header-field-class\":", out);
    put_plains(header, sizeof(header) / sizeof(header[0]), out);
    fputs(",\"event-record-common-context-field-class\":", out);
    open_members(out);
    put_plain(&place[0], true, out);
    put_plain(&place[1], false, out);
    begin_member("cpl", false, out);
    put_integer(8, 10, NULL, out);
    fputs(",\"mappings\":{\"ring0\":[[0,0]],\"ring1\":[[1,1]],\"ring2\":[[2,2]],"
          "\"ring3\":[[3,3]],\"unknown\":[[255,255]]}}}",
          out);
    put_plain(&place[2], false, out);
    close_members(out);
    end_fragment(out);
}

static void begin_event(const char *name, unsigned id, FILE *out) {
    begin_fragment("event-record-class", out);
    fprintf(
        out,
        ",\"name\":\"%s\",\"id\":%u,\"data-stream-class-id\":0,\"payload-field-class\":",
        name, id);
    open_members(out);
}

static void end_event(FILE *out) {
    close_members(out);
    end_fragment(out);
}

void export_ctf2_describe(const struct trace_file *f, FILE *out) {
    const struct trace_event *e;
    put_trace(f, out);
    put_stream(out);
    for (unsigned id = 0; (e = trace_file_event(f, id)); id++) {
        begin_event(e->name, id, out);
        for (unsigned i = 0; i < e->fields; i++)
            put_field(e->field[i].type, e->field[i].name, !i, out);
        end_event(out);
    }
    begin_event("unnamed", EXPORT_CTF_UNNAMED, out);
    put_field(PN_TYPE_count, "id", true, out);
    for (unsigned i = 0; i < PN_FIELDS_MAX; i++) {
        const char name[] = {'a', 'r', 'g', (char)('0' + i), 0};
        put_field(PN_TYPE_hex, name, false, out);
    }
    end_event(out);
}
