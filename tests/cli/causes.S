/* SPDX-License-Identifier: MIT */
/*
 * A flat guest whose faults are known by construction: causes.sh has the list. Entered in 64-bit
 * mode at 0x100000 with an identity map of 4 GiB. Each labelled part has one access, or a few,
 * that the MMU cannot answer; what happens between them is the part before it.
 *
 * Its own tables, for 48 bits:
 *
 *   0x200000 PML4: [0] and [1] to the PDPT, so that 0x8000000000 is 0 once more
 *   0x201000 PDPT: [0] to the PD of the first GiB, [1] to the PD of `high`, [3] 1 GiB of devices
 *   0x202000 PD: the first GiB, 2 MiB pages
 *   0x204000 PD of high (0x40000000): [0] to the page table, [2] 2 MiB at 0x800000, [3] to a page
 *            table that lies in these 2 MiB
 *   0x203000 page table: pages 0 to 7 of high are those at 0x600000; page 0 is not there at first
 */
#include "tests/kvm/guest.inc"
    .set PML4, 0x200000
    .set PDPT, 0x201000
    .set PD, 0x202000
    .set PT, 0x203000
    .set HPD, 0x204000
    .set FRAMES, 0x600000
    .set HUGE, 0x800000
    .set INNER, 0x801000
    .set HIGH, 0x40000000
    .set ALIAS, 0x8000000000
    .set RW, 3
    .set PS, 0x80

    /* A part begins: a function for its symbol. */
    .macro part name
    .type \name, @function
\name:
    .endm

    .text
    .globl _start
part _start
    leaq stack(%rip), %rsp
    gate 14, handler
    lidt idtr(%rip)
    movl $PML4, %edi
    movl $0x5000 / 8, %ecx
    xorl %eax, %eax
    rep stosq
    movq $PDPT + RW, PML4
    movq $PDPT + RW, PML4 + 8
    movq $PD + RW, PDPT
    movq $HPD + RW, PDPT + 8
    movq $PS + RW, PDPT + 24
    movl $0xc0000000, %eax
    orq %rax, PDPT + 24
    xorl %ecx, %ecx
1:  movl %ecx, %eax
    shll $21, %eax
    orl $PS + RW, %eax
    movq %rax, PD(, %rcx, 8)
    incl %ecx
    cmpl $512, %ecx
    jne 1b
    movq $PT + RW, HPD
    movq $HUGE + PS + RW, HPD + 16
    movq $INNER + RW, HPD + 24
    movq $FRAMES + 0x1000 + RW, PT + 8
    movq $FRAMES + 0x2000 + RW, PT + 16
    movq $FRAMES + 0x3000 + RW, PT + 24
    movq $FRAMES + 0x4000 + RW, INNER

    /* Its own tables from now on. What is used of the first GiB is touched here, read and
     * written, so that it faults no more. */
part settle
    movl $PML4, %eax
    movq %rax, %cr3
    pushq %rax
    popq %rax
    movq idt(%rip), %rax
    movq %rax, idt(%rip)
    movq PT + 0xff8, %rax
    movq %rax, PT + 0xff8
    movq HPD + 0xff8, %rax
    movq %rax, HPD + 0xff8
    sgdt copy(%rip) /* IRET reads it */
    movq copy+2(%rip), %rax
    movb (%rax), %al
    call 1f
    jmp demand
    .balign 4096
1:  ret

    /* A page that is not there: a #PF, whose handler maps it, and the fault after it. */
part demand
    movb HIGH, %al
    /* Pages that are there, for the first time. */
part first
    movb HIGH + 0x1000, %al
    movb HIGH + 0x2000, %al
    /* Written for the first time: D. */
part dirty
    movb %al, HIGH + 0x2000
    /* A store to the page table, which takes it out of sync. */
part store
    movq $FRAMES + 0x5000 + RW, PT + 8
    /* INVLPG makes the page what the table says. */
part flushed
    invlpg HIGH + 0x1000
    movb HIGH + 0x1000, %al
    /* Another store needs no fault, but CR3 brings the table into sync. */
part synced
    movq $FRAMES + 0x6000 + RW, PT + 8
    movq %cr3, %rax
    movq %rax, %cr3
    movb HIGH + 0x1000, %al
    /* A store takes it out of sync again. */
part again
    movq $FRAMES + 0x1000 + RW, PT + 8
    /* Three stores to a table of level 2, the third of which is too many. */
part upper
    movq $0, HPD + 0x800
    movq $0, HPD + 0x808
    movq $0, HPD + 0x810
    /* Its shadow page is built again. */
part flooded
    movb HIGH + 0x2000, %al
    /* A string instruction fills no tables: the shadow page goes, and the store is one to memory. */
part string
    movl $HPD + 0x818, %edi
    xorl %eax, %eax
    stosq
    /* It is a table again. */
part anew
    movb HIGH + 0x2000, %al
    /* 2 MiB at once; then a table that lies in them is used, and they are pages of 4 KiB. */
part large
    movb HIGH + 0x400000, %al
part inner
    movb HIGH + 0x600000, %al
part small
    movb HIGH + 0x403000, %al
    /* The same tables by another way. */
part alias
    movabsb ALIAS + HIGH + 0x2000, %al
    /* A device. */
part device
    movl $0xfed40000, %ebx
    movb (%rbx), %al
    movb (%rbx), %al
part last
    xorl %r11d, %r11d
    leave

    /* The page at CR2 is there. */
part handler
    movq $FRAMES + RW, PT
    addq $8, %rsp
    iretq

    .balign 4096
copy:
    .quad 0, 0
idtr:
    .word 16 * 256 - 1
    .quad idt
    .balign 16
idt:
    .fill 16 * 256, 1, 0
    .fill 1024, 1, 0
stack:
