/* SPDX-License-Identifier: MIT */
/*
 * A point that a machine goes back to, again and again: for fuzzers and benchmarks. It is kept
 * in memory, and going back writes the pages alone that were written since.
 *
 * The machine needs a dirty log, of any tracker, and an engine and clock whose time can be set
 * (the software CPU's under --clock virtual): the guest's time goes back, too, and what it
 * does from there is what it did before. A trace, whose times only grow, cannot be of it.
 */
#pragma once

#include "machine/control.h"

struct machine_point;

struct machine_reset {
    uint64_t pages;   /* written back */
    uint64_t host_ns; /* all of it */
};

/* Keep the machine as it is now, while it stands (control.h). Memory: what the guest's RAM
 * holds besides zeros. Return: 0; -EINVAL: no dirty log, a trace, or a guest that has ended;
 * -ENOTSUP: an engine or a clock whose time only goes on; other -errno; with a line in e. */
int machine_point_take(struct machine *m, struct machine_point **out, struct err *e);
/* Go back, while it stands, or after it has ended and before machine_finish. The engine is
 * another one after a handover: then, and where the window has come or gone, -ENOTSUP. A failure
 * of the host's, with a line in e, leaves a machine that may only be destroyed. Return: 0 or
 * -errno. */
int machine_point_reset(struct machine_point *p, struct machine_reset *done,
                        struct err *e);
/* NULL: nothing. Those that are left go with the machine. */
void machine_point_drop(struct machine_point *p);
