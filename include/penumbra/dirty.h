/* SPDX-License-Identifier: MIT */
/*
 * Dirty logging: which pages of guest memory were written.
 *
 * A tracker finds written pages: an engine has one at a time, chosen when it is created.
 * A consumer (a report, a migration, a snapshot) asks what was written since it asked
 * last. One harvest of the tracker serves all consumers: what the others have not asked
 * for yet is kept for them.
 *
 * Invariants
 * 1. A page written since a consumer's last harvest is in its next one: by the guest, a
 *    device, a loader or penumbra itself. A consumer reads the page after the harvest has
 *    returned, so a write during the harvest is in what it reads, or in the next harvest.
 * 2. A page that nobody wrote is in no harvest of an exact tracker. All trackers here are
 *    exact. A store that writes what the page held already counts as a write.
 * Locking: none; one thread is inside a log. vCPUs may run meanwhile.
 */
#pragma once

#include "penumbra/mmu.h"

struct pn_engine;
struct pn_engine_ops;

/* Return: "bitmap"...; "off" for PN_TRACKER_OFF; NULL beyond the last. */
const char *pn_dirty_name(unsigned tracker);
/* One line for each tracker: its name, what it does, which engines have it. */
void pn_dirty_print(FILE *out);

struct pn_dirty_log;
#define PN_DIRTY_CONSUMERS_MAX 8u

/* A log over the slots of an engine that was created with a tracker, and whose slots have
 * PN_SLOT_LOG_DIRTY. The slots are copied; they may not move while the log exists.
 * Return: 0 or -ENOMEM. */
int pn_dirty_open(const struct pn_engine_ops *ops, struct pn_engine *engine,
                  const struct pn_memslot *slots, unsigned count,
                  struct pn_dirty_log **out);
void pn_dirty_close(struct pn_dirty_log *log);

/* A new consumer: its first harvest holds what is written from now on, and what no
 * harvest has taken yet. Return: its number, or -ENOSPC, -ENOMEM. */
int pn_dirty_attach(struct pn_dirty_log *log);
void pn_dirty_detach(struct pn_dirty_log *log, int consumer);

/* Take what was written since this consumer's last harvest. Return: pages, or -errno of
 * the engine. Read the bitmaps with pn_dirty_bitmap; they hold until the next harvest of
 * any consumer. */
long pn_dirty_harvest(struct pn_dirty_log *log, int consumer);
/* Bit i of word i / 64: page i of the slot. */
const uint64_t *pn_dirty_bitmap(const struct pn_dirty_log *log, unsigned slot_index);
