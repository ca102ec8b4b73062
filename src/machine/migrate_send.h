/* SPDX-License-Identifier: MIT */
/* Threads that send pages, one for each data stream (migrate_send.c). */
#pragma once

#include "machine/migrate_internal.h"

struct migrate_sender;

struct migrate_sending {
    struct wire_group *group;
    struct migrate_pages pages;
    uint64_t *todo; /* a bit for each page that is to be sent */
    uint64_t *free; /* for each that was not, as the guest said that it is free */
    enum migrate_compression compression;
    unsigned streams;
    bool every; /* zeros are sent that the destination has already: it waits for all */
    struct migrate_sender *sender[MIGRATE_STREAMS_MAX];
    /* Guards what is below. */
    pthread_mutex_t lock;
    pthread_cond_t change;
    unsigned round, working; /* senders that have not ended this round */
    bool leave;
    int rc; /* of the first that failed */
    char line[256];
    uint64_t sent, zeros; /* pages */
};

/* Connect the streams and start their threads. Return: 0, or -errno with a line in e; close
 * does for both. */
int migrate_sending_open(struct migrate_sending *s, const char *to, struct wire_tls *tls,
                         const uint64_t session[2], struct err *e);
void migrate_sending_close(struct migrate_sending *s);

/* Send all of `todo`, which is empty then. begin: do not wait for it. Return: 0, or -errno
 * with a line in e. */
void migrate_sending_begin(struct migrate_sending *s);
int migrate_sending_wait(struct migrate_sending *s, struct err *e);
/* One page of `todo` now, on another stream. packer: the caller's. Return: 0; -ENOENT: it is
 * not in `todo` any more; or -errno with a line in e. */
int migrate_send_now(struct migrate_sending *s, struct migrate_stream *on,
                     struct migrate_packer *packer, uint64_t page, struct err *e);
/* Leave a page of `todo` out. Return: whether it was in it. */
bool migrate_sending_skip(struct migrate_sending *s, uint64_t page);
/* LAST on every stream. */
int migrate_sending_last(struct migrate_sending *s, struct err *e);
uint64_t migrate_sending_left(const struct migrate_sending *s); /* pages of `todo` */
