/* SPDX-License-Identifier: MIT */
/*
 * What answers a guest that asks the BIOS: 4 KiB of real-mode code at F000:F000, at whose
 * services the interrupt vectors point. There is a serial console and a clock, and neither
 * disk nor display; a service that is not here says so by its carry flag. (IBM PS/2 and PC
 * BIOS Interface Technical Reference; ACPI specification, "System Address Map Interfaces".)
 *
 *     +0x000  34 words: where vectors 0x00 to 0x1f go, all others, and 0x70 to 0x77
 *     +0xe00  a word: entries of the memory map; from +0xe02 on each of 20 bytes
 *     +0xff0  the reset vector
 *
 * A service sees the caller's registers; `flag` clears or sets carry in the FLAGS that IRET
 * takes.
 */
    .code16
    .set BDA_EBDA, 0x0e
    .set BDA_EQUIPMENT, 0x10
    .set BDA_MEMORY, 0x13
    .set BDA_HEAD, 0x1a
    .set BDA_TAIL, 0x1c
    .set BDA_TICKS, 0x6c
    .set BDA_MIDNIGHT, 0x70
    .set BDA_DISK_STATUS, 0x74
    .set BDA_START, 0x80
    .set BDA_END, 0x82
    .set TICKS_A_DAY, 0x1800b0
    .set MAP, 0xfe00
    .set SMAP, 0x534d4150

    .text
    .globl _start
_start:
    .word other, other, other, other, other, other, other, other
    .word tick, keyboard_irq, irq, irq, irq, irq, irq, irq
    .word video, equipment, memory_size, disk, serial, system, keyboard, printer
    .word reset, reset, clock, other, other, other, other, other
    .word other, slave_irq

/* ---- Interrupts ---- */

other:
    iret

tick:
    pushw %ds
    pushl %eax
    movw $0x40, %ax
    movw %ax, %ds
    movl BDA_TICKS, %eax
    incl %eax
    cmpl $TICKS_A_DAY, %eax
    jb 1f
    xorl %eax, %eax
    movb $1, BDA_MIDNIGHT
1:  movl %eax, BDA_TICKS
    int $0x1c
    movb $0x20, %al
    outb %al, $0x20
    popl %eax
    popw %ds
    iret

keyboard_irq:
    pushw %ax
    inb $0x60, %al
    jmp 1f
irq:
    pushw %ax
1:  movb $0x20, %al
    outb %al, $0x20
    popw %ax
    iret

slave_irq:
    pushw %ax
    movb $0x20, %al
    outb %al, $0xa0
    outb %al, $0x20
    popw %ax
    iret

/* ---- The end of a service ---- */

fail: /* AH: why */
    pushw %bp
    movw %sp, %bp
    orb $1, 6(%bp)
    popw %bp
    iret

no_such_service:
    movb $0x86, %ah
    jmp fail

done:
    pushw %bp
    movw %sp, %bp
    andb $0xfe, 6(%bp)
    popw %bp
    iret

/* ---- INT 10h: a display of 80 x 25 characters that is the serial console ---- */

video:
    cmpb $0x0e, %ah
    je 1f
    cmpb $0x0f, %ah
    je 2f
    cmpb $0x03, %ah
    je 3f
    iret
1:  pushw %dx
    call put_char
    popw %dx
    iret
2:  movw $0x5003, %ax /* 80 columns, mode 3 */
    movb $0, %bh
    iret
3:  movw $0x0607, %cx /* the cursor's shape, and its place: not known */
    xorw %dx, %dx
    iret

/* AL to COM1. Changes DX. */
put_char:
    pushw %ax
    movw $0x3fd, %dx
1:  inb %dx, %al
    testb $0x20, %al
    jz 1b
    popw %ax
    movw $0x3f8, %dx
    outb %al, %dx
    ret

/* ---- INT 11h, 12h: what is installed; KiB below the EBDA ---- */

equipment:
    pushw $BDA_EQUIPMENT
    jmp bda_word
memory_size:
    pushw $BDA_MEMORY
bda_word: /* AX = the word at 40:[on the stack] */
    pushw %bp
    movw %sp, %bp
    pushw %ds
    pushw %bx
    movw $0x40, %ax
    movw %ax, %ds
    movw 2(%bp), %bx
    movw (%bx), %ax
    popw %bx
    popw %ds
    popw %bp
    addw $2, %sp
    iret

/* ---- INT 13h: no disk ---- */

disk:
    pushw %ds
    pushw $0x40
    popw %ds
    cmpb $0x01, %ah
    je 1f
    movb $0x01, BDA_DISK_STATUS /* invalid function or drive */
