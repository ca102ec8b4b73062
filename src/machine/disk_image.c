/* SPDX-License-Identifier: MIT */
/* Images in qcow2: see disk_image.h. */
#define _GNU_SOURCE /* memfd_create */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/late.h"
#include "machine/disk_image.h"

#define CHAIN_MAX 64u        /* images that stand on each other */
#define PIECE     (1u << 30) /* bytes of one request to erase */

/* What of the library is used. */
#define CALLS                                                                            \
    CALL(close)                                                                          \
    CALL(connect_systemd_socket_activation)                                              \
    CALL(create)                                                                         \
    CALL(flush)                                                                          \
    CALL(get_errno)                                                                      \
    CALL(get_error)                                                                      \
    CALL(get_size)                                                                       \
    CALL(pread)                                                                          \
    CALL(pwrite)                                                                         \
    CALL(shutdown)                                                                       \
    CALL(zero)

static struct {
#define CALL(name) __typeof__(nbd_##name) *name;
    CALLS
#undef CALL
} nbd;

struct disk_image {
    struct nbd_handle *h;
    bool writes;
};

static int library_open(struct err *e) {
    static const struct late_call calls[] = {
#define CALL(name) {"nbd_" #name, &nbd.name},
        CALLS
#undef CALL
    };
    return late_open(NBD_SONAME, calls, sizeof(calls) / sizeof(calls[0]), e);
}

/* ---- Chains (QEMU's docs/interop/qcow2, "Header") ---- */

static const char magic[4] = {'Q', 'F', 'I', '\xfb'};

bool disk_image_is(const void *p) {
    return !memcmp(p, magic, sizeof(magic));
}

struct header {
    char magic[4];
    uint32_t version; /* big endian, all of them */
    uint64_t backing_at;
    uint32_t backing_size;
};

/* What the image in fd stands on, as its header names it. Return: 1; 0: nothing; -errno. */
static int backing_name(int fd, char name[PATH_MAX]) {
    struct header h;
    ssize_t n = pread(fd, &h, sizeof(h), 0);
    if (n < 0)
        return -errno;
    uint32_t size = be32toh(h.backing_size);
    uint64_t at = be64toh(h.backing_at);
    if (n < (ssize_t)sizeof(h) || !disk_image_is(h.magic) || !at || !size)
        return 0;
    if (size >= PATH_MAX || at > INT64_MAX || pread(fd, name, size, (off_t)at) != size ||
        memchr(name, 0, size))
        return -EINVAL;
    name[size] = 0;
    return 1;
}

/* A name is beside the image that has it. */
static int beside(const char *image, const char *name, char out[PATH_MAX]) {
    const char *slash = strrchr(image, '/');
    int length = name[0] == '/' || !slash ? 0 : (int)(slash + 1 - image);
    return snprintf(out, PATH_MAX, "%.*s%s", length, image, name) < PATH_MAX ? 0
                                                                             : -EINVAL;
}

int disk_image_chain(const char *path, void (*each)(void *opaque, const char *path),
                     void *opaque, struct err *e) {
    char at[PATH_MAX], name[PATH_MAX], next[PATH_MAX];
    if (snprintf(at, sizeof(at), "%s", path) >= (int)sizeof(at))
        return err_set(e, -EINVAL, "%s: too long", path);
    for (unsigned i = 0; i < CHAIN_MAX; i++) {
        struct stat st;
        int fd = open(at, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = fd < 0 ? -errno : 0;
        if (rc == 0 && (fstat(fd, &st) || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))))
            rc = -EINVAL;
        if (rc == 0)
            rc = backing_name(fd, name);
        if (fd >= 0)
            close(fd);
        if (rc >= 0 && each)
            each(opaque, at);
        if (rc == 0)
            return 0;
        if (rc > 0)
            rc = beside(at, name, next);
        if (rc)
            return i ? err_sys(e, rc, "%s: it stands on %s", path, at)
                     : err_sys(e, rc, "%s", path);
        memcpy(at, next, sizeof(at));
    }
    return err_set(e, -EINVAL,
                   "%s: more than %u images stand on each other, or in a circle", path,
                   CHAIN_MAX);
}

