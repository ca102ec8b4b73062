/* SPDX-License-Identifier: MIT */
/*
 * VMX: exit qualifications, events and what else an exit says, but of operands (test_vmx_info.c).
 * Every row of src/cpu/vmx_words.inc is seen with each of its values, under both MMUs, as an
 * instruction of L2's causes it, or an event while L2 runs, or VMLAUNCH. What is expected is the
 * manual's, once more, as a number.
 */
#include "fixture_vmxl2.h"
#include "tests/suite.h"

#define PAGE    0x50000u /* of L2's, to be denied, and for other purposes */
#define APIC    0x51000u
#define TASKS   0x60000u /* a GDT of 64 KiB */
#define LIST    0x70000u /* of MSRs: two pages */
#define PAE     0x80000u
#define FAR_AT  0x600000u /* a linear address with a page table of its own */
#define FAR_PDE (GUEST_CR3 + 0x2000 + ((GUEST_BASE + FAR_AT) >> 21) * 8)
#define LIN(at) (GUEST_BASE + (at))
#define VALID   (1ull << 31)
/* Controls. */
#define PIN_NMIS    (1u << 3 | 1u << 5) /* NMIs exit, and there are virtual ones */
#define LOAD_DEBUG  (1u << 2)
#define MUST_PIN    0x16u
#define TPR_SHADOW  (1u << 21)
#define MSR_BITMAPS (1u << 28)

static void reg(unsigned r, uint64_t value) {
    v2.cpu->gpr[r] = value;
}
static void exceptions(unsigned vector) {
    v2_put(VMCS_EXCEPTION_BITMAP, UINT64_C(1) << vector);
}

/* ---- Lengths, and exits that say nothing ---- */

static void lengths(void) {
    for (unsigned n = 1; n < 16; n++) {
        v2_fresh();
        v2_set(VMCS_PROC_CONTROLS, 1u << 7);
        for (unsigned i = 2; i < n; i++)
            V2_CODE(0x66);
        if (n == 1)
            V2_CODE(0xf4); /* hlt */
        else
            V2_CODE(0x0f, 0xa2); /* cpuid */
        v2_run(n == 1 ? 12 : 10);
        v2_says(W_LENGTH, n);
        v2_says(W_CLEAR, 0);
        v2_says(W_INFO_CLEAR, 0);
        v2_says(W_EVENT, 0);
        v2_says(W_EVENT_ERROR, 0);
        v2_says(W_VECTORING, 0);
        v2_says(W_VECTORING_ERROR, 0);
        v2_says(W_PENDING, 0);
        v2_says(W_BLOCKED, 0);
        v2_says(W_ACTIVITY, 0);
    }
}

/* ---- Exceptions ---- */

/* A breakpoint on stores to PAGE + 8 * i. */
static void breakpoint(unsigned i) {
    v2_set(VMCS_ENTRY_CONTROLS, LOAD_DEBUG);
    v2_put(VMCS_GUEST_DR7, 0x400 | 1u << 2 * i | 1u << (16 + 4 * i));
    v2.cpu->dr[i] = LIN(PAGE + 8 * i);
    reg(R_AX, v2.cpu->dr[i]);
    V2_CODE(0x88, 0x00, 0x90); /* mov [rax], al; nop */
}

static void debug_exceptions(void) {
    for (unsigned i = 0; i < 6; i++) {
        v2_fresh();
        exceptions(1);
        if (i < 4) {
            breakpoint(i);
        } else if (i == 4) {
            v2_put(VMCS_GUEST_RFLAGS, 0x102); /* TF */
            V2_CODE(0x90);
        } else {
            v2_set(VMCS_ENTRY_CONTROLS, LOAD_DEBUG);
            v2_put(VMCS_GUEST_DR7, 0x2400); /* GD */
            V2_CODE(0x0f, 0x21, 0xc0);      /* mov rax, dr0 */
        }
        v2_run(0);
        v2_says(W_DEBUG, i < 4 ? 1u << i : i == 4 ? 0x4000 : 0x2000);
        v2_says(W_EVENT, VALID | 3u << 8 | 1);
    }
}

