/* SPDX-License-Identifier: MIT */
/*
 * The history of a machine under a repeatable engine: to go back in it, for a debugger.
 *
 * While the machine runs, checkpoints are taken: copies of this process (fork), which share
 * memory with it until one of the two writes. To go back to a place is to let a copy of the
 * checkpoint before it run up to there. All that a copy has is as it was, caches too, and what
 * came from outside since (history_input) comes again at the same place; so the copy passes
 * through the same states. The machine itself stands meanwhile. Whoever has looked at its past
 * goes on with it as if nobody had, and nothing in the past can be changed.
 *
 * All calls are of the thread that calls machine_go, and only while the machine stands.
 */
#pragma once

#include "machine/control.h"

#define MACHINE_CHECKPOINTS_MAX 256u

struct machine_history_config {
    unsigned most;     /* checkpoints at most, 2 to MACHINE_CHECKPOINTS_MAX. Of more every
                          second one goes, and the distance doubles */
    uint64_t distance; /* instructions between two, to begin with */
    /* Answer a question about the machine where it is in the past. Called in another process,
     * which has copies of all that there was when its checkpoint was taken, and no files or
     * sockets of this one's. May be NULL. */
    void (*answer)(void *opaque, const void *question, size_t size, FILE *out);
    /* End a process in the past, at once and without handlers: _exit. */
    void (*leave)(void);
    /* Polled before a copy runs and about every 50 ms while it does: is it to stop? May be
     * NULL. */
    bool (*cancelled)(void *opaque);
    void *opaque;
};

/* Before the first machine_go: keep a history from then on. Return: 0, or -EINVAL with a line
 * in e: not with this configuration of the machine. */
int machine_history_begin(struct machine *m, const struct machine_history_config *cfg,
                          struct err *e);
bool machine_history_kept(const struct machine *m);
/* Somebody has changed the machine: what comes next does not follow from what was. Its history
 * begins anew. No history: nothing. */
void machine_history_restart(struct machine *m);

/* Is this one of the processes that stand in the past? */
bool machine_history_replays(const struct machine *m);

/* Does a debugger look at the past? */
bool machine_in_past(const struct machine *m);
/* Where: the machine's place now, or that in the past. */
struct machine_place machine_place_shown(struct machine *m);
/* Back to the present. In the present: nothing. */
void machine_leave_past(struct machine *m);

/*
 * Go somewhere. *stop is as machine_go's, and of a place in the past unless machine_in_past
 * says otherwise; OLDEST: there was nothing to stop at up to the oldest checkpoint, where it is
 * now; NEWEST: the same with the present; ASKED: cancelled, and it is where it was. Breakpoints
 * and watchpoints are the machine's. Return: 0, or -errno with a line in e; then it is where
 * it was, or in the present.
 */
/* One instruction of the vCPU back, or the delivery of one event; WATCH where that made a watched
 * access, else STEP. */
int machine_back_step(struct machine *m, unsigned cpu, struct machine_stop *stop,
                      struct err *e);
/* Back to the last breakpoint, or to before the last access that a watchpoint is for. */
int machine_back(struct machine *m, struct machine_stop *stop, struct err *e);
/* In the past only: forward, as machine_go. cpu: the vCPU that is to go one step, or -1. */
int machine_past_go(struct machine *m, int cpu, struct machine_stop *stop, struct err *e);

/* In the past only: config.answer's answer, which is the caller's to free. Return: 0 or
 * -errno. */
int machine_past_ask(struct machine *m, const void *question, size_t size, char **answer,
                     size_t *answer_size);
