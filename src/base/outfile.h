/* SPDX-License-Identifier: MIT */
/*
 * A result file that is whole or absent: written beside its name and renamed.
 *
 * "-" is standard output. A name that exists and is no regular file (a terminal, a FIFO),
 * or lies in /dev or /proc, is written in place and never replaced. A symbolic link stays:
 * the file that it leads to is written. No locks: one thread owns an outfile.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

struct outfile {
    int fd;     /* -1: not open */
    char *path; /* the final name */
    char *temp; /* what is written now, NAME.XXXXXX.part; NULL: path itself, in place */
};

/* A file that exists keeps its mode, and is refused where it may not be written.
 * Return: 0, or -errno (nothing is left behind). */
int outfile_open(struct outfile *f, const char *path);
/* Close and give it its name. Return: 0, or -errno (what was written is removed). */
int outfile_commit(struct outfile *f);
/* Close and remove what was written. Harmless on one that is not open but zeroed with
 * fd -1. */
void outfile_abandon(struct outfile *f);

/* A stream of its own over an output's descriptor, which stays open. Return: NULL, and
 * errno. */
FILE *outfile_stream(int fd);
/* Write what is left, and close the stream alone. errno is of the write that failed: none
 * succeeds after it. Return: 0 or -errno. */
int outfile_close_stream(FILE *out);

/* The folder that a file with this name would be renamed in, into dir. Return: whether there is
 * one: a file that is written in place needs none. */
bool outfile_folder(const char *path, char *dir, size_t size);
/* Does the name stand for standard output? */
bool outfile_is_stdout(const char *path);
/* Would both names write one file? Not where nothing is lost by it (/dev/null). */
bool outfile_same(const char *a, const char *b);
