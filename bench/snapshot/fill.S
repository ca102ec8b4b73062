/* SPDX-License-Identifier: MIT */
/*
 * The guest of restore_cost.py, a Multiboot image of 32-bit code without paging. It fills memory from
 * 2 MiB on with bytes that no one compresses, and says R; then it says a dot about each
 * millisecond, until a byte comes on the console. Then it says G, and works: it writes into WORK_PAGES pages,
 * here and there in all of memory, and counts between two of them; and says D.
 */
#define MAGIC      0x1badb002
#define FLAGS      2 /* memory size, please */
#define FROM       0x200000
#define WORK_PAGES 4096
#define COUNT      6000
#define TICK       200000
#define COM1       0x3f8

    .text
    .code32
    .align 4
    .long MAGIC, FLAGS, -(MAGIC + FLAGS)

.macro say letter
    mov $COM1, %dx
    mov $\letter, %al
    out %al, %dx
.endm

    .globl _start
_start:
    mov 8(%ebx), %esi /* KiB above 1 MiB */
    shl $10, %esi
    sub $(FROM - 0x100000), %esi /* bytes from FROM on */
    mov %esi, %ecx
    shr $2, %ecx
    mov $FROM, %edi
    mov $1, %eax
1:  mov %eax, %edx /* xorshift32 */
    shl $13, %edx
    xor %edx, %eax
    mov %eax, %edx
    shr $17, %edx
    xor %edx, %eax
    mov %eax, %edx
    shl $5, %edx
    xor %edx, %eax
    mov %eax, (%edi)
    add $4, %edi
    dec %ecx
    jnz 1b
    mov $(COM1 + 1), %dx /* it takes bytes, as who has a driver does; interrupts stay off */
    mov $1, %al
    out %al, %dx
    mov $(COM1 + 4), %dx
    mov $8, %al
    out %al, %dx
    say 'R'
2:  say '.'
    mov $TICK, %ecx
3:  dec %ecx
    jnz 3b
    mov $(COM1 + 5), %dx
    in %dx, %al
    test $1, %al
    jz 2b
    say 'G'
    shr $12, %esi /* pages */
    mov $WORK_PAGES, %ebp
    mov $7, %ebx
4:  imul $1103515245, %ebx, %ebx
    add $12345, %ebx
    mov %ebx, %eax
    mul %esi /* edx: below the number of pages */
    shl $12, %edx
    incl FROM(%edx)
    mov $COUNT, %ecx
5:  dec %ecx
    jnz 5b
    dec %ebp
    jnz 4b
    say 'D'
6:  hlt
    jmp 6b
