/* SPDX-License-Identifier: MIT */
/*
 * A disk image on the host: a raw file or a block device, by file descriptor, or one in
 * qcow2 (disk_image.h).
 *
 * Invariants
 * 1. An image that is written is nobody else's meanwhile; one that is only read is written by
 *    nobody (locks of the host's, which QEMU heeds, too).
 * 2. With `snapshot` nothing is written to the image: what the guest writes is in memory, and
 *    is lost in the end.
 * 3. A file is read as qcow2 only where the caller says so: what is on a raw disk was written by
 *    a guest, and qcow2 may name other files.
 */
#pragma once

#include "base/err.h"
#include "dev/virtio_devices.h"

struct disk;

struct disk_config {
    const char *path;
    bool read_only, snapshot, qcow2, pause;
};

/* Return: 0; -EINVAL: no image that can be a disk; other -errno; with a line in e that begins
 * with the path. */
int disk_open(const struct disk_config *c, struct disk **out, struct err *e);
void disk_close(struct disk *d); /* NULL: nothing */
struct dev_disk disk_device(struct disk *d);
/* Is it this file, by whatever name? */
bool disk_is(const struct disk *d, const char *path);
/* What is on it into the empty file `to`. Return: 0; -EINVAL: a disk in qcow2 or one whose writes are in
 * memory; other -errno. */
int disk_copy(const struct disk *d, int to);
/* XXH3-64 of what the guest would read: of each block of 64 KiB that is not all zeros, with its
 * number. Return: 0 or -errno. */
int disk_digest(struct disk *d, uint64_t *out);
