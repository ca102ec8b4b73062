/* SPDX-License-Identifier: MIT */
/* `penumbra monitor`, at a terminal and elsewhere. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* Return: false: the other side has ended. */
bool monitor_send(int fd, const char *buf, size_t size);
/* Return: a socket to the monitor there, or -errno with a line in e. */
int monitor_connect(const char *path, struct err *e);
/* Lines from a terminal to the monitor at fd, which is closed (monitor_edit.c). Return: CLI_OK, or
 * CLI_HOST after a line. */
int monitor_edit(int fd, bool json);
/* Ask one thing. Return: CLI_OK and the answer's result, to be freed; CLI_OK and NULL: nobody
 * listens there (any more), and why in e; CLI_HOST after a line: it was refused. */
int monitor_query(const char *path, const char *line, json_t **result, struct err *e);