static void addresses(void) {
    static const uint64_t at[] = {0x00002aaaaaaaaaaa, 0xffffd55555555555};
    for (unsigned i = 0; i < 4; i++) {
        v2_fresh();
        exceptions(14);
        v2_set(VMCS_PROC_CONTROLS, 1u << 9);
        reg(R_AX, at[i & 1]);
        if (i & 2)
            V2_CODE(0x0f, 0x01, 0x38); /* invlpg [rax] */
        else
            V2_CODE(0x8a, 0x00); /* mov al, [rax] */
        v2_run(i & 2 ? 14 : 0);
        v2_says(W_LINEAR, at[i & 1]);
        v2_says(W_EVENT, i & 2 ? 0 : VALID | 1u << 11 | 3u << 8 | 14);
        v2_says(W_EVENT_ERROR, 0);
    }
}

/* ---- Task switches ---- */

/* The descriptor of a task there, which ring 3 may name. */
static void task(unsigned sel, bool busy) {
    uint64_t d = 0x67 | 0x8000ull << 16 | 5ull << 32 | (busy ? 0xebull : 0xe9ull) << 40;
    l2_store(&v2, TASKS + (sel & ~7u), d, 8);
}

static void task_switches(void) {
    for (unsigned i = 0; i < 4; i++) {
        unsigned sel = i & 1 ? 0x5552 : 0xaaa9;
        v2_narrow();
        v2_put(VMCS_GUEST_GDTR_BASE, TASKS);
        v2_put(VMCS_GUEST_GDTR_LIMIT, 0xffff);
        v2_put(VMCS_GUEST_IDTR_BASE, PAGE);
        task(sel, i == 1);
        if (i == 0)
            V2_CODE(0x9a, 0, 0, 0, 0, 0xa9, 0xaa); /* call far */
        else if (i == 2)
            V2_CODE(0xea, 0, 0, 0, 0, 0xa9, 0xaa); /* jmp far */
        else if (i == 3)
            V2_CODE(0xcd, 0x30); /* int, by a task gate */
        else
            V2_CODE(0xcf);                              /* iret */
        v2_put(VMCS_GUEST_RFLAGS, i == 1 ? 0x4002 : 2); /* NT */
        l2_store(&v2, v2_get(VMCS_GUEST_TR_BASE), sel, 2);
        l2_store(&v2, PAGE + 0x30 * 8, sel << 16 | 0xe500ull << 32, 8);
        v2_run(9);
        v2_says(W_TASK, sel | i << 30);
        v2_says(W_LENGTH, i == 0 || i == 2 ? 7 : i == 1 ? 1 : 2);
        v2_says(W_VECTORING, i == 3 ? VALID | 4u << 8 | 0x30 : 0);
    }
}

/* ---- Registers ---- */

static void move(uint8_t opcode, unsigned nr, unsigned r) {
    V2_CODE((uint8_t)(0x40 | nr >> 3 << 2 | r >> 3), 0x0f, opcode,
            (uint8_t)(0xc0 | (nr & 7) << 3 | (r & 7)));
}

static void control_registers(void) {
    static const uint8_t crs[] = {0, 3, 4, 8};
    for (unsigned i = 0; i < 128; i++) {
        unsigned cr = crs[i & 3], from = i >> 2 & 1, r = i >> 3;
        if (from && (cr == 0 || cr == 4))
            continue; /* they are read from their shadows */
        v2_fresh();
        v2_set(VMCS_PROC_CONTROLS, 1u << 15 | 1u << 16 | 1u << 19 | 1u << 20);
        v2_put(VMCS_CR0_MASK, ~0ull);
        v2_put(VMCS_CR4_MASK, ~0ull);
        v2_put(VMCS_CR0_SHADOW, 1);
        v2_put(VMCS_CR4_SHADOW, 1);
        move(from ? 0x20 : 0x22, cr, r);
        v2_run(28);
        v2_says(W_CR, cr | from << 4 | r << 8);
    }
    for (unsigned i = 0; i < 5; i++) {
        unsigned source = i & 1 ? 0x5555 : 0xaaaa;
        v2_fresh();
        v2_put(VMCS_CR0_MASK, CR0_TS);
        v2_put(VMCS_CR0_SHADOW, i & 1 || i == 4 ? CR0_TS : 0);
        l2_store(&v2, PAGE, source, 2);
        reg(R_AX, i < 2 ? source : LIN(PAGE));
        if (i == 4)
            V2_CODE(0x0f, 0x06); /* clts */
        else
            V2_CODE(0x0f, 0x01, i < 2 ? 0xf0 : 0x30); /* lmsw ax, [rax] */
        v2_run(28);
        v2_says(W_CR, i == 4 ? 2u << 4 : 3u << 4 | (i > 1) << 6 | source << 16);
        ck_assert_uint_eq(v2_get(VMCS_GUEST_LINEAR), i > 1 && i < 4 ? LIN(PAGE) : 0);
    }
}

