/* SPDX-License-Identifier: MIT */
/* Disk images: see disk.h. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/file.h"
#include "machine/disk.h"
#include "machine/disk_image.h"

#define BLOCK        4096u /* what is kept in memory with `snapshot` */
#define DIGEST_BLOCK 65536u
#define PEEK         4096u
#define PIECES_MAX   128u /* of a request */

struct disk {
    int fd;
    struct disk_image *image; /* NULL: the file has the disk's bytes as they are */
    dev_t device;
    ino_t inode;
    uint64_t size;
    bool read_only, pause;
    uint8_t *over;  /* with `snapshot`: the disk's size, blocks that were written alone */
    uint64_t *have; /* a bit for each of them */
};

/* ---- Reading and writing ---- */

/* The first n bytes of v are done. Return: what is left. */
static unsigned skip(struct iovec **v, unsigned pieces, size_t n) {
    for (; pieces && n >= (*v)->iov_len; pieces--)
        n -= (*v)++->iov_len;
    if (pieces) {
        (*v)->iov_base = (uint8_t *)(*v)->iov_base + n;
        (*v)->iov_len -= n;
    }
    return pieces;
}

static int file_move(const struct disk *d, bool write, uint64_t at,
                     const struct iovec *piece, unsigned pieces) {
    struct iovec left[PIECES_MAX], *v = left;
    if (pieces > PIECES_MAX)
        return -EINVAL;
    memcpy(left, piece, pieces * sizeof(*piece));
    while (pieces) {
        ssize_t n = write ? pwritev(d->fd, v, (int)pieces, (off_t)at)
                          : preadv(d->fd, v, (int)pieces, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || (!write && n == 0))
            return n < 0 ? -errno : -EIO; /* the file was cut short meanwhile */
        at += (uint64_t)n;
        pieces = skip(&v, pieces, (size_t)n);
    }
    return 0;
}

static int file_read_at(const struct disk *d, uint64_t at, uint8_t *buf, size_t size) {
    return file_move(d, false, at, &(struct iovec){buf, size}, 1);
}

static int file_write_at(const struct disk *d, uint64_t at, const uint8_t *buf,
                         size_t size) {
    return file_move(d, true, at, &(struct iovec){(uint8_t *)(uintptr_t)buf, size}, 1);
}

static int base_read(const struct disk *d, uint64_t at, uint8_t *buf, size_t size) {
    return d->image ? disk_image_read(d->image, at, buf, size)
                    : file_read_at(d, at, buf, size);
}

static bool has(const struct disk *d, uint64_t block) {
    return d->have[block / 64] >> block % 64 & 1;
}

/* Bytes of [at, at + size) in at's own block. */
static size_t piece(uint64_t at, uint64_t size) {
    uint64_t left = BLOCK - at % BLOCK;
    return size < left ? size : left;
}

/* Bytes of [at, at + size) from at on that are all in memory, or none of them. */
static size_t run_of(const struct disk *d, uint64_t at, size_t size) {
    size_t n = piece(at, size);
    while (n < size && has(d, (at + n) / BLOCK) == has(d, at / BLOCK))
        n += piece(at + n, size - n);
    return n;
}

static int over_read(struct disk *d, uint64_t at, uint8_t *buf, size_t size) {
    int rc = 0;
    for (size_t n; rc == 0 && size; at += n, buf += n, size -= n) {
        n = run_of(d, at, size);
        if (has(d, at / BLOCK))
            memcpy(buf, d->over + at, n);
        else
            rc = base_read(d, at, buf, n);
    }
    return rc;
}

