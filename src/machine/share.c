/* SPDX-License-Identifier: MIT */
/* A shared folder's messages and fids: see share.h. */
#define _GNU_SOURCE /* O_PATH */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "machine/share_internal.h"

#define HEADER_SIZE 7u /* size, type, tag */
#define RLERROR     7u

/* ---- Messages ---- */

uint64_t share_get(struct share_msg *m, unsigned bytes) {
    uint64_t value = 0;
    if (m->bad || m->size - m->at < bytes) {
        m->bad = true;
        return 0;
    }
    memcpy(&value, m->in + m->at, bytes);
    m->at += bytes;
    return value;
}

void share_put_bytes(struct share_msg *m, const void *p, size_t size) {
    if (m->bad || m->room - m->used < size) {
        m->bad = true;
        return;
    }
    memcpy(m->out + m->used, p, size);
    m->used += size;
}

void share_put(struct share_msg *m, uint64_t value, unsigned bytes) {
    share_put_bytes(m, &value, bytes);
}

void share_put_text(struct share_msg *m, const char *text, size_t length) {
    share_put(m, length, 2);
    share_put_bytes(m, text, length);
}

void share_get_text(struct share_msg *m, char *text, size_t size) {
    size_t length = share_get(m, 2);
    text[0] = 0;
    if (m->bad || length >= size || m->size - m->at < length ||
        memchr(m->in + m->at, 0, length)) {
        m->bad = true;
        return;
    }
    memcpy(text, m->in + m->at, length);
    text[length] = 0;
    m->at += length;
}

/* ---- Fids ---- */

struct share_fid *share_find(const struct share *s, uint32_t number) {
    struct share_fid *f = s->hash[number % SHARE_HASH];
    while (f && f->number != number)
        f = f->next;
    return f;
}

int share_add(struct share *s, uint32_t number, int path, struct share_fid **out) {
    int rc = number == NO_FID            ? -EINVAL
             : share_find(s, number)     ? -EBUSY
             : s->fids == SHARE_FIDS_MAX ? -ENFILE
                                         : 0;
    struct share_fid *f = rc ? NULL : calloc(1, sizeof(*f));
    if (!f) {
        close(path);
        return rc ? rc : -ENOMEM;
    }
    *f = (struct share_fid){number, path, -1, s->hash[number % SHARE_HASH]};
    s->hash[number % SHARE_HASH] = f;
    s->fids++;
    if (out)
        *out = f;
    return 0;
}

void share_remove(struct share *s, struct share_fid *f) {
    struct share_fid **p = &s->hash[f->number % SHARE_HASH];
    while (*p != f)
        p = &(*p)->next;
    *p = f->next;
    s->fids--;
    close(f->path);
    if (f->io >= 0)
        close(f->io);
    free(f);
}

static void forget_all(struct share *s) {
    for (unsigned i = 0; i < SHARE_HASH; i++)
        while (s->hash[i])
            share_remove(s, s->hash[i]);
}

/* ---- Requests ---- */

static const struct {
    share_op op;
    bool writes;
} requests[256] = {
#define REQUEST(type, name, writes) [type] = {share_##name, writes},
#include "machine/share_requests.inc"
};

int share_version(struct share *s, struct share_msg *m) {
    static const char known[] = "9P2000.L";
    char text[32];
    uint64_t most = share_get(m, 4);
    share_get_text(m, text, sizeof(text));
    forget_all(s);
    s->message_max = most < P9_MESSAGE_MAX ? (uint32_t)most : P9_MESSAGE_MAX;
    bool ok = !m->bad && !strcmp(text, known);
    share_put(m, s->message_max, 4);
    share_put_text(m, ok ? known : "unknown", strlen(ok ? known : "unknown"));
    return 0;
}

static size_t message(void *opaque, uint32_t epoch, const uint8_t *in, size_t size,
                      uint8_t *out, size_t room) {
    struct share *s = opaque;
    if (epoch != s->epoch) {
        forget_all(s);
        s->epoch = epoch;
        s->message_max = P9_MESSAGE_MAX;
    }
    struct share_msg m = {.in = in, .size = size, .out = out, .room = room};
    uint64_t length = share_get(&m, 4);
    uint8_t type = (uint8_t)share_get(&m, 1);
    uint16_t tag = (uint16_t)share_get(&m, 2);
    if (m.bad || length < HEADER_SIZE || length > size || room < HEADER_SIZE + 4)
        return 0;
    m.size = length;
    m.used = HEADER_SIZE;
    if (m.room > s->message_max && s->message_max >= HEADER_SIZE + 4)
        m.room = s->message_max;
    int rc = !requests[type].op                      ? -EOPNOTSUPP
             : s->read_only && requests[type].writes ? -EROFS
                                                     : requests[type].op(s, &m);
    if (rc == 0 && m.bad)
        rc = -EINVAL;
    if (rc) {
        m.bad = false;
        m.used = HEADER_SIZE;
        share_put(&m, (uint32_t)-rc, 4);
    }
    uint32_t total = (uint32_t)m.used;
    memcpy(out, &total, 4);
    out[4] = (uint8_t)(rc ? RLERROR : type + 1u);
    memcpy(out + 5, &tag, 2);
    return m.used;
}

/* ---- Life ---- */

int share_open(const char *path, bool read_only, struct share **out, struct err *e) {
    struct share *s = calloc(1, sizeof(*s));
    if (!s)
        return err_set(e, -ENOMEM, "out of memory");
    s->read_only = read_only;
    s->message_max = P9_MESSAGE_MAX;
    s->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    s->self = s->root < 0 ? -1 : open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (s->self < 0) {
        int rc = err_sys(e, -errno, "%s", s->root < 0 ? path : "/proc/self/fd");
        share_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void share_close(struct share *s) {
    if (!s)
        return;
    forget_all(s);
    if (s->self >= 0)
        close(s->self);
    if (s->root >= 0)
        close(s->root);
    free(s);
}

struct dev_9p share_server(struct share *s) {
    return (struct dev_9p){.message = message, .opaque = s};
}