static void debug_registers(void) {
    for (unsigned i = 0; i < 256; i++) {
        unsigned dr = i & 7, from = i >> 3 & 1, r = i >> 4;
        v2_fresh();
        v2_set(VMCS_PROC_CONTROLS, 1u << 23);
        move(from ? 0x21 : 0x23, dr, r);
        v2_run(29);
        v2_says(W_DR, dr | from << 4 | r << 8);
    }
}

/* ---- Ports ---- */

static void ports(void) {
    static const struct {
        uint8_t opcode, size, in, string, immediate;
    } each[] = {{0xe4, 1, 1, 0, 1}, {0xe5, 4, 1, 0, 1}, {0xe6, 1, 0, 0, 1},
                {0xe7, 4, 0, 0, 1}, {0xec, 1, 1, 0, 0}, {0xed, 4, 1, 0, 0},
                {0xee, 1, 0, 0, 0}, {0xef, 4, 0, 0, 0}, {0x6c, 1, 1, 1, 0},
                {0x6d, 4, 1, 1, 0}, {0x6e, 1, 0, 1, 0}, {0x6f, 4, 0, 1, 0}};
    for (unsigned i = 0; i < 12 * 4; i++) {
        unsigned k = i % 12, half = i / 12 & 1, rep = i / 24 && each[k].string;
        unsigned port = each[k].immediate ? 0x5a : half ? 0x5555 : 0xaaaa;
        unsigned size = each[k].size == 4 && half ? 2 : each[k].size;
        v2_fresh();
        v2_set(VMCS_PROC_CONTROLS, 1u << 24);
        reg(R_DX, port);
        reg(R_CX, 1);
        reg(R_SI, LIN(PAGE));
        reg(R_DI, LIN(PAGE));
        if (half)
            V2_CODE(0x66);
        if (rep)
            V2_CODE(0xf3);
        V2_CODE(each[k].opcode, 0x5a);
        v2_run(30);
        v2_says(W_IO, (size - 1) | each[k].in << 3 | each[k].string << 4 | rep << 5 |
                          each[k].immediate << 6 | port << 16);
    }
}

/* ---- The APIC ---- */

static void read_at(pn_gva at) {
    reg(R_AX, at);
    V2_CODE(0x8a, 0x00); /* mov al, [rax] */
}
static void write_at(pn_gva at) {
    reg(R_AX, at);
    V2_CODE(0x88, 0x00); /* mov [rax], al */
}
static void jump_to(pn_gva at) {
    reg(R_AX, at);
    V2_CODE(0xff, 0xe0); /* jmp rax */
}
/* int 0x30, by a gate of an IDT there. */
static void interrupt_by(pn_gpa idt) {
    pn_gva to = LIN(L2_CODE + 0x800);
    v2_put(VMCS_GUEST_IDTR_BASE, LIN(idt));
    v2_put(VMCS_GUEST_IDTR_LIMIT, 0xfff);
    l2_store(&v2, idt + 0x30 * 16,
             (to & 0xffff) | 8 << 16 | 0x8e00ull << 32 | (to >> 16 & 0xffff) << 48, 8);
    l2_store(&v2, idt + 0x30 * 16 + 8, 0, 8);
    V2_CODE(0xcd, 0x30);
}

static void apic_accesses(void) {
    static const uint64_t says[] = {0x0555, 0x1aaa, 0x2123, 0x37f8, 0xa000, 0xf000};
    for (unsigned i = 0; i < 6; i++) {
        v2_fresh();
        v2_set(VMCS_PROC2_CONTROLS, 1u << 0);
        /* Of 10 and 15: what maps the third and the fourth 2 MiB. */
        v2_put(VMCS_APIC_ACCESS, i < 4 ? APIC : GUEST_CR3 + 0x6000);
        if (i == 0)
            read_at(LIN(APIC + 0x555));
        else if (i == 1)
            write_at(LIN(APIC + 0xaaa));
        else if (i == 2)
            jump_to(LIN(APIC + 0x123));
        else if (i == 3)
            v2_put(VMCS_GUEST_RSP, LIN(APIC + 0x800)), interrupt_by(PAGE);
        else if (i == 4)
            interrupt_by(0x400000);
        else
            read_at(LIN(0x400000));
        v2_run(44);
        v2_says(W_APIC, says[i]);
        v2_says(W_VECTORING, i == 3 || i == 4 ? VALID | 4u << 8 | 0x30 : 0);
    }
}

