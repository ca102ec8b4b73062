/* SPDX-License-Identifier: MIT */
/*
 * Host failures: 0 or -errno, and one line of text in a buffer of the caller's.
 * The line has no newline, no program name and no trailing full stop.
 */
#pragma once

#include <stddef.h>

/* Where the line goes; text may be NULL. */
struct err {
    char *text;
    size_t size;
};

/* Write the line (control characters become '?'). Return: rc, for `return err_set(...)`.
 */
int err_set(struct err *e, int rc, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, followed by ": " and the words for rc, a negative errno. Return: rc. */
int err_sys(struct err *e, int rc, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
