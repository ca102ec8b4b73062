/* SPDX-License-Identifier: MIT */
/*
 * What this process gives up before it runs a guest: files that were not named (Landlock), and
 * system calls that it does not make (seccomp). What is refused fails: with EACCES for a file,
 * with EPERM for a call. Nothing of it can be taken back, and child processes have it, too.
 *
 * Landlock is of the thread that asks and of its later children alone: sandbox_files_enter comes before the
 * first thread is made. The filter of system calls is of all threads.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* ---- Files (sandbox_files.c) ---- */

enum {
    SANDBOX_READ = 1,      /* files and folders */
    SANDBOX_WRITE = 2,     /* what is in files */
    SANDBOX_DEVICE = 4,    /* ioctl of a device file that is opened from now on */
    SANDBOX_NAMES = 8,     /* make, rename and remove files */
    SANDBOX_FOLDERS = 16,  /* make, rename and remove folders */
    SANDBOX_LINKS = 32,    /* make symbolic links; links and moves between folders */
    SANDBOX_SOCKETS = 64,  /* make Unix sockets, and remove them */
    SANDBOX_PROGRAMS = 128 /* execute, until system calls are shut in, too */
};

struct sandbox_files;

/* Nothing is allowed yet. connects: TCP connections may be made.
 * Return: 0; -ENOSYS or -EOPNOTSUPP: this kernel has no Landlock; other -errno. */
int sandbox_files_create(bool connects, struct sandbox_files **out);
/* rights: SANDBOX_... of this file, or of all below this folder. What is not there, or is not a
 * file system's (a pipe), needs no rule. Return: 0 or -errno. */
int sandbox_files_allow(struct sandbox_files *f, const char *path, unsigned rights);
/* Listen at this port of TCP's. Return: 0 or -errno. */
int sandbox_files_listen(struct sandbox_files *f, unsigned port);
/* From now on. f is gone. Return: 0 or -errno. */
int sandbox_files_enter(struct sandbox_files *f);
void sandbox_files_drop(struct sandbox_files *f); /* NULL: nothing */

/* ---- System calls (sandbox_calls.c) ---- */

/* What else a process needs. */
enum {
    SANDBOX_ALWAYS = 0,
    SANDBOX_FORK =
        1, /* copies of the process: checkpoints, a save while the guest runs */
    SANDBOX_WIRE = 2, /* new connections */
    SANDBOX_CODE =
        4, /* more memory for translated code: a shared mapping that cannot be written */
    SANDBOX_KVM = 8,    /* ioctls of KVM's */
    SANDBOX_SHARE = 16, /* a folder that the guest changes: modes, owners, times, links */
    SANDBOX_WATCH = 32, /* which pages are written, for a move: userfaultfd */
    SANDBOX_PROFILE = 64 /* a timer whose signals interrupt a thread */
};

/* Instead of a refusal: the call is done, and the first of each kind is told of by a process beside
 * this one, which ends with it. */
struct sandbox_log {
    void (*tell)(const char *call);
    void (*leave)(void); /* end the process beside */
};

/* From now on, in all threads: calls outside sandbox_calls.inc fail. log NULL: nothing is told.
 * Return: 0, or -errno with a line in e. */
int sandbox_calls_enter(unsigned needs, const struct sandbox_log *log, struct err *e);

/* ---- Descriptors (sandbox_fds.c) ---- */

/* Those above the standard three that are open now: whoever started us left them. Return: how many of
 * them are in fd, which has room for `most`. */
unsigned sandbox_fds_inherited(int *fd, unsigned most);
