/* SPDX-License-Identifier: MIT */
/*
 * At any moment of this guest's the vCPU owes it something: a debug trap of a
 * single-stepped instruction; one that MOV SS holds back; a protection key's fault; the
 * next number of RDRAND. The machine may move to another MMU between any two
 * instructions. What was counted, and a mix of the numbers, stays in memory.
 *
 * Checks: 1 a trap per stepped instruction, 2 a trap per MOV SS, 3 each after the
 * instruction that follows it, 4 a fault per access, 5 PKRS, 6 which fault.
 */
#include "guest.inc"
    .set ROUNDS, 20000
    .set PAGE, 0x2000000
    .set MSR_PKRS, 0x6e1
    .set PKRS_KEY1_AD, 4
    .set CR4_PKS, 1 << 24

    .text
    .globl _start
_start:
    cld
    gate 1, trap
    gate 14, page_fault
    lidt idtr(%rip)

    /* 1. Single-stepped: three instructions a round, and the three that end it. */
    movl $ROUNDS, %ecx
    pushfq
    orq $0x100, (%rsp)
    popfq
1:  nop
    decl %ecx
    jnz 1b
    pushfq
    andq $~0x100, (%rsp)
    popfq
    cmpq $3 * ROUNDS + 3, traps(%rip)
    check 1

    /* 2. MOV SS reads a watched word: its trap comes after the NOP. */
    movq $0, traps(%rip)
    movq $0, elsewhere(%rip)
    leaq word(%rip), %rax
    movq %rax, %dr0
    movl $0x70401, %eax /* DR0: reads and writes of 2 bytes */
    movq %rax, %dr7
    leaq 2f(%rip), %r9
    movl $ROUNDS, %ecx
1:  movw word(%rip), %ss
    nop
2:  decl %ecx
    jnz 1b
    movl $0x400, %eax
    movq %rax, %dr7
    cmpq $ROUNDS, traps(%rip)
    check 2
    cmpq $0, elsewhere(%rip)
    check 3

    /* 3. Key 1 for the 2 MiB at PAGE, and no access with it. */
    movq %cr3, %rax
    movq (%rax), %rax
    andq $~0xfff, %rax
    movq (%rax), %rax
    andq $~0xfff, %rax
    btsq $59, 8 * (PAGE >> 21)(%rax)
    movl $PAGE, %ebx
    invlpg (%rbx)
    movq %cr4, %rax
    orq $CR4_PKS, %rax
    movq %rax, %cr4
    wrmsr_value MSR_PKRS, PKRS_KEY1_AD
    movl $ROUNDS, %esi
1:  movb (%rbx), %al /* two bytes */
    rdrand %rdx
    rolq $1, numbers(%rip)
    xorq %rdx, numbers(%rip)
    decl %esi
    jnz 1b
    cmpq $ROUNDS, faults(%rip)
    check 4
    check_msr 5, MSR_PKRS, PKRS_KEY1_AD
    cmpq $0x21, error(%rip) /* present, protection key */
    check 6
    xorl %r11d, %r11d
bad:
    leave

trap:
    incq traps(%rip)
    cmpq %r9, (%rsp)
    je 1f
    incq elsewhere(%rip)
1:  iretq

page_fault:
    incq faults(%rip)
    popq error(%rip)
    addq $2, (%rsp)
    iretq

    .balign 16
traps:  .quad 0
elsewhere: .quad 0
faults: .quad 0
error:  .quad 0
numbers: .quad 0
word:   .word 0x18
    .balign 16
idtr:   .word 4095
    .quad idt
    .balign 4096
idt:    .skip 4096
    .section .note.GNU-stack, "", @progbits
