/* SPDX-License-Identifier: MIT */
/*
 * Ring 0 of the embedded guest: its start, its traps, its end. tables.c does what ring 3
 * asks of the page tables.
 */
#include "penumbra/mark.h"
#include "ring0.h"

struct table_ptr {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

struct tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3, bitmap_offset;
    uint8_t bitmap[8193]; /* 0: ring 3 may use the port */
} __attribute__((packed));

extern char guest_start[], guest_end[];
extern char kernel_stack_top[], trap_entries[], syscall_entry[];
void load_segments(const struct table_ptr *gdtr, const struct table_ptr *idtr);
void enter_user(void (*rip)(const struct params *), void *rsp, const void *params)
    __attribute__((noreturn));
void user_main(const struct params *params);
extern struct params user_params;
extern char user_stack[USER_STACK];
void kernel_main(const uint8_t *boot_params);
void trap(struct trap_frame *f);

static uint64_t gdt[7], idt[64];
static struct tss tss;
uint64_t counts[COUNTS];

static void print(const char *s) {
    for (; *s; s++) {
        while (!(inb(PORT_SERIAL + 5) & 0x20))
            ;
        outb(PORT_SERIAL, (uint8_t)*s);
    }
}

static void print_hex(uint64_t v) {
    char buf[17];
    for (int i = 0; i < 16; i++, v <<= 4)
        buf[i] = "0123456789abcdef"[v >> 60];
    buf[16] = 0;
    print(buf);
}

static __attribute__((noreturn)) void end_guest(uint64_t v) {
    if (v) {
        outb(PORT_DEBUG_EXIT, (uint8_t)(v - 1));
    } else {
        outw(0x604, 0x2000 | 5 << 10); /* ACPI: SLP_EN with the type of S5 */
        outw(0x604, 0x2000);           /* the type where it is 0 */
    }
    for (;;)
        __asm__ volatile("cli; hlt");
}

__attribute__((noreturn)) void panic(const char *what, const struct trap_frame *f) {
    print("guest: unexpected ");
    print(what);
    if (f) {
        print(" vector ");
        print_hex(f->vector);
        print(" error ");
        print_hex(f->error);
        print(" rip ");
        print_hex(f->rip);
    }
    print("\r\n");
    end_guest(0x11); /* 33: WORKLOAD_EXIT_WRONG */
}

/* ---- Calls ---- */

static uint64_t exits(uint64_t kind, uint64_t n, uint64_t gva) {
    uint32_t out[4];
    for (; n; n--) {
        if (kind == EXIT_OUT)
            outb(PORT_ECHO, (uint8_t)n);
        else if (kind == EXIT_CPUID)
            cpuid(0, out);
        else
            *(volatile uint32_t *)gva = (uint32_t)n;
    }
    return 0;
}

static uint64_t call(const struct trap_frame *f) {
    uint64_t a = f->rdi, b = f->rsi, c = f->rdx, d = f->rcx;
    switch ((enum call)f->rax) {
    case CALL_NULL:
        return 0;
    case CALL_EXIT:
        end_guest(a);
    case CALL_COUNT:
        return a < COUNTS ? counts[a] : 0;
    case CALL_ALLOC:
        return tables_alloc(a, b);
    case CALL_MAP:
        return tables_map(a, b, c, d);
    case CALL_UNMAP:
        return tables_unmap(a, b, c);
    case CALL_ON_FAULT:
        return tables_on_fault(a, b, c, d);
    case CALL_PROTECT:
        return tables_protect(a, b);
    case CALL_SWAP:
        return tables_swap(a, b);
    case CALL_SPACE:
        return tables_space();
    case CALL_SWITCH:
        return tables_switch(a, b);
    case CALL_PCID:
        return tables_pcid(a);
    case CALL_FORK:
        return tables_fork(a, b, c);
    case CALL_DROP:
        return tables_drop(a, b, c);
    case CALL_SPLIT:
        return tables_split(a);
    case CALL_MERGE:
        return tables_merge(a);
    case CALL_CLEAN:
        return tables_bits(a, b, PTE_D, 1);
    case CALL_DIRTY:
        return tables_bits(a, b, PTE_D, 0);
    case CALL_ACCESSED:
        return tables_bits(a, b, PTE_A, 0);
    case CALL_TABLES:
        return tables_list((uint64_t *)a, b);
    case CALL_NESTED:
        return nested_set_up(a, b, c, d);
    case CALL_NESTED_RUN:
        nested_run();
        return 0;
    case CALL_TRAP:
        return exits(a, b, c);
    }
    panic("call", 0);
}

/* ---- Traps ---- */

/* UD2, or a VMCALL or VMMCALL that no hypervisor takes. */
static void invalid_opcode(struct trap_frame *f) {
    if (((const uint8_t *)f->rip)[1] == 0x0b) {
        f->rip += 2;
        f->rax = call(f);
    } else {
        f->rip += 3;
        counts[COUNT_NO_HYPERCALL]++;
    }
}

