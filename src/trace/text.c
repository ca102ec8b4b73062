/* SPDX-License-Identifier: MIT */
/* Trace records as text, and which of them to show. No state, no locks. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "trace/trace.h"

void trace_filter_default(struct trace_filter *t) {
    *t = (struct trace_filter){.events = UINT64_MAX, .vcpu = -1, .to = UINT64_MAX};
}

enum pn_type trace_field_type(const struct trace_event *e, const struct pn_event_rec *rec,
                              unsigned i) {
    bool pf = rec->arg[0] == 14;
    switch (e->field[i].type) {
    case PN_TYPE_error:
        return pf ? PN_TYPE_pfec : PN_TYPE_hex;
    case PN_TYPE_payload:
        return pf ? PN_TYPE_gva : PN_TYPE_hex;
    default:
        return e->field[i].type;
    }
}

/* The guest virtual address that an event is about. Return: whether it has one. */
static bool record_gva(const struct trace_event *e, const struct pn_event_rec *rec,
                       pn_gva *gva) {
    for (unsigned i = 0; i < e->fields; i++)
        if (trace_field_type(e, rec, i) == PN_TYPE_gva) {
            *gva = rec->arg[i];
            return true;
        }
    return false;
}

bool trace_filter_match(const struct trace_file *f, const struct trace_filter *t,
                        const struct pn_event_rec *rec) {
    if (rec->id < 64 ? !(t->events >> rec->id & 1) : t->events != UINT64_MAX)
        return false;
    if (t->vcpu >= 0 && rec->vcpu != t->vcpu)
        return false;
    if (rec->time < t->from || rec->time > t->to)
        return false;
    if (!t->by_gva)
        return true;
    const struct trace_event *e = trace_file_event(f, rec->id);
    pn_gva gva;
    return e && record_gva(e, rec, &gva) && gva >= t->gva_from && gva <= t->gva_to;
}

/* Split "a,b,c"; `find` gives the id of a name or -1. */
static int names_mask(const char *names, uint64_t *mask,
                      int (*find)(const void *opaque, const char *name, size_t len),
                      const void *opaque, char *err, size_t err_size) {
    uint64_t m = 0;
    for (const char *p = names;; p++) {
        size_t len = strcspn(p, ",");
        int id = len == 3 && !memcmp(p, "all", 3) ? 64 : find(opaque, p, len);
        if (id < 0) {
            snprintf(err, err_size, "no event is called '%.*s'", (int)len, p);
            return -EINVAL;
        }
        m |= id == 64 ? UINT64_MAX : (uint64_t)1 << id;
        p += len;
        if (!*p)
            break;
    }
    *mask = m;
    return 0;
}

static int find_in_file(const void *opaque, const char *name, size_t len) {
    return trace_file_find(opaque, name, len);
}

static int find_here(const void *opaque, const char *name, size_t len) {
    for (unsigned i = 0; i < PN_EV_COUNT; i++)
        if (strlen(pn_event_name(i)) == len && !memcmp(pn_event_name(i), name, len))
            return (int)i;
    return -1;
}

int trace_file_mask(const struct trace_file *f, const char *names, uint64_t *mask,
                    char *err, size_t err_size) {
    return names_mask(names, mask, find_in_file, f, err, err_size);
}

int trace_event_mask(const char *names, uint64_t *mask, char *err, size_t err_size) {
    int rc = names_mask(names, mask, find_here, NULL, err, err_size);
    if (!rc)
        *mask &= TRACE_ALL_EVENTS;
    return rc;
}

void trace_print(const struct trace_file *f, const struct pn_event_rec *rec, FILE *out) {
    const struct trace_event *e = trace_file_event(f, rec->id);
    fprintf(out, "%12" PRIu64 " %u ", rec->time, rec->vcpu);
    if (e)
        fputs(e->name, out);
    else
        fprintf(out, "event-%u", rec->id);
    for (unsigned i = 0; i < (e ? e->fields : PN_FIELDS_MAX); i++) {
        fprintf(out, " %s=", e ? e->field[i].name : "?");
        trace_print_value(e ? trace_field_type(e, rec, i) : PN_TYPE_hex, rec->arg[i],
                          out);
    }
    if (rec->rip || rec->cpl != PN_CPL_NONE)
        fprintf(out, " rip=0x%" PRIx64, rec->rip);
    if (rec->cpl != PN_CPL_NONE)
        fprintf(out, " cpl=%u cr3=0x%" PRIx64, rec->cpl, rec->cr3);
    fputc('\n', out);
}
