/* SPDX-License-Identifier: MIT */
/*
 * Ring 0 of the embedded guest: its tables, and what ring 3 cannot do itself.
 *
 * Invariants
 * 1. Physical memory: the image in its first 2 MiB, page tables and demand pages above,
 *    given out once and never taken back; so fresh pages are zero without being cleared.
 * 2. Kernel memory is mapped one to one in both address spaces, supervisor only.
 */
#include "abi.h"

#define PTE_P  0x1ul
#define PTE_W  0x2ul
#define PTE_U  0x4ul
#define PTE_A  0x20ul
#define PTE_D  0x40ul
#define PTE_PS 0x80ul
#define PTE_NX (1ul << 63)
#define FRAME  0x000ffffffffff000ul

#define MEMORY_TOP (1ul << 30) /* one page directory of identity map */

struct trap_frame {
    uint64_t rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

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

extern char user_text_start[], user_text_end[], user_data_start[], user_data_end[];
extern char kernel_stack_top[], trap_entries[];
void load_segments(const struct table_ptr *gdtr, const struct table_ptr *idtr);
void enter_user(void (*rip)(const struct params *), void *rsp, const void *params)
    __attribute__((noreturn));
void user_main(const struct params *params);
extern struct params user_params;
extern char user_stack[USER_STACK];
void kernel_main(const uint8_t *boot_params);
void trap(struct trap_frame *f);

static uint64_t pml4[2][512] __attribute__((aligned(4096)));
static uint64_t pdpt[512] __attribute__((aligned(4096)));
static uint64_t pd[512] __attribute__((aligned(4096)));
static uint64_t pt[512] __attribute__((aligned(4096)));
static uint64_t gdt[7], idt[64];
static struct tss tss;
static uint64_t next_page, memory_end;
static uint64_t counts[COUNTS];
static struct params params = {
    .pages = 4096, .swaps = 2000, .flips = 2000, .switches = 1000, .compute = 20000000};

static inline void outb(uint16_t port, uint8_t v) {
    __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint8_t inb(uint16_t port) {
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline void outw(uint16_t port, uint16_t v) {
    __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port));
}

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

static __attribute__((noreturn)) void end_guest(int failed) {
    if (failed) {
        outb(PORT_DEBUG_EXIT, 0x10);
    } else if (params.exit) {
        outb(PORT_DEBUG_EXIT, (uint8_t)(params.exit - 1));
    } else {
        outw(0x604, 0x2000 | 5 << 10); /* ACPI: SLP_EN with the type of S5 */
        outw(0x604, 0x2000);           /* the type where it is 0 */
    }
    for (;;)
        __asm__ volatile("cli; hlt");
}

static __attribute__((noreturn)) void panic(const char *what,
                                            const struct trap_frame *f) {
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
    end_guest(1);
}

/* ---- Memory ---- */

static uint64_t alloc_page(void) {
    if (next_page + PAGE > memory_end)
        panic("end of memory", 0);
    uint64_t page = next_page;
    next_page += PAGE;
    return page;
}

/* The leaf entry of gva in address space `space`; tables are made as needed. */
static uint64_t *leaf(unsigned space, uint64_t gva) {
    uint64_t *table = pml4[space];
    for (int shift = 39; shift > 12; shift -= 9) {
        uint64_t *e = &table[gva >> shift & 511];
        if (!(*e & PTE_P))
            *e = alloc_page() | PTE_P | PTE_W | PTE_U;
        table = (uint64_t *)(*e & FRAME);
    }
    return &table[gva >> 12 & 511];
}

static inline void invlpg(uint64_t gva) {
    __asm__ volatile("invlpg (%0)" : : "r"(gva) : "memory");
}

static inline void load_cr3(const uint64_t *root) {
    __asm__ volatile("movq %0, %%cr3" : : "r"(root) : "memory");
}

static void make_tables(void) {
    for (uint64_t i = 0; i < 512; i++) {
        uint64_t at = i * PAGE, flags = PTE_P | PTE_W;
        if (at >= (uint64_t)user_text_start && at < (uint64_t)user_text_end)
            flags = PTE_P | PTE_U;
        else if (at >= (uint64_t)user_data_start && at < (uint64_t)user_data_end)
            flags = PTE_P | PTE_W | PTE_U | PTE_NX;
        pt[i] = at | flags;
        pd[i] = i << 21 | PTE_P | PTE_W | PTE_PS | PTE_NX;
    }
    pd[0] = (uint64_t)pt | PTE_P | PTE_W | PTE_U;
    pdpt[0] = (uint64_t)pd | PTE_P | PTE_W | PTE_U;
    for (unsigned space = 0; space < 2; space++) {
        pml4[space][0] = (uint64_t)pdpt | PTE_P | PTE_W | PTE_U;
        *leaf(space, PRIVATE) = alloc_page() | PTE_P | PTE_W | PTE_U | PTE_NX;
    }
    leaf(0, REGION); /* so that both spaces share what lies below its top entry */
    pml4[1][REGION >> 39 & 511] = pml4[0][REGION >> 39 & 511];
    uint32_t lo, hi;
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(0xc0000080));
    __asm__ volatile("wrmsr" : : "a"(lo | 0x800), "d"(hi), "c"(0xc0000080)); /* NXE */
    load_cr3(pml4[0]);
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
    tss.bitmap[PORT_SERIAL / 8] = 0; /* 0x3f8..0x3ff */
    for (uint64_t v = 0; v < 32; v++) {
        uint64_t at = (uint64_t)trap_entries + 16 * v, dpl = v == 3 ? 3 : 0;
        idt[2 * v] = (at & 0xffff) | 0x08ul << 16 | (0x8eul | dpl << 5) << 40 |
                     (at >> 16 & 0xffff) << 48;
        idt[2 * v + 1] = at >> 32;
    }
    const struct table_ptr gdtr = {sizeof(gdt) - 1, (uint64_t)gdt};
    const struct table_ptr idtr = {sizeof(idt) - 1, (uint64_t)idt};
    load_segments(&gdtr, &idtr);
}