/* An EOI of each vector, by x2APIC's MSR. */
static void virtual_eois(void) {
    for (unsigned i = 0; i < 2; i++) {
        unsigned vector = i ? 0x55 : 0xaa;
        v2_fresh();
        v2_set(VMCS_PROC_CONTROLS, TPR_SHADOW | MSR_BITMAPS);
        v2_set(VMCS_PROC2_CONTROLS, 1u << 4 | 1u << 9);
        v2_put(VMCS_GUEST_INTERRUPT_STATUS, vector << 8);
        v2_put(VMCS_EOI_EXIT0 + vector / 64, 1ull << vector % 64);
        reg(R_CX, 0x80b);
        V2_CODE(0x0f, 0x30); /* wrmsr */
        v2_run(45);
        v2_says(W_VECTOR, vector);
    }
}

static void apic_writes(void) {
    static const uint16_t at[] = {0x3e0, 0xf1, 0xd2, 0x300};
    for (unsigned i = 0; i < 4; i++) {
        v2_fresh();
        v2_set(VMCS_PROC_CONTROLS, TPR_SHADOW);
        v2_set(VMCS_PROC2_CONTROLS, 1u << 0 | 1u << 8);
        v2_put(VMCS_APIC_ACCESS, APIC);
        write_at(LIN(APIC + at[i]));
        v2_run(56);
        v2_says(W_APIC_WRITE, at[i]);
    }
}

/* ---- EPT ---- */

/* All else is granted to users' addresses, too, for mode-based execute control. */
static void grant_all(uint64_t bits) {
    l2_nested(&v2, 0x437 | bits, 0x4b7 | bits);
    for (unsigned i = 0; i < 3; i++)
        l2_store(&v2, NESTED + i * 0x1000, (NESTED + (i + 1) * 0x1000) | 0x407 | bits, 8);
}

/* CALL, with a shadow stack there. */
static void call_with(pn_gva ssp) {
    v2_put(VMCS_GUEST_CR4, v2_get(VMCS_GUEST_CR4) | CR4_CET);
    v2.cpu->msr_s_cet = 1;
    v2.cpu->ssp = ssp;
    v2_own_page(PAGE, PAGE | 0x41);
    V2_CODE(0xe8, 1, 0, 0, 0);
}

static void violations(void) {
    static const struct {
        uint16_t entry; /* rights; 0x400: X of users' addresses */
        char access;
        bool mbec, user;
        uint16_t says;
    } each[] = {
        {0, 'r', 0, 1, 0x181},     {0, 'w', 0, 1, 0x182},     {0, 'x', 0, 1, 0x184},
        {1, 'w', 0, 1, 0x18a},     {5, 'w', 0, 1, 0x1aa},     {3, 'x', 0, 1, 0x19c},
        {4, 'r', 0, 1, 0x1a1},     {4, 'w', 0, 1, 0x1a2},     {5, 'x', 1, 1, 0x1ac},
        {0x401, 'x', 1, 0, 0x1cc}, {0x400, 'r', 1, 0, 0x1c1}, {0, 'c', 0, 0, 0x2182}};
    for (unsigned i = 0; i < sizeof each / sizeof each[0]; i++) {
        v2_fresh();
        grant_all(0);
        v2_set(VMCS_PROC2_CONTROLS, (uint64_t)each[i].mbec << 22);
        v2_page(PAGE, each[i].entry ? PAGE | 0x30 | each[i].entry : 0);
        v2_own_page(PAGE, PAGE | 0x63 | (each[i].user ? 4 : 0));
        if (each[i].access == 'r')
            read_at(LIN(PAGE + 0x10));
        else if (each[i].access == 'w')
            write_at(LIN(PAGE + 0x10));
        else if (each[i].access == 'x')
            jump_to(LIN(PAGE + 0x10));
        else
            call_with(LIN(PAGE + 0x18));
        v2_run(48);
        v2.cpu->msr_s_cet = 0;
        v2_says(W_EPT, each[i].says);
        ck_assert_uint_eq(v2_get(VMCS_GUEST_PHYSICAL), PAGE + 0x10);
        ck_assert_uint_eq(v2_get(VMCS_GUEST_LINEAR), LIN(PAGE + 0x10));
        v2_own_page(PAGE, PAGE | 0x67);
    }
}

