/* SPDX-License-Identifier: MIT */
/* `penumbra trace`: a trace file as text, its counts and its digest; or for others. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/outfile.h"
#include "cli/cli.h"
#include "cli/option.h"
#include "cli/trace_export.h"

#define EVENT_LISTS_MAX 64u

struct options {
    struct trace_filter filter; /* the first member: cli/trace_input.h */
    const char *path;
    const char *event[EVENT_LISTS_MAX]; /* the --event of the command line */
    unsigned events;
    bool digest, counts, list;
    struct trace_export export;
};

static int set_event(void *options, const char *arg, struct err *e) {
    struct options *o = options;
    if (o->events == EVENT_LISTS_MAX)
        return err_set(e, -EINVAL, "more than %u lists of events", EVENT_LISTS_MAX);
    o->event[o->events++] = arg;
    return 0;
}

static int set_path(void *options, const char *arg, struct err *e) {
    return option_only(&((struct options *)options)->path, arg, e);
}

/* A format or a time, which begins with a digit. */
static int set_to(void *options, const char *arg, struct err *e) {
    struct options *o = options;
    struct nearest near = {.word = arg, .length = strlen(arg)};
    const char *name;
    if (isdigit((unsigned char)*arg))
        return trace_set_to(options, arg, e);
    for (unsigned i = 0; (name = trace_format_name(i)); i++) {
        nearest_try(&near, name);
        if (!strcmp(name, arg)) {
            o->export.to = name;
            return 0;
        }
    }
    return err_set(e, -EINVAL, "neither a format nor a time%s%s%s; 'help' lists formats",
                   near.best ? ": did you mean " : "", near.best ? near.best : "",
                   near.best ? "?" : "");
}

static int set_kaslr(void *options, const char *arg, struct err *e) {
    return trace_set_moved(&((struct options *)options)->export.names, arg, e);
}

#define OWN(field) OPTION_FIELD(struct options, field)

static const struct option_row rows[] = {
    {.kind = OPTION_HEADING, .doc = "Which events:"},
    {"event", 0, "NAME,...", "Only these events; may be repeated", .kind = OPTION_CALL,
     .set = set_event},
#define FILTER_WHAT "events"
#define NAMES       export.names
#define FILTER_TO                                                                        \
    {                                                                                    \
        "to", 0, "TIME|FORMAT",                                                          \
            "Up to this time; or write the events to -o in the format of other "         \
            "programs",                                                                  \
            .kind = OPTION_CALL, .set = set_to, .list = trace_format_list                \
    }
#include "cli/trace_filter.inc"
    {.kind = OPTION_HEADING, .doc = "What is printed:"},
    {"count", 0, NULL, "Count events by name instead of printing them",
     .kind = OPTION_FLAG, OWN(counts)},
    {"digest", 0, NULL, "Print the digest of all records, checked", .kind = OPTION_FLAG,
     OWN(digest)},
    {"list", 0, NULL,
     "List the events that the file knows, and their fields as type:name",
     .kind = OPTION_FLAG, OWN(list)},
    {.kind = OPTION_HEADING, .doc = "For other programs:"},
    {"output", 'o', "FILE",
     "Where --to FORMAT writes: a file, or a folder (ctf, ctf2); - is standard output",
     .kind = OPTION_TEXT, OWN(export.out), .min = 1, .file = 'w'},
#include "cli/trace_names.inc"
};

static const struct option_command command = {
    .name = "penumbra trace",
    .args = "FILE",
    .doc =
        "Print a trace that 'penumbra run --trace FILE' recorded. Each line: time in "
        "guest instructions, vCPU, event, fields, and the rip, CPL and CR3 of the guest. "
        "FILE may be -: standard input.",
    .more =
        "--to ctf, ctf2, ftrace, perfetto and folded write for other programs: "
        "babeltrace2 and "
        "Trace Compass, readers of ftrace's text, Perfetto, flame graphs. --symbols "
        "names "
        "the functions of folded.\n\n"
        "Exit codes: 0 the trace is whole; 1 a file cannot be read or written; 2 usage, "
        "no "
        "trace, or no symbols; 7 damaged or incomplete: what can be read was printed.",
    .rows = rows,
    .count = sizeof(rows) / sizeof(rows[0]),
    .arg = set_path,
};

