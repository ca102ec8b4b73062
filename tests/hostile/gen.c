/* SPDX-License-Identifier: MIT */
/* Makes the hostile guests of gen.h, byte by byte. */
#include <stdbool.h>
#include <string.h>

#include "gen_code.h"

/* xorshift64* (Marsaglia; Vigna 2016). */
uint64_t rng_next(struct rng *r) {
    r->s ^= r->s >> 12;
    r->s ^= r->s << 25;
    r->s ^= r->s >> 27;
    return r->s * 0x2545f4914f6cdd1dull;
}

uint32_t rng_below(struct rng *r, uint32_t n) {
    return (uint32_t)(rng_next(r) >> 32) % n;
}

void code_put(struct code *c, const void *bytes, size_t n) {
    if ((size_t)(c->end - c->p) >= n) {
        memcpy(c->p, bytes, n);
        c->p += n;
    }
}

void code_imm(struct code *c, uint64_t v, size_t n) {
    code_put(c, &v, n);
}

/* mov reg, imm64 */
static void load_reg(struct code *c, unsigned reg, uint64_t v) {
    PUT(c, (uint8_t)(0x48 | reg >> 3), (uint8_t)(0xb8 | (reg & 7)));
    code_imm(c, v, 8);
}

/* Addresses that hurt: tables, code, devices, holes, edges, non-canonical. */
uint64_t code_address(struct code *c) {
    static const uint64_t places[] = {
        IMG_BASE + IMG_TABLES,
        IMG_BASE + IMG_CODE,
        IMG_BASE + IMG_IDT,
        IMG_BASE + IMG_GDT,
        IMG_BASE + IMG_DATA,
        IMG_BASE + IMG_STACK_TOP,
        0xfee00000u,
        0xfec00000u,
        0xff000000u,
        0xc0000000u,
        0x3ff000u,
        0x400000u,
        0xffffffffu,
        0x7ffffffff000u,
        0x7fffffffffffu,
        0x800000000000u,
        0xffff800000000000u,
        0xffffffffffffff00u,
        0x200000u,
        0x0u,
    };
    uint64_t a = places[rng_below(c->r, sizeof(places) / sizeof(places[0]))];
    uint64_t v = rng_next(c->r);
    switch (v & 3) {
    case 0:
        return a + (v >> 8 & 0xfff);
    case 1:
        return a + 0x1000 - (v >> 8 & 0xf);
    case 2:
        return a + (v >> 8 & 0xfff8);
    default:
        return v >> 60 ? a : v;
    }
}

/* A page-table entry with every kind of target: memory, itself, MMIO, nowhere, reserved
 * bits. */
uint64_t code_pte(struct rng *r) {
    uint64_t v = rng_next(r), flags = v & 0xfff;
    uint64_t nx = v & 1ull << 63;
    switch (v >> 56 & 7) {
    case 0:
        return v; /* anything, reserved bits and all */
    case 1:
        return (IMG_BASE + IMG_TABLES + (v >> 12 & 15) * 0x1000) | flags | nx;
    case 2:
        return 0xfee00000u | flags;
    case 3:
        return (v & 0x0000fffff000ull) | flags;
    case 4:
        return (v & 0x3ff000) | 0x83;
    case 5:
        return (v & 0x3ff000) | 0x67 | nx;
    default:
        return (v & 0x3ff000) | 0x63;
    }
}

static void op_store(struct code *c, uint64_t addr, uint64_t value) {
    load_reg(c, 0, addr);
    load_reg(c, 1, value);
    static const uint8_t forms[][4] = {
        {0x48, 0x89, 0x08, 0x90}, {0x89, 0x08, 0x90, 0x90}, {0x66, 0x89, 0x08, 0x90},
        {0x88, 0x08, 0x90, 0x90}, {0xf0, 0x48, 0x01, 0x08}, {0x48, 0x87, 0x08, 0x90},
        {0x48, 0x0f, 0xc1, 0x08}, {0x0f, 0x11, 0x00, 0x90}, {0xd9, 0x18, 0x90, 0x90},
        {0x48, 0x8b, 0x08, 0x90}, {0xff, 0x30, 0x8f, 0x00}, {0x48, 0x31, 0x08, 0x90},
    };
    code_put(c, forms[rng_below(c->r, sizeof(forms) / sizeof(forms[0]))], 4);
}

