/* SPDX-License-Identifier: MIT */
/*
 * A session with gdb: the client comes, packets come, answers go, the client leaves.
 *
 * Invariants
 * 1. `running` is set while the client waits for a stop: it is told of the next one, once.
 * 2. One call of gdb_serve takes a bounded number of bytes, whatever the client sends.
 */
#include "inspect/gdb.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/gdb_internal.h"

#define TAKES_MAX   64u /* of up to CHUNK bytes in one gdb_serve */
#define CHUNK       4096u
#define SIGNAL_INT  2u /* as gdb numbers them */
#define SIGNAL_TRAP 5u

/* ---- Answers ---- */

void gdb_put(struct gdb *g, const char *fmt, ...) {
    va_list ap;
    size_t room = sizeof(g->out) - g->out_size;
    va_start(ap, fmt);
    int n = vsnprintf(g->out + g->out_size, room, fmt, ap);
    va_end(ap);
    if (n > 0)
        g->out_size += (size_t)n < room ? (size_t)n : room - 1;
}

void gdb_put_hex(struct gdb *g, const void *bytes, size_t size) {
    size_t room = (sizeof(g->out) - g->out_size) / 2;
    g->out_size += gdb_hex(bytes, size < room ? size : room, g->out + g->out_size);
}

void gdb_send(struct gdb *g) {
    g->frame_size = gdb_frame(g->out, g->out_size, g->frame);
    g->out_size = 0;
    channel_write(g->cfg.channel, g->frame, g->frame_size);
}

void gdb_put_stop(struct gdb *g, unsigned signal) {
    static const char *const watch[] = {[PN_WATCH_WRITE] = "watch",
                                        [PN_WATCH_READ] = "rwatch",
                                        [PN_WATCH_BOTH] = "awatch"};
    const struct machine_stop *s = &g->last;
    gdb_put(g, "T%02xthread:%x;", signal, s->cpu + 1);
    if (signal != SIGNAL_TRAP)
        return;
    if (s->why == MACHINE_OLDEST || s->why == MACHINE_NEWEST)
        gdb_put(g, "replaylog:%s;", s->why == MACHINE_OLDEST ? "begin" : "end");
    if (s->why == MACHINE_WATCH)
        gdb_put(g, "%s:%llx;", watch[s->access], (unsigned long long)s->gva);
    if (s->why != MACHINE_BREAK || !g->says_break)
        return;
    for (unsigned i = 0; i < g->break_count; i++)
        if (g->breaks[i].addr == s->gva) {
            gdb_put(g, "%s:;", g->breaks[i].hard ? "hwbreak" : "swbreak");
            return;
        }
}

static void tell_stop(struct gdb *g, unsigned signal) {
    g->running = false;
    g->cpu = g->last.cpu;
    g->out_size = 0;
    gdb_put_stop(g, signal);
    gdb_send(g);
}

/* ---- A client's coming and going ---- */

static void welcome(struct gdb *g) {
    machine_leave_past(g->m);
    memset(&g->in, 0, sizeof(g->in));
    g->here = true;
    g->running = g->no_ack = g->says_break = g->physical = false;
    g->last.why = MACHINE_ASKED;
    g->cpu = g->last.cpu;
    g->go_cpu = -1;
    g->frame_size = g->out_size = 0;
}

void gdb_forget(struct gdb *g) {
    machine_leave_past(g->m);
    g->here = g->running = g->waits = false;
    g->break_count = 0;
    machine_break_none(g->m);
}

/* ---- Input ---- */

static void ack(struct gdb *g, char c) {
    if (!g->no_ack)
        channel_write(g->cfg.channel, &c, 1);
}

static void take_packet(struct gdb *g) {
    ack(g, '+');
    g->out_size = 0;
    g->silent = false;
    gdb_command(g, g->in.data, g->in.size);
    if (!g->silent)
        gdb_send(g);
}

static void take_byte(struct gdb *g, uint8_t byte) {
    switch (gdb_feed(&g->in, byte)) {
    case GDB_PACKET:
        take_packet(g);
        break;
    case GDB_DAMAGED:
        ack(g, '-');
        break;
    case GDB_NAK:
        if (!g->no_ack)
            channel_write(g->cfg.channel, g->frame, g->frame_size);
        break;
    case GDB_INTERRUPT:
        if (g->running)
            tell_stop(g, SIGNAL_INT);
        break;
    case GDB_ACK:
    case GDB_NOTHING:
        break;
    }
}

void gdb_serve(struct gdb *g) {
    uint8_t buf[CHUNK];
    size_t got;
    for (unsigned i = 0; i < TAKES_MAX; i++) {
        switch (channel_take(g->cfg.channel, buf, sizeof(buf), &got)) {
        case CHANNEL_NONE:
            return;
        case CHANNEL_CAME:
            welcome(g);
            break;
        case CHANNEL_LEFT:
            gdb_forget(g);
            break;
        case CHANNEL_DATA:
            for (size_t n = 0; n < got && g->here; n++)
                take_byte(g, buf[n]);
            break;
        }
    }
}

void gdb_tell_stop(struct gdb *g, const struct machine_stop *stop) {
    g->last = *stop;
    tell_stop(g, stop->why == MACHINE_ASKED ? SIGNAL_INT : SIGNAL_TRAP);
}

void gdb_stopped(struct gdb *g, const struct machine_stop *stop) {
    g->last = *stop;
    if (g->here && g->running && stop->why != MACHINE_ASKED)
        tell_stop(g, SIGNAL_TRAP);
}

/* A client that waits sends nothing but Ctrl-C; what else it sends is not taken. */
bool gdb_cancels(struct gdb *g) {
    uint8_t byte;
    size_t got;
    while (!g->interrupted) {
        switch (channel_take(g->cfg.channel, &byte, 1, &got)) {
        case CHANNEL_NONE:
            return false;
        case CHANNEL_DATA:
            g->interrupted = gdb_feed(&g->in, byte) == GDB_INTERRUPT;
            break;
        case CHANNEL_CAME:
        case CHANNEL_LEFT:
            g->interrupted = true;
            g->here = false;
        }
    }
    return true;
}

bool gdb_holds(const struct gdb *g) {
    return g->here ? !g->running : g->waits;
}

void gdb_ended(struct gdb *g, unsigned code) {
    if (!g->here)
        return;
    g->out_size = 0;
    gdb_put(g, "W%02x", code & 0xff);
    gdb_send(g);
    channel_drop(g->cfg.channel);
    gdb_forget(g);
}

/* ---- Life ---- */

int gdb_create(const struct gdb_config *cfg, struct gdb **out) {
    struct gdb *g = calloc(1, sizeof(*g));
    if (!g)
        return -ENOMEM;
    g->cfg = *cfg;
    g->m = cfg->machine;
    g->waits = cfg->stopped;
    *out = g;
    return 0;
}

void gdb_destroy(struct gdb *g) {
    free(g);
}
