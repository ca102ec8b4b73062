/* SPDX-License-Identifier: MIT */
/*
 * A network of the guest's own, by libslirp: 10.0.2.0/24 with a DHCP server, the host at 10.0.2.2, a
 * name server at 10.0.2.3 and the guest at 10.0.2.15. Without `open` nothing leaves it; ports of
 * this host that are forwarded lead into it all the same. Or a tap interface of this host's (tap.h).
 */
#pragma once

#include "dev/virtio_devices.h"
#include "machine/devices.h"
#include "machine/state.h"

struct net;
struct virtio_net;

/* Return: 0, or -errno with a line in e: a port is in use. */
int net_create(struct machine *m, const struct net_config *c, struct net **out,
               struct err *e);
void net_destroy(struct net *n); /* NULL: nothing */
void net_attach(struct net *n, struct virtio_net *card);
struct dev_net net_device(struct net *n);
