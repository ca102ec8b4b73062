/* SPDX-License-Identifier: MIT */
/* What the files of the gdb stub share. */
#pragma once

#include "inspect/gdb.h"
#include "inspect/gdb_packet.h"

struct gdb_break {
    uint64_t addr;
    bool hard; /* set by Z1, not Z0 */
};

struct gdb {
    struct gdb_config cfg;
    struct machine *m;
    struct gdb_reader in;
    bool waits;   /* -S: nobody has let the guest go yet */
    bool here;    /* a client is */
    bool running; /* and waits for the guest to stop */
    bool no_ack, says_break, physical;
    struct machine_stop last; /* why the guest stands, or stood last */
    unsigned cpu;             /* whose registers and memory are meant: Hg */
    int go_cpu;               /* whom `s` steps: Hc; -1: the one that stopped */
    struct gdb_break breaks[PN_BREAKS_MAX];
    unsigned break_count;
    struct pn_cpu_state state; /* for one command */
    char out[GDB_PACKET_MAX];  /* the answer */
    size_t out_size;
    bool silent;      /* there is none now */
    bool interrupted; /* by the client, while it waited for something in the past */
    char frame[GDB_FRAME_MAX];
    size_t frame_size;
};

/* ---- gdb.c: the answer ---- */

void gdb_put(struct gdb *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void gdb_put_hex(struct gdb *g, const void *bytes, size_t size);
/* Send what was put, as a packet of its own. */
void gdb_send(struct gdb *g);
/* "T05thread:1;..." for g->last. signal: as gdb numbers them. */
void gdb_put_stop(struct gdb *g, unsigned signal);
/* The machine stands there: the client, which waits, is told. */
void gdb_tell_stop(struct gdb *g, const struct machine_stop *stop);
/* The client goes: without breakpoints, and the guest runs. */
void gdb_forget(struct gdb *g);

/* ---- gdb_command.c ---- */

/* Do what a packet says, and put the answer. */
void gdb_command(struct gdb *g, const char *data, size_t size);
