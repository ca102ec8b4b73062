/* SPDX-License-Identifier: MIT */
/*
 * Two processors at once: what locked instructions, x86's order of loads and stores, code that
 * is written and page tables that are written promise each other (SDM volume 3, "Memory
 * Ordering", "Handling Self- and Cross-Modifying Code", "Propagation of Paging-Structure Changes
 * to Multiple Processors"). R15D is the processor, 0 or 1; both run all of it.
 *
 * Checks, each over ROUNDS or a share of it:
 *  1-5 locked INC, XADD, XCHG, CMPXCHG, CMPXCHG16B lose no update; 6-7 nor across two pages
 *  (INC, CMPXCHG8B); 8 nor in a page with code; 9 a message is there when its flag is; 10-11 a
 *  store before MFENCE, or before a locked instruction, is seen before a load behind it is done
 *  (Peterson's lock); 12 code that a processor has written is what it runs; 13 code that the other
 *  one has written is what it runs after CPUID; 14 after INVLPG the other one's entry answers;
 *  15 a store through it reaches its page; 16 an entry that is exchanged has A and D of all that
 *  went through it; 17 what the other one stored through it is there; 18 two addresses that need one TLB
 *  entry have their values while it is taken away; 19-20 of two that store and then load what the other one
 *  stores, with MFENCE or a locked instruction between, one at least sees it (store buffering).
 */
#include "guest.inc"
#ifndef ROUNDS
#define ROUNDS 20000
#endif
    .set SHARE, ROUNDS / 64
#ifndef MEETINGS /* rounds in which each waits for the other */
#define MEETINGS (ROUNDS / 16)
#endif
    .set AP_CODE, 0x8000
    .set ICR, 0xfee00300
    .set VIRTUAL, 1 << 39 /* what the tables below map */
    .set ALIAS, 1 << 24 /* its TLB entry is VIRTUAL's */
    .set PTE_AD, 0x60

    /* Both processors are here. */
    .macro meet
    lock incl arrived(%rip)
    addl $2, %r14d
77: pause
    cmpl %r14d, arrived(%rip)
    jb 77b
    .endm

    /* Peterson's lock, and in it an increment that is not locked. */
    .macro peterson fence:vararg
    movl $SHARE, %r12d
    movl %r15d, %esi
    xorl $1, %esi /* the other one */
    leaq want(%rip), %rbx
76: movl $1, (%rbx, %r15, 8)
    movl %esi, turn(%rip)
    \fence
75: cmpl $0, (%rbx, %rsi, 8)
    je 74f
    cmpl %esi, turn(%rip)
    jne 74f
    pause
    jmp 75b
74: incq inside(%rip)
    movl $0, (%rbx, %r15, 8)
    decl %r12d
    jnz 76b
    meet
    .endm

    /* Both have come here as often as R12D says. */
    .macro together counter
    lock incl \counter(%rip)
    leal (%r12, %r12), %eax
73: pause
    cmpl %eax, \counter(%rip)
    jb 73b
    .endm

    /* Both store, then load. */
    .macro both_store n, fence:vararg
    movl %r15d, %esi
    shll $7, %esi
    leaq stored(%rip), %rbx
    leaq (%rbx, %rsi), %rdi
    xorl $1 << 7, %esi
    addq %rsi, %rbx /* the other one's */
    movl $1, %r12d
72: together begun
    movl %r12d, (%rdi)
    \fence
    movl (%rbx), %edx
    movl %edx, 4(%rdi)
    together ended
    cmpl 4(%rbx), %edx
    cmovbl 4(%rbx), %edx
    cmpl %r12d, %edx
    setae %cl
    cmpb $1, %cl
    check \n
    incl %r12d
    cmpl $MEETINGS, %r12d
    jbe 72b
    meet
    movl $0, (%rdi)
    movl $0, begun(%rip)
    movl $0, ended(%rip)
    meet
    .endm

    .text
    .globl _start
