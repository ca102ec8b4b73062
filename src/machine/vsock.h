/* SPDX-License-Identifier: MIT */
/*
 * The host's side of a guest's vsock, by Unix sockets as Firecracker has them. Who connects to
 * PATH and writes "CONNECT PORT\n" is connected to that port of the guest's, and reads "OK PORT\n"
 * first. A guest that connects to port PORT of CID 2 is connected to PATH_PORT.
 *
 * Invariants
 * 1. At most VSOCK_CONNECTIONS_MAX connections, each with VSOCK_ROOM bytes on their way to this
 *    host: a guest that sends more than it was told it may loses that connection.
 * 2. No more is sent to the guest than it has said it has room for.
 */
#pragma once

#include "dev/virtio_devices.h"
#include "machine/state.h"

#define VSOCK_CONNECTIONS_MAX 64u
#define VSOCK_ROOM            (256u << 10)
#define VSOCK_GUEST_CID       3u

struct vsock;

/* Return: 0, or -errno with a line in e: the socket cannot be made. */
int vsock_create(struct machine *m, const char *path, struct vsock **out, struct err *e);
void vsock_destroy(struct vsock *k); /* NULL: nothing */
void vsock_attach(struct vsock *k, struct virtio_vsock *device);
struct dev_vsock vsock_device(struct vsock *k);
