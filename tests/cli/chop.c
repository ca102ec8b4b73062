/* SPDX-License-Identifier: MIT */
/*
 * An LD_PRELOAD shim that ends a snapshot's writer, or fails it, at one of its calls to the
 * kernel. The file that PN_CHOP names says at which, and how; it is read each time that a
 * folder NAME.part is made:
 *
 *   AT HOW CUT    HOW: kill (SIGKILL), or the number of an error. A write is done up to
 *                 CUT 256ths before. AT 0: never
 *
 * Calls are counted from that mkdir, which is the first. The count so far is in the file
 * PN_CHOP.count. Reads of a snapshot's files are counted apart: where PN_CHOP_READ is a number,
 * the read of that number, from the start of the process on, is an I/O error, and the count is in
 * PN_CHOP.reads.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    bool begun;
    unsigned at, cut;
    atomic_uint count; /* threads write, too */
    int error;         /* 0: kill */
    char file[512];
} chop;

/* With system calls alone: none of this is counted. */
static void read_plan(void) {
    const char *name = getenv("PN_CHOP");
    char text[64] = "", how[16] = "";
    int fd = name ? (int)syscall(SYS_openat, AT_FDCWD, name, O_RDONLY, 0) : -1;
    if (fd < 0 || syscall(SYS_read, fd, text, sizeof(text) - 1) < 0 ||
        sscanf(text, "%u %15s %u", &chop.at, how, &chop.cut) != 3)
        chop.at = 0;
    if (fd >= 0)
        syscall(SYS_close, fd);
    chop.error = strcmp(how, "kill") ? atoi(how) : 0;
    snprintf(chop.file, sizeof(chop.file), "%s.count", name ? name : "");
    chop.count = 0;
    chop.begun = true;
}

static void tell(const char *file, unsigned count) {
    char text[16];
    int size = snprintf(text, sizeof(text), "%u\n", count);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT, 0666);
    if (fd >= 0) {
        syscall(SYS_pwrite64, fd, text, size, 0);
        syscall(SYS_close, fd);
    }
}

static bool due(void) {
    if (!chop.begun)
        return false;
    unsigned number = atomic_fetch_add(&chop.count, 1) + 1;
    tell(chop.file, number);
    return number == chop.at;
}

/* A read of a snapshot's file that is to fail. Threads read, too. */
static bool read_is_due(int fd) {
    static atomic_uint count;
    static const char *const files[] = {"/manifest.json", "/state.bin", "/memory.bin"};
    const char *at = getenv("PN_CHOP_READ"), *plan = getenv("PN_CHOP");
    char link[32], path[512], counted[600];
    if (!at || !plan)
        return false;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    bool ours = false;
    for (unsigned i = 0; i < 3; i++) {
        size_t size = strlen(files[i]);
        ours |= n > (ssize_t)size && !memcmp(path + n - size, files[i], size);
    }
    if (!ours)
        return false;
    unsigned number = atomic_fetch_add(&count, 1) + 1;
    snprintf(counted, sizeof(counted), "%s.reads", plan);
    tell(counted, number);
    return number == (unsigned)atoi(at);
}

static int end(void) {
    if (!chop.error)
        syscall(SYS_kill, getpid(), SIGKILL);
    errno = chop.error;
    return -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int mkdir(const char *path, mode_t mode) {
    size_t n = strlen(path);
    if (n > 5 && !strcmp(path + n - 5, ".part"))
        read_plan();
    return due() ? end() : REAL(mkdir)(path, mode);
}

ssize_t write(int fd, const void *buf, size_t size) {
    struct stat st;
    bool file = !fstat(fd, &st) && S_ISREG(st.st_mode);
    if (!file || !due())
        return REAL(write)(fd, buf, size);
    if (size * chop.cut / 256)
        syscall(SYS_write, fd, buf, size * chop.cut / 256);
    return end();
}

static ssize_t failed(void) {
    errno = EIO;
    return -1;
}

ssize_t read(int fd, void *buf, size_t size) {
    return read_is_due(fd) ? failed() : REAL(read)(fd, buf, size);
}

ssize_t pread(int fd, void *buf, size_t size, off_t at) {
    return read_is_due(fd) ? failed() : REAL(pread)(fd, buf, size, at);
}

int openat(int fd, const char *path, int flags, ...) {
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    return due() ? end() : REAL(openat)(fd, path, flags, mode);
}

int fsync(int fd) {
    return due() ? end() : REAL(fsync)(fd);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    return due() ? end() : REAL(renameat2)(a, from, b, to, flags);
}

int unlink(const char *path) {
    return due() ? end() : REAL(unlink)(path);
}

int rmdir(const char *path) {
    return due() ? end() : REAL(rmdir)(path);
}
