/* SPDX-License-Identifier: MIT */
/*
 * Ring-0 instructions that KVM without VMX or SVM cannot emulate: the software CPU runs
 * them there, and the guest must not notice. Each result is checked.
 *
 * Checks: 1 popcnt, 2 cmpxchg16b, 3 xgetbv, 4 rdtscp, 5 lar, lsl, verr, 6 int3, 7 int n,
 * 8 SSE arithmetic, 9 x87, 10 BMI, 12 a #UD in ring 0, 13 a #PF in a
 * fallback instruction, 14 a page-crossing operand, 15 many in a row.
 */
#include "guest.inc"
    .text
    .globl _start
_start:
    cld
    gate 3, on_int3
    gate 0x80, on_int80
    gate 6, on_ud
    gate 14, on_pf
    lidt idtr(%rip)
    movq %cr4, %rax
    orq $0x40600, %rax      /* OSXSAVE, OSFXSR, OSXMMEXCPT */
    movq %rax, %cr4

    movabsq $0xf0f0f0f0f0f0f0f1, %rbx
    popcntq %rbx, %rax
    cmpq $33, %rax
    check 1

    movq target(%rip), %rax
    movq target+8(%rip), %rdx
    movl $0x55, %ebx
    movl $0x66, %ecx
    lock cmpxchg16b target(%rip)
    check 2
    cmpq $0x55, target(%rip)
    check 2
    cmpq $0x66, target+8(%rip)
    check 2

    xorl %ecx, %ecx
    xgetbv
    andl $1, %eax
    cmpl $1, %eax
    check 3

    movl $0x80000001, %eax
    cpuid
    btl $27, %edx
    jnc 1f
    movl $0xc0000103, %ecx
    movl $0x1234, %eax
    xorl %edx, %edx
    wrmsr
    rdtscp
    cmpl $0x1234, %ecx
    check 4
1:
    movl %cs, %ebx
    larl %ebx, %eax
    check 5
    lsll %ebx, %ecx
    check 5
    cmpl $0xffffffff, %ecx
    check 5
    verr %bx
    check 5

    int3
    cmpl $1, int3s(%rip)
    check 6
    int $0x80
    cmpl $1, int80s(%rip)
    check 7

    movl $3, %eax
    cvtsi2sdl %eax, %xmm1
    addsd %xmm1, %xmm1
    mulsd %xmm1, %xmm1
    cvttsd2si %xmm1, %eax
    cmpl $36, %eax
    check 8

    fninit
    fldpi
    fldpi
    faddp
    fstpl scratch(%rip)
    movabsq $0x401921fb54442d18, %rax
    cmpq %rax, scratch(%rip)
    check 9
    fwait

    movl $0xff00, %eax
    movl $0x0ff0, %ebx
    andnl %ebx, %eax, %ecx
    cmpl $0x00f0, %ecx
    check 10
    blsrl %ecx, %ecx
    cmpl $0x00e0, %ecx
    check 10

    ud2
    cmpl $1, uds(%rip)
    check 12

    /* 4 GiB is not mapped: the handler puts RBX back to memory. */
    movabsq $0x100000000, %rbx
    popcntq (%rbx), %rax
    cmpl $1, pfs(%rip)
    check 13
    cmpq $64, %rax
    check 13

    movq $-1, page_end - 4(%rip)
    popcntq page_end - 4(%rip), %rax
    cmpq $64, %rax
    check 14

    movl $2000, %ecx
    xorl %edx, %edx
1:  popcntl %ecx, %eax
    addl %eax, %edx
    decl %ecx
    jnz 1b
    cmpl $10870, %edx
    check 15
    xorl %r11d, %r11d
bad:
    leave

on_int3:
    incl int3s(%rip)
    iretq
on_int80:
    incl int80s(%rip)
    iretq
on_ud:
    incl uds(%rip)
    addq $2, (%rsp)
    iretq
on_pf:
    incl pfs(%rip)
    leaq ones(%rip), %rbx
    addq $8, %rsp
    iretq

    .balign 16
target: .quad 0x11, 0x22
scratch: .quad 0, 0
ones:   .quad -1
int3s:  .long 0
int80s: .long 0
uds:    .long 0
pfs:    .long 0
idtr:   .word 4095
    .quad idt
    .balign 4096
idt:    .skip 4096
page_end:
    .skip 16
    .section .note.GNU-stack, "", @progbits
