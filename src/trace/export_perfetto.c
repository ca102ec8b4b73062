/* SPDX-License-Identifier: MIT */
/*
 * JSON in Chrome's trace event format ("Trace Event Format", the Chromium project's), which
 * Perfetto reads. The guest is one process, a vCPU a thread of it: a track. Times are in
 * microseconds, with three digits behind the point.
 *
 * A track has slices, each within those above it in enum slice: as long as an address space
 * is in use, from a kvm_exit to the kvm_entry, from a page_fault to its fault_outcome (KVM,
 * whose events tell no CPL, has none), from a hlt to the next event. All other events are instants. So every event is one item: with
 * phase B or i, or, when it is the end of a slice, E. What a slice's end knows (outcome,
 * level, spte) a viewer adds to what its beginning knows.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "trace/export_internal.h"

#define CR3_PAGE 0x000ffffffffff000ull
#define ITEM_MAX (EXPORT_FIELDS_MAX + 2 * EXPORT_NAME_MAX + 256)

enum slice { PROCESS, EXIT, FAULT, HALT, SLICES };

struct track {
    bool open[SLICES];
    uint64_t cr3; /* of PROCESS */
};

struct perfetto {
    int fault, outcome, exit, entry, hlt; /* ids, -1: not in this trace */
    struct track track[TRACE_VCPUS_MAX];
};

static const char *const kinds[SLICES] = {
    [PROCESS] = "process", [EXIT] = "exit", [FAULT] = "fault", [HALT] = "halt"};

/* The id of an event that was asked for. */
static int id_of(const struct trace_file *f, const char *name) {
    int id = trace_file_find(f, name, strlen(name));
    return id >= 0 && trace_file_header(f)->mask >> id & 1 ? id : -1;
}

static int begin(struct export *x, const char *path) {
    struct perfetto *own = calloc(1, sizeof(*own));
    x->own = own;
    int rc = own ? export_file_begin(x, path) : -ENOMEM;
    if (rc)
        return rc;
    own->fault = id_of(x->file, "page_fault");
    own->outcome = id_of(x->file, "fault_outcome");
    own->exit = id_of(x->file, "kvm_exit");
    own->entry = id_of(x->file, "kvm_entry");
    own->hlt = id_of(x->file, "hlt");
    fputs("{\"displayTimeUnit\": \"ns\", \"traceEvents\": [\n"
          "{\"name\": \"process_name\", \"ph\": \"M\", \"pid\": 1, \"tid\": 1, "
          "\"args\": {\"name\": \"guest\"}}",
          x->stream);
    for (unsigned i = 0; i < trace_file_header(x->file)->vcpus; i++)
        fprintf(x->stream,
                ",\n{\"name\": \"thread_name\", \"ph\": \"M\", \"pid\": 1, \"tid\": %u, "
                "\"args\": {\"name\": \"vCPU %u\"}}",
                i + 1, i);
    return 0;
}

/* The item up to its arguments: phase, and where and when it is. */
static char *put_head(char phase, const char *kind, const struct pn_event_rec *rec,
                      char *p) {
    p = stpcpy(p, ",\n{\"ph\": \"");
    *p++ = phase;
    p = stpcpy(p, phase == 'i' ? "\", \"s\": \"t\", \"cat\": \"" : "\", \"cat\": \"");
    p = stpcpy(stpcpy(p, kind), "\", \"pid\": 1, \"tid\": ");
    p = stpcpy(trace_put_dec(rec->vcpu + 1u, p), ", \"ts\": ");
    return export_put_time(rec->time, 3, p);
}

/* Close this slice of the track and those within it, innermost first. */
static void close_slices(struct export *x, const struct pn_event_rec *rec,
                         unsigned from) {
    struct track *t = &((struct perfetto *)x->own)->track[rec->vcpu];
    char item[ITEM_MAX];
    for (unsigned i = SLICES; i-- > from;) {
        if (!t->open[i])
            continue;
        char *p = stpcpy(put_head('E', kinds[i], rec, item), "}");
        fwrite(item, 1, (size_t)(p - item), x->stream);
        t->open[i] = false;
    }
}

/* The event as an item. */
static void put_event(struct export *x, const struct pn_event_rec *rec, char phase,
                      const char *kind) {
    static const struct export_style style = {", ", "\"", "\": ", "\""};
    char item[ITEM_MAX], *p = put_head(phase, kind, rec, item);
    if (phase != 'E') /* an end closes what is open, whatever its name */
        p = stpcpy(stpcpy(stpcpy(p, ", \"name\": \""), export_event_name(x, rec)), "\"");
    char *fields = stpcpy(p, ", \"args\": {");
    p = export_put_fields(x, rec, &style, fields);
    p = stpcpy(stpcpy(p, p > fields ? ", " : ""), "\"guest\": {");
    p = stpcpy(export_put_place(rec, &style, p), "}}}");
    fwrite(item, 1, (size_t)(p - item), x->stream);
}

/* The address space that is in use, where it is known. */
static void take_process(struct export *x, struct track *t,
                         const struct pn_event_rec *rec) {
    uint64_t cr3 = rec->cr3 & CR3_PAGE;
    if (rec->cpl == PN_CPL_NONE || (t->open[PROCESS] && t->cr3 == cr3))
        return;
    close_slices(x, rec, PROCESS);
    char item[ITEM_MAX], *p = put_head('B', kinds[PROCESS], rec, item);
    p = trace_put_hex(cr3, stpcpy(p, ", \"name\": \"cr3 "));
    p = stpcpy(p, "\"}");
    fwrite(item, 1, (size_t)(p - item), x->stream);
    t->open[PROCESS] = true;
    t->cr3 = cr3;
}

static int add(struct export *x, const struct pn_event_rec *rec) {
    struct perfetto *own = x->own;
    struct track *t = &own->track[rec->vcpu];
    int opens = rec->id == own->exit && own->entry >= 0 ? EXIT
                : rec->id == own->fault && own->outcome >= 0 && rec->cpl != PN_CPL_NONE
                    ? FAULT
                : rec->id == own->hlt ? HALT
                                      : SLICES;
    int closes = rec->id == own->entry ? EXIT : rec->id == own->outcome ? FAULT : SLICES;
    close_slices(x, rec, HALT);
    take_process(x, t, rec);
    if (opens != SLICES) {
        close_slices(x, rec, (unsigned)opens);
        put_event(x, rec, 'B', kinds[opens]);
        t->open[opens] = true;
    } else if (closes != SLICES && t->open[closes]) {
        close_slices(x, rec, (unsigned)closes + 1);
        put_event(x, rec, 'E', kinds[closes]);
        t->open[closes] = false;
    } else {
        put_event(x, rec, 'i', "event");
    }
    return export_file_error(x);
}

static int end(struct export *x) {
    for (unsigned i = 0; i < trace_file_header(x->file)->vcpus; i++) {
        const struct pn_event_rec last = {.time = x->last[i], .vcpu = (uint16_t)i};
        close_slices(x, &last, PROCESS);
    }
    fprintf(x->stream,
            "\n], \"otherData\": {\"tracer\": \"penumbra\", \"lost\": %llu}}\n",
            (unsigned long long)trace_file_end(x->file)->lost);
    free(x->own);
    x->own = NULL;
    return export_file_end(x);
}

static void abandon(struct export *x) {
    free(x->own);
    export_file_abandon(x);
}

const struct export_format export_perfetto = {
    .name = "perfetto",
    .doc = "JSON in Chrome's trace event format: Perfetto, chrome://tracing",
    .begin = begin,
    .add = add,
    .end = end,
    .abandon = abandon,
};
