/* SPDX-License-Identifier: MIT */
/* What decode.c asks of Zydis. Its end is for files that include Zydis first. */
#pragma once

#include "cpu/decode.h"

/* Kinds of code: how bytes are read. */
enum { KIND_64, KIND_32, KIND_16, KIND_REAL /* 16 bits, real or virtual-8086 mode */ };

struct shape_source;

/* free() destroys it. Return: NULL when out of memory. */
struct shape_source *shape_source_create(const struct cpu_model *model);

/* Make the shape of the instruction at p; d holds its parsed fields. Return: false when
 * `avail` bytes are too few. */
bool shape_make(struct shape_source *src, const uint8_t *p, unsigned avail, unsigned kind,
                const struct dec *d, struct shape *out);

/* Fill what a helper needs: d->in's explicit operands, immediates, helper. */
void shape_operands(struct shape_source *src, const uint8_t *p, unsigned kind,
                    struct dec *d);

#ifdef ZYDIS_H
struct shape_source {
    const struct cpu_model *model;
    ZydisDecoder dec[4];
    bool isa[ZYDIS_ISA_SET_MAX_VALUE + 1];
};

/* Fill *m, which is 0, for an EVEX instruction with this memory operand. */
void shape_masked(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op,
                  const ZydisDecodedOperand *mem, const struct dec *d, struct masked *m);
#endif
