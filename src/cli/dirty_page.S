/* SPDX-License-Identifier: MIT */
/* The template and the script of the page of `penumbra dirty-rate --html`: dirty_rate.c. */
    .section .rodata
    .globl dirty_page, dirty_page_end, dirty_script, dirty_script_end
dirty_page:
    .incbin PAGE_HTML
dirty_page_end:
    .byte 0
dirty_script:
    .incbin PAGE_JS
dirty_script_end:
    .byte 0
    .section .note.GNU-stack, "", @progbits