void trap(struct trap_frame *f) {
    if (!(f->cs & 3))
        panic("exception in ring 0:", f);
    uint64_t cr2;
    switch (f->vector) {
    case 14:
        __asm__ volatile("movq %%cr2, %0" : "=r"(cr2));
        if (tables_fault(cr2, f->error))
            panic("page fault", f);
        return;
    case 6:
        invalid_opcode(f);
        return;
    case 3:
        f->rax = call(f);
        return;
    case 13:
        if (!f->error) {
            counts[COUNT_DENIED_IO]++;
            f->rip += 1; /* past the OUT */
            return;
        }
        break;
    }
    panic("exception:", f);
}

/* ---- Start ---- */

static void allow_port(unsigned port) {
    tss.bitmap[port / 8] &= (uint8_t) ~(1u << port % 8);
}

static void make_segments(void) {
    uint64_t base = (uint64_t)&tss;
    gdt[1] = 0x00af9b000000fffful; /* 0x08 ring-0 code, 64-bit */
    gdt[2] = 0x00cf93000000fffful; /* 0x10 ring-0 data */
    gdt[3] = 0x00cff3000000fffful; /* 0x18 ring-3 data */
    gdt[4] = 0x00affb000000fffful; /* 0x20 ring-3 code, 64-bit */
    gdt[5] = (sizeof(tss) - 1) | (base & 0xffffff) << 16 | 0x89ul << 40 |
             (base >> 24 & 0xff) << 56;
    gdt[6] = base >> 32;
    tss.rsp[0] = (uint64_t)kernel_stack_top;
    tss.bitmap_offset = __builtin_offsetof(struct tss, bitmap);
    for (unsigned i = 0; i < sizeof(tss.bitmap); i++)
        tss.bitmap[i] = 0xff;
    for (unsigned i = 0; i < 8; i++)
        allow_port(PORT_SERIAL + i);
    for (unsigned i = 0; i < 4; i++)
        allow_port(PN_MARK_PORT + i);
    allow_port(PORT_ECHO);
    for (uint64_t v = 0; v < 32; v++) {
        uint64_t at = (uint64_t)trap_entries + 16 * v, dpl = v == 3 ? 3 : 0;
        idt[2 * v] = (at & 0xffff) | 0x08ul << 16 | (0x8eul | dpl << 5) << 40 |
                     (at >> 16 & 0xffff) << 48;
        idt[2 * v + 1] = at >> 32;
    }
    const struct table_ptr gdtr = {sizeof(gdt) - 1, (uint64_t)gdt};
    const struct table_ptr idtr = {sizeof(idt) - 1, (uint64_t)idt};
    load_segments(&gdtr, &idtr);
    write_msr(0xc0000081, 0x08ul << 32);            /* STAR: ring 0 at 0x08, 0x10 */
    write_msr(0xc0000082, (uint64_t)syscall_entry); /* LSTAR */
    write_msr(0xc0000084, 0x47700);                 /* FMASK */
}

/* Linux's boot protocol: E820 entries and the command line in boot_params. */
static void read_boot_params(const uint8_t *bp) {
    const uint8_t *e = bp + 0x2d0;
    uint64_t end = 0x200000;
    for (unsigned i = 0; i < bp[0x1e8] && i < 128; i++, e += 20) {
        uint64_t start = *(const uint64_t *)e, size = *(const uint64_t *)(e + 8);
        if (*(const uint32_t *)(e + 16) != 1)
            continue;
        user_params.memory += size;
        if (start <= 0x200000 && start + size > end)
            end = start + size;
    }
    const char *line = (const char *)(uint64_t) * (const uint32_t *)(bp + 0x228);
    for (unsigned i = 0; line && line[i] && i < LINE_MAX - 1; i++)
        user_params.line[i] = line[i];
    tables_init(end);
    user_params.free = tables_free();
}

/* 8 bits, no parity, 115200 baud, FIFOs on, no interrupts. */
static void serial_init(void) {
    outb(PORT_SERIAL + 1, 0);
    outb(PORT_SERIAL + 3, 0x80); /* the divisor's latch */
    outb(PORT_SERIAL, 1);
    outb(PORT_SERIAL + 1, 0);
    outb(PORT_SERIAL + 3, 0x03);
    outb(PORT_SERIAL + 2, 0x07);
}

/* KVM's dirty log counts a page's first mapping as a write: let all of the image have it
 * now, under every MMU, and not whenever some code first runs. */
static void touch_image(void) {
    for (volatile char *p = guest_start; p < guest_end; p += PAGE)
        *p = *p;
}

__attribute__((cold)) void kernel_main(const uint8_t *boot_params) {
    touch_image();
    serial_init();
    read_boot_params(boot_params);
    make_segments();
    enter_user(user_main, user_stack + USER_STACK - 8, &user_params);
}