/* buf NULL: zeros. */
static int over_write(struct disk *d, uint64_t at, const uint8_t *buf, uint64_t size) {
    for (size_t n; size; at += n, size -= n) {
        uint64_t block = at / BLOCK, first = block * BLOCK;
        n = piece(at, size);
        if (!has(d, block) && n < BLOCK) {
            uint64_t whole = d->size - first < BLOCK ? d->size - first : BLOCK;
            int rc = base_read(d, first, d->over + first, whole);
            if (rc)
                return rc;
        }
        if (buf)
            memcpy(d->over + at, buf, n);
        else
            memset(d->over + at, 0, n);
        d->have[block / 64] |= 1ull << block % 64;
        buf = buf ? buf + n : NULL;
    }
    return 0;
}

static int read_at(struct disk *d, uint64_t at, void *buf, size_t size) {
    return d->over ? over_read(d, at, buf, size) : base_read(d, at, buf, size);
}

static int write_at(struct disk *d, uint64_t at, const void *buf, size_t size) {
    if (d->over)
        return over_write(d, at, buf, size);
    return d->image ? disk_image_write(d->image, at, buf, size)
                    : file_write_at(d, at, buf, size);
}

static int disk_move(struct disk *d, bool write, uint64_t at, const struct iovec *v,
                     unsigned pieces) {
    int rc = 0;
    if (!d->over && !d->image)
        return file_move(d, write, at, v, pieces);
    for (unsigned i = 0; rc == 0 && i < pieces; at += v[i++].iov_len)
        rc = write ? write_at(d, at, v[i].iov_base, v[i].iov_len)
                   : read_at(d, at, v[i].iov_base, v[i].iov_len);
    return rc;
}

static int disk_read(void *opaque, uint64_t at, const struct iovec *to, unsigned pieces) {
    return disk_move(opaque, false, at, to, pieces);
}

static int disk_write(void *opaque, uint64_t at, const struct iovec *from,
                      unsigned pieces) {
    return disk_move(opaque, true, at, from, pieces);
}

static int disk_flush(void *opaque) {
    const struct disk *d = opaque;
    if (d->over || d->read_only)
        return 0;
    if (d->image)
        return disk_image_flush(d->image);
    return fdatasync(d->fd) ? -errno : 0;
}

/* Where the host cannot make a hole, zeros are written. */
static int disk_discard(void *opaque, uint64_t at, uint64_t size) {
    static const uint8_t zeros[DIGEST_BLOCK];
    struct disk *d = opaque;
    int rc = 0;
    if (d->over)
        return over_write(d, at, NULL, size);
    if (d->image)
        return disk_image_discard(d->image, at, size);
    if (!size || !fallocate(d->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
                            (off_t)size))
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return -errno;
    for (uint64_t n; rc == 0 && size; at += n, size -= n) {
        n = size < sizeof(zeros) ? size : sizeof(zeros);
        rc = file_write_at(d, at, zeros, n);
    }
    return rc;
}

struct dev_disk disk_device(struct disk *d) {
    return (struct dev_disk){.size = d->size,
                             .read_only = d->read_only,
                             .direct = !d->image, /* the library's socket is no file */
                             .parallel = !d->image && !d->over,
                             .waits = d->pause,
                             .read = disk_read,
                             .write = disk_write,
                             .flush = disk_flush,
                             .discard = disk_discard,
                             .opaque = d};
}

bool disk_is(const struct disk *d, const char *path) {
    struct stat st;
    return !stat(path, &st) && st.st_dev == d->device && st.st_ino == d->inode;
}

int disk_copy(const struct disk *d, int to) {
    return d->image || d->over ? -EINVAL : file_copy(d->fd, to, d->size);
}

