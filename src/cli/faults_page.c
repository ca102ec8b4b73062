/* SPDX-License-Identifier: MIT */
/* `penumbra faults --html`: one page that needs nothing else. Its template takes the cells
 * (inspect/fault_cells.h) as JSON, columns of numbers, and the script (faults_page.js). */
#include "cli/faults.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/outfile.h"
#include "cli/cli.h"

#define TEXT_MAX 1024u

extern const char faults_page[], faults_page_end[], faults_script[], faults_script_end[];

/* Distinct values of a column, sorted: a cell has the number of its value. */
struct values {
    uint64_t *value;
    size_t count;
};

static int by_value(const void *x, const void *y) {
    const uint64_t *a = x, *b = y;
    return (*a > *b) - (*a < *b);
}

enum column { PAGE, FUNCTION, CR3, OUTCOME, CAUSE_OF, COLUMNS };

static uint64_t value_of(const struct fault_cell *c, enum column column) {
    return column == PAGE             ? c->page
           : column == FUNCTION       ? c->function
           : column == CR3            ? c->cr3
           : column == CAUSE_OF       ? c->cause
           : c->outcome == UINT32_MAX ? FAULT_UNKNOWN
                                      : c->outcome;
}

static int collect(const struct fault_cells *c, enum column column, struct values *v) {
    v->value = malloc((c->count + 1) * sizeof(*v->value));
    if (!v->value)
        return -ENOMEM;
    for (size_t i = 0; i < c->count; i++)
        v->value[i] = value_of(&c->cell[i], column);
    qsort(v->value, c->count, sizeof(*v->value), by_value);
    for (size_t i = 0; i < c->count; i++)
        if (!v->count || v->value[v->count - 1] != v->value[i])
            v->value[v->count++] = v->value[i];
    return 0;
}

static size_t number_of(const struct values *v, uint64_t value) {
    const uint64_t *at = bsearch(&value, v->value, v->count, sizeof(*v->value), by_value);
    return (size_t)(at - v->value);
}

