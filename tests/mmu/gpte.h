/* SPDX-License-Identifier: MIT */
/* Bits of a gpte, for the tests that build guest tables. test_perm_sweep.c has its own:
 * it shares nothing with others. */
#pragma once

#define P  0x001ull
#define W  0x002ull
#define U  0x004ull
#define A  0x020ull
#define D  0x040ull
#define PS 0x080ull
#define G  0x100ull
#define NX (1ull << 63)
