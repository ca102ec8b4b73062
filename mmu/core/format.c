/* SPDX-License-Identifier: MIT */
/* Which bits of an entry mean something when only some features are on. */
#include <string.h>

#include "mmu/core/format.h"
#include "penumbra/mmu.h"

#define LARGE_PAT PT_BIT(12)

/* Bits first..last set; none when last < first. */
static uint64_t bits(unsigned first, unsigned last) {
    return last < first ? 0 : (~0ull >> (63 - last)) & (~0ull << first);
}

/* Reserved in an entry with `large` set, beside what is in every entry. */
static uint64_t large_rsvd(const struct pt_format *f, unsigned level, bool on,
                           unsigned features, uint8_t maxphyaddr) {
    if (!on)
        return f->large_ignored ? 0 : f->large | f->table_zero;
    uint64_t pat = features & PT_NO_PAT && f->rights == PT_W_U_NX ? LARGE_PAT : 0;
    if (f->pse36 && features & PT_NO_PSE36)
        maxphyaddr = 32;
    if (f->pse36)
        return pat | bits((maxphyaddr < 40 ? maxphyaddr : 40) - 19u, 21);
    return pat | bits(f->large_low ? f->large_low : 13, pt_shift(f, level) - 1);
}

unsigned pt_cpu_features(unsigned lacks) {
    return PT_AD | (lacks & PN_MMU_NO_1G ? 0 : PT_1G) |
           (lacks & PN_MMU_NO_PSE36 ? PT_NO_PSE36 : 0) |
           (lacks & PN_MMU_NO_PAT ? PT_NO_PAT : 0);
}

void pt_bits_init(struct pt_bits *b, const struct pt_format *f, unsigned features,
                  uint8_t maxphyaddr) {
    memset(b, 0, sizeof(*b));
    b->format = f;
    b->address = bits(PN_PAGE_SHIFT, maxphyaddr - 1u);
    b->accessed = features & PT_AD ? f->accessed : 0;
    b->dirty = features & PT_AD ? f->dirty : 0;
    b->execute_user = features & PT_MBEC ? f->execute_user : 0;
    b->plain = f->rights == PT_W_U_NX;
    b->needed = b->accessed | (b->plain ? f->present : 0);
    b->large = f->large;
    b->pkey_shift = f->pkey_shift;
    b->pkey_mask = f->pkey_shift ? 15 : 0;
    uint64_t all = bits(maxphyaddr, f->address_last);
    if (!(features & PT_NX))
        all |= f->no_execute;
    for (unsigned level = 1; level <= f->top; level++) {
        bool on = f->large_if[level] & (features | PT_ALWAYS);
        b->large_levels |= (uint8_t)(on << level);
        b->leaf[level] = b->address & bits(pt_shift(f, level), 63);
        b->rsvd[0][level] = all | (level > 1 ? f->table_zero : 0);
        b->rsvd[1][level] = all;
        if (level > 1)
            b->rsvd[1][level] |= large_rsvd(f, level, on, features, maxphyaddr);
        else if (features & PT_NO_PAT && f->rights == PT_W_U_NX)
            b->rsvd[1][level] |= f->large; /* where other levels have PS */
    }
}
