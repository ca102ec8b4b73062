/* SPDX-License-Identifier: MIT */
/*
 * `penumbra dirty-rate`: how fast a guest dirties its memory, and who does: the first stores
 * since a harvest that a trace has, by what they have in common (inspect/faults.h).
 *
 * A tracker that protects pages (wp, ring) sees each page's first store since the last harvest: a
 * fault with the outcome dirty_log. A harvest's event says how many pages it had; what is more
 * than those stores was written by walks, by devices, or in pages of tables. The tracker `accessed`
 * notes each page's first access (page_accessed): then all of this is about the working set.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/outfile.h"
#include "bench/harness/page.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "cli/option.h"
#include "cli/trace_input.h"
#include "inspect/faults.h"
#include "penumbra/mmu.h"

extern const char dirty_page[], dirty_page_end[], dirty_script[], dirty_script_end[];

#define TEXT_MAX 1024u
#define TABLES   3u

static const enum fault_key table_key[TABLES] = {FAULT_KEY_region, FAULT_KEY_process,
                                                 FAULT_KEY_function};

struct options {
    struct trace_filter filter; /* the first member: cli/trace_input.h */
    const char *path, *json, *html;
    struct trace_names names;
    unsigned top;
};

/* One moment at which slots were harvested. */
struct moment {
    uint64_t at, pages, stores; /* stores: since the moment before */
};

struct rate {
    const struct options *options;
    struct trace_file *file;
    struct faults *faults;
    struct moment *moment;
    size_t moments, room;
    uint64_t pages;   /* of all moments */
    uint64_t waiting; /* stores since the last moment */
    int harvest;      /* the id of its event; -1: the file has none */
    bool
        accesses; /* of the tracker `accessed`: page_accessed was recorded, and there is one */
    int accessed; /* the id of that event */
};

static int set_path(void *options, const char *arg, struct err *e) {
    return option_only(&((struct options *)options)->path, arg, e);
}

static int set_kaslr(void *options, const char *arg, struct err *e) {
    return trace_set_moved(&((struct options *)options)->names, arg, e);
}

#define OWN(field) OPTION_FIELD(struct options, field)

static const struct option_row rows[] = {
    {"top", 0, "N", "Print the N rows of a table that have most pages",
     .kind = OPTION_NUMBER, OWN(top), .min = 1},
    {.kind = OPTION_HEADING, .doc = "Which stores:"},
#define FILTER_WHAT "stores"
#define NAMES       names
#define FILTER_TO   TRACE_TO
#include "cli/trace_filter.inc"
    {.kind = OPTION_HEADING, .doc = "Names of functions:"},
#include "cli/trace_names.inc"
    {.kind = OPTION_HEADING, .doc = "What is written, with every row:"},
    {"json", 0, "FILE", "All of it as JSON; see bench/FORMATS.md", .kind = OPTION_TEXT,
     OWN(json), .min = 1, .file = 'w'},
    {"html", 0, "FILE", "A page with charts, which needs nothing else",
     .kind = OPTION_TEXT, OWN(html), .min = 1, .file = 'w'},
};

static const struct options defaults = {
    .filter = {.events = UINT64_MAX, .vcpu = -1, .to = UINT64_MAX}, .top = 20};

static const struct option_command command = {
    .name = "penumbra dirty-rate",
    .args = "FILE",
    .doc =
        "How fast a guest dirties its memory, in pages per second of guest time, over "
        "time, "
        "and by region, process and function of the writer: of a trace that 'penumbra "
        "run "
        "--dirty-log wp --dirty-every MS --trace FILE' recorded. FILE may be -: standard "
        "input.",
    .more =
        "A recording of page_fault, fault_outcome and dirty_harvest is enough. Regions "
        "and "
        "processes are known with run --trace-tasks. Of --dirty-log wp and ring every "
        "page's first store since a harvest is a fault, and has a writer; other trackers "
        "tell how many pages there were alone. Of --dirty-log accessed (record "
        "page_accessed, too) all of it is about pages that were read, executed or "
        "written: the working set of each interval.\n\n"
        "Exit codes: 0 the trace is whole; 1 a file cannot be read or written; 2 usage, "
        "no "
        "trace, no symbols, or no harvest in it; 7 damaged or incomplete: what can be "
        "read "
        "was counted.",
    .rows = rows,
    .count = sizeof(rows) / sizeof(rows[0]),
    .defaults = &defaults,
    .arg = set_path,
};

/* ---- Reading ---- */

static void on_store(void *opaque, const struct faults *f, const struct pn_event_rec *rec,
                     const uint64_t key[FAULT_KEYS]) {
    ((struct rate *)opaque)->waiting++;
}

/* The slots of one harvest have one time. Return: 0 or -ENOMEM. */
static int add_harvest(struct rate *r, const struct pn_event_rec *rec) {
    struct moment *last = r->moments ? &r->moment[r->moments - 1] : NULL;
    if (!last || last->at != rec->time) {
        if (r->moments == r->room) {
            size_t room = r->room ? r->room * 2 : 256;
            void *grown = reallocarray(r->moment, room, sizeof(*r->moment));
            if (!grown)
                return -ENOMEM;
            r->moment = grown;
            r->room = room;
        }
        last = &r->moment[r->moments++];
        *last = (struct moment){.at = rec->time};
    }
    last->pages += rec->arg[1];
    last->stores += r->waiting;
    r->pages += rec->arg[1];
    r->waiting = 0;
    return 0;
}

