/* SPDX-License-Identifier: MIT */
/*
 * Paging formats as data, and how an entry of one is read. The only place that knows
 * which bit means what in a table of the guest's or of a nested hypervisor's; the layouts
 * of our own entries are shadow/spte.h and tdp/ept.h.
 */
#pragma once

#include "penumbra/types.h"

/* Rights as tables grant them, KVM's ACC_* sense. Of a second level USER stands for "may
 * be read", as in arch/x86/kvm/mmu/paging_tmpl.h. */
#define ACC_EXEC  PN_ACC_EXEC
#define ACC_WRITE PN_ACC_WRITE
#define ACC_USER  PN_ACC_USER
#define ACC_ALL   7u
/* The page is a shadow stack's. Looked at, and so set, for shadow-stack accesses alone. */
#define ACC_SS 8u
/* Of a second level with mode-based execute control: EXEC is for supervisor addresses alone, and
 * this for user ones. */
#define ACC_EXEC_USER 8u
#define ACC_SETS      16 /* of these bits */

#define PT_LEVELS 5
#define PT_BIT(n) (1ull << (n))

/* What may be switched on, and what a CPU may lack, as a set. */
enum pt_feature {
    PT_ALWAYS = 1,
    PT_PSE = 2,
    PT_1G = 4,
    PT_NX = 8,
    PT_AD = 16,
    PT_NO_PSE36 = 32,
    PT_NO_PAT = 64, /* of the formats with W, U and NX */
    PT_MBEC = 128
};

/* How the rights of an entry are read. */
enum pt_rights {
    PT_W_U_NX, /* bit 1 W, bit 2 U, no_execute takes execution away */
    PT_R_W_X   /* bits 0, 1, 2; and execute_user */
};

enum pt_format_id {
#define PT_FORMAT(name, ...) PT_FORMAT_##name,
#include "mmu/core/formats.inc"
    PT_FORMATS
};

struct pt_format {
    enum pt_format_id id;
    uint8_t top;         /* level of the root table */
    uint8_t bits;        /* of the address, per level */
    uint8_t entry;       /* bytes of an entry: 4 or 8 */
    uint8_t in_register; /* the level whose entries are registers (PAE); 0: none */
    enum pt_rights rights;
    uint64_t present; /* an entry with none of these bits is not present */
    uint64_t accessed, dirty, large, global, no_execute; /* 0: there is no such bit */
    uint64_t execute_user; /* with PT_MBEC; it makes an entry present, too */
    uint8_t pkey_shift;    /* of the 4-bit protection key; 0: there is none */
    uint8_t address_last;  /* address bits up to it are reserved from MAXPHYADDR;
                             0: none */
    uint8_t large_if[PT_LEVELS + 1]; /* by level: the feature that lets `large` map a
                                        page; without it the bit is reserved */
    bool large_ignored;              /* no: without it the bit means nothing */
    bool pse36; /* bits 13..20 of a large entry are address bits 32..39 */
    uint8_t
        large_low; /* a large entry's lowest reserved address bit; 0: 13 (PAT is 12) */
    uint64_t table_zero; /* reserved in entries that lead to a table */
    uint8_t odd_rights;  /* bit n: reserved when bits 0..2 are n */
    uint8_t odd_types; /* bit n: reserved in a leaf whose bits 3..5 (memory type) are n */
};

/* In every file of its own, so that a constant format folds into the code that uses it.
 */
static const struct pt_format pt_formats[PT_FORMATS] = {
#define PT_FORMAT(name, ...) [PT_FORMAT_##name] = {.id = PT_FORMAT_##name, __VA_ARGS__},
#include "mmu/core/formats.inc"
};

/* A format with the features that are on. */
struct pt_bits {
    const struct pt_format *format; /* NULL: paging is off */
    uint8_t large_levels; /* bit n: an entry of level n with `large` maps a page */
    uint64_t address;     /* bits 12 .. MAXPHYADDR-1 */
    uint64_t leaf[PT_LEVELS + 1]; /* by level: those of `address` that a leaf has */
    uint64_t accessed, dirty;     /* set by walks; 0: this format has none, or not now */
    uint64_t needed;              /* bits that an entry has that may be used as it is */
    uint64_t execute_user; /* 0: bit 2 is for all addresses, or there is no such bit */
    uint64_t large; /* the format's, here for a look at many entries, as the next two */
    uint8_t pkey_shift, pkey_mask;
    bool plain; /* rights are W, U and NX, and no combination of bits is odd */
    uint64_t rsvd[2][PT_LEVELS + 1]; /* by `large` and level: bits that must be 0 */
};

/* The features of a CPU that lacks some: PN_MMU_NO_*. */
unsigned pt_cpu_features(unsigned lacks);

/* features: a set of enum pt_feature; maxphyaddr: 36..52. */
void pt_bits_init(struct pt_bits *b, const struct pt_format *f, unsigned features,
                  uint8_t maxphyaddr);

/* ---- Reading an entry ---- */

static inline unsigned pt_shift(const struct pt_format *f, unsigned level) {
    return PN_PAGE_SHIFT + f->bits * (level - 1);
}
/* Rights granted by this entry alone: ACC_*. PT_W_U_NX: no_execute is bit 63 or nothing, and
 * reserved where it has no meaning: an entry without it grants execution. */
static inline unsigned pt_acc_plain(uint64_t v) {
    return (unsigned)((v & (ACC_WRITE | ACC_USER)) | ~v >> 63);
}
static inline unsigned pt_acc(const struct pt_format *f, uint64_t v) {
    if (f->rights == PT_R_W_X)
        return (unsigned)((v & 1) << 2 | (v & 2) | (v >> 2 & 1));
    return pt_acc_plain(v);
}
static inline unsigned pt_acc_user(const struct pt_format *f, const struct pt_bits *b,
                                   uint64_t v) {
    return f->execute_user && v & b->execute_user ? ACC_EXEC_USER : 0;
}
static inline bool pt_present(const struct pt_format *f, const struct pt_bits *b,
                              uint64_t v) {
    return v & f->present || (f->execute_user && v & b->execute_user);
}
static inline bool pt_leaf(const struct pt_bits *b, unsigned level, uint64_t v) {
    return level == 1 || (v & b->large && b->large_levels >> level & 1);
}
/* Of a present entry: is it one that faults as reserved (a misconfiguration in EPT)? */
static inline bool pt_reserved(const struct pt_format *f, const struct pt_bits *b,
                               unsigned level, uint64_t v) {
    bool large = v & f->large;
    if (v & b->rsvd[large][level])
        return true;
    return (f->odd_rights && f->odd_rights >> (v & 7) & 1) ||
           (f->odd_types && (level == 1 || large) && f->odd_types >> (v >> 3 & 7) & 1);
}
static inline uint8_t pt_pkey(const struct pt_format *f, uint64_t v) {
    return f->pkey_shift ? v >> f->pkey_shift & 15 : 0;
}
/* First frame that a leaf of this level maps. */
static inline pn_gfn pt_leaf_gfn(const struct pt_format *f, const struct pt_bits *b,
                                 unsigned level, uint64_t v) {
    pn_gfn gfn = (v & b->leaf[level]) >> PN_PAGE_SHIFT;
    return f->pse36 && level > 1 ? gfn | (v >> 13 & 0xff) << 20 : gfn;
}
