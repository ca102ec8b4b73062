/* SPDX-License-Identifier: MIT */
/* What the commands that read a trace share: which part of it, how to open it, and how it
 * ends. Their options begin with a struct trace_filter, and their rows include
 * cli/trace_filter.inc. */
#pragma once

#include "base/err.h"
#include "trace/trace.h"

/* The option_row.set of --gva, --from and --to. */
int trace_set_gva(void *options, const char *arg, struct err *e);
int trace_set_from(void *options, const char *arg, struct err *e);
int trace_set_to(void *options, const char *arg, struct err *e);
/* "A" or "A-B", both included. Return: 0, or -errno with a line in e. */
int parse_range(const char *arg, uint64_t *from, uint64_t *to, struct err *e);

/* Return: CLI_OK and the file; else the exit code, after a line. */
int trace_input_open(const char *path, struct trace_file **f);
/* How the file ended, in a line where it is not whole. Return: the exit code. */
int trace_input_end(const struct trace_file *f, const char *path);