static void op_table_edit(struct code *c) {
    op_store(c, IMG_BASE + IMG_TABLES + (rng_next(c->r) & 0xfff8), code_pte(c->r));
    if (rng_below(c->r, 2)) {
        load_reg(c, 0, code_address(c));
        PUT(c, 0x0f, 0x01, 0x38); /* invlpg [rax] */
    }
}

static void op_control(struct code *c) {
    static const uint8_t cr[] = {0, 2, 3, 4, 8, 1, 7, 15};
    unsigned n = cr[rng_below(c->r, sizeof(cr))];
    uint64_t v = rng_next(c->r);
    if (n == 3)
        v = rng_below(c->r, 4) ? IMG_BASE + IMG_TABLES + (v & 0x8000000000000018ull) : v;
    else if (n == 0 || n == 4) {
        PUT(c, (uint8_t)(n > 7 ? 0x44 : 0x40), 0x0f, 0x20,
            (uint8_t)(0xc0 | (n & 7) << 3));
        PUT(c, 0x48, 0x0f, 0xba, 0xf8, (uint8_t)(v & 31)); /* btc rax, n */
        PUT(c, 0x40, 0x0f, 0x22, (uint8_t)(0xc0 | n << 3));
        return;
    }
    load_reg(c, 0, v);
    PUT(c, (uint8_t)(n > 7 ? 0x44 : 0x40), 0x0f, 0x22, (uint8_t)(0xc0 | (n & 7) << 3));
}

static void op_msr(struct code *c) {
    static const uint32_t msr[] = {
        0x10,       0x1b,       0x3a,       0x3b,       0x48,       0x8b,
        0x10a,      0x174,      0x175,      0x176,      0x1a0,      0x200,
        0x277,      0x2ff,      0x6e0,      0x802,      0x808,      0x80b,
        0x80f,      0x830,      0x832,      0x838,      0x83e,      0x83f,
        0x6a0,      0x6a2,      0x6a4,      0x6a5,      0x6a6,      0x6a7,
        0x6a8,      0xda0,      0xc0000080, 0xc0000081, 0xc0000082, 0xc0000084,
        0xc0000100, 0xc0000101, 0xc0000102,
    };
    uint64_t v = rng_next(c->r);
    uint32_t index =
        rng_below(c->r, 8) ? msr[rng_below(c->r, sizeof(msr) / 4)] : (uint32_t)v;
    load_reg(c, 1, index);
    load_reg(c, 0, rng_below(c->r, 2) ? v >> 32 & 0xfff : v);
    load_reg(c, 2, rng_below(c->r, 2) ? 0 : v >> 8);
    PUT(c, 0x0f, (uint8_t)(rng_below(c->r, 3) ? 0x30 : 0x32));
}

static void op_descriptor(struct code *c) {
    load_reg(c, 0, code_address(c));
    static const uint8_t forms[][3] = {
        {0x0f, 0x01, 0x18}, {0x0f, 0x01, 0x10}, {0x0f, 0x01, 0x08}, {0x0f, 0x00, 0xd8},
        {0x0f, 0x00, 0xd0}, {0x8e, 0xd8, 0x90}, {0x8e, 0xd0, 0x90}, {0x8e, 0xe0, 0x90},
        {0x48, 0xcf, 0x90}, {0x48, 0xcb, 0x90}, {0xff, 0x28, 0x90}, {0xff, 0x18, 0x90},
        {0x0f, 0x07, 0x90}, {0x0f, 0x05, 0x90}, {0x0f, 0x34, 0x90}, {0x0f, 0x35, 0x90},
        {0x0f, 0x01, 0xf8}, {0xcf, 0x90, 0x90}, {0x0f, 0xa9, 0x90}, {0x0f, 0xb2, 0x20},
    };
    unsigned i = rng_below(c->r, sizeof(forms) / 3);
    if (i < 2 &&
        rng_below(c->r, 4)) /* mostly keep the tables that keep the guest going */
        i = 2;
    code_put(c, forms[i], 3);
}

