/* SPDX-License-Identifier: MIT */
/*
 * What the cases of dirty_check.h are played on: an engine, a guest that takes orders, and the
 * oracle.
 *
 *     slot   gpa              pages
 *     0      0                1541   the guest's code and tables; 2..4 MiB in 4 KiB mappings
 *     1      4 GiB            70
 *     2      4 GiB + 4 MiB    549    begins with 2 MiB that may be one large mapping
 *
 * Numbers of slots and pages are the caller's to keep in range.
 */
#pragma once

#include "inspect/dirty_check.h"

#define RIG_SLOTS     3u
#define RIG_CONSUMERS 2u
#define RIG_ORDERS    16u

enum rig_memory {
    RIG_SMALL,  /* pages of 4 KiB, given when they are touched */
    RIG_HUGE,   /* of the host's larger pages, all there */
    RIG_PRIVATE /* a private mapping of what the memory was: nothing is there yet */
};

struct rig_order {
    uint32_t what, count;
    pn_gpa gpa;
    uint32_t stride, value;
};

struct rig {
    const struct pn_engine_ops *ops;
    enum pn_dirty_tracker tracker;
    struct dirty_score *score;
    struct err *e;
    struct pn_mmu_options mmu;
    struct pn_bus bus;
    struct pn_engine *engine;
    struct pn_dirty_log *log;
    uint8_t *base; /* the slots' memory */
    struct pn_memslot slot[RIG_SLOTS];
    struct {
        struct pn_dirty_consumer *consumer;
        uint64_t *hash; /* XXH3 of every page when it committed last */
    } side[RIG_CONSUMERS];
    struct rig_order order[RIG_ORDERS];
    unsigned orders, at,
        word;       /* given; the guest is at order `at`, and has read `word` of it */
    uint32_t value; /* no two writes store the same */
};

/* Memory, engine and guest, without a log. Return (as all below): 0, or -errno with a line in
 * r->e; then rig_close all the same. */
int rig_open(struct rig *r, enum rig_memory memory);
void rig_close(struct rig *r);
/* Switch the log on. */
int rig_log(struct rig *r);
/* Another engine takes the guest over, in memory of that kind with the same contents. */
int rig_restore(struct rig *r, enum rig_memory memory);
/* Side i begins to consume; the first one's first harvest is of all that was written so far. */
int rig_attach(struct rig *r, unsigned i);
/* Harvest, and let the oracle compare. committed: the consumer has what it wanted. */
int rig_harvest(struct rig *r, unsigned i, bool committed);

/* The guest writes (reads) one word in each of `count` pages, `stride` pages apart. */
int rig_write(struct rig *r, unsigned slot, uint64_t page, unsigned count,
              unsigned stride);
int rig_read(struct rig *r, unsigned slot, uint64_t page, unsigned count,
             unsigned stride);
/* The guest stores `count` words, each half in the page and half in the one before it. */
int rig_cross(struct rig *r, unsigned slot, uint64_t page, unsigned count);
/* The guest writes `count` bytes by one instruction. */
int rig_string(struct rig *r, unsigned slot, uint64_t offset, unsigned count);
/* A device writes; or somebody past the engine, and says so. */
int rig_device(struct rig *r, unsigned slot, uint64_t page);
int rig_past(struct rig *r, unsigned slot, uint64_t page);
int rig_slot_gone(struct rig *r, unsigned slot);
int rig_slot_back(struct rig *r, unsigned slot);
static inline uint64_t rig_pages(const struct rig *r, unsigned slot) {
    return r->slot[slot].size / PN_PAGE_SIZE;
}
/* The host is to swap all of the slots out. Return: pages that are in memory no more. */
uint64_t rig_page_out(struct rig *r);
/* The case cannot be had here. Return: 0. */
int rig_skip(struct rig *r, const char *why);
