/* SPDX-License-Identifier: MIT */
/*
 * Result files: written beside their name and renamed.
 *
 * Invariants
 * 1. Nothing that existed under the final name changes before outfile_commit.
 * 2. Only a regular file, or no file, is ever replaced or removed.
 */
#include "base/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void release(struct outfile *f) {
    free(f->path);
    free(f->temp);
    *f = (struct outfile){.fd = -1};
}

int outfile_open(struct outfile *f, const char *path) {
    *f = (struct outfile){.fd = -1, .path = strdup(path)};
    if (!f->path)
        return -ENOMEM;
    struct stat st;
    bool in_place = stat(path, &st) == 0 && !S_ISREG(st.st_mode);
    if (!in_place && asprintf(&f->temp, "%s.part", path) < 0) {
        f->temp = NULL;
        release(f);
        return -ENOMEM;
    }
    int flags = O_CLOEXEC | (in_place ? O_WRONLY : O_RDWR | O_CREAT | O_TRUNC);
    f->fd = open(in_place ? path : f->temp, flags, 0666);
    if (f->fd < 0) {
        int rc = -errno;
        release(f);
        return rc;
    }
    return 0;
}

int outfile_commit(struct outfile *f) {
    int rc = close(f->fd) ? -errno : 0;
    f->fd = -1;
    if (!rc && f->temp && rename(f->temp, f->path))
        rc = -errno;
    if (rc && f->temp)
        unlink(f->temp);
    release(f);
    return rc;
}

void outfile_abandon(struct outfile *f) {
    if (f->fd >= 0) {
        close(f->fd);
        if (f->temp)
            unlink(f->temp);
    }
    release(f);
}
