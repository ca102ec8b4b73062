/* SPDX-License-Identifier: MIT */
/*
 * All that an MMU holds of one vCPU's root, as JSON of schema penumbra-dump-1
 * (bench/FORMATS.md): memslots; what the guest's tables map; what ours map (section `shadow`
 * by gva, `second` by gpa); every shadow page or second-level table. Ranges are merged and
 * ascend. Host memory is named as memslot and offset, so that dumps of two runs compare.
 */
#pragma once

#include <jansson.h>

#include "inspect/view.h"

/* Return: a new reference; NULL: out of memory. */
json_t *dump_json(const struct view *v);
/* A dump's file. Return: 0 and a new reference; -EINVAL: it is none; what file_read said;
 * with a line in e. */
int dump_load(const char *path, json_t **out, struct err *e);
int dump_parse(const void *data, size_t size, const char *name, json_t **out,
               struct err *e);
/* One line each, in order. */
void dump_print(const json_t *dump, FILE *out);

/* What differs, as an array of {section, a, b}: an object of each dump, or null where only
 * one has it. A range is cut to what differs of it; ages and counts of writes are no
 * difference. Return: a new reference; NULL: out of memory. */
json_t *dump_diff(const json_t *a, const json_t *b);
/* Lines of dump_print behind "-" (of a) and "+" (of b). */
void dump_diff_print(const json_t *diff, FILE *out);
