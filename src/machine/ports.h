/* SPDX-License-Identifier: MIT */
/*
 * The host's side of a console's ports: each is a Unix socket, at which one program at a time
 * is served. What the guest writes while nobody is there is lost.
 */
#pragma once

#include "dev/virtio_devices.h"
#include "machine/devices.h"
#include "machine/state.h"

struct ports;

/* Return: 0, or -errno with a line in e: a socket cannot be made. */
int ports_create(struct machine *m, const struct device_spec *d, struct ports **out,
                 struct err *e);
void ports_destroy(struct ports *p); /* NULL: nothing */
void ports_attach(struct ports *p, struct virtio_console *console);
struct dev_console ports_device(struct ports *p);