int disk_digest(struct disk *d, uint64_t *out) {
    static const uint8_t zeros[DIGEST_BLOCK];
    uint8_t *buf = malloc(DIGEST_BLOCK);
    XXH3_state_t *hash = XXH3_createState();
    int rc = buf && hash ? 0 : -ENOMEM;
    if (rc == 0)
        XXH3_64bits_reset(hash);
    for (uint64_t at = 0, n; rc == 0 && at < d->size; at += n) {
        n = d->size - at < DIGEST_BLOCK ? d->size - at : DIGEST_BLOCK;
        if (!d->over && !d->image) { /* a hole is zeros, and is not read */
            off_t data = lseek(d->fd, (off_t)at, SEEK_DATA);
            if ((data < 0 && errno == ENXIO) || (data > 0 && (uint64_t)data >= at + n))
                continue;
        }
        rc = read_at(d, at, buf, n);
        if (rc || !memcmp(buf, zeros, n))
            continue;
        XXH3_64bits_update(hash, &at, sizeof(at));
        XXH3_64bits_update(hash, buf, n);
    }
    if (rc == 0)
        *out = XXH3_64bits_digest(hash);
    XXH3_freeState(hash);
    free(buf);
    return rc;
}

/* ---- Opening ---- */

static uint64_t le(const uint8_t *p, unsigned size) {
    uint64_t v = 0;
    memcpy(&v, p, size);
    return v;
}

/* The end, in bytes, that what is on the disk has by its own words; 0: it says nothing. */
static uint64_t end_by_header(const uint8_t head[PEEK]) {
    const uint8_t *gpt = head + DISK_SECTOR, *ext = head + 1024;
    uint64_t end = 0;
    if (head[510] == 0x55 && head[511] == 0xaa) {
        if (!memcmp(gpt, "EFI PART", 8)) /* UEFI, "GPT Header": AlternateLBA */
            return le(gpt + 32, 8) < 1ull << 54 ? (le(gpt + 32, 8) + 1) * DISK_SECTOR : 0;
        for (unsigned i = 0; i < 4; i++) { /* a partition's type, first sector, sectors */
            const uint8_t *p = head + 446 + i * 16;
            uint64_t last = (le(p + 8, 4) + le(p + 12, 4)) * DISK_SECTOR;
            if (p[4] && p[4] != 0xee && last > end)
                end = last;
        }
    } else if (le(ext + 56, 2) == 0xef53 && le(ext + 24, 4) <= 6) { /* ext2 to ext4 */
        end = le(ext + 4, 4) << (10 + le(ext + 24, 4));
    }
    return end;
}

static int check_content(const struct disk *d, const char *path, struct err *e) {
    static const struct {
        const char *magic;
        const char *name;
    } others[] = {{"KDMV", "VMDK"}, {"vhdxfile", "VHDX"}};

    uint8_t head[PEEK] = {0};
    int rc = base_read(d, 0, head, d->size < PEEK ? d->size : PEEK);
    if (rc)
        return err_sys(e, rc, "%s", path);
    if (!d->image && disk_image_is(head))
        return err_set(e, -EINVAL, "%s: a qcow2 image: read it as such with %s,qcow2",
                       path, path);
    for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (!memcmp(head, others[i].magic, strlen(others[i].magic)))
            return err_set(e, -EINVAL,
                           "%s: a %s image, and only raw ones and qcow2 are read: make "
                           "one with qemu-img convert -O qcow2",
                           path, others[i].name);
    uint64_t end = end_by_header(head);
    if (end > d->size)
        return err_set(e, -EINVAL,
                       "%s: cut short: it has %" PRIu64
                       " bytes, and what is on it says %" PRIu64,
                       path, d->size, end);
    return 0;
}

static int find_size(struct disk *d, const char *path, struct err *e) {
    struct stat st;
    if (fstat(d->fd, &st))
        return err_sys(e, -errno, "%s", path);
    d->device = st.st_dev;
    d->inode = st.st_ino;
    if (S_ISBLK(st.st_mode)) {
        if (ioctl(d->fd, BLKGETSIZE64, &d->size))
            return err_sys(e, -errno, "%s", path);
    } else if (S_ISREG(st.st_mode)) {
        d->size = (uint64_t)st.st_size;
    } else {
        return err_set(e, -EINVAL, "%s: neither a file nor a block device", path);
    }
    return 0;
}

