/* SPDX-License-Identifier: MIT */
/*
 * An x87 exception with CR0.NE clear is IRQ 13, before the next instruction that would take
 * it (SDM volume 1, "MS-DOS Compatibility Sub-mode"); its handler writes port 0xf0 and clears
 * it. Where interrupts are off the guest goes on, and the interrupt waits in the 8259. With
 * CR0.NE set it is #MF.
 *
 * Checks: 1 one interrupt, 2 at FWAIT, 3 none with interrupts off, 4 it waits, 5 the
 * exception still stands, 6 one more when they are on, 7 no #MF so far, 8 one with NE.
 */
#include "guest.inc"
    .set CR0_NE, 0x20

    .macro divide
    fninit
    fldcw word(%rip)
    fld1
    fldz
    fdivrp
    .endm

    .text
    .globl _start
_start:
    gate 16, mf
    gate 0x2d, irq13
    lidt idtr(%rip)
    /* 8259s: vectors from 0x20 and 0x28, inputs 2 and 13 alone; LINT0 is theirs. */
    movb $0x11, %al
    outb %al, $0x20
    outb %al, $0xa0
    movb $0x20, %al
    outb %al, $0x21
    movb $0x28, %al
    outb %al, $0xa1
    movb $4, %al
    outb %al, $0x21
    movb $2, %al
    outb %al, $0xa1
    movb $1, %al
    outb %al, $0x21
    outb %al, $0xa1
    movb $0xfb, %al
    outb %al, $0x21
    movb $0xdf, %al
    outb %al, $0xa1
    movl $0xfee00000, %ebx
    movl $0x1ff, 0xf0(%rbx)
    movl $0x700, 0x350(%rbx)
    movq %cr0, %rax
    andq $~(CR0_NE | 0xc), %rax
    movq %rax, %cr0

    divide
    sti
    nop
1:  fwait
    cli
    cmpl $1, interrupts(%rip)
    check 1
    leaq 1b(%rip), %rax
    cmpq %rax, at(%rip)
    check 2

    divide
    fwait
    fldz
    cmpl $1, interrupts(%rip)
    check 3
    movb $0x0a, %al /* IRR */
    outb %al, $0xa0
    inb $0xa0, %al
    cmpb $0x20, %al
    check 4
    fnstsw %ax
    andb $0x84, %al /* ES, ZE */
    cmpb $0x84, %al
    check 5
    sti
    nop
    cli
    cmpl $2, interrupts(%rip)
    check 6
    cmpl $0, faults(%rip)
    check 7

    movq %cr0, %rax
    orq $CR0_NE, %rax
    movq %rax, %cr0
    divide
    fwait
    cmpl $1, faults(%rip)
    check 8
    xorl %r11d, %r11d
bad:
    leave

irq13:
    incl interrupts(%rip)
    pushq %rax
    movq 8(%rsp), %rax
    movq %rax, at(%rip)
    xorl %eax, %eax
    outb %al, $0xf0
    fnclex
    movb $0x20, %al
    outb %al, $0xa0
    outb %al, $0x20
    popq %rax
    iretq
mf:
    incl faults(%rip)
    fnclex
    iretq

    .balign 16
at:     .quad 0
interrupts: .long 0
faults: .long 0
word:   .word 0x33b /* division by zero is not masked */
    .balign 16
idtr:   .word 4095
    .quad idt
    .balign 4096
idt:    .skip 4096
    .section .note.GNU-stack, "", @progbits
