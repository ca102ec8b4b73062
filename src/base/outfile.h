/* SPDX-License-Identifier: MIT */
/*
 * A result file that is whole or absent: written beside its name and renamed.
 *
 * A name that exists and is no regular file (/dev/null, a terminal, a FIFO) is written in
 * place and never replaced. No locks: one thread owns an outfile.
 */
#pragma once

struct outfile {
    int fd;     /* -1: not open */
    char *path; /* the final name */
    char *temp; /* what is written now; NULL: path itself, in place */
};

/* Return: 0, or -errno (nothing is left behind). */
int outfile_open(struct outfile *f, const char *path);
/* Close and give it its name. Return: 0, or -errno (what was written is removed). */
int outfile_commit(struct outfile *f);
/* Close and remove what was written. Harmless on one that is not open but zeroed with
 * fd -1. */
void outfile_abandon(struct outfile *f);