/* ---- Starting ---- */

/* The last line of what qemu-nbd said. */
static void last_line(int fd, char *text, size_t size) {
    off_t end = lseek(fd, 0, SEEK_END);
    ssize_t n = pread(fd, text, size - 1, end < (off_t)size ? 0 : end - (off_t)size + 1);
    while (n > 0 && text[n - 1] == '\n')
        n--;
    text[n > 0 ? n : 0] = 0;
    const char *line = strrchr(text, '\n');
    if (line)
        memmove(text, line + 1, strlen(line + 1) + 1);
}

static int start(struct disk_image *i, const char *path, struct err *e) {
    char *argv[] = {"qemu-nbd",
                    "--format=qcow2",
                    "--discard=unmap",
                    "--cache=writeback",
                    i->writes ? "--shared=1" : "--read-only",
                    "--",
                    NULL,
                    NULL};
    char said[256];
    argv[6] = (char *)path;
    int mine = dup(STDERR_FILENO), theirs = memfd_create("qemu-nbd", MFD_CLOEXEC);
    int rc = mine < 0 || theirs < 0 ? err_sys(e, -errno, "%s", path) : 0;
    if (rc == 0) {
        dup2(theirs, STDERR_FILENO); /* it inherits that: one line is enough */
        rc = nbd.connect_systemd_socket_activation(i->h, argv);
        dup2(mine, STDERR_FILENO);
        if (rc) {
            last_line(theirs, said, sizeof(said));
            rc = err_set(e, -EINVAL, "%s: %s", path,
                         *said ? said : "qemu-nbd (qemu-utils) does not start");
        }
    }
    if (mine >= 0)
        close(mine);
    if (theirs >= 0)
        close(theirs);
    return rc;
}

int disk_image_open(const char *path, bool writes, struct disk_image **out,
                    uint64_t *size, struct err *e) {
    int rc = disk_image_chain(path, NULL, NULL, e);
    if (rc == 0)
        rc = library_open(e);
    if (rc)
        return rc;
    struct disk_image *i = calloc(1, sizeof(*i));
    if (!i)
        return err_set(e, -ENOMEM, "out of memory");
    i->writes = writes;
    i->h = nbd.create();
    rc = i->h ? start(i, path, e) : err_sys(e, -ENOMEM, "%s", path);
    int64_t bytes = rc ? 0 : nbd.get_size(i->h);
    if (bytes < 0)
        rc = err_set(e, -EIO, "%s: %s", path, nbd.get_error());
    if (rc) {
        disk_image_close(i);
        return rc;
    }
    *size = (uint64_t)bytes;
    *out = i;
    return 0;
}

void disk_image_close(struct disk_image *i) {
    if (!i)
        return;
    if (i->h) {
        nbd.shutdown(i->h, 0);
        nbd.close(i->h);
    }
    free(i);
}

/* ---- Requests ---- */

static int result(int rc) {
    return rc == 0 ? 0 : nbd.get_errno() > 0 ? -nbd.get_errno() : -EIO;
}

int disk_image_read(struct disk_image *i, uint64_t at, void *buf, size_t size) {
    return size ? result(nbd.pread(i->h, buf, size, at, 0)) : 0;
}

int disk_image_write(struct disk_image *i, uint64_t at, const void *buf, size_t size) {
    return size ? result(nbd.pwrite(i->h, buf, size, at, 0)) : 0;
}

int disk_image_flush(struct disk_image *i) {
    return i->writes ? result(nbd.flush(i->h, 0)) : 0;
}

int disk_image_discard(struct disk_image *i, uint64_t at, uint64_t size) {
    int rc = 0;
    for (uint64_t n; rc == 0 && size; at += n, size -= n) {
        n = size < PIECE ? size : PIECE;
        rc = result(nbd.zero(i->h, n, at, 0));
    }
    return rc;
}