static void op_system(struct code *c) {
    static const uint8_t forms[][4] = {
        {0x0f, 0xa2, 0x90, 0x90}, {0x0f, 0x31, 0x90, 0x90}, {0x0f, 0x01, 0xf9, 0x90},
        {0x0f, 0x06, 0x90, 0x90}, {0x0f, 0x09, 0x90, 0x90}, {0xfa, 0x90, 0x90, 0x90},
        {0xfb, 0x90, 0x90, 0x90}, {0x9c, 0x9d, 0x90, 0x90}, {0xcc, 0x90, 0x90, 0x90},
        {0xcd, 0x80, 0x90, 0x90}, {0x0f, 0x0b, 0x90, 0x90}, {0xf1, 0x90, 0x90, 0x90},
        {0x0f, 0x01, 0xcb, 0x90}, {0x0f, 0x01, 0xca, 0x90}, {0x0f, 0x01, 0xd0, 0x90},
        {0x0f, 0x01, 0xd1, 0x90}, {0x0f, 0xae, 0x00, 0x90}, {0x0f, 0xae, 0x08, 0x90},
        {0x0f, 0xae, 0x20, 0x90}, {0x0f, 0xae, 0x28, 0x90}, {0x9b, 0xd9, 0x30, 0x90},
        {0x48, 0xf7, 0xf1, 0x90}, {0x0f, 0x23, 0xf8, 0x90}, {0x0f, 0x23, 0xc0, 0x90},
        {0x0f, 0x21, 0xf0, 0x90}, {0x66, 0x0f, 0x38, 0x82}, {0xc8, 0xff, 0xff, 0x1f},
        {0x0f, 0x01, 0xee, 0x90}, {0x0f, 0x01, 0xef, 0x90}, {0x0f, 0xc7, 0xf0, 0x90},
        {0xf3, 0x0f, 0x01, 0xe8}, {0xf3, 0x0f, 0x01, 0xea}, {0xf3, 0x0f, 0x01, 0x28},
        {0xf3, 0x0f, 0xae, 0x30}, {0xf3, 0x0f, 0xae, 0xe8}, {0x0f, 0x38, 0xf6, 0x08},
        {0xf3, 0x0f, 0x1e, 0xfa}, {0x0f, 0xc7, 0x28, 0x90}, {0x0f, 0xc7, 0x18, 0x90},
        {0x0f, 0xc7, 0x20, 0x90}, {0xc5, 0xf8, 0x92, 0xc8}, {0xc5, 0xf8, 0x77, 0x90},
    };
    code_put(c, forms[rng_below(c->r, sizeof(forms) / 4)], 4);
}

/* AVX-512: a random instruction under a random mask at an address that hurts (it stands in RBX,
 * and the vectors are indices, too); or the state, saved or loaded by a random mask. */
static void op_vector(struct code *c) {
    uint64_t v = rng_next(c->r);
    load_reg(c, 3, code_address(c));
    if (v & 3) {
        load_reg(c, 0, rng_next(c->r));
        PUT(c, 0xc4, 0xe1, 0xfb, 0x92,
            (uint8_t)(0xc0 | (v >> 8 & 7) << 3)); /* kmovq k, rax */
        PUT(c, 0x62, (uint8_t)(0xf1 + (v >> 16 & 1) + (v >> 17 & 1)),
            (uint8_t)((v >> 24) | 4),
            (uint8_t)((v >> 32 & 0x9f) | 0x48 | (v >> 37 & 0x20)), (uint8_t)(v >> 40),
            (uint8_t)(v >> 48 & 1 ? 0x43 : 0x04),
            (uint8_t)(v >> 48 & 1 ? v >> 56 : 0xcb | (v >> 56 & 0x34)),
            (uint8_t)(v >> 50));
    } else {
        static const uint8_t forms[][3] = {{0x0f, 0xae, 0x23}, {0x0f, 0xae, 0x2b},
                                           {0x0f, 0xae, 0x33}, /* XSAVE, XRSTOR, OPT */
                                           {0x0f, 0xc7, 0x23}, {0x0f, 0xc7, 0x2b},
                                           {0x0f, 0xc7, 0x1b}}; /* C, S, XRSTORS */
        load_reg(c, 0, v >> 8);
        load_reg(c, 2, v >> 7 & 1 ? 0 : v);
        code_put(c, forms[rng_below(c->r, 6)], 3);
    }
}

static void op_string(struct code *c) {
    load_reg(c, 6, code_address(c));
    load_reg(c, 7, code_address(c));
    load_reg(c, 1, rng_below(c->r, 4) ? rng_below(c->r, 0x3000) : rng_next(c->r));
    static const uint8_t ops[] = {0xa4, 0xa5, 0xa6, 0xaa, 0xab,
                                  0xac, 0xae, 0xaf, 0x6c, 0x6e};
    PUT(c, (uint8_t)(rng_below(c->r, 8) ? 0xfc : 0xfd),
        (uint8_t)(rng_below(c->r, 2) ? 0xf3 : 0xf2), ops[rng_below(c->r, sizeof(ops))]);
}

