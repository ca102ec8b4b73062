/* SPDX-License-Identifier: MIT */
/*
 * Stands for a test of kvm-unit-tests: a Multiboot guest that prints its arguments, and ends
 * through the debug-exit port. Arguments: VALUE TEXT, where | is the end of a line; without a
 * number it never ends.
 */
    .code32
    .text
    .globl _start
    .long 0x1badb002, 0, -0x1badb002
_start:
    movl 16(%ebx), %esi /* the command line: the program's name comes first */
1:  lodsb
    testb %al, %al
    jz hang
    cmpb $' ', %al
    jne 1b
    xorl %ecx, %ecx /* VALUE */
    cmpb $'0', (%esi)
    jb hang
    cmpb $'9', (%esi)
    ja hang
2:  movzbl (%esi), %eax
    incl %esi
    subl $'0', %eax
    jb 3f
    imull $10, %ecx
    addl %eax, %ecx
    jmp 2b
3:  movl $0x3f8, %edx
4:  lodsb
    testb %al, %al
    jz 6f
    cmpb $'|', %al
    jne 5f
    movb $'\n', %al
5:  outb %al, %dx
    jmp 4b
6:  movb $'\n', %al
    outb %al, %dx
    movl %ecx, %eax
    movl $0xf4, %edx
    outl %eax, %dx
hang:
    jmp hang
    .section .note.GNU-stack, "", @progbits
