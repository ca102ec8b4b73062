/* SPDX-License-Identifier: MIT */
/*
 * A trace for other programs: see trace_export.h. The formats with an item for each event
 * are trace/export.h's. Folded stacks are counts out of the study of page faults: a line
 * "process;function;outcome N", as flamegraph.pl and speedscope read them.
 */
#include "cli/trace_export.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/outfile.h"
#include "cli/cli.h"
#include "inspect/faults.h"
#include "trace/export.h"

#define FOLDED   "folded"
#define TEXT_MAX 1024u /* of a key's value */

const char *trace_format_name(unsigned i) {
    const struct export_format *format = export_format(i);
    return format ? format->name : i && export_format(i - 1) ? FOLDED : NULL;
}

void trace_format_list(FILE *out) {
    const struct export_format *format;
    for (unsigned i = 0; (format = export_format(i)); i++)
        fprintf(out, "  %-8s  %s\n", format->name, format->doc);
    fprintf(out, "  %-8s  lines 'process;function;outcome N' of the page faults: %s\n",
            FOLDED, "flamegraph.pl, speedscope");
}

bool trace_format_folder(const char *to) {
    const struct export_format *format;
    for (unsigned i = 0; (format = export_format(i)); i++)
        if (!strcmp(format->name, to))
            return format->folder;
    return false;
}

bool trace_format_names(const char *to) {
    return !strcmp(to, FOLDED);
}

static int cannot_write(const char *path, int rc) {
    if (rc == -EEXIST)
        return cli_error("cannot write %s: there is something already", path);
    return cli_cannot_write(path, rc);
}

/* ---- An item for each event ---- */

static int add_all(struct trace_file *f, const struct trace_filter *filter,
                   struct export *x) {
    const struct pn_event_rec *rec;
    int rc = 0;
    for (size_t n; !rc && (n = trace_file_next(f, &rec));)
        for (size_t i = 0; i < n && !rc; i++)
            if (trace_filter_match(f, filter, &rec[i]))
                rc = export_add(x, &rec[i]);
    return rc;
}

static int export_events(struct trace_file *f, const struct trace_filter *filter,
                         const char *path, const struct trace_export *how) {
    const struct export_format *format;
    struct export_result result = {0};
    struct export *x = NULL;
    char err[320];
    for (unsigned i = 0; (format = export_format(i)); i++)
        if (!strcmp(format->name, how->to))
            break;
    int rc = export_begin(format, f, how->out, &x, err, sizeof(err));
    if (rc) {
        cli_error("%s", err);
        return rc == -EBADMSG ? CLI_DAMAGED : CLI_HOST;
    }
    rc = add_all(f, filter, x);
    if (rc)
        export_abandon(x);
    else
        rc = export_end(x, &result);
    if (rc)
        return cannot_write(how->out, rc);
    if (result.moved)
        cli_error("%s: the times of %" PRIu64
                  " events go backwards: each has the time of "
                  "the one before it",
                  path, result.moved);
    int code = trace_input_end(f, path);
    if (!result.left_out)
        return code;
    cli_error("%s: damaged: %" PRIu64
              " events of vCPUs that it does not have are left out",
              path, result.left_out);
    return CLI_DAMAGED;
}

/* ---- Folded stacks ---- */

/* A frame of a stack: what separates frames and lines cannot be in it. */
static void put_frame(const struct faults *faults, enum fault_key key, uint64_t value,
                      FILE *out) {
    char text[TEXT_MAX];
    fault_key_text(faults, key, value, text, sizeof(text));
    for (char *p = text; *p; p++)
        if (*p == ';')
            *p = ':';
    if (key == FAULT_KEY_cr3 && value != FAULT_UNKNOWN)
        fputs("cr3 ", out);
    fputs(strcmp(text, "?") ? text : "(unknown)", out);
}

static int write_stacks(const struct faults *faults, int fd) {
    struct fault_table t = faults_table(faults, 0);
    FILE *out = outfile_stream(fd);
    if (!out)
        return -errno;
    for (size_t i = 0; i < t.rows; i++) {
        for (unsigned k = 0; k < t.by.keys; k++) {
            if (k)
                fputc(';', out);
            put_frame(faults, t.by.key[k], t.row[i].key[k], out);
        }
        fprintf(out, " %" PRIu64 "\n", t.row[i].count);
    }
    if (t.beyond)
        fprintf(out, "(found no room) %" PRIu64 "\n", t.beyond);
    return outfile_close_stream(out);
}

static int study(struct trace_file *f, struct faults *faults, struct outfile *out) {
    const struct pn_event_rec *rec;
    int rc = 0;
    for (size_t n; !rc && (n = trace_file_next(f, &rec));)
        rc = faults_add(faults, f, rec, n);
    if (!rc)
        rc = faults_finish(faults);
    if (!rc)
        rc = write_stacks(faults, out->fd);
    return rc ? rc : outfile_commit(out);
}

static int export_folded(struct trace_file *f, const struct trace_filter *filter,
                         const char *path, const struct trace_export *how) {
    struct symbols *symbols = NULL;
    struct outfile out = {.fd = -1};
    enum fault_key process =
        faults_tells(f, FAULT_KEY_process) ? FAULT_KEY_process : FAULT_KEY_cr3;
    struct faults_config c = {
        .where = *filter,
        .tables = 1,
        .by = {{3, {process, FAULT_KEY_function, FAULT_KEY_outcome}}},
    };
    if (faults_lacks(f) == (FAULTS_LACKS_FAULT | FAULTS_LACKS_OUTCOME)) {
        cli_error("%s: recorded without page_fault and fault_outcome: no stacks", path);
        return CLI_USAGE;
    }
    int code = trace_input_symbols(&how->names, &symbols);
    if (code)
        return code;
    trace_input_moved(f, path, &how->names, &c.moved);
    c.symbols = symbols;
    struct faults *faults = faults_create(&c);
    int rc = faults ? outfile_open(&out, how->out) : -ENOMEM;
    if (!rc)
        rc = study(f, faults, &out);
    outfile_abandon(&out);
    faults_destroy(faults);
    symbols_free(symbols);
    return rc ? cannot_write(how->out, rc) : trace_input_end(f, path);
}

int trace_export_file(struct trace_file *f, const struct trace_filter *filter,
                      const char *path, const struct trace_export *how) {
    return trace_format_names(how->to) ? export_folded(f, filter, path, how)
                                       : export_events(f, filter, path, how);
}
