/* SPDX-License-Identifier: MIT */
/*
 * Hostile guests: flat images of real, protected and long mode of random ring-0 code with
 * their own tables, which keep running whatever happens, since every exception jumps to a
 * random place in the code.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Where the image is loaded and entered, and what lies where in it. */
#define IMG_BASE       0x10000u
#define IMG_SIZE       0x40000u
#define IMG_CODE       0x01000u /* random code: 64 KiB */
#define IMG_CODE_SIZE  0x10000u
#define IMG_TABLES     0x20000u /* 16 pages of page tables */
#define IMG_IDT        0x31000u
#define IMG_GDT        0x32000u
#define IMG_TSS        0x32800u
#define IMG_HANDLER    0x33000u
#define IMG_DATA       0x34000u
#define IMG_STACK_TOP  0x3f000u
#define IMG_SHADOW_END 0x3fff8u /* the shadow stack's token; the page is nothing else */

enum gen_kind {
    GEN_BYTES,  /* random bytes */
    GEN_SYSTEM, /* control registers, MSRs, descriptor tables, far transfers, page tables
                 */
    GEN_DEVICE, /* every port and MMIO range, every size */
    GEN_SMC,    /* stores into the code itself */
    GEN_MIXED,
    GEN_PROTECTED, /* 32-bit code, paging and PAE toggled at random */
    GEN_REAL,      /* 16-bit code */
    GEN_KINDS
};

struct rng {
    uint64_t s;
};
uint64_t rng_next(struct rng *r);

/* The mode that a kind is entered in: 16, 32 or 64. */
unsigned gen_bits(enum gen_kind kind);

/* Fill IMG_SIZE bytes with a guest. The same seed gives the same guest. */
void gen_guest(uint8_t *img, enum gen_kind kind, uint64_t seed);
