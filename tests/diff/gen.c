/* SPDX-License-Identifier: MIT */
/*
 * How a case is made: prefixes, map, opcode, ModRM and the rest at random; then registers,
 * many of them pointers; then, mostly, the displacement such that the operand lies in the
 * data area, and at that place bytes that the instruction can make sense of.
 */
#include "gen.h"

#include <string.h>

enum { AX, CX, DX, BX, SP, BP, SI, DI };

static uint64_t rnd(struct diff_gen *g) {
    uint64_t z = g->rng += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}
static unsigned below(struct diff_gen *g, unsigned n) {
    return (unsigned)((rnd(g) >> 32) * n >> 32);
}
static bool chance(struct diff_gen *g, unsigned percent) {
    return below(g, 100) < percent;
}

void diff_gen_init(struct diff_gen *g, uint8_t xcr0, uint8_t images) {
    g->xcr0 = xcr0;
    g->images = images;
    static const ZydisMachineMode mode[] = {ZYDIS_MACHINE_MODE_LONG_COMPAT_32,
                                            ZYDIS_MACHINE_MODE_LONG_64};
    static const ZydisStackWidth width[] = {ZYDIS_STACK_WIDTH_32, ZYDIS_STACK_WIDTH_64};
    for (unsigned i = 0; i < 2; i++) {
        ZydisDecoderInit(&g->dec[i], mode[i], width[i]);
        /* What MPX, CET and CLDEMOTE take are NOPs where they are off, as they are here. */
        ZydisDecoderEnableMode(&g->dec[i], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
        ZydisDecoderEnableMode(&g->dec[i], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
        ZydisDecoderEnableMode(&g->dec[i], ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    }
}

void diff_gen_before(struct diff_gen *g, uint64_t seed, uint8_t *before) {
    g->rng = seed;
    for (unsigned i = 0; i < DIFF_DATA_SIZE; i += 8) {
        uint64_t v = rnd(g);
        memcpy(before + i, &v, 8);
    }
}

/* ---- Values ---- */

static uint64_t data_address(struct diff_gen *g) {
    static const uint8_t align[] = {1, 1, 2, 4, 8, 16, 16, 32, 64, 64};
    uint64_t at =
        chance(g, 70) ? 256 + below(g, 2 * 4096 - 512) : below(g, DIFF_DATA_SIZE);
    if (chance(g, 8)) /* around the end of a page */
        at = 4096 * (1 + below(g, DIFF_PAGES)) - below(g, 64);
    return DIFF_DATA + (at & ~(uint64_t)(align[below(g, sizeof align)] - 1));
}

static uint64_t random_value(struct diff_gen *g) {
    switch (below(g, 8)) {
    case 0:
        return below(g, 256);
    case 1:
        return (uint64_t) - (int64_t)below(g, 256);
    case 2:
        return UINT64_C(1) << below(g, 64);
    case 3:
        return (UINT64_C(1) << below(g, 64)) - 1;
    case 4:
        return (uint32_t)rnd(g);
    default:
        return rnd(g);
    }
}

static uint16_t selector(struct diff_gen *g) {
    static const uint16_t sel[] = {DIFF_CS64, DIFF_CS32, DIFF_DS, 0,    3,    0x10, 0x18,
                                   0x40,      0x7b,      0x63,    0x2f, 0x0b, 0x80, 0x53};
    return chance(g, 85) ? sel[below(g, sizeof sel / sizeof *sel)] : (uint16_t)rnd(g);
}

static uint64_t pointer(struct diff_gen *g) {
    return chance(g, 25) ? DIFF_CODE + below(g, DIFF_CODE_SIZE) : data_address(g);
}

static uint64_t register_value(struct diff_gen *g) {
    unsigned kind = below(g, 20);
    return kind < 9    ? pointer(g)
           : kind < 13 ? below(g, 64)
           : kind < 14 ? selector(g)
                       : random_value(g);
}

/* Vector registers: integers, doubles, floats, and what is special about them. */
static uint64_t random_lane(struct diff_gen *g) {
    static const uint64_t special[] = {
        0x3ff0000000000000, 0x7ff0000000000000, 0x7ff8000000000000, 0x0000000000000001,
        0x3f8000003f800000, 0x7f8000007fc00000, 0x0000000180000000, 0x7ff4000000000000};
    if (chance(g, 25))
        return special[below(g, 8)] ^ (uint64_t)below(g, 2) << 63;
    if (chance(g, 30)) { /* a double of moderate size */
        double d = (double)(int64_t)rnd(g) / (double)(1 + below(g, 1u << 31));
        uint64_t v;
        memcpy(&v, &d, 8);
        return v;
    }
    return random_value(g);
}

/* K0..7, and what AVX-512 adds to the vectors. */
static void random_wide(struct diff_gen *g, uint8_t *x) {
    for (unsigned i = DIFF_XSAVE_AVX; i < DIFF_XSAVE; i += 8) {
        uint64_t v = i >= DIFF_XSAVE_AVX + 64 ? random_lane(g)
                     : chance(g, 30)          ? ~UINT64_C(0)
                                              : random_value(g);
        memcpy(x + i, &v, 8);
    }
}

static void random_xsave(struct diff_gen *g, uint8_t xcr0, uint8_t *x) {
    memset(x, 0, DIFF_XSAVE);
    uint16_t fcw = (uint16_t)(0x7f | below(g, 4) << 8 | below(g, 4) << 10);
    uint32_t mxcsr = 0x1f80 | below(g, 4) << 13 | (chance(g, 20) ? 0x8040 : 0);
    if (chance(g, 5))
        fcw &= (uint16_t) ~(1u << below(g, 6));
    if (chance(g, 5))
        mxcsr &= ~(0x80u << below(g, 6));
    uint16_t fsw = (uint16_t)(below(g, 8) << 11 | (chance(g, 20) ? rnd(g) & 0x477f : 0));
    if (fsw & ~fcw & 0x3f) /* a pending exception */
        fsw |= 0x8080;
    memcpy(x, &fcw, 2);
    memcpy(x + 2, &fsw, 2);
    x[4] = (uint8_t)(chance(g, 30) ? 0xff : rnd(g));
    memcpy(x + 24, &mxcsr, 4);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t man = rnd(g) | UINT64_C(1) << 63;
        uint16_t exp = (uint16_t)(0x3fff - 40 + below(g, 80) + (below(g, 2) << 15));
        if (chance(g, 10))
            exp = (uint16_t)rnd(g);
        if (chance(g, 10))
            man = rnd(g);
        memcpy(x + 32 + 16 * i, &man, 8);
        memcpy(x + 40 + 16 * i, &exp, 2);
    }
    for (unsigned i = 0; i < 32; i++) {
        uint64_t a = random_lane(g), b = xcr0 & 4 ? random_lane(g) : 0;
        memcpy(x + 160 + 8 * i, &a, 8);
        memcpy(x + 576 + 8 * i, &b, 8);
    }
    if (xcr0 & 0x20)
        random_wide(g, x);
    x[512] = xcr0;
}

/* ---- The instruction's bytes ---- */

static unsigned add_prefixes(struct diff_gen *g, bool code64, uint8_t *p) {
    static const uint8_t prefix[] = {0x66, 0x66, 0x66, 0x67, 0xf2, 0xf2, 0xf3, 0xf3,
                                     0xf3, 0xf0, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    static const uint8_t count[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                    1, 1, 1, 1, 1, 2, 2, 3, 4};
    unsigned n = 0, want = count[below(g, sizeof count)];
    if (chance(g, 1))
        want = below(g, 15);
    while (n < want) {
        p[n++] = prefix[below(g, sizeof prefix)];
        if (code64 && chance(g, 2)) /* without effect, unless it is the last */
            p[n - 1] = (uint8_t)(0x40 | below(g, 16));
    }
    if (code64 && chance(g, 45) && n < 15)
        p[n++] = (uint8_t)(0x40 | below(g, 16));
    return n;
}

static unsigned add_vex(struct diff_gen *g, uint8_t *p) {
    unsigned vvvv = chance(g, 40) ? 15 : below(g, 16), low = below(g, 8) | vvvv << 3;
    if (chance(g, 25)) {
        p[0] = 0xc5;
        p[1] = (uint8_t)(0x80 | low);
        if (chance(g, 30))
            p[1] &= 0x7f;
        return 2;
    }
    p[0] = 0xc4;
    p[1] = (uint8_t)(0xe0 | (chance(g, 96) ? 1 + below(g, 3) : below(g, 32)));
    if (chance(g, 50))
        p[1] ^= (uint8_t)(below(g, 8) << 5);
    p[2] = (uint8_t)(low | below(g, 2) << 7);
    return 3;
}

static unsigned add_evex(struct diff_gen *g, uint8_t *p) {
    unsigned low = below(g, 4) | 4, len = chance(g, 96) ? below(g, 3) : 3;
    unsigned b = chance(g, 30), z = chance(g, 25), k = chance(g, 60) ? below(g, 8) : 0;
    unsigned high = chance(g, 60) ? 0xf0 : below(g, 16) << 4;
    p[0] = 0x62;
    p[1] = (uint8_t)(high | (chance(g, 97) ? 1 + below(g, 3) : below(g, 16)));
    p[2] = (uint8_t)(low | (chance(g, 40) ? 15 : below(g, 16)) << 3 | below(g, 2) << 7);
    p[3] = (uint8_t)(k | (chance(g, 70) ? 8 : 0) | b << 4 | len << 5 | z << 7);
    return 4;
}

/* Opcodes of one byte that are drawn more often than others. */
static uint8_t opcode_of_map0(struct diff_gen *g) {
    unsigned kind = below(g, 16);
    if (kind == 0)
        return (uint8_t)(0xd8 | below(g, 8));
    if (kind == 1)
        return (uint8_t)(0xa4 | below(g, 4) | below(g, 2) * 8);
    return (uint8_t)rnd(g);
}

static unsigned random_bytes(struct diff_gen *g, bool code64, uint8_t *p) {
    unsigned n = add_prefixes(g, code64, p), kind = below(g, 100);
    if (g->xcr0 & 0x20 && chance(g, 35)) {
        if (chance(g, 97)) /* as before VEX */
            n = 0;
        n += add_evex(g, p + n);
        p[n++] = (uint8_t)rnd(g);
    } else if (kind < 36) {
        p[n++] = opcode_of_map0(g);
    } else if (kind < 64) {
        p[n++] = 0x0f;
        p[n++] = (uint8_t)rnd(g);
    } else if (kind < 76) {
        p[n++] = 0x0f;
        p[n++] = chance(g, 60) ? 0x38 : 0x3a;
        p[n++] = (uint8_t)rnd(g);
    } else if (kind < 98) {
        if (chance(g, 92)) /* a prefix before it is mostly #UD */
            n = 0;
        n += add_vex(g, p + n);
        p[n++] = (uint8_t)rnd(g);
    } else {
        p[n++] = chance(g, 50) ? 0x62 : 0x8f;
    }
    for (unsigned i = 0; i < 16; i++)
        p[n + i] = (uint8_t)rnd(g);
    if (chance(g, 35)) /* ModRM names a register */
        p[n] |= 0xc0;
    return n;
}

static bool decode(struct diff_gen *g, const struct diff_case *c, struct diff_insn *in) {
    in->defined = ZYAN_SUCCESS(
        ZydisDecoderDecodeFull(&g->dec[c->code64], c->code, 15, &in->zi, in->op));
    return in->defined;
}

static void make_bytes(struct diff_gen *g, struct diff_case *c, struct diff_insn *in) {
    uint8_t bytes[64];
    for (unsigned tries = 0; tries < 12; tries++) {
        random_bytes(g, c->code64, bytes);
        memcpy(c->code, bytes, sizeof c->code);
        if (decode(g, c, in) || chance(g, 25))
            break;
    }
    c->len = in->defined ? in->zi.length : 1 + below(g, 15);
    memset(c->code + c->len, 0xcc, sizeof c->code - c->len); /* as the page has it */
    if (!in->defined && decode(g, c, in))
        c->len = in->zi.length;
}

/* Why is it undefined? */
static void look_closer(struct diff_gen *g, const struct diff_case *c,
                        struct diff_insn *in) {
    struct diff_case other = *c;
    struct diff_insn seen;
    in->locked = memchr(c->code, 0xf0, c->len);
    in->other_w = false;
    unsigned at = 0; /* of VEX or EVEX, behind prefixes that it allows */
    while (at < 12 && memchr("\x26\x2e\x36\x3e\x64\x65\x67", c->code[at], 7))
        at++;
    if (in->defined || (c->code[at] != 0xc4 && c->code[at] != 0x62))
        return;
    other.code[at + 2] ^= 0x80;
    in->other_w = decode(g, &other, &seen);
}

/* ---- The memory operand ---- */

static const ZydisDecodedOperand *memory_operand(const struct diff_insn *in) {
    for (unsigned i = 0; in->defined && i < in->zi.operand_count; i++)
        if (in->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
            in->op[i].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
            return &in->op[i];
    return NULL;
}

static uint64_t value_of(const struct diff_case *c, ZydisRegister r, uint64_t next) {
    if (r == ZYDIS_REGISTER_NONE)
        return 0;
    if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP)
        return next;
    ZydisRegister full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r);
    unsigned i = full - ZYDIS_REGISTER_RAX;
    return i < 16 ? c->gpr[i] : 0;
}

static uint64_t segment_base(const struct diff_case *c, ZydisRegister seg) {
    return !c->code64                 ? 0
           : seg == ZYDIS_REGISTER_FS ? DIFF_FS
           : seg == ZYDIS_REGISTER_GS ? DIFF_GS
                                      : 0;
}

/* Base 5 of a SIB byte with mod 0 is none, also with REX.B (SDM volume 2, "32-Bit Addressing Forms
 * with the SIB Byte"); Zydis 4.0 says R13D with the prefix 67. */
static bool has_no_base(const struct diff_insn *in) {
    return in->zi.raw.sib.offset && in->zi.raw.modrm.mod == 0 && in->zi.raw.sib.base == 5;
}

/* Address of a memory operand without its displacement. */
static uint64_t base_address(const struct diff_case *c, const struct diff_insn *in,
                             const ZydisDecodedOperand *o) {
    uint64_t next = c->rip + in->zi.length;
    uint64_t base = has_no_base(in) ? 0 : value_of(c, o->mem.base, next);
    return base + value_of(c, o->mem.index, next) * o->mem.scale;
}

static uint64_t address_mask(const struct diff_insn *in) {
    unsigned width = in->zi.address_width;
    return width == 64 ? ~UINT64_C(0) : (UINT64_C(1) << width) - 1;
}

/* Point the operand into the data area, if its displacement can. */
static void aim(struct diff_gen *g, struct diff_case *c, struct diff_insn *in) {
    const ZydisDecodedOperand *o = memory_operand(in);
    unsigned size = in->zi.raw.disp.size / 8;
    if (!o || !size || chance(g, 8))
        return;
    uint64_t target = data_address(g) - segment_base(c, o->mem.segment);
    uint64_t disp = target - base_address(c, in, o);
    if (in->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX && size == 1) {
        c->code[in->zi.raw.disp.offset] = 1;
        decode(g, c, in); /* the operand's displacement is now the unit */
        disp = (uint64_t)((int64_t)disp / memory_operand(in)->mem.disp.value);
    }
    int64_t fits = size == 1 ? (int8_t)disp : size == 2 ? (int16_t)disp : (int32_t)disp;
    if ((((uint64_t)fits ^ disp) & address_mask(in)) == 0)
        memcpy(c->code + in->zi.raw.disp.offset, &disp, size);
    decode(g, c, in);
}

static void find_address(const struct diff_case *c, struct diff_insn *in) {
    const ZydisDecodedOperand *o = memory_operand(in);
    in->has_address = o && (o->mem.type == ZYDIS_MEMOP_TYPE_MEM);
    if (!in->has_address)
        return;
    int64_t disp = has_no_base(in) ? in->zi.raw.disp.value : o->mem.disp.value;
    uint64_t a = base_address(c, in, o) + (uint64_t)disp;
    in->address = (a & address_mask(in)) + segment_base(c, o->mem.segment);
    if (!c->code64)
        in->address &= 0xffffffff;
}

/* Byte i of a vector register. */
static uint8_t *lane_of(uint8_t *xsave, unsigned reg, unsigned i) {
    return reg >= 16 ? xsave + 1408 + 64 * (reg - 16) + i
           : i < 16  ? xsave + 160 + 16 * reg + i
           : i < 32  ? xsave + 576 + 16 * reg + i - 16
                     : xsave + 896 + 32 * reg + i - 32;
}

/* Indices of a gather that lead into the data area, and a mask. */
static void make_gather(struct diff_gen *g, struct diff_case *c,
                        const struct diff_insn *in) {
    const ZydisDecodedOperand *o = memory_operand(in);
    if (!o || o->mem.type != ZYDIS_MEMOP_TYPE_VSIB)
        return;
    unsigned reg = (unsigned)ZydisRegisterGetId(o->mem.index);
    unsigned size = chance(g, 50) ? 4 : 8, end = g->xcr0 & 0x20 ? 64 : 32;
    for (unsigned i = 0; i < end; i += size) {
        uint64_t v = below(g, chance(g, 90) ? 300 : 4000);
        memcpy(lane_of(c->xsave, reg, i), &v, size);
    }
}

/* ---- 32-bit code as 64-bit code ---- */

static bool same_operand(const ZydisDecodedOperand *a, const ZydisDecodedOperand *b) {
    if (a->type != b->type || a->actions != b->actions || a->size != b->size)
        return false;
    switch (a->type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
        if (ZydisRegisterGetClass(a->reg.value) == ZYDIS_REGCLASS_SEGMENT)
            return false;
        return a->reg.value == b->reg.value || b->reg.value == ZYDIS_REGISTER_RFLAGS ||
               b->reg.value == ZYDIS_REGISTER_RIP;
    case ZYDIS_OPERAND_TYPE_MEMORY:
        return a->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM &&
               a->mem.type == b->mem.type &&
               a->mem.segment != ZYDIS_REGISTER_CS && /* not for stores */
               a->size <= 512 && /* state areas have other registers */
               b->mem.base != ZYDIS_REGISTER_RIP;
    default:
        return a->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    }
}

bool diff_gen_same_in_64(struct diff_gen *g, const struct diff_case *c,
                         const struct diff_insn *in) {
    struct diff_case other = *c;
    struct diff_insn wide;
    other.code64 = true;
    if (!in->defined || !decode(g, &other, &wide) ||
        wide.zi.mnemonic != in->zi.mnemonic || wide.zi.length != in->zi.length ||
        wide.zi.operand_count != in->zi.operand_count ||
        wide.zi.operand_width != in->zi.operand_width || in->zi.address_width != 32 ||
        wide.zi.address_width != 64 || in->zi.meta.branch_type)
        return false;
    for (unsigned i = 0; i < in->zi.operand_count; i++)
        if (!same_operand(&in->op[i], &wide.op[i]))
            return false;
    const ZydisDecodedOperand *o = memory_operand(&wide);
    if (!o || o->mem.type != ZYDIS_MEMOP_TYPE_MEM)
        return !o;
    /* It must not wrap at 4 GiB. */
    uint64_t a = base_address(&other, &wide, o) + (uint64_t)o->mem.disp.value;
    return a == in->address && a < UINT64_C(0xffffff00);
}

/* ---- What stands in memory ---- */

static void poke(struct diff_poke *p, uint64_t address, uint32_t len) {
    uint64_t at = address - DIFF_DATA;
    p->len = 0;
    if (at < DIFF_DATA_SIZE) {
        p->at = (uint32_t)at;
        p->len = at + len <= DIFF_DATA_SIZE ? len : DIFF_DATA_SIZE - (uint32_t)at;
    }
}

/* Images of x87 and vector state for what loads them. */
static bool poke_image(struct diff_gen *g, struct diff_case *c,
                       const struct diff_insn *in) {
    struct diff_poke *p = &c->poke[0];
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
        random_xsave(g, g->images, p->bytes);
        p->bytes[512] = (uint8_t)(rnd(g) & g->images);
        if (chance(g, 10)) {
            unsigned at = chance(g, 50) ? 512 + below(g, 64) : below(g, 32);
            p->bytes[at] = (uint8_t)rnd(g);
        }
        poke(p, in->address, DIFF_XSAVE);
        return true;
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FRSTOR:
        random_xsave(g, g->images, p->bytes);
        memmove(p->bytes + 4, p->bytes + 2, 2);
        memset(p->bytes + 2, 0, 2);
        p->bytes[8] = (uint8_t)rnd(g), p->bytes[9] = (uint8_t)rnd(g);
        poke(p, in->address, 108);
        return true;
    default:
        return false;
    }
}

static void poke_words(struct diff_gen *g, uint8_t *bytes, unsigned len) {
    unsigned kind = below(g, 6);
    for (unsigned i = 0; i < len; i += 8) {
        uint64_t v = kind == 0 ? below(g, 64) : kind == 1 ? pointer(g) : random_lane(g);
        memcpy(bytes + i, &v, 8);
    }
    if (kind < 3) { /* a far pointer */
        static const uint8_t offset_size[] = {2, 4, 8};
        uint16_t sel = selector(g);
        memcpy(bytes + offset_size[below(g, 3)], &sel, 2);
    }
}

/* A frame as IRET or RETF take it. */
static void poke_stack(struct diff_gen *g, struct diff_case *c) {
    static const uint8_t sizes[] = {2, 4, 4, 8, 8, 8};
    struct diff_poke *p = &c->poke[1];
    unsigned size = c->code64 ? sizes[below(g, 6)] : sizes[below(g, 3)];
    uint64_t word[] = {pointer(g),      selector(g), (rnd(g) & 0x4fd7) | 0x200,
                       data_address(g), selector(g), pointer(g)};
    for (unsigned i = 0; i < 6; i++)
        memcpy(p->bytes + i * size, &word[i], size);
    poke(p, c->gpr[SP] & (c->code64 ? ~UINT64_C(0) : 0xffffffff), 6 * size);
}

/* ---- All together ---- */

static void make_registers(struct diff_gen *g, struct diff_case *c,
                           const struct diff_insn *in) {
    for (unsigned i = 0; i < 16; i++)
        c->gpr[i] = register_value(g);
    if (chance(g, 85)) {
        c->gpr[SP] = data_address(g);
        if (chance(g, 70))
            c->gpr[SP] &= ~UINT64_C(7);
    }
    if (in->defined && in->zi.meta.category == ZYDIS_CATEGORY_STRINGOP) {
        if (chance(g, 85))
            c->gpr[SI] = data_address(g);
        if (chance(g, 85))
            c->gpr[DI] = data_address(g);
        if (chance(g, 50))
            c->gpr[CX] = below(g, 4);
    }
    if (in->defined && in->zi.meta.category == ZYDIS_CATEGORY_XSAVE) {
        c->gpr[DX] = 0; /* the components of this test alone: the host may have others */
        c->gpr[AX] &= g->images;
    }
    /* Kernels and hypervisors may refuse to go to ring 3 with any other stack. */
    if (c->code64)
        c->gpr[SP] = (uint64_t)((int64_t)(c->gpr[SP] << 17) >> 17);
    else
        for (unsigned i = 0; i < 16; i++)
            c->gpr[i] = i < 8 ? (uint32_t)c->gpr[i] : 0;
    c->rflags = 0x202 | (rnd(g) & 0x8d5) | (chance(g, 30) ? 0x400 : 0) |
                (chance(g, 6) ? 0x40000 : 0);
}

static bool moves_bases(const struct diff_insn *in) {
    if (!in->defined)
        return true;
    switch (in->zi.meta.category) {
    case ZYDIS_CATEGORY_RDWRFSGS:
    case ZYDIS_CATEGORY_SEGOP:
        return true;
    default:
        break;
    }
    for (unsigned i = 0; i < in->zi.operand_count; i++)
        if (in->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(in->op[i].reg.value) == ZYDIS_REGCLASS_SEGMENT &&
            in->op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
            return true;
    return false;
}

void diff_gen_case(struct diff_gen *g, uint64_t seed, uint64_t n, bool code64,
                   struct diff_case *c, struct diff_insn *in) {
    g->rng = seed * UINT64_C(0xd1342543de82ef95) + n * UINT64_C(0x2545f4914f6cdd1d);
    rnd(g);
    c->code64 = code64;
    make_bytes(g, c, in);
    look_closer(g, c, in);
    make_registers(g, c, in);
    random_xsave(g, g->xcr0, c->xsave);
    make_gather(g, c, in);
    c->rip = DIFF_CODE + (chance(g, 50) ? DIFF_CODE_SIZE - c->len
                                        : 64 + below(g, DIFF_CODE_SIZE - 128));
    aim(g, c, in);
    find_address(c, in);
    c->bases = moves_bases(in);
    c->poke[0].len = c->poke[1].len = 0;
    memset(c->ignore, 0, sizeof c->ignore);
    poke_stack(g, c);
    if (in->has_address && !poke_image(g, c, in)) {
        poke_words(g, c->poke[0].bytes, 64);
        poke(&c->poke[0], in->address, 64);
    }
}
