/* SPDX-License-Identifier: MIT */
/* How memory comes out of a snapshot: at once, mapped, or when it is touched. */
#pragma once

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "machine/snapshot_internal.h"

/* Read exactly that (snapshot_memory.c). Return: 0, -EBADMSG: the file is shorter, or -errno. */
int snap_read_at(int fd, void *buf, size_t size, uint64_t at);

/* ---- Working sets (snapshot_set.c) ---- */

struct snap_set {
    int fd; /* -1: none */
    uint64_t pages;
    uint32_t *page; /* in the order in which they were touched */
};
/* snapshot: its manifest's digest. all: the guest's pages. Return: 0, or -errno with a line in
 * e: -EINVAL: of another snapshot; -EBADMSG: damaged. */
int snap_set_open(struct snap_set *s, const char *path, uint64_t snapshot, uint64_t all,
                  struct err *e);
void snap_set_close(struct snap_set *s);
/* Into a new file: the bytes of one page after another, then their numbers. Return: 0 or -errno. */
int snap_set_add(int fd, uint64_t number, const uint8_t *data);
int snap_set_end(int fd, uint64_t snapshot, const uint32_t *page, uint64_t pages);

/* A thread that puts a working set's pages, in order. */
struct snap_ahead {
    struct snap_set set;
    bool wants_data;
    /* Pages one behind another. data: what the set's file says that they hold. Return: 0; else
     * no more. */
    int (*put)(void *opaque, uint64_t page, uint64_t pages, const uint8_t *data);
    void *opaque;
    pthread_t thread;
    bool started;
    atomic_bool stop;
};
int snap_ahead_start(struct snap_ahead *a); /* Return: 0 or -errno */
void snap_ahead_end(struct snap_ahead *a);  /* also of one that was not started */

/* ---- When it is touched (snapshot_lazy.c) ---- */

struct snap_lazy;
/* Memory that has no page yet, and has pages of that snapshot when it is touched.
 * Return: 0, or -errno with a line in e. */
int snap_lazy_open(struct machine *m, struct snap_lazy **out, struct err *e);
/* The pages come ahead of the guest. ahead: an open set; its owner keeps it. */
int snap_lazy_put(void *lazy, uint64_t page, uint64_t pages, const uint8_t *data);
/* Put all of it; then it is memory as any other. The machine stands. Return: 0, or -errno with a
 * line in e. */
int snap_lazy_finish(struct snap_lazy *l, struct err *e);
/* The guest has given these bytes up: what is missing of them is zeros. */
void snap_lazy_forget(struct snap_lazy *l, const uint8_t *at, size_t size);
/* What was touched, and in which order. */
int snap_lazy_end_set(struct snap_lazy *l, struct err *e);
void snap_lazy_close(struct snap_lazy *l); /* NULL: nothing */
