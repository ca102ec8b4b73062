/* SPDX-License-Identifier: MIT */
/*
 * Blocks of records on their way from the thread that runs the vCPUs to a thread of the
 * queue's own, which hashes, compresses and writes them meanwhile. The thread begins with the first
 * block, so that a process may shut itself in before it (cli/sandbox.h).
 *
 * Invariants
 * 1. Each block is put away once, in the order in which the blocks were passed on.
 * 2. Between queue_wait and the next queue_pass the queue's thread rests: the caller may
 *    touch what `put` touches.
 * Locking: one thread at a time calls the functions below.
 */
#pragma once

#include <stdint.h>

#include "penumbra/events.h"

#define QUEUE_RECORDS 4096u /* of a block at most: 320 KiB */

struct queue;
/* put is called by the queue's thread. Return: 0 and *out, or -errno. */
int queue_create(void (*put)(void *opaque, const struct pn_event_rec *rec, uint32_t n),
                 void *opaque, struct queue **out);
/* The block to fill: room for QUEUE_RECORDS. It is the caller's until queue_pass. */
struct pn_event_rec *queue_block(const struct queue *q);
/* Pass the block's first n records on, if there are any; waits while all blocks are full.
 * queue_block is another one then. */
void queue_pass(struct queue *q, uint32_t n);
/* Until all that was passed on is put away. */
void queue_wait(struct queue *q);
/* The end of the queue, and of blocks that nobody has begun to put away. NULL: nothing. */
void queue_destroy(struct queue *q);