static bool in_time(const struct rate *r, const struct pn_event_rec *rec) {
    return rec->time >= r->options->filter.from && rec->time <= r->options->filter.to;
}

/* Stores before a harvest are counted before it: records are given one by one. */
static int read_all(struct rate *r) {
    const struct pn_event_rec *rec;
    int rc = 0;
    for (size_t n; !rc && (n = trace_file_next(r->file, &rec));)
        for (size_t i = 0; i < n && !rc; i++) {
            rc = faults_add(r->faults, r->file, &rec[i], 1);
            r->accesses |= rec[i].id == r->accessed;
            if (!rc && rec[i].id == r->harvest && in_time(r, &rec[i]))
                rc = add_harvest(r, &rec[i]);
        }
    if (!rc)
        rc = faults_finish(r->faults);
    return rc ? cli_error("out of memory") : CLI_OK;
}

/* ---- What comes of it ---- */

static uint64_t span(const struct rate *r) {
    const struct fault_totals *all = faults_totals(r->faults);
    return all->any ? all->to - all->from : 0;
}

static double per_second(uint64_t pages, uint64_t ns) {
    return ns ? (double)pages * 1e9 / (double)ns : 0;
}

static const char *key_text(const struct rate *r, unsigned table,
                            const struct fault_row *row, char buf[TEXT_MAX]) {
    fault_key_text(r->faults, table_key[table], row->key[0], buf, TEXT_MAX);
    return buf;
}

static void print_table(const struct rate *r, unsigned table, FILE *out) {
    const struct fault_table t = faults_table(r->faults, table);
    const uint64_t all = faults_totals(r->faults)->faults;
    char text[TEXT_MAX], grouped[32];
    if (!faults_tells(r->file, table_key[table]) || !t.rows)
        return;
    fprintf(out, "\n%14s %7s %14s  %s\n", "pages", "", "pages/s",
            fault_key_name(table_key[table]));
    for (size_t i = 0; i < t.rows && i < r->options->top; i++)
        fprintf(out, "%14s %6.1f%% %14.0f  %s\n", cli_grouped(t.row[i].count, grouped),
                100.0 * (double)t.row[i].count / (double)all,
                per_second(t.row[i].count, span(r)), key_text(r, table, &t.row[i], text));
    if (t.rows > r->options->top)
        fprintf(out, "%14s %zu rows more; --top N prints more\n", "",
                t.rows - r->options->top);
}

static void print_course(const struct rate *r, FILE *out) {
    uint64_t before = faults_totals(r->faults)->from;
    fprintf(out, "\n%14s %14s %14s %14s\n", "until, ms", "pages", "pages/s",
            r->accesses ? "by accesses" : "by stores");
    for (size_t i = 0; i < r->moments && i < r->options->top; i++) {
        const struct moment *m = &r->moment[i];
        fprintf(out, "%14.3f %14" PRIu64 " %14.0f %14" PRIu64 "\n", (double)m->at / 1e6,
                m->pages, per_second(m->pages, m->at - before), m->stores);
        before = m->at;
    }
    if (r->moments > r->options->top)
        fprintf(out, "%14s %zu harvests more\n", "", r->moments - r->options->top);
}

static void print(const struct rate *r, FILE *out) {
    char a[32], b[32];
    fprintf(out, "%s pages%s in %zu harvests, %.3f s of guest time: %.0f pages/s. ",
            cli_grouped(r->pages, a), r->accesses ? " accessed" : "", r->moments,
            (double)span(r) / 1e9, per_second(r->pages, span(r)));
    fprintf(out, "%s of them by %s is known.\n",
            cli_grouped(faults_totals(r->faults)->faults, b),
            r->accesses ? "accesses whose code" : "stores whose writer");
    for (unsigned i = 0; i < TABLES; i++)
        print_table(r, i, out);
    print_course(r, out);
}

/* ---- JSON ---- */

static json_t *table_json(const struct rate *r, unsigned table) {
    const struct fault_table t = faults_table(r->faults, table);
    char text[TEXT_MAX];
    if (!faults_tells(r->file, table_key[table]))
        return json_null();
    json_t *all = json_array();
    for (size_t i = 0; i < t.rows; i++)
        json_array_append_new(all, json_pack("{s:s, s:I, s:f}", "name",
                                             key_text(r, table, &t.row[i], text), "pages",
                                             (json_int_t)t.row[i].count, "pages_per_s",
                                             per_second(t.row[i].count, span(r))));
    return all;
}

static json_t *course_json(const struct rate *r) {
    json_t *all = json_array();
    for (size_t i = 0; i < r->moments; i++)
        json_array_append_new(all, json_pack("{s:I, s:I, s:I}", "at_ns",
                                             (json_int_t)r->moment[i].at, "pages",
                                             (json_int_t)r->moment[i].pages, "stores",
                                             (json_int_t)r->moment[i].stores));
    return all;
}

