/* SPDX-License-Identifier: MIT */
/*
 * KVM's hypercalls by VMCALL and by VMMCALL: whichever of the two is not the processor's own,
 * KVM makes it that one (Linux, arch/x86/kvm/x86.c, KVM_X86_QUIRK_FIX_HYPERCALL_INSN). Both
 * send this vCPU an interrupt (Linux, Documentation/virt/kvm/x86/hypercalls.rst,
 * KVM_HC_SEND_IPI), and both are told that a hypercall does not exist. No other register
 * changes.
 *
 * Checks: VMCALL 1 has sent it once, 2 it came, 3 other registers; VMMCALL 4, 5, 6; neither
 * knows 999 7, 8.
 */
#include "guest.inc"
    .set HC_SEND_IPI, 10
    .set KVM_ENOSYS, 1000
    .set VECTOR, 0x40

    /* `count`: how often it has come then. */
    .macro send insn, sent, came, kept, count
    movl $HC_SEND_IPI, %eax
    movl $1, %ebx
    xorl %ecx, %ecx
    xorl %edx, %edx
    movl $VECTOR, %esi
    \insn
    cmpq $1, %rax
    check \sent
    sti
    nop
    nop
    cli
    cmpl $\count, fired(%rip)
    check \came
    decq %rbx
    orq %rcx, %rbx
    orq %rdx, %rbx
    subq $VECTOR, %rsi
    orq %rbx, %rsi
    check \kept
    .endm

    .macro unknown insn, n
    movl $999, %eax
    \insn
    cmpq $-KVM_ENOSYS, %rax
    check \n
    .endm

    .text
    .globl _start
_start:
    gate 6, undefined
    gate VECTOR, ipi
    lidt idtr(%rip)
    movl $0xfee00000, %edi
    movl $0x1ff, 0xf0(%rdi)
    send vmcall, 1, 2, 3, 1
    send vmmcall, 4, 5, 6, 2
    unknown vmcall, 7
    unknown vmmcall, 8
    xorl %r11d, %r11d
bad:
    leave

undefined:
    addq $3, (%rsp)
    iretq
ipi:
    incl fired(%rip)
    movl $0, 0xb0(%rdi)
    iretq

    .balign 16
fired:  .long 0
    .balign 16
idtr:   .word 4095
    .quad idt
    .balign 4096
idt:    .skip 4096
    .section .note.GNU-stack, "", @progbits
