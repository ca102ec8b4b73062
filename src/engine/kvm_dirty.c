/* SPDX-License-Identifier: MIT */
/*
 * Dirty logging by KVM: its bitmap with GET alone, GET and CLEAR, or its dirty rings
 * (api.rst, "KVM_GET_DIRTY_LOG", "KVM_CLEAR_DIRTY_LOG", "KVM_CAP_DIRTY_LOG_RING").
 *
 * Invariants
 * 1. Pages that did not go through KVM (devices, loaders, the fallback CPU) and pages
 *    taken out of a ring wait in their slot's extra_dirty for the next harvest.
 * 2. A ring entry is handed back (RESET) only after its page is in extra_dirty.
 * Locking: ring_lock guards the rings' read positions. A vCPU whose ring is full empties
 * it itself. A CPU with PML keeps pages back until its vCPU comes out of KVM_RUN: who
 * wants a ring's harvest exact stops the vCPUs first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/kvm_vm.h"

/* 65,536 entries: KVM without VMX or SVM runs ring 0 in batches of 1,024 instructions,
 * and a ring must never overflow inside one. */
#define RING_BYTES (65536u * sizeof(struct kvm_dirty_gfn))

bool kvm_has_tracker(enum pn_dirty_tracker tracker) {
    return tracker == PN_TRACKER_OFF || tracker == PN_TRACKER_BITMAP ||
           tracker == PN_TRACKER_CLEAR || tracker == PN_TRACKER_RING ||
           tracker == PN_TRACKER_ALL_SET || pn_dirty_by_host(tracker);
}

static int enable(struct pn_engine *e, uint32_t cap, uint64_t arg) {
    struct kvm_enable_cap c = {.cap = cap, .args[0] = arg};
    return ioctl(e->vm, KVM_ENABLE_CAP, &c) < 0 ? -errno : 0;
}

static int enable_ring(struct pn_engine *e) {
    uint32_t caps[] = {KVM_CAP_DIRTY_LOG_RING, KVM_CAP_DIRTY_LOG_RING_ACQ_REL};
    int rc = -EOPNOTSUPP;
    for (unsigned i = 0; rc && i < 2; i++) {
        int most = ioctl(e->vm, KVM_CHECK_EXTENSION, (unsigned long)caps[i]);
        if (most <= 0)
            continue;
        e->ring_bytes = (unsigned)most < RING_BYTES ? (unsigned)most : RING_BYTES;
        rc = enable(e, caps[i], e->ring_bytes);
    }
    return rc;
}

int kvm_dirty_begin(struct pn_engine *e, enum pn_dirty_tracker tracker) {
    int rc = 0;
    e->tracker = tracker;
    if (tracker == PN_TRACKER_CLEAR || tracker == PN_TRACKER_ALL_SET)
        rc =
            enable(e, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
                   KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
                       (tracker == PN_TRACKER_ALL_SET ? KVM_DIRTY_LOG_INITIALLY_SET : 0));
    else if (tracker == PN_TRACKER_RING)
        rc = enable_ring(e);
    if (rc)
        snprintf(e->error, sizeof(e->error), "this KVM has no --dirty-log %s: %s",
                 pn_dirty_name(tracker), strerror(-rc));
    return rc;
}

int kvm_dirty_map_ring(struct pn_engine *e, struct kvm_vcpu *v) {
    if (e->tracker != PN_TRACKER_RING)
        return 0;
    v->ring = mmap(NULL, e->ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd,
                   (off_t)KVM_DIRTY_LOG_PAGE_OFFSET * sysconf(_SC_PAGESIZE));
    if (v->ring != MAP_FAILED)
        return 0;
    v->ring = NULL;
    return kvm_error(e, "mmap of a dirty ring");
}

void kvm_dirty_end(struct pn_engine *e) {
    for (unsigned i = 0; e->vcpu && i < e->cpus; i++)
        if (e->vcpu[i].ring)
            munmap(e->vcpu[i].ring, e->ring_bytes);
}

/* Note one entry's page. Entries of slots that are gone are nobody's. */
static void note(struct pn_engine *e, const struct kvm_dirty_gfn *g) {
    pthread_mutex_lock(&e->slot_lock);
    struct kvm_slot *s = kvm_slot_find(e, g->slot & 0xffff);
    if (s && s->extra_dirty && g->slot >> 16 == 0 &&
        g->offset < s->slot.size / PN_PAGE_SIZE)
        __atomic_fetch_or(&s->extra_dirty[g->offset / 64], 1ull << g->offset % 64,
                          __ATOMIC_RELAXED);
    pthread_mutex_unlock(&e->slot_lock);
}

static unsigned empty_ring(struct pn_engine *e, struct kvm_vcpu *v) {
    uint32_t mask = e->ring_bytes / sizeof(struct kvm_dirty_gfn) - 1;
    unsigned n = 0;
    for (;; v->ring_at++, n++) {
        struct kvm_dirty_gfn *g = &v->ring[v->ring_at & mask];
        if (__atomic_load_n(&g->flags, __ATOMIC_ACQUIRE) != KVM_DIRTY_GFN_F_DIRTY)
            return n;
        note(e, g);
        __atomic_store_n(&g->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
    }
}

int kvm_dirty_empty_rings(struct pn_engine *e) {
    unsigned n = 0;
    int rc = 0;
    pthread_mutex_lock(&e->ring_lock);
    for (unsigned i = 0; i < e->cpus; i++)
        n += empty_ring(e, &e->vcpu[i]);
    if (n && ioctl(e->vm, KVM_RESET_DIRTY_RINGS, 0) < 0)
        rc = -errno;
    pthread_mutex_unlock(&e->ring_lock);
    return rc;
}

/* Without CLEAR, GET copies and clears. With it, only what was copied is cleared. */
static int read_bitmap(struct pn_engine *e, const struct kvm_slot *s, uint64_t *bitmap) {
    struct kvm_dirty_log log = {.slot = s->slot.id, .dirty_bitmap = bitmap};
    if (ioctl(e->vm, KVM_GET_DIRTY_LOG, &log) < 0)
        return -errno;
    if (e->tracker == PN_TRACKER_BITMAP)
        return 0;
    struct kvm_clear_dirty_log clear = {
        .slot = s->slot.id,
        .num_pages = (uint32_t)(s->slot.size / PN_PAGE_SIZE),
        .dirty_bitmap = bitmap,
    };
    return ioctl(e->vm, KVM_CLEAR_DIRTY_LOG, &clear) < 0 ? -errno : 0;
}

long kvm_dirty_harvest(struct pn_engine *e, uint32_t id, uint64_t *bitmap, size_t words) {
    struct kvm_slot *s = kvm_slot_find(e, id);
    if (!s || !s->extra_dirty)
        return -ENOENT;
    size_t need = (s->slot.size / PN_PAGE_SIZE + 63) / 64;
    if (words < need)
        return -ENOSPC;
    int rc = e->tracker == PN_TRACKER_RING ? kvm_dirty_empty_rings(e)
                                           : read_bitmap(e, s, bitmap);
    if (rc)
        return rc;
    long pages = 0;
    for (size_t i = 0; i < need; i++) {
        uint64_t extra = __atomic_exchange_n(&s->extra_dirty[i], 0, __ATOMIC_RELAXED);
        bitmap[i] = e->tracker == PN_TRACKER_RING ? extra : bitmap[i] | extra;
        pages += __builtin_popcountll(bitmap[i]);
    }
    struct pn_stats *stats = &e->vcpu[0].stats;
    pn_count(stats, dirty_harvests);
    stats->v[PN_STAT_dirty_pages] += (uint64_t)pages;
    return pages;
}
