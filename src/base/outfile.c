/* SPDX-License-Identifier: MIT */
/*
 * Result files: written beside their name and renamed.
 *
 * Invariants
 * 1. Nothing that existed under the final name changes before outfile_commit.
 * 2. Only a regular file, or no file, is ever replaced or removed.
 * 3. No two writers share a temporary file.
 */
#include "base/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 40 /* symbolic links, as the kernel follows */
#define NAMES_MAX 100

static void release(struct outfile *f) {
    free(f->path);
    free(f->temp);
    *f = (struct outfile){.fd = -1};
}

bool outfile_is_stdout(const char *path) {
    return !strcmp(path, "-") || !strcmp(path, "/dev/stdout") ||
           !strcmp(path, "/dev/fd/1") || !strcmp(path, "/proc/self/fd/1");
}

/* Where a link leads, even when nothing is there yet. Return: 0 or -errno. */
static int follow(const char *path, char **out) {
    char *p = strdup(path), target[PATH_MAX];
    for (int i = 0; p && i < LINKS_MAX; i++) {
        ssize_t n = readlink(p, target, sizeof(target) - 1);
        if (n < 0) {
            *out = p;
            return 0;
        }
        target[n] = 0;
        const char *slash = target[0] == '/' ? NULL : strrchr(p, '/');
        char *next;
        if (asprintf(&next, "%.*s%s", slash ? (int)(slash - p + 1) : 0, p, target) < 0)
            next = NULL;
        free(p);
        p = next;
    }
    free(p);
    return p ? -ELOOP : -ENOMEM;
}

static bool in_place(const char *path) {
    struct stat st;
    bool device = !strncmp(path, "/dev/", 5) && strncmp(path, "/dev/shm/", 9) != 0;
    return device || !strncmp(path, "/proc/", 6) ||
           (!stat(path, &st) && !S_ISREG(st.st_mode));
}

/* A new file beside the final name, with the mode of the one that it will replace, else
 * as the umask says. Return: 0 or -errno. */
static int open_temp(struct outfile *f) {
    struct stat st;
    bool replaces = !stat(f->path, &st);
    if (replaces && access(f->path, W_OK))
        return -errno;
    for (int i = 0; i < NAMES_MAX; i++) {
        unsigned bits;
        if (getrandom(&bits, sizeof(bits), 0) != sizeof(bits))
            return -EIO;
        if (asprintf(&f->temp, "%s.%06x.part", f->path, bits & 0xffffff) < 0) {
            f->temp = NULL;
            return -ENOMEM;
        }
        f->fd = open(f->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (f->fd >= 0 && replaces)
            (void)!fchmod(f->fd, st.st_mode & 07777);
        if (f->fd >= 0 || errno != EEXIST)
            break;
        free(f->temp);
        f->temp = NULL;
    }
    return f->fd < 0 ? -errno : 0;
}

int outfile_open(struct outfile *f, const char *path) {
    int rc = 0;
    *f = (struct outfile){.fd = -1};
    if (outfile_is_stdout(path) || in_place(path)) {
        f->path = strdup(path);
        if (!f->path)
            return -ENOMEM;
        f->fd = outfile_is_stdout(path)
                    ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)
                    : open(path, O_WRONLY | O_CLOEXEC);
        rc = f->fd < 0 ? -errno : 0;
    } else {
        rc = follow(path, &f->path);
        if (!rc)
            rc = open_temp(f);
    }
    if (rc)
        release(f);
    return rc;
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

/* Return: the last slash of the path, or NULL. */
static const char *folder_of(const char *path, char *dir, size_t size) {
    const char *slash = strrchr(path, '/');
    snprintf(dir, size, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
    return slash;
}

bool outfile_folder(const char *path, char *dir, size_t size) {
    char *p = NULL;
    bool renamed = !outfile_is_stdout(path) && !in_place(path) && follow(path, &p) == 0;
    if (renamed)
        folder_of(p, dir, size);
    free(p);
    return renamed;
}

/* The folder of a file that may not be there yet, and its name in it. */
static const char *split(const char *path, struct stat *folder) {
    char dir[PATH_MAX];
    const char *slash = folder_of(path, dir, sizeof(dir));
    return stat(dir, folder) ? NULL : slash ? slash + 1 : path;
}

bool outfile_same(const char *a, const char *b) {
    struct stat x, y;
    char *p = NULL, *q = NULL;
    if (outfile_is_stdout(a) && outfile_is_stdout(b))
        return true;
    if (!stat(a, &x) && !stat(b, &y))
        return x.st_dev == y.st_dev && x.st_ino == y.st_ino && !S_ISCHR(x.st_mode);
    bool same = false;
    if (!follow(a, &p) && !follow(b, &q)) {
        const char *name = split(p, &x), *other = split(q, &y);
        same = name && other && x.st_dev == y.st_dev && x.st_ino == y.st_ino &&
               !strcmp(name, other);
    }
    free(p);
    free(q);
    return same;
}

FILE *outfile_stream(int fd) {
    int copy = dup(fd);
    FILE *out = copy < 0 ? NULL : fdopen(copy, "w");
    if (!out && copy >= 0)
        close(copy);
    return out;
}

int outfile_close_stream(FILE *out) {
    bool failed = fflush(out) || ferror(out);
    int rc = failed ? (errno ? -errno : -EIO) : 0;
    fclose(out);
    return rc;
}
