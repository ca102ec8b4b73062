/* SPDX-License-Identifier: MIT */
/* Whole files: see file.h. */
#define _GNU_SOURCE /* SEEK_DATA */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
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

#define COPY_PIECE (1u << 20)

/* Piece by piece; zero: COPY_PIECE bytes of them. Return: 0 or -errno. */
static int copy_pieces(int from, int to, uint64_t size, uint8_t *buf,
                       const uint8_t *zero) {
    for (uint64_t at = 0; at < size;) {
        off_t data = lseek(from, (off_t)at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) /* nothing but a hole */
            return 0;
        if (data > (off_t)at) /* who cannot tell has data everywhere */
            at = (uint64_t)data;
        if (at >= size)
            return 0;
        size_t want = size - at < COPY_PIECE ? (size_t)(size - at) : COPY_PIECE;
        ssize_t n = pread(from, buf, want, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : -ENODATA;
        if (memcmp(buf, zero, (size_t)n)) {
            ssize_t out = pwrite(to, buf, (size_t)n, (off_t)at);
            if (out <= 0)
                return out ? -errno : -EIO;
            n = out;
        }
        at += (uint64_t)n;
    }
    return 0;
}

int file_copy(int from, int to, uint64_t size) {
    if (!ioctl(to, FICLONE, from))
        return ftruncate(to, (off_t)size) ? -errno : 0;
    if (ftruncate(to, (off_t)size))
        return -errno;
    uint8_t *buf = calloc(2, COPY_PIECE);
    int rc = buf ? copy_pieces(from, to, size, buf, buf + COPY_PIECE) : -ENOMEM;
    free(buf);
    return rc;
}
