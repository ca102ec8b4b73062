/* SPDX-License-Identifier: MIT */
/*
 * What a boot sector may ask: 16-bit code at 0x7c00, of a machine with 64 MiB. (RBIL's
 * interrupt list has each service; E820: ACPI specification, "System Address Map Interfaces".)
 *
 * Ends with (2 * check) | 1 where a check fails: 1 INT 12h, 2 INT 11h, 3 E820's entries, 4 what
 * they add up to, 5 E801, 6 AH=88h, 7 no disk, 8 the RTC's time, 9 its date, 10 no key, 11 line 20
 * is open, 12 and cannot be closed, 13 no APM, 14 a character and the display's mode, 15 IRQ 0 by
 * the services alone, 16 the EBDA's segment, 17 registers that a service does not return keep
 * their values.
 */
    .code16
    .text
    .globl _start

    .macro check number, condition
    j\condition 1f
    movb $\number, %al
    jmp bad
1:
    .endm

_start:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
    movw $0x1234, %bp

    int $0x12
    cmpw $639, %ax
    check 1, e
    int $0x11
    cmpw $0x0202, %ax
    check 2, e

    xorl %ebx, %ebx
    xorl %esi, %esi /* KiB of RAM */
    movw $0, entries
again:
    movl $0xe820, %eax
    movl $20, %ecx
    movl $0x534d4150, %edx
    movw $buffer, %di
    int $0x15
    check 3, nc
    cmpl $0x534d4150, %eax
    check 3, e
    cmpl $20, %ecx
    check 3, e
    cmpw $buffer, %di
    check 3, e
    incw entries
    cmpl $1, buffer + 16
    jne 1f
    movl buffer + 8, %eax
    shrl $10, %eax
    addl %eax, %esi
1:  testl %ebx, %ebx
    jnz again
    cmpw $4, entries
    check 3, e
    cmpl $639 + 63 * 1024, %esi
    check 4, e

    movw $0xe801, %ax
    int $0x15
    check 5, nc
    cmpw $0x3c00, %ax
    check 5, e
    cmpw %ax, %cx
    check 5, e
    cmpw $48 * 16, %bx
    check 5, e
    cmpw %bx, %dx
    check 5, e
    movb $0x88, %ah
    int $0x15
    check 6, nc
    cmpw $63 * 1024, %ax
    check 6, e

    movw $0x0201, %ax
    movw $1, %cx
    movw $0x80, %dx
    movw $buffer, %bx
    int $0x13
    check 7, c
    movb $0x08, %ah
    movb $0, %dl
    int $0x13
    check 7, c

    movb $0x02, %ah
    int $0x1a
    check 8, nc
    cmpb $0x23, %ch
    check 8, be
    cmpb $0x59, %cl
    check 8, be
    cmpb $0x59, %dh
    check 8, be
    movb $0x04, %ah
    int $0x1a
    check 9, nc
    cmpw $0x2026, %cx
    check 9, e
    cmpw $0x0101, %dx
    check 9, e

    movb $0x01, %ah
    int $0x16
    check 10, z
    movw $0x2402, %ax
    int $0x15
    check 11, nc
    cmpw $0x0001, %ax
    check 11, e
    movw $0x2400, %ax
    int $0x15
    check 12, c
    movw $0x5300, %ax
    xorw %bx, %bx
    int $0x15
    check 13, c
    cmpb $0x86, %ah
    check 13, e

    movw $0x0e42, %ax
    movw $7, %bx
    int $0x10
    cmpw $0x0e42, %ax
    check 14, e
    movb $0x0f, %ah
    int $0x10
    cmpw $0x5003, %ax
    check 14, e

    /* IRQ 0 at vector 8, each millisecond, with a hook at INT 1Ch. */
    movw $hook, 0x1c * 4
    movw $0, 0x1c * 4 + 2
    movb $0x11, %al
    outb %al, $0x20
    movb $0x08, %al
    outb %al, $0x21
    movb $0x04, %al
    outb %al, $0x21
    movb $0x01, %al
    outb %al, $0x21
    movb $0xfe, %al
    outb %al, $0x21
    movb $0x34, %al
    outb %al, $0x43
    movb $1193 & 255, %al
    outb %al, $0x40
    movb $1193 >> 8, %al
    outb %al, $0x40
    movb $0x01, %ah
    xorw %cx, %cx
    xorw %dx, %dx
    int $0x1a
    sti
1:  movb $0x00, %ah
    int $0x1a
    cmpw $3, %dx
    jb 1b
    cli
    cmpw %dx, ticks
    check 15, ae
    testw %cx, %cx
    check 15, z

    movb $0xc1, %ah
    int $0x15
    check 16, nc
    movw %es, %ax
    cmpw $0x9fc0, %ax
    check 16, e
    cmpw $0x1234, %bp
    check 17, e
    cmpl $639 + 63 * 1024, %esi
    check 17, e
    movw %ds, %ax
    testw %ax, %ax
    check 17, z
    cmpw $0x7c00, %sp
    check 17, e
    xorw %ax, %ax
bad:
    movw $0xf4, %dx
    outb %al, %dx
    hlt

hook:
    incw %cs:ticks
    iret

    .balign 4
entries:
    .word 0
ticks:
    .word 0
buffer:
    .skip 20
    .section .note.GNU-stack, "", @progbits
