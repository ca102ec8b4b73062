/* SPDX-License-Identifier: MIT */
/*
 * An image in QEMU's format qcow2, by a qemu-nbd of its own that libnbd starts and talks to.
 *
 * Invariants
 * 1. qemu-nbd ends when the image is closed, or when this process does.
 * 2. The files that an image stands on are looked at before qemu-nbd sees it: a chain that
 *    loops, or leads to something that is no file, is refused.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct disk_image;

/* Do these first 4 bytes of a file say that it is one? */
bool disk_image_is(const void *magic);
/* Each file that an image stands on, itself the first. Return: as disk_image_open. */
int disk_image_chain(const char *path, void (*each)(void *opaque, const char *path),
                     void *opaque, struct err *e);
/* Return: 0, or -errno with a line in e. *size: of the disk, in bytes. */
int disk_image_open(const char *path, bool writes, struct disk_image **out,
                    uint64_t *size, struct err *e);
void disk_image_close(struct disk_image *i); /* NULL: nothing */
/* Return: 0 or -errno. discard: reads as zeros from then on. */
int disk_image_read(struct disk_image *i, uint64_t at, void *buf, size_t size);
int disk_image_write(struct disk_image *i, uint64_t at, const void *buf, size_t size);
int disk_image_flush(struct disk_image *i);
int disk_image_discard(struct disk_image *i, uint64_t at, uint64_t size);
