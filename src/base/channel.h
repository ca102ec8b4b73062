/* SPDX-License-Identifier: MIT */
/*
 * A socket that one client at a time talks to: of a debugger, of a monitor. Whatever a
 * client sends, and whenever it leaves, the channel stays and the next one can come.
 *
 * Invariants
 * 1. A Unix socket is the owner's alone (mode 0600); TCP is of this host (127.0.0.1).
 * 2. No call waits for a client but channel_write, for at most CHANNEL_WRITE_NS.
 * Locking: none; one thread uses a channel.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define CHANNEL_WRITE_NS 2000000000u

struct channel;

/* where: a TCP port (also as "tcp::PORT"), or a path. A socket there that nobody listens
 * at is replaced; channel_close removes it. Return: 0 and *out, or -errno with a line. */
int channel_open(const char *where, struct channel **out, struct err *e);
void channel_close(struct channel *c); /* NULL: nothing */

/* What to poll for input: of the client, or, without one, of those who come. */
int channel_fd(const struct channel *c);
/* Is there anything for channel_take? */
bool channel_ready(const struct channel *c);

enum channel_event {
    CHANNEL_NONE, /* nothing now */
    CHANNEL_CAME, /* a client is here */
    CHANNEL_DATA, /* *got bytes, at least one */
    CHANNEL_LEFT  /* the client is gone */
};
/* The next thing that has happened. size: at least 1. Never blocks. */
enum channel_event channel_take(struct channel *c, void *buf, size_t size, size_t *got);

/* Return: 0; -ENOTCONN: there is no client, or none any more, or it does not take it. */
int channel_write(struct channel *c, const void *buf, size_t size);
/* Send the client away. */
void channel_drop(struct channel *c);
