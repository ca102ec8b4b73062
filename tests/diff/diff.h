/* SPDX-License-Identifier: MIT */
/*
 * The differential test: one random instruction at a time, from one random state, run by
 * this host's CPU and by the software CPU in a guest, at the same linear addresses in
 * ring 3 under the same segments. All that the instruction leaves behind must be equal.
 *
 * Three parts share this file. diff_native (native.c) is a process of its own, not
 * instrumented, with nothing of its own below 4 GiB; it runs cases with TF set and catches
 * the signal. guest.c runs them in the software CPU. differential.c makes the cases (gen.c),
 * knows what cannot be compared (rules.c), and compares.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Linear addresses. One page of code and six of data; the pages around both are absent.
 * Page 2 of the data is read-only, page 4 absent. */
#define DIFF_CODE      UINT64_C(0x10100000)
#define DIFF_CODE_SIZE 4096u
#define DIFF_DATA      UINT64_C(0x10400000)
#define DIFF_PAGES     6u
#define DIFF_DATA_SIZE (DIFF_PAGES * 4096u)
#define DIFF_READONLY  2u
#define DIFF_ABSENT    4u
/* Bases of FS and GS in 64-bit code. */
#define DIFF_FS (DIFF_DATA + 0x800)
#define DIFF_GS (DIFF_DATA + 0x1400)

/* Linux's selectors of user segments: arch/x86/include/asm/segment.h. */
#define DIFF_CS32 0x23u
#define DIFF_DS   0x2bu
#define DIFF_CS64 0x33u

#define DIFF_TF        0x100u
#define DIFF_XSAVE     2432u /* vector state, with the offsets of cpu/model.h */
#define DIFF_XSAVE_AVX 832u  /* of these, without AVX-512 */
#define DIFF_BATCH     1024u
#define DIFF_IGNORED   3u
#define DIFF_SELECTORS 16u /* of Linux's GDT */
#define DIFF_OWN       64u

enum { DIFF_ES, DIFF_CS_, DIFF_SS, DIFF_DS_, DIFF_FS_, DIFF_GS_, DIFF_SEGS };

/* Bytes that both sides write before the instruction runs. */
struct diff_poke {
    uint32_t at, len; /* at: into the data area */
    uint8_t bytes[DIFF_XSAVE];
};

/* Bytes of the data area that are not compared. */
struct diff_range {
    uint32_t at, len;
};

struct diff_case {
    uint64_t gpr[16];
    uint64_t rip, rflags;
    uint8_t xsave[DIFF_XSAVE]; /* standard format */
    uint8_t code[16];          /* at rip; the rest of the page is INT3 */
    uint32_t len;              /* bytes of code */
    bool code64;
    bool as64;  /* 32-bit code that the host runs as 64-bit code */
    bool skip;  /* the host does not run it */
    bool bases; /* the instruction may change FS's and GS's base */
    struct diff_poke poke[2];
    struct diff_range ignore[DIFF_IGNORED];
};

struct diff_outcome {
    uint64_t gpr[16];
    uint64_t rip, rflags, trap, error, cr2;
    uint64_t fs_base, gs_base;
    uint16_t sel[DIFF_SEGS];
    uint16_t fcw, fsw, ftw;
    uint32_t mxcsr;
    uint8_t st[8][16], xmm[16][16], ymm[16][16], zmm[16][32], high[16][64];
    uint64_t k[8];
    uint64_t memory; /* hash of what is no longer as before */
};

/* What LAR and LSL say of the host's GDT. */
struct diff_descriptor {
    uint32_t access, limit;
    bool visible;
};

/* [from, to) of the host's process itself: absent in the guests. */
struct diff_own {
    uint64_t from, to;
};

struct diff_shared {
    uint32_t first;            /* of this batch */
    volatile uint32_t count;   /* where it ends */
    volatile uint32_t current; /* being run */
    uint32_t keep;             /* copy the data area to after[] before it is restored */
    bool code32;               /* the host runs 32-bit code */
    bool umip;                 /* its kernel emulates what UMIP forbids */
    struct diff_descriptor gdt[DIFF_SELECTORS];
    struct diff_own own[DIFF_OWN]; /* what is left is 0, 0 */
    uint8_t before[DIFF_DATA_SIZE], after[DIFF_DATA_SIZE];
    /* The last one is for a case that is run again. */
    struct diff_case cases[DIFF_BATCH + 1];
    struct diff_outcome native[DIFF_BATCH + 1];
};

/* Of data against before: 0 when they are equal. */
static inline uint64_t diff_hash(const uint8_t *before, const uint8_t *data) {
    uint64_t h = 0;
    for (uint32_t page = 0; page < DIFF_DATA_SIZE; page += 4096) {
        if (!__builtin_memcmp(before + page, data + page, 4096))
            continue;
        for (uint32_t i = page; i < page + 4096; i += 8) {
            uint64_t a, b;
            __builtin_memcpy(&a, before + i, 8);
            __builtin_memcpy(&b, data + i, 8);
            if (a != b)
                h = (h ^ i ^ b) * UINT64_C(0x9e3779b97f4a7c15), h ^= h >> 29;
        }
    }
    return h;
}

/* Put the pokes of c into the data area. */
static inline void diff_poke(const struct diff_case *c, uint8_t *data) {
    for (unsigned i = 0; i < 2; i++)
        __builtin_memcpy(data + c->poke[i].at, c->poke[i].bytes, c->poke[i].len);
}

/* The hash after c has run; what is not compared is taken out. */
static inline uint64_t diff_result(const struct diff_case *c, const uint8_t *before,
                                   uint8_t *data) {
    for (unsigned i = 0; i < DIFF_IGNORED; i++)
        __builtin_memcpy(data + c->ignore[i].at, before + c->ignore[i].at,
                         c->ignore[i].len);
    return diff_hash(before, data);
}

/* Make the data area as it was before. */
static inline void diff_restore(const uint8_t *before, uint8_t *data) {
    for (uint32_t page = 0; page < DIFF_DATA_SIZE; page += 4096)
        if (__builtin_memcmp(before + page, data + page, 4096))
            __builtin_memcpy(data + page, before + page, 4096);
}
