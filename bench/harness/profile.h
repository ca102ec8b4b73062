/* SPDX-License-Identifier: MIT */
/*
 * TLB models and cost profiles from JSON files (bench/FORMATS.md). Those in
 * bench/profiles are part of the program and known by name.
 */
#pragma once

#include <stdio.h>

#include "base/err.h"
#include "penumbra/model.h"

#define PROFILE_COST_DEFAULT "kvm"

/*
 * `which` is the name of a shipped profile ("skylake"), or the path of a file: anything
 * with a '/' or ending in ".json".
 * Return: 0 and *out; -ENOENT no such name or file; -EINVAL a broken profile; others as
 * file_read; with one line in e that names the profile, the member and what is allowed.
 */
int profile_tlb(const char *which, struct pn_tlb_model *out, struct err *e);
int profile_cost(const char *which, struct pn_cost_profile *out, struct err *e);

/* One line per shipped profile: name and what it is of. */
void profile_list(FILE *out);
