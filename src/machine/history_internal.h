/* SPDX-License-Identifier: MIT */
/* What the files of a machine's history share: history.c, who keeps it; past.c, a process that
 * stands in it. */
#pragma once

#include "machine/history.h"
#include "machine/state.h"

#define INPUT_MAX (64u << 20) /* bytes of the log; then the history begins anew */

/* What came from outside, in its order: headers, each with bytes behind it. */
struct input_log {
    uint8_t *data; /* malloced */
    size_t size, room;
    size_t at; /* in the past: what comes next */
};
struct input_head {
    uint64_t feed;  /* machine.feeds at which the machine gets it */
    uint64_t until; /* size 0: a wait was over at that time */
    uint64_t size;  /* bytes for the console, which follow */
};

/* What the keeper tells a process in the past; `inputs` bytes of the log follow, then `size`
 * bytes of a question. */
struct past_order {
    enum { PAST_COPY, PAST_GO, PAST_SEARCH, PAST_BEFORE, PAST_ASK, PAST_STOP } what;
    int32_t step; /* GO, BEFORE: a vCPU; or -1 */
    uint64_t inputs, size;
    struct machine_place until;
    struct pn_debug debug;
};
/* And what that one answers; `size` bytes of an answer follow. Nothing answers COPY but the copy,
 * when it is ready; nor STOP, which ends what runs. */
struct past_report {
    int32_t error; /* -errno, with a line */
    int32_t found;
    uint64_t size;
    struct machine_place place; /* where it is now */
    struct machine_place
        last; /* SEARCH: of the last stop; BEFORE: one step back. If found */
    struct machine_stop stop; /* GO: why it stopped; SEARCH, BEFORE: the last one */
    char line[200];
};

/* A process in the past. */
struct past {
    int fd;        /* -1: none */
    int pid;       /* of a checkpoint: a child of this process's */
    size_t inputs; /* bytes of the log that it has */
    struct machine_place place;
};

struct machine_history {
    struct machine_history_config cfg;
    bool past;        /* this process is one of those */
    uint64_t next_at; /* instructions at the next checkpoint */
    uint64_t distance;
    unsigned count;
    struct past checkpoint[MACHINE_CHECKPOINTS_MAX];
    unsigned closed; /* checkpoints that are no more, and whose processes may be */
    int closed_pid[MACHINE_CHECKPOINTS_MAX];
    struct past station; /* on the way to where somebody has been last */
    struct past shown;   /* fd -1: the present is */
    struct input_log log;
};

/* history.c. Into the log, head.size bytes with it. */
void history_note(struct machine *m, const struct input_head *head, const void *bytes);

/* past.c. This process, which has just been forked, is in the past from now on, and talks over
 * fd. copies: from one that is, too. */
void past_live(struct machine *m, int fd, bool copied) __attribute__((noreturn));

/* Exactly that many bytes; fd: one to send along, or -1. Return: 0 or -errno; -EPIPE: there is
 * nobody any more. */
int past_send(int to, const void *data, size_t size, int fd);
int past_receive(int from, void *data, size_t size, int *fd);