/* ---- Traps ---- */

static int in_region(uint64_t gva) {
    return gva >= REGION && gva < REGION + params.pages * PAGE;
}

static void page_fault(const struct trap_frame *f) {
    uint64_t gva;
    __asm__ volatile("movq %%cr2, %0" : "=r"(gva));
    if (!in_region(gva))
        panic("page fault", f);
    uint64_t *e = leaf(0, gva);
    if (!(f->error & 1) && !*e) {
        *e = alloc_page() | PTE_P | PTE_W | PTE_U | PTE_NX;
        counts[COUNT_DEMAND]++;
    } else if ((f->error & 3) == 3 && !(*e & PTE_W)) {
        *e |= PTE_W;
        invlpg(gva);
        counts[COUNT_WRITE_FAULTS]++;
    } else {
        panic("page fault", f);
    }
}

/* CLEAN and DIRTY: the D bits of n pages, cleared or counted. */
static uint64_t dirty_bits(uint64_t gva, uint64_t n, int clear) {
    uint64_t dirty = 0;
    for (; n; n--, gva += PAGE) {
        uint64_t *e = leaf(0, gva);
        dirty += *e >> 6 & 1;
        if (clear)
            *e &= ~(PTE_A | PTE_D);
    }
    return dirty;
}

static uint64_t protect(uint64_t gva, uint64_t n) {
    for (; n; n--, gva += PAGE) {
        *leaf(0, gva) &= ~PTE_W;
        invlpg(gva);
    }
    return 0;
}

static uint64_t swap(uint64_t a, uint64_t b) {
    uint64_t *ea = leaf(0, a), *eb = leaf(0, b), e = *ea;
    *ea = *eb;
    *eb = e;
    invlpg(a);
    invlpg(b);
    return 0;
}

static uint64_t call(uint64_t number, uint64_t a, uint64_t b) {
    switch (number) {
    case CALL_EXIT:
        end_guest(a != 0);
    case CALL_SWAP:
        return swap(a, b);
    case CALL_PROTECT:
        return protect(a, b);
    case CALL_SWITCH:
        load_cr3(pml4[a & 1]);
        return 0;
    case CALL_CLEAN:
        dirty_bits(a, b, 1);
        load_cr3(pml4[0]); /* flushes: no page here is global */
        return 0;
    case CALL_DIRTY:
        return dirty_bits(a, b, 0);
    case CALL_COUNT:
        return a < COUNTS ? counts[a] : 0;
    }
    panic("call", 0);
}

void trap(struct trap_frame *f) {
    if (!(f->cs & 3))
        panic("exception in ring 0:", f);
    if (f->vector == 14) {
        page_fault(f);
    } else if (f->vector == 6) {
        f->rip += 2; /* past the UD2 */
        f->rax = call(f->rax, f->rdi, f->rsi);
    } else if (f->vector == 13 && !f->error) {
        counts[COUNT_DENIED_IO]++;
        f->rip += 1; /* past the OUT */
    } else {
        panic("exception:", f);
    }
}

/* ---- Start ---- */

/* The number after "name=" in the command line, or the default. */
static uint64_t parameter(const char *line, const char *name, uint64_t value) {
    for (const char *p = line; *p; p++) {
        const char *a = p, *b = name;
        if (p != line && p[-1] != ' ')
            continue;
        while (*b && *a == *b)
            a++, b++;
        if (*b || *a != '=')
            continue;
        value = 0;
        for (a++; *a >= '0' && *a <= '9'; a++)
            value = value * 10 + (uint64_t)(*a - '0');
    }
    return value;
}

static void read_parameters(const char *line) {
    params.pages = parameter(line, "pages", params.pages);
    params.swaps = parameter(line, "swaps", params.swaps);
    params.flips = parameter(line, "flips", params.flips);
    params.switches = parameter(line, "switches", params.switches);
    params.compute = parameter(line, "compute", params.compute);
    params.exit = parameter(line, "exit", params.exit);
}

/* Linux's boot protocol: E820 entries and the command line in boot_params. */
static void read_boot_params(const uint8_t *bp) {
    const uint8_t *e = bp + 0x2d0;
    memory_end = 0x400000;
    for (unsigned i = 0; i < bp[0x1e8] && i < 128; i++, e += 20) {
        uint64_t start = *(const uint64_t *)e, size = *(const uint64_t *)(e + 8);
        if (*(const uint32_t *)(e + 16) != 1)
            continue;
        params.memory += size;
        if (start <= 0x200000 && start + size > memory_end)
            memory_end = start + size;
    }
    if (memory_end > MEMORY_TOP)
        memory_end = MEMORY_TOP;
    const char *line = (const char *)(uint64_t) * (const uint32_t *)(bp + 0x228);
    if (line)
        read_parameters(line);
    next_page = 0x200000;
    uint64_t most = (memory_end - next_page) / PAGE * 7 / 8; /* the rest is for tables */
    if (params.pages > most)
        params.pages = most;
    if (params.pages < 16)
        params.pages = 16;
    if (params.flips > params.pages)
        params.flips = params.pages;
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

void kernel_main(const uint8_t *boot_params) {
    serial_init();
    read_boot_params(boot_params);
    make_tables();
    make_segments();
    user_params = params;
    enter_user(user_main, user_stack + USER_STACK - 8, &user_params);
}
