/* SPDX-License-Identifier: MIT */
/* Hostile guests of protected and real mode: see gen.h. */
#include <string.h>

#include "gen_code.h"

/* ---- Protected mode ---- */

static void load_reg32(struct code *c, unsigned reg, uint32_t v) {
    PUT(c, (uint8_t)(0xb8 | reg));
    code_imm(c, v, 4);
}

/* A fresh stack, and the next place by a linear congruence (as in ANSI C's rand). */
static void gen_handler32(struct code *c) {
    load_reg32(c, 4, IMG_BASE + IMG_STACK_TOP);
    load_reg32(c, 3, IMG_BASE + IMG_DATA);
    PUT(c, 0x8b, 0x03); /* mov eax, [ebx] */
    PUT(c, 0x69, 0xc0); /* imul eax, eax, imm */
    code_imm(c, 1103515245, 4);
    PUT(c, 0x05); /* add eax, imm */
    code_imm(c, 12345, 4);
    PUT(c, 0x89, 0x03);       /* mov [ebx], eax */
    PUT(c, 0xc1, 0xe8, 0x08); /* shr eax, 8 */
    PUT(c, 0x25);
    code_imm(c, IMG_CODE_SIZE - 1, 4);
    PUT(c, 0x05);
    code_imm(c, IMG_BASE + IMG_CODE, 4);
    PUT(c, 0xff, 0xe0); /* jmp eax */
}

static void op_control32(struct code *c) {
    uint64_t v = rng_next(c->r);
    unsigned n = v & 1 ? 0 : 4;
    if (v >> 8 & 1) {
        load_reg32(c, 0, IMG_BASE + IMG_TABLES + (uint32_t)(v >> 16 & 0x3fe0));
        PUT(c, 0x0f, 0x22, 0xd8); /* mov cr3, eax */
        return;
    }
    PUT(c, 0x0f, 0x20, (uint8_t)(0xc0 | n << 3));
    PUT(c, 0x0f, 0xba, 0xf8, (uint8_t)(v >> 32 & 31)); /* btc eax, n */
    PUT(c, 0x0f, 0x22, (uint8_t)(0xc0 | n << 3));
}

static void op_touch32(struct code *c) {
    static const uint8_t forms[][3] = {
        {0x89, 0x08, 0x90}, {0x66, 0x01, 0x08}, {0x8b, 0x08, 0x90}, {0xff, 0x30, 0x90},
        {0x0f, 0x01, 0x38}, {0x8e, 0x18, 0x90}, {0xc4, 0x08, 0x90}, {0x62, 0x08, 0x90},
        {0xff, 0x28, 0x90}, {0xf0, 0x87, 0x08}, {0x0f, 0xb2, 0x20}, {0xd9, 0x30, 0x90},
    };
    load_reg32(c, 0, (uint32_t)code_address(c));
    code_put(c, forms[rng_below(c->r, sizeof(forms) / 3)], 3);
}

/* Tasks: gen.c's GDT has a TSS at 30h, 50h, 60h and 68h, and a task gate at 58h. */
static void op_task32(struct code *c) {
    static const uint8_t sel[] = {0x30, 0x50, 0x58, 0x60, 0x68, 0x50};
    switch (rng_below(c->r, 4)) {
    case 0:
        PUT(c, 0x9c, 0x81, 0x0c, 0x24, 0x00, 0x40, 0x00, 0x00, 0x9d, 0xcf); /* NT, IRET */
        break;
    case 1: /* a field of a TSS */
        PUT(c, 0xc7, 0x05);
        code_imm(c, IMG_BASE + IMG_TSS + rng_below(c->r, 0x300), 4);
        code_imm(c, rng_below(c->r, 2) ? code_address(c) : rng_next(c->r), 4);
        break;
    default: /* far CALL, or far JMP */
        PUT(c, rng_below(c->r, 2) ? 0x9a : 0xea, 0, 0, 0, 0, sel[rng_below(c->r, 6)], 0);
    }
}

static void gen_code32(struct code *c) {
    while (c->end - c->p > 32) {
        switch (rng_below(c->r, 9)) {
        case 0:
            op_control32(c);
            break;
        case 1:
        case 2:
            op_touch32(c);
            break;
        case 3:
            PUT(c, 0xcd, (uint8_t)rng_next(c->r)); /* int n */
            break;
        case 4:
            op_task32(c);
            break;
        default:
            code_bytes(c);
        }
    }
}

static void gate32(uint8_t *idt, unsigned vector, uint32_t target) {
    uint64_t g = (target & 0xffff) | 0x40ull << 16 | 0x8e00ull << 32 |
                 (uint64_t)(target >> 16) << 48;
    memcpy(idt + 8 * vector, &g, 8);
}

/* 32-bit tables, as 4 KiB and 4 MiB entries; read as PAE they are rubbish, as intended.
 */
static void gen_tables32(uint8_t *img, struct rng *r) {
    uint32_t *t = (uint32_t *)(img + IMG_TABLES);
    t[0] = 0x83; /* the first 4 MiB */
    t[1] = (IMG_BASE + IMG_TABLES + 0x1000) | 7;
    t[1019] = 0xfec00083u; /* devices */
    t[1023] = (IMG_BASE + IMG_TABLES) | 3;
    for (unsigned i = 2; i < 64; i++)
        t[i] = (uint32_t)code_pte(r);
    for (unsigned i = 0; i < 1024; i++)
        t[1024 + i] = (uint32_t)code_pte(r);
}

static void put(uint8_t *to, uint32_t v, size_t n) {
    memcpy(to, &v, n);
}