/* Of L2's own tables: without and with accessed and dirty flags, and PDPTEs that MOV CR3 loads. */
static void table_violations(void) {
    for (unsigned i = 0; i < 3; i++) {
        if (i < 2) {
            v2_fresh();
            read_at(LIN(FAR_AT));
        } else {
            v2_narrow();
            v2_set(VMCS_GUEST_CR0, CR0_PG);
            v2_put(VMCS_GUEST_PDPTE0, PAE | 1);
            l2_store(&v2, PAE, 0xe7, 8);
            reg(R_AX, PAGE);
            V2_CODE(0x0f, 0x22, 0xd8); /* mov cr3, eax */
        }
        uint64_t was = l2_load(&v2, FAR_PDE);
        l2_store(&v2, FAR_PDE, PAGE | 0x67, 8);
        v2_set(VMCS_EPTP, i == 1 ? 0x40 : 0);
        v2_page(PAGE, 0);
        v2_run(48);
        v2_says(W_EPT, i == 0 ? 0x081 : i == 1 ? 0x083 : 0x001);
        ck_assert_uint_eq(v2_get(VMCS_GUEST_LINEAR), i < 2 ? LIN(FAR_AT) : 0);
        l2_store(&v2, FAR_PDE, was, 8);
    }
}

/* IRET, whose stack is denied in one way or another, has unblocked NMIs. */
static void iret_at(pn_gva stack, bool blocked) {
    v2_put(VMCS_GUEST_RSP, stack);
    v2_set(VMCS_PIN_CONTROLS, PIN_NMIS);
    v2_put(VMCS_INTERRUPTIBILITY, blocked ? 8 : 0);
    V2_CODE(0x48, 0xcf); /* iretq */
}

static void unblocked_by_iret(void) {
    for (unsigned i = 0; i < 6; i++) {
        unsigned blocked = i & 1, how = i / 2;
        v2_fresh();
        uint64_t was = l2_load(&v2, FAR_PDE);
        if (how == 0) {
            v2_page(PAGE, 0);
        } else if (how == 1) {
            exceptions(14);
            v2_own_page(PAGE, 0);
        } else { /* the walk makes the stack's page table dirty, and the log is full */
            grant_all(0x300);
            l2_store(&v2, PAGE, PAGE | 0x47, 8);
            l2_store(&v2, FAR_PDE, PAGE | 0x67, 8);
            v2_page(PAGE, PAGE | 0x137);
            v2_set(VMCS_PROC2_CONTROLS, 1u << 17);
            v2_put(VMCS_PML_INDEX, 0xffff);
            v2_set(VMCS_EPTP, 0x40);
        }
        iret_at(how < 2 ? LIN(PAGE) : LIN(FAR_AT), blocked);
        v2_run(how == 0 ? 48 : how == 1 ? 0 : 62);
        if (how == 1)
            v2_says(W_EVENT, VALID | blocked << 12 | 1u << 11 | 3u << 8 | 14);
        else
            v2_says(how ? W_PML : W_EPT, (how ? 0 : 0x181) | blocked << 12);
        v2_says(W_BLOCKED, 0);
        v2_own_page(PAGE, PAGE | 0x67);
        l2_store(&v2, FAR_PDE, was, 8);
    }
}

/* ---- Entries that fail ---- */

static void failed_entries(void) {
    for (unsigned i = 0; i < 4; i++) {
        static const uint8_t says[] = {0, 2, 3, 4};
        if (i == 1)
            v2_narrow();
        else
            v2_fresh();
        if (i == 0)
            v2_put(VMCS_GUEST_RFLAGS, 0);
        else if (i == 1)
            v2_set(VMCS_GUEST_CR0, CR0_PG), v2_put(VMCS_GUEST_PDPTE1, 3);
        else if (i == 2)
            v2_put(VMCS_INTERRUPTIBILITY, 2), v2_put(VMCS_ENTRY_EVENT, VALID | 0x202);
        else
            v2_put(VMCS_LINK_POINTER, L2_VMCS + 8);
        v2_run(0x80000021);
        v2_says(W_ENTRY, says[i]);
    }
}

