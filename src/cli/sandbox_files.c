/* SPDX-License-Identifier: MIT */
/*
 * Files that a process may open, by Landlock. Facts: the kernel's userspace-api/landlock. The
 * headers of Debian 12 know less than newer kernels do, so numbers that they lack are here.
 */
#define _GNU_SOURCE /* O_PATH */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/sandbox.h"

/* Rights by the version of the interface that brought them. */
#define FS_V1       ((UINT64_C(1) << 13) - 1)
#define FS_REFER    (UINT64_C(1) << 13) /* 2 */
#define FS_TRUNCATE (UINT64_C(1) << 14) /* 3 */
#define FS_IOCTL    (UINT64_C(1) << 15) /* 5 */
#define NET_BIND    UINT64_C(1)         /* 4 */
#define NET_CONNECT UINT64_C(2)         /* 4 */
#define SCOPES      UINT64_C(3)         /* 6: abstract Unix sockets, signals */

#define RULE_PORT 2 /* LANDLOCK_RULE_NET_PORT */

/* struct landlock_net_port_attr. */
struct port_rule {
    uint64_t access, port;
};

/* struct landlock_ruleset_attr, as version 6 has it. An older kernel takes zeros for what it lacks. */
struct ruleset {
    uint64_t fs, net, scoped;
};

struct sandbox_files {
    int fd;
    uint64_t handled, handled_net;
};

static struct ruleset known(int version, bool connects) {
    struct ruleset r = {.fs = FS_V1};
    r.fs |= version >= 2 ? FS_REFER : 0;
    r.fs |= version >= 3 ? FS_TRUNCATE : 0;
    r.net = version < 4 ? 0 : connects ? NET_BIND : NET_BIND | NET_CONNECT;
    r.fs |= version >= 5 ? FS_IOCTL : 0;
    r.scoped = version >= 6 ? SCOPES : 0;
    return r;
}

int sandbox_files_create(bool connects, struct sandbox_files **out) {
    long version = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0,
                           LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 0)
        return -errno;
    struct sandbox_files *f = calloc(1, sizeof(*f));
    if (!f)
        return -ENOMEM;
    const struct ruleset r = known((int)version, connects);
    f->handled = r.fs;
    f->handled_net = r.net;
    f->fd = (int)syscall(SYS_landlock_create_ruleset, &r, sizeof(r), 0u);
    if (f->fd < 0) {
        int rc = -errno;
        free(f);
        return rc;
    }
    *out = f;
    return 0;
}

static uint64_t access_of(unsigned rights, bool folder) {
    uint64_t a = 0;
    if (rights & SANDBOX_READ)
        a |= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
    if (rights & SANDBOX_WRITE)
        a |= LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE;
    if (rights & SANDBOX_DEVICE)
        a |= FS_IOCTL;
    if (rights & SANDBOX_NAMES)
        a |= LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE;
    if (rights & SANDBOX_FOLDERS)
        a |= LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR;
    if (rights & SANDBOX_LINKS)
        a |= LANDLOCK_ACCESS_FS_MAKE_SYM | FS_REFER;
    if (rights & SANDBOX_SOCKETS)
        a |= LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE;
    if (rights & SANDBOX_PROGRAMS)
        a |= LANDLOCK_ACCESS_FS_EXECUTE;
    if (!folder)
        a &= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE |
             FS_IOCTL;
    return a;
}

int sandbox_files_allow(struct sandbox_files *f, const char *path, unsigned rights) {
    struct stat st;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) /* who needs it will say so */
        return errno == ENOMEM || errno == EMFILE || errno == ENFILE ? -errno : 0;
    int rc = fstat(fd, &st) ? -errno : 0;
    const struct landlock_path_beneath_attr rule = {
        .allowed_access = access_of(rights, S_ISDIR(st.st_mode)) & f->handled,
        .parent_fd = fd};
    if (!rc && rule.allowed_access &&
        syscall(SYS_landlock_add_rule, f->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0u))
        rc = errno == EBADFD ? 0 : -errno; /* a pipe: of no file system */
    close(fd);
    return rc;
}

int sandbox_files_listen(struct sandbox_files *f, unsigned port) {
    const struct port_rule rule = {.access = NET_BIND, .port = port};
    if (!(f->handled_net & NET_BIND))
        return 0;
    return syscall(SYS_landlock_add_rule, f->fd, RULE_PORT, &rule, 0u) ? -errno : 0;
}

int sandbox_files_enter(struct sandbox_files *f) {
    int rc = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
                     syscall(SYS_landlock_restrict_self, f->fd, 0u)
                 ? -errno
                 : 0;
    sandbox_files_drop(f);
    return rc;
}

void sandbox_files_drop(struct sandbox_files *f) {
    if (!f)
        return;
    close(f->fd);
    free(f);
}
