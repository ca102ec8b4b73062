/* SPDX-License-Identifier: MIT */
/* The study of page faults as text, JSON and CSV. Rows are written one at a time: there
 * may be half a million. */
#include "cli/faults.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/outfile.h"
#include "cli/cli.h"

#define TEXT_MAX   1024u /* of a key's value */
#define COLUMN_MAX 48u

static struct fault_table asked_table(const struct faults_report *r) {
    return faults_table(r->faults, r->options->by.keys ? TABLE_BY : TABLE_OUTCOME);
}

/* ---- Text ---- */

static double share(uint64_t part, uint64_t of) {
    return of ? 100.0 * (double)part / (double)of : 0;
}

/* "813.2 ms" of nanoseconds. */
static const char *time_text(uint64_t ns, char buf[32]) {
    if (ns < 1000)
        snprintf(buf, 32, "%" PRIu64 " ns", ns);
    else if (ns < 1000000)
        snprintf(buf, 32, "%.1f us", (double)ns / 1e3);
    else if (ns < 1000000000)
        snprintf(buf, 32, "%.1f ms", (double)ns / 1e6);
    else
        snprintf(buf, 32, "%.2f s", (double)ns / 1e9);
    return buf;
}

/* "The commonest: outcome mapped (35.1%), ...": the first row of each table that is known. */
static void print_commonest(const struct faults_report *r, FILE *out) {
    const char *const what[] = {[TABLE_OUTCOME] = "outcome",
                                [TABLE_FUNCTION] =
                                    r->symbols ? "function" : "instruction",
                                [TABLE_PAGE] = "page"};
    const char *before = "The commonest: ";
    char text[TEXT_MAX];
    for (unsigned i = TABLE_OUTCOME; i <= TABLE_PAGE; i++) {
        const struct fault_table t = faults_table(r->faults, i);
        if (t.row[0].key[0] == FAULT_UNKNOWN)
            continue;
        fault_key_text(r->faults, t.by.key[0], t.row[0].key[0], text, sizeof(text));
        fprintf(out, "%s%s %s (%.1f%%)", before, what[i], text,
                share(t.row[0].count, faults_totals(r->faults)->faults));
        before = ", ";
    }
    if (*before == ',')
        fputs(".\n", out);
}

void faults_print_answer(const struct faults_report *r, FILE *out) {
    const struct fault_totals *all = faults_totals(r->faults);
    uint64_t hidden = all->faults - all->own - all->untold;
    char a[32], b[32], c[32], d[32], time[32];
    if (!all->faults) {
        fprintf(out, "No faults%s.\n", all->any ? "" : ", and no events");
        return;
    }
    fprintf(out, "%s faults in %s of guest time: ", cli_grouped(all->faults, a),
            time_text(all->to - all->from, time));
    if (all->untold)
        fprintf(out, "what became of %s (%.1f%%) is not known, ",
                cli_grouped(all->untold, d), share(all->untold, all->faults));
    fprintf(out, "%s (%.1f%%) are the guest's own, %s (%.1f%%) are hidden from it.\n",
            cli_grouped(all->own, b), share(all->own, all->faults),
            cli_grouped(hidden, c), share(hidden, all->faults));
    print_commonest(r, out);
}

/* The widths of the columns of keys, up to COLUMN_MAX each. */
static void measure(const struct faults_report *r, const struct fault_table *t,
                    size_t rows, size_t width[FAULT_BY_MAX]) {
    char text[TEXT_MAX];
    for (unsigned k = 0; k < t->by.keys; k++) {
        width[k] = strlen(fault_key_name(t->by.key[k]));
        for (size_t i = 0; i < rows; i++) {
            fault_key_text(r->faults, t->by.key[k], t->row[i].key[k], text, sizeof(text));
            if (strlen(text) > width[k])
                width[k] = strlen(text);
        }
        if (width[k] > COLUMN_MAX)
            width[k] = COLUMN_MAX;
    }
}

/* Time between its faults, the mean; 0: of one alone. */
static uint64_t apart(const struct fault_row *row) {
    return row->count > 1 ? (row->last - row->first) / (row->count - 1) : 0;
}

#define FIGURES_FORMAT " %12s %7.1f %9.0f %16s"
#define FIGURES_TITLES " %12s %7s %9s %16s"

static void print_figures(const struct fault_row *row, FILE *out) {
    char a[32], b[32];
    double n = (double)row->count;
    fprintf(out, FIGURES_FORMAT, row->count > 1 ? cli_grouped(apart(row), a) : "-",
            (double)row->refs / n, row->cycles / n,
            cli_grouped((uint64_t)row->cycles, b));
}

