/* SPDX-License-Identifier: MIT */
/* `penumbra trace`: a trace file as text, its counts and its digest. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/option.h"
#include "trace/trace.h"

#define EVENT_LISTS_MAX 64u

struct options {
    const char *path;
    const char *event[EVENT_LISTS_MAX]; /* the --event of the command line */
    unsigned events;
    bool digest, counts, list;
    struct trace_filter filter;
};

static int set_event(void *options, const char *arg, struct err *e) {
    struct options *o = options;
    if (o->events == EVENT_LISTS_MAX)
        return err_set(e, -EINVAL, "more than %u lists of events", EVENT_LISTS_MAX);
    o->event[o->events++] = arg;
    return 0;
}

/* "A" or "A-B". */
static int set_gva(void *options, const char *arg, struct err *e) {
    struct trace_filter *t = &((struct options *)options)->filter;
    const char *dash = strchr(arg, '-');
    char from[40];
    snprintf(from, sizeof(from), "%.*s", (int)strcspn(arg, "-"), arg);
    int rc = parse_number(from, 0, UINT64_MAX, &t->gva_from);
    t->gva_to = t->gva_from;
    if (!rc && dash)
        rc = parse_number(dash + 1, t->gva_from, UINT64_MAX, &t->gva_to);
    t->by_gva = true;
    return rc ? err_set(e, rc, "not ADDR or FROM-TO") : 0;
}

/* A guest instruction takes one ns of the virtual clock; under kvm records have ns. */
static int set_time(const char *arg, uint64_t *time, struct err *e) {
    int rc = parse_number(arg, 0, UINT64_MAX, time);
    if (rc == -EINVAL && strchr(arg, 's'))
        rc = parse_time(arg, 1, time);
    return rc ? err_set(e, rc, "not a time such as 250000, 1ms, 0.5us or 2s") : 0;
}

static int set_from(void *options, const char *arg, struct err *e) {
    return set_time(arg, &((struct options *)options)->filter.from, e);
}

static int set_to(void *options, const char *arg, struct err *e) {
    return set_time(arg, &((struct options *)options)->filter.to, e);
}

static int set_path(void *options, const char *arg, struct err *e) {
    struct options *o = options;
    if (o->path)
        return err_set(e, -EINVAL, "unexpected argument '%s'", arg);
    o->path = arg;
    return 0;
}

#define OWN(field) OPTION_FIELD(struct options, field)

static const struct option_row rows[] = {
    {.kind = OPTION_HEADING, .doc = "Which events:"},
    {"event", 0, "NAME,...", "Only these events; may be repeated", .kind = OPTION_CALL,
     .set = set_event},
    {"vcpu", 0, "N", "Only this vCPU", .kind = OPTION_NUMBER, OWN(filter.vcpu),
     .max = TRACE_VCPUS_MAX},
    {"from", 0, "TIME",
     "From this time since the guest's start on: guest instructions, which take one ns "
     "each (under kvm ns), or with a unit: ns, us, ms, s",
     .kind = OPTION_CALL, .set = set_from},
    {"to", 0, "TIME", "Up to this time", .kind = OPTION_CALL, .set = set_to},
    {"gva", 0, "A[-B]", "Only events about these guest virtual addresses",
     .kind = OPTION_CALL, .set = set_gva},
    {.kind = OPTION_HEADING, .doc = "What is printed:"},
    {"count", 0, NULL, "Count events by name instead of printing them",
     .kind = OPTION_FLAG, OWN(counts)},
    {"digest", 0, NULL, "Print the digest of all records, checked", .kind = OPTION_FLAG,
     OWN(digest)},
    {"list", 0, NULL,
     "List the events that the file knows, and their fields as type:name",
     .kind = OPTION_FLAG, OWN(list)},
};

static const struct option_command command = {
    .name = "penumbra trace",
    .args = "FILE",
    .doc =
        "Print a trace that 'penumbra run --trace FILE' recorded. Each line: time in "
        "guest instructions, vCPU, event, fields, and the rip, CPL and CR3 of the guest. "
        "FILE may be -: standard input.",
    .more =
        "Exit codes: 0 the trace is whole; 1 it cannot be read; 2 usage, or no trace; "
        "6 damaged or incomplete: what can be read was printed.",
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

/* How the file ended, in a line where it is not whole. */
static int conclude(const struct trace_file *f, const char *path) {
    const struct trace_end *end = trace_file_end(f);
    switch (trace_file_state(f)) {
    case TRACE_INCOMPLETE:
        cli_error("%s: incomplete: it ends after %" PRIu64 " events, without its end",
                  path, end->records);
        return CLI_DAMAGED;
    case TRACE_DAMAGED:
        cli_error("%s: damaged, behind %" PRIu64 " events", path, end->records);
        return CLI_DAMAGED;
    default:
        if (end->lost)
            cli_error("%s: %" PRIu64 " events were lost when it was recorded", path,
                      end->lost);
        return CLI_OK;
    }
}

static int print_records(struct trace_file *f, const struct options *o) {
    const struct pn_event_rec *rec;
    struct counts counts = {{0}};
    size_t n;
    while (!ferror(stdout) && (n = trace_file_next(f, &rec)))
        for (size_t i = 0; i < n && !ferror(stdout); i++)
            take(f, o, &rec[i], &counts);
    if (ferror(stdout)) /* cli_flush says why */
        return CLI_OK;
    print_counts(f, &counts);
    int code = conclude(f, o->path);
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
    if (!o->list)
        return print_records(f, o);
    print_list(f);
    return CLI_OK;
}

int cmd_trace(int argc, char **argv) {
    struct options o = {0};
    char err[256];
    bool done;
    trace_filter_default(&o.filter);
    int rc = option_parse(&command, argc, argv, &o, &done);
    if (rc || done)
        return rc;
    if (!o.path)
        return option_error(&command, "which file?");
    if (goes_alone(&o))
        return option_error(&command,
                            "--%s is of the whole file: no other option does "
                            "anything with it",
                            o.digest ? "digest" : "list");
    struct trace_file *f;
    rc = trace_file_open(o.path, &f, err, sizeof(err));
    if (rc) {
        cli_error("%s", err);
        return rc == -EINVAL ? CLI_USAGE : rc == -EBADMSG ? CLI_DAMAGED : CLI_HOST;
    }
    rc = show(f, &o);
    trace_file_close(f);
    return cli_flush(rc);
}