static void failed_lists(void) {
    static const uint16_t bad[] = {0x155, 0xaa, 0x200};
    for (unsigned i = 0; i < 3; i++) {
        v2_fresh();
        for (unsigned k = 1; k <= 512; k++) {
            l2_store(&v2, LIST + (k - 1) * 16, k == bad[i] ? 0x40000000 : MSR_LSTAR, 8);
            l2_store(&v2, LIST + (k - 1) * 16 + 8, 0, 8);
        }
        v2_put(VMCS_ENTRY_MSR_LOAD, LIST);
        v2_put(VMCS_ENTRY_MSR_LOADS, 512);
        v2_run(0x80000022);
        v2_says(W_MSR_LOAD, bad[i]);
    }
}

/* ---- What the guest's state says ---- */

/* The monitor trap flag comes before the debug exception, which then is pending. */
static void pending(void) {
    for (unsigned i = 0; i < 5; i++) {
        v2_fresh();
        v2_set(VMCS_PROC_CONTROLS, 1u << 27);
        if (i < 4)
            breakpoint(i);
        else
            V2_CODE(0x90);
        v2_put(VMCS_GUEST_RFLAGS, i < 4 ? 2 : 0x102);
        v2_run(37);
        v2_says(W_PENDING, i < 4 ? 0x1000 | 1u << i : 0x4000);
    }
}

static void blocking(void) {
    for (unsigned i = 0; i < 3; i++) {
        static const uint8_t says[] = {1, 2, 8};
        v2_fresh();
        if (i == 0)
            V2_CODE(0xfb); /* sti */
        else if (i == 1)
            reg(R_AX, 0x10), V2_CODE(0x8e, 0xd0); /* mov ss, ax */
        else
            v2_set(VMCS_PIN_CONTROLS, PIN_NMIS), v2_put(VMCS_INTERRUPTIBILITY, 8);
        V2_CODE(0x0f, 0xa2);
        v2_run(10);
        v2_says(W_BLOCKED, says[i]);
    }
    v2_fresh();
    V2_CODE(0xf4); /* hlt, which does not exit */
    v2_run_halted(0x55, 1);
    v2_says(W_ACTIVITY, 1);
}

/* ---- Events ---- */

/* What causes each: vector, type, error code, the length that is told. */
static const struct cause {
    uint8_t code[2], vector, type, length;
    bool has_error;
    uint16_t sel, error;
} causes[] = {
    {{0x90}, 0x55, 0, 0, false, 0, 0}, /* an interrupt that waits */
    {{0x90}, 0xaa, 0, 0, false, 0, 0},
    {{0xe6, 0x80}, 2, 2, 0, false, 0, 0},           /* out, which brings an NMI */
    {{0x0f, 0x0b}, 6, 3, 0, false, 0, 0},           /* ud2 */
    {{0x8e, 0xd8}, 13, 3, 0, true, 0x5557, 0x5554}, /* mov ds, ax */
    {{0x8e, 0xd8}, 13, 3, 0, true, 0xaaab, 0xaaa8},
    {{0xf1}, 1, 5, 1, false, 0, 0}, /* int1 */
    {{0xcc}, 3, 6, 1, false, 0, 0}, /* int3 */
    {{0xcd, 0x55}, 0x55, 4, 2, false, 0, 0},
    {{0xcd, 0xaa}, 0xaa, 4, 2, false, 0, 0},
};
#define CAUSES (sizeof causes / sizeof causes[0])

static uint64_t word_of(const struct cause *c) {
    return VALID | (c->has_error ? 1u << 11 : 0) | (unsigned)c->type << 8 | c->vector;
}

static void cause(const struct cause *c) {
    v2_fresh();
    v2_irq = c->type == 0 ? c->vector : -1;
    reg(R_AX, c->sel);
    v2_code(c->code, 2);
}