/* doc: what a row's first key means, or NULL. */
static void print_row(const struct faults_report *r, const struct fault_table *t,
                      const struct fault_row *row, const size_t width[FAULT_BY_MAX],
                      const char *doc, FILE *out) {
    char text[TEXT_MAX], a[32], b[32];
    fprintf(out, "%14s %6.1f%% %14s", cli_grouped(row->count, a),
            share(row->count, faults_totals(r->faults)->faults),
            cli_grouped(row->own, b));
    if (r->options->figures)
        print_figures(row, out);
    fputc(' ', out);
    for (unsigned k = 0; k < t->by.keys; k++) {
        bool last = k + 1 == t->by.keys && !doc;
        fault_key_text(r->faults, t->by.key[k], row->key[k], text, sizeof(text));
        fprintf(out, " %-*s", last ? 0 : (int)width[k], text);
    }
    fprintf(out, doc ? "  %s\n" : "\n", doc);
}

/* Of a row's only key, where its values have one. */
static const char *meaning(const struct fault_table *t, const struct fault_row *row) {
    return t->by.keys > 1                      ? NULL
           : t->by.key[0] == FAULT_KEY_outcome ? fault_outcome_doc(row->key[0])
           : t->by.key[0] == FAULT_KEY_cause
               ? fault_cause_doc((enum fault_cause)row->key[0])
               : NULL;
}

static void print_table(const struct faults_report *r, unsigned number, FILE *out) {
    struct fault_table t = faults_table(r->faults, number);
    size_t rows = t.rows < r->options->top ? t.rows : r->options->top;
    size_t width[FAULT_BY_MAX] = {0};
    char buf[32];
    measure(r, &t, rows, width);
    fputs("\nFaults by ", out);
    for (unsigned k = 0; k < t.by.keys; k++)
        fprintf(out, "%s%s", k ? ", " : "", fault_key_name(t.by.key[k]));
    if (rows < t.rows)
        fprintf(out, ": the first %zu of %zu rows", rows, t.rows);
    fprintf(out, "\n%14s %7s %14s", "faults", "share", "guest's own");
    if (r->options->figures)
        fprintf(out, FIGURES_TITLES, "apart", "refs", "cycles", "cycles in sum");
    fputc(' ', out);
    for (unsigned k = 0; k < t.by.keys; k++)
        fprintf(out, " %-*s", k + 1 == t.by.keys ? 0 : (int)width[k],
                fault_key_name(t.by.key[k]));
    fputc('\n', out);
    for (size_t i = 0; i < rows; i++)
        print_row(r, &t, &t.row[i], width, meaning(&t, &t.row[i]), out);
    if (t.beyond)
        fprintf(out, "%14s faults more, of keys that found no room in %u rows\n",
                cli_grouped(t.beyond, buf), FAULT_ROWS_MAX);
}

int faults_print(const struct faults_report *r, FILE *out) {
    faults_print_answer(r, out);
    if (!faults_totals(r->faults)->faults)
        return 0;
    if (r->options->by.keys) {
        print_table(r, TABLE_BY, out);
    } else if (!r->options->reports) {
        print_table(r, TABLE_OUTCOME, out);
        print_table(r, TABLE_FUNCTION, out);
    }
    if (r->options->figures)
        fprintf(
            out,
            "\napart: guest instructions (under kvm ns) from one fault to the next. "
            "refs: to the guest's tables, for each fault. cycles: modelled by the prices "
            "of '%s', for each fault and in sum\n",
            r->prices.name);
    return faults_print_reports(r, out);
}

/* ---- Files ---- */

