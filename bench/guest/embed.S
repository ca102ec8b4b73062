/* SPDX-License-Identifier: MIT */
/* The guest's ELF file as bytes of this program: guest.h. */
    .section .rodata
    .balign 4096
    .globl pn_guest_elf, pn_guest_elf_end
pn_guest_elf:
    .incbin GUEST_ELF
pn_guest_elf_end:
    .byte 0
    .section .note.GNU-stack, "", @progbits
