/* SPDX-License-Identifier: MIT */
/*
 * Whose faults a run records: before the record of a fault comes an event `task` where another
 * process runs than at the vCPU's last fault, and an event `region` where the address belongs
 * to something else (penumbra/events.inc). The guest is a Linux kernel (linux.h); it is only
 * read, so it runs as it does without.
 *
 * For engines that fill the rings while the guest stands at the fault: the software CPU.
 */
#pragma once

#include "base/err.h"
#include "machine/machine.h"

struct task_watch;
/* kernel: its file. rings: the machine's. Return: 0; what linux_image_load said, with a line. */
int task_watch_create(struct machine *m, const char *kernel, struct pn_ring *rings,
                      struct task_watch **out, struct err *e);
/* Before the machine goes. NULL: nothing. */
void task_watch_destroy(struct task_watch *w);
