/* SPDX-License-Identifier: MIT */
/* The profiles of bench/profiles as bytes: profile.c. Found by the include path. */
.macro profile name, file
    .globl profile_\name, profile_\name\()_end
profile_\name:
    .incbin "\file"
profile_\name\()_end:
    .byte 0
.endm
    .section .rodata
#define SHIPPED(symbol, name, schema, file) profile symbol, file
#include "bench/harness/profiles.inc"
    .section .note.GNU-stack, "", @progbits
