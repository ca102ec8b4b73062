/* SPDX-License-Identifier: MIT */
/*
 * A processor that waits for SIPI since reset, without an INIT before, starts from one, also
 * when the machine has moved to another MMU meanwhile.
 *
 * Checks: 1 the second processor runs.
 */
#include "guest.inc"
    .set AP_CODE, 0x8000
    .set FLAG, 0x9000
    .set ICR, 0xfee00300

    .text
    .globl _start
_start:
    movabsq $0xfeeb01900006c6, %rax /* movb $1, (0x9000); jmp . */
    movq %rax, AP_CODE
    movl $MARK_PORT, %edx
    movl $MARK_HANDOVER, %eax
    outl %eax, %dx          /* here it may move */
    movl $ICR, %ebx
    movl $1 << 24, 0x10(%rbx)
    movl $0x600 | AP_CODE >> 12, (%rbx)
    movl $1000000, %ecx
1:  cmpb $1, FLAG
    je 2f
    decl %ecx
    jnz 1b
2:  cmpb $1, FLAG
    check 1
    xorl %r11d, %r11d
bad:
    leave
    .section .note.GNU-stack, "", @progbits
