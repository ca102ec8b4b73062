/* SPDX-License-Identifier: MIT */
/*
 * The guest of `penumbra dirty check`: it asks for an order, and does it. 64-bit, anywhere.
 *
 *     IN port -> what    0: nothing yet; 1 write, 2 read, 3 a string of bytes
 *     then IN -> count, address (low, high), stride in bytes, first value
 */
        .section .rodata
        .globl  dirty_guest, dirty_guest_end
        .code64
dirty_guest:
        movw    $0x5e4, %dx
next:
        inl     %dx, %eax
        testl   %eax, %eax
        jz      next
        movl    %eax, %ebx
        inl     %dx, %eax
        movl    %eax, %ecx
        inl     %dx, %eax
        movl    %eax, %edi
        inl     %dx, %eax
        shlq    $32, %rax
        orq     %rax, %rdi
        inl     %dx, %eax
        movl    %eax, %esi
        inl     %dx, %eax
        cmpl    $2, %ebx
        je      load
        cmpl    $3, %ebx
        je      string
store:
        movq    %rax, (%rdi)
        addq    %rsi, %rdi
        incq    %rax
        decl    %ecx
        jnz     store
        jmp     next
load:
        movq    (%rdi), %rax
        addq    %rsi, %rdi
        decl    %ecx
        jnz     load
        jmp     next
string:
        cld
        rep stosb
        jmp     next
dirty_guest_end:
        .section .note.GNU-stack, "", @progbits
