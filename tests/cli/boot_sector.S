/* SPDX-License-Identifier: MIT */
/*
 * A disk of two sectors for firmware.sh: what it says, it says by the firmware's services. A line of the
 * second sector; whether the segment of the firmware can be written; whether the ROM at the end of
 * 4 GiB can; then the machine is off.
 */
    .code16
    .set BUFFER, 0x8000
    .set COPY, 0x9000
    .set PM_CONTROL, 0x604
    .set SOFT_OFF, 5 << 10 | 1 << 13

    .text
    .globl _start
_start:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
    movw $packet, %si /* extended read */
    movb $0x42, %ah
    int $0x13
    movw $failed, %si
    jc 1f
    movw $BUFFER, %si
1:  call say

    movw $0xf000, %ax /* the segment that is in shadow RAM */
    movw %ax, %fs
    movb %fs:0xfff0, %al
    movb %al, %bl
    notb %al
    movb %al, %fs:0xfff0
    cmpb %bl, %fs:0xfff0
    movw $kept, %si
    je 2f
    movw $changed, %si
2:  call say

    movw $from_rom, %si /* copy the reset vector, write to it, and copy it again */
    movw $COPY, %di
    call move
    movw $to_rom, %si
    call move
    movw $again, %si
    call move
    movw $COPY, %si
    movw $COPY + 16, %di
    movw $16, %cx
    repe cmpsb
    movw $kept, %si
    je 3f
    movw $changed, %si
3:  call say
    cmpb $0xea, COPY /* a far jump */
    movw $jump, %si
    je 4f
    movw $failed, %si
4:  call say
    sti /* what was said comes out with the clock */
    movw $3, %cx
5:  hlt
    loop 5b
    movw $PM_CONTROL, %dx
    movw $SOFT_OFF, %ax
    outw %ax, %dx
6:  hlt
    jmp 6b

/* Print the text at SI. */
say:
    lodsb
    testb %al, %al
    jz 7f
    movb $0x0e, %ah
    movw $7, %bx
    int $0x10
    jmp say
7:  ret

/* Move 8 words by the table at SI. */
move:
    movb $0x87, %ah
    movw $8, %cx
    int $0x15
    ret

packet:
    .byte 16, 0
    .word 1, BUFFER, 0
    .quad 1

    .macro segment base
    .word 0xffff, \base & 0xffff
    .byte \base >> 16 & 0xff, 0x93, 0, \base >> 24 & 0xff
    .endm
    .macro table from, to
    .quad 0, 0
    segment \from
    segment \to
    .quad 0, 0
    .endm
from_rom:
    table 0xfffffff0, 0x9000
to_rom:
    table 0x8000, 0xfffffff0
again:
    table 0xfffffff0, 0x9010

kept: .asciz "kept\r\n"
changed: .asciz "changed\r\n"
jump: .asciz "a jump\r\n"
failed: .asciz "failed\r\n"
    .org 510
    .word 0xaa55
    .asciz "from the second sector\r\n"
    .org 1048576 # a disk has a cylinder at least
