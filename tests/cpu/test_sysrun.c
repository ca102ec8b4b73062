/* SPDX-License-Identifier: MIT */
/*
 * System behaviour through the translator: the same guest code in blocks and in steps.
 * What is asserted here needs both halves of the CPU: exact boundaries of single-steps,
 * breakpoints and interrupt shadows, and the way from real mode to long mode and back.
 */
#include <stdlib.h>
#include <string.h>

#include "cpu/system.h"
#include "fixture_guest.h"
#include "tests/suite.h"

/* Offsets from GUEST_BASE (or, in real mode, physical). */
#define A_IDT   0x1000
#define A_GDT   0x2000
#define A_TSS   0x2800
#define A_LOG   0x3000 /* count, then the RIPs that handlers were entered from */
#define A_CODE  0x8000
#define A_STACK 0x20000

static struct guest g;
static int irq;

static int ack(void *opaque, unsigned vcpu) {
    int v = irq;
    irq = -1;
    return v;
}
static int peek(void *opaque, unsigned vcpu) {
    return irq;
}
static void out_raises(void *opaque, unsigned vcpu, uint16_t port, unsigned size,
                       uint64_t value) {
    irq = (int)value;
    g.cpu->intr_line = 1;
}

/* Handlers: each logs the RIP it came from; the #DB one also sets RF. */
__asm__(".pushsection .rodata\n"
        "handler_log:\n"
        "  push %rax\n  push %rcx\n"
        "  mov $0x10003000, %rcx\n"
        "  incq (%rcx)\n"
        "  mov (%rcx), %rax\n"
        "  lea (%rcx,%rax,8), %rcx\n"
        "  mov 16(%rsp), %rax\n"
        "  mov %rax, (%rcx)\n"
        "  orl $0x10000, 32(%rsp)\n"
        "  pop %rcx\n  pop %rax\n"
        "  iretq\n"
        "handler_log_end:\n"
        ".popsection");
extern const uint8_t handler_log[], handler_log_end[];

