/* SPDX-License-Identifier: MIT */
/*
 * Dirty logging: which pages of guest memory were written.
 *
 * A tracker finds written pages: an engine has one at a time, chosen when it is created.
 * What it gives is collected in one place, and from there every consumer (a report, a
 * snapshot, a migration) has its own epochs: a harvest ends one and gives every page that
 * was written since the last harvest that the consumer has committed.
 *
 * Invariants
 * 1. A page written since a consumer's last committed harvest is in its next one: by the
 *    guest, a device, a loader or penumbra itself. A consumer reads the page after the
 *    harvest has returned, so a write during the harvest is in what it reads, or in the next
 *    harvest.
 * 2. A page that nobody wrote is in no harvest of an exact tracker. All trackers here are
 *    exact. A store that writes what the page held already counts as a write.
 * 3. No consumer takes anything from another. A harvest that is not committed (what it was
 *    for has failed) gives its pages back: they are in the next one.
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

/* Does the host's kernel find the pages, for any engine? Then the engine has no part in it:
 * it is created without a tracker, and its slots without PN_SLOT_LOG_DIRTY. */
bool pn_dirty_by_host(enum pn_dirty_tracker tracker);

/* May no vCPU run during a harvest, or pages would be lost or late? */
bool pn_dirty_stops(enum pn_dirty_tracker tracker);

struct pn_dirty_log;
struct pn_dirty_consumer;

/* A log over the slots of an engine that was created with that tracker, and whose slots have
 * PN_SLOT_LOG_DIRTY; or over their memory, by the host. The slots are copied: id and size. A
 * slot that comes and goes is given with the largest size it can have; one whose hva is NULL
 * is not there yet. Return: 0; -ENOMEM; -ENOSYS: the host has no such tracker; or what it
 * said. */
int pn_dirty_open(const struct pn_engine_ops *ops, struct pn_engine *engine,
                  enum pn_dirty_tracker tracker, const struct pn_memslot *slots,
                  unsigned count, struct pn_dirty_log **out);
void pn_dirty_close(struct pn_dirty_log *log); /* and its consumers */

/* A slot is there no more, or again. gone: tell before the engine loses the slot, with no vCPU running: its log goes with it, and what that has is collected
 * now. Return: 0 or -errno of the engine. */
int pn_dirty_slot_gone(struct pn_dirty_log *log, unsigned slot_index);
int pn_dirty_slot_back(struct pn_dirty_log *log, unsigned slot_index, void *hva);
/* Nobody finds what is written to this slot: from here on each harvest has all of its pages, and so has each
 * consumer's first one after it is watched again. The caller sets and clears PN_SLOT_LOG_DIRTY: after off, before
 * on; no vCPU runs meanwhile. Return: 0 or -errno of the engine: nothing has changed. */
int pn_dirty_slot_off(struct pn_dirty_log *log, unsigned slot_index);
void pn_dirty_slot_on(struct pn_dirty_log *log, unsigned slot_index);
bool pn_dirty_slot_watched(const struct pn_dirty_log *log, unsigned slot_index);
/* Somebody wrote this page past the engine. */
void pn_dirty_mark(struct pn_dirty_log *log, unsigned slot_index, uint64_t page);

/* A new consumer, one of any number. The first one's first harvest holds all that the tracker
 * has; a later one's what is written from now on, and nothing of before.
 * Return: 0, or -ENOMEM or -errno of the engine, and then no consumer has lost anything. */
int pn_dirty_attach(struct pn_dirty_log *log, struct pn_dirty_consumer **out);
void pn_dirty_detach(struct pn_dirty_consumer *c); /* NULL: nothing */

/* What was written since this consumer's last committed harvest.
 * Return: pages, or -errno of the engine: nothing is lost, all of it is in the next harvest.
 * Read them with pn_dirty_bitmap; they hold until the consumer's next call. */
long pn_dirty_harvest(struct pn_dirty_consumer *c);
/* The pages of the last harvest are safe where the consumer wants them: it does not need to
 * see them again. */
void pn_dirty_commit(struct pn_dirty_consumer *c);
/* Bit i of word i / 64: page i of the slot. Slots are one behind another, each beginning with a
 * word of its own. */
const uint64_t *pn_dirty_bitmap(const struct pn_dirty_consumer *c, unsigned slot_index);
