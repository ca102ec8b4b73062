/* SPDX-License-Identifier: MIT */
/* `penumbra stat`: the table of `perf kvm stat report`, and the counters that a trace's
 * events add up to (inspect/exits.h). */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/outfile.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "cli/option.h"
#include "cli/trace_input.h"
#include "inspect/exits.h"

#define TEXT_MAX 64u /* of a row's name */

struct options {
    struct trace_filter filter; /* the first member: cli/trace_input.h */
    const char *path, *json, *csv;
    enum exits_kind kind;
    unsigned by_time;
    unsigned top;
};

static const char *kind_word(unsigned i) {
    return i < EXITS_KINDS ? exits_kind_name((enum exits_kind)i) : NULL;
}

static int set_path(void *options, const char *arg, struct err *e) {
    return option_only(&((struct options *)options)->path, arg, e);
}

#define OWN(field) OPTION_FIELD(struct options, field)

static const struct option_row rows[] = {
    {.kind = OPTION_HEADING, .doc = "What is counted:"},
    {"event", 0, "KIND", "Exits, or accesses to devices, ports or MSRs",
     .kind = OPTION_WORD, OWN(kind), .word = kind_word},
    {"key", 0, "KEY", "Which rows come first: of most samples, or of most time each",
     .kind = OPTION_WORD, OWN(by_time), .words = "sample|time"},
    {"top", 0, "N", "Print the first N rows", .kind = OPTION_NUMBER, OWN(top), .min = 1},
    {.kind = OPTION_HEADING, .doc = "Which events:"},
#define FILTER_TO TRACE_TO
#include "cli/trace_filter.inc"
    {.kind = OPTION_HEADING, .doc = "What is written, with every row:"},
    {"json", 0, "FILE", "All of it as JSON; see bench/FORMATS.md", .kind = OPTION_TEXT,
     OWN(json), .min = 1, .file = 'w'},
    {"csv", 0, "FILE", "The table as CSV", .kind = OPTION_TEXT, OWN(csv), .min = 1,
     .file = 'w'},
};

static const struct options defaults = {
    .filter = {.events = UINT64_MAX, .vcpu = -1, .to = UINT64_MAX}, .top = 50};

static const struct option_command command = {
    .name = "penumbra stat",
    .args = "FILE",
    .doc =
        "Print the exits of a trace that 'penumbra run --trace FILE' recorded as 'perf "
        "kvm stat report' does, and the counters of kvm_stat that its events add up to. "
        "FILE may be -: standard input.",
    .more =
        "Under kvm an exit lasts from kvm_exit to kvm_entry. Under shadow and tdp the "
        "events are counted at which a processor would leave the guest, by Intel's "
        "names; "
        "guest time stands still while the MMU works, so that all but HLT take 0. Exits "
        "for "
        "CPUID, MSRs and interrupts leave no event there.\n\n"
        "Exit codes: 0 the trace is whole; 1 a file cannot be read or written; 2 usage, "
        "or "
        "no trace; 7 damaged or incomplete: what can be read was counted.",
    .rows = rows,
    .count = sizeof(rows) / sizeof(rows[0]),
    .defaults = &defaults,
    .arg = set_path,
};

/* ---- Text ---- */

static double share(uint64_t part, uint64_t of) {
    return of ? 100.0 * (double)part / (double)of : 0;
}

static void print_rows(const struct exits *x, unsigned top, FILE *out) {
    const struct exits_totals *all = exits_totals(x);
    const struct exits_row *r;
    char text[TEXT_MAX];
    for (size_t i = 0; i < top && (r = exits_row(x, i)); i++) {
        exits_text(x, r, text, sizeof(text));
        fprintf(out,
                "%20s %10" PRIu64 " %8.2f%% %8.2f%% %9.2fus %9.2fus %9.2fus ( +-%7.2f%% "
                ")\n",
                text, r->samples, share(r->samples, all->samples),
                share(r->time, all->time), (double)r->min / 1e3, (double)r->max / 1e3,
                r->mean / 1e3, exits_deviation(r));
    }
    if (exits_row(x, top))
        fputs("                 ... (--top N prints more)\n", out);
}

/* As perf has it, print_result() of tools/perf/builtin-kvm.c. */
static void print(const struct options *o, const struct exits *x, FILE *out) {
    const struct exits_totals *all = exits_totals(x);
    const char *name;
    uint64_t value;
    if (o->filter.vcpu >= 0)
        fprintf(out, "Analyze events for all VMs, VCPU %d:\n\n", o->filter.vcpu);
    else
        fputs("Analyze events for all VMs, all VCPUs:\n\n", out);
    fprintf(out, "%20s %10s %9s %9s %11s %11s %16s\n\n", exits_kind_title(o->kind),
            "Samples", "Samples%", "Time%", "Min Time", "Max Time", "Avg time");
    print_rows(x, o->top, out);
    fprintf(out, "\nTotal Samples:%" PRIu64 ", Total events handled time:%.2fus.\n",
            all->samples, (double)all->time / 1e3);
    if (all->beyond)
        fprintf(out, "%" PRIu64 " samples more, which found no room in %u rows\n",
                all->beyond, EXITS_ROWS_MAX);
    for (unsigned i = 0; (name = exits_counter(x, i, &value)); i++)
        fprintf(out, "%s %-40s %14" PRIu64 "\n", i ? "" : "\nCounters:\n", name, value);
}

