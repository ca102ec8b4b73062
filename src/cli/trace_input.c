/* SPDX-License-Identifier: MIT */
/* Trace files as input of a command: see trace_input.h. */
#include "cli/trace_input.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/size.h"
#include "cli/cli.h"
#include "cli/option.h"

int parse_range(const char *arg, uint64_t *from, uint64_t *to, struct err *e) {
    const char *dash = strchr(arg, '-');
    char first[40];
    snprintf(first, sizeof(first), "%.*s", (int)strcspn(arg, "-"), arg);
    int rc = number_parse(first, 0, UINT64_MAX, from);
    *to = *from;
    if (!rc && dash)
        rc = number_parse(dash + 1, *from, UINT64_MAX, to);
    return rc ? err_set(e, rc, "not ADDR or FROM-TO") : 0;
}

int trace_set_gva(void *options, const char *arg, struct err *e) {
    struct trace_filter *t = options;
    t->by_gva = true;
    return parse_range(arg, &t->gva_from, &t->gva_to, e);
}

int parse_trace_time(const char *arg, uint64_t *time, struct err *e) {
    int rc = number_parse(arg, 0, UINT64_MAX, time);
    if (rc == -EINVAL && strchr(arg, 's'))
        rc = parse_time(arg, 1, time);
    return rc ? err_set(e, rc, "not a time such as 250000, 1ms, 0.5us or 2s") : 0;
}

int trace_set_from(void *options, const char *arg, struct err *e) {
    struct trace_filter *t = options;
    return parse_trace_time(arg, &t->from, e);
}

int trace_set_to(void *options, const char *arg, struct err *e) {
    struct trace_filter *t = options;
    return parse_trace_time(arg, &t->to, e);
}

int trace_set_moved(struct trace_names *names, const char *arg, struct err *e) {
    names->has_moved = true;
    return number_parse(arg, 0, UINT64_MAX, &names->moved)
               ? err_set(e, -EINVAL, "not an offset such as 0x1a000000")
               : 0;
}

int trace_input_symbols(const struct trace_names *names, struct symbols **out) {
    char text[320];
    struct err e = {text, sizeof(text)};
    *out = NULL;
    int rc = names->symbols ? symbols_load(names->symbols, out, &e) : 0;
    if (rc)
        cli_error("%s", text);
    return !rc ? CLI_OK : rc == -EINVAL ? CLI_USAGE : CLI_HOST;
}

bool trace_input_moved(const struct trace_file *f, const char *path,
                       const struct trace_names *names, uint64_t *moved) {
    const struct trace_header *h = trace_file_header(f);
    bool known = names->has_moved || h->known & TRACE_KNOWS_KERNEL_MOVED;
    *moved = names->has_moved ? names->moved : known ? h->kernel_moved : 0;
    if (names->symbols && !known)
        cli_error("%s does not tell whether its kernel was moved (KASLR): names are "
                  "wrong if it was, unless --kaslr OFFSET tells",
                  path);
    return known;
}

int trace_input_open(const char *path, struct trace_file **f) {
    char err[256];
    int rc = trace_file_open(path, f, err, sizeof(err));
    if (!rc)
        return CLI_OK;
    cli_error("%s", err);
    return rc == -EINVAL ? CLI_USAGE : rc == -EBADMSG ? CLI_DAMAGED : CLI_HOST;
}

json_t *trace_input_json(const struct trace_file *f) {
    static const char *const states[] = {[TRACE_OPEN] = "open",
                                         [TRACE_WHOLE] = "whole",
                                         [TRACE_INCOMPLETE] = "incomplete",
                                         [TRACE_DAMAGED] = "damaged"};
    const struct trace_end *end = trace_file_end(f);
    return json_pack("{s:s, s:I, s:I, s:i}", "state", states[trace_file_state(f)],
                     "records", (json_int_t)end->records, "lost", (json_int_t)end->lost,
                     "vcpus", (int)trace_file_header(f)->vcpus);
}

int trace_input_end(const struct trace_file *f, const char *path) {
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
