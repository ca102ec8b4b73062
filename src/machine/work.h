/* SPDX-License-Identifier: MIT */
/*
 * Work beside the machine, under the host's time: jobs of devices run on threads of their own,
 * those that are given any order beside each other, all others one after another as they were
 * given. What follows them is done under m->lock where vCPUs are threads, and else between two
 * turns.
 */
#pragma once

#include "machine/state.h"

/* For dev_host. */
bool work_real_time(void *machine);
void work_offload(void *machine, struct dev_job *job);
/* Is a job on its way? */
bool work_is_out(struct machine *m);
/* With machine_in_parallel, where no vCPU runs: into the counters. */
void work_count(struct machine *m);
/* Engines that are not threaded: what follows the jobs that have ended. */
void work_collect(struct machine *m);
/* Wait at most ns for a job to end. */
void work_wait(struct machine *m, uint64_t ns);
/* Wait until no job is on its way. Not under m->lock. */
void work_drain(struct machine *m);
/* The same, and no more of them. */
void work_end(struct machine *m);
