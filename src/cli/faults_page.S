/* SPDX-License-Identifier: MIT */
/* The template and the script of the page of `penumbra faults --html`: faults_page.c. */
    .section .rodata
    .globl faults_page, faults_page_end, faults_script, faults_script_end
faults_page:
    .incbin PAGE_HTML
faults_page_end:
    .byte 0
faults_script:
    .incbin PAGE_JS
faults_script_end:
    .byte 0
    .section .note.GNU-stack, "", @progbits
