/* SPDX-License-Identifier: MIT */
/*
 * Where SYSCALL arrives: in ring 0, on ring 3's stack, with the return address in RCX. KVM
 * without EPT and NPT leaves it in ring 3, so this page is ring 3's to execute, and from
 * there it is a UD2 more. RAX is 0 after both.
 */
#include "abi.h"
    .text
    .globl syscall_entry
syscall_entry:
    movl %cs, %eax
    testb $3, %al
    jnz 1f
    movq %rsp, %rax
    pushq $0x1b                 /* SS */
    pushq %rax
    pushq %r11                  /* RFLAGS */
    pushq $0x23                 /* CS */
    pushq %rcx
    xorl %eax, %eax
    iretq
1:  movl $CALL_NOP, %eax
    ud2
    jmp *%rcx
    .section .note.GNU-stack, "", @progbits
