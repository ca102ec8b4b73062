/* SPDX-License-Identifier: MIT */
/*
 * An LD_PRELOAD shim that asks the kernel, from inside a run, for what the sandbox is to refuse: at
 * the first byte that the guest writes to its console. A line for each on stderr, "ask: NAME: refused",
 * or "allowed"; then the run goes on. PN_ASK is a folder that no option names, with a file `there`.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char there[4200], fresh[4200];

static bool refusal(int error) {
    return error == EPERM || error == EACCES || error == ENOSYS;
}

static void say(const char *name, bool refused) {
    dprintf(STDERR_FILENO, "ask: %s: %s\n", name, refused ? "refused" : "allowed");
}

/* A child ends at once. */
static long forked(long pid) {
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        waitpid((pid_t)pid, NULL, 0);
    return pid;
}

static long map(int prot, int flags, int fd) {
    void *p = mmap(NULL, 4096, prot, flags, fd, 0);
    return p == MAP_FAILED ? -1 : 0;
}

static long map_file(const char *path, int flags) {
    int fd = path ? open(path, O_RDONLY) : (int)syscall(SYS_memfd_create, "ask", 0);
    long rc = fd < 0 || (!path && ftruncate(fd, 4096))
                  ? 0
                  : map(PROT_READ | PROT_EXEC, flags, fd);
    int error = errno;
    close(fd);
    errno = error;
    return rc;
}

static long make_executable(long call) {
    void *p =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return syscall(call, p, 4096, PROT_READ | PROT_EXEC, -1);
}

static long inherited(void) {
    bool open = fcntl(77, F_GETFD) >= 0;
    errno = EPERM;
    return open ? 0 : -1;
}

/* Is any memory written and executed at one address? */
static long written_and_executed(void) {
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512], rights[8];
    long found = -1;
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "%*s %7s", rights) == 1 && rights[1] == 'w' && rights[2] == 'x')
            found = 0;
    if (f)
        fclose(f);
    errno = EPERM;
    return f ? found : 0;
}

/* A thread without the filter, or with new privileges. */
static long free_thread(void) {
    DIR *d = opendir("/proc/self/task");
    long found = d ? -1 : 0;
    for (struct dirent *one; d && (one = readdir(d));) {
        char path[300], line[256];
        unsigned value, filtered = 0, privileges = 0;
        snprintf(path, sizeof(path), "/proc/self/task/%s/status", one->d_name);
        FILE *f = one->d_name[0] == '.' ? NULL : fopen(path, "r");
        while (f && fgets(line, sizeof(line), f)) {
            filtered |= sscanf(line, "Seccomp: %u", &value) == 1 && value == 2;
            privileges |= sscanf(line, "NoNewPrivs: %u", &value) == 1 && value == 1;
        }
        if (f && !(filtered && privileges))
            found = 0;
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    errno = EPERM;
    return found;
}

static void ask(void) {
    const char *no = "/nonexistent";
    char *const none[] = {NULL};
    pid_t parent = getppid();
    char byte = 'x';
    struct rlimit limit = {1, 1};
    const char *tables = "/usr/lib/x86_64-linux-gnu/libc.so.6";
#define ASK(name, asked)                                                                 \
    do {                                                                                 \
        errno = 0;                                                                       \
        long rc_ = (long)(asked);                                                        \
        say(name, rc_ < 0 && refusal(errno));                                            \
    } while (0);
#include "tests/cli/ask.inc"
}

ssize_t write(int fd, const void *buf, size_t size) {
    static bool asked;
    const char *folder = getenv("PN_ASK");
    if (fd == STDOUT_FILENO && folder && !asked) {
        asked = true;
        snprintf(there, sizeof(there), "%s/there", folder);
        snprintf(fresh, sizeof(fresh), "%s/fresh", folder);
        ask();
    }
    return syscall(SYS_write, fd, buf, size);
}
