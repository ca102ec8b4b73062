/* SPDX-License-Identifier: MIT */
/*
 * Entry, exception entries and the way to ring 3.
 *
 * Only instructions that KVM's emulator has too: no int n, no sysret, no vector registers.
 */
    .text
    .globl guest_entry
guest_entry:                    /* long mode, RSI = boot_params */
    cld
    leaq kernel_stack_top(%rip), %rsp
    movq %rsi, %rdi
    call kernel_main
1:  hlt
    jmp 1b

/* load_segments(gdtr, idtr): new GDT, IDT, selectors and task register. */
    .globl load_segments
load_segments:
    lgdt (%rdi)
    lidt (%rsi)
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl $0x28, %eax
    ltr %ax
    popq %rax
    pushq $0x08
    pushq %rax
    lretq

/* enter_user(rip, rsp, params): does not return. */
    .globl enter_user
enter_user:
    pushq $0x1b                 /* SS */
    pushq %rsi
    pushq $0x2                  /* RFLAGS: IF clear, no interrupts in this guest */
    pushq $0x23                 /* CS */
    pushq %rdi
    movl $0x1b, %eax
    movl %eax, %ds
    movl %eax, %es
    movq %rdx, %rdi
    xorl %esi, %esi
    xorl %edx, %edx
    iretq

/* One entry per vector; vectors without an error code push 0 in its place. */
    .macro vector n, has_error
    .balign 16
    .if \has_error == 0
    pushq $0
    .endif
    pushq $\n
    jmp trap_common
    .endm

    .balign 16
    .globl trap_entries
trap_entries:
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    vector \n, 0
    .endr
    vector 8, 1
    vector 9, 0
    .irp n, 10, 11, 12, 13, 14
    vector \n, 1
    .endr
    .irp n, 15, 16
    vector \n, 0
    .endr
    vector 17, 1
    .irp n, 18, 19, 20
    vector \n, 0
    .endr
    vector 21, 1
    .irp n, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    vector \n, 0
    .endr

trap_common:                    /* struct trap_frame, from its end */
    pushq %r15
    pushq %r14
    pushq %r13
    pushq %r12
    pushq %r11
    pushq %r10
    pushq %r9
    pushq %r8
    pushq %rdi
    pushq %rsi
    pushq %rbp
    pushq %rbx
    pushq %rdx
    pushq %rcx
    pushq %rax
    movq %rsp, %rdi
    cld
    call trap
    popq %rax
    popq %rcx
    popq %rdx
    popq %rbx
    popq %rbp
    popq %rsi
    popq %rdi
    popq %r8
    popq %r9
    popq %r10
    popq %r11
    popq %r12
    popq %r13
    popq %r14
    popq %r15
    addq $16, %rsp
    iretq

    .bss
    .balign 16
kernel_stack:
    .skip 16384
    .globl kernel_stack_top
kernel_stack_top:
    .section .note.GNU-stack, "", @progbits