static void op_port(struct code *c) {
    static const uint16_t ports[] = {
        0x20,  0x21,  0xa0,  0xa1,  0x40,  0x41,  0x42,   0x43,   0x60,  0x61,
        0x64,  0x70,  0x71,  0x80,  0x92,  0xe0,  0xe4,   0xe8,   0x3f8, 0x3f9,
        0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe, 0x3ff, 0x510,  0x511,  0x514, 0x518,
        0x600, 0x602, 0x604, 0x608, 0xcf8, 0xcfc, 0x2000, 0x2018,
    };
    static const uint8_t forms[][2] = {{0xec, 0x90}, {0xed, 0x90}, {0x66, 0xed},
                                       {0xee, 0x90}, {0xef, 0x90}, {0x66, 0xef}};
    load_reg(c, 2,
             rng_below(c->r, 5) ? ports[rng_below(c->r, sizeof(ports) / 2)]
                                : rng_next(c->r));
    load_reg(c, 0, rng_next(c->r));
    code_put(c, forms[rng_below(c->r, 6)], 2);
}

static void op_jump(struct code *c) {
    uint32_t to = rng_below(c->r, IMG_CODE_SIZE);
    load_reg(c, 0, IMG_BASE + IMG_CODE + to);
    PUT(c, 0xff, (uint8_t)(rng_below(c->r, 2) ? 0xe0 : 0xd0)); /* jmp or call rax */
}

static void op_patch(struct code *c) {
    uint64_t near = (uint64_t)IMG_BASE + IMG_CODE + rng_below(c->r, IMG_CODE_SIZE);
    if (rng_below(c->r,
                  2)) { /* the next bytes of this very block: mov byte [rip+d], imm */
        PUT(c, 0xc6, 0x05, (uint8_t)rng_below(c->r, 12), 0, 0, 0,
            (uint8_t)rng_next(c->r));
    } else {
        op_store(c, near, rng_next(c->r));
    }
}

void code_bytes(struct code *c) {
    uint64_t v = rng_next(c->r);
    code_put(c, &v, 1 + rng_below(c->r, 8));
}

static void gen_code(struct code *c, enum gen_kind kind) {
    static void (*const system_ops[])(struct code *) = {
        op_table_edit, op_control, op_msr,  op_descriptor,
        op_system,     op_string,  op_jump, op_vector};
    static void (*const mixed_ops[])(struct code *) = {
        op_table_edit, op_control, op_msr,   op_descriptor, op_system, op_string,
        op_jump,       op_port,    op_patch, code_bytes,    op_vector, code_bytes};
    while (c->end - c->p > 32) {
        switch (kind) {
        case GEN_BYTES:
            code_bytes(c);
            break;
        case GEN_SYSTEM:
            system_ops[rng_below(c->r, sizeof(system_ops) / sizeof(system_ops[0]))](c);
            break;
        case GEN_DEVICE:
            if (rng_below(c->r, 2))
                op_port(c);
            else
                op_store(c,
                         (rng_below(c->r, 2) ? 0xfee00000u : 0xfec00000u) +
                             rng_below(c->r, 0x1010),
                         rng_next(c->r));
            break;
        case GEN_SMC:
            rng_below(c->r, 4) ? op_patch(c) : op_jump(c);
            break;
        default:
            mixed_ops[rng_below(c->r, sizeof(mixed_ops) / sizeof(mixed_ops[0]))](c);
        }
    }
}

