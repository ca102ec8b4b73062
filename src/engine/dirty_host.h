/* SPDX-License-Identifier: MIT */
/* Trackers that the host's kernel offers for any engine: they watch the memory itself. */
#pragma once

#include "penumbra/dirty.h"

struct host_tracker;
struct host_range; /* memory that is watched */

/* Is it one of these? */
bool host_tracker_has(enum pn_dirty_tracker tracker);
/* Return: 0, -ENOSYS: this kernel has it not, or another -errno. */
int host_tracker_open(enum pn_dirty_tracker tracker, struct host_tracker **out);
void host_tracker_close(struct host_tracker *t); /* NULL: nothing. Ranges go with it */
/* From now on every write to the range is seen, whoever writes. Return: 0 or -errno. */
int host_tracker_watch(struct host_tracker *t, void *hva, uint64_t size,
                       struct host_range **out);
/* As pn_engine_ops.dirty_harvest, of that range. */
long host_tracker_harvest(struct host_tracker *t, struct host_range *r, uint64_t *bitmap);
