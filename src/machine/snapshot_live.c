/* SPDX-License-Identifier: MIT */
/*
 * A save while the guest runs on: a copy of this process (fork) has the guest's memory as it was
 * at that moment, writes it, and says what came of it. The kernel copies a page when the guest
 * is the first to write it.
 *
 * Invariants
 * 1. The copy touches nothing that it shares with this process but the new folder's files and
 *    the pipe of its report; it ends with this process.
 * 2. Until the report is there, the folder is on its way: whoever dies, there is the whole
 *    snapshot, or none.
 */
#define _GNU_SOURCE /* pipe2, close_range */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/thread.h"
#include "machine/history.h"
#include "machine/snapshot_internal.h"

#define KEPT 5u

struct report {
    int rc;
    uint64_t digest;
    char text[400];
};

/* A thread that makes memory whole again when the copy has ended. */
struct mender {
    pthread_t thread;
    pid_t of; /* the process that has it; 0: there is none */
    struct hostmem ram,
        window; /* the machine's, as they were then; window.base NULL: none */
    atomic_bool stop;
};

struct machine_saving {
    pid_t pid; /* 0: its report is here */
    int fd;
    struct snap_writer w; /* names; the files are the copy's */
    struct machine_base *base;
    uint64_t began, ended; /* host time */
    struct report report;
    char *dir;
    struct mender mender;
};

/* ---- The copy ---- */

static int by_number(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

/* Nothing else stays open: who listens at a socket of this process's is to hear of its end. */
static void close_others(const int keep[KEPT]) {
    int fd[KEPT], from = 3;
    memcpy(fd, keep, sizeof(fd));
    qsort(fd, KEPT, sizeof(fd[0]), by_number);
    for (unsigned i = 0; i < KEPT; i++) {
        if (fd[i] < from) /* -1: there is none */
            continue;
        if (fd[i] > from)
            close_range((unsigned)from, (unsigned)fd[i] - 1, 0);
        from = fd[i] + 1;
    }
    close_range((unsigned)from, ~0u, 0);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3; i++)
        dup2(null, i);
}

