/* SPDX-License-Identifier: MIT */
/* A JSON result into an output (base/outfile.h). */
#pragma once

#include <jansson.h>

/* The document and a newline to fd; indent: spaces of each level. json NULL: out of memory.
 * Return: 0 or -errno. */
int json_out(const json_t *json, int fd, unsigned indent);
