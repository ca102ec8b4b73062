/* SPDX-License-Identifier: MIT */
/* `penumbra faults --report`: reports (inspect/fault_report.h) as text, JSON and CSV. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/faults.h"

#define TEXT_MAX   1024u
#define COLUMN_MAX 48u

static void value_text(const struct faults_report *r, enum fault_column kind,
                       uint64_t value, char *buf, size_t size) {
    const char *word = kind == FAULT_COLUMN_ZAP ? fault_zap_name(value) : NULL;
    if (word)
        snprintf(buf, size, "%s", word);
    else if (kind == FAULT_COLUMN_FUNCTION)
        fault_key_text(r->faults, FAULT_KEY_function, value, buf, size);
    else
        snprintf(buf, size, kind == FAULT_COLUMN_HEX ? "0x%" PRIx64 : "%" PRIu64, value);
}

/* What writes one report. */
typedef void (*write_fn)(const struct faults_report *r, const struct fault_report *what,
                         const uint64_t *value, size_t rows, uint64_t beyond, FILE *out);

/* Those that are asked for; one: the first alone. Return: 0, or -ENOMEM. */
static int each(const struct faults_report *r, bool one, write_fn write, FILE *out) {
    int rc = 0;
    bool done = false;
    for (unsigned i = 0; i < FAULT_REPORTS && !rc && !(one && done); i++) {
        uint64_t *value, beyond;
        size_t rows;
        if (!(r->options->reports >> i & 1))
            continue;
        rc = fault_reports_rows(faults_reports(r->faults), i, &value, &rows, &beyond);
        if (rc)
            break;
        write(r, fault_report_at(i), value, rows, beyond, out);
        free(value);
        done = true;
    }
    return rc;
}

/* ---- Text ---- */

static void print(const struct faults_report *r, const struct fault_report *what,
                  const uint64_t *value, size_t rows, uint64_t beyond, FILE *out) {
    bool all = what == fault_report_at(FAULT_REPORT_working_set); /* a course of time */
    size_t shown = all || rows < r->options->top ? rows : r->options->top;
    int width[FAULT_REPORT_COLUMNS];
    char text[TEXT_MAX];
    fprintf(out, "\n%s", what->title);
    if (shown < rows)
        fprintf(out, ": the first %zu of %zu rows", shown, rows);
    fputc('\n', out);
    for (unsigned c = 0; c < what->columns; c++) {
        width[c] = (int)strlen(what->column[c].name);
        for (size_t i = 0; i < shown; i++) {
            value_text(r, what->column[c].kind, value[i * what->columns + c], text,
                       sizeof(text));
            int length = (int)strlen(text);
            width[c] = length > width[c] ? length : width[c];
        }
        width[c] = width[c] > (int)COLUMN_MAX ? (int)COLUMN_MAX : width[c];
        fprintf(out, "  %*s", width[c], what->column[c].name);
    }
    fputc('\n', out);
    for (size_t i = 0; i < shown; i++) {
        for (unsigned c = 0; c < what->columns; c++) {
            value_text(r, what->column[c].kind, value[i * what->columns + c], text,
                       sizeof(text));
            fprintf(out, "  %*s", width[c], text);
        }
        fputc('\n', out);
    }
    if (beyond)
        fprintf(out, "  and %" PRIu64 " things more that found no room\n", beyond);
}

int faults_print_reports(const struct faults_report *r, FILE *out) {
    return each(r, false, print, out);
}

/* ---- Files ---- */

static void put_json(const struct faults_report *r, const struct fault_report *what,
                     const uint64_t *value, size_t rows, uint64_t beyond, FILE *out) {
    char text[TEXT_MAX];
    /* Not before the first of those that are asked for. */
    unsigned number = (unsigned)(what - fault_report_at(0));
    fputs(r->options->reports & ((1u << number) - 1) ? ",\n" : "\n", out);
    fprintf(out, "  {\"report\": \"%s\", \"beyond\": %" PRIu64 ", \"rows\": [",
            what->name, beyond);
    for (size_t i = 0; i < rows; i++) {
        fputs(i ? ",\n   {" : "\n   {", out);
        for (unsigned c = 0; c < what->columns; c++) {
            value_text(r, what->column[c].kind, value[i * what->columns + c], text,
                       sizeof(text));
            fprintf(out, "%s\"%s\": ", c ? ", " : "", what->column[c].name);
            if (what->column[c].kind == FAULT_COLUMN_COUNT)
                fputs(text, out);
            else
                faults_json_text(text, out);
        }
        fputc('}', out);
    }
    fputs("]}", out);
}

int faults_json_reports(const struct faults_report *r, FILE *out) {
    return each(r, false, put_json, out);
}

static void put_csv(const struct faults_report *r, const struct fault_report *what,
                    const uint64_t *value, size_t rows, uint64_t beyond, FILE *out) {
    char text[TEXT_MAX];
    (void)beyond;
    for (unsigned c = 0; c < what->columns; c++)
        fprintf(out, "%s%s", c ? "," : "", what->column[c].name);
    fputc('\n', out);
    for (size_t i = 0; i < rows; i++) {
        for (unsigned c = 0; c < what->columns; c++) {
            value_text(r, what->column[c].kind, value[i * what->columns + c], text,
                       sizeof(text));
            fputs(c ? "," : "", out);
            faults_csv_text(text, out);
        }
        fputc('\n', out);
    }
}

int faults_csv_report(const struct faults_report *r, FILE *out) {
    return each(r, true, put_csv, out);
}