#define CODE(name, text)                                                                 \
    __asm__(".pushsection .rodata\n" #name ":\n" text #name "_end:\n.popsection");       \
    extern const uint8_t name[], name##_end[]

static void gate(unsigned vector, uint64_t at) {
    uint64_t *e = (uint64_t *)(g.ram + A_IDT + vector * 16);
    e[0] = (at & 0xffff) | 8 << 16 | 0x8eull << 40 | (at >> 16 & 0xffff) << 48;
    e[1] = at >> 32;
}

static void start(const uint8_t *code, const uint8_t *end, uint32_t max_block) {
    struct guest_options opt = {.max_block = max_block};
    guest_create(&g, &opt);
    irq = -1;
    g.bus.intr_peek = peek;
    g.bus.intr_ack = ack;
    g.bus.pio_write = out_raises;
    memcpy(g.ram + A_CODE, code, (size_t)(end - code));
    memcpy(g.ram + 0x7000, handler_log, (size_t)(handler_log_end - handler_log));
    uint64_t *gdt = (uint64_t *)(g.ram + A_GDT);
    gdt[1] = 0x00af9b000000ffff;
    gdt[2] = 0x00cf93000000ffff;
    for (unsigned v = 0; v < 256; v++)
        gate(v, GUEST_BASE + 0x7000);
    struct cpu *c = g.cpu;
    guest_start(&g, GUEST_BASE + A_CODE, GUEST_BASE + A_STACK);
    c->gdtr.base = GUEST_BASE + A_GDT, c->gdtr.limit = 0xff;
    c->idtr.base = GUEST_BASE + A_IDT, c->idtr.limit = 0xfff;
}

static void run(void) {
    ck_assert_int_eq(cpu_run(g.cpu, cpu_insns(g.cpu) + 10000), CPU_EXIT_HALT);
}

static uint64_t logged(unsigned i) {
    uint64_t v;
    memcpy(&v, g.ram + A_LOG + i * 8, 8);
    return i ? v - GUEST_BASE - A_CODE : v;
}

static const uint32_t lengths[] = {0, 1, 2};
#define LENGTHS ((int)(sizeof lengths / sizeof *lengths))

CODE(step_code, "  pushfq\n"               /* 0 */
                "  orl $0x100, (%rsp)\n"   /* 1 */
                "  popfq\n"                /* 8: TF from here on */
                "  nop\n"                  /* 9 */
                "  int $0x40\n"            /* 10: no trap of its own */
                "  incq %rbx\n"            /* 12 */
                "  pushfq\n"               /* 15 */
                "  andl $~0x100, (%rsp)\n" /* 16 */
                "  popfq\n"                /* 23 */
                "  nop\n"                  /* 24 */
                "  hlt\n");

START_TEST(single_stepping_traps_after_each_instruction) {
    static const uint64_t want[] = {10, 15, 16, 23, 24};
    start(step_code, step_code_end, lengths[_i]);
    g.ram[0x7ffe] = 0x48, g.ram[0x7fff] = 0xcf; /* IRETQ */
    gate(0x40, GUEST_BASE + 0x7ffe);
    run();
    ck_assert_uint_eq(logged(0), 5);
    for (unsigned i = 0; i < 5; i++)
        ck_assert_uint_eq(logged(i + 1), want[i]);
    ck_assert_uint_eq(g.cpu->dr[6], DR6_FIXED | DR6_BS);
    guest_destroy(&g);
}
END_TEST

CODE(break_code, "  mov $0x1000800a, %eax\n" /* 0 */
                 "  mov %rax, %dr0\n"        /* 5 */
                 "  nop\n  nop\n"            /* 8 */
                 "  mov $0x10003800, %ecx\n" /* 10 */
                 "  mov %rcx, %dr1\n"        /* 15 */
                 "  mov $0x00d00005, %eax\n" /* 18: DR1 write 4 bytes; DR0 execute */
                 "  mov %rax, %dr7\n"        /* 23 */
                 "  mov (%rcx), %edx\n"      /* 26 */
                 "  movb $1, 3(%rcx)\n"      /* 28: traps at 32 */
                 "  jmp 1f\n"                /* 32 */
                 "1:mov %rsp, %rbp\n"        /* 34 */
                 "  mov $0x10003800, %esp\n" /* 37 */
                 "  add $4, %esp\n"          /* 42 */
                 "  push %rax\n"             /* 45: traps at 46 */
                 "  mov %rbp, %rsp\n"        /* 46 */
                 "  jmp . - 39\n");          /* 49: to 10, which breaks once */

START_TEST(breakpoints_hit_whatever_the_block_length) {
    start(break_code, break_code_end, lengths[_i]);
    cpu_run(g.cpu, cpu_insns(g.cpu) + 3 + 7 + 2 * 16 + 8);
    ck_assert_uint_ge(logged(0), 3);
    ck_assert_uint_eq(logged(1), 32);
    ck_assert_uint_eq(logged(2), 46);
    ck_assert_uint_eq(logged(3), 10);
    ck_assert_uint_eq(g.cpu->dr[6] & 15, 1);
    guest_destroy(&g);
}
END_TEST

CODE(shadow_code, "  mov $0x31, %eax\n" /* 0 */
                  "  mov $0x10, %ecx\n" /* 5 */
                  "  cli\n"             /* 10 */
                  "  out %al, $0x80\n"  /* 11: raises the line */
                  "  nop\n"             /* 13 */
                  "  sti\n"             /* 14 */
                  "  inc %ebx\n"        /* 15 */
                  "  inc %ebx\n"        /* 17: the interrupt comes before this */
                  "  out %al, $0x80\n"  /* 19 */
                  "  inc %ebx\n"        /* 21: and before this */
                  "  mov %ecx, %ss\n"   /* 23 */
                  "  inc %ebx\n"        /* 25 */
                  "  hlt\n");

START_TEST(an_interrupt_waits_for_the_shadow_to_end) {
    start(shadow_code, shadow_code_end, lengths[_i]);
    run();
    ck_assert_uint_eq(logged(0), 2);
    ck_assert_uint_eq(logged(1), 17);
    ck_assert_uint_eq(logged(2), 21);
    ck_assert_uint_eq(g.cpu->gpr[R_BX], 4);
    guest_destroy(&g);
}
END_TEST

CODE(fault_code, "  mov $0x8000000000000000, %rax\n" /* 0 */
                 "  xor %ebx, %ebx\n"                /* 10 */
                 "  int3\n"                          /* 12 */
                 "  push $2f - . - 2\n"              /* 13 */
                 "2:inc %ebx\n"                      /* 15 */
                 "  pop %rcx\n"                      /* 17 */
                 "  hlt\n");

START_TEST(a_fault_and_an_int3_know_their_rip) {
    start(fault_code, fault_code_end, lengths[_i]);
    run();
    ck_assert_uint_eq(logged(0), 1);
    ck_assert_uint_eq(logged(1), 13);
    ck_assert_uint_eq(g.cpu->gpr[R_BX], 1);
    guest_destroy(&g);
}
END_TEST

/* ---- From reset to long mode, by the guest's own code ---- */

/* Runs at 0:0x8000 in real mode. Each stage adds a letter to the text at 0x600. */
__asm__(".pushsection .rodata\n"
        "boot:\n.code16\n"
        "  xorw %ax, %ax\n  movw %ax, %ds\n  movw %ax, %es\n  movw %ax, %ss\n"
        "  movw $0x7000, %sp\n"
        "  cld\n  movw $0x600, %di\n"
        "  movb $'r', %al\n  stosb\n"
        /* INT through the vector table; the handler is a far routine of ours. */
        "  movw $(0x8000 + isr16 - boot), 0x84\n  movw $0, 0x86\n"
        "  int $0x21\n"
        "  lcall $0x800, $(far16 - boot)\n"
        "  lgdtl (0x8000 + gdt_ptr - boot)\n"
        "  movl %cr0, %eax\n  orb $1, %al\n  movl %eax, %cr0\n"
        "  ljmpl $0x08, $(0x8000 + prot - boot)\n"
        "isr16:\n  movb $'i', %al\n  stosb\n  iretw\n"
        "far16:\n  movb $'f', %al\n  stosb\n  lretw\n"
        ".code32\n"
        "prot:\n"
        "  movw $0x10, %ax\n  movw %ax, %ds\n  movw %ax, %es\n  movw %ax, %ss\n"
        "  movl $0x7000, %esp\n"
        "  movb $'p', %al\n  stosb\n"
        "  lidtl (0x8000 + idt_ptr - boot)\n"
        "  movw $0x28, %ax\n  ltr %ax\n"
        /* Ring 3 by IRET; it comes back by INT 0x30 to a gate of DPL 3. */
        "  pushl $0x23\n  pushl $0x6800\n  pushl $0x3002\n  pushl $0x1b\n"
        "  pushl $(0x8000 + user - boot)\n"
        "  iretl\n"
        "user:\n"
        "  movw $0x23, %ax\n  movw %ax, %ds\n  movw %ax, %es\n"
        "  movb $'u', %al\n  stosb\n"
        "  int $0x30\n"
        "gate30:\n"
        "  movw $0x10, %ax\n  movw %ax, %ds\n  movw %ax, %es\n"
        "  movb $'g', %al\n  stosb\n"
        "  cmpl $0x6800, 12(%esp)\n  jne fail\n"
        /* A task switch and its way back by IRET with NT. */
        "  movl $0x28, 0x5000\n"
        "  lcall $0x30, $0\n"
        "  movb $'b', %al\n  movl $0x606, %edi\n  incl %edi\n  stosb\n"
        "  jmp vm\n"
        "task:\n"
        "  movb $'t', 0x606\n"
        "  iretl\n"
        /* Virtual-8086 mode: its INT faults to the monitor (#GP). */
        "vm:\n"
        "  clts\n"
        "  pushl $0\n  pushl $0\n  pushl $0\n  pushl $0\n  pushl $0\n  pushl $0x6000\n"
        "  pushl $0x20002\n  pushl $0x800\n  pushl $(vm86 - boot)\n"
        "  iretl\n"
        ".code16\n"
        "vm86:\n"
        "  movb $'v', %al\n  stosb\n"
        "  int $0x21\n"
        ".code32\n"
        "gp:\n"
        "  movw $0x10, %ax\n  movw %ax, %ds\n  movw %ax, %es\n"
        "  cmpl $(vm86 - boot + 3), 4(%esp)\n  jne fail\n"
        "  testl $0x20000, 12(%esp)\n  jz fail\n"
        "  movb $'m', %al\n  stosb\n"
        /* PAE, LME, paging: identity map of 2 MiB at 0xa000. */
        "  movl $0xb003, 0xa000\n  movl $0xc003, 0xb000\n  movl $0x83, 0xc000\n"
        "  movl %cr4, %eax\n  orl $0x20, %eax\n  movl %eax, %cr4\n"
        "  movl $0xa000, %eax\n  movl %eax, %cr3\n"
        "  movl $0xc0000080, %ecx\n  rdmsr\n  orl $0x100, %eax\n  wrmsr\n"
        "  movl %cr0, %eax\n  orl $0x80000000, %eax\n  movl %eax, %cr0\n"
        "  movb $'c', %al\n  stosb\n"
        "  ljmpl $0x38, $(0x8000 + wide - boot)\n"
        "fail:\n  movb $'!', %al\n  stosb\n  hlt\n"
        ".code64\n"
        "wide:\n"
        "  movb $'l', %al\n  stosb\n"
        "  movq $0x1122334455667788, %rax\n  shrq $56, %rax\n  cmpb $0x11, %al\n"
        "  movl $'!', %eax\n  movl $'6', %ecx\n  cmovel %ecx, %eax\n  stosb\n"
        /* Back to compatibility mode and out of long mode. */
        "  pushq $0x08\n  pushq $(0x8000 + compat - boot)\n  lretq\n"
        ".code32\n"
        "compat:\n"
        "  movl %cr0, %eax\n  andl $0x7fffffff, %eax\n  movl %eax, %cr0\n"
        "  movb $'p', %al\n  stosb\n"
        "  ljmpl $0x40, $(half - boot)\n"
        ".code16\n"
        "half:\n"
        "  movw $0x48, %ax\n  movw %ax, %ds\n  movw %ax, %es\n  movw %ax, %ss\n"
        "  movl %cr0, %eax\n  andb $0xfe, %al\n  movl %eax, %cr0\n"
        "  ljmpw $0x800, $(again - boot)\n"
        "again:\n"
        "  xorw %ax, %ax\n  movw %ax, %ds\n  movw %ax, %es\n"
        "  movb $'r', %al\n  stosb\n"
        "  hlt\n"
        ".balign 8\n"
        "gdt:\n"
        "  .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n"
        "  .quad 0x00cffb000000ffff, 0x00cff3000000ffff\n"
        "  .quad 0x0000890049000067\n" /* 28: TSS at 0x4900 */
        "  .quad 0x0000890050000067\n" /* 30: TSS at 0x5000 */
        "  .quad 0x00af9b000000ffff\n" /* 38: 64-bit */
        "  .quad 0x00009b008000ffff\n" /* 40: 16-bit code at 0x8000 */
        "  .quad 0x000093000000ffff\n" /* 48: 16-bit data */
        "gdt_end:\n"
        "gdt_ptr:\n  .word gdt_end - gdt - 1\n  .long 0x8000 + gdt - boot\n"
        "idt_ptr:\n  .word 0x1ff\n  .long 0x4000\n"
        "boot_end:\n"
        ".code64\n"
        ".popsection");
extern const uint8_t boot[], boot_end[], gate30[], gp[], task[];

static void gate32(unsigned vector, const uint8_t *handler, unsigned dpl) {
    uint64_t at = 0x8000 + (uint64_t)(handler - boot);
    uint64_t raw = at | 8 << 16 | (uint64_t)(0x8e | dpl << 5) << 40;
    memcpy(g.ram + 0x4000 + vector * 8, &raw, 8);
}

static void put32(uint32_t at, uint32_t v) {
    memcpy(g.ram + at, &v, 4);
}

START_TEST(a_boot_goes_through_all_modes) {
    struct guest_options opt = {.max_block = lengths[_i]};
    guest_create(&g, &opt);
    cpu_reset(g.cpu);
    memcpy(g.ram + 0x8000, boot, (size_t)(boot_end - boot));
    gate32(0x30, gate30, 3);
    gate32(VEC_GP, gp, 0);
    put32(0x4904, 0x6f00); /* ESP0, SS0 */
    put32(0x4908, 0x10);
    put32(0x5020, 0x8000 + (uint32_t)(task - boot));
    put32(0x5024, 2);
    put32(0x5038, 0x6400); /* ESP */
    static const uint32_t sel[] = {0x10, 8, 0x10, 0x10, 0, 0};
    for (unsigned i = 0; i < 6; i++)
        put32(0x5048 + i * 4, sel[i]);
    g.cpu->seg[SEG_CS].sel = 0;
    g.cpu->seg[SEG_CS].base = 0;
    g.cpu->rip = 0x8000;
    cpu_update_mode(g.cpu);
    enum cpu_exit x = cpu_run(g.cpu, cpu_insns(g.cpu) + 10000);
    g.ram[0x640] = 0;
    ck_assert_str_eq((char *)g.ram + 0x600, "rifpugtbvmcl6pr");
    ck_assert_int_eq(x, CPU_EXIT_HALT);
    ck_assert_uint_eq(g.cpu->mode & (MODE_PE | MODE_LMA), 0);
    guest_destroy(&g);
}
END_TEST

SUITE("cpu system behaviour",
      .loops = {{single_stepping_traps_after_each_instruction, LENGTHS},
                {breakpoints_hit_whatever_the_block_length, LENGTHS},
                {an_interrupt_waits_for_the_shadow_to_end, LENGTHS},
                {a_fault_and_an_int3_know_their_rip, LENGTHS},
                {a_boot_goes_through_all_modes, LENGTHS}})
