/* SPDX-License-Identifier: MIT */
/*
 * Faults told in words, one after another: who made the access, what the guest's tables said,
 * what the MMU did, what it came to, and why. It adds nothing to what the events say: what was
 * not recorded is not told.
 *
 * No locks: one thread.
 */
#pragma once

#include <stdio.h>

#include "inspect/faults.h"

struct fault_story;
/* Tell the first `most` faults into out. Return: NULL: out of memory. */
struct fault_story *fault_story_create(uint64_t most, FILE *out);
void fault_story_destroy(struct fault_story *s); /* NULL: nothing */
/* The next record of the file, before faults_add has it. */
void fault_story_event(struct fault_story *s, const struct trace_file *file,
                       const struct pn_event_rec *rec);
/* faults_config.each, with the story as its opaque. */
void fault_story_fault(void *opaque, const struct faults *f,
                       const struct pn_event_rec *rec, const uint64_t key[FAULT_KEYS]);
/* Have all been told that there is room for? */
bool fault_story_done(const struct fault_story *s);
uint64_t fault_story_told(const struct fault_story *s);
