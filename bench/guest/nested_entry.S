/* SPDX-License-Identifier: MIT */
/* The ways into the second guest and out of it (nested.c), and that guest's own entries. */
    .text
/* svm_enter(vmcb, regs): RBX, RCX, RDX, RSI, RDI, RBP, R8 to R15. */
    .globl svm_enter
svm_enter:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq %rsi
    movq %rdi, %rax
    movq (%rsi), %rbx
    movq 8(%rsi), %rcx
    movq 16(%rsi), %rdx
    movq 32(%rsi), %rdi
    movq 40(%rsi), %rbp
    movq 48(%rsi), %r8
    movq 56(%rsi), %r9
    movq 64(%rsi), %r10
    movq 72(%rsi), %r11
    movq 80(%rsi), %r12
    movq 88(%rsi), %r13
    movq 96(%rsi), %r14
    movq 104(%rsi), %r15
    movq 24(%rsi), %rsi
    vmrun
    stgi
    pushq %rdi
    movq 8(%rsp), %rdi
    movq %rbx, (%rdi)
    movq %rcx, 8(%rdi)
    movq %rdx, 16(%rdi)
    movq %rsi, 24(%rdi)
    popq 32(%rdi)
    movq %rbp, 40(%rdi)
    movq %r8, 48(%rdi)
    movq %r9, 56(%rdi)
    movq %r10, 64(%rdi)
    movq %r11, 72(%rdi)
    movq %r12, 80(%rdi)
    movq %r13, 88(%rdi)
    movq %r14, 96(%rdi)
    movq %r15, 104(%rdi)
    popq %rsi
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

/* ---- The second guest ---- */

    .globl l2_start
l2_start:
    call l2_main
1:  hlt
    jmp 1b

/* l2_set(entry, value) */
    .globl l2_set, l2_store
l2_set:
l2_store:
    movq %rsi, (%rdi)
    ret

/* l2_call(number, list, n, gva): RAX, RDI, RSI, RDX */
    .globl l2_call
l2_call:
    movq %rdi, %rax
    movq %rsi, %rdi
    movq %rdx, %rsi
    movq %rcx, %rdx
    vmmcall
    ret

/* Its #PF, with an error code. */
    .balign 16
    .globl l2_fault_entry
l2_fault_entry:
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    cld
    movq %cr2, %rdi
    call l2_fault
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rax
    addq $8, %rsp
    iretq

    .bss
    .balign 16
    .skip 16384
    .globl l2_stack_top
l2_stack_top:
    .section .note.GNU-stack, "", @progbits
