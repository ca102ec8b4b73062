/* SPDX-License-Identifier: MIT */
/* `penumbra monitor`, at a terminal and elsewhere. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Return: false: the other side has ended. */
bool monitor_send(int fd, const char *buf, size_t size);
/* Lines from a terminal to the monitor at fd, which is closed (monitor_edit.c). Return: CLI_OK, or
 * CLI_HOST after a line. */
int monitor_edit(int fd, bool json);
