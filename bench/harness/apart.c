/* SPDX-License-Identifier: MIT */
/*
 * One run in a process of its own, this program started anew: see measure.h. What is to be
 * run goes there through a socket as a plain struct, and what came of it comes back.
 *
 * Invariant: nothing of this process is left in the other but its CPU, its limits and its
 * standard error.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "bench/harness/measure.h"

#define MAGIC    0x70656e756d627261u
#define JSON_MAX ((uint64_t)16 << 20)

/* Texts of a request, one behind the other: append, kernel, initrd, numa, cpu_model,
 * devices. */
#define TEXTS     6u
#define TEXT_MAX  4096u
#define NO_TEXT   UINT32_MAX
#define REPLY_MAX 256u

struct request {
    uint64_t magic;
    char engine[16];
    struct measure_config cfg; /* its pointers mean nothing */
    struct pn_mmu_options mmu;
    struct pn_tlb_model tlb;
    bool has_tlb;
    uint32_t text[TEXTS]; /* bytes of each; NO_TEXT: there is none */
};

struct reply {
    int32_t rc;
    char error[REPLY_MAX];
    struct measure_sample sample;
    uint64_t foreign; /* bytes of JSON behind the reply; 0: none */
};

/* Return: 0, or -errno; -EPIPE: the other end is closed. */
static int receive_all(int fd, void *data, size_t size) {
    char *p = data;
    while (size) {
        ssize_t n = recv(fd, p, size, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? -errno : -EPIPE;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

/* ---- The process that asks ---- */

static int send_request(int fd, const struct measure_config *cfg) {
    const char *const text[TEXTS] = {cfg->append, cfg->kernel,    cfg->initrd,
                                     cfg->numa,   cfg->cpu_model, cfg->devices};
    struct request q = {.magic = MAGIC, .cfg = *cfg, .mmu = *cfg->mmu};
    snprintf(q.engine, sizeof(q.engine), "%s", cfg->engine->name);
    q.has_tlb = cfg->tlb != NULL;
    if (cfg->tlb)
        q.tlb = *cfg->tlb;
    for (unsigned i = 0; i < TEXTS; i++) {
        size_t n = text[i] ? strlen(text[i]) : 0;
        if (n >= TEXT_MAX)
            return -ENAMETOOLONG;
        q.text[i] = text[i] ? (uint32_t)n : NO_TEXT;
    }
    int rc = file_write(fd, &q, sizeof(q));
    for (unsigned i = 0; i < TEXTS && !rc; i++)
        if (text[i])
            rc = file_write(fd, text[i], q.text[i]);
    return rc;
}

static int receive_reply(int fd, struct measure_sample *out, struct err *e) {
    struct reply r;
    int rc = receive_all(fd, &r, sizeof(r));
    if (rc)
        return rc;
    r.error[REPLY_MAX - 1] = 0;
    if (r.rc)
        return err_set(e, r.rc, "%s", r.error);
    *out = r.sample;
    out->foreign = NULL;
    if (!r.foreign)
        return 0;
    char *text = r.foreign <= JSON_MAX ? malloc(r.foreign) : NULL;
    rc = text ? receive_all(fd, text, r.foreign) : -ENOMEM;
    out->foreign = rc ? NULL : json_loadb(text, r.foreign, 0, NULL);
    free(text);
    return rc;
}

/* Signals of the terminal are for the process that asks: it decides, and ends the other. */
static int spawn(int fd, pid_t *pid) {
    char *const argv[] = {(char *)"penumbra", (char *)MEASURE_COMMAND, NULL};
    extern char **environ;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGHUP);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fd, STDIN_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigmask(&attributes, &blocked);
    int rc = posix_spawn(pid, "/proc/self/exe", &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return -rc;
}

/* Return: what the exchange came to; if it broke off, how the process ended is in e. */
static int finish(struct measure_child *child, pid_t pid, int rc, bool whole,
                  struct err *e) {
    int status = 0;
    if (!whole)
        kill(pid, SIGKILL);
    child->pid = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (*child->stop)
        return err_set(e, -EINTR, "interrupted");
    if (whole)
        return rc;
    return WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL
               ? err_set(e, -ECHILD, "its process ended by signal %d (%s)",
                         WTERMSIG(status), strsignal(WTERMSIG(status)))
               : err_set(e, -ECHILD, "its process ended without a result");
}

int measure_apart(const struct measure_config *cfg, struct measure_child *child,
                  struct measure_sample *out, char *err, size_t err_size) {
    struct err e = {err, err_size};
    int fd[2];
    pid_t pid;
    memset(out, 0, sizeof(*out));
    err[0] = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
        return err_sys(&e, -errno, "no process for the run");
    int rc = spawn(fd[1], &pid);
    close(fd[1]);
    if (rc) {
        close(fd[0]);
        return err_sys(&e, rc, "no process for the run");
    }
    child->pid = pid;
    if (*child->stop)
        kill(pid, SIGKILL);
    rc = send_request(fd[0], cfg);
    if (!rc)
        rc = receive_reply(fd[0], out, &e);
    close(fd[0]);
    return finish(child, pid, rc, !rc || err[0], &e);
}

/* ---- The process that runs ---- */

static int receive_request(int fd, struct request *q, char text[TEXTS][TEXT_MAX]) {
    int rc = receive_all(fd, q, sizeof(*q));
    for (unsigned i = 0; i < TEXTS && !rc; i++) {
        if (q->magic != MAGIC || (q->text[i] >= TEXT_MAX && q->text[i] != NO_TEXT))
            return -EPROTO;
        size_t n = q->text[i] == NO_TEXT ? 0 : q->text[i];
        rc = n ? receive_all(fd, text[i], n) : 0;
        text[i][n] = 0;
    }
    if (rc)
        return rc;
    q->engine[sizeof(q->engine) - 1] = 0;
    q->cfg.engine = pn_engine_find(q->engine);
    q->cfg.mmu = &q->mmu;
    q->cfg.tlb = q->has_tlb ? &q->tlb : NULL;
    const char **const to[TEXTS] = {&q->cfg.append, &q->cfg.kernel,    &q->cfg.initrd,
                                    &q->cfg.numa,   &q->cfg.cpu_model, &q->cfg.devices};
    for (unsigned i = 0; i < TEXTS; i++)
        *to[i] = q->text[i] == NO_TEXT ? NULL : text[i];
    return q->cfg.engine ? 0 : -EPROTO;
}

int measure_serve(int fd) {
    static char text[TEXTS][TEXT_MAX];
    static struct request q;
    struct reply r;
    memset(&r, 0, sizeof(r));
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int rc = receive_request(fd, &q, text);
    if (rc)
        return rc;
    r.rc = measure_run(&q.cfg, &r.sample, r.error, sizeof(r.error));
    char *foreign = r.sample.foreign ? json_dumps(r.sample.foreign, JSON_COMPACT) : NULL;
    json_decref(r.sample.foreign);
    r.sample.foreign = NULL;
    r.foreign = foreign ? strlen(foreign) : 0;
    rc = file_write(fd, &r, sizeof(r));
    if (!rc && foreign)
        rc = file_write(fd, foreign, r.foreign);
    free(foreign);
    return rc;
}