static int check_size(const struct disk *d, const char *path, struct err *e) {
    if (!d->size || d->size % DISK_SECTOR)
        return err_set(e, -EINVAL,
                       "%s: no disk image: its %" PRIu64
                       " bytes are not sectors of %u bytes",
                       path, d->size, DISK_SECTOR);
    return 0;
}

/* What QEMU says of an image by locks that others may share (its block/file-posix.c): byte
 * LOCK_DOES + i: somebody does i with it; LOCK_BARS + i: somebody wants nobody else to. */
#define LOCK_DOES 100
#define LOCK_BARS 200
enum { USE_READ = 1u << 0, USE_WRITE = 1u << 1, USE_RESIZE = 1u << 3, USES = 5 };

/* Return: 0; -EBUSY: another one has a lock of any kind there; other -errno. */
static int lock_byte(int fd, int command, short type, off_t at) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    if (fcntl(fd, command, &l))
        return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
    return command == F_OFD_GETLK && l.l_type != F_UNLCK ? -EBUSY : 0;
}

/* Say it first and ask then: of two that do so at once none overlooks the other. Where qemu-nbd
 * says it, asking is enough. */
static int lock(const struct disk *d, bool writes, bool only_ask, const char *path,
                struct err *e) {
    const unsigned does = USE_READ | (writes ? USE_WRITE : 0);
    const unsigned bars = USE_WRITE | USE_RESIZE;
    int rc = 0;
    for (unsigned ask = only_ask; rc == 0 && ask <= 1; ask++)
        for (unsigned i = 0; rc == 0 && i < USES; i++) {
            int command = ask ? F_OFD_GETLK : F_OFD_SETLK;
            short type = ask ? F_WRLCK : F_RDLCK;
            if (does >> i & 1)
                rc = lock_byte(d->fd, command, type, (ask ? LOCK_BARS : LOCK_DOES) + i);
            if (rc == 0 && bars >> i & 1)
                rc = lock_byte(d->fd, command, type, (ask ? LOCK_DOES : LOCK_BARS) + i);
        }
    if (rc == -EBUSY)
        return err_set(e, rc, "%s: in use: another program has locked it", path);
    return rc ? err_sys(e, rc, "%s", path) : 0;
}

static int open_image(struct disk *d, const struct disk_config *c, bool writes,
                      struct err *e) {
    int rc = lock(d, writes, c->qcow2, c->path, e);
    if (rc == 0 && c->qcow2)
        rc = disk_image_open(c->path, writes, &d->image, &d->size, e);
    return rc ? rc : check_size(d, c->path, e);
}

static int create_over(struct disk *d, const char *path, struct err *e) {
    uint64_t blocks = (d->size + BLOCK - 1) / BLOCK;
    d->have = calloc((blocks + 63) / 64, sizeof(*d->have));
    void *p = mmap(NULL, d->size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    d->over = p == MAP_FAILED ? NULL : p;
    return d->have && d->over ? 0 : err_sys(e, -ENOMEM, "%s", path);
}

int disk_open(const struct disk_config *c, struct disk **out, struct err *e) {
    bool writes = !c->read_only && !c->snapshot;
    struct disk *d = calloc(1, sizeof(*d));
    if (!d)
        return err_set(e, -ENOMEM, "out of memory");
    d->read_only = c->read_only;
    d->pause = c->pause;
    d->fd = open(c->path, (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
    int rc = d->fd < 0 ? err_sys(e, -errno, "%s", c->path) : find_size(d, c->path, e);
    if (rc == 0)
        rc = open_image(d, c, writes, e);
    if (rc == 0)
        rc = check_content(d, c->path, e);
    if (rc == 0 && c->snapshot)
        rc = create_over(d, c->path, e);
    if (rc) {
        disk_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

void disk_close(struct disk *d) {
    if (!d)
        return;
    if (d->over)
        munmap(d->over, d->size);
    free(d->have);
    disk_image_close(d->image);
    if (d->fd >= 0)
        close(d->fd);
    free(d);
}
