/* SPDX-License-Identifier: MIT */
/*
 * Threads that send pages. Stream i has the words i, i + streams, ... of the bitmaps, so a page
 * is always in one stream, and two threads are never in one word.
 *
 * Invariant: a page is copied once, and what is noted of it is of that copy. The guest may
 * write it meanwhile; then it is in the next harvest, and is sent again.
 */
#include "machine/migrate_send.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"

struct migrate_sender {
    struct migrate_sending *s;
    unsigned number;
    struct migrate_stream stream;
    struct migrate_packer packer;
    pthread_t thread;
    bool started;
};

/* Send what is packed, if anything is. */
static int flush(struct migrate_stream *on, struct migrate_packer *p, struct err *e) {
    size_t size = migrate_packer_end(p);
    return size ? migrate_put(on, MIGRATE_PAGES, p->record, size, e) : 0;
}

static void pack(struct migrate_sending *s, struct migrate_packer *p, uint64_t page) {
    static const uint8_t zeros[PN_PAGE_SIZE];
    bool absent = page >= s->pages.ram && !s->pages.window;
    const uint8_t *data =
        migrate_packer_add(p, page, absent ? zeros : migrate_at(&s->pages, page));
    if (!data && !s->every && !migrate_is_there(&s->pages, page))
        migrate_packer_drop(p);
    else
        migrate_pages_note(&s->pages, page, data);
}

/* All of its words. */
static int send_mine(struct migrate_sender *me, struct err *e) {
    struct migrate_sending *s = me->s;
    int rc = 0;
    for (size_t w = me->number; rc == 0 && w < migrate_words(&s->pages);
         w += s->streams) {
        if (!__atomic_load_n(&s->todo[w], __ATOMIC_RELAXED))
            continue;
        uint64_t bits = __atomic_exchange_n(&s->todo[w], 0, __ATOMIC_RELAXED);
        for (; bits; bits &= bits - 1)
            pack(s, &me->packer, w * 64 + (unsigned)__builtin_ctzll(bits));
        rc = flush(&me->stream, &me->packer, e);
    }
    return rc;
}

static void *work(void *opaque) {
    struct migrate_sender *me = opaque;
    struct migrate_sending *s = me->s;
    char line[sizeof(s->line)] = "";
    struct err e = {line, sizeof(line)};
    pthread_mutex_lock(&s->lock);
    for (unsigned done = 0;; done++) {
        while (s->round == done && !s->leave)
            pthread_cond_wait(&s->change, &s->lock);
        if (s->leave)
            break;
        pthread_mutex_unlock(&s->lock);
        uint64_t pages = me->packer.pages, zeros = me->packer.zeros;
        int rc = send_mine(me, &e);
        pthread_mutex_lock(&s->lock);
        s->sent += me->packer.pages - pages;
        s->zeros += me->packer.zeros - zeros;
        if (rc && !s->rc) {
            s->rc = rc;
            memcpy(s->line, line, sizeof(line));
        }
        s->working--;
        pthread_cond_broadcast(&s->change);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static int start(struct migrate_sender *me) {
    int rc = thread_start(&me->thread, work, me);
    me->started = rc == 0;
    return rc;
}

static int open_one(struct migrate_sending *s, unsigned i, const char *to,
                    struct wire_tls *tls, const uint64_t session[2], struct err *e) {
    struct migrate_sender *me = s->sender[i] = calloc(1, sizeof(*me));
    const uint64_t number = i;
    struct wire *w;
    if (!me)
        return err_set(e, -ENOMEM, "out of memory");
    me->s = s;
    me->number = i;
    int rc = migrate_packer_open(&me->packer, s->compression)
                 ? err_set(e, -ENOMEM, "out of memory")
                 : wire_connect(s->group, to, tls, &w, e);
    if (rc)
        return rc;
    migrate_stream_open(&me->stream, w, to);
    me->stream.key = migrate_key(session[0], session[1], i + 1);
    rc = migrate_put(&me->stream, MIGRATE_JOIN, &number, sizeof(number), e);
    if (rc == 0 && (rc = start(me)))
        err_sys(e, rc, "a thread for a stream");
    return rc;
}

int migrate_sending_open(struct migrate_sending *s, const char *to, struct wire_tls *tls,
                         const uint64_t session[2], struct err *e) {
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < s->streams; i++)
        rc = open_one(s, i, to, tls, session, e);
    return rc;
}

void migrate_sending_close(struct migrate_sending *s) {
    pthread_mutex_lock(&s->lock);
    s->leave = true;
    pthread_cond_broadcast(&s->change);
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < s->streams && s->sender[i]; i++) {
        struct migrate_sender *me = s->sender[i];
        if (me->started)
            pthread_join(me->thread, NULL);
        migrate_stream_close(&me->stream);
        migrate_packer_close(&me->packer);
        free(me);
        s->sender[i] = NULL;
    }
}

void migrate_sending_begin(struct migrate_sending *s) {
    pthread_mutex_lock(&s->lock);
    s->working = s->streams;
    s->round++;
    pthread_cond_broadcast(&s->change);
    pthread_mutex_unlock(&s->lock);
}

int migrate_sending_wait(struct migrate_sending *s, struct err *e) {
    pthread_mutex_lock(&s->lock);
    while (s->working)
        pthread_cond_wait(&s->change, &s->lock);
    int rc = s->rc ? err_set(e, s->rc, "%s", s->line) : 0;
    pthread_mutex_unlock(&s->lock);
    return rc;
}

int migrate_send_now(struct migrate_sending *s, struct migrate_stream *on,
                     struct migrate_packer *packer, uint64_t page, struct err *e) {
    uint64_t bit = 1ull << page % 64;
    if (!(__atomic_fetch_and(&s->todo[page / 64], ~bit, __ATOMIC_RELAXED) & bit))
        return -ENOENT;
    pack(s, packer, page);
    return flush(on, packer, e);
}

bool migrate_sending_skip(struct migrate_sending *s, uint64_t page) {
    uint64_t bit = 1ull << page % 64;
    bool was = __atomic_fetch_and(&s->todo[page / 64], ~bit, __ATOMIC_RELAXED) & bit;
    if (was)
        s->free[page / 64] |= bit;
    return was;
}

int migrate_sending_last(struct migrate_sending *s, struct err *e) {
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < s->streams; i++)
        rc = migrate_put(&s->sender[i]->stream, MIGRATE_LAST, NULL, 0, e);
    return rc;
}

uint64_t migrate_sending_left(const struct migrate_sending *s) {
    uint64_t n = 0;
    for (size_t w = 0; w < migrate_words(&s->pages); w++)
        n += (uint64_t)__builtin_popcountll(s->todo[w]);
    return n;
}