static json_t *document(const struct rate *r, json_t *typed) {
    const struct fault_totals *all = faults_totals(r->faults);
    json_t *j = json_pack(
        "{s:s, s:s, s:s?, s:O, s:o, s:s, s:I, s:I, s:I, s:I, s:f, s:o}", "schema",
        "penumbra-dirty-rate-1", "version", PENUMBRA_VERSION, "revision",
        *PENUMBRA_REVISION ? PENUMBRA_REVISION : NULL, "command", typed, "trace",
        trace_input_json(r->file), "of", r->accesses ? "accesses" : "stores", "from_ns",
        (json_int_t)all->from, "to_ns", (json_int_t)all->to, "pages",
        (json_int_t)r->pages, "stores", (json_int_t)all->faults, "pages_per_s",
        per_second(r->pages, span(r)), "harvests", course_json(r));
    for (unsigned i = 0; i < TABLES; i++)
        json_object_set_new(j, fault_key_name(table_key[i]), table_json(r, i));
    return j;
}

/* ---- The page ---- */

static int write_page(const json_t *doc, int fd) {
    char *data = page_json(doc);
    const struct page_part parts[] = {
        {"@DATA@", data, data ? strlen(data) : 0},
        {"@CHART@", bench_chart, (size_t)(bench_chart_end - bench_chart)},
        {"@SCRIPT@", dirty_script, (size_t)(dirty_script_end - dirty_script)},
    };
    int rc = page_write(fd, dirty_page, dirty_page_end, parts,
                        sizeof(parts) / sizeof(parts[0]));
    free(data);
    return rc;
}

/* ---- The command ---- */

#define OUTPUTS 2u /* --json, --html */

static int tell(struct rate *r, json_t *typed, struct bench_out out[OUTPUTS]) {
    const struct options *o = r->options;
    int code = CLI_OK;
    if (!r->moments)
        return cli_error("%s: no harvest of a dirty log in it: run with --dirty-log wp "
                         "--dirty-every MS",
                         o->path),
               CLI_USAGE;
    bool beside = (o->json && outfile_is_stdout(o->json)) ||
                  (o->html && outfile_is_stdout(o->html));
    print(r, beside ? stderr : stdout);
    if (o->json || o->html) {
        json_t *doc = document(r, typed);
        if (o->json)
            code = bench_out_json(&out[0], doc);
        if (!code && o->html)
            code = bench_out_with(&out[1], doc, write_page);
        json_decref(doc);
    }
    return code ? code : trace_input_end(r->file, o->path);
}

static int study(struct rate *r, const struct symbols *symbols, json_t *typed,
                 struct bench_out out[OUTPUTS]) {
    struct faults_config c = {.symbols = symbols,
                              .where = r->options->filter,
                              .outcomes = UINT64_C(1) << PN_OUT_dirty_log,
                              .accessed = true,
                              .tables = TABLES,
                              .each = on_store,
                              .opaque = r};
    trace_input_moved(r->file, r->options->path, &r->options->names, &c.moved);
    for (unsigned i = 0; i < TABLES; i++)
        c.by[i] = (struct fault_by){1, {table_key[i]}};
    r->harvest = trace_file_find(r->file, "dirty_harvest", strlen("dirty_harvest"));
    r->accessed = trace_file_find(r->file, "page_accessed", strlen("page_accessed"));
    r->faults = faults_create(&c);
    if (!r->faults)
        return cli_error("out of memory");
    int code = read_all(r);
    if (!code)
        code = tell(r, typed, out);
    faults_destroy(r->faults);
    free(r->moment);
    return code;
}

int cmd_dirty_rate(int argc, char **argv) {
    struct options o = defaults;
    struct bench_out out[OUTPUTS] = {{.file.fd = -1}, {.file.fd = -1}};
    struct rate r = {.options = &o};
    struct symbols *symbols = NULL;
    bool done;
    int code = option_parse(&command, argc, argv, &o, &done);
    if (code || done)
        return code;
    if (!o.path)
        return option_error(&command, "which file?");
    if (o.json && strcmp(o.path, "-") != 0 && outfile_same(o.json, o.path))
        return option_error(&command, "--json %s would replace the trace", o.json);
    if (o.html && strcmp(o.path, "-") != 0 && outfile_same(o.html, o.path))
        return option_error(&command, "--html %s would replace the trace", o.html);
    json_t *typed = cli_command(argc, argv);
    code = bench_out_open(&out[0], o.json);
    if (!code)
        code = bench_out_open(&out[1], o.html);
    if (!code)
        code = trace_input_symbols(&o.names, &symbols);
    if (!code)
        code = trace_input_open(o.path, &r.file);
    if (!code)
        code = study(&r, symbols, typed, out);
    trace_file_close(r.file);
    symbols_free(symbols);
    for (unsigned i = 0; i < OUTPUTS; i++)
        outfile_abandon(&out[i].file);
    json_decref(typed);
    return code;
}
