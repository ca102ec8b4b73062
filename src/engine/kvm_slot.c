/* SPDX-License-Identifier: MIT */
/*
 * Memslots of the KVM engine, and guest memory as penumbra itself reaches it.
 *
 * Invariant: a page that penumbra wrote (a device, a loader, the fallback CPU) in a
 * logged slot is in the next harvest, as a page that the guest wrote is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "engine/kvm_vm.h"

struct kvm_slot *kvm_slot_find(struct pn_engine *e, uint32_t id) {
    for (unsigned i = 0; i < e->slot_count; i++)
        if (e->slots[i].slot.id == id)
            return &e->slots[i];
    return NULL;
}

static struct kvm_slot *find_gpa(struct pn_engine *e, pn_gpa gpa) {
    for (unsigned i = 0; i < e->slot_count; i++) {
        const struct pn_memslot *s = &e->slots[i].slot;
        if (gpa - s->gpa < s->size)
            return &e->slots[i];
    }
    return NULL;
}

static size_t bitmap_words(const struct pn_memslot *s) {
    return (s->size / PN_PAGE_SIZE + 63) / 64;
}

static int tell_kvm(struct pn_engine *e, const struct pn_memslot *slot) {
    struct kvm_userspace_memory_region r = {
        .slot = slot->id,
        .flags = (slot->flags & PN_SLOT_READONLY ? KVM_MEM_READONLY : 0) |
                 (slot->flags & PN_SLOT_LOG_DIRTY ? KVM_MEM_LOG_DIRTY_PAGES : 0),
        .guest_phys_addr = slot->gpa,
        .memory_size = slot->size,
        .userspace_addr = (uintptr_t)slot->hva,
    };
    return ioctl(e->vm, KVM_SET_USER_MEMORY_REGION, &r) < 0 ? -errno : 0;
}

static struct kvm_slot *append(struct pn_engine *e) {
    if (e->slot_count == e->slot_capacity) {
        unsigned capacity = e->slot_capacity ? e->slot_capacity * 2 : 16;
        struct kvm_slot *grown = realloc(e->slots, capacity * sizeof(*grown));
        if (!grown)
            return NULL;
        e->slots = grown;
        e->slot_capacity = capacity;
    }
    struct kvm_slot *s = &e->slots[e->slot_count];
    memset(s, 0, sizeof(*s));
    return s;
}

static int set_slot(struct pn_engine *e, const struct pn_memslot *slot) {
    struct kvm_slot *old = kvm_slot_find(e, slot->id);
    if (slot->size == 0) {
        if (!old)
            return -ENOENT;
        int rc = tell_kvm(e, slot);
        if (rc == 0) {
            free(old->extra_dirty);
            *old = e->slots[--e->slot_count];
        }
        return rc;
    }
    uint64_t *dirty = NULL;
    if (slot->flags & PN_SLOT_LOG_DIRTY && !(old && old->extra_dirty)) {
        dirty = calloc(bitmap_words(slot), sizeof(*dirty));
        if (!dirty)
            return -ENOMEM;
    }
    struct kvm_slot *s = old ? old : append(e);
    int rc = s ? tell_kvm(e, slot) : -ENOMEM;
    if (rc) {
        free(dirty);
        return rc;
    }
    if (!old)
        e->slot_count++;
    s->slot = *slot;
    if (dirty)
        s->extra_dirty = dirty;
    if (!(slot->flags & PN_SLOT_LOG_DIRTY)) {
        free(s->extra_dirty);
        s->extra_dirty = NULL;
    }
    return 0;
}

int kvm_set_slot(struct pn_engine *e, const struct pn_memslot *slot) {
    pthread_mutex_lock(&e->slot_lock);
    int rc = set_slot(e, slot);
    e->slot_changes++;
    pn_count(&e->vcpu[0].stats, slot_changes);
    pthread_mutex_unlock(&e->slot_lock);
    return rc;
}

void kvm_slots_free(struct pn_engine *e) {
    for (unsigned i = 0; i < e->slot_count; i++)
        free(e->slots[i].extra_dirty);
    free(e->slots);
}

static void mark(struct kvm_slot *s, pn_gpa gpa, size_t size) {
    if (!s->extra_dirty)
        return;
    uint64_t first = (gpa - s->slot.gpa) >> PN_PAGE_SHIFT;
    uint64_t last = (gpa + size - 1 - s->slot.gpa) >> PN_PAGE_SHIFT;
    for (uint64_t p = first; p <= last; p++)
        __atomic_fetch_or(&s->extra_dirty[p / 64], 1ull << p % 64, __ATOMIC_RELAXED);
}

static size_t access_phys(struct pn_engine *e, pn_gpa gpa, void *in, const void *out,
                          size_t size) {
    size_t done = 0;
    while (done < size) {
        struct kvm_slot *s = find_gpa(e, gpa + done);
        if (!s || (!in && s->slot.flags & PN_SLOT_READONLY))
            break;
        uint64_t offset = gpa + done - s->slot.gpa, n = s->slot.size - offset;
        if (n > size - done)
            n = size - done;
        uint8_t *hva = (uint8_t *)s->slot.hva + offset;
        if (!in) {
            if (out)
                memcpy(hva, (const uint8_t *)out + done, n);
            mark(s, gpa + done, n);
        } else {
            memcpy((uint8_t *)in + done, hva, n);
        }
        done += n;
    }
    return done;
}

size_t kvm_read_phys(struct pn_engine *e, pn_gpa gpa, void *buf, size_t size) {
    pthread_mutex_lock(&e->slot_lock);
    size_t n = access_phys(e, gpa, buf, NULL, size);
    pthread_mutex_unlock(&e->slot_lock);
    return n;
}

size_t kvm_write_phys(struct pn_engine *e, pn_gpa gpa, const void *buf, size_t size) {
    pthread_mutex_lock(&e->slot_lock);
    size_t n = access_phys(e, gpa, NULL, buf, size);
    pthread_mutex_unlock(&e->slot_lock);
    return n;
}
