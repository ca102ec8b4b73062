/* SPDX-License-Identifier: MIT */
/*
 * Memory of tables: pages of tables (struct sp), gpte arrays and pointer lists, each from
 * a free list that grows by whole chunks and shrinks only at the end.
 *
 * Invariants
 * 1. A chunk of sps is aligned to its size, so that sp_of() finds the sp of any sptep.
 * 2. A free sp's table is all zero.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/pages.h"
#include "mmu/core/sp.h"

#define SLAB_BYTES  (64u << 10)
#define GPTES_BYTES (512 * sizeof(uint64_t))

/* The first 64 bytes link the slab; keeps cache lines of the objects apart from it. */
static uint8_t *slab_new(struct pn_mmu *mmu) {
    void **slab = aligned_alloc(64, SLAB_BYTES);
    if (!slab)
        return NULL;
    pages_want(slab, SLAB_BYTES);
    *slab = mmu->slab.slabs;
    mmu->slab.slabs = slab;
    mmu->bytes += SLAB_BYTES;
    return (uint8_t *)slab;
}

int slab_reserve_lists(struct pn_mmu *mmu, uint32_t lists) {
    while (mmu->slab.free_list_count < lists) {
        uint8_t *slab = slab_new(mmu);
        if (!slab)
            return -ENOMEM;
        for (size_t at = 64; at + sizeof(struct ptr_list) <= SLAB_BYTES;
             at += sizeof(struct ptr_list))
            slab_list_free(&mmu->slab, (struct ptr_list *)(void *)(slab + at));
    }
    return 0;
}

struct ptr_list *slab_list(struct slab *sl) {
    struct ptr_list *l = sl->free_lists;
    sl->free_lists = l->next;
    sl->free_list_count--;
    l->next = NULL;
    l->count = 0;
    return l;
}

void slab_list_free(struct slab *sl, struct ptr_list *l) {
    l->next = sl->free_lists;
    sl->free_lists = l;
    sl->free_list_count++;
}

uint64_t *slab_gptes(struct pn_mmu *mmu) {
    struct slab *sl = &mmu->slab;
    if (!sl->free_gptes) {
        uint8_t *slab = slab_new(mmu);
        if (!slab)
            return NULL;
        for (size_t at = 64; at + GPTES_BYTES <= SLAB_BYTES; at += GPTES_BYTES)
            slab_gptes_free(sl, (uint64_t *)(void *)(slab + at));
    }
    void **g = sl->free_gptes;
    sl->free_gptes = *g;
    return (uint64_t *)(void *)g;
}

void slab_gptes_free(struct slab *sl, uint64_t *g) {
    *(void **)(void *)g = sl->free_gptes;
    sl->free_gptes = g;
}

static int chunk_new(struct pn_mmu *mmu) {
    struct slab *sl = &mmu->slab;
    struct sp_chunk *c = aligned_alloc(SP_CHUNK, SP_CHUNK);
    if (!c)
        return -ENOMEM;
    pages_want(c, SP_CHUNK);
    memset(c, 0, SP_CHUNK);
    c->next = sl->chunks;
    sl->chunks = c;
    mmu->bytes += SP_CHUNK;
    for (unsigned i = SP_PER_CHUNK; i-- > 0;) {
        c->sp[i].spt =
            (uint64_t *)(void *)((uint8_t *)c + (SP_CHUNK_HDR + i) * PN_PAGE_SIZE);
        c->sp[i].hash_next = sl->free_sp;
        sl->free_sp = &c->sp[i];
    }
    return 0;
}

struct sp *slab_sp(struct pn_mmu *mmu) {
    struct slab *sl = &mmu->slab;
    if (!sl->free_sp && chunk_new(mmu) < 0)
        return NULL;
    struct sp *sp = sl->free_sp;
    sl->free_sp = sp->hash_next;
    uint64_t *spt = sp->spt;
    *sp = (struct sp){.spt = spt};
    return sp;
}

void slab_sp_free(struct slab *sl, struct sp *sp) {
    if (sp->gptes)
        slab_gptes_free(sl, sp->gptes);
    if (sp->frames)
        slab_gptes_free(sl, sp->frames);
    sp->gptes = sp->frames = NULL;
    sp->role = 0; /* the audit tells free ones by it */
    sp->hash_next = sl->free_sp;
    sl->free_sp = sp;
}

void slab_destroy(struct slab *sl) {
    for (struct sp_chunk *c = sl->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    for (void **s = sl->slabs, **next; s; s = next) {
        next = *s;
        free(s);
    }
}
