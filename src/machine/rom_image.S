/* SPDX-License-Identifier: MIT */
/* The bytes of rom/rom.S, for firmware.c. */
    .section .rodata
    .globl rom_image
    .balign 16
rom_image:
    .incbin ROM_BIN
    .section .note.GNU-stack, "", @progbits