/* ---- Files ---- */

static json_t *json_row(const struct exits *x, const struct exits_row *r) {
    char text[TEXT_MAX];
    exits_text(x, r, text, sizeof(text));
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:f, s:f}", "name", text, "samples",
                     (json_int_t)r->samples, "time_ns", (json_int_t)r->time, "min_ns",
                     (json_int_t)r->min, "max_ns", (json_int_t)r->max, "mean_ns", r->mean,
                     "mean_off_percent", exits_deviation(r));
}

static json_t *document(const struct options *o, const struct trace_file *f,
                        const struct exits *x, json_t *typed) {
    const struct exits_totals *all = exits_totals(x);
    json_t *table = json_array(), *counters = json_object();
    const struct exits_row *r;
    const char *name;
    uint64_t value;
    for (size_t i = 0; (r = exits_row(x, i)); i++)
        json_array_append_new(table, json_row(x, r));
    for (unsigned i = 0; (name = exits_counter(x, i, &value)); i++)
        json_object_set_new(counters, name, json_integer((json_int_t)value));
    return json_pack("{s:s, s:s, s:s?, s:O?, s:o, s:s, s:I, s:I, s:I, s:o, s:o}",
                     "schema", "penumbra-stat-1", "version", PENUMBRA_VERSION, "revision",
                     *PENUMBRA_REVISION ? PENUMBRA_REVISION : NULL, "command", typed,
                     "trace", trace_input_json(f), "event", exits_kind_name(o->kind),
                     "samples", (json_int_t)all->samples, "time_ns",
                     (json_int_t)all->time, "beyond", (json_int_t)all->beyond, "rows",
                     table, "counters", counters);
}

/* Names of rows have no commas. Return: 0 or -errno. */
static int write_csv(const struct exits *x, int fd) {
    const struct exits_row *r;
    char text[TEXT_MAX];
    FILE *out = outfile_stream(fd);
    if (!out)
        return -errno;
    fputs("name,samples,time_ns,min_ns,max_ns,mean_ns,mean_off_percent\n", out);
    for (size_t i = 0; (r = exits_row(x, i)); i++) {
        exits_text(x, r, text, sizeof(text));
        fprintf(out, "%s,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%.3f,%.3f\n",
                text, r->samples, r->time, r->min, r->max, r->mean, exits_deviation(r));
    }
    return outfile_close_stream(out);
}

static int write_files(const struct options *o, const struct trace_file *f,
                       const struct exits *x, json_t *typed, struct bench_out out[2]) {
    if (o->json) {
        json_t *doc = document(o, f, x, typed);
        int code = bench_out_json(&out[0], doc);
        json_decref(doc);
        if (code)
            return code;
    }
    if (!o->csv)
        return CLI_OK;
    int rc = write_csv(x, out[1].file.fd);
    if (!rc)
        rc = outfile_commit(&out[1].file);
    return rc ? cli_cannot_write(o->csv, rc) : CLI_OK;
}

static int study(const struct options *o, struct trace_file *f, json_t *typed,
                 struct bench_out out[2]) {
    struct exits *x = exits_create(o->kind, &o->filter, f);
    const struct pn_event_rec *rec;
    if (!x)
        return cli_error("out of memory");
    for (size_t n; (n = trace_file_next(f, &rec));)
        exits_add(x, rec, n);
    exits_finish(x, o->by_time);
    if (exits_unsure(x))
        cli_error(
            "%s: recorded without ept_violation: should it be of tdp, faults, INVLPG "
            "and loads of CR3 were no exits",
            o->path);
    bool beside =
        (o->json && outfile_is_stdout(o->json)) || (o->csv && outfile_is_stdout(o->csv));
    print(o, x, beside ? stderr : stdout);
    int code = write_files(o, f, x, typed, out);
    exits_destroy(x);
    return code ? code : trace_input_end(f, o->path);
}

int cmd_stat(int argc, char **argv) {
    struct options o = defaults;
    struct bench_out out[2] = {{.file.fd = -1}, {.file.fd = -1}};
    struct trace_file *f = NULL;
    bool done;
    int code = option_parse(&command, argc, argv, &o, &done);
    if (code || done)
        return code;
    if (!o.path)
        return option_error(&command, "which file?");
    for (unsigned i = 0; i < 2; i++) {
        const char *to = i ? o.csv : o.json;
        if (to && strcmp(o.path, "-") != 0 && outfile_same(to, o.path))
            return option_error(&command, "--%s %s would replace the trace",
                                i ? "csv" : "json", to);
    }
    json_t *typed = cli_command(argc, argv);
    code = bench_out_open(&out[0], o.json);
    if (!code)
        code = bench_out_open(&out[1], o.csv);
    if (!code)
        code = trace_input_open(o.path, &f);
    if (!code)
        code = study(&o, f, typed, out);
    trace_file_close(f);
    for (unsigned i = 0; i < 2; i++)
        outfile_abandon(&out[i].file);
    json_decref(typed);
    return code;
}
