/* SPDX-License-Identifier: MIT */
/*
 * TLB models and cost profiles from JSON files (bench/FORMATS.md). Those in
 * bench/profiles are part of the program and known by name.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"
#include "penumbra/model.h"

#define PROFILE_COST_DEFAULT "kvm"
#define PROFILE_SCHEMA_TLB   "penumbra-tlb-1"
#define PROFILE_SCHEMA_COST  "penumbra-cost-1"

/*
 * `which` is the name of a shipped profile ("skylake"), or the path of a file: anything
 * with a '/' or ending in ".json".
 * Return: 0 and *out; -ENOENT no such name or file; -EINVAL a broken profile; others as
 * file_read; with one line in e that names the profile, the member and what is allowed.
 */
int profile_tlb(const char *which, struct pn_tlb_model *out, struct err *e);
int profile_cost(const char *which, struct pn_cost_profile *out, struct err *e);

/* As a result keeps it (profile_json.c): { name, xxh3 of the content, profile }. profile is
 * one that penumbra reads, with all that its file may leave out. */
json_t *profile_tlb_json(const struct pn_tlb_model *m);
json_t *profile_cost_json(const struct pn_cost_profile *p);
/* Is that such a record, or null? */
bool profile_record_good(const json_t *record);
/* Do two say the same, whatever their names? Of two that are null: yes. */
bool profile_same(const json_t *a, const json_t *b);

/* One line per shipped profile: name and what it is of. */
void profile_list(FILE *out);
