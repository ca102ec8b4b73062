/* SPDX-License-Identifier: MIT */
/* Random cases. A case depends on the seed and its number alone. */
#pragma once

#include <Zydis/Zydis.h>

#include "diff.h"

struct diff_gen {
    uint64_t rng;
    ZydisDecoder dec[2]; /* of 32- and of 64-bit code */
    uint8_t xcr0;        /* the vector state that cases have */
    uint8_t images;      /* of these, what images in memory have: its place is known */
};

/* What is known of the instruction of a case. */
struct diff_insn {
    bool defined; /* else only these two are of use: */
    bool locked;  /* there is a LOCK prefix */
    bool other_w; /* with the other VEX.W it is defined */
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    bool has_address; /* of one piece */
    uint64_t address; /* linear */
};

void diff_gen_init(struct diff_gen *g, uint8_t xcr0, uint8_t images);
/* Does the instruction of c, 32-bit code, do the same as 64-bit code? Then the host may run
 * it as such. */
bool diff_gen_same_in_64(struct diff_gen *g, const struct diff_case *c,
                         const struct diff_insn *in);
/* Fill the data area: what each case begins with. */
void diff_gen_before(struct diff_gen *g, uint64_t seed, uint8_t *before);
void diff_gen_case(struct diff_gen *g, uint64_t seed, uint64_t n, bool code64,
                   struct diff_case *c, struct diff_insn *in);