/* Its end is not asked for by the terminal's keys, but comes with this process's. */
static void withdraw(const struct snap_writer *w, int fd, pid_t parent) {
    static const int ignored[] = {SIGINT, SIGQUIT, SIGHUP, SIGTSTP, SIGPIPE};
    const int keep[KEPT] = {w->fd, w->state_fd, w->memory_fd, w->clone_fd, fd};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (unsigned i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    if (getppid() != parent)
        raise(SIGKILL);
    close_others(keep);
}

static void copy(struct snap_writer *w, int fd, snap_live_fn write, void *opaque) {
    struct report r = {0};
    struct err e = {r.text, sizeof(r.text)};
    r.rc = write(opaque, &r.digest, &e);
    snap_writer_abandon(w); /* after commit: nothing */
    (void)file_write(fd, &r, sizeof(r));
}

/* ---- Huge pages ---- */

/* A split page costs the guest misses of the host's TLB, and the next live save time: the kernel then copies 512 entries
 * for each 2 MiB, and not one. */
static void *mend(void *opaque) {
    struct mender *w = opaque;
    hostmem_mend(&w->ram, &w->stop);
    if (w->window.base)
        hostmem_mend(&w->window, &w->stop);
    return NULL;
}

/* Where the memory is the guest's alone, and nobody else watches it. */
static void mend_begin(const struct machine *m, struct mender *w) {
    if (m->fill || m->cfg.numa || pn_dirty_by_host(m->cfg.dirty) || !m->ram.huge)
        return;
    w->ram = m->ram;
    w->window = m->window;
    w->of = thread_start(&w->thread, mend, w) ? 0 : getpid();
}

/* A copy of this process (history.c) has the note of the thread, and not the thread. */
static void mend_end(struct mender *w) {
    atomic_store(&w->stop, true);
    if (w->of == getpid())
        pthread_join(w->thread, NULL);
    w->of = 0;
}

/* ---- Here ---- */

int snap_live_can_begin(struct machine *m, struct err *e) {
    if (machine_saving(m, false, NULL) == SAVING_GOES_ON)
        return err_set(e, -EBUSY, "%s is being written: one live save at a time",
                       m->saving->dir);
    if (m->ram.fd >= 0 || m->window.fd >= 0)
        return err_set(e, -ENOTSUP,
                       "a live save: not with --shared-memory, or --hugepages 2M or 1G, "
                       "whose pages a copy would share");
    return 0;
}

/* Give up what the last one left. */
static void forget(struct machine *m) {
    struct machine_saving *s = m->saving;
    if (!s)
        return;
    mend_end(&s->mender);
    free(s->dir);
    free(s);
    m->saving = NULL;
}

static int start(struct machine_saving *s, struct snap_writer *w, void (*leave)(void),
                 snap_live_fn write, void *opaque) {
    int pipe[2];
    pid_t parent = getpid();
    if (pipe2(pipe, O_CLOEXEC))
        return -errno;
    s->pid = fork();
    if (s->pid == 0) {
        withdraw(w, pipe[1], parent);
        copy(w, pipe[1], write, opaque);
        leave();
    }
    int rc = s->pid < 0 ? -errno : 0;
    close(pipe[1]);
    s->fd = pipe[0];
    if (rc)
        close(pipe[0]);
    return rc;
}

int snap_live_begin(struct machine *m, struct snap_writer *w, struct machine_base *base,
                    void (*leave)(void), snap_live_fn write, void *opaque,
                    struct err *e) {
    struct machine_saving *s = calloc(1, sizeof(*s));
    char *dir = s ? strdup(w->dir) : NULL;
    forget(m);
    int rc = dir ? start(s, w, leave, write, opaque) : -ENOMEM;
    if (rc) {
        free(dir);
        free(s);
        return err_sys(e, rc, "a copy of the guest's memory");
    }
    s->dir = dir;
    s->base = base;
    s->began = host_ns();
    s->w = snap_writer_hand_over(w);
    m->saving = s;
    return 0;
}

/* The copy has ended; without a report: something killed it. */
static void take_report(struct machine *m, struct machine_saving *s) {
    ssize_t n;
    do
        n = read(s->fd, &s->report, sizeof(s->report));
    while (n < 0 && errno == EINTR);
    close(s->fd);
    while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    s->pid = 0;
    s->ended = host_ns();
    if (n != sizeof(s->report)) {
        struct err e = {s->report.text, sizeof(s->report.text)};
        s->report.rc = err_set(&e, -EIO, "%s: whoever wrote it was killed", s->dir);
    }
    if (s->report.rc == 0)
        machine_base_keep(m, s->base, s->report.digest);
    else
        machine_base_drop(s->base);
    s->base = NULL;
    mend_begin(m, &s->mender);
    if (s->report.rc == 0)
        snap_writer_forget(&s->w);
    else
        snap_writer_abandon(&s->w);
}

enum machine_saving_state machine_saving(struct machine *m, bool wait,
                                         struct machine_saving_report *out) {
    struct machine_saving *s = m->saving;
    if (!s || machine_history_replays(m))
        return SAVING_NONE;
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    int n = 0;
    while (s->pid && (n = poll(&p, 1, wait ? -1 : 0)) < 0 && errno == EINTR)
        ;
    if (s->pid && n)
        take_report(m, s);
    if (out)
        *out = (struct machine_saving_report){.dir = s->dir,
                                              .rc = s->report.rc,
                                              .error = s->report.text,
                                              .host_ns = (s->pid ? host_ns() : s->ended) -
                                                         s->began};
    return s->pid ? SAVING_GOES_ON : s->report.rc ? SAVING_FAILED : SAVING_DONE;
}

void machine_saving_end(struct machine *m) {
    machine_saving(m, true, NULL);
    forget(m);
}
