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
    {"from", 0, "T", "From this time on, in guest instructions", .kind = OPTION_NUMBER,
     OWN(filter.from)},
    {"to", 0, "T", "Up to this time", .kind = OPTION_NUMBER, OWN(filter.to)},
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
        "guest instructions, vCPU, event, fields, and the rip, CPL and CR3 of the guest.",
    .rows = rows,
    .count = sizeof(rows) / sizeof(rows[0]),
    .arg = set_path,
};

/* The digest is computed again, so that a damaged file is found. */
static int print_digest(const struct trace_file *f, const char *path) {
    const struct trace_header *h = trace_file_header(f);
    struct trace_digest *d = trace_digest_create(h->vcpus);
    if (!d)
        return cli_error("out of memory");
    for (uint64_t i = 0; i < h->records; i++)
        trace_digest_add(d, trace_file_record(f, i), 1);
    uint64_t value = trace_digest_value(d);
    trace_digest_destroy(d);
    if (value != h->digest)
        return cli_error("%s: damaged: its records digest to %016" PRIx64
                         ", not %016" PRIx64,
                         path, value, h->digest);
    printf("%016" PRIx64 "\n", value);
    return CLI_OK;
}

static void print_list(const struct trace_file *f) {
    const struct trace_event *e;
    for (unsigned id = 0; (e = trace_file_event(f, id)); id++) {
        printf("%s", e->name);
        for (unsigned i = 0; i < e->fields; i++)
            printf(" %s:%s", pn_type_name(e->field[i].type), e->field[i].name);
        putchar('\n');
    }
}

static void print_records(const struct trace_file *f, const struct options *o) {
    uint64_t counts[64] = {0}, n = trace_file_header(f)->records;
    for (uint64_t i = 0; i < n && !ferror(stdout); i++) {
        const struct pn_event_rec *rec = trace_file_record(f, i);
        if (!trace_filter_match(f, &o->filter, rec))
            continue;
        if (!o->counts)
            trace_print(f, rec, stdout);
        else if (rec->id < 64)
            counts[rec->id]++;
    }
    for (unsigned id = 0; id < 64; id++)
        if (counts[id]) {
            const struct trace_event *e = trace_file_event(f, id);
            printf("%12" PRIu64 " %s\n", counts[id], e ? e->name : "(unnamed)");
        }
}

static int show(const struct trace_file *f, struct options *o) {
    char err[160];
    for (unsigned i = 0; i < o->events; i++) {
        uint64_t mask;
        if (trace_file_mask(f, o->event[i], &mask, err, sizeof(err))) {
            cli_error("--event: %s (see --list)", err);
            return CLI_USAGE;
        }
        o->filter.events = i ? o->filter.events | mask : mask;
    }
    uint64_t lost = trace_file_header(f)->lost;
    if (lost)
        cli_error("%s: %" PRIu64 " events were lost when it was recorded", o->path, lost);
    if (o->digest)
        return print_digest(f, o->path);
    if (o->list)
        print_list(f);
    else
        print_records(f, o);
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
    struct trace_file *f;
    rc = trace_file_open(o.path, &f, err, sizeof(err));
    if (rc) {
        cli_error("%s", err);
        return rc == -EINVAL ? CLI_USAGE : CLI_HOST;
    }
    rc = show(f, &o);
    trace_file_close(f);
    return cli_flush(rc);
}