/* A string that may stand inside a script element. */
static void put_text(const char *text, FILE *out) {
    fputc('"', out);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\' || c == '<' || c < ' ')
            fprintf(out, "\\u%04x", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

static void put_names(const struct faults_report *r, const struct values *v,
                      enum fault_key key, const char *name, FILE *out) {
    char text[TEXT_MAX];
    fprintf(out, ",\n\"%s\": [", name);
    for (size_t i = 0; i < v->count; i++) {
        fputs(i ? "," : "", out);
        fault_key_text(r->faults, key, v->value[i], text, sizeof(text));
        put_text(text, out);
    }
    fputc(']', out);
}

/* What the values of outcomes and of causes mean. */
static void put_meanings(const struct values *outcomes, const struct values *of_causes,
                         FILE *out) {
    fputs(",\n\"meanings\": {\"outcome\": [", out);
    for (size_t i = 0; i < outcomes->count; i++) {
        const char *doc = fault_outcome_doc(outcomes->value[i]);
        fputs(i ? "," : "", out);
        put_text(doc ? doc : "not known", out);
    }
    fputs("], \"cause\": [", out);
    for (size_t i = 0; i < of_causes->count; i++) {
        fputs(i ? "," : "", out);
        put_text(fault_cause_doc((enum fault_cause)of_causes->value[i]), out);
    }
    fputs("]}", out);
}

/* Page numbers are below 2^52, which a number of JavaScript holds; or unknown. */
static void put_pages(const struct values *v, FILE *out) {
    fputs(",\n\"pages\": [", out);
    for (size_t i = 0; i < v->count; i++)
        if (v->value[i] == FAULT_UNKNOWN)
            fputs(i ? ",null" : "null", out);
        else
            fprintf(out, "%s%" PRIu64, i ? "," : "", v->value[i]);
    fputc(']', out);
}

static void put_cells(const struct fault_cells *c, const struct values v[COLUMNS],
                      FILE *out) {
    static const char *const names[COLUMNS] = {[PAGE] = "page",
                                               [FUNCTION] = "func",
                                               [CR3] = "cr3",
                                               [OUTCOME] = "outcome",
                                               [CAUSE_OF] = "cause"};
    fputs(",\n\"cells\": {\"time\": [", out);
    for (size_t i = 0; i < c->count; i++)
        fprintf(out, "%s%" PRIu32, i ? "," : "", c->cell[i].time);
    for (unsigned k = 0; k < COLUMNS; k++) {
        fprintf(out, "],\n\"%s\": [", names[k]);
        for (size_t i = 0; i < c->count; i++)
            fprintf(out, "%s%zu", i ? "," : "",
                    number_of(&v[k], value_of(&c->cell[i], k)));
    }
    fputs("],\n\"faults\": [", out);
    for (size_t i = 0; i < c->count; i++)
        fprintf(out, "%s%" PRIu64, i ? "," : "", c->cell[i].count);
    fputs("]}}", out);
}

static void put_data(const struct faults_report *r, const struct values v[COLUMNS],
                     FILE *out) {
    static const char *const states[] = {[TRACE_OPEN] = "open",
                                         [TRACE_WHOLE] = "whole",
                                         [TRACE_INCOMPLETE] = "incomplete",
                                         [TRACE_DAMAGED] = "damaged"};
    const struct fault_cells *c = r->cells;
    char *lead = NULL;
    size_t size = 0;
    FILE *text = open_memstream(&lead, &size);
    if (text) {
        faults_print_answer(r, text);
        fclose(text);
    }
    fputs("{\"schema\": \"penumbra-faults-page-1\", \"lead\": ", out);
    put_text(text ? lead : "", out);
    free(lead);
    fputs(",\n\"trace\": ", out);
    put_text(r->options->path, out);
    fputs(", \"symbols\": ", out);
    put_text(r->options->names.symbols ? r->options->names.symbols : "", out);
    fprintf(out,
            ",\n\"state\": \"%s\", \"faults\": %" PRIu64 ", \"beyond\": %" PRIu64
            ", \"from\": %" PRIu64 ", \"width\": %" PRIu64 ", \"page_shift\": %u",
            states[trace_file_state(r->trace)], faults_totals(r->faults)->faults,
            c->beyond, c->from, c->width, c->page_shift);
    put_names(r, &v[OUTCOME], FAULT_KEY_outcome, "outcomes", out);
    put_names(r, &v[FUNCTION], FAULT_KEY_function, "functions", out);
    put_names(r, &v[CR3],
              faults_tells(r->trace, FAULT_KEY_process) ? FAULT_KEY_process
                                                        : FAULT_KEY_cr3,
              "cr3s", out);
    put_names(r, &v[CAUSE_OF], FAULT_KEY_cause, "causes", out);
    put_meanings(&v[OUTCOME], &v[CAUSE_OF], out);
    put_pages(&v[PAGE], out);
    put_cells(c, v, out);
}

/* The template up to `marker`. Return: behind it. */
static const char *put_until(const char *at, const char *marker, FILE *out) {
    const char *m = memmem(at, (size_t)(faults_page_end - at), marker, strlen(marker));
    fwrite(at, 1, (size_t)(m - at), out);
    return m + strlen(marker);
}

int faults_write_page(const struct faults_report *r, int fd) {
    struct values v[COLUMNS] = {{NULL, 0}};
    int rc = 0;
    for (unsigned k = 0; k < COLUMNS && !rc; k++)
        rc = collect(r->cells, k, &v[k]);
    FILE *out = rc ? NULL : outfile_stream(fd);
    if (!rc && !out)
        rc = -errno;
    if (out) {
        const char *at = put_until(faults_page, "@DATA@", out);
        put_data(r, v, out);
        at = put_until(at, "@SCRIPT@", out);
        fwrite(faults_script, 1, (size_t)(faults_script_end - faults_script), out);
        fwrite(at, 1, (size_t)(faults_page_end - at), out);
        rc = outfile_close_stream(out);
    }
    for (unsigned k = 0; k < COLUMNS; k++)
        free(v[k].value);
    return rc;
}
