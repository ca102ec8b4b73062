/* SPDX-License-Identifier: MIT */
/* Whole files: see file.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/pages.h"
#include "base/size.h"

static int too_big(const char *path, uint64_t max, struct err *e) {
    char text[SIZE_TEXT_MAX];
    return err_set(e, -EFBIG, "%s: larger than %s", path, size_text(max, text));
}

/* Grow as it comes: a pipe has no size, and a file's may be a lie. */
static int read_all(int fd, const char *path, uint64_t max, size_t hint, void **data,
                    size_t *size, struct err *e) {
    size_t room = hint + 1, used = 0;
    uint8_t *buf = pages_alloc(room);
    for (;;) {
        if (!buf)
            return err_set(e, -ENOMEM, "%s: out of memory", path);
        ssize_t n = read(fd, buf + used, room - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int rc = -errno;
            free(buf);
            return err_sys(e, rc, "%s", path);
        }
        if (n == 0)
            break;
        used += (size_t)n;
        if (used > max) {
            free(buf);
            return too_big(path, max, e);
        }
        if (used == room) {
            uint8_t *more = realloc(buf, room *= 2);
            if (!more)
                free(buf);
            buf = more;
        }
    }
    *data = buf;
    *size = used;
    return 0;
}

int file_read(const char *path, uint64_t max, void **data, size_t *size, struct err *e) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, -errno, "%s", path);
    struct stat st;
    int rc;
    if (fstat(fd, &st) < 0)
        rc = err_sys(e, -errno, "%s", path);
    else if (S_ISDIR(st.st_mode))
        rc = err_sys(e, -EISDIR, "%s", path);
    else if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > max)
        rc = too_big(path, max, e);
    else
        rc = read_all(fd, path, max,
                      S_ISREG(st.st_mode) && st.st_size > 0 ? (size_t)st.st_size : 65536,
                      data, size, e);
    close(fd);
    return rc;
}

int file_write(int fd, const void *data, size_t size) {
    const char *p = data;
    while (size) {
        ssize_t n = write(fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}
