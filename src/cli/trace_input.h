/* SPDX-License-Identifier: MIT */
/* What the commands that read a trace share: which part of it, how to open it, and how it
 * ends. Their options begin with a struct trace_filter, and their rows include
 * cli/trace_filter.inc. */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "inspect/symbols.h"
#include "trace/trace.h"

/* What --symbols and --kaslr say: rows of cli/trace_names.inc. */
struct trace_names {
    const char *symbols; /* a file; NULL: none */
    bool has_moved;
    uint64_t moved;
};

#define TRACE_TO                                                                         \
    { "to", 0, "TIME", "Up to this time", .kind = OPTION_CALL, .set = trace_set_to }

/* The option_row.set of --gva, --from and --to. */
int trace_set_gva(void *options, const char *arg, struct err *e);
int trace_set_from(void *options, const char *arg, struct err *e);
int trace_set_to(void *options, const char *arg, struct err *e);
/* A time of a trace or a recording: ns, or with a unit. A guest instruction takes one ns of the
 * virtual clock; under kvm records have ns. Return: 0, or -errno with a line in e. */
int parse_trace_time(const char *arg, uint64_t *time, struct err *e);
/* "A" or "A-B", both included. Return: 0, or -errno with a line in e. */
int parse_range(const char *arg, uint64_t *from, uint64_t *to, struct err *e);

/* What the option_row.set of --kaslr does. */
int trace_set_moved(struct trace_names *names, const char *arg, struct err *e);

/* Return: CLI_OK and the file; else the exit code, after a line. */
int trace_input_open(const char *path, struct trace_file **f);
/* Return: CLI_OK, and the symbols or NULL where none are asked for; else as above. */
int trace_input_symbols(const struct trace_names *names, struct symbols **out);
/* How far the guest's kernel was moved, as told or as the trace has it; a line where names
 * are asked for and nobody tells. Return: whether it is known; else *moved is 0. */
bool trace_input_moved(const struct trace_file *f, const char *path,
                       const struct trace_names *names, uint64_t *moved);
/* The file's state and sizes, as `trace` in JSON results. */
json_t *trace_input_json(const struct trace_file *f);
/* How the file ended, in a line where it is not whole. Return: the exit code. */
int trace_input_end(const struct trace_file *f, const char *path);
