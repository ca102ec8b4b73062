/* SPDX-License-Identifier: MIT */
/*
 * Random sequences of user-mode instructions of every unprivileged class that the model
 * enumerates. Memory operands lie in the data area, whatever the instruction.
 */
#pragma once

#include <stdint.h>

#include "cpu/cpu.h"

/* Linear addresses, equal on both sides. DATA is followed and preceded by mapped pages; a
 * read-only and an absent page stand in its middle. */
#define GEN_DATA     UINT64_C(0x10400000)
#define GEN_PAGES    16u
#define GEN_READONLY (GEN_DATA + 6 * 4096)
#define GEN_ABSENT   (GEN_DATA + 11 * 4096)
#define GEN_STACK    (GEN_DATA + 14 * 4096 + 0x800)
#define GEN_FS       (GEN_DATA + 0x1800)
#define GEN_GS       (GEN_DATA + 0x2800)

struct gen;

struct gen_seq {
    uint8_t code[512];
    unsigned len, insns;
    uint64_t gpr[16];
    uint64_t rflags;
    uint8_t xsave[1024];
};

struct gen *gen_create(const struct cpu_model *model, uint64_t seed);
void gen_destroy(struct gen *g);
uint64_t gen_random(struct gen *g);
/* Make a sequence to stand at rip. */
void gen_sequence(struct gen *g, uint64_t rip, struct gen_seq *seq);
/* How many mnemonics there are to choose from. */
unsigned gen_mnemonics(const struct gen *g);
/* Print the instructions of seq. */
void gen_print(const struct gen_seq *seq, uint64_t rip);
