/* SPDX-License-Identifier: MIT */
/*
 * A guest whose shares are known by construction: an ELF, entered in 64-bit mode with an identity map
 * of 4 GiB. Each round calls `heavy`, which runs three times the instructions of `light`, and `misses`,
 * each of whose accesses is to a page that the software CPU's TLB does not have.
 */
#include "tests/kvm/guest.inc"
    .set ROUNDS, 60
    .set LIGHT, 1000000
    .set PAGES, 16384
    .set MEMORY, 0x1000000

    .globl _start
    .type _start, @function
_start:
    movl $0x300000, %esp
    movl $ROUNDS, %r12d
1:  movl $(3 * LIGHT), %ecx
    call heavy
    movl $LIGHT, %ecx
    call light
    movl $4, %ebx
2:  call misses
    decl %ebx
    jnz 2b
    decl %r12d
    jnz 1b
    xorl %r11d, %r11d
    leave
    .size _start, . - _start

    .macro loop_of name
    .type \name, @function
\name:
2:  imull $3, %eax, %eax
    addl $7, %eax
    xorl %ecx, %eax
    decl %ecx
    jnz 2b
    ret
    .size \name, . - \name
    .endm

    loop_of heavy
    .p2align 6
    loop_of light

    .p2align 6
    .type misses, @function
misses:
    movl $MEMORY, %esi
    movl $PAGES, %ecx
3:  movl (%rsi), %eax
    addl $4096, %esi
    decl %ecx
    jnz 3b
    ret
    .size misses, . - misses
