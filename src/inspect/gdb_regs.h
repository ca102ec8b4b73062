/* SPDX-License-Identifier: MIT */
/*
 * A vCPU's registers as gdb numbers them: its amd64 target (general, x87, SSE, AVX, AVX-512), then
 * everything else that penumbra/cpu_state.inc has, in the group "system".
 */
#pragma once

#include <stdio.h>

#include "penumbra/cpu_state.h"

#define GDB_REG_BYTES 32u /* of a register at most */

/* Numbers go from 0 up to, without, this; some are no register. */
unsigned gdb_reg_end(void);
/* Return: its bytes in out, least significant first; 0: no such register. */
size_t gdb_reg_get(const struct pn_cpu_state *s, unsigned nr, uint8_t out[GDB_REG_BYTES]);
/* size: what gdb_reg_get returns. Return: false: no such register. */
bool gdb_reg_set(struct pn_cpu_state *s, unsigned nr, const uint8_t *in, size_t size);
/* The target description ("Target Descriptions" of gdb's manual). */
void gdb_reg_xml(FILE *out);