static void print_list(const struct trace_file *f) {
    const struct trace_event *e;
    for (unsigned id = 0; (e = trace_file_event(f, id)); id++) {
        printf("%s", e->name);
        for (unsigned i = 0; i < e->fields; i++)
            printf(" %s:%s", pn_type_name(e->field[i].type), e->field[i].name);
        putchar('\n');
    }
}

struct counts {
    uint64_t n[64]; /* by event */
};

static void take(const struct trace_file *f, const struct options *o,
                 const struct pn_event_rec *rec, struct counts *c) {
    if (o->digest || !trace_filter_match(f, &o->filter, rec))
        return;
    if (!o->counts)
        trace_print(f, rec, stdout);
    else if (rec->id < 64)
        c->n[rec->id]++;
}

static void print_counts(const struct trace_file *f, const struct counts *c) {
    for (unsigned id = 0; id < 64; id++)
        if (c->n[id]) {
            const struct trace_event *e = trace_file_event(f, id);
            printf("%12" PRIu64 " %s\n", c->n[id], e ? e->name : "(unnamed)");
        }
}

static int print_records(struct trace_file *f, const struct options *o) {
    const struct pn_event_rec *rec;
    struct counts counts = {{0}};
    size_t n;
    while (!ferror(stdout) && (n = trace_file_next(f, &rec)))
        for (size_t i = 0; i < n && !ferror(stdout); i++)
            take(f, o, &rec[i], &counts);
    if (ferror(stdout)) /* main says why */
        return CLI_OK;
    print_counts(f, &counts);
    int code = trace_input_end(f, o->path);
    if (o->digest && !code)
        printf("%016" PRIx64 "\n", trace_file_end(f)->digest);
    return code;
}

/* --digest and --list are of the whole file. */
static bool goes_alone(const struct options *o) {
    const struct trace_filter *t = &o->filter;
    bool some = o->events || t->vcpu >= 0 || t->from || t->to != UINT64_MAX || t->by_gva;
    return (o->digest || o->list) && (some || o->counts || (o->digest && o->list));
}

/* What does not go together. Return: CLI_OK, or CLI_USAGE after a line. */
static int check(const struct options *o) {
    const struct trace_export *x = &o->export;
    if (goes_alone(o))
        return option_error(&command,
                            "--%s is of the whole file: no other option does "
                            "anything with it",
                            o->digest ? "digest" : "list");
    if (!x->to)
        return x->out             ? option_error(&command, "-o needs --to FORMAT")
               : x->names.symbols ? option_error(&command, "--symbols needs --to folded")
                                  : CLI_OK;
    if (!x->out)
        return option_error(&command, "--to %s needs -o: where to", x->to);
    if (o->digest || o->counts || o->list)
        return option_error(&command, "--%s prints, --to %s writes: one of them",
                            o->digest   ? "digest"
                            : o->counts ? "count"
                                        : "list",
                            x->to);
    if (x->names.symbols && !trace_format_names(x->to))
        return option_error(&command, "--symbols does nothing with --to %s", x->to);
    if (o->events && trace_format_names(x->to))
        return option_error(&command, "--event does nothing with --to %s", x->to);
    if (trace_format_folder(x->to) && outfile_is_stdout(x->out))
        return option_error(&command, "--to %s makes a folder: -o needs its name", x->to);
    if (strcmp(o->path, "-") != 0 && outfile_same(x->out, o->path))
        return option_error(&command, "-o %s would replace the trace", x->out);
    return CLI_OK;
}

static int show(struct trace_file *f, struct options *o) {
    char err[160];
    for (unsigned i = 0; i < o->events; i++) {
        uint64_t mask;
        if (trace_file_mask(f, o->event[i], &mask, err, sizeof(err))) {
            cli_error("--event: %s (see --list)", err);
            return CLI_USAGE;
        }
        o->filter.events = i ? o->filter.events | mask : mask;
    }
    if (o->export.to)
        return trace_export_file(f, &o->filter, o->path, &o->export);
    if (!o->list)
        return print_records(f, o);
    print_list(f);
    return CLI_OK;
}

int cmd_trace(int argc, char **argv) {
    struct options o = {0};
    bool done;
    trace_filter_default(&o.filter);
    int rc = option_parse(&command, argc, argv, &o, &done);
    if (rc || done)
        return rc;
    if (!o.path)
        return option_error(&command, "which file?");
    struct trace_file *f;
    rc = check(&o);
    if (!rc)
        rc = trace_input_open(o.path, &f);
    if (rc)
        return rc;
    rc = show(f, &o);
    trace_file_close(f);
    return rc;
}
