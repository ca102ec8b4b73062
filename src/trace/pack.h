/* SPDX-License-Identifier: MIT */
/*
 * Blocks of records as zstd frames (README.md has the layout). A block stands alone: the
 * one before it need not be there.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "penumbra/events.h"

#define PACK_RECORDS 4096u /* of a block at most */

struct pack;                    /* one thread's */
struct pack *pack_create(void); /* NULL: out of memory */
void pack_destroy(struct pack *p);
/* Bytes of a frame at most. */
size_t pack_bound(void);
/* One frame of n records, 1 to PACK_RECORDS, into out of pack_bound() bytes.
 * Return: its size; 0: out of memory. */
size_t pack_encode(struct pack *p, const struct pn_event_rec *rec, size_t n, void *out);
/* Exactly n records, up to PACK_RECORDS, out of a frame that nobody has checked.
 * Return: whether they are in it. */
bool pack_decode(struct pack *p, const void *frame, size_t size, struct pn_event_rec *rec,
                 size_t n);