static void events(void) {
    for (unsigned i = 0; i < CAUSES; i++) {
        const struct cause *c = &causes[i];
        if (c->type == 4)
            continue; /* INT n does not exit */
        cause(c);
        v2_set(VMCS_PIN_CONTROLS, 1u << 3);
        v2_set(VMCS_EXIT_CONTROLS, 1u << 15);
        exceptions(c->vector & 31);
        v2_run(c->type == 0);
        v2_says(W_EVENT, word_of(c));
        v2_says(W_EVENT_ERROR, c->error);
        if (c->length)
            v2_says(W_LENGTH, c->length);
        v2_says(W_VECTORING, 0);
    }
}

/* Bits 0 and 1 of an error code: an event from outside, and a gate, beyond the IDT. The exception of
 * that exits, or cannot be delivered. */
static void gates(void) {
    for (unsigned i = 0; i < 4; i++) {
        const struct cause *c = &causes[i & 1 ? 8 : 0];
        unsigned error = i & 1 ? 0x2aa : 0x2ab;
        uint64_t event = VALID | 1u << 11 | 3u << 8 | 13;
        bool exits = i < 2;
        cause(c);
        v2_put(VMCS_PIN_CONTROLS, MUST_PIN);
        v2_put(VMCS_GUEST_RFLAGS, 0x202);
        if (exits)
            exceptions(13);
        else
            v2_put(VMCS_GUEST_IDTR_BASE, LIN(PAGE)), v2_page(PAGE, 0);
        v2_run(exits ? 0 : 48);
        v2_says(W_EVENT, exits ? event : 0);
        v2_says(W_EVENT_ERROR, exits ? error : 0);
        v2_says(W_VECTORING, exits ? word_of(c) : event);
        v2_says(W_VECTORING_ERROR, exits ? 0 : error);
    }
}

/* Each cannot be delivered: the IDT is in no page of EPT's. */
static void deliveries(void) {
    for (unsigned i = 0; i < CAUSES; i++) {
        const struct cause *c = &causes[i];
        cause(c);
        v2_put(VMCS_PIN_CONTROLS, MUST_PIN);
        v2_put(VMCS_GUEST_RFLAGS, 0x202);
        v2_put(VMCS_GUEST_IDTR_BASE, LIN(PAGE));
        v2_put(VMCS_GUEST_IDTR_LIMIT, 0xfff);
        v2_page(PAGE, 0);
        v2_run(48);
        v2_says(W_EPT, 0x181);
        v2_says(W_VECTORING, word_of(c));
        v2_says(W_VECTORING_ERROR, c->error);
        if (c->length)
            v2_says(W_LENGTH, c->length);
        v2_says(W_EVENT, 0);
        ck_assert_uint_eq(v2_get(VMCS_GUEST_PHYSICAL), PAGE + c->vector * 16);
    }
}

/* XSAVES and XRSTORS, of a component that the bitmap has. */
static void saved_states(void) {
    for (unsigned i = 0; i < 2 && cpu_has(v2.cpu, CPU_F_xsaves); i++) {
        uint64_t component = v2.model->xss_valid & -v2.model->xss_valid;
        if (!component)
            return;
        v2_fresh();
        v2_put(VMCS_XSS_BITMAP, component);
        v2.cpu->msr_xss = component;
        v2.cpu->gpr[R_AX] = (uint32_t)component;
        v2.cpu->gpr[R_DX] = component >> 32;
        V2_CODE(0x0f, 0xc7, i ? 0x99 : 0xa9, 0x78, 0x56, 0x34, 0x12); /* [rcx + ...] */
        v2_run(i ? 64 : 63);
        v2_says(W_INFO_MEMORY, 2u << 7 | 3u << 15 | 1u << 22 | 1u << 23);
        v2_says(W_DISPLACEMENT, 0x12345678);
        v2.cpu->msr_xss = 0;
    }
}

START_TEST(each_bit_of_what_an_exit_says_is_seen) {
    static void (*const all[])(void) = {
        lengths,           debug_exceptions, addresses,    task_switches,
        control_registers, debug_registers,  ports,        apic_accesses,
        virtual_eois,      apic_writes,      violations,   table_violations,
        unblocked_by_iret, failed_entries,   failed_lists, pending,
        blocking,          events,           gates,        deliveries,
        saved_states};
    v2_create(V2_KIND(_i));
    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
        all[i]();
    v2_all_seen(0, W_DISPLACEMENT - 1);
    v2_destroy();
}
END_TEST

SUITE("vmx words", .loops = {{each_bit_of_what_an_exit_says_is_seen, 2}})
