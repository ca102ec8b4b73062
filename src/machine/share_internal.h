/* SPDX-License-Identifier: MIT */
/* Between the parts of the server: messages (share.c) and what they do (share_ops.c). */
#pragma once

#include <limits.h>
#include <string.h>

#include "machine/share.h"

#define NO_FID UINT32_MAX

struct share_fid {
    uint32_t number;
    int path; /* O_PATH, of the object itself */
    int io;   /* open for reading or writing; -1: not open */
    struct share_fid *next;
};

#define SHARE_HASH 64u

struct share {
    int root; /* O_PATH */
    int self; /* /proc/self/fd */
    bool read_only;
    uint32_t epoch, message_max;
    unsigned fids;
    struct share_fid *hash[SHARE_HASH];
};

/* A message that is read, and the answer that is written. What does not fit makes it bad. */
struct share_msg {
    const uint8_t *in;
    size_t size, at;
    uint8_t *out;
    size_t room, used;
    bool bad;
};

uint64_t share_get(struct share_msg *m, unsigned bytes);
void share_put(struct share_msg *m, uint64_t value, unsigned bytes);
void share_put_bytes(struct share_msg *m, const void *p, size_t size);
void share_put_text(struct share_msg *m, const char *text, size_t length);
/* A string of at most size - 1 bytes, without zeros in it; else the message is bad. */
void share_get_text(struct share_msg *m, char *text, size_t size);

struct share_fid *share_find(const struct share *s, uint32_t number);
/* A new fid, which takes the descriptor over. Return: 0 or -errno. */
int share_add(struct share *s, uint32_t number, int path, struct share_fid **out);
void share_remove(struct share *s, struct share_fid *f);

/* What a request does; the answer's body goes into m. Return: 0 or -errno. */
typedef int (*share_op)(struct share *s, struct share_msg *m);
#define REQUEST(type, name, writes)                                                      \
    int share_##name(struct share *s, struct share_msg *m);
#include "machine/share_requests.inc"
