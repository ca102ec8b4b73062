/* SPDX-License-Identifier: MIT */
/*
 * Timers that run while the machine moves: the local APIC's, once, and the 8254's channel
 * 0, which goes on. At each of the moves the former is armed with the next of `delays`: some
 * expire before the move, some in it, some after it; 0: it has expired long ago.
 * The machine begins under KVM and moves to a soft engine, to KVM, and so on.
 *
 * Checks: 1 the APIC's timer has fired once, 2 channel 0 interrupts at its rate, by the ACPI
 * timer, 3 its counter is within the count, 4 and counts.
 */
#include "guest.inc"
    .set PM_TIMER, 0x608            /* 24 bits, three times the 8254's rate */
    .set COUNT, 11932               /* 10 ms */
    .set TICKS, 10
    .set PERIODS, TICKS * COUNT * 3 /* in ticks of the ACPI timer */

    /* Halted until `what` reaches R9D: a timer that is lost lets the guest sleep for good. */
    .macro await what
1:  cmpl %r9d, \what(%rip)
    jae 2f
    sti
    hlt
    cli
    jmp 1b
2:
    .endm

    .text
    .globl _start
_start:
    cld
    gate 0x20, tick
    gate 0x40, timer
    lidt idtr(%rip)
    /* 8259: vectors from 0x20, input 0 alone. */
    movb $0x11, %al
    outb %al, $0x20
    movb $0x20, %al
    outb %al, $0x21
    movb $4, %al
    outb %al, $0x21
    movb $1, %al
    outb %al, $0x21
    movb $0xfe, %al
    outb %al, $0x21
    /* Local APIC: on, LINT0 from the 8259, the timer once at 1 GHz. */
    movl $0xfee00000, %ebx
    movl $0x1ff, 0xf0(%rbx)
    movl $0x700, 0x350(%rbx)
    movl $0xb, 0x3e0(%rbx)
    movl $0x40, 0x320(%rbx)
    /* 8254: channel 0, mode 2. */
    movb $0x34, %al
    outb %al, $0x43
    movb $COUNT & 255, %al
    outb %al, $0x40
    movb $COUNT >> 8, %al
    outb %al, $0x40

    xorl %r12d, %r12d
    leaq delays(%rip), %rsi
move:
    movl (%rsi), %eax
    testl %eax, %eax
    jz 3f
    incl want(%rip)
    movl %eax, 0x380(%rbx)
3:  movl $MARK_PORT, %edx
    movl $MARK_HANDOVER, %eax
    outl %eax, %dx          /* here it may move */
    movl want(%rip), %r9d
    await fired

    /* From one interrupt of channel 0 to the TICKS-th after it. KVM on a busy host is late
     * and then hasty: the time counts after moves 1, 3, 5 .. only. */
    movl ticks(%rip), %r9d
    incl %r9d
    await ticks
    movw $PM_TIMER, %dx
    inl %dx, %eax
    movl %eax, %r8d
    addl $TICKS, %r9d
    await ticks
    movw $PM_TIMER, %dx
    inl %dx, %eax
    subl %r8d, %eax
    andl $0xffffff, %eax
    subl $PERIODS * 99 / 100, %eax
    cmpl $PERIODS / 50, %eax
    setae %al
    xorb $1, %r12b
    movl $2, %r11d
    testb %al, %r12b
    jnz bad
    movl want(%rip), %eax
    cmpl %eax, fired(%rip)
    check 1

    movl $50, %ecx
    xorl %r9d, %r9d
5:  xorl %eax, %eax
    outb %al, $0x43         /* latch */
    movl $3000, %eax
7:  decl %eax
    jnz 7b
    inb $0x40, %al
    movb %al, %dl
    inb $0x40, %al
    movb %al, %dh
    movzwl %dx, %eax
    decl %eax
    cmpl $COUNT, %eax
    movl $3, %r11d
    jae bad
    cmpl %eax, %edi
    je 6f
    incl %r9d
6:  movl %eax, %edi
    decl %ecx
    jnz 5b
    movl $4, %r11d
    cmpl $2, %r9d
    jb bad

    addq $4, %rsi
    leaq delays_end(%rip), %rax
    cmpq %rax, %rsi
    jb move
    xorl %r11d, %r11d
bad:
    leave

tick:
    incl ticks(%rip)
    pushq %rax
    movb $0x20, %al
    outb %al, $0x20
    popq %rax
    iretq
timer:
    incl fired(%rip)
    movl $0, 0xb0(%rbx)
    iretq

    .balign 8
delays: .long 50000, 0, 200000, 30000000, 20000, 0, 1000000, 50000, 500000, 0, 5000000, 0
delays_end:
fired:  .long 0
want:   .long 0
ticks:  .long 0
idtr:   .word 4095
    .quad idt
    .balign 4096
idt:    .skip 4096
    .section .note.GNU-stack, "", @progbits
