/* SPDX-License-Identifier: MIT */
/* What requests do to a shared folder: see share.h. */
#define _GNU_SOURCE /* O_PATH, AT_EMPTY_PATH */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "machine/share_internal.h"

#define WALK_MAX   16u
#define QID_SIZE   13u
#define QID_DIR    0x80u
#define QID_LINK   0x02u
#define BASIC      0x7ffu /* of getattr: all but birth time, generation and data version */
#define LOCK_OK    0u
#define LOCK_FREE  2u
#define MODE_MASK  01777u
#define OPEN_FLAGS (O_ACCMODE | O_APPEND | O_TRUNC)
/* Of setattr. */
enum {
    SET_MODE = 1,
    SET_UID = 2,
    SET_GID = 4,
    SET_SIZE = 8,
    SET_ATIME = 0x10,
    SET_MTIME = 0x20,
    SET_ATIME_TO = 0x80,
    SET_MTIME_TO = 0x100
};

/* ---- Names, descriptors ---- */

static int result(long rc) {
    return rc < 0 ? -errno : 0;
}

/* A fid's descriptor as a name below /proc/self/fd. */
struct name {
    char text[NAME_MAX + 1];
};
static struct name of_fd(int fd) {
    struct name n;
    snprintf(n.text, sizeof(n.text), "%d", fd);
    return n;
}

/* One component. */
static void get_name(struct share_msg *m, struct name *n) {
    share_get_text(m, n->text, sizeof(n->text));
    if (!n->text[0] || strchr(n->text, '/') || !strcmp(n->text, ".") ||
        !strcmp(n->text, ".."))
        m->bad = true;
}

static struct share_fid *get_fid(const struct share *s, struct share_msg *m) {
    uint32_t number = (uint32_t)share_get(m, 4);
    return m->bad ? NULL : share_find(s, number);
}

/* With O_PATH a link itself may be what is found. Return: a descriptor or -errno. */
static int open_at(int folder, const char *name, int flags, mode_t mode) {
    const struct open_how how = {.flags = (uint64_t)(flags | O_NOFOLLOW | O_CLOEXEC),
                                 .mode = flags & O_CREAT ? mode : 0,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
                                            RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS};
    long fd = syscall(SYS_openat2, folder, name, &how, sizeof(how));
    return fd < 0 ? -errno : (int)fd;
}

