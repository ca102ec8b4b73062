/* SPDX-License-Identifier: MIT */
/*
 * A stub for gdb's remote protocol: gdb looks at a machine that stands (machine/control.h),
 * changes it, and says where it is to stop. vCPU n is thread n + 1; all of them stop and go
 * together. Memory is by linear address, of the vCPU that gdb has chosen.
 *
 * Nothing that a client sends, or leaves out, harms the guest but what gdb may ask for; one
 * that leaves takes its breakpoints with it, and the guest runs on.
 */
#pragma once

#include "base/channel.h"
#include "machine/history.h"

struct gdb;

struct gdb_config {
    struct machine *machine;
    struct channel *channel; /* stays the caller's */
    bool stopped;            /* the guest stands until the first client lets it go */
    /* gdb's `monitor LINE`: what it prints goes to out. NULL: there are no commands. */
    void (*command)(void *opaque, const char *line, FILE *out);
    void *opaque;
};

/* Return: 0, or -ENOMEM. */
int gdb_create(const struct gdb_config *cfg, struct gdb **out);
void gdb_destroy(struct gdb *g); /* NULL: nothing */

/* The machine stands, for this reason: tell the client that waits for it. */
void gdb_stopped(struct gdb *g, const struct machine_stop *stop);
/* Answer what has come from the client. The machine stands. */
void gdb_serve(struct gdb *g);
/* Is the machine to stand, for the client's sake? */
bool gdb_holds(const struct gdb *g);
/* What machine_history_config asks for, where a history is kept: an answer for the client, in a
 * process in the past; and, while one runs, whether the client does not want it any more. */
#define GDB_QUESTION 'g' /* how its questions begin */
void gdb_answer(struct gdb *g, const void *question, size_t size, FILE *out);
bool gdb_cancels(struct gdb *g);
/* The guest has ended; code: of the process. */
void gdb_ended(struct gdb *g, unsigned code);
