/* SPDX-License-Identifier: MIT */
/* A tap interface of this host's, by which a guest's network card is on whatever network the host
 * puts it on. Who runs penumbra owns the interface, or may make one. */
#pragma once

#include "base/err.h"
#include "machine/devices.h"

/* *fd reads and writes Ethernet frames, one a call, and does not block. mtu: the interface's.
 * Return: 0, or -errno with a line in e. */
int tap_open(const char *name, int *fd, unsigned *mtu, struct err *e);