/* A TSS of 32 bits that can be entered, and one of 16 bits. */
static void gen_tasks(uint8_t *img, struct rng *r) {
    uint8_t *tss = img + IMG_TSS + 0x100, *narrow = img + IMG_TSS + 0x200;
    put(tss + 0x1c, IMG_BASE + IMG_TABLES, 4);
    put(tss + 0x20, IMG_BASE + IMG_CODE + rng_below(r, IMG_CODE_SIZE), 4);
    put(tss + 0x24, 2 | (rng_below(r, 4) ? 0 : 0x4100), 4);
    put(tss + 0x38, IMG_BASE + IMG_STACK_TOP, 4);
    for (unsigned at = 0x48; at < 0x60; at += 4)
        put(tss + at, at == 0x4c ? 0x40 : 0x18, 2);
    put(narrow + 0x0e, rng_below(r, 0x10000), 2);
    put(narrow + 0x10, 2, 2);
    put(narrow + 0x1a, 0xfff0, 2);
    for (unsigned at = 0x22; at < 0x2a; at += 2)
        put(narrow + at, at == 0x24 ? 0x40 : 0x18, 2);
}

void gen_protected(uint8_t *img, struct rng *r) {
    struct code start = {img, img + IMG_CODE, r};
    gen_tables32(img, r);
    gen_tasks(img, r);
    for (unsigned v = 0; v < 256; v++)
        gate32(img + IMG_IDT, v, IMG_BASE + IMG_HANDLER);
    img[IMG_IDT + 8 * 0x81 + 2] = 0x50; /* INT 81H: a task gate */
    img[IMG_IDT + 8 * 0x81 + 5] = 0x85;
    struct code h = {img + IMG_HANDLER, img + IMG_HANDLER + 0x100, r};
    gen_handler32(&h);
    load_reg32(&start, 0, IMG_BASE + IMG_DATA + 16);
    PUT(&start, 0x0f, 0x01, 0x18);       /* lidt [eax] */
    PUT(&start, 0x0f, 0x01, 0x50, 0x10); /* lgdt [eax+16] */
    load_reg32(&start, 0, IMG_BASE + IMG_TABLES);
    PUT(&start, 0x0f, 0x22, 0xd8);                      /* mov cr3, eax */
    PUT(&start, 0xb8, 0x30, 0, 0, 0, 0x0f, 0x00, 0xd8); /* ltr */
    PUT(&start, 0xea);                                  /* jmp far 0x40:handler */
    code_imm(&start, IMG_BASE + IMG_HANDLER, 4);
    PUT(&start, 0x40, 0x00);
    struct code body = {img + IMG_CODE, img + IMG_CODE + IMG_CODE_SIZE, r};
    gen_code32(&body);
}

/* ---- Real mode: everything within the segment at IMG_BASE ---- */

#define REAL_SEG     (IMG_BASE >> 4)
#define REAL_HANDLER 0x0200u
#define REAL_DATA    0x0300u
#define REAL_CODE    0x0400u

/* Fill the vector table at 0, then begin as if after an exception. */
static void gen_start16(struct code *c, uint8_t *img) {
    /* xor ax,ax; mov es,ax; xor di,di; cld; mov cx,256 */
    PUT(c, 0x31, 0xc0, 0x8e, 0xc0, 0x31, 0xff, 0xfc, 0xb9, 0x00, 0x01);
    /* fill: mov ax,HANDLER; stosw; mov ax,REAL_SEG; stosw; loop fill */
    PUT(c, 0xb8, REAL_HANDLER & 0xff, REAL_HANDLER >> 8, 0xab);
    PUT(c, 0xb8, REAL_SEG & 0xff, REAL_SEG >> 8, 0xab, 0xe2, 0xf6);
    PUT(c, 0xe9); /* jmp handler */
    size_t after = (size_t)(c->p - img) + 2;
    code_imm(c, REAL_HANDLER - after, 2);
}

static void gen_handler16(struct code *c) {
    /* mov ax,0x9000; mov ss,ax; mov sp,0xfff0; mov ax,REAL_SEG; mov ds,ax */
    PUT(c, 0xb8, 0x00, 0x90, 0x8e, 0xd0, 0xbc, 0xf0, 0xff);
    PUT(c, 0xb8, REAL_SEG & 0xff, REAL_SEG >> 8, 0x8e, 0xd8);
    /* mov eax,[DATA]; imul eax,eax,imm; add eax,imm; mov [DATA],eax; shr eax,16 */
    PUT(c, 0x66, 0xa1, REAL_DATA & 0xff, REAL_DATA >> 8, 0x66, 0x69, 0xc0);
    code_imm(c, 1103515245, 4);
    PUT(c, 0x66, 0x05);
    code_imm(c, 12345, 4);
    PUT(c, 0x66, 0xa3, REAL_DATA & 0xff, REAL_DATA >> 8, 0x66, 0xc1, 0xe8, 0x10);
    /* or ax,REAL_CODE; push REAL_SEG; push ax; sti; retf */
    PUT(c, 0x0d, REAL_CODE & 0xff, REAL_CODE >> 8);
    PUT(c, 0x68, REAL_SEG & 0xff, REAL_SEG >> 8, 0x50, 0xfb, 0xcb);
}

void gen_real(uint8_t *img, struct rng *r) {
    struct code start = {img, img + REAL_HANDLER, r};
    struct code h = {img + REAL_HANDLER, img + REAL_DATA, r};
    struct code body = {img + REAL_CODE, img + 0x10000, r};
    uint32_t seed = (uint32_t)rng_next(r);
    memcpy(img + REAL_DATA, &seed, 4);
    gen_start16(&start, img);
    gen_handler16(&h);
    while (body.end - body.p > 16) {
        if (rng_below(r, 6))
            code_bytes(&body);
        else
            PUT(&body, 0xcd, (uint8_t)rng_next(r)); /* int n */
    }
}
