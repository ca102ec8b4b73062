/* SPDX-License-Identifier: MIT */
/* What every format of an export needs: see export.h. */
#include "trace/export.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trace/export_internal.h"

#define STREAM_BUFFER (1u << 18)

static const struct export_format *const formats[] = {
    &export_ctf, &export_ctf2, &export_ftrace, &export_tracecmd, &export_perfetto};

const struct export_format *export_format(unsigned i) {
    return i < sizeof(formats) / sizeof(formats[0]) ? formats[i] : NULL;
}

/* ---- Names ---- */

/* What every language takes as a name. */
static bool is_name(const char *name) {
    const char *p = name;
    for (; (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || *p == '_' ||
           (*p >= '0' && *p <= '9' && p > name);
         p++)
        ;
    return p > name && !*p && p - name <= EXPORT_NAME_MAX;
}

/* Return: the name that does not do, or NULL. */
static const char *bad_name(const struct trace_file *f) {
    const struct trace_event *e;
    for (unsigned id = 0; (e = trace_file_event(f, id)); id++) {
        if (!is_name(e->name))
            return e->name;
        for (unsigned i = 0; i < e->fields; i++) {
            bool twice = false;
            for (unsigned j = 0; j < i; j++)
                twice |= !strcmp(e->field[i].name, e->field[j].name);
            if (twice || !is_name(e->field[i].name))
                return e->field[i].name;
        }
    }
    return NULL;
}

const char *export_event_name(const struct export *x, const struct pn_event_rec *rec) {
    const struct trace_event *e = trace_file_event(x->file, rec->id);
    return e ? e->name : "unnamed";
}

/* ---- Text ---- */

static char *put_field(const struct export_style *s, bool first, const char *name,
                       enum pn_type type, uint64_t value, char *p) {
    bool number = type == PN_TYPE_count || type == PN_TYPE_flag || type == PN_TYPE_level;
    p = stpcpy(stpcpy(p, first ? "" : s->between), s->before);
    p = stpcpy(stpcpy(p, name), s->behind);
    p = trace_put_value(type, value, stpcpy(p, number ? "" : s->quote));
    return stpcpy(p, number ? "" : s->quote);
}

char *export_put_fields(const struct export *x, const struct pn_event_rec *rec,
                        const struct export_style *style, char *p) {
    static const char *const args[PN_FIELDS_MAX] = {"arg0", "arg1", "arg2",
                                                    "arg3", "arg4", "arg5"};
    const struct trace_event *e = trace_file_event(x->file, rec->id);
    bool first = true;
    if (!e) {
        p = put_field(style, true, "id", PN_TYPE_count, rec->id, p);
        first = false;
    }
    for (unsigned i = 0; i < (e ? e->fields : PN_FIELDS_MAX); i++, first = false)
        p = put_field(style, first, e ? e->field[i].name : args[i],
                      e ? trace_field_type(e, rec, i) : PN_TYPE_hex, rec->arg[i], p);
    return p;
}

char *export_put_place(const struct pn_event_rec *rec, const struct export_style *style,
                       char *p) {
    if (rec->rip || rec->cpl != PN_CPL_NONE)
        p = put_field(style, true, "rip", PN_TYPE_hex, rec->rip, p);
    if (rec->cpl != PN_CPL_NONE) {
        p = stpcpy(p, style->between);
        p = put_field(style, true, "cpl", PN_TYPE_count, rec->cpl, p);
        p = put_field(style, false, "cr3", PN_TYPE_hex, rec->cr3, p);
    }
    return p;
}

char *export_put_time(uint64_t ns, unsigned digits, char *p) {
    uint64_t unit = digits == 9 ? 1000000000 : 1000, below = ns % unit;
    p = trace_put_dec(ns / unit, p);
    *p++ = '.';
    for (uint64_t d = unit / 10; d; d /= 10)
        *p++ = (char)('0' + below / d % 10);
    return p;
}

/* ---- One file ---- */

int export_file_error(const struct export *x) {
    return ferror(x->stream) ? (errno ? -errno : -EIO) : 0;
}

int export_file_begin(struct export *x, const char *path) {
    int rc = outfile_open(&x->out, path);
    if (rc)
        return rc;
    x->stream = outfile_stream(x->out.fd);
    if (!x->stream)
        return -errno;
    setvbuf(x->stream, NULL, _IOFBF, STREAM_BUFFER);
    return 0;
}

int export_file_end(struct export *x) {
    int rc = export_file_error(x);
    bool failed = fclose(x->stream);
    x->stream = NULL;
    if (!rc && failed)
        rc = errno ? -errno : -EIO;
    if (rc)
        outfile_abandon(&x->out);
    else
        rc = outfile_commit(&x->out);
    return rc;
}

void export_file_abandon(struct export *x) {
    if (x->stream)
        fclose(x->stream);
    outfile_abandon(&x->out);
}

/* ---- Life ---- */

int export_begin(const struct export_format *how, const struct trace_file *f,
                 const char *path, struct export **out, char *err, size_t err_size) {
    const char *bad = bad_name(f);
    if (bad) {
        snprintf(err, err_size, "damaged trace: no other program takes the name '%.80s'",
                 bad);
        return -EBADMSG;
    }
    struct export *x = calloc(1, sizeof(*x));
    if (!x) {
        snprintf(err, err_size, "out of memory");
        return -ENOMEM;
    }
    x->how = how;
    x->file = f;
    x->out.fd = -1;
    int rc = how->begin(x, path);
    if (rc) {
        if (rc == -EEXIST)
            snprintf(err, err_size, "cannot write %s: there is something already", path);
        else
            snprintf(err, err_size, "cannot write %s: %s", path, strerror(-rc));
        export_abandon(x);
        return rc;
    }
    *out = x;
    return 0;
}

int export_add(struct export *x, const struct pn_event_rec *rec) {
    struct pn_event_rec mine = *rec;
    if (rec->vcpu >= trace_file_header(x->file)->vcpus) {
        x->result.left_out++;
        return 0;
    }
    uint64_t *last = &x->last[rec->vcpu];
    if (rec->time < *last || rec->time > INT64_MAX) {
        mine.time = *last;
        x->result.moved++;
    }
    *last = mine.time;
    x->result.events++;
    return x->how->add(x, &mine);
}

int export_end(struct export *x, struct export_result *result) {
    int rc = x->how->end(x);
    *result = x->result;
    if (rc)
        x->how->abandon(x);
    free(x);
    return rc;
}

void export_abandon(struct export *x) {
    if (!x)
        return;
    x->how->abandon(x);
    free(x);
}
