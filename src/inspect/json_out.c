/* SPDX-License-Identifier: MIT */
/* A JSON result into an output. */
#include "inspect/json_out.h"

#include <errno.h>
#include <unistd.h>

int json_out(const json_t *json, int fd, unsigned indent) {
    if (!json)
        return -ENOMEM;
    errno = 0;
    if (json_dumpfd(json, fd, JSON_INDENT(indent)))
        return errno ? -errno : -EIO;
    return write(fd, "\n", 1) == 1 ? 0 : -errno;
}
