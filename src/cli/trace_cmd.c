/* SPDX-License-Identifier: MIT */
/* `penumbra trace`: a trace file as text, its counts and its digest. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "trace/trace.h"

struct options {
    const char *path, *events;
    bool digest, counts, list;
    struct trace_filter filter;
};

enum {
    OPT_EVENT = 0x100,
    OPT_VCPU,
    OPT_FROM,
    OPT_TO,
    OPT_GVA,
    OPT_DIGEST,
    OPT_COUNT,
    OPT_LIST
};

/* "A" or "A-B". */
static error_t parse_gva(char *arg, struct argp_state *state, struct trace_filter *t) {
    char *dash = strchr(arg, '-');
    if (dash)
        *dash = 0;
    int rc = parse_number(arg, 0, UINT64_MAX, &t->gva_from);
    t->gva_to = t->gva_from;
    if (!rc && dash)
        rc = parse_number(dash + 1, t->gva_from, UINT64_MAX, &t->gva_to);
    t->by_gva = true;
    if (dash)
        *dash = '-';
    return rc ? cli_bad_arg(state, "--gva %s: not ADDR or FROM-TO", arg) : 0;
}

static error_t parse_opt(int key, char *arg, struct argp_state *state) {
    struct options *o = state->input;
    uint64_t n;
    switch (key) {
    case OPT_EVENT:
        o->events = arg;
        return 0;
    case OPT_VCPU:
        if (parse_number(arg, 0, TRACE_VCPUS_MAX, &n))
            return cli_bad_arg(state, "--vcpu %s: not a vCPU", arg);
        o->filter.vcpu = (int)n;
        return 0;
    case OPT_FROM:
        return parse_number(arg, 0, UINT64_MAX, &o->filter.from)
                   ? cli_bad_arg(state, "--from %s: not a time in instructions", arg)
                   : 0;
    case OPT_TO:
        return parse_number(arg, 0, UINT64_MAX, &o->filter.to)
                   ? cli_bad_arg(state, "--to %s: not a time in instructions", arg)
                   : 0;
    case OPT_GVA:
        return parse_gva(arg, state, &o->filter);
    case OPT_DIGEST:
        o->digest = true;
        return 0;
    case OPT_COUNT:
        o->counts = true;
        return 0;
    case OPT_LIST:
        o->list = true;
        return 0;
    case ARGP_KEY_ARG:
        if (o->path)
            return ARGP_ERR_UNKNOWN;
        o->path = arg;
        return 0;
    case ARGP_KEY_NO_ARGS:
        return cli_bad_arg(state, "trace: which file?");
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"event", OPT_EVENT, "NAME,...", 0, "Only these events", 1},
    {"vcpu", OPT_VCPU, "N", 0, "Only this vCPU", 1},
    {"from", OPT_FROM, "T", 0, "From this time on, in guest instructions", 1},
    {"to", OPT_TO, "T", 0, "Up to this time", 1},
    {"gva", OPT_GVA, "A[-B]", 0, "Only events about these guest virtual addresses", 1},
    {"count", OPT_COUNT, 0, 0, "Count events by name instead of printing them", 2},
    {"digest", OPT_DIGEST, 0, 0, "Print the digest of all records, checked", 2},
    {"list", OPT_LIST, 0, 0, "List the events that the file knows, and their fields", 2},
    CLI_HELP_OPTION,
    {0},
};

static const struct argp argp = {
    .options = options,
    .parser = parse_opt,
    .args_doc = "FILE",
    .doc = "Print a trace that 'penumbra run --trace FILE' recorded. Each line: time in "
           "guest instructions, vCPU, event, fields.",
};

/* The digest is computed again, so that a damaged file is found. */
static int print_digest(const struct trace_file *f, const char *path) {
    const struct trace_header *h = trace_file_header(f);
    struct trace_digest *d = trace_digest_create(h->vcpus);
    if (!d) {
        cli_error("out of memory");
        return CLI_HOST;
    }
    for (uint64_t i = 0; i < h->records; i++)
        trace_digest_add(d, trace_file_record(f, i), 1);
    uint64_t value = trace_digest_value(d);
    trace_digest_destroy(d);
    if (value != h->digest) {
        cli_error("%s: damaged: its records digest to %016" PRIx64 ", not %016" PRIx64,
                  path, value, h->digest);
        return CLI_HOST;
    }
    printf("%016" PRIx64 "\n", value);
    return CLI_OK;
}

static void print_list(const struct trace_file *f) {
    const struct trace_event *e;
    for (unsigned id = 0; (e = trace_file_event(f, id)); id++) {
        printf("%s", e->name);
        for (unsigned i = 0; i < e->fields; i++)
            printf(" %s", e->field[i]);
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
    if (o->events && trace_file_mask(f, o->events, &o->filter.events, err, sizeof(err))) {
        cli_error("--event: %s (see --list)", err);
        return CLI_USAGE;
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
    int rc = cli_parse(&argp, argc, argv, "penumbra trace", &o, &done);
    if (rc || done)
        return rc;
    struct trace_file *f;
    rc = trace_file_open(o.path, &f, err, sizeof(err));
    if (rc) {
        cli_error("%s", err);
        return rc == -EINVAL ? CLI_USAGE : CLI_HOST;
    }
    rc = show(f, &o);
    trace_file_close(f);
    if (fflush(stdout) && errno != EPIPE) { /* `| head` is no failure */
        cli_error("cannot write: %s", strerror(errno));
        return CLI_HOST;
    }
    return rc;
}
