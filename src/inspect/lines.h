/* SPDX-License-Identifier: MIT */
/*
 * Source lines of a guest's code, from the debug information (DWARF) of an ELF that belongs to
 * the guest; libdw reads it. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct lines;

/* The file alone: nothing that it refers to is looked for. Return: 0, or -errno with a line in e:
 * -EINVAL: no ELF, or one without debug information. */
int lines_open(const char *path, struct lines **out, struct err *e);
void lines_close(struct lines *l); /* NULL: nothing */
/* "FILE:LINE" of the instruction, the file without its folder. Return: false: not known. */
bool lines_at(struct lines *l, uint64_t address, char *buf, size_t size);
