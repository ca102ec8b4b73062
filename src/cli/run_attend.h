/* SPDX-License-Identifier: MIT */
/* Who a guest stands for while `penumbra run` runs it: gdb, a monitor's client, the monitor at
 * the console. */
#pragma once

#include "cli/run.h"

struct run_attend;

/* Listen where the options say. Return: CLI_OK, and *out, which is NULL where they ask for
 * nobody; CLI_HOST or CLI_USAGE after one line on stderr. */
int run_attend_open(const struct run_options *o, struct run_attend **out);
void run_attend_close(struct run_attend *a); /* NULL: nothing */

/* machine_config.attend and .idle, with a from run_attend_open. */
bool run_attend_asked(struct run_attend *a);
void run_attend_idle(struct run_attend *a, uint64_t ns, struct pollfd *also,
                     unsigned count);

/* As machine_run, with the guest standing whenever somebody wants it to. */
int run_attend_go(struct run_attend *a, struct machine *m, struct machine_result *result,
                  char *err, size_t err_size);
/* Tell them of the end, and the process's exit code. */
void run_attend_ended(struct run_attend *a, int code);