/* The object of a descriptor, opened anew. Return: a descriptor or -errno. */
static int reopen(const struct share *s, int path, int flags) {
    struct stat st;
    if (fstat(path, &st))
        return -errno;
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return -EACCES;
    const struct name n = of_fd(path);
    int fd = openat(s->self, n.text, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    return fd < 0 ? -errno : fd;
}

static int put_qid(struct share_msg *m, int fd) {
    struct stat st;
    if (fstat(fd, &st))
        return -errno;
    share_put(m, S_ISDIR(st.st_mode) ? QID_DIR : S_ISLNK(st.st_mode) ? QID_LINK : 0, 1);
    share_put(m, (uint64_t)st.st_mtim.tv_sec ^ (uint64_t)st.st_mtim.tv_nsec, 4);
    share_put(m, st.st_ino, 8);
    return 0;
}

/* The qid of what a folder has by that name now. */
static int put_qid_at(struct share_msg *m, int folder, const char *name) {
    int fd = open_at(folder, name, O_PATH, 0);
    int rc = fd < 0 ? fd : put_qid(m, fd);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* ---- Fids ---- */

int share_attach(struct share *s, struct share_msg *m) {
    uint32_t number = (uint32_t)share_get(m, 4);
    if (m->bad)
        return -EINVAL;
    int fd = fcntl(s->root, F_DUPFD_CLOEXEC, 0);
    int rc = fd < 0 ? -errno : share_add(s, number, fd, NULL);
    return rc ? rc : put_qid(m, s->root);
}

/* From *fd on, which is replaced, as far as it goes. Return: 0 or -errno. */
static int walk(struct share_msg *m, unsigned names, int *fd, struct share_msg *qids) {
    for (unsigned i = 0; i < names; i++) {
        struct name n;
        get_name(m, &n);
        int next = m->bad ? -EACCES : open_at(*fd, n.text, O_PATH, 0);
        if (next < 0)
            return next;
        close(*fd);
        *fd = next;
        int rc = put_qid(qids, next);
        if (rc)
            return rc;
    }
    return 0;
}

int share_walk(struct share *s, struct share_msg *m) {
    uint8_t qid[WALK_MAX * QID_SIZE];
    struct share_msg qids = {.out = qid, .room = sizeof(qid)};
    struct share_fid *f = get_fid(s, m);
    uint32_t number = (uint32_t)share_get(m, 4);
    unsigned names = (unsigned)share_get(m, 2);
    if (m->bad || !f || names > WALK_MAX)
        return f ? -EINVAL : -EBADF;
    int fd = fcntl(f->path, F_DUPFD_CLOEXEC, 0);
    int rc = fd < 0 ? -errno : walk(m, names, &fd, &qids);
    if (rc == 0) {
        if (number == f->number) /* it moves */
            share_remove(s, f);
        rc = share_add(s, number, fd, NULL);
        if (rc)
            return rc;
    } else {
        if (fd >= 0)
            close(fd);
        if (!qids.used)
            return rc;
        m->bad = false; /* the answer is as far as it went */
    }
    share_put(m, qids.used / QID_SIZE, 2);
    share_put_bytes(m, qid, qids.used);
    return 0;
}

int share_clunk(struct share *s, struct share_msg *m) {
    struct share_fid *f = get_fid(s, m);
    if (f)
        share_remove(s, f);
    return f ? 0 : -EBADF;
}

int share_flush(struct share *s, struct share_msg *m) {
    return 0; /* requests are done in order: the other one is done */
}

/* ---- Attributes ---- */

int share_getattr(struct share *s, struct share_msg *m) {
    const struct share_fid *f = get_fid(s, m);
    struct stat st;
    if (!f)
        return -EBADF;
    if (fstat(f->path, &st))
        return -errno;
    share_put(m, BASIC, 8);
    int rc = put_qid(m, f->path);
    share_put(m, st.st_mode, 4);
    share_put(m, st.st_uid, 4);
    share_put(m, st.st_gid, 4);
    const uint64_t v[] = {st.st_nlink,
                          st.st_rdev,
                          (uint64_t)st.st_size,
                          (uint64_t)st.st_blksize,
                          (uint64_t)st.st_blocks,
                          (uint64_t)st.st_atim.tv_sec,
                          (uint64_t)st.st_atim.tv_nsec,
                          (uint64_t)st.st_mtim.tv_sec,
                          (uint64_t)st.st_mtim.tv_nsec,
                          (uint64_t)st.st_ctim.tv_sec,
                          (uint64_t)st.st_ctim.tv_nsec,
                          0,
                          0,
                          0,
                          0};
    share_put_bytes(m, v, sizeof(v));
    return rc;
}

static struct timespec time_of(uint64_t sec, uint64_t nsec, uint32_t valid, uint32_t set,
                               uint32_t to) {
    struct timespec t = {0, UTIME_OMIT};
    if (valid & set)
        t.tv_nsec = UTIME_NOW;
    if (valid & set && valid & to)
        t = (struct timespec){(time_t)sec, nsec < 1000000000u ? (long)nsec : 0};
    return t;
}

static int set_size(const struct share *s, const struct share_fid *f, uint64_t size) {
    if (size > INT64_MAX)
        return -EFBIG;
    int fd = reopen(s, f->path, O_WRONLY), rc = fd < 0 ? fd : 0;
    if (rc == 0)
        rc = result(ftruncate(fd, (off_t)size));
    if (fd >= 0)
        close(fd);
    return rc;
}

int share_setattr(struct share *s, struct share_msg *m) {
    const struct share_fid *f = get_fid(s, m);
    uint32_t valid = (uint32_t)share_get(m, 4), mode = (uint32_t)share_get(m, 4);
    uint32_t uid = (uint32_t)share_get(m, 4), gid = (uint32_t)share_get(m, 4);
    uint64_t size = share_get(m, 8), time[4];
    for (unsigned i = 0; i < 4; i++)
        time[i] = share_get(m, 8);
    struct stat st;
    if (m->bad || !f)
        return f ? -EINVAL : -EBADF;
    if (fstat(f->path, &st))
        return -errno;
    const struct name n = of_fd(f->path);
    bool link = S_ISLNK(st.st_mode);
    int rc = 0;
    if (valid & (SET_UID | SET_GID))
        rc = result(fchownat(f->path, "", valid & SET_UID ? uid : (uid_t)-1,
                             valid & SET_GID ? gid : (gid_t)-1, AT_EMPTY_PATH));
    if (rc == 0 && valid & SET_MODE)
        rc = link ? -EOPNOTSUPP : result(fchmodat(s->self, n.text, mode & MODE_MASK, 0));
    if (rc == 0 && valid & SET_SIZE)
        rc = set_size(s, f, size);
    if (rc == 0 && valid & (SET_ATIME | SET_MTIME)) {
        const struct timespec t[2] = {
            time_of(time[0], time[1], valid, SET_ATIME, SET_ATIME_TO),
            time_of(time[2], time[3], valid, SET_MTIME, SET_MTIME_TO)};
        rc = link ? -EOPNOTSUPP : result(utimensat(s->self, n.text, t, 0));
    }
    return rc;
}

int share_statfs(struct share *s, struct share_msg *m) {
    const struct share_fid *f = get_fid(s, m);
    struct statfs st;
    if (!f)
        return -EBADF;
    if (fstatfs(f->path, &st))
        return -errno;
    share_put(m, 0x01021997, 4); /* V9FS_MAGIC */
    share_put(m, (uint64_t)st.f_bsize, 4);
    const uint64_t v[] = {st.f_blocks, st.f_bfree, st.f_bavail,
                          st.f_files,  st.f_ffree, 0};
    share_put_bytes(m, v, sizeof(v));
    share_put(m, NAME_MAX, 4);
    return 0;
}

int share_readlink(struct share *s, struct share_msg *m) {
    const struct share_fid *f = get_fid(s, m);
    char text[PATH_MAX];
    ssize_t n = f ? readlinkat(f->path, "", text, sizeof(text)) : -1;
    if (n < 0)
        return f ? -errno : -EBADF;
    share_put_text(m, text, (size_t)n);
    return 0;
}

/* ---- Files ---- */

static int put_opened(struct share_msg *m, struct share_fid *f, int fd) {
    if (f->io >= 0)
        close(f->io);
    f->io = fd;
    int rc = put_qid(m, fd);
    share_put(m, 0, 4); /* no unit of its own */
    return rc;
}

int share_lopen(struct share *s, struct share_msg *m) {
    struct share_fid *f = get_fid(s, m);
    int flags = (int)share_get(m, 4) & OPEN_FLAGS;
    if (m->bad || !f)
        return f ? -EINVAL : -EBADF;
    if (s->read_only && ((flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC))
        return -EROFS;
    int fd = reopen(s, f->path, flags);
    return fd < 0 ? fd : put_opened(m, f, fd);
}

int share_lcreate(struct share *s, struct share_msg *m) {
    struct share_fid *f = get_fid(s, m);
    struct name n;
    struct stat st;
    get_name(m, &n);
    int flags = (int)share_get(m, 4);
    mode_t mode = share_get(m, 4) & MODE_MASK;
    if (m->bad || !f)
        return f ? -EINVAL : -EBADF;
    flags = (flags & (OPEN_FLAGS | O_EXCL)) | O_CREAT | O_NONBLOCK | O_NOCTTY;
    int fd = open_at(f->path, n.text, flags, mode), rc = fd < 0 ? fd : 0;
    if (rc == 0 && (fstat(fd, &st) || !S_ISREG(st.st_mode)))
        rc = -EACCES;
    int path = rc ? -1 : openat(s->self, of_fd(fd).text, O_PATH | O_CLOEXEC);
    if (rc == 0 && path < 0)
        rc = -errno;
    if (rc) {
        if (fd >= 0)
            close(fd);
        return rc;
    }
    close(f->path);
    f->path = path;
    return put_opened(m, f, fd);
}

/* Room for `size` bytes behind their number. */
static size_t data_room(const struct share_msg *m, uint64_t size) {
    size_t left = m->room - m->used;
    left = left > 4 ? left - 4 : 0;
    return size < left ? size : left;
}

int share_read(struct share *s, struct share_msg *m) {
    const struct share_fid *f = get_fid(s, m);
    uint64_t at = share_get(m, 8), count = share_get(m, 4);
    if (m->bad || !f || f->io < 0 || at > INT64_MAX)
        return f ? -EINVAL : -EBADF;
    count = data_room(m, count);
    ssize_t n = pread(f->io, m->out + m->used + 4, count, (off_t)at);
    if (n < 0)
        return -errno;
    share_put(m, (uint64_t)n, 4);
    m->used += (size_t)n;
    return 0;
}

int share_write(struct share *s, struct share_msg *m) {
    const struct share_fid *f = get_fid(s, m);
    uint64_t at = share_get(m, 8), count = share_get(m, 4);
    if (m->bad || !f || f->io < 0 || at > INT64_MAX || count > m->size - m->at)
        return f ? -EINVAL : -EBADF;
    ssize_t n = pwrite(f->io, m->in + m->at, count, (off_t)at);
    if (n < 0)
        return -errno;
    share_put(m, (uint64_t)n, 4);
    return 0;
}

int share_fsync(struct share *s, struct share_msg *m) {
    const struct share_fid *f = get_fid(s, m);
    uint64_t data = share_get(m, 4);
    if (!f || f->io < 0)
        return -EBADF;
    return result(data ? fdatasync(f->io) : fsync(f->io));
}

/* One guest has the folder: its own kernel keeps its locks. */
int share_lock(struct share *s, struct share_msg *m) {
    if (!get_fid(s, m))
        return -EBADF;
    share_put(m, LOCK_OK, 1);
    return 0;
}

int share_getlock(struct share *s, struct share_msg *m) {
    char client[256];
    if (!get_fid(s, m))
        return -EBADF;
    share_get(m, 1);
    uint64_t start = share_get(m, 8), length = share_get(m, 8), process = share_get(m, 4);
    share_get_text(m, client, sizeof(client));
    share_put(m, LOCK_FREE, 1);
    share_put(m, start, 8);
    share_put(m, length, 8);
    share_put(m, process, 4);
    share_put_text(m, client, strlen(client));
    return 0;
}

/* ---- Folders ---- */

struct entry { /* what getdents64 gives */
    uint64_t ino;
    int64_t off;
    uint16_t length;
    uint8_t type;
    char name[];
};

#define ENTRY_FIXED (QID_SIZE + 8u + 1u + 2u)

int share_readdir(struct share *s, struct share_msg *m) {
    const struct share_fid *f = get_fid(s, m);
    uint64_t at = share_get(m, 8), count = share_get(m, 4);
    _Alignas(struct entry) uint8_t buf[16384];
    if (m->bad || !f || f->io < 0 || at > INT64_MAX)
        return f ? -EINVAL : -EBADF;
    count = data_room(m, count);
    size_t size_at = m->used, end = m->used + 4 + count;
    if (lseek(f->io, (off_t)at, SEEK_SET) < 0)
        return -errno;
    long n =
        syscall(SYS_getdents64, f->io, buf, count < sizeof(buf) ? count : sizeof(buf));
    if (n < 0)
        return -errno;
    share_put(m, 0, 4);
    for (long p = 0; !m->bad && p < n;) {
        const struct entry *e = (const struct entry *)(buf + p);
        size_t length = strlen(e->name);
        if (m->used + ENTRY_FIXED + length > end)
            break;
        share_put(m, e->type == DT_DIR ? QID_DIR : e->type == DT_LNK ? QID_LINK : 0, 1);
        share_put(m, 0, 4);
        share_put(m, e->ino, 8);
        share_put(m, (uint64_t)e->off, 8);
        share_put(m, e->type, 1);
        share_put_text(m, e->name, length);
        p += e->length;
    }
    if (m->bad)
        return -EINVAL;
    uint32_t used = (uint32_t)(m->used - size_at - 4);
    memcpy(m->out + size_at, &used, 4);
    return 0;
}

int share_mkdir(struct share *s, struct share_msg *m) {
    const struct share_fid *f = get_fid(s, m);
    struct name n;
    get_name(m, &n);
    mode_t mode = share_get(m, 4) & MODE_MASK;
    if (m->bad || !f)
        return f ? -EINVAL : -EBADF;
    int rc = result(mkdirat(f->path, n.text, mode));
    return rc ? rc : put_qid_at(m, f->path, n.text);
}

int share_symlink(struct share *s, struct share_msg *m) {
    const struct share_fid *f = get_fid(s, m);
    struct name n;
    char target[PATH_MAX];
    get_name(m, &n);
    share_get_text(m, target, sizeof(target));
    if (m->bad || !f)
        return f ? -EINVAL : -EBADF;
    int rc = result(symlinkat(target, f->path, n.text));
    return rc ? rc : put_qid_at(m, f->path, n.text);
}

int share_link(struct share *s, struct share_msg *m) {
    const struct share_fid *folder = get_fid(s, m), *f = get_fid(s, m);
    struct name n;
    struct stat st;
    get_name(m, &n);
    if (m->bad || !f || !folder)
        return f && folder ? -EINVAL : -EBADF;
    if (fstat(f->path, &st) || !S_ISREG(st.st_mode))
        return -EPERM;
    return result(
        linkat(s->self, of_fd(f->path).text, folder->path, n.text, AT_SYMLINK_FOLLOW));
}

int share_renameat(struct share *s, struct share_msg *m) {
    struct name from, to;
    const struct share_fid *old = get_fid(s, m);
    get_name(m, &from);
    const struct share_fid *new = get_fid(s, m);
    get_name(m, &to);
    if (m->bad || !old || !new)
        return old && new ? -EINVAL : -EBADF;
    return result(renameat(old->path, from.text, new->path, to.text));
}

int share_unlinkat(struct share *s, struct share_msg *m) {
    const struct share_fid *f = get_fid(s, m);
    struct name n;
    get_name(m, &n);
    uint64_t flags = share_get(m, 4);
    if (m->bad || !f)
        return f ? -EINVAL : -EBADF;
    return result(unlinkat(f->path, n.text, flags & AT_REMOVEDIR ? AT_REMOVEDIR : 0));
}
