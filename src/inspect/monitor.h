/* SPDX-License-Identifier: MIT */
/*
 * The monitor: commands about a machine that stands still, in text. Who reads the lines, from
 * where, and lets the machine stand, is another's part.
 *
 * Answers are text, or JSON: one object on one line for each command,
 *   {"command": "...", "ok": true, "result": ...} or {"command": ..., "ok": false,
 *   "error": "..."}
 * where result is an object or an array, or, of a command that has only text, its lines.
 *
 * What a client sends is not trusted: any bytes are safe.
 */
#pragma once

#include "machine/history.h"
#include "machine/machine.h"
#include "trace/trace.h"

struct monitor;

struct monitor_config {
    struct machine *machine;
    struct pn_ring *rings;      /* NULL: no events are recorded */
    uint64_t events;            /* those that `events on` records */
    struct trace_writer *trace; /* who drains them; NULL: nobody */
    bool no_files;              /* commands that name a file are refused */
    const char *kernel; /* the guest's kernel, a file; NULL: none. Read when asked for */
    struct json_t *about; /* for the manifests of snapshots; NULL: nothing */
    void (*leave)(void);  /* ends a copy of this process: _exit. NULL: no live saves */
    const char *denied;   /* what to do where a file may not be touched; NULL: nothing */
    bool (*debugged)(void *opaque); /* gdb lets the guest stand; NULL: there is no gdb */
    void *opaque;
};

#define MONITOR_LINE_MAX 1024u

/* Return: NULL: out of memory. */
struct monitor *monitor_create(const struct monitor_config *cfg);
void monitor_destroy(struct monitor *mon); /* NULL: nothing */

/* A client of the monitor, with its own choices. */
struct monitor_client {
    unsigned cpu;
    bool json;
    bool migrates; /* it waits for the end of a migration */
};

/* Do what the line says, while no vCPU runs; the answer goes to out. Where a debugger looks at
 * the past, it is about the machine there. */
void monitor_command(struct monitor *mon, struct monitor_client *client, const char *line,
                     FILE *out);

/* The same of a machine in the past: what machine_history_config.answer is asked there. */
#define MONITOR_QUESTION 'm' /* how its questions begin */
void monitor_answer(struct monitor *mon, const void *question, size_t size, FILE *out);

/* What the commands so far ask for: the guest is to stand; the run is to end. */
bool monitor_stopped(const struct monitor *mon);
bool monitor_quits(const struct monitor *mon);

/* A migration has ended like that, for a client that waits for it. */
struct migrate_progress;
void monitor_migrated(const struct migrate_progress *p, bool json, FILE *out);
/* Let the guest stand, as `stop` does. */
void monitor_stop_guest(struct monitor *mon);

/* Command i of the list; NULL beyond the last. *args, *doc may be NULL. */
const char *monitor_name(unsigned i, const char **args, const char **doc);
