/* SPDX-License-Identifier: MIT */
/*
 * SVM: EXITINFO1 and 2, EXITINTINFO and what else an exit says. Every row of src/cpu/svm_words.inc is
 * seen with each of its values, under both MMUs, as an instruction of L2's causes it, or an event
 * while L2 runs. What is expected is the manual's, once more, as a number.
 */
#include <string.h>

#include "cpu/control.h"
#include "fixture_l2.h"
#include "fixture_words.h"
#include "tests/suite.h"

#define PAGE    0x50000u /* of L2's, to be denied, and for other purposes */
#define TASKS   0x60000u /* a GDT of 64 KiB */
#define LIN(at) (GUEST_BASE + (at))
#define VALID   (1ull << 31)

enum {
#define SVM_WORD(word, at, size) W_##word,
#define SVM_BITS(word, name, low, width, values)
#include "cpu/svm_words.inc"
    WORDS
};
static const struct words_row rows[] = {
#define SVM_WORD(word, at, size)
#define SVM_BITS(word, name, low, width, values)                                         \
    {W_##word, #word " " #name, low, width, values},
#include "cpu/svm_words.inc"
};
static const struct {
    uint16_t at;
    uint8_t size;
} places[] = {
#define SVM_WORD(word, at, size) {VMCB_##at, size},
#define SVM_BITS(word, name, low, width, values)
#include "cpu/svm_words.inc"
};
static struct words words = {.row = rows, .rows = sizeof rows / sizeof rows[0]};

static struct guest g;
static int irq;
static size_t code_size;
static uint64_t task_base; /* of L1's TSS */

/* ---- L2 ---- */

static int peek(void *opaque, unsigned vcpu) {
    return irq;
}
static int ack(void *opaque, unsigned vcpu) {
    int vector = irq;
    irq = -1;
    return vector;
}
/* OUT is an NMI. */
static void raise_nmi(void *opaque, unsigned vcpu, uint16_t port, unsigned size,
                      uint64_t value) {
    g.cpu->nmi_pending = 1;
}

static void create(enum pn_mmu_kind kind) {
    static const uint8_t l1[] = {0x0f, 0x01, 0xd8, 0xf4}; /* vmrun; hlt */
    struct guest_options opt = {.kind = kind,
                                .model = "max,vendor=amd,+svm",
                                .max_block = 64,
                                .code_bytes = 1u << 20};
    guest_create(&g, &opt);
    guest_idt(&g);
    g.bus.intr_peek = peek;
    g.bus.intr_ack = ack;
    g.bus.pio_write = raise_nmi;
    task_base = g.cpu->seg[SEG_TR].base;
    l2_begin_svm(&g);
    g.cpu->seg[SEG_LDTR].attr = ATTR_UNUSABLE; /* VMRUN leaves it */
    pn_mmu_write_phys(g.mmu, L1_CODE, l1, sizeof l1);
}

static void put(unsigned at, uint64_t value, unsigned size) {
    l2_store(&g, L2_VMCB + at, value, size);
}
static void save(unsigned at, uint64_t value) {
    put(VMCB_SAVE + at, value, 8);
}
static void reg(unsigned r, uint64_t value) {
    if (r == R_AX)
        save(SAVE_RAX, value);
    else if (r == R_SP)
        save(SAVE_RSP, value);
    else
        g.cpu->gpr[r] = value;
}
/* Intercepts: bit n from VMCB_CR on. */
static void intercept(unsigned word, unsigned bit) {
    put(word, (uint32_t)l2_load(&g, L2_VMCB + word) | 1u << bit, 4);
}
static void exceptions(unsigned vector) {
    put(VMCB_EXCEPTIONS, 1u << vector, 4);
}

static void code(const void *bytes, size_t size) {
    pn_mmu_write_phys(g.mmu, L2_CODE + code_size, bytes, size);
    code_size += size;
}
#define CODE(...)                                                                        \
    code((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void fresh(void) {
    static const uint8_t none[PN_PAGE_SIZE];
    g.cpu->seg[SEG_TR].base = task_base;
    l2_nested(&g, 7, 0x87);
    l2_vmcb(&g, true);
    for (unsigned i = 0; i < 6; i++)
        pn_mmu_write_phys(g.mmu, L2_IOPM + i * 0x1000, none, sizeof none);
    pn_mmu_write_phys(g.mmu, L2_CODE, none, sizeof none);
    guest_gpte(&g, LIN(PAGE), PAGE | 0x67);
    put(VMCB_MISC1, 1u << ICPT_SHUTDOWN, 4);
    save(SAVE_RFLAGS, 2);
    memset(g.cpu->gpr, 0, sizeof g.cpu->gpr);
    save(SAVE_RAX, 0);
    g.cpu->nmi_pending = g.cpu->nmi_blocked = 0;
    put(VMCB_TLB_CONTROL, 1, 1);
    code_size = 0;
    irq = -1;
}
static void narrow(void) {
    fresh();
    l2_narrow_vmcb(&g);
    g.cpu->seg[SEG_TR].base =
        l2_load(&g, L2_VMCB + VMCB_SAVE + SAVE_TR + 8); /* VMLOAD's */
}
/* Entries of PAGE: of NPT, and of L2's own tables. */
static void nested_page(uint64_t entry) {
    l2_store(&g, NESTED + 0x3000 + (PAGE >> 12) * 8, entry, 8);
}
static void own_page(uint64_t entry) {
    guest_gpte(&g, LIN(PAGE), entry);
}

static void run(uint64_t exit) {
    struct cpu *c = g.cpu;
    c->halted = PN_RUNS;
    c->intr_line = 1;
    guest_start(&g, LIN(L1_CODE), L1_STACK);
    c->gpr[R_AX] = L2_VMCB;
    ck_assert_int_eq(cpu_run(c, cpu_insns(c) + 10000), CPU_EXIT_HALT);
    ck_assert_msg(!c->svm.guest, "L2 halted at %llx", (unsigned long long)c->rip);
    ck_assert_uint_eq(c->rip, LIN(L1_CODE) + 4);
    uint64_t is = l2_load(&g, L2_VMCB + VMCB_EXIT_CODE);
    ck_assert_msg(is == exit, "exit %llx, not %llx; %llx, %llx", (unsigned long long)is,
                  (unsigned long long)exit,
                  (unsigned long long)l2_load(&g, L2_VMCB + VMCB_EXIT_INFO1),
                  (unsigned long long)l2_load(&g, L2_VMCB + VMCB_EXIT_INFO2));
}

static void says(unsigned word, uint64_t value) {
    uint64_t is = l2_load(&g, L2_VMCB + places[word].at);
    if (places[word].size == 1)
        is &= 0xff;
    ck_assert_msg(is == value, "word %u is %llx, not %llx", word, (unsigned long long)is,
                  (unsigned long long)value);
    words_see(&words, word, is);
}

/* ---- Registers ---- */

static void move(uint8_t opcode, unsigned nr, unsigned r) {
    CODE((uint8_t)(0x40 | nr >> 3 << 2 | r >> 3), 0x0f, opcode,
         (uint8_t)(0xc0 | (nr & 7) << 3 | (r & 7)));
}

static void control_registers(void) {
    static const uint8_t crs[] = {0, 3, 4, 8};
    for (unsigned i = 0; i < 128; i++) {
        unsigned cr = crs[i & 3], write = i >> 2 & 1, r = i >> 3;
        fresh();
        intercept(VMCB_CR, cr + write * 16);
        move(write ? 0x22 : 0x20, cr, r);
        run(cr + write * 0x10);
        says(W_CR, 1ull << 63 | r);
        says(W_CLEAR2, 0);
        says(W_INT, 0);
        says(W_STATE, 0);
        says(W_BYTES, 0);
    }
    for (unsigned r = 0; r < 16;
         r++) { /* a selective write: CR0 becomes something else */
        fresh();
        intercept(VMCB_MISC1, 5);
        reg(r, 0x11);
        move(0x22, 0, r);
        run(0x65);
        says(W_CR, 1ull << 63 | r);
    }
    for (unsigned i = 0; i < 3; i++) { /* no MOV: SMSW, LMSW, CLTS */
        static const uint8_t bytes[][3] = {
            {0x0f, 0x01, 0xe0}, {0x0f, 0x01, 0xf0}, {0x0f, 0x06}};
        fresh();
        intercept(VMCB_CR, i ? 16 : 0);
        code(bytes[i], 3);
        run(i ? 0x10 : 0);
        says(W_CR, 0);
    }
    for (unsigned i = 0; i < 256; i++) {
        unsigned dr = i & 7, write = i >> 3 & 1, r = i >> 4;
        fresh();
        intercept(VMCB_DR, dr + write * 16);
        move(write ? 0x23 : 0x21, dr, r);
        run(0x20 + dr + write * 0x10);
        says(W_DR, r);
    }
}

/* ---- Exceptions ---- */

static void error_codes(void) {
    for (unsigned i = 0; i < 4; i++) {
        fresh();
        exceptions(13);
        reg(R_AX, i == 1 ? 0xaaab : 0x5557);
        if (i < 2)
            CODE(0x8e, 0xd8); /* mov ds, ax */
        else if (i == 2)
            CODE(0xcd, 0x55); /* int, beyond the IDT */
        else                  /* the same from outside */
            irq = 0x55, save(SAVE_RFLAGS, 0x202), CODE(0x90);
        run(0x4d);
        says(W_ERROR, i == 0 ? 0x5554 : i == 1 ? 0xaaa8 : i == 2 ? 0x2aa : 0x2ab);
        says(W_INT, i < 2 ? 0 : i == 2 ? VALID | 4u << 8 | 0x55 : VALID | 0x55);
        says(W_CLEAR2, 0);
    }
}

/* In ring 3, or to a shadow stack. */
static void user(void) {
    put(VMCB_SAVE + SAVE_CPL, 3, 1);
    put(VMCB_SAVE + SAVE_CS + 2, 0xafb, 2);
    put(VMCB_SAVE + SAVE_SS + 2, 0xcf3, 2);
}
static void shadow_stack(void) {
    save(SAVE_CR4, g.cpu->cr4 | 1u << 23);
    save(SAVE_S_CET, 1);
    save(SAVE_SSP, LIN(PAGE + 0x800));
    CODE(0xe8, 1, 0, 0,
         0); /* call, not to the next instruction: that pushes nothing there */
}

static void page_faults(void) {
    static const struct {
        char how; /* read, write, fetch, call */
        bool user;
        uint64_t entry;
        uint16_t code;
    } each[] = {{'r', 0, 0, 0x00},
                {'w', 0, 0, 0x02},
                {'w', 0, PAGE | 0x65, 0x03},
                {'r', 1, PAGE | 0x63, 0x05},
                {'r', 0, PAGE | 0x67 | 1ull << 50, 0x09},
                {'x', 0, PAGE | 0x67 | 1ull << 63, 0x11},
                {'k', 0, PAGE | 0x67 | 1ull << 59, 0x21},
                {'c', 0, PAGE | 0x63, 0x43}};
    for (unsigned i = 0; i < sizeof each / sizeof each[0]; i++) {
        fresh();
        exceptions(14);
        own_page(each[i].entry);
        reg(R_SI, LIN(PAGE));
        reg(R_DI, LIN(PAGE));
        if (each[i].user)
            user();
        if (each[i].how == 'k') { /* key 1 may not be accessed */
            save(SAVE_CR4, g.cpu->cr4 | 1u << 22);
            reg(R_AX, 1u << 2);
            CODE(0x0f, 0x01, 0xef);
        }
        if (each[i].how == 'r' || each[i].how == 'k')
            CODE(0xac); /* lodsb */
        else if (each[i].how == 'w')
            CODE(0xaa); /* stosb */
        else if (each[i].how == 'x')
            CODE(0xff, 0xe6); /* jmp rsi */
        else
            shadow_stack();
        run(0x4e);
        says(W_FAULT, each[i].code);
        ck_assert_uint_eq(l2_load(&g, L2_VMCB + VMCB_EXIT_INFO2) & ~0xfffull, LIN(PAGE));
    }
}

static void addresses(void) {
    static const uint64_t at[] = {0x00002aaaaaaaaaaa, 0xffffd55555555555};
    for (unsigned i = 0; i < 6; i++) {
        uint64_t where = at[i & 1];
        fresh();
        exceptions(14);
        intercept(VMCB_MISC1, 25);
        put(VMCB_MISC3, 1u << 2, 4);
        reg(R_SI, where);
        reg(R_CX, 0x5555555555555555ull << (i & 1));
        if (i < 2)
            CODE(0xac);
        else if (i < 4)
            CODE(0x0f, 0x01, 0x3e); /* invlpg [rsi] */
        else
            CODE(0x66, 0x0f, 0x38, 0x82, 0x0e); /* invpcid rcx, [rsi] */
        run(i < 2 ? 0x4e : i < 4 ? 0x79 : 0xa2);
        if (i < 2)
            says(W_FAULT, 0), says(W_ADDRESS, where);
        else
            says(W_LINEAR, where);
        if (i > 3)
            says(W_TYPE, 0x5555555555555555ull << (i & 1));
    }
}

/* ---- Ports and MSRs ---- */

static void ports(void) {
    static const uint8_t overrides[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    static const struct {
        uint8_t opcode, size, in, string, immediate;
    } each[] = {{0xe4, 1, 1, 0, 1}, {0xe5, 4, 1, 0, 1}, {0xe6, 1, 0, 0, 1},
                {0xe7, 4, 0, 0, 1}, {0xec, 1, 1, 0, 0}, {0xed, 4, 1, 0, 0},
                {0xee, 1, 0, 0, 0}, {0xef, 4, 0, 0, 0}, {0x6c, 1, 1, 1, 0},
                {0x6d, 4, 1, 1, 0}, {0x6e, 1, 0, 1, 0}, {0x6f, 4, 0, 1, 0}};
    static const uint8_t all[0x2001] = {[0 ... 0x2000] = 0xff};
    for (unsigned i = 0; i < 12 * 12; i++) {
        unsigned k = i % 12, half = i / 12 & 1, seg = i / 24;
        bool rep = half && each[k].string, wide = seg < 3;
        unsigned port = each[k].immediate ? 0x5a : half ? 0x5555 : 0xaaaa;
        unsigned size = each[k].size == 4 && half ? 2 : each[k].size;
        if (wide)
            fresh();
        else
            narrow();
        intercept(VMCB_MISC1, 27);
        pn_mmu_write_phys(g.mmu, L2_IOPM, all, sizeof all);
        reg(R_DX, port);
        reg(R_CX, 1);
        reg(R_SI, wide ? LIN(PAGE) : PAGE);
        reg(R_DI, wide ? LIN(PAGE) : PAGE);
        /* 64-bit code: FS and GS, and addresses of 32 bits; else all, and of 16 bits */
        unsigned of = wide ? (seg ? 3 + seg : 3) : (i + seg) % 6;
        bool other = wide ? seg == 1 : seg == 5;
        if (each[k].string && (!wide || seg))
            code(&overrides[of], 1);
        if (other)
            CODE(0x67);
        if (half)
            CODE(0x66);
        if (rep)
            CODE(0xf3);
        CODE(each[k].opcode, 0x5a);
        run(0x7b);
        unsigned a = wide ? (other ? 2 : 4) : other ? 1 : 2;
        uint64_t info = each[k].in | size << 4 | a << 7 | port << 16;
        if (each[k].string)
            info |= 4 | rep << 3 | (each[k].in ? 0 : of) << 10;
        says(W_IO, info);
        ck_assert_uint_eq(l2_load(&g, L2_VMCB + VMCB_EXIT_INFO2),
                          (wide ? LIN(L2_CODE) : L2_CODE) + code_size -
                              !each[k].immediate);
    }
}

static void msrs(void) {
    for (unsigned write = 0; write < 2; write++) {
        fresh();
        intercept(VMCB_MISC1, 28);
        reg(R_CX, 0x40000000);
        CODE(0x0f, write ? 0x30 : 0x32);
        run(0x7c);
        says(W_MSR, write);
        says(W_CLEAR2, 0);
    }
}

/* ---- Events ---- */

static void int_n(void) {
    for (unsigned i = 0; i < 2; i++) {
        fresh();
        intercept(VMCB_MISC1, 21);
        CODE(0xcd, i ? 0x55 : 0xaa);
        run(0x75);
        says(W_VECTOR, i ? 0x55 : 0xaa);
    }
    fresh();
    intercept(VMCB_MISC1, 18);
    CODE(0xfb, 0x0f, 0xa2); /* sti; cpuid */
    run(0x72);
    says(W_STATE, 1);
    says(W_CLEAR1, 0);
}

/* What causes each: vector, type, error code. */
static const struct cause {
    uint8_t code[2], vector, type;
    bool has_error;
    uint16_t sel, error;
} causes[] = {
    {{0x90}, 0x55, 0, false, 0, 0}, /* an interrupt that waits */
    {{0x90}, 0xaa, 0, false, 0, 0},
    {{0xe6, 0x80}, 2, 2, false, 0, 0},           /* out, which brings an NMI */
    {{0x0f, 0x0b}, 6, 3, false, 0, 0},           /* ud2 */
    {{0x8e, 0xd8}, 13, 3, true, 0x5557, 0x5554}, /* mov ds, ax */
    {{0x8e, 0xd8}, 13, 3, true, 0xaaab, 0xaaa8},
    {{0xf1}, 1, 3, false, 0, 0}, /* int1 */
    {{0xcc}, 3, 3, false, 0, 0}, /* int3 */
    {{0xcd, 0x55}, 0x55, 4, false, 0, 0},
    {{0xcd, 0xaa}, 0xaa, 4, false, 0, 0},
};
#define CAUSES (sizeof causes / sizeof causes[0])

static void cause(const struct cause *c) {
    fresh();
    irq = c->type == 0 ? c->vector : -1;
    reg(R_AX, c->sel);
    save(SAVE_RFLAGS, 0x202);
    code(c->code, 2);
    save(SAVE_IDTR + 8, LIN(PAGE));
}

/* Each cannot be delivered: the IDT is in no page of NPT's; or, of two, it is too short, and the
 * exception that comes of it cannot. */
static void deliveries(void) {
    for (unsigned i = 0; i < CAUSES + 2; i++) {
        const struct cause *c = &causes[i < CAUSES ? i : i == CAUSES ? 0 : 8];
        uint64_t info = VALID | (unsigned)c->type << 8 | c->vector;
        unsigned vector = c->vector;
        cause(c);
        if (c->has_error)
            info |= 1u << 11 | (uint64_t)c->error << 32;
        if (i < CAUSES) {
            put(VMCB_SAVE + SAVE_IDTR + 4, 0xfff, 4);
        } else {
            vector = 13;
            info = VALID | 1u << 11 | 3u << 8 | 13 |
                   (uint64_t)(i == CAUSES ? 0x2ab : 0x2aa) << 32;
        }
        nested_page(0);
        run(0x400);
        says(W_INT, info);
        says(W_NPF, 1ull << 32 | 4);
        ck_assert_uint_eq(l2_load(&g, L2_VMCB + VMCB_EXIT_INFO2), PAGE + vector * 16);
    }
}

/* ---- Task switches ---- */

static void task(unsigned sel, bool busy) {
    uint64_t d = 0x67 | 0x8000ull << 16 | 5ull << 32 | (busy ? 0xebull : 0xe9ull) << 40;
    l2_store(&g, TASKS + (sel & ~7u), d, 8);
}

/* By CALL, IRET, JMP, a gate, and gates of exceptions with error codes, which set RF. */
static void task_switches(void) {
    for (unsigned i = 0; i < 7; i++) {
        unsigned sel = i & 1 ? 0x5552 : 0xaaa9;
        unsigned ds = i == 4 ? 0x5557 : 0xaaab;
        narrow();
        intercept(VMCB_MISC1, 29);
        save(SAVE_GDTR + 8, TASKS);
        put(VMCB_SAVE + SAVE_GDTR + 4, i < 4 ? 0xffff : i == 4 ? 0x5550 : 0xaaaf, 4);
        save(SAVE_IDTR + 8, PAGE);
        task(sel, i == 1);
        if (i == 4)
            sel = 0x2aa9, task(sel, false);
        if (i == 0)
            CODE(0x9a, 0, 0, 0, 0, 0xa9, 0xaa);
        else if (i == 2)
            CODE(0xea, 0, 0, 0, 0, 0xa9, 0xaa);
        else if (i == 3)
            CODE(0xcd, 0x30);
        else if (i == 1)
            CODE(0xcf);
        else if (i == 6)
            irq = 0x55, CODE(0x90);
        else
            CODE(0x8e, 0xd8);
        save(SAVE_RFLAGS, i == 1 ? 0x4002 : i == 6 ? 0x202 : 2);
        reg(R_AX, ds);
        l2_store(&g, l2_load(&g, L2_VMCB + VMCB_SAVE + SAVE_TR + 8), sel, 2);
        l2_store(&g, PAGE + 0x30 * 8, sel << 16 | 0xe500ull << 32, 8);
        l2_store(&g, PAGE + 13 * 8, sel << 16 | 0xe500ull << 32, 8);
        run(0x7d);
        says(W_TASK, sel);
        uint64_t error = i == 4 ? 0x5554 : i == 5 ? 0xaaa8 : 0x2ab;
        says(W_TASK_WHY, i == 1   ? 1ull << 36
                         : i == 2 ? 1ull << 38
                         : i > 3  ? 1ull << 44 | error | 1ull << 48
                                  : 0);
    }
}

/* ---- Nested page faults ---- */

static void nested_faults(void) {
    static const struct {
        char how; /* read, write, fetch, call, a walk of L2's tables */
        uint64_t entry, info;
    } each[] = {
        {'r', 0, 1ull << 32 | 0x04},
        {'w', 0, 1ull << 32 | 0x06},
        {'x', 0, 1ull << 32 | 0x14},
        {'w', PAGE | 5, 1ull << 32 | 0x07},
        {'r', PAGE | 3, 1ull << 32 | 0x05}, /* a supervisor's page */
        {'x', PAGE | 7 | 1ull << 63, 1ull << 32 | 0x15},
        {'r', PAGE | 7 | 1ull << 50, 1ull << 32 | 0x0d},
        {'c', 0, 1ull << 32 | 0x46},
        {'t', 0, 1ull << 33 | 0x06},
        {'t', PAGE | 5, 1ull << 33 | 0x07},
    };
    pn_gpa pde = GUEST_CR3 + 0x2000 + (LIN(0x600000) >> 21) * 8;
    uint64_t was = l2_load(&g, pde);
    for (unsigned i = 0; i < sizeof each / sizeof each[0]; i++) {
        fresh();
        nested_page(each[i].entry);
        l2_store(&g, pde, each[i].how == 't' ? PAGE | 0x67 : was, 8);
        reg(R_SI, each[i].how == 't' ? LIN(0x600000) : LIN(PAGE));
        reg(R_DI, LIN(PAGE));
        if (each[i].how == 'c')
            own_page(PAGE | 0x41), shadow_stack(); /* a shadow stack's page */
        else if (each[i].how == 'w')
            CODE(0xaa);
        else if (each[i].how == 'x')
            CODE(0xff, 0xe6);
        else
            CODE(0xac);
        run(0x400);
        says(W_NPF, each[i].info);
        ck_assert_uint_eq(l2_load(&g, L2_VMCB + VMCB_EXIT_INFO2) & ~0xfffull, PAGE);
    }
    l2_store(&g, pde, was, 8);
}

/* The bytes of the instruction that faults, as far as its page goes: the next one is not there. */
static void instruction_bytes(void) {
    pn_gpa end = L2_CODE + 0x1000;
    for (unsigned n = 1; n < 16; n++) {
        fresh();
        l2_store(&g, end - n, 0xac, 1);
        save(SAVE_RIP, LIN(end - n));
        guest_gpte(&g, LIN(end), 0);
        reg(R_SI, LIN(PAGE));
        nested_page(0);
        run(0x400);
        says(W_BYTES, n);
        guest_gpte(&g, LIN(end), end | 0x67);
    }
}

START_TEST(each_bit_of_what_an_exit_says_is_seen) {
    static void (*const all[])(void) = {control_registers,
                                        error_codes,
                                        page_faults,
                                        addresses,
                                        ports,
                                        msrs,
                                        int_n,
                                        deliveries,
                                        task_switches,
                                        nested_faults,
                                        instruction_bytes};
    create(_i ? PN_MMU_TDP : PN_MMU_SHADOW);
    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
        all[i]();
    words_all_seen(&words, 0, WORDS - 1);
    guest_destroy(&g);
}
END_TEST

SUITE("svm words", .loops = {{each_bit_of_what_an_exit_says_is_seen, 2}})
