/* SPDX-License-Identifier: MIT */
/*
 * The queue of blocks (see queue.h): a ring, in which `full` blocks wait to be put away or
 * are being put away, and the one behind them is filled.
 *
 * Locking: `lock` guards full and stop. A block is the caller's until `full` counts it, and
 * the queue's thread's as long as `full` does.
 */
#include "trace/queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/thread.h"

#define BLOCKS 8u

struct queue {
    void (*put)(void *, const struct pn_event_rec *, uint32_t);
    void *opaque;
    pthread_t thread; /* from the first block on */
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t more, less; /* full grew, or stop; full shrank */
    bool stop;
    unsigned full;
    unsigned filled; /* the caller's: the block that is filled */
    uint32_t count[BLOCKS];
    struct pn_event_rec (*block)[QUEUE_RECORDS];
};

static void *put_away(void *opaque) {
    struct queue *q = opaque;
    pthread_mutex_lock(&q->lock);
    for (unsigned i = 0;; i = (i + 1) % BLOCKS) {
        while (!q->full && !q->stop)
            pthread_cond_wait(&q->more, &q->lock);
        if (q->stop)
            break;
        pthread_mutex_unlock(&q->lock);
        q->put(q->opaque, q->block[i], q->count[i]);
        pthread_mutex_lock(&q->lock);
        q->full--;
        pthread_cond_signal(&q->less);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

static void free_queue(struct queue *q) {
    pthread_cond_destroy(&q->less);
    pthread_cond_destroy(&q->more);
    pthread_mutex_destroy(&q->lock);
    free(q->block);
    free(q);
}

int queue_create(void (*put)(void *, const struct pn_event_rec *, uint32_t), void *opaque,
                 struct queue **out) {
    struct queue *q = calloc(1, sizeof(*q));
    if (!q)
        return -ENOMEM;
    q->put = put;
    q->opaque = opaque;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->more, NULL);
    pthread_cond_init(&q->less, NULL);
    q->block = malloc(BLOCKS * sizeof(*q->block));
    if (!q->block) {
        free_queue(q);
        return -ENOMEM;
    }
    *out = q;
    return 0;
}

/* Return: whether the thread is there. */
static bool start(struct queue *q) {
    if (!q->started)
        q->started = thread_start(&q->thread, put_away, q) == 0;
    return q->started;
}

struct pn_event_rec *queue_block(const struct queue *q) {
    return q->block[q->filled];
}

void queue_pass(struct queue *q, uint32_t n) {
    if (!n)
        return;
    if (!start(q)) { /* no thread: it is done here */
        q->put(q->opaque, q->block[q->filled], n);
        return;
    }
    q->count[q->filled] = n;
    q->filled = (q->filled + 1) % BLOCKS;
    pthread_mutex_lock(&q->lock);
    if (!q->full++)
        pthread_cond_signal(&q->more);
    while (q->full == BLOCKS)
        pthread_cond_wait(&q->less, &q->lock);
    pthread_mutex_unlock(&q->lock);
}

void queue_wait(struct queue *q) {
    pthread_mutex_lock(&q->lock);
    while (q->full)
        pthread_cond_wait(&q->less, &q->lock);
    pthread_mutex_unlock(&q->lock);
}

void queue_destroy(struct queue *q) {
    if (!q)
        return;
    pthread_mutex_lock(&q->lock);
    q->stop = true;
    pthread_cond_signal(&q->more);
    pthread_mutex_unlock(&q->lock);
    if (q->started)
        pthread_join(q->thread, NULL);
    free_queue(q);
}
