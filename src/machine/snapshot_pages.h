/* SPDX-License-Identifier: MIT */
/* What the writer of memory.bin (snapshot_write.c) and its reader (snapshot_memory.c) agree on. */
#pragma once

#include "machine/snapshot_internal.h"

/* The code of a page in the index. */
#define CODE_ZERO  0u
#define CODE_NEXT  1u
#define CODE_SAME  2u
#define CODE_BELOW UINT32_MAX

static inline uint64_t snap_chunks_of(bool raw, uint64_t stored) {
    return raw ? 0 : (stored + SNAP_CHUNK_PAGES - 1) / SNAP_CHUNK_PAGES;
}

/* Bytes, before they are packed. */
static inline size_t snap_index_size(bool raw, uint64_t pages, uint64_t stored) {
    return pages * sizeof(uint32_t) + stored * sizeof(uint64_t) +
           snap_chunks_of(raw, stored) * sizeof(uint32_t);
}
