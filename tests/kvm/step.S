/* SPDX-License-Identifier: MIT */
/*
 * Debug traps of instructions that KVM's emulator does not know: POPCNT of an address where
 * no memory is. KVM gives such an instruction back, and the software CPU runs it. Its trap
 * comes right after it, as every other one's (SDM volume 3, "Single-Step Exception Condition",
 * "Data Breakpoint"): each trap notes its address and DR6, and they are what is expected, in
 * order.
 *
 * Checks: 1 single-stepped, 2 their number, 3 watched, 4 under MOV SS, 5 no trap is late.
 */
#include "guest.inc"
    .set NOWHERE, 0xfd000000
    .set BS, 0x4000
    .set B0, 1
    .set DR6_FIXED, 0xffff0ff0

    /* The traps since the last time are those of the table. */
    .macro compare table, end, n
    leaq \table(%rip), %rsi
    leaq seen(%rip), %rdi
    leaq \end(%rip), %rcx
    subq %rsi, %rcx
    leaq (%rdi, %rcx), %rax
    cmpq %rax, next(%rip)
    check 2
    shrl $3, %ecx
    repe cmpsq
    check \n
    leaq seen(%rip), %rax
    movq %rax, next(%rip)
    .endm

    .macro step_on
    pushfq
    orq $0x100, (%rsp)
    popfq
    .endm
    .macro step_off
    pushfq
    andq $~0x100, (%rsp)
    popfq
    .endm

    .text
    .globl _start
_start:
    cld
    gate 1, trap
    lidt idtr(%rip)
    leaq seen(%rip), %rax
    movq %rax, next(%rip)
    movl $NOWHERE, %ebx

    /* 1. */
    step_on
    nop
s1: popcntl (%rbx), %eax
s2: popcntl (%rbx), %eax
s3: nop
s4: popcntl (%rbx), %eax
s5: movl (%rbx), %eax /* KVM knows this one */
s6: popcntl (%rbx), %eax
s7: step_off
s8: nop
    compare stepped, stepped_end, 1

    /* 3. The word that no memory has is watched. */
    movq %rbx, %dr0
    movl $0xf0401, %eax /* DR0: reads and writes of 4 bytes */
    movq %rax, %dr7
    nop
    popcntl (%rbx), %eax
w1: nop
    popcntl (%rbx), %eax
w2: movl $0x400, %eax
    movq %rax, %dr7
    nop
    compare watched, watched_end, 3

    /* 4. MOV SS holds its own trap back, and not that of the next instruction. */
    movw %ss, %dx
    step_on
    movw %dx, %ss
    popcntl (%rbx), %eax
h1: nop
h2: step_off
h3: nop
    compare held, held_end, 4

    /* 5. */
    movl $100, %ecx
    step_on
1:  popcntl (%rbx), %eax
    decl %ecx
    jnz 1b
    step_off
    leaq seen(%rip), %rsi
    movl $100, %ecx
    movl $5, %r11d
2:  leaq 1b + 4(%rip), %rax
    cmpq %rax, (%rsi)
    jne bad
    leaq 1b + 6(%rip), %rax
    cmpq %rax, 16(%rsi)
    jne bad
    addq $48, %rsi
    decl %ecx
    jnz 2b
    xorl %r11d, %r11d
bad:
    leave

    /* RIP and DR6 of each. */
trap:
    pushq %rax
    pushq %rdi
    movq next(%rip), %rdi
    movq 16(%rsp), %rax
    movq %rax, (%rdi)
    movq %dr6, %rax
    xorl $DR6_FIXED, %eax
    movq %rax, 8(%rdi)
    movl $DR6_FIXED, %eax
    movq %rax, %dr6
    addq $16, next(%rip)
    popq %rdi
    popq %rax
    iretq

    .balign 16
/* RIP, DR6. */
stepped:
    .quad s1, BS
    .quad s2, BS
    .quad s3, BS
    .quad s4, BS
    .quad s5, BS
    .quad s6, BS
    .quad s7, BS
    .quad s7 + 1, BS             /* pushfq */
    .quad s8 - 1, BS             /* andq */
    .quad s8, BS                 /* popfq */
stepped_end:
watched:
    .quad w1, B0
    .quad w2, B0
watched_end:
held:
    .quad h1, BS
    .quad h2, BS
    .quad h2 + 1, BS
    .quad h3 - 1, BS
    .quad h3, BS
held_end:
next:   .quad 0
    .balign 16
idtr:   .word 4095
    .quad idt
    .balign 4096
idt:    .skip 4096
seen:   .skip 16 * 1024
    .section .note.GNU-stack, "", @progbits