_start:
    cld
    leaq stacks + 0x1000(%rip), %rsp
    leaq trampoline(%rip), %rsi
    movl $AP_CODE, %edi
    movl $trampoline_end - trampoline, %ecx
    rep movsb
    movq %cr3, %rax
    movl %eax, AP_CODE + trampoline_cr3 - trampoline
    leaq pdpt + 3(%rip), %rdx
    movq %rdx, 8(%rax)
    leaq pd + 3(%rip), %rdx
    movq %rdx, pdpt(%rip)
    leaq pt + 3(%rip), %rdx
    movq %rdx, pd(%rip)
    movq $0xb, pages(%rip)
    movq $0xa, pages + 0x1000(%rip)
    movl $ALIAS, %esi
    movq $0xc, (%rsi)
    movl $ICR, %ebx
    movl $1 << 24, 0x10(%rbx)
    movl $0x4500, (%rbx) /* INIT, then SIPI */
    movl $1 << 24, 0x10(%rbx)
    movl $0x4600 | AP_CODE >> 12, (%rbx)
    xorl %r15d, %r15d

both:
    xorl %r14d, %r14d
    meet

    movl $ROUNDS, %r12d
1:  lock incq by_inc(%rip)
    movl $1, %eax
    lock xaddq %rax, by_xadd(%rip)
2:  movl $1, %eax
    xchgl %eax, spin(%rip)
    testl %eax, %eax
    jz 3f
    pause
    jmp 2b
3:  incq by_xchg(%rip)
    movl $0, spin(%rip)
    movq by_cas(%rip), %rax
4:  leaq 1(%rax), %rdx
    lock cmpxchgq %rdx, by_cas(%rip)
    jnz 4b
    movq by_cas16(%rip), %rax
    movq by_cas16 + 8(%rip), %rdx
5:  leaq 1(%rax), %rbx
    leaq 1(%rdx), %rcx
    lock cmpxchg16b by_cas16(%rip)
    jnz 5b
    decl %r12d
    jnz 1b
    meet
    cmpq $2 * ROUNDS, by_inc(%rip)
    check 1
    cmpq $2 * ROUNDS, by_xadd(%rip)
    check 2
    cmpq $2 * ROUNDS, by_xchg(%rip)
    check 3
    cmpq $2 * ROUNDS, by_cas(%rip)
    check 4
    cmpq $2 * ROUNDS, by_cas16(%rip)
    check 5
    cmpq $2 * ROUNDS, by_cas16 + 8(%rip)
    check 5

    movl $SHARE, %r12d
1:  lock incq split + 0x1000 - 3(%rip)
    movl split + 0x2000 - 4(%rip), %eax
    movl split + 0x2000(%rip), %edx
2:  leal 1(%rax), %ebx
    leal 1(%rdx), %ecx
    lock cmpxchg8b split + 0x2000 - 4(%rip)
    jnz 2b
    lock incq beside_code(%rip)
    decl %r12d
    jnz 1b
    meet
    cmpq $2 * SHARE, split + 0x1000 - 3(%rip)
    check 6
    cmpl $2 * SHARE, split + 0x2000 - 4(%rip)
    check 7
    cmpl $2 * SHARE, split + 0x2000(%rip)
    check 7
    cmpq $2 * SHARE, beside_code(%rip)
    check 8

    testl %r15d, %r15d
    jnz 2f
    movl $1, %eax
1:  movl %eax, message(%rip)
    movl %eax, flag(%rip)
    incl %eax
    cmpl $ROUNDS, %eax
    jbe 1b
    jmp 3f
2:  movl flag(%rip), %eax
    movl message(%rip), %edx
    cmpl %eax, %edx
    setae %cl
    cmpb $1, %cl
    check 9
    cmpl $ROUNDS, %eax
    jb 2b
3:  meet

    peterson mfence
    cmpq $2 * SHARE, inside(%rip)
    check 10
    meet
    peterson lock addl $0, (%rsp)
    cmpq $4 * SHARE, inside(%rip)
    check 11

    leaq own(%rip), %rbx
    movl %r15d, %eax
    shll $12, %eax
    addq %rax, %rbx
    movl $SHARE, %r12d
1:  movl %r12d, 4(%rbx)
    call *%rbx
    cmpl %r12d, %eax
    check 12
    decl %r12d
    jnz 1b
    meet

    testl %r15d, %r15d
    jnz 2f
    movl $1, %eax
1:  movl %eax, other + 4(%rip)
    movl %eax, written(%rip)
    incl %eax
    cmpl $SHARE, %eax
    jbe 1b
    jmp 3f
