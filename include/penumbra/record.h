/* SPDX-License-Identifier: MIT */
/*
 * Who writes down what is done to an MMU, so that it can be done to another one without the
 * guest: every call of penumbra/mmu.h that changes something, in its order, and all of guest
 * memory that an MMU may read.
 *
 * An MMU reads guest memory as tables alone. A page that a walk is about to read is told as
 * `memory` before its first read. From then on its stores reach pn_mmu_vcpu_write, as those
 * to translated code do, and are told with their bytes, until enough of them are of a kind
 * that fills no tables; such a page is told anew before it is read again. So each MMU that
 * is given the same operations finds in its tables, at each moment, what the guest had
 * there. The accessed and dirty bits are each MMU's own.
 *
 * Recording changes no table, no counter and no answer but PN_TRACKED for PN_MAPPED. (The
 * CPU sees the latter: it may translate other blocks, and fetch a page more often.)
 */
#pragma once

#include "penumbra/types.h"

PN_BEGIN_DECLS

enum pn_op_kind {
#define PN_OP(name, words, doc) PN_OP_##name,
#include "penumbra/record_ops.inc"
    PN_OP_COUNT
};

#define PN_OP_WORDS 10
#define PN_OP_DATA  8192u /* bytes of data at most */

/* `how` of an access: enum pn_access, enum pn_tlb_mode << 2, and */
#define PN_OP_ACCESS 3u
#define PN_OP_MODE   2   /* a shift */
#define PN_OP_FORCED 16u /* it came although the TLB had the page (it spans two) */
#define PN_OP_AGAIN  32u /* the one before it, after unprotect changed something */

struct pn_op {
    enum pn_op_kind kind;
    uint8_t how;
    uint16_t vcpu; /* by order of creation; 0 where nobody's */
    uint32_t size; /* of data */
    const void *data;
    uint64_t w[PN_OP_WORDS];
};

struct pn_mmu_config;

/* Both are called before the MMU does it, and may not call back into the MMU. */
struct pn_recorder {
    void (*created)(void *opaque, const struct pn_mmu_config *cfg);
    void (*op)(void *opaque, const struct pn_op *op);
    void *opaque;
};

PN_END_DECLS