void faults_json_text(const char *text, FILE *out) {
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static bool is_number(enum fault_key key) {
    return key == FAULT_KEY_vcpu || key == FAULT_KEY_cpl || key == FAULT_KEY_level;
}

static void json_row(const struct faults_report *r, const struct fault_table *t,
                     const struct fault_row *row, FILE *out) {
    char text[TEXT_MAX];
    fputs("{", out);
    for (unsigned k = 0; k < t->by.keys; k++) {
        fault_key_text(r->faults, t->by.key[k], row->key[k], text, sizeof(text));
        fprintf(out, "\"%s\": ", fault_key_name(t->by.key[k]));
        if (!strcmp(text, "?") || !strcmp(text, "-"))
            fputs("null", out);
        else if (is_number(t->by.key[k]))
            fputs(text, out);
        else
            faults_json_text(text, out);
        fputs(", ", out);
    }
    fprintf(out,
            "\"faults\": %" PRIu64 ", \"own\": %" PRIu64 ", \"first\": %" PRIu64
            ", \"last\": %" PRIu64,
            row->count, row->own, row->first, row->last);
    if (r->options->figures)
        fprintf(out, ", \"apart\": %" PRIu64 ", \"refs\": %" PRIu64 ", \"cycles\": %.0f",
                apart(row), row->refs, row->cycles);
    fputc('}', out);
}

static void json_table(const struct faults_report *r, unsigned number, FILE *out) {
    struct fault_table t = faults_table(r->faults, number);
    fputs("  {\"by\": [", out);
    for (unsigned k = 0; k < t.by.keys; k++)
        fprintf(out, "%s\"%s\"", k ? ", " : "", fault_key_name(t.by.key[k]));
    fprintf(out, "], \"beyond\": %" PRIu64 ", \"rows\": [", t.beyond);
    for (size_t i = 0; i < t.rows; i++) {
        fputs(i ? ",\n   " : "\n   ", out);
        json_row(r, &t, &t.row[i], out);
    }
    fputs("]}", out);
}

static json_t *or_null(bool is, uint64_t value) {
    return is ? json_integer((json_int_t)value) : json_null();
}

static json_t *head(const struct faults_report *r) {
    const struct fault_totals *all = faults_totals(r->faults);
    json_t *symbols = r->symbols
                          ? json_pack("{s:s, s:I}", "file", r->options->names.symbols,
                                      "count", (json_int_t)symbols_count(r->symbols))
                          : json_null();
    return json_pack(
        "{s:s, s:s, s:s?, s:O?, s:o, s:o, s:o, s:s?, s:I, s:I, "
        "s:I, s:o, s:o}",
        "schema", "penumbra-faults-1", "version", PENUMBRA_VERSION, "revision",
        *PENUMBRA_REVISION ? PENUMBRA_REVISION : NULL, "command", r->command, "trace",
        trace_input_json(r->trace), "symbols", symbols, "kernel_moved",
        r->knows_moved ? json_sprintf("0x%" PRIx64, r->moved) : json_null(), "cost",
        r->options->figures ? r->prices.name : NULL, "faults", (json_int_t)all->faults,
        "own", (json_int_t)all->own, "untold", (json_int_t)all->untold, "from",
        or_null(all->any, all->from), "to", or_null(all->any, all->to));
}

int faults_write_json(const struct faults_report *r, int fd) {
    json_t *doc = head(r);
    char *text = doc ? json_dumps(doc, JSON_INDENT(1) | JSON_EMBED) : NULL;
    FILE *out = text ? outfile_stream(fd) : NULL;
    json_decref(doc);
    if (!out) {
        int rc = text ? -errno : -ENOMEM;
        free(text);
        return rc;
    }
    fprintf(out, "{%s,\n \"tables\": [\n", text);
    free(text);
    if (r->options->by.keys) {
        json_table(r, TABLE_BY, out);
    } else {
        json_table(r, TABLE_OUTCOME, out);
        fputs(",\n", out);
        json_table(r, TABLE_FUNCTION, out);
    }
    fputs("\n ],\n \"reports\": [", out);
    int rc = faults_json_reports(r, out);
    fputs("\n ]\n}\n", out);
    int closed = outfile_close_stream(out);
    return rc ? rc : closed;
}

/* RFC 4180. */
void faults_csv_text(const char *text, FILE *out) {
    if (!strpbrk(text, "\",")) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void csv_table(const struct faults_report *r, FILE *out) {
    struct fault_table t = asked_table(r);
    char text[TEXT_MAX];
    for (unsigned k = 0; k < t.by.keys; k++)
        fprintf(out, "%s,", fault_key_name(t.by.key[k]));
    fputs("faults,own,first,last", out);
    fputs(r->options->figures ? ",apart,refs,cycles\n" : "\n", out);
    for (size_t i = 0; i < t.rows; i++) {
        for (unsigned k = 0; k < t.by.keys; k++) {
            fault_key_text(r->faults, t.by.key[k], t.row[i].key[k], text, sizeof(text));
            faults_csv_text(text, out);
            fputc(',', out);
        }
        fprintf(out, "%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64, t.row[i].count,
                t.row[i].own, t.row[i].first, t.row[i].last);
        if (r->options->figures)
            fprintf(out, ",%" PRIu64 ",%" PRIu64 ",%.0f", apart(&t.row[i]), t.row[i].refs,
                    t.row[i].cycles);
        fputc('\n', out);
    }
}

int faults_write_csv(const struct faults_report *r, int fd) {
    FILE *out = outfile_stream(fd);
    int rc = 0;
    if (!out)
        return -errno;
    if (r->options->reports && !r->options->by.keys)
        rc = faults_csv_report(r, out);
    else
        csv_table(r, out);
    int closed = outfile_close_stream(out);
    return rc ? rc : closed;
}
