/* SPDX-License-Identifier: MIT */
/*
 * Memslots: which guest-physical pages are memory, and where the host keeps them.
 *
 * Invariants
 * 1. by_gfn is sorted by gfn and no two slots overlap; by_id[i] is the slot whose id is
 *    i, or NULL; both name the same slots.
 * 2. last is NULL or a slot in by_gfn.
 * 3. slot->dirty exists exactly while PN_SLOT_LOG_DIRTY is set.
 * 4. A call that fails changed nothing: all memory is taken before the first change.
 * 5. generation advances with every change.
 * Locking: none (penumbra/mmu.h).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mmu/core/internal.h"

#define SLOT_FLAGS (PN_SLOT_READONLY | PN_SLOT_LOG_DIRTY)

/* ---- Look-up ---- */

/* Return: the index of the first slot that ends after gfn. */
static uint32_t lower_bound(const struct slots *s, pn_gfn gfn) {
    uint32_t lo = 0, hi = s->count;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        const struct slot *m = s->by_gfn[mid];
        if (m->gfn + m->npages <= gfn)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct slot *slots_search(struct slots *s, pn_gfn gfn) {
    uint32_t i = lower_bound(s, gfn);
    if (i == s->count || s->by_gfn[i]->gfn > gfn)
        return NULL;
    __atomic_store_n(&s->last, s->by_gfn[i], __ATOMIC_RELAXED);
    return s->by_gfn[i];
}

const struct pn_memslot *pn_mmu_slot_find(struct pn_mmu *mmu, pn_gpa gpa) {
    struct slot *s = slot_of_gfn(mmu, gpa >> PN_PAGE_SHIFT);
    return s ? &s->pub : NULL;
}

/* ---- One slot's memory ---- */

static void slot_free(struct slot *s) {
    if (!s)
        return;
    free(s->rmap);
    free(s->track);
    free(s->disallow_large[0]);
    free(s->disallow_large[1]);
    free(s->dirty);
    free(s->reset);
    free(s->stores);
    free(s);
}

static uint64_t *dirty_alloc(uint64_t npages) {
    return calloc((npages + 63) / 64 + npages, sizeof(uint64_t));
}

/* One reason in every large frame that the slot cannot back as one host range. */
static void large_init(struct slot *s, unsigned level, uint64_t frames) {
    uint64_t pages = 1ull << (9 * (level - 1));
    uint32_t *count = s->disallow_large[level - 2];
    if ((s->gfn ^ (uintptr_t)s->pub.hva >> PN_PAGE_SHIFT) & (pages - 1)) {
        for (uint64_t i = 0; i < frames; i++)
            count[i] = 1;
        return;
    }
    if (s->gfn & (pages - 1))
        count[0] = 1;
    if ((s->gfn + s->npages) & (pages - 1))
        count[frames - 1] = 1;
}

/* The big arrays come from calloc: untouched pages of theirs cost no host memory.
 * Return: the slot, or NULL. */
static struct slot *slot_alloc(const struct pn_memslot *req) {
    struct slot *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->pub = *req;
    s->gfn = req->gpa >> PN_PAGE_SHIFT;
    s->npages = req->size >> PN_PAGE_SHIFT;
    s->rmap = calloc(s->npages, sizeof(*s->rmap));
    s->track = calloc(s->npages, sizeof(*s->track));
    bool ok = s->rmap && s->track;
    for (unsigned level = 2; level <= 3 && ok; level++) {
        unsigned shift = 9 * (level - 1);
        uint64_t frames = ((s->gfn + s->npages - 1) >> shift) - (s->gfn >> shift) + 1;
        s->disallow_large[level - 2] = calloc(frames, sizeof(uint32_t));
        ok = s->disallow_large[level - 2] != NULL;
        if (ok)
            large_init(s, level, frames);
    }
    if (ok && req->flags & PN_SLOT_LOG_DIRTY)
        ok = (s->dirty = dirty_alloc(s->npages)) != NULL;
    if (!ok) {
        slot_free(s);
        return NULL;
    }
    return s;
}

/* ---- The two indexes ---- */

/* Room for one more, with this id. Return: 0 or -ENOMEM. */
static int slots_reserve(struct slots *s, uint32_t id) {
    if (id >= s->ids) {
        uint32_t ids = s->ids ? s->ids : 16;
        while (ids <= id)
            ids *= 2;
        struct slot **by_id = realloc(s->by_id, ids * sizeof(*by_id));
        if (!by_id)
            return -ENOMEM;
        memset(by_id + s->ids, 0, (ids - s->ids) * sizeof(*by_id));
        s->by_id = by_id;
        s->ids = ids;
    }
    if (s->count < s->capacity)
        return 0;
    uint32_t capacity = s->capacity ? s->capacity * 2 : 16;
    struct slot **grown = realloc(s->by_gfn, capacity * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    s->by_gfn = grown;
    s->capacity = capacity;
    return 0;
}

static void slots_insert(struct slots *s, struct slot *slot) {
    uint32_t i = lower_bound(s, slot->gfn);
    memmove(&s->by_gfn[i + 1], &s->by_gfn[i], (s->count - i) * sizeof(*s->by_gfn));
    s->by_gfn[i] = slot;
    s->by_id[slot->pub.id] = slot;
    s->count++;
    s->pages += slot->npages;
}

static void slots_remove(struct slots *s, struct slot *slot) {
    uint32_t i = lower_bound(s, slot->gfn);
    s->count--;
    s->pages -= slot->npages;
    memmove(&s->by_gfn[i], &s->by_gfn[i + 1], (s->count - i) * sizeof(*s->by_gfn));
    s->by_id[slot->pub.id] = NULL;
    if (s->last == slot)
        s->last = NULL;
}

static bool slots_overlap(const struct slots *s, const struct pn_memslot *req,
                          const struct slot *but) {
    pn_gfn first = req->gpa >> PN_PAGE_SHIFT;
    pn_gfn end = first + (req->size >> PN_PAGE_SHIFT);
    for (uint32_t i = lower_bound(s, first); i < s->count && s->by_gfn[i]->gfn < end; i++)
        if (s->by_gfn[i] != but)
            return true;
    return false;
}

void slots_free(struct slots *s) {
    for (uint32_t i = 0; i < s->count; i++)
        slot_free(s->by_gfn[i]);
    free(s->by_gfn);
    free(s->by_id);
    *s = (struct slots){0};
}

/* ---- Changes ---- */

static int check_request(const struct pn_mmu *mmu, const struct pn_memslot *req) {
    uint64_t limit = 1ull << mmu->cfg.maxphyaddr;
    uintptr_t hva = (uintptr_t)req->hva;
    uint64_t low = ~PN_PAGE_MASK;
    if (req->flags & ~SLOT_FLAGS || (req->gpa | req->size | hva) & low || !hva)
        return -EINVAL;
    if (req->gpa >= limit || req->size > limit - req->gpa)
        return -EINVAL;
    if (hva + req->size < hva)
        return -EINVAL;
    return 0;
}

static void changed(struct pn_mmu *mmu, const struct pn_memslot *pub) {
    struct pn_mmu_vcpu *vcpu = mmu_actor(mmu);
    mmu->slots.generation++;
    pn_count(vcpu->stats, slot_changes);
    pn_emit(vcpu->ring, slot, pub->id, pub->gpa, pub->size, pub->flags);
}

static int slot_delete(struct pn_mmu *mmu, struct slot *old) {
    if (!old)
        return -ENOENT;
    struct pn_memslot gone = old->pub;
    gone.size = 0;
    mmu->ops->slot_gone(mmu_actor(mmu), old);
    slots_remove(&mmu->slots, old);
    slot_free(old);
    changed(mmu, &gone);
    return 0;
}

/* Add req; old, when not NULL, goes: a move, which keeps what was logged as dirty. */
static int slot_place(struct pn_mmu *mmu, const struct pn_memslot *req,
                      struct slot *old) {
    if (slots_overlap(&mmu->slots, req, old))
        return -EEXIST;
    struct slot *s = slot_alloc(req);
    if (s && mmu->cfg.recorder && !(s->stores = calloc(s->npages, 1))) {
        slot_free(s);
        s = NULL;
    }
    if (!s || slots_reserve(&mmu->slots, req->id) < 0) {
        slot_free(s);
        return -ENOMEM;
    }
    if (old) {
        mmu->ops->slot_gone(mmu_actor(mmu), old);
        slots_remove(&mmu->slots, old);
        if (s->dirty && old->dirty) {
            uint64_t *fresh = s->dirty;
            s->dirty = old->dirty;
            old->dirty = fresh;
        }
        slot_free(old);
    }
    slots_insert(&mmu->slots, s);
    changed(mmu, &s->pub);
    mmu->ops->slot_changed(mmu_actor(mmu), s, true);
    return 0;
}

static int slot_reflag(struct pn_mmu *mmu, struct slot *s, uint32_t flags) {
    if (flags == s->pub.flags)
        return 0;
    if (flags & PN_SLOT_LOG_DIRTY && !s->dirty) {
        s->dirty = dirty_alloc(s->npages);
        if (!s->dirty)
            return -ENOMEM;
    } else if (!(flags & PN_SLOT_LOG_DIRTY)) {
        free(s->dirty);
        free(s->reset);
        s->dirty = s->reset = NULL;
    }
    s->pub.flags = flags;
    changed(mmu, &s->pub);
    mmu->ops->slot_changed(mmu_actor(mmu), s, false);
    return 0;
}

static int slot_set(struct pn_mmu *mmu, const struct pn_memslot *req) {
    if (req->id >= PN_SLOTS_MAX)
        return -ENOSPC;
    struct slot *old = slot_of_id(&mmu->slots, req->id);
    if (req->size == 0)
        return slot_delete(mmu, old);
    int rc = check_request(mmu, req);
    if (rc < 0)
        return rc;
    if (!old)
        return slot_place(mmu, req, NULL);
    /* KVM's rule: what a slot is made of stays; only its place and log may change. */
    if (req->size != old->pub.size || req->hva != old->pub.hva ||
        (req->flags ^ old->pub.flags) & PN_SLOT_READONLY)
        return -EINVAL;
    if (req->gpa != old->pub.gpa)
        return slot_place(mmu, req, old);
    return slot_reflag(mmu, old, req->flags);
}

int pn_mmu_slot_set(struct pn_mmu *mmu, const struct pn_memslot *req) {
    record(mmu, slot, 0,
           .w = {req->id, req->flags, req->gpa, req->size,
                 (uintptr_t)req->hva & (((uint64_t)1 << 30) - 1)});
    host_begins(mmu);
    mmu_bar(mmu);
    dirty_buffers_empty(mmu);
    dirty_rings_empty(mmu);
    int rc = slot_set(mmu, req);
    mmu_step(mmu);
    return rc;
}

/* ---- Audit ---- */

static int complain(FILE *out, const struct slot *s, const char *what) {
    if (out)
        fprintf(out, "slot %u gfn %#llx: %s\n", s->pub.id, (unsigned long long)s->gfn,
                what);
    return 1;
}

int slots_audit(struct slots *s, FILE *out) {
    int bad = 0;
    bool last_seen = s->last == NULL;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct slot *m = s->by_gfn[i];
        if (i && s->by_gfn[i - 1]->gfn + s->by_gfn[i - 1]->npages > m->gfn)
            bad += complain(out, m, "overlaps or precedes its left neighbour");
        if (slot_of_id(s, m->pub.id) != m)
            bad += complain(out, m, "is not found by its id");
        if (m->gfn != m->pub.gpa >> PN_PAGE_SHIFT ||
            m->npages != m->pub.size >> PN_PAGE_SHIFT)
            bad += complain(out, m, "its frame numbers are not those of its address");
        if (!m->dirty != !(m->pub.flags & PN_SLOT_LOG_DIRTY))
            bad += complain(out, m, "has a dirty bitmap that its flags do not tell of");
        if (s->last == m)
            last_seen = true;
    }
    uint32_t by_id = 0;
    for (uint32_t i = 0; i < s->ids; i++)
        by_id += s->by_id[i] != NULL;
    if (by_id != s->count || !last_seen) {
        bad++;
        if (out)
            fprintf(out, "slots: %u by id, %u by gfn, last hit %s\n", by_id, s->count,
                    last_seen ? "valid" : "stale");
    }
    return bad;
}
