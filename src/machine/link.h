/* SPDX-License-Identifier: MIT */
/*
 * What a machine has outside: sockets of devices, from which something may come at any time.
 * All of them are waited for at once. Calls are of who may touch devices.
 */
#pragma once

#include <poll.h>

#include "machine/state.h"

#define LINK_FDS_MAX 256

/* Part of what has the sockets. */
struct link {
    /* Put what is waited for into fd, at most `room`; *ns: how long at most. Return: how
     * many. */
    int (*fill)(void *opaque, struct pollfd *fd, int room, uint64_t *ns);
    /* The same descriptors, with what poll said of them, or with nothing. */
    void (*ready)(void *opaque, const struct pollfd *fd, int count);
    void *opaque;
    struct link *next; /* these two are link.c's */
    int count;
};

void link_add(struct machine *m, struct link *l);
void link_remove(struct machine *m, struct link *l);
/* Is there any? */
bool machine_has_links(const struct machine *m);
/* Take what has come, and wait for it at most ns. Return: whether something had come. */
bool machine_poll_links(struct machine *m, uint64_t ns);
