/* SPDX-License-Identifier: MIT */
/* Appending code and hostile values: what gen.c and gen_legacy.c share. */
#pragma once

#include "gen.h"

struct code {
    uint8_t *p, *end;
    struct rng *r;
};

/* Append n bytes if they fit. */
void code_put(struct code *c, const void *bytes, size_t n);
#define PUT(c, ...)                                                                      \
    code_put(c, (const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))
/* The low n bytes of v. */
void code_imm(struct code *c, uint64_t v, size_t n);
/* One to eight random bytes. */
void code_bytes(struct code *c);

/* 0 .. n-1 */
uint32_t rng_below(struct rng *r, uint32_t n);
/* Addresses that hurt: tables, code, devices, holes, edges, non-canonical. */
uint64_t code_address(struct code *c);
/* A page-table entry with every kind of target: memory, itself, MMIO, nowhere, reserved
 * bits. */
uint64_t code_pte(struct rng *r);

void gen_protected(uint8_t *img, struct rng *r);
void gen_real(uint8_t *img, struct rng *r);