/* Every exception and interrupt: a fresh stack, a random next place. */
static void gen_handler(struct code *c) {
    load_reg(c, 4, IMG_BASE + IMG_STACK_TOP);
    load_reg(c, 3, IMG_BASE + IMG_DATA);
    PUT(c, 0x48, 0x8b, 0x03); /* mov rax, [rbx] */
    load_reg(c, 1, 6364136223846793005ull);
    PUT(c, 0x48, 0x0f, 0xaf, 0xc1); /* imul rax, rcx */
    PUT(c, 0x48, 0x83, 0xc0, 0x35); /* add rax, 0x35 */
    PUT(c, 0x48, 0x89, 0x03);       /* mov [rbx], rax */
    /* What the event has pushed goes from the shadow stack, too, where there is one. */
    PUT(c, 0x31, 0xc9, 0xf3, 0x48, 0x0f, 0x1e, 0xc9);       /* xor ecx, ecx; rdsspq rcx */
    PUT(c, 0x48, 0x85, 0xc9, 0x74, 0x0a);                   /* test rcx, rcx; jz +10 */
    PUT(c, 0xb9, 3, 0, 0, 0, 0xf3, 0x48, 0x0f, 0xae, 0xe9); /* mov ecx, 3; incsspq rcx */
    PUT(c, 0x48, 0xc1, 0xe8, 0x20);                         /* shr rax, 32 */
    PUT(c, 0x25);                                           /* and eax, code mask */
    code_imm(c, IMG_CODE_SIZE - 1, 4);
    PUT(c, 0x05); /* add eax, code base */
    code_imm(c, IMG_BASE + IMG_CODE, 4);
    PUT(c, 0xff, 0xe0); /* jmp rax */
}

static void gate(uint8_t *idt, unsigned vector, uint64_t target) {
    uint64_t lo = (target & 0xffff) | 0x10ull << 16 | 0x8e00ull << 32 |
                  (target >> 16 & 0xffff) << 48;
    uint64_t hi = target >> 32;
    memcpy(idt + 16 * vector, &lo, 8);
    memcpy(idt + 16 * vector + 8, &hi, 8);
}

/* Long-mode tables: the first 4 MiB by 4 KiB pages, the device range, a self map. */
static void gen_tables(uint8_t *img) {
    uint64_t *t = (uint64_t *)(img + IMG_TABLES);
    const uint64_t base = IMG_BASE + IMG_TABLES;
    t[0] = (base + 0x1000) | 7;
    t[511] = base | 3; /* a recursive slot */
    t[512] = (base + 0x2000) | 7;
    t[512 + 3] = (base + 0x3000) | 7;
    for (unsigned i = 0; i < 2; i++) {
        t[1024 + i] = (base + 0x4000 + 0x1000 * i) | 7;
        for (unsigned j = 0; j < 512; j++)
            t[2048 + 512 * i + j] = ((uint64_t)i << 21 | (uint64_t)j << 12) | 7;
    }
    t[1536 + 502] = 0xfec00000u | 0x9b; /* 2 MiB pages over IO-APIC and local APIC */
    t[1536 + 503] = 0xfee00000u | 0x9b;
    t[1536 + 504] = 0xff000000u | 0x9b;
}

static void gen_gdt(uint8_t *img) {
    const uint64_t tss = IMG_BASE + IMG_TSS;
    const uint64_t gdt[] = {
        0,
        0,
        0x00af9b000000ffffull,
        0x00cf93000000ffffull,
        0x00affb000000ffffull,
        0x00cff3000000ffffull,
        0x67 | (tss & 0xffffff) << 16 | 0x89ull << 40,
        0,
        0x00cf9b000000ffffull,
        0x008f9b000000ffffull,
        0x67 | (tss + 0x100) << 16 | 0x89ull << 40, /* 50h: another task */
        (uint64_t)0x50 << 16 | 0xe5ull << 40,       /* 58h: its gate */
        0x2b | (tss + 0x200) << 16 | 0x81ull << 40, /* 60h: one of 16 bits */
        0x20 | (tss + 0x100) << 16 | 0x89ull << 40, /* 68h: one that is too short */
    };
    memcpy(img + IMG_GDT, gdt, sizeof(gdt));
    uint64_t stack = IMG_BASE + IMG_STACK_TOP;
    memcpy(img + IMG_TSS + 4, &stack, 8);
}

/* The seed of the handler's generator, and the operands of LIDT and LGDT. */
static void gen_descriptors(uint8_t *img, struct rng *r) {
    uint64_t s = rng_next(r);
    memcpy(img + IMG_DATA, &s, 8);
    uint8_t *ptr = img + IMG_DATA + 16;
    memcpy(ptr, &(uint16_t){0xfff}, 2);
    memcpy(ptr + 2, &(uint64_t){IMG_BASE + IMG_IDT}, 8);
    memcpy(ptr + 16, &(uint16_t){111}, 2);
    memcpy(ptr + 18, &(uint64_t){IMG_BASE + IMG_GDT}, 8);
}

