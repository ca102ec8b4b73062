/* SPDX-License-Identifier: MIT */
/*
 * A TSC deadline comes when the TSC reaches it, however it does: IA32_TIME_STAMP_COUNTER
 * and IA32_TSC_ADJUST are written past an armed deadline, and back before it (SDM volume 3,
 * "TSC-Deadline Mode" and "IA32_TSC_ADJUST Register Support").
 *
 * Checks: 1 it does not come early, 2 TSC_ADJUST brings it at once, 3 which disarms it, 4 and
 * so does the TSC, 5 TSC_ADJUST has both, 6, 7 back again it comes late, 8, 9 but comes.
 */
#include "guest.inc"
    .set MSR_TSC, 0x10
    .set MSR_TSC_ADJUST, 0x3b
    .set MSR_TSC_DEADLINE, 0x6e0
    .set NEAR, 50000000
    .set FAR, 100000000

    .macro read_msr index
    movl $\index, %ecx
    rdmsr
    shlq $32, %rdx
    orq %rdx, %rax
    .endm

    .macro write_msr index
    movq %rax, %rdx
    shrq $32, %rdx
    movl $\index, %ecx
    wrmsr
    .endm

    .macro add_msr index, value
    read_msr \index
    addq $\value, %rax
    write_msr \index
    .endm

    /* A deadline `after` from now. */
    .macro arm after
    read_msr MSR_TSC
    addq $\after, %rax
    write_msr MSR_TSC_DEADLINE
    .endm

    /* Interrupts on for some thousand instructions; then it has come `times` times. */
    .macro come times
    movl $5000, %eax
    sti
1:  decl %eax
    jnz 1b
    cli
    cmpl $\times, fired(%rip)
    .endm

    .text
    .globl _start
_start:
    gate 0x40, timer
    lidt idtr(%rip)
    movl $0xfee00000, %ebx
    movl $0x1ff, 0xf0(%rbx)
    movl $0x40040, 0x320(%rbx) /* LVT timer: TSC deadline, vector 0x40 */

    arm NEAR
    come 0
    check 1
    add_msr MSR_TSC_ADJUST, FAR
    come 1
    check 2
    check_msr 3, MSR_TSC_DEADLINE, 0

    arm NEAR
    add_msr MSR_TSC, FAR
    come 2
    check 4
    read_msr MSR_TSC_ADJUST
    movl $2 * FAR, %edx
    subq %rax, %rdx /* what passes between RDMSR and WRMSR of the TSC is lost */
    shrq $22, %rdx
    check 5

    arm 2000
    add_msr MSR_TSC, -FAR
    come 2
    check 6
    add_msr MSR_TSC_ADJUST, FAR
    come 3
    check 8
    arm 2000
    add_msr MSR_TSC_ADJUST, -FAR
    come 3
    check 7
    add_msr MSR_TSC, FAR
    come 4
    check 9
    xorl %r11d, %r11d
bad:
    leave

timer:
    incl fired(%rip)
    movl $0, 0xb0(%rbx)
    iretq

    .balign 16
fired:  .long 0
    .balign 16
idtr:   .word 4095
    .quad idt
    .balign 4096
idt:    .skip 4096
    .section .note.GNU-stack, "", @progbits
