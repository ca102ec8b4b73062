/* SPDX-License-Identifier: MIT */
/*
 * System calls that a process may make, by libseccomp. With `log` a process beside this one hears of
 * every other call, says so once, and lets it be done.
 */
#define _GNU_SOURCE /* CLONE_... */
#include <errno.h>
#include <linux/fs.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "cli/sandbox.h"

#define NAMESPACES                                                                       \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |       \
     CLONE_NEWPID | CLONE_NEWNET)
#define REQUEST(r) SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, (r))
#define KVM_IOCTLS 0xaeu /* KVMIO of <linux/kvm.h> */
#ifndef PAGEMAP_SCAN     /* since Linux 6.7 */
#define PAGEMAP_SCAN 0xc0606610u
#endif

#define ARGS_MAX 2

struct call {
    const char *name;
    unsigned needs, args;
    struct scmp_arg_cmp arg[ARGS_MAX];
};

static bool wanted(const struct call *c, unsigned needs) {
    return (c->needs & needs) == c->needs;
}

static int add(scmp_filter_ctx filter, const struct call *c, unsigned needs) {
    int number =
        wanted(c, needs) ? seccomp_syscall_resolve_name(c->name) : __NR_SCMP_ERROR;
    if (number == __NR_SCMP_ERROR) /* not wanted, or newer than the library */
        return 0;
    int rc = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, c->args, c->arg);
    return rc == -EEXIST ? 0 : rc;
}

#define COUNT(...)                                                                       \
    (sizeof((struct scmp_arg_cmp[]){__VA_ARGS__}) / sizeof(struct scmp_arg_cmp))

static int add_calls(scmp_filter_ctx filter, unsigned needs) {
    const struct call calls[] = {
#define CALL(name, need) {#name, SANDBOX_##need, 0, {{0}}},
#define CALL_IF(name, need, ...)                                                         \
    {#name, SANDBOX_##need, COUNT(__VA_ARGS__), {__VA_ARGS__}},
#include "cli/sandbox_calls.inc"
    };
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < sizeof(calls) / sizeof(calls[0]); i++)
        rc = add(filter, &calls[i], needs);
    return rc;
}

static scmp_filter_ctx create(unsigned needs, uint32_t otherwise, int *rc) {
    scmp_filter_ctx filter = seccomp_init(otherwise);
    *rc = filter ? 0 : -ENOMEM;
    if (!filter)
        return NULL;
    *rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (*rc == 0) /* of 32-bit programs */
        *rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, otherwise);
    if (*rc == 0) /* a filter does not make this process's own branches secret */
        *rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    if (*rc == 0) /* its flags are in memory: the C library goes on with clone */
        *rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (*rc == 0)
        *rc = add_calls(filter, needs);
    if (*rc == 0)
        *rc = seccomp_syscall_priority(filter, SCMP_SYS(ioctl), UINT8_MAX);
    if (*rc == 0)
        return filter;
    seccomp_release(filter);
    return NULL;
}

/* ---- The process beside ---- */

#define NUMBERS 1024u

static int send_fd(int to, int fd) {
    char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 0;
    struct iovec bytes = {&byte, 1};
    struct msghdr m = {.msg_iov = &bytes,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)),
                          .cmsg_level = SOL_SOCKET,
                          .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    return sendmsg(to, &m, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

/* Return: -1: there is none. */
static int receive_fd(int from) {
    char control[CMSG_SPACE(sizeof(int))], byte;
    struct iovec bytes = {&byte, 1};
    struct msghdr m = {.msg_iov = &bytes,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
    int fd = -1;
    if (recvmsg(from, &m, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&m))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
    return fd;
}

static void tell(const struct sandbox_log *log, const struct seccomp_data *d) {
    char *name = seccomp_syscall_resolve_num_arch(d->arch, d->nr), line[160];
    snprintf(line, sizeof(line), "%s(%#llx, %#llx, %#llx)",
             name ? name : "an unknown call", (unsigned long long)d->args[0],
             (unsigned long long)d->args[1], (unsigned long long)d->args[2]);
    log->tell(line);
    free(name);
}

static void listen_at(int fd, const struct sandbox_log *log) {
    bool told[NUMBERS] = {false};
    struct seccomp_notif *asked;
    struct seccomp_notif_resp *answer;
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (seccomp_notify_alloc(&asked, &answer))
        return;
    while (poll(&wait, 1, -1) > 0 && wait.revents & POLLIN) {
        memset(asked, 0, sizeof(*asked));
        if (seccomp_notify_receive(fd, asked))
            continue; /* who asked has ended */
        unsigned n = (unsigned)asked->data.nr % NUMBERS;
        if (!told[n])
            tell(log, &asked->data);
        told[n] = true;
        *answer = (struct seccomp_notif_resp){.id = asked->id,
                                              .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        (void)seccomp_notify_respond(fd, answer);
    }
    seccomp_notify_free(asked, answer);
}

/* Keys of the terminal are not for it. It has stderr and one end of the pair alone. */
static void live_beside(int pair, const struct sandbox_log *log) {
    static const int ignored[] = {SIGINT, SIGQUIT, SIGHUP, SIGTERM, SIGTSTP, SIGPIPE};
    for (unsigned i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN);
    dup2(pair, STDIN_FILENO);
    close(STDOUT_FILENO);
    close_range(STDERR_FILENO + 1, ~0u, 0);
    int fd = receive_fd(STDIN_FILENO);
    if (fd >= 0)
        listen_at(fd, log);
    log->leave();
}

/* Return: the other end of its pair, or -errno. */
static int begin_beside(const struct sandbox_log *log) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return -errno;
    pid_t pid = fork();
    if (pid == 0)
        live_beside(pair[1], log);
    int rc = pid < 0 ? -errno : pair[0];
    close(pair[1]);
    if (pid < 0)
        close(pair[0]);
    return rc;
}

/* ---- Life ---- */

static int load(scmp_filter_ctx filter, int beside) {
    int rc = seccomp_load(filter);
    if (rc || beside < 0)
        return rc;
    int fd = seccomp_notify_fd(filter);
    return fd < 0 ? fd : send_fd(beside, fd);
}

int sandbox_calls_enter(unsigned needs, const struct sandbox_log *log, struct err *e) {
    int rc, beside = log ? begin_beside(log) : -1;
    if (log && beside < 0)
        return err_sys(e, beside, "a process that tells of system calls");
    scmp_filter_ctx filter =
        create(needs, log ? SCMP_ACT_NOTIFY : SCMP_ACT_ERRNO(EPERM), &rc);
    if (filter) {
        rc = load(filter, beside);
        seccomp_release(filter);
    }
    if (beside >= 0)
        close(beside);
    return rc ? err_sys(e, rc, "the filter of system calls") : 0;
}
