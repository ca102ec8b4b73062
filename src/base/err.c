/* SPDX-License-Identifier: MIT */
/* One-line errors: see err.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

/* A path or a guest's string in the line must not move a terminal's cursor. */
static void make_one_line(struct err *e) {
    for (char *p = e->text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
}

int err_set(struct err *e, int rc, const char *fmt, ...) {
    if (!e || !e->text || !e->size)
        return rc;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->text, e->size, fmt, ap);
    va_end(ap);
    make_one_line(e);
    return rc;
}

int err_sys(struct err *e, int rc, const char *fmt, ...) {
    if (!e || !e->text || !e->size)
        return rc;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->text, e->size, fmt, ap);
    va_end(ap);
    size_t used = strlen(e->text);
    snprintf(e->text + used, e->size - used, ": %s", strerror(-rc));
    make_one_line(e);
    return rc;
}
