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
    profile skylake, skylake.json
    profile icelake, icelake.json
    profile zen3, zen3.json
    profile infinite, infinite.json
    profile none, none.json
    profile cost_kvm, cost-kvm.json
    .section .note.GNU-stack, "", @progbits