1:  movb BDA_DISK_STATUS, %ah
    popw %ds
    jmp fail

/* ---- INT 14h: COM1; INT 17h: no printer ---- */

serial:
    testw %dx, %dx
    jnz 9f
    cmpb $0x01, %ah
    je 1f
    cmpb $0x02, %ah
    je 2f
    pushw %dx
    jmp 3f
1:  pushw %dx
    pushw %ax
    call put_char
    popw %ax
    jmp 4f
2:  pushw %dx
    movw $0x3fd, %dx
21: inb %dx, %al
    testb $1, %al
    jz 21b
    movw $0x3f8, %dx
    inb %dx, %al
    jmp 4f
3:  movw $0x3fe, %dx
    inb %dx, %al
4:  pushw %ax
    movw $0x3fd, %dx
    inb %dx, %al
    movb %al, %dh
    popw %ax
    movb %dh, %ah
    popw %dx
    iret
9:  movb $0x80, %ah /* timed out */
    iret

printer:
    movb $0x01, %ah
    iret

/* ---- INT 15h: memory maps, address line 20 ---- */

system:
    cmpw $0xe820, %ax
    je memory_map
    cmpw $0xe801, %ax
    je memory_e801
    cmpw $0x2400, %ax
    jb 1f
    cmpw $0x2403, %ax
    jbe a20
1:  cmpb $0x88, %ah
    je memory_88
    cmpb $0xc0, %ah
    je configuration
    cmpb $0xc1, %ah
    je ebda
    jmp no_such_service

/* EDX "SMAP", EBX: which entry, ECX: room at ES:DI. */
memory_map:
    cmpl $SMAP, %edx
    jne no_such_service
    cmpl $20, %ecx
    jb no_such_service
    movzwl %cs:MAP, %eax
    cmpl %eax, %ebx
    jae no_such_service
    pushw %si
    pushw %di
    pushw %ds
    pushw %cs
    popw %ds
    pushw %bx
    imulw $20, %bx, %si
    addw $MAP + 2, %si
    movw $20, %cx
    cld
    rep movsb
    popw %bx
    popw %ds
    popw %di
    popw %si
    movl $20, %ecx
    incl %ebx
    cmpl %eax, %ebx
    jb 1f
    xorl %ebx, %ebx /* that was the last one */
1:  movl $SMAP, %eax
    jmp done

/* EAX = KiB from 1 MiB on, below the hole at 3 GiB: the map's entry that begins there. */
above_1m:
    pushw %bx
    pushw %cx
    movw %cs:MAP, %cx
    movw $MAP + 2, %bx
    xorl %eax, %eax
1:  cmpl $0x100000, %cs:(%bx)
    jne 2f
    cmpl $0, %cs:4(%bx)
    jne 2f
    movl %cs:8(%bx), %eax
    shrl $10, %eax
    jmp 3f
2:  addw $20, %bx
    loop 1b
3:  popw %cx
    popw %bx
    ret

/* AX = CX: KiB from 1 to 16 MiB; BX = DX: 64 KiB from 16 MiB on. */
memory_e801:
    pushl %eax
    call above_1m
    xorw %bx, %bx
    movw $0x3c00, %cx
    subl $0x3c00, %eax
    jb 1f
    shrl $6, %eax
    movw %ax, %bx
    jmp 2f
1:  addl $0x3c00, %eax
    movw %ax, %cx
2:  popl %eax
    movw %cx, %ax
    movw %bx, %dx
    jmp done

/* AX: KiB from 1 MiB on, at most 65535. */
memory_88:
    pushl %ebx
    movl %eax, %ebx
    call above_1m
    cmpl $0xffff, %eax
    jbe 1f
    movl $0xffff, %eax
1:  movw %ax, %bx
    movl %ebx, %eax
    popl %ebx
    jmp done

/* It is always open. */
a20:
    cmpb $0x00, %al
    je no_such_service /* and cannot be closed */
    cmpb $0x02, %al
    jb 1f
    je 2f
    movw $0x0003, %bx /* both gates, which change nothing */
    jmp 1f
2:  movb $1, %al
1:  movb $0, %ah
    jmp done

configuration:
    pushw %cs
    popw %es
    movw $configuration_table, %bx
    movb $0, %ah
    jmp done

ebda:
    pushw %ds
    pushw $0x40
    popw %ds
    movw BDA_EBDA, %es
    popw %ds
    jmp done

    .balign 2
configuration_table:
    .word 8
    .byte 0xfc, 0x00, 0x01 /* AT, submodel, revision */
    .byte 0x74             /* second PIC, RTC, keyboard intercept, EBDA */
    .byte 0, 0, 0, 0

