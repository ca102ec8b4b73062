/* SPDX-License-Identifier: MIT */
/*
 * Libraries that few runs need, opened by who needs them: linked, GnuTLS and libslirp with what they
 * stand on cost each start 1.7 ms and 3.4 MiB.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"

struct late_call {
    const char *name;
    void *call; /* where its address goes: a pointer to a function */
};

/* Once: what has been found is found. soname: as the linker would have it.
 * Return: 0, or -ENOENT with a line in e. */
int late_open(const char *soname, const struct late_call *calls, size_t count,
              struct err *e);
