/* SPDX-License-Identifier: MIT */
/*
 * Guest-physical memory as devices, loaders and the CPU's tracked writes see it.
 *
 * Invariants
 * 1. Nothing outside a memslot is read or written.
 * 2. Each page piece of a write is stored first, then marked dirty, then reported to the
 *    shadow pages (and through them to on_track).
 * 3. An aligned piece of 1, 2, 4 or 8 bytes is one store: a walker on another thread
 *    never sees half a gpte.
 */
#include <string.h>

#include "mmu/core/record.h"

/* Bytes of [gpa, gpa+size) in gpa's own page. */
static size_t page_piece(pn_gpa gpa, size_t size) {
    size_t left = PN_PAGE_SIZE - (gpa & (PN_PAGE_SIZE - 1));
    return size < left ? size : left;
}

static void store(uint8_t *to, const uint8_t *from, size_t size) {
    bool aligned = ((uintptr_t)to & (size - 1)) == 0;
    uint16_t v2;
    uint32_t v4;
    uint64_t v8;
    if (aligned && size == 8) {
        memcpy(&v8, from, 8);
        __atomic_store_n((uint64_t *)(void *)to, v8, __ATOMIC_RELAXED);
    } else if (aligned && size == 4) {
        memcpy(&v4, from, 4);
        __atomic_store_n((uint32_t *)(void *)to, v4, __ATOMIC_RELAXED);
    } else if (aligned && size == 2) {
        memcpy(&v2, from, 2);
        __atomic_store_n((uint16_t *)(void *)to, v2, __ATOMIC_RELAXED);
    } else {
        memcpy(to, from, size);
    }
}

size_t pn_mmu_read_phys(struct pn_mmu *mmu, pn_gpa gpa, void *buf, size_t size) {
    size_t done = 0;
    while (done < size) {
        struct slot *s = slot_of_gfn(mmu, gpa >> PN_PAGE_SHIFT);
        if (!s)
            break;
        uint64_t offset = gpa - s->pub.gpa;
        size_t piece = size - done;
        if (piece > s->pub.size - offset)
            piece = s->pub.size - offset;
        memcpy((uint8_t *)buf + done, (const uint8_t *)s->pub.hva + offset, piece);
        gpa += piece;
        done += piece;
    }
    return done;
}

/* ---- Recording ---- */

/* Is some page of the range one that the recorder has? */
static bool recorded(struct pn_mmu *mmu, pn_gpa gpa, size_t size) {
    for (size_t piece; size; gpa += piece, size -= piece) {
        const struct slot *s = slot_of_gfn(mmu, gpa >> PN_PAGE_SHIFT);
        piece = page_piece(gpa, size);
        if (s && track_recorded(s, gpa >> PN_PAGE_SHIFT))
            return true;
    }
    return false;
}

/* What a write that is too long for one operation puts into such pages. */
static void record_pages(struct pn_mmu *mmu, pn_gpa gpa, const uint8_t *buf,
                         size_t size) {
    for (size_t piece; size; gpa += piece, buf += piece, size -= piece) {
        piece = page_piece(gpa, size);
        if (recorded(mmu, gpa, piece))
            record(mmu, poke, 0, .w = {gpa}, .data = buf, .size = (uint32_t)piece);
    }
}

static __attribute__((noinline)) void record_write(struct pn_mmu_vcpu *vcpu, pn_gpa gpa,
                                                   const void *buf, size_t size,
                                                   bool store_of_vcpu) {
    struct pn_mmu *mmu = vcpu->mmu;
    bool told = size <= PN_OP_DATA && recorded(mmu, gpa, size);
    uint32_t data = told ? (uint32_t)size : 0;
    if (!told)
        record_pages(mmu, gpa, buf, size);
    if (store_of_vcpu)
        record_store(mmu, gpa, size);
    if (store_of_vcpu)
        record(mmu, vcpu_write, vcpu->number, .w = {gpa, size}, .data = buf,
               .size = data);
    else
        record(mmu, write, 0, .w = {gpa, size}, .data = buf, .size = data);
}