/* ---- INT 16h: keys are bytes of COM1, with no scan code ---- */

keyboard:
    cmpb $0x00, %ah
    je get_key
    cmpb $0x10, %ah
    je get_key
    cmpb $0x01, %ah
    je peek_key
    cmpb $0x11, %ah
    je peek_key
    cmpb $0x02, %ah
    je 1f
    cmpb $0x12, %ah
    je 1f
    iret
1:  movb $0, %al /* no shift key is down */
    iret

get_key:
    pushw %ds
    pushw $0x40
    popw %ds
1:  call key_comes
    jz 1b
    call take_key
    popw %ds
    iret

/* ZF: there is none. */
peek_key:
    pushw %ds
    pushw $0x40
    popw %ds
    call key_comes
    jz 1f
    pushw %bx
    movw BDA_HEAD, %bx
    movw (%bx), %ax
    popw %bx
    popw %ds
    pushw %bp
    movw %sp, %bp
    andb $0xbf, 6(%bp)
    popw %bp
    iret
1:  popw %ds
    pushw %bp
    movw %sp, %bp
    orb $0x40, 6(%bp)
    popw %bp
    iret

/* A byte of the serial port goes into the buffer, if there is none. Return: ZF: none. */
key_comes:
    pushw %dx
    pushw %bx
    pushw %ax
    movw BDA_HEAD, %bx
    cmpw BDA_TAIL, %bx
    jne 1f
    movw $0x3fd, %dx
    inb %dx, %al
    andb $1, %al
    jz 1f
    movw $0x3f8, %dx
    inb %dx, %al
    movb $0, %ah
    movw %ax, (%bx)
    call next_key
    movw %bx, BDA_TAIL
    testw %bx, %bx
1:  popw %ax
    popw %bx
    popw %dx
    ret

/* AX = the first key of the buffer. */
take_key:
    pushw %bx
    movw BDA_HEAD, %bx
    movw (%bx), %ax
    call next_key
    movw %bx, BDA_HEAD
    popw %bx
    ret

next_key:
    addw $2, %bx
    cmpw BDA_END, %bx
    jb 1f
    movw BDA_START, %bx
1:  ret

/* ---- INT 1Ah: ticks, and the RTC's time and date ---- */

clock:
    cmpb $0x00, %ah
    je get_ticks
    cmpb $0x01, %ah
    je set_ticks
    cmpb $0x02, %ah
    je get_time
    cmpb $0x04, %ah
    je get_date
    jmp no_such_service

get_ticks:
    pushw %ds
    pushw $0x40
    popw %ds
    movb $0, %al
    xchgb BDA_MIDNIGHT, %al
    movw BDA_TICKS, %dx
    movw BDA_TICKS + 2, %cx
    popw %ds
    movb $0, %ah
    jmp done

set_ticks:
    pushw %ds
    pushw $0x40
    popw %ds
    movw %dx, BDA_TICKS
    movw %cx, BDA_TICKS + 2
    movb $0, BDA_MIDNIGHT
    popw %ds
    movb $0, %ah
    jmp done

/* CH, CL, DH: hours, minutes, seconds in BCD; DL: no daylight saving. */
get_time:
    call settled
    movb $4, %al
    call cmos
    movb %al, %ch
    movb $2, %al
    call cmos
    movb %al, %cl
    movb $0, %al
    call cmos
    movb %al, %dh
    movb $0, %dl
    movb $0, %ah
    jmp done

/* CH, CL, DH, DL: century, year, month, day. */
get_date:
    call settled
    movb $0x32, %al
    call cmos
    movb %al, %ch
    movb $9, %al
    call cmos
    movb %al, %cl
    movb $8, %al
    call cmos
    movb %al, %dh
    movb $7, %al
    call cmos
    movb %al, %dl
    movb $0, %ah
    jmp done

/* Not while the RTC updates itself. */
settled:
    pushw %ax
1:  movb $0x0a, %al
    call cmos
    testb $0x80, %al
    jnz 1b
    popw %ax
    ret

cmos:
    outb %al, $0x70
    inb $0x71, %al
    ret

/* ---- INT 18h, 19h, and a jump to F000:FFF0: there is nothing to boot ---- */

reset:
    movw $0xcf9, %dx
    movb $0x06, %al
    outb %al, %dx
1:  hlt
    jmp 1b

    .org 0xe00
    .skip 2 + 8 * 20
    .org 0xff0
    ljmp $0xf000, $reset
    .org 0xff5
    .ascii "01/01/26"
    .byte 0, 0xfc, 0
    .section .note.GNU-stack, "", @progbits
