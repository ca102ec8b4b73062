/* SPDX-License-Identifier: MIT */
/*
 * Far transfers of 64-bit code to an address that is not canonical: #GP(0) at the instruction,
 * nothing pushed or popped (SDM volume 2, "JMP", "CALL", "RET", "IRET"; on AMD's processors a far
 * pointer in memory has 32 bits, which are canonical). And interrupts that the task priority
 * masks before they are taken: they wait, and no other vector comes instead (SDM volume 3,
 * "Spurious Interrupt").
 *
 * Checks: 1 to 4 JMP, CALL, RET, IRET, 5 no other exception came, 6 a self-IPI that CR8 masks
 * waits, 7 it comes once, 8 and so does one that is masked in STI's shadow, 9 nothing else came.
 */
#include "guest.inc"
    .set ODD, 0x8000000000000010
    .set MSR_APIC_BASE, 0x1b
    .set X2APIC_EOI, 0x80b
    .set X2APIC_SVR, 0x80f
    .set X2APIC_SELF_IPI, 0x83f
    .set VECTOR, 0x31

    /* Instruction `insn` must end in #GP(0) with RSP as it was. */
    .macro refused n, insn:vararg
    movq $-1, error(%rip)
    leaq 8f(%rip), %rax
    movq %rax, recover(%rip)
    leaq 7f(%rip), %rbx
    movq %rsp, %rbp
7:  \insn
8:  movq %rbp, %rsp
    cmpq $0, error(%rip)
    check \n
    cmpq %rbx, rip(%rip)
    check \n
    cmpq %rbp, rsp(%rip)
    check \n
    .endm

    .text
    .globl _start
_start:
    cld
    xorl %ecx, %ecx
    leaq other(%rip), %rax
1:  movq %rcx, %rdi /* every vector, then those that are expected */
    shlq $4, %rdi
    leaq idt(%rip), %rdx
    addq %rdx, %rdi
    movq %rax, %rsi
    movw %si, (%rdi)
    movw %cs, 2(%rdi)
    movw $0x8e00, 4(%rdi)
    shrq $16, %rsi
    movw %si, 6(%rdi)
    incl %ecx
    cmpl $256, %ecx
    jne 1b
    gate 13, protection
    gate VECTOR, taken
    lidt idtr(%rip)
    movb $0xff, %al
    outb %al, $0x21
    outb %al, $0xa1
    movw %cs, far_pointer+8(%rip)

    xorl %eax, %eax
    cpuid
    cmpl $0x68747541, %ebx /* "Auth" */
    je 2f
    refused 1, rex.w ljmp *far_pointer(%rip)
    refused 2, rex.w lcall *far_pointer(%rip)
2:  movabsq $ODD, %rcx
    movl %cs, %edx
    pushq %rdx
    pushq %rcx
    refused 3, lretq
    movl %ss, %esi
    movq %rsp, %rdi
    pushq %rsi
    pushq %rdi
    pushq $2
    pushq %rdx
    pushq %rcx
    refused 4, iretq
    movl $5, %r11d
    cmpq $0, others(%rip)
    jne bad

    movl $MSR_APIC_BASE, %ecx
    rdmsr
    orl $0xc00, %eax
    wrmsr
    wrmsr_value X2APIC_SVR, 0x1ff
    movl $15, %eax
    movq %rax, %cr8
    wrmsr_value X2APIC_SELF_IPI, VECTOR
    sti
    movl $10000, %ecx
3:  decl %ecx
    jnz 3b
    cmpq $0, count(%rip)
    check 6
    xorl %eax, %eax
    movq %rax, %cr8
    nop
    cmpq $1, count(%rip)
    check 7
    /* Pending, and masked by the instruction in whose shadow it may not come. */
    cli
    wrmsr_value X2APIC_SELF_IPI, VECTOR
    movl $15, %eax
    sti
    movq %rax, %cr8
    nop
    nop
    cmpq $1, count(%rip)
    check 8
    xorl %eax, %eax
    movq %rax, %cr8
    nop
    cmpq $2, count(%rip)
    check 8
    cmpq $0, others(%rip)
    check 9
    xorl %r11d, %r11d
bad:
    leave

protection:
    popq error(%rip)
    popq rip(%rip)
    movq 16(%rsp), %rax
    movq %rax, rsp(%rip)
    pushq recover(%rip)
    iretq

taken:
    pushq %rax
    pushq %rcx
    pushq %rdx
    incq count(%rip)
    wrmsr_value X2APIC_EOI, 0
    popq %rdx
    popq %rcx
    popq %rax
    iretq

other:
    incq others(%rip)
    iretq

    .balign 16
error:  .quad 0
rip:    .quad 0
rsp:    .quad 0
recover: .quad 0
count:  .quad 0
others: .quad 0
far_pointer: .quad ODD
    .word 0
    .balign 16
idtr:   .word 4095
    .quad idt
    .balign 4096
idt:    .skip 4096
    .section .note.GNU-stack, "", @progbits
