/* SPDX-License-Identifier: MIT */
/*
 * SYSCALL arrives here: in ring 0, on ring 3's stack, with the return address in RCX. KVM
 * without EPT and NPT stays in ring 3. So ring 3 may execute this page, and a UD2 here
 * leads to ring 0. RAX is 0 after either way.
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
