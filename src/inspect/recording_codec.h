/* SPDX-License-Identifier: MIT */
/* What a recording's writer and its reader share. */
#pragma once

#include <string.h>

#include <lz4.h>

#include "inspect/recording.h"

#define OP_TIME    0x7eu
#define OP_VCPU    0x7fu /* the following operations are of the vCPU whose number follows */
#define OP_ACCESS  0x80u /* | how */
#define OP_FETCHED 0x60u /* | enum pn_tlb_mode */
#define OP_WRITE8  0x70u
#define OP_PAGE    0x71u
/* A number of 7, 14, ... 56 bits: a one bit above as many zero bits as bytes follow the first, and
 * above it the number. Of more bits: a byte 0, and eight bytes. */
#define NUMBER_MORE 8u
#define NUMBER_MAX  (NUMBER_MORE + 1)
/* The longest operation: a time, a vCPU, a kind, its words, a size and data. */
#define OP_SIZE_MAX (3 + (2 + PN_OP_WORDS + 1) * NUMBER_MAX + PN_OP_DATA)
#define END_MAX     (64u << 10)
/* Of what follows a struct recording_block: more than an end. */
#define FRAME_MAX ((size_t)LZ4_COMPRESSBOUND(RECORDING_BLOCK))
_Static_assert(FRAME_MAX > END_MAX, "one room serves both");

static const uint8_t op_words[] = {
#define PN_OP(name, words, doc) words,
#include "penumbra/record_ops.inc"
};

/* A page as OP_PAGE has it. */
#define PAGE_WORDS  (PN_PAGE_SIZE / sizeof(uint64_t))
#define PAGE_GROUPS (PAGE_WORDS / 64)

/* What distances are from. */
struct op_last {
    uint64_t access[4]; /* page, by enum pn_access */
    uint64_t fetched;   /* page */
    uint64_t write;     /* gpa */
    uint64_t time;
};

/* Small distances in both directions are small numbers. */
static inline uint64_t zigzag(uint64_t d) {
    return d << 1 ^ -(d >> 63);
}
static inline uint64_t unzigzag(uint64_t v) {
    return v >> 1 ^ -(v & 1);
}

/* Eight bytes are written always. */
static inline uint8_t *put_number(uint8_t *p, uint64_t v) {
    unsigned more = (63 - (unsigned)__builtin_clzll(v | 1)) / 7;
    if (more >= NUMBER_MORE) {
        *p = 0;
        memcpy(p + 1, &v, sizeof(v));
        return p + NUMBER_MAX;
    }
    v = (v << 1 | 1) << more;
    memcpy(p, &v, sizeof(v));
    return p + more + 1;
}
