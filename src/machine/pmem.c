/* SPDX-License-Identifier: MIT */
/* Files that are persistent memory: see pmem.h. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine/pmem.h"

#define SLOT_PMEM 16u /* and the next ones: RAM and the window have lower ones */
#define GPA_ALIGN (1ull << 30)

struct pmem {
    int fd;
    bool lost;
    uint8_t *base;
    struct pn_memslot slot;
};

static int flush(void *opaque) {
    const struct pmem *p = opaque;
    return p->lost || !msync(p->base, p->slot.size, MS_SYNC) ? 0 : -errno;
}

/* At an address of the host's that large pages may begin at. */
static uint8_t *map(const struct pmem *p, uint64_t size) {
    uint8_t *whole = mmap(NULL, size + PMEM_ALIGN, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (whole == MAP_FAILED)
        return NULL;
    uintptr_t before = -(uintptr_t)whole & (PMEM_ALIGN - 1);
    if (before)
        munmap(whole, before);
    munmap(whole + before + size, PMEM_ALIGN - before);
    void *at = mmap(whole + before, size, PROT_READ | PROT_WRITE,
                    MAP_FIXED | (p->lost ? MAP_PRIVATE : MAP_SHARED), p->fd, 0);
    if (at != MAP_FAILED)
        return at;
    int saved = errno;
    munmap(whole + before, size);
    errno = saved;
    return NULL;
}

static int open_file(struct pmem *p, const char *path, uint64_t *size, struct err *e) {
    struct flock l = {.l_type = p->lost ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
    struct stat st;
    p->fd = open(path, (p->lost ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
    if (p->fd < 0 || fstat(p->fd, &st))
        return err_sys(e, -errno, "%s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, -EINVAL, "%s: no file", path);
    if (st.st_size <= 0 || (uint64_t)st.st_size % PMEM_ALIGN)
        return err_set(e, -EINVAL,
                       "%s: its %" PRIu64 " bytes are no multiple of 2 MiB: no "
                       "persistent memory",
                       path, (uint64_t)st.st_size);
    if (fcntl(p->fd, F_OFD_SETLK, &l))
        return errno == EAGAIN || errno == EACCES
                   ? err_set(e, -EBUSY, "%s: in use: another program has locked it", path)
                   : err_sys(e, -errno, "%s", path);
    *size = (uint64_t)st.st_size;
    int rc = p->lost ? 0 : posix_fallocate(p->fd, 0, st.st_size);
    return rc ? err_sys(e, -rc, "%s", path) : 0;
}

/* Is an address one that the guest's processor has? */
static bool reachable(struct machine *m, pn_gpa end) {
    uint32_t leaf[4] = {0};
    m->ops->cpuid(m->engine, 0x80000008u, 0, leaf);
    unsigned bits = leaf[0] & 0xff ? leaf[0] & 0xff : 36;
    return bits >= 63 || end <= 1ull << bits;
}

int pmem_create(struct machine *m, unsigned number, const char *path, bool lost,
                pn_gpa *end, struct pmem **out, struct err *e) {
    struct pmem *p = calloc(1, sizeof(*p));
    uint64_t size = 0;
    if (!p)
        return err_set(e, -ENOMEM, "out of memory");
    p->lost = lost;
    int rc = open_file(p, path, &size, e);
    pn_gpa gpa = (*end + GPA_ALIGN - 1) & ~(GPA_ALIGN - 1);
    if (rc == 0 && (size > INT64_MAX - gpa || !reachable(m, gpa + size)))
        rc = err_set(e, -EINVAL, "%s: beyond the addresses of the guest's processor",
                     path);
    if (rc == 0 && !(p->base = map(p, size)))
        rc = err_sys(e, -errno, "%s", path);
    p->slot = (struct pn_memslot){
        .id = SLOT_PMEM + number, .gpa = gpa, .size = size, .hva = p->base};
    if (rc == 0 && (rc = pmem_add_slot(m, p)))
        err_sys(e, rc, "%s: its memslot", path);
    if (rc) {
        pmem_destroy(p);
        return rc;
    }
    *end = gpa + size;
    *out = p;
    return 0;
}

void pmem_destroy(struct pmem *p) {
    if (!p)
        return;
    if (p->base)
        munmap(p->base, p->slot.size);
    if (p->fd >= 0)
        close(p->fd);
    free(p);
}

int pmem_add_slot(struct machine *m, const struct pmem *p) {
    return m->ops->set_slot(m->engine, &p->slot);
}

struct pn_memslot pmem_slot(const struct pmem *p) {
    return p->slot;
}

struct virtio_pmem_config pmem_device(struct pmem *p) {
    return (struct virtio_pmem_config){
        .start = p->slot.gpa, .size = p->slot.size, .host = {flush, p}};
}
