/* SPDX-License-Identifier: MIT */
/* What the formats of exports share. */
#pragma once

#include "base/outfile.h"
#include "trace/export.h"

#define EXPORT_NAME_MAX 63u /* of an event or a field: export_begin looks */
/* What export_put_fields and export_put_place put at most, together. */
#define EXPORT_FIELDS_MAX ((PN_FIELDS_MAX + 3) * (EXPORT_NAME_MAX + 16 + TRACE_VALUE_MAX))

struct export {
    const struct export_format *how;
    const struct trace_file *file;
    struct export_result result;
    uint64_t last[TRACE_VCPUS_MAX]; /* times */
    struct outfile out;             /* fd -1: the format has other files */
    FILE *stream;                   /* NULL, or out's */
    void *own;                      /* the format's */
};

/* The output as one file, with x->stream: the begin, end and abandon of such a format. */
int export_file_begin(struct export *x, const char *path);
int export_file_end(struct export *x);
void export_file_abandon(struct export *x);
/* What became of the writes to x->stream so far. Return: 0 or -errno. */
int export_file_error(const struct export *x);

/* "unnamed" for an id that the file does not name. */
const char *export_event_name(const struct export *x, const struct pn_event_rec *rec);

/* How fields are put: before the first and between two, before a name and behind it, and
 * around a value that is no decimal number. */
struct export_style {
    const char *between, *before, *behind, *quote;
};
/* The fields at p; of an unnamed event id, arg0 to arg5. Return: behind them: p where there
 * are none. */
char *export_put_fields(const struct export *x, const struct pn_event_rec *rec,
                        const struct export_style *style, char *p);
/* The same of where the guest was: rip, cpl and cr3, where they are known. Both are at most
 * EXPORT_FIELDS_MAX bytes. */
char *export_put_place(const struct pn_event_rec *rec, const struct export_style *style,
                       char *p);
/* Nanoseconds as "SECONDS.123456789" (digits 9), or microseconds as "1234.567" (3).
 * Return: behind it. */
char *export_put_time(uint64_t ns, unsigned digits, char *p);

/* In CTF's streams: is a value of the type a string? Of several words at once, or a name. */
bool export_ctf_is_text(enum pn_type type);
#define EXPORT_CTF_MAGIC   0xc1fc1fc1u
#define EXPORT_CTF_UNNAMED UINT16_MAX /* id of events that the trace does not name */
/* The description of CTF 2 for the same streams (export_ctf2.c). */
void export_ctf2_describe(const struct trace_file *f, FILE *out);

extern const struct export_format export_ctf, export_ctf2, export_ftrace, export_perfetto,
    export_tracecmd;
