/* SPDX-License-Identifier: MIT */
/* Pages that come when they are touched: see uffd.h. */
#include "base/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

int uffd_open(bool kernel, const char *what, struct err *e) {
    struct uffdio_api api = {.api = UFFD_API};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == EPERM && !kernel) /* nobody but this process touches it */
        fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    if (fd >= 0 && !ioctl(fd, UFFDIO_API, &api))
        return fd;
    int rc = -errno;
    if (fd >= 0)
        close(fd);
    return err_sys(e, rc, "%s: userfaultfd (be root, or set vm.unprivileged_userfaultfd)",
                   what);
}

int uffd_watch(int fd, void *at, size_t size) {
    struct uffdio_register r = {.range = {(uintptr_t)at, size},
                                .mode = UFFDIO_REGISTER_MODE_MISSING};
    return ioctl(fd, UFFDIO_REGISTER, &r) ? -errno : 0;
}

void uffd_unwatch(int fd, void *at, size_t size) {
    struct uffdio_range r = {(uintptr_t)at, size};
    ioctl(fd, UFFDIO_UNREGISTER, &r);
}

/* Return: bytes that are put, or -errno: of the first one. */
static int64_t put_some(int fd, uintptr_t at, const void *data, size_t size) {
    struct uffdio_copy c = {at, (uintptr_t)data, size, 0, 0};
    struct uffdio_zeropage z = {.range = {at, size}};
    int rc = data ? ioctl(fd, UFFDIO_COPY, &c) : ioctl(fd, UFFDIO_ZEROPAGE, &z);
    int64_t done = data ? c.copy : z.zeropage;
    if (rc == 0)
        return (int64_t)size;
    return errno != EAGAIN ? -errno : done > 0 ? done : 0;
}

int uffd_put(int fd, void *at, const void *data, size_t size) {
    for (size_t done = 0; done < size;) {
        int64_t n = put_some(fd, (uintptr_t)at + done,
                             data ? (const uint8_t *)data + done : NULL, size - done);
        if (n < 0)
            return (int)n;
        done += (size_t)n;
    }
    return 0;
}

int uffd_wake(int fd, void *at, size_t size) {
    struct uffdio_range r = {(uintptr_t)at, size};
    return ioctl(fd, UFFDIO_WAKE, &r) ? -errno : 0;
}

bool uffd_next(int fd, uint64_t *address) {
    struct uffd_msg msg;
    while (read(fd, &msg, sizeof(msg)) == sizeof(msg))
        if (msg.event == UFFD_EVENT_PAGEFAULT) {
            *address = msg.arg.pagefault.address;
            return true;
        }
    return false;
}
