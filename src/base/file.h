/* SPDX-License-Identifier: MIT */
/* Read a whole file. Writing one is outfile.h's. */
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