static void write_msr(struct code *c, uint32_t index, uint32_t value) {
    PUT(c, 0xb9);
    code_imm(c, index, 4); /* mov ecx, index; mov eax, value; xor edx, edx; wrmsr */
    PUT(c, 0xb8);
    code_imm(c, value, 4);
    PUT(c, 0x31, 0xd2, 0x0f, 0x30);
}

/* Dirty and not writable, with a token at its end. */
static void gen_shadow_page(uint8_t *img) {
    const uint64_t end = IMG_BASE + IMG_SHADOW_END;
    ((uint64_t *)(img + IMG_TABLES))[2048 + end / 4096] = (end & ~0xfffull) | 0x61;
    memcpy(img + IMG_SHADOW_END, &end, sizeof(end));
}

/* A supervisor's shadow stack, which WRSS may write. */
static void gen_shadow_stack(struct code *c) {
    PUT(c, 0x0f, 0x20, 0xe0, 0x0f, 0xba, 0xe8, 23); /* mov rax, cr4; bts eax, 23 */
    PUT(c, 0x0f, 0x22, 0xe0);                       /* mov cr4, rax */
    write_msr(c, 0x6a4, IMG_BASE + IMG_SHADOW_END); /* PL0_SSP */
    write_msr(c, 0x6a2, 3);                         /* S_CET: SH_STK_EN, WR_SHSTK_EN */
    PUT(c, 0xf3, 0x0f, 0x01, 0xe8);                 /* setssbsy */
}

/* AVX-512 state, all of it or some. */
static void gen_wide(struct code *c) {
    static const uint8_t xcr0[] = {0xe7, 0xe7, 0x07, 0x03};
    PUT(c, 0x0f, 0x20, 0xe0, 0x0d, 0x00, 0x06, 0x04,
        0x00);                                        /* mov rax, cr4; or eax, imm */
    PUT(c, 0x0f, 0x22, 0xe0, 0x31, 0xc9, 0x31, 0xd2); /* mov cr4, rax; ecx, edx: 0 */
    PUT(c, 0xb8, xcr0[rng_below(c->r, 4)], 0, 0, 0, 0x0f, 0x01, 0xd1); /* xsetbv */
}

static void gen_long(uint8_t *img, enum gen_kind kind, struct rng *r) {
    bool stack = rng_below(r, 2);
    struct code start = {img, img + IMG_CODE, r};
    struct code h = {img + IMG_HANDLER, img + IMG_HANDLER + 0x100, r};
    struct code body = {img + IMG_CODE, img + IMG_CODE + IMG_CODE_SIZE, r};
    gen_tables(img);
    if (stack)
        gen_shadow_page(img);
    for (unsigned v = 0; v < 256; v++)
        gate(img + IMG_IDT, v, IMG_BASE + IMG_HANDLER);
    gen_handler(&h);
    load_reg(&start, 0, IMG_BASE + IMG_DATA + 16);
    PUT(&start, 0x0f, 0x01, 0x18);       /* lidt [rax] */
    PUT(&start, 0x0f, 0x01, 0x50, 0x10); /* lgdt [rax+16] */
    PUT(&start, 0xb8, 0x30, 0, 0, 0);    /* mov eax, 0x30 */
    PUT(&start, 0x0f, 0x00, 0xd8);       /* ltr ax */
    load_reg(&start, 0, IMG_BASE + IMG_TABLES);
    PUT(&start, 0x0f, 0x22, 0xd8); /* mov cr3, rax */
    if (stack)
        gen_shadow_stack(&start);
    if (kind == GEN_SYSTEM || kind == GEN_MIXED)
        gen_wide(&start);
    load_reg(&start, 0, IMG_BASE + IMG_HANDLER);
    PUT(&start, 0xff, 0xe0);
    gen_code(&body, kind);
}

unsigned gen_bits(enum gen_kind kind) {
    return kind == GEN_PROTECTED ? 32 : kind == GEN_REAL ? 16 : 64;
}

void gen_guest(uint8_t *img, enum gen_kind kind, uint64_t seed) {
    struct rng r = {seed * 0x9e3779b97f4a7c15ull + 0x1234567};
    memset(img, 0, IMG_SIZE);
    if (kind == GEN_REAL) {
        gen_real(img, &r);
        return;
    }
    gen_gdt(img);
    gen_descriptors(img, &r);
    if (kind == GEN_PROTECTED)
        gen_protected(img, &r);
    else
        gen_long(img, kind, &r);
}
