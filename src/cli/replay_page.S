/* SPDX-License-Identifier: MIT */
/* The template and the script of the page of `penumbra replay --html`: replay_page.c. */
    .section .rodata
    .globl replay_page, replay_page_end, replay_script, replay_script_end
replay_page:
    .incbin PAGE_HTML
replay_page_end:
    .byte 0
replay_script:
    .incbin PAGE_JS
replay_script_end:
    .byte 0
    .section .note.GNU-stack, "", @progbits
