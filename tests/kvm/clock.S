/* SPDX-License-Identifier: MIT */
/*
 * The paravirtual clock (--pv pvclock) is set up and read, the machine may move to another
 * MMU, and time has gone on: no step back, none of more than 10 s.
 *
 * Checks: 1 the clock is offered, 2 it tells a time, 3 its MSR is kept, 4 it does not go
 * back, 5 nor far ahead, 6 it goes on.
 */
#include "guest.inc"
    .set MSR_SYSTEM_TIME, 0x4b564d01

    /* ns to RAX; uses RCX, RDX, RSI. Layout: Documentation/virt/kvm/x86/msr.rst */
    .macro read_clock
1:  movl clock(%rip), %esi
    testl $1, %esi
    jnz 1b
    rdtsc
    shlq $32, %rdx
    orq %rdx, %rax
    subq clock+8(%rip), %rax
    movsbl clock+28(%rip), %ecx
    testl %ecx, %ecx
    js 2f
    shlq %cl, %rax
    jmp 3f
2:  negl %ecx
    shrq %cl, %rax
3:  movl clock+24(%rip), %edx
    mulq %rdx
    shrdq $32, %rdx, %rax
    addq clock+16(%rip), %rax
    cmpl clock(%rip), %esi
    jne 1b
    .endm

    .text
    .globl _start
_start:
    movl $0x40000001, %eax
    cpuid
    andl $8, %eax
    xorl $8, %eax
    check 1
    leaq clock(%rip), %rax
    orq $1, %rax
    movq %rax, %rbp
    movq %rax, %rdx
    shrq $32, %rdx
    movl $MSR_SYSTEM_TIME, %ecx
    wrmsr
    read_clock
    movq %rax, %rbx
    cmpl $0, clock+24(%rip)
    setne %al
    cmpb $1, %al
    check 2

    movw $MARK_PORT, %dx
    movl $MARK_HANDOVER, %eax
    outl %eax, %dx

    movl $MSR_SYSTEM_TIME, %ecx
    rdmsr
    shlq $32, %rdx
    movl %eax, %eax
    orq %rdx, %rax
    cmpq %rbp, %rax
    check 3
    read_clock
    movl $4, %r11d
    cmpq %rbx, %rax
    jb bad
    movl $5, %r11d
    movq %rax, %rdi
    subq %rbx, %rax
    movabsq $10000000000, %rcx
    cmpq %rcx, %rax
    ja bad
    movl $200, %r8d
4:  read_clock
    movl $4, %r11d
    cmpq %rdi, %rax
    jb bad
    movq %rax, %rdi
    decl %r8d
    jnz 4b
    movl $6, %r11d
    cmpq %rbx, %rax
    je bad
    xorl %r11d, %r11d
bad:
    leave

    .balign 64
clock: .skip 64
    .section .note.GNU-stack, "", @progbits
