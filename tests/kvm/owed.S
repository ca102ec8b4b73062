/* SPDX-License-Identifier: MIT */
/*
 * What interrupt controllers and devices owe while the machine moves, whoever has them: a self-IPI
 * that CR8 holds back (SDM volume 3, "Task and Processor Priorities"), interrupts of the HPET (--hpet
 * on; its timer 0 at gsi 20, 10 ms), the weekday that the clock was given, and address line 20, whose
 * bit reads 1.
 *
 * Checks: 1 the self-IPI does not come while CR8 is in the way, 2 it is pending, 3 it comes once CR8
 * is not, and once, 4 the weekday, 5 A20, 6 the HPET interrupts no more often than it should, 7 and 8 its
 * counter has the rate of the ACPI timer, 9 no spurious vector came, 10 an HPET is there.
 */
#include "guest.inc"
    .set PM_TIMER, 0x608    /* 24 bits */
    .set HPET, 0xfed00000
    .set PERIOD, 1000000    /* of its ticks: 10 ms */
    .set TICKS, 5

    .macro cmos index, value
    movb $\index, %al
    outb %al, $0x70
    movb $\value, %al
    outb %al, $0x71
    .endm

    /* To EAX; uses EDX. */
    .macro pm_timer
    movw $PM_TIMER, %dx
    inl %dx, %eax
    .endm

    /* Halted until TICKS more interrupts of the HPET have come. */
    .macro await
    movl ticks(%rip), %r9d
    addl $TICKS, %r9d
1:  cmpl %r9d, ticks(%rip)
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
    gate 0x40, self
    gate 0x50, tick
    gate 0xff, spurious
    lidt idtr(%rip)
    movl $0xfee00000, %ebx
    movl $0x1ff, 0xf0(%rbx)
    /* The 8259s are masked, and so is LINT0. */
    movb $0xff, %al
    outb %al, $0x21
    outb %al, $0xa1
    movl $0x10000, 0x350(%rbx)
    /* IO-APIC: gsi 20, an edge, vector 0x50; masked until CR8 is done with. (Where KVM waits for a
     * moment to interrupt, QEMU 7.2's SVM aborts or forgets that at a write to CR8.) */
    movl $0xfec00000, %esi
    movl $0x39, (%rsi)
    movl $0, 0x10(%rsi)
    movl $0x38, (%rsi)
    movl $0x10050, 0x10(%rsi)

    movl $HPET, %edi
    movl (%rdi), %eax
    cmpw $0x8086, 2(%rdi)
    check 10
    movl $20 << 9 | 0x14c, 0x100(%rdi)  /* 32 bits, periodic, interrupts, sets the comparator */
    movl $PERIOD, 0x108(%rdi)
    movl $PERIOD, 0x108(%rdi)
    movl $1, 0x10(%rdi)

    /* Noon, a Wednesday. */
    cmos 0x0b, 0x82
    cmos 4, 0x12
    cmos 6, 4
    cmos 0x0b, 0x02
    xorl %eax, %eax
    outb %al, $0x92

    /* To itself, vector 0x40; CR8 lets 0x50 and more through, and then nothing. */
    movl $4, %eax
    movq %rax, %cr8
    movl $0x40040, 0x300(%rbx)
    movl $15, %eax
    movq %rax, %cr8
    sti
    nop
    nop
    cli
    movl $MARK_PORT, %edx
    movl $MARK_HANDOVER, %eax
    outl %eax, %dx          /* here it may move */
    sti
    nop
    nop
    cli
    cmpl $0, selves(%rip)
    check 1
    movl 0x220(%rbx), %eax  /* IRR, vectors 0x40 to 0x5f */
    andl $1, %eax
    cmpl $1, %eax
    check 2
    xorl %eax, %eax
    movq %rax, %cr8
    sti
    movl $1000000, %ecx     /* an emulator may be late */
1:  cmpl $0, selves(%rip)
    loope 1b
    cli
    cmpl $1, selves(%rip)
    check 3
    movl $0x50, 0x10(%rsi)

    movb $6, %al
    outb %al, $0x70
    inb $0x71, %al
    cmpb $4, %al
    check 4
    inb $0x92, %al
    andb $2, %al
    cmpb $2, %al
    check 5

    /* By the ACPI timer: TICKS periods last no less than TICKS - 1 after the first interrupt. */
    await
    pm_timer
    movl %eax, %r8d
    movq 0xf0(%rdi), %r10
    await
    movq 0xf0(%rdi), %rcx
    pm_timer
    subl %r8d, %eax
    andl $0xffffff, %eax
    movl $6, %r11d
    cmpl $(TICKS - 1) * 35795, %eax
    jb bad
    /* Read between the other's: no more of these than the ACPI timer has time for .. */
    subq %r10, %rcx
    imulq $28, %rax, %rax
    movq %rax, %rdx
    shrq $6, %rdx
    addq %rdx, %rax
    movl $7, %r11d
    cmpq %rax, %rcx
    ja bad
    /* .. and around them no fewer. */
    movq 0xf0(%rdi), %r10
    pm_timer
    movl %eax, %r8d
    await
    pm_timer
    movq 0xf0(%rdi), %rcx
    subl %r8d, %eax
    andl $0xffffff, %eax
    subq %r10, %rcx
    imulq $27, %rax, %rax
    movl $8, %r11d
    cmpq %rax, %rcx
    jb bad

    cmpl $0, spurious_count(%rip)
    check 9
    xorl %r11d, %r11d
bad:
    leave

self:
    incl selves(%rip)
    movl $0, 0xb0(%rbx)
    iretq
tick:
    incl ticks(%rip)
    movl $0, 0xb0(%rbx)
    iretq
spurious:
    incl spurious_count(%rip)
    iretq

    .balign 8
selves: .long 0
ticks:  .long 0
spurious_count: .long 0
idtr:   .word 4095
    .quad idt
    .balign 4096
idt:    .skip 4096
    .section .note.GNU-stack, "", @progbits
