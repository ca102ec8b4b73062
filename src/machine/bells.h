/* SPDX-License-Identifier: MIT */
/*
 * Bells of devices (dev_host.put_bell) under an engine that takes the guest's writes to them from
 * the bus (pn_engine_ops.bell): a thread waits for those writes, and rings under m->lock.
 */
#pragma once

#include "machine/state.h"

/* For dev_host. */
void bells_put(void *machine, struct dev_bell *bell, pn_gpa at);
/* vCPUs are about to run in threads of their own, under m->lock; or none of them does any more: what
 * has rung is done, not under m->lock. */
void bells_begin(struct machine *m);
void bells_stop(struct machine *m);
/* The engine is about to be another; it is. No vCPU runs. */
void bells_leave(struct machine *m);
void bells_again(struct machine *m);
/* After bells_stop, before the devices go. */
void bells_end(struct machine *m);
