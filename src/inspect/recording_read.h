/* SPDX-License-Identifier: MIT */
/*
 * How the operations of a recording are read, for who reads millions of them: each is decoded
 * where it is used.
 *
 * Invariant: plain is followed by so many bytes that an operation may be read before it is
 * asked whether it ended in its block.
 */
#pragma once

#include "inspect/recording_codec.h"

struct recording {
    FILE *in;
    enum recording_state state;
    struct pn_mmu_config config;
    struct pn_tlb_model tlb;
    uint64_t ops;
    uint16_t vcpu;
    struct op_last last;
    uint64_t until; /* the first time behind it ends the recording */
    bool stopped;
    struct pn_stats total;
    bool known[PN_STAT_COUNT];
    uint64_t page[PAGE_WORDS]; /* of the last operation, which was a page */
    uint8_t *frame;            /* FRAME_MAX, and a byte more */
    const uint8_t *at, *end;   /* of the block */
    uint8_t plain[RECORDING_BLOCK +
                  OP_SIZE_MAX]; /* where it ends is asked behind an operation */
};

/* Of `plain` so much may be read behind the last operation. */
static inline uint64_t get_8(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* Return: behind it; that may be behind the block. No branch depends on the size, which no
 * processor could foresee. */
static inline const uint8_t *get_number(const uint8_t *p, uint64_t *v) {
    static const uint64_t bits[] = {
        0x7f,        0x3fff,        0x1fffff,        0xfffffff,
        0x7ffffffff, 0x3ffffffffff, 0x1ffffffffffff, 0xffffffffffffff};
    uint64_t w = get_8(p);
    unsigned more = (unsigned)__builtin_ctzll(w | 1u << NUMBER_MORE);
    if (__builtin_expect(more == NUMBER_MORE, 0)) {
        *v = get_8(p + 1);
        return p + NUMBER_MAX;
    }
    *v = w >> 1 >> more & bits[more];
    return p + more + 1;
}

static inline const uint8_t *get_page(const uint8_t *p, uint64_t *last,
                                      struct pn_op *op) {
    uint64_t v;
    p = get_number(p, &v);
    op->w[0] = (*last += unzigzag(v)) << PN_PAGE_SHIFT;
    return p;
}

static inline const uint8_t *get_write8(struct recording *r, const uint8_t *p,
                                        struct pn_op *op) {
    uint64_t v;
    p = get_number(p, &v);
    op->kind = PN_OP_vcpu_write;
    op->w[0] = r->last.write += unzigzag(v);
    op->w[1] = op->size = sizeof(v);
    op->data = p;
    return p + sizeof(v);
}

/* The next block. Return: there is one. */
bool recording_more(struct recording *r);
/* A time or a vCPU, whose head is before p. Return: behind it; NULL: it is damaged. */
const uint8_t *recording_before(struct recording *r, uint8_t head, const uint8_t *p,
                                const uint8_t *end);
/* An operation that is none of those below. Return: behind it, or behind the block; NULL: it is
 * damaged. */
const uint8_t *recording_other(struct recording *r, uint8_t head, const uint8_t *p,
                               const uint8_t *end, struct pn_op *op);

/* Return: false. */
static inline bool recording_damaged(struct recording *r) {
    r->state = RECORDING_DAMAGED;
    r->at = r->end;
    return false;
}

/* recording_next, inline. */
static inline __attribute__((always_inline)) bool recording_take(struct recording *r,
                                                                 struct pn_op *op) {
    const uint8_t *p = r->at, *end = r->end;
    uint8_t head;
    for (;;) {
        if (__builtin_expect(p == end, 0)) {
            r->at = p;
            if (!recording_more(r))
                return false;
            p = r->at;
            end = r->end;
        }
        head = *p++;
        if (head & OP_ACCESS || head < OP_TIME)
            break;
        p = recording_before(r, head, p, end);
        if (!p)
            return recording_damaged(r);
    }
    op->vcpu = r->vcpu;
    if (head & OP_ACCESS) {
        op->kind = PN_OP_access;
        op->how = head & (uint8_t)~OP_ACCESS;
        p = get_page(p, &r->last.access[head & PN_OP_ACCESS], op);
    } else if (head == OP_WRITE8) {
        p = get_write8(r, p, op);
    } else if (head - OP_FETCHED < PN_TLB_MODES) {
        op->kind = PN_OP_fetched;
        op->w[1] = head - OP_FETCHED;
        p = get_page(p, &r->last.fetched, op);
    } else {
        p = recording_other(r, head, p, end, op);
    }
    if (__builtin_expect(!p || p > end, 0))
        return recording_damaged(r);
    r->at = p;
    r->ops++;
    return true;
}
