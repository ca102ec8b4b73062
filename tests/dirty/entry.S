/* SPDX-License-Identifier: MIT */
/*
 * The dirty guest's way from Multiboot 1 (or PVH-less loaders that know it, as QEMU's -kernel) into
 * 64-bit code with the first 8 GiB mapped one to one by pages of 2 MiB. A flat image with
 * the addresses in its header, linked at 1 MiB.
 */
        .text
        .code32
        .globl  start
start:  jmp     begin
        .balign 4
        .set    flags, 0x00010002       /* a memory map; addresses are below */
header: .long   0x1badb002, flags, -(0x1badb002 + flags)
        .long   header, start, image_end, bss_end, start
begin:  cli
        cld
        movl    $stack_top, %esp
        movl    %ebx, %esi              /* the Multiboot information */
        movl    $pdpt + 3, pml4
        movl    $pd, %edi
        xorl    %ecx, %ecx
1:      leal    3(%edi), %eax           /* a table of page directories: 8 of them */
        movl    %eax, pdpt(, %ecx, 8)
        addl    $0x1000, %edi
        incl    %ecx
        cmpl    $8, %ecx
        jne     1b
        xorl    %ecx, %ecx
        movl    $0x83, %eax             /* present, writable, 2 MiB */
        xorl    %edx, %edx
2:      movl    %eax, pd(, %ecx, 8)
        movl    %edx, pd + 4(, %ecx, 8)
        addl    $0x200000, %eax
        adcl    $0, %edx
        incl    %ecx
        cmpl    $4096, %ecx
        jne     2b
        movl    $0x20, %eax             /* PAE */
        movl    %eax, %cr4
        movl    $pml4, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx       /* EFER.LME */
        rdmsr
        orl     $0x100, %eax
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000000, %eax
        movl    %eax, %cr0
        lgdt    gdtr
        ljmp    $8, $long_mode
        .code64
long_mode:
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    %esi, %edi
        call    dirty_main
3:      hlt
        jmp     3b
        .balign 8
gdt:    .quad   0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr:   .word   . - gdt - 1
        .long   gdt

        .bss
        .balign 4096
pml4:   .skip   4096
pdpt:   .skip   4096
pd:     .skip   8 * 4096
        .skip   16384
stack_top:
        .section .note.GNU-stack, "", @progbits
