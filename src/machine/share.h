/* SPDX-License-Identifier: MIT */
/*
 * A folder of this host's that the guest mounts: a server of 9P2000.L (the Linux kernel's
 * Documentation/filesystems/9p.rst; the protocol's diod description).
 *
 * Invariants
 * 1. Nothing outside the folder is reached: a name is one component and not "..", and is looked
 *    up with openat2's RESOLVE_BENEATH, RESOLVE_NO_XDEV and O_NOFOLLOW. A symbolic link is
 *    the guest's to follow, within what it sees.
 * 2. Only regular files and folders are opened. No file gets set-user-ID or set-group-ID, and
 *    no device is made.
 * 3. A guest has at most SHARE_FIDS_MAX descriptors of ours.
 */
#pragma once

#include "base/err.h"
#include "dev/virtio_devices.h"

#define SHARE_FIDS_MAX 400u

struct share;

/* Return: 0, or -errno with a line in e: no such folder. */
int share_open(const char *path, bool read_only, struct share **out, struct err *e);
void share_close(struct share *s); /* NULL: nothing */
struct dev_9p share_server(struct share *s);
