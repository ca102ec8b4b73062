/* SPDX-License-Identifier: MIT */
/* `penumbra trace --to FORMAT -o OUT`: a trace for other programs. */
#pragma once

#include "cli/trace_input.h"

struct trace_export {
    const char *to; /* a format's name; NULL: none */
    const char *out;
    struct trace_names names;
};

/* The formats: those of trace/export.h, and folded. Return: NULL beyond the last. */
const char *trace_format_name(unsigned i);
void trace_format_list(FILE *out);
/* Does that format make a folder? */
bool trace_format_folder(const char *to);
/* Has the format functions, which --symbols names? */
bool trace_format_names(const char *to);

/* Write the events of the file that pass the filter. path: the trace's. Return: the exit
 * code, after a line where it is not CLI_OK. */
int trace_export_file(struct trace_file *f, const struct trace_filter *filter,
                      const char *path, const struct trace_export *how);
