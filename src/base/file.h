/* SPDX-License-Identifier: MIT */
/* Read a whole file, write all bytes. A result file is outfile.h's. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * Read all of path (a file or a pipe) into memory that the caller frees; *data is never
 * NULL on success, even for an empty file.
 * Return: 0; -EFBIG more than max bytes; -EISDIR; -ENOMEM; what open and read said; with
 * one line that names the path.
 */
int file_read(const char *path, uint64_t max, void **data, size_t *size, struct err *e);

/* Write all of it to an open file, pipe or socket. Return: 0, or -errno; -EPIPE where
 * SIGPIPE is ignored: the other end is closed. */
int file_write(int fd, const void *data, size_t size);

/* Make the empty file `to` what the first size bytes of the file or block device `from` are: by sharing
 * its blocks where the file system can (FICLONE: btrfs, xfs), else with holes for zeros. Return: 0
 * or -errno; -ENODATA: from ends before. */
int file_copy(int from, int to, uint64_t size);
