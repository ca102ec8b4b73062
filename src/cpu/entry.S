/* SPDX-License-Identifier: MIT */
/*
 * Into translated code and out of it. RSP there is cpu + 128; see xlat.h for who lives
 * where. The offsets are asserted in slow.c.
 */
#include "cpu/entry_offsets.h"

/* From RSP in translated code. */
#define R(offset)   ((offset) - 128)(%rsp)
#define GPR(n)      R((n) * 8)

.macro save reg number
    mov \reg, GPR(\number)
.endm
.macro load reg number
    mov GPR(\number), \reg
.endm
/* The guest's registers that the host's hold: \what is save or load. */
.macro guest what
    \what %r9, 0
    \what %rcx, 1
    \what %rdx, 2
    \what %rbx, 3
    \what %r11, 4
    \what %rbp, 5
    \what %rsi, 6
    \what %rdi, 7
    .irp number, 12, 13, 14, 15
    \what %r\number, \number
    .endr
.endm
/* The host's R8 is the guest's, or the last stamp. */
.macro guest_save
    mov R(OFF_R8), %r10
    mov %r8, (%r10)
    guest save
.endm
.macro guest_load
    mov R(OFF_R8), %r8
    mov (%r8), %r8
    guest load
.endm

/* On the host's stack: return eax to xlat_enter's caller. By a jump: what was called since
 * has not returned, so the processor's return stack would send a RET astray. */
.macro leave_translated
    add $8, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    pop %rcx
    jmp *%rcx
.endm

/* Reached by a call from translated code, whose descriptor follows the call. \fn returns
 * where to go on, or NULL. part: as in penumbra/parts.h. */
.macro trampoline name fn part
    .section pn_part_\part, "ax", @progbits
    .globl \name
    .type \name, @function
\name:
    popq R(OFF_RET)         /* the pop moves RSP first */
    mov %r10, R(OFF_R10)
    mov %rax, R(OFF_RAX)
    guest_save
    lea -128(%rsp), %rbx
    mov R(OFF_HOST_SP), %rsp
    cmpb $0, OFF_VEC_LIVE(%rbx)
    jne 1f
2:  mov %rbx, %rdi
    call \fn
    test %rax, %rax
    jz 4f
    cmpq $0, OFF_VEC(%rbx)
    jne 3f
5:  lea 128(%rbx), %rsp
    mov R(OFF_R10), %r10
    guest_load
    jmp *%rax
1:  mov %rbx, %rdi
    call cpu_vec_save
    jmp 2b
3:  mov %rax, OFF_RET(%rbx)
    mov %rbx, %rdi
    call cpu_vec_load
    mov OFF_RET(%rbx), %rax
    jmp 5b
4:  mov $LEFT_OTHER, %eax
    leave_translated
    .size \name, . - \name
    .text
.endm

    .text

    .globl xlat_enter
    .type xlat_enter, @function
xlat_enter:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    sub $8, %rsp
    mov %rsp, OFF_HOST_SP(%rdi)
    lea 128(%rdi), %rsp
    mov %rsi, %rax
    guest_load
    jmp *%rax
    .size xlat_enter, . - xlat_enter

trampoline xlat_tramp_slow xlat_slow miss
trampoline xlat_tramp_done xlat_done miss
trampoline xlat_tramp_helper xlat_helper helper

/* eax: what to return. */
    .globl xlat_tramp_exit
    .type xlat_tramp_exit, @function
xlat_tramp_exit:
    guest_save
    mov R(OFF_HOST_SP), %rsp
    leave_translated
    .size xlat_tramp_exit, . - xlat_tramp_exit

/* rax: an address, salted, that the jump cache does not know. */
    .globl xlat_tramp_miss
    .type xlat_tramp_miss, @function
xlat_tramp_miss:
    xor R(OFF_SALT), %rax
    mov %rax, R(OFF_RIP)
    mov $LEFT_MISS, %eax
    jmp xlat_tramp_exit
    .size xlat_tramp_miss, . - xlat_tramp_miss

/* A host fault was the guest's; its state but the registers is in order. */
    .globl xlat_tramp_fault
    .type xlat_tramp_fault, @function
xlat_tramp_fault:
    mov $LEFT_OTHER, %eax
    jmp xlat_tramp_exit
    .size xlat_tramp_fault, . - xlat_tramp_fault

/* Called from a block's start: make vector state live. */
    .globl xlat_tramp_vec
    .type xlat_tramp_vec, @function
xlat_tramp_vec:
    popq R(OFF_RET)
    guest_save
    lea -128(%rsp), %rbx
    mov R(OFF_HOST_SP), %rsp
    mov %rbx, %rdi
    call cpu_vec_load
    lea 128(%rbx), %rsp
    mov R(OFF_RET), %rax
    guest_load
    jmp *%rax
    .size xlat_tramp_vec, . - xlat_tramp_vec

    .section .note.GNU-stack, "", @progbits