2:  movl written(%rip), %esi
    xorl %eax, %eax
    cpuid
    call other
    cmpl %esi, %eax
    setae %cl
    cmpb $1, %cl
    check 13
    cmpl $SHARE, %esi
    jb 2b
3:  meet

    movabsq $VIRTUAL, %rbx
    leaq pages(%rip), %rdi
    movl $1, %r12d
1:  movl %r12d, %r13d
    andl $1, %r13d
    shll $12, %r13d /* the page of this round */
    testl %r15d, %r15d
    jnz 3f
    leaq 3(%rdi, %r13), %rax
    xchgq %rax, pt(%rip)
    cmpl $1, %r12d
    je 2f
    andl $PTE_AD, %eax
    cmpl $PTE_AD, %eax
    check 16
2:  invlpg (%rbx)
    movl %r12d, mapped(%rip)
4:  pause
    cmpl %r12d, used(%rip)
    jne 4b
    cmpl %r12d, 8(%rbx)
    check 17
    jmp 5f
3:  pause
    cmpl %r12d, mapped(%rip)
    jne 3b
    invlpg (%rbx)
    movq (%rbx), %rax
    cmpq %rax, (%rdi, %r13)
    check 14
    movl %r12d, 8(%rbx)
    cmpl %r12d, 8(%rdi, %r13)
    check 15
    movl %r12d, used(%rip)
5:  incl %r12d
    cmpl $SHARE, %r12d
    jbe 1b
    meet

    movl $ALIAS, %esi
    testl %r15d, %r15d
    jnz 3f
1:  xorl $0x1000, %r13d
    leaq 3(%rdi, %r13), %rax
    movq %rax, pt(%rip)
    invlpg (%rbx)
    cmpl $0, has_read(%rip)
    je 1b
    jmp 5f
3:  movl $ROUNDS, %r12d
4:  movq (%rbx), %rax
    orq $1, %rax
    cmpq $0xb, %rax
    check 18
    cmpq $0xc, (%rsi)
    check 18
    decl %r12d
    jnz 4b
    movl $1, has_read(%rip)
5:  meet
    both_store 19, mfence
    both_store 20, lock addl $0, (%rsp)

    testl %r15d, %r15d
    jnz 6f
    xorl %r11d, %r11d
bad:
    leave
6:  hlt
    jmp 6b

    .p2align 3
beside_code: .quad 0

    .code16
trampoline:
    cli
    movw %cs, %ax
    movw %ax, %ds
    lgdtl trampoline_gdt - trampoline
    movl $0x20, %eax /* CR4.PAE */
    movl %eax, %cr4
    movl trampoline_cr3 - trampoline, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax /* EFER.LME */
    wrmsr
    movl %cr0, %eax
    orl $0x80000001, %eax
    movl %eax, %cr0
    ljmpl $0x10, $second
    .p2align 2
trampoline_gdt:
    .word 47
    .long 0x80000 /* BOOT_GDT */
trampoline_cr3:
    .long 0
trampoline_end:
    .code64
second:
    movl $0x18, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    leaq stacks + 0x2000(%rip), %rsp
    movl $1, %r15d
    jmp both

    /* Three bytes, so that the number in MOV is aligned. */
    .macro function
    .p2align 12
    nopl (%rax)
    movl $0, %eax
    ret
    .endm
    .p2align 12
own:
    function
    function
    .p2align 12
other:
    function

    .bss
    .macro line name
    .p2align 7
\name: .skip 8
    .endm
    .p2align 12
    line arrived
    line by_inc
    line by_xadd
    line spin
    line by_xchg
    line by_cas
    .p2align 7
by_cas16: .skip 16
    line message
    line turn
    line inside
    line written
    line mapped
    line used
    line has_read
    line begun
    line ended
    line stored
    line stored_by_1 /* directly behind */
    .p2align 7
want: .skip 16
    .p2align 12
flag: .skip 4
    .p2align 12
split: .skip 0x3000
pdpt: .skip 0x1000
pd: .skip 0x1000
pt: .skip 0x1000
pages: .skip 0x2000
stacks: .skip 0x2000
    .section .note.GNU-stack, "", @progbits
