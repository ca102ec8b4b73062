/* SPDX-License-Identifier: MIT */
/*
 * Everything that a vCPU and its interrupt controllers hold is set to values that no
 * reset leaves; the machine may move to another MMU; everything is read again.
 *
 * Checks: 1 general registers, 2 debug registers, 3.. MSRs, 10 CR8 and CR4, 11 SSE, 12
 * x87, 13 MXCSR, 20 local APIC, 21 8259, 22 IO-APIC, 23 8254, 24 CMOS index, 30 the APIC
 * timer that was running fires, 31 TSC goes on.
 */
#include "guest.inc"
    .text
    .globl _start
_start:
    cld
    /* IDT: vector 0x40, the timer. */
    gate 0x40, timer
    lidt idtr(%rip)

    /* SSE state, x87 state. */
    movq %cr4, %rax
    orq $0x600, %rax
    movq %rax, %cr4
    movl $0x1fa0, pattern_mxcsr(%rip)
    ldmxcsr pattern_mxcsr(%rip)
    movdqu pattern(%rip), %xmm0
    movdqu pattern+16(%rip), %xmm9
    movdqu pattern+8(%rip), %xmm15
    fninit
    fldpi
    fld1

    /* Debug registers. */
    movl $0x123450, %eax
    movq %rax, %dr0
    movl $0x543210, %eax
    movq %rax, %dr3
    movl $0x400, %eax
    movq %rax, %dr7

    wrmsr_value 0xc0000102, 0x0000123456789000
    wrmsr_value 0xc0000081, 0x0023001000000000
    wrmsr_value 0xc0000082, 0x0000000000abc000
    wrmsr_value 0xc0000084, 0x0000000000047700
    wrmsr_value 0x277, 0x0007040600070406
    wrmsr_value 0x175, 0x0000000000bcd000
    movl $0x9, %eax
    movq %rax, %cr8

    /* 8259: vectors 0x20 and 0x28, masks 0xa5 and 0x5a. */
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
    movb $0xa5, %al
    outb %al, $0x21
    movb $0x5a, %al
    outb %al, $0xa1

    /* IO-APIC: entry 7 masked, vector 0x77, destination 3; id 5. */
    movl $0xfec00000, %ebx
    movl $0x1e, (%rbx)
    movl $0x10077, 0x10(%rbx)
    movl $0x1f, (%rbx)
    movl $0x03000000, 0x10(%rbx)
    movl $0, (%rbx)
    movl $0x05000000, 0x10(%rbx)

    /* Local APIC: on, spurious vector 0xef, LINT1 masked NMI, logical id; the timer runs
     * once, 2 ms at 1 GHz. */
    movl $0xfee00000, %ebx
    movl $0x1ef, 0xf0(%rbx)
    movl $0x10400, 0x360(%rbx)
    movl $0x02000000, 0xd0(%rbx)
    movl $0xb, 0x3e0(%rbx)
    movl $0x40, 0x320(%rbx)
    movl $2000000, 0x380(%rbx)

    /* 8254: counter 2, mode 3, 0x1234; gate on. */
    movb $0xb6, %al
    outb %al, $0x43
    movb $0x34, %al
    outb %al, $0x42
    movb $0x12, %al
    outb %al, $0x42
    inb $0x61, %al
    andb $0xfd, %al
    orb $1, %al
    outb %al, $0x61

    /* TR 0x604 etc. are the devices' own: one of them stands for all. */
    movb $0x8f, %al
    outb %al, $0x70

    rdtsc
    shlq $32, %rdx
    orq %rdx, %rax
    movq %rax, tsc(%rip)

    movabsq $0x1111222233334444, %rbx
    movabsq $0x2222333344445555, %rsi
    movabsq $0x3333444455556666, %rdi
    movabsq $0x4444555566667777, %rbp
    movabsq $0x8888999900001111, %r8
    movabsq $0xfedcba9876543210, %r15
    movl $MARK_PORT, %edx
    movl $MARK_HANDOVER, %eax
    stc
    outl %eax, %dx          /* here it may move */

    movl $1, %r11d
    jnc bad
    movabsq $0x1111222233334444, %rax
    cmpq %rax, %rbx
    check 1
    movabsq $0x2222333344445555, %rax
    cmpq %rax, %rsi
    check 1
    movabsq $0x3333444455556666, %rax
    cmpq %rax, %rdi
    check 1
    movabsq $0x4444555566667777, %rax
    cmpq %rax, %rbp
    check 1
    movabsq $0x8888999900001111, %rax
    cmpq %rax, %r8
    check 1
    movabsq $0xfedcba9876543210, %rax
    cmpq %rax, %r15
    check 1
    cmpl $MARK_PORT, %edx
    check 1

    movq %dr0, %rax
    cmpq $0x123450, %rax
    check 2
    movq %dr3, %rax
    cmpq $0x543210, %rax
    check 2
    movq %dr7, %rax
    andl $0x400, %eax
    cmpl $0x400, %eax
    check 2

    check_msr 3, 0xc0000102, 0x0000123456789000
    check_msr 4, 0xc0000081, 0x0023001000000000
    check_msr 5, 0xc0000082, 0x0000000000abc000
    check_msr 6, 0xc0000084, 0x0000000000047700
    check_msr 7, 0x277, 0x0007040600070406
    check_msr 8, 0x175, 0x0000000000bcd000
    movq %cr8, %rax
    cmpq $9, %rax
    check 10
    movq %cr4, %rax
    andl $0x600, %eax
    cmpl $0x600, %eax
    check 10

    movdqu %xmm0, scratch(%rip)
    movq scratch(%rip), %rax
    cmpq pattern(%rip), %rax
    check 11
    movq scratch+8(%rip), %rax
    cmpq pattern+8(%rip), %rax
    check 11
    movdqu %xmm9, scratch(%rip)
    movq scratch(%rip), %rax
    cmpq pattern+16(%rip), %rax
    check 11
    movdqu %xmm15, scratch(%rip)
    movq scratch+8(%rip), %rax
    cmpq pattern+16(%rip), %rax
    check 11
    fstpl scratch(%rip)
    movabsq $0x3ff0000000000000, %rax
    cmpq %rax, scratch(%rip)
    check 12
    fstpl scratch(%rip)
    movabsq $0x400921fb54442d18, %rax
    cmpq %rax, scratch(%rip)
    check 12
    stmxcsr scratch(%rip)
    cmpl $0x1fa0, scratch(%rip)
    check 13

    movl $0xfee00000, %ebx
    cmpl $0x1ef, 0xf0(%rbx)
    check 20
    cmpl $0x10400, 0x360(%rbx)
    check 20
    cmpl $0x02000000, 0xd0(%rbx)
    check 20
    cmpl $0x40, 0x320(%rbx)
    check 20
    cmpl $0xb, 0x3e0(%rbx)
    check 20
    inb $0x21, %al
    cmpb $0xa5, %al
    check 21
    inb $0xa1, %al
    cmpb $0x5a, %al
    check 21
    movl $0xfec00000, %ebx
    movl $0x1e, (%rbx)
    cmpl $0x10077, 0x10(%rbx)
    check 22
    movl $0x1f, (%rbx)
    cmpl $0x03000000, 0x10(%rbx)
    check 22
    movl $0, (%rbx)
    cmpl $0x05000000, 0x10(%rbx)
    check 22

    /* Counter 2 counts below what it was loaded with, and its gate is on. */
    movb $0x80, %al
    outb %al, $0x43
    inb $0x42, %al
    movb %al, %cl
    inb $0x42, %al
    shlw $8, %ax
    movb %cl, %al
    cmpw $0x1234, %ax
    movl $23, %r11d
    ja bad
    inb $0x61, %al
    andb $3, %al
    cmpb $1, %al
    check 23

    rdtsc
    shlq $32, %rdx
    orq %rdx, %rax
    cmpq tsc(%rip), %rax
    movl $31, %r11d
    jbe bad

    /* The timer was armed before, and fires now or soon; CR8 let down to let it in. */
    xorl %eax, %eax
    movq %rax, %cr8
1:  cmpl $0, fired(%rip)
    jne 2f
    sti
    hlt
    cli
    jmp 1b
2:  cmpl $1, fired(%rip)
    check 30
    xorl %r11d, %r11d
bad:
    leave

timer:
    incl fired(%rip)
    pushq %rbx
    movl $0xfee00000, %ebx
    movl $0, 0xb0(%rbx)
    popq %rbx
    iretq

    .balign 16
pattern:
    .quad 0x0123456789abcdef, 0xfedcba9876543210, 0x1122334455667788, 0x99aabbccddeeff00
pattern_mxcsr: .long 0
fired:  .long 0
    .balign 16
scratch: .quad 0, 0
tsc:    .quad 0
idtr:   .word 4095
    .quad idt
    .balign 4096
idt:    .skip 4096
    .section .note.GNU-stack, "", @progbits
