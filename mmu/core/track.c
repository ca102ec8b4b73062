/* SPDX-License-Identifier: MIT */
/*
 * Users of pn_mmu_track_add: frames with translated code, whose stores the translator
 * must see. slot->track has TRACK_USER while there are any; they are counted in a small
 * hash, which outlives the memslot. (What is tracked because it is shadowed:
 * shadow/track.c.)
 *
 * A hypervisor does nothing of the kind, so the tables stay as they are without it, and
 * such a store is no fault: TLB entries alone keep their write tags back (tlb.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mmu/core/root.h"

/* ---- Users: open addressing, linear probes ---- */

static uint32_t home(const struct track_set *t, pn_gfn gfn) {
    return (uint32_t)(gfn * 0x9e3779b97f4a7c15ull >> 32) & (t->capacity - 1);
}

static struct track_user *user_find(const struct track_set *t, pn_gfn gfn) {
    if (!t->capacity)
        return NULL;
    for (uint32_t i = home(t, gfn);; i = (i + 1) & (t->capacity - 1)) {
        if (!t->e[i].count)
            return NULL;
        if (t->e[i].gfn == gfn)
            return &t->e[i];
    }
}

static void user_insert(struct track_set *t, struct track_user u) {
    uint32_t i = home(t, u.gfn);
    while (t->e[i].count)
        i = (i + 1) & (t->capacity - 1);
    t->e[i] = u;
    t->used++;
}

/* Close the gap that removal leaves, so that no probe stops early. */
static void user_remove(struct track_set *t, struct track_user *u) {
    uint32_t mask = t->capacity - 1, hole = (uint32_t)(u - t->e);
    for (uint32_t i = (hole + 1) & mask; t->e[i].count; i = (i + 1) & mask) {
        uint32_t want = home(t, t->e[i].gfn);
        if (((i - want) & mask) >= ((i - hole) & mask)) {
            t->e[hole] = t->e[i];
            hole = i;
        }
    }
    t->e[hole].count = 0;
    t->used--;
}

static int users_grow(struct track_set *t) {
    if (t->used * 2 < t->capacity)
        return 0;
    struct track_set big = {.capacity = t->capacity ? t->capacity * 2 : 256};
    big.e = calloc(big.capacity, sizeof(*big.e));
    if (!big.e)
        return -ENOMEM;
    for (uint32_t i = 0; i < t->capacity; i++)
        if (t->e[i].count)
            user_insert(&big, t->e[i]);
    free(t->e);
    *t = big;
    return 0;
}

uint32_t track_users(const struct pn_mmu *mmu, pn_gfn gfn) {
    const struct track_user *u = user_find(&mmu->users, gfn);
    return u ? u->count : 0;
}

void track_destroy(struct track_set *users) {
    free(users->e);
}

static void user_flag(struct pn_mmu *mmu, struct slot *s, pn_gfn gfn) {
    track_put(s, gfn, track_get(s, gfn) | TRACK_USER);
    mmu->ops->hold_writes(mmu, s, gfn, TLB_HELD_CODE);
    for (unsigned v = 0; v < mmu->vcpu_count; v++)
        observe(mmu, tlb_changed, mmu->vcpus[v]);
}

int pn_mmu_track_add(struct pn_mmu *mmu, pn_gfn gfn) {
    struct track_set *t = &mmu->users;
    record(mmu, track_add, 0, .w = {gfn});
    struct slot *s = slot_of_gfn(mmu, gfn);
    if (!s)
        return -ENOENT;
    struct track_user *u = user_find(t, gfn);
    if (u) {
        if (u->count == UINT32_MAX)
            return -ENOMEM;
        u->count++;
        return 0;
    }
    if (users_grow(t) < 0)
        return -ENOMEM;
    user_insert(t, (struct track_user){gfn, 1});
    user_flag(mmu, s, gfn);
    mmu_step(mmu);
    return 0;
}

void pn_mmu_track_remove(struct pn_mmu *mmu, pn_gfn gfn) {
    struct track_set *t = &mmu->users;
    record(mmu, track_remove, 0, .w = {gfn});
    struct track_user *u = user_find(t, gfn);
    if (!u || --u->count)
        return;
    u->count = 1; /* not free yet: user_remove looks for the chain's end */
    user_remove(t, u);
    struct slot *s = slot_of_gfn(mmu, gfn);
    if (s)
        track_put(s, gfn, track_get(s, gfn) & ~TRACK_USER);
}

/* ---- Stores ---- */

void track_stored(struct pn_mmu_vcpu *vcpu, const struct slot *s, pn_gpa gpa,
                  size_t size) {
    pn_gfn gfn = gpa >> PN_PAGE_SHIFT;
    if (!track_code(s, gfn) || track_tables(s, gfn))
        return;
    pn_count(vcpu->stats, code_stores);
    pn_emit(vcpu->ring, code_store, gpa, size);
}

/* ---- Memslots come and go; users stay ---- */

/* The frame's contents are about to be others: the users hear of it as of a write. */
void track_slot_gone(struct pn_mmu *mmu, struct slot *s) {
    if (!mmu->users.used || !mmu->cfg.on_track)
        return;
    for (uint64_t i = 0; i < s->npages; i++)
        if (s->track[i] & TRACK_USER)
            mmu->cfg.on_track(mmu->cfg.opaque, (s->gfn + i) << PN_PAGE_SHIFT,
                              PN_PAGE_SIZE);
}

void track_slot_added(struct pn_mmu *mmu, struct slot *s) {
    const struct track_set *t = &mmu->users;
    for (uint32_t i = 0; t->used && i < t->capacity; i++)
        if (t->e[i].count && t->e[i].gfn - s->gfn < s->npages)
            user_flag(mmu, s, t->e[i].gfn);
}