static PN_IN_FAULT size_t write_by(struct pn_mmu_vcpu *vcpu, pn_gpa gpa, const void *buf,
                                   size_t size, bool store_of_vcpu) {
    struct pn_mmu *mmu = vcpu->mmu;
    size_t done = 0;
    if (__builtin_expect(mmu->cfg.recorder != NULL, 0))
        record_write(vcpu, gpa, buf, size, store_of_vcpu);
    while (done < size) {
        pn_gfn gfn = gpa >> PN_PAGE_SHIFT;
        struct slot *s = slot_of_gfn(mmu, gfn);
        if (!s || s->pub.flags & PN_SLOT_READONLY)
            break;
        size_t piece = page_piece(gpa, size - done);
        if (buf)
            store((uint8_t *)s->pub.hva + (gpa - s->pub.gpa), (const uint8_t *)buf + done,
                  piece);
        dirty_mark_bytes(mmu, s, gpa, piece);
        if (store_of_vcpu)
            track_stored(vcpu, s, gpa, piece);
        mmu->ops->written(vcpu, gpa, piece, false);
        gpa += piece;
        done += piece;
    }
    mmu_step(mmu);
    return done;
}

size_t pn_mmu_write_phys(struct pn_mmu *mmu, pn_gpa gpa, const void *buf, size_t size) {
    host_begins(mmu);
    return write_by(mmu_actor(mmu), gpa, buf, size, false);
}

/* A store of 8 bytes that nobody is to see: most are of entries of leaf tables that went out of
 * sync. Return: it is such a one, and was made. */
static inline bool plain_write(struct pn_mmu *mmu, pn_gpa gpa, const void *buf,
                               size_t size) {
    if (size != sizeof(uint64_t) || gpa % sizeof(uint64_t) || !buf || mmu->cfg.recorder ||
        mmu->step)
        return false;
    pn_gfn gfn = gpa >> PN_PAGE_SHIFT;
    const struct slot *s = slot_of_gfn(mmu, gfn);
    if (!s || s->pub.flags & PN_SLOT_READONLY || s->dirty || s->track[gfn - s->gfn])
        return false;
    uint64_t v;
    memcpy(&v, buf, sizeof(v));
    __atomic_store_n((uint64_t *)(void *)((uint8_t *)s->pub.hva + (gpa - s->pub.gpa)), v,
                     __ATOMIC_RELAXED);
    return true;
}

size_t pn_mmu_vcpu_write(struct pn_mmu_vcpu *vcpu, pn_gpa gpa, const void *buf,
                         size_t size) {
    if (plain_write(vcpu->mmu, gpa, buf, size))
        return size;
    return write_by(vcpu, gpa, buf, size, true);
}

void *pn_mmu_unseen(struct pn_mmu_vcpu *vcpu, pn_gpa gpa) {
    struct pn_mmu *mmu = vcpu->mmu;
    pn_gfn gfn = gpa >> PN_PAGE_SHIFT;
    const struct slot *s = slot_of_gfn(mmu, gfn);
    if (!s || s->pub.flags & PN_SLOT_READONLY || track_used(s, gfn) ||
        dirty_pieces_open(mmu, s, gfn) || !may_store_unseen(mmu, s, gfn, 1))
        return NULL;
    return slot_hva(s, gfn) + (gpa & (PN_PAGE_SIZE - 1));
}

bool pn_mmu_unprotect(struct pn_mmu_vcpu *vcpu, pn_gpa gpa) {
    const struct mmu_ops *ops = vcpu->mmu->ops;
    record(vcpu->mmu, unprotect, vcpu->number, .how = 0);
    if (__builtin_expect(vcpu->mmu->cfg.recorder != NULL, 0))
        record_no_table(vcpu->mmu, gpa);
    bool done = ops->unprotect && ops->unprotect(vcpu, gpa >> PN_PAGE_SHIFT);
    vcpu->mmu->unprotected = done;
    mmu_step(vcpu->mmu);
    return done;
}

void pn_mmu_replace(struct pn_mmu *mmu, pn_gpa gpa, const void *buf, size_t size) {
    for (size_t done = 0, piece; done < size; gpa += piece, done += piece) {
        pn_gfn gfn = gpa >> PN_PAGE_SHIFT;
        struct slot *s = slot_of_gfn(mmu, gfn);
        piece = page_piece(gpa, size - done);
        if (!s)
            continue;
        memcpy((uint8_t *)s->pub.hva + (gpa - s->pub.gpa), (const uint8_t *)buf + done,
               piece);
        if (track_tables(s, gfn))
            mmu->ops->unprotect(mmu_actor(mmu), gfn);
    }
    mmu_step(mmu);
}
