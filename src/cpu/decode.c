/* SPDX-License-Identifier: MIT */
/*
 * Parse an instruction's bytes into fields, and find its shape by them.
 *
 * Invariants
 * 1. The key holds every field that a shape depends on. An encoding whose shape depends
 *    on more has SH_NOMEMO: Zydis is asked about it each time.
 * 2. The length found here and Zydis's agree, or the instruction is undefined.
 */
#include <stdlib.h>
#include <string.h>

#include "cpu/decode.h"
#include "cpu/model.h"
#include "cpu/shape.h"

/* ---- Which opcodes have a ModRM byte: one bit each, one word per row of 16 ---- */

static const uint16_t modrm_map0[16] = {
    0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, /* 00..3f: groups of ALU operations */
    0x0000, 0x0000, 0x0a0c, 0x0000, /* 62 63 69 6b */
    0xffff, 0x0000, 0x0000, 0x0000, /* 80..8f */
    0x00f3, 0xff0f, 0x0000, 0xc0c0, /* c0 c1 c4..c7, d0..d3 d8..df, f6 f7 fe ff */
};
static const uint16_t modrm_map1[16] = {
    0xa00f, 0xffff, 0xff7f, 0x0000, /* 00..03 0d 0f, 10..1f, 20..2f, - */
    0xffff, 0xffff, 0xffff, 0xff7f, /* 40..7f but 77 */
    0x0000, 0xffff, 0xf838, 0xffff, /* -, 90..9f, a3..a5 ab..af, b0..bf */
    0x00ff, 0xffff, 0xffff, 0xffff, /* c0..c7, d0..ff */
};

struct cursor {
    const uint8_t *p;
    unsigned pos, avail;
    enum decode_rc rc;
    bool evex; /* the model has EVEX */
};

static unsigned next8(struct cursor *c) {
    if (c->pos >= 15) {
        c->rc = DECODE_TOO_LONG;
        return 0;
    }
    if (c->pos >= c->avail) {
        if (c->rc == DECODE_OK)
            c->rc = DECODE_MORE;
        return 0;
    }
    return c->p[c->pos++];
}

static uint64_t next_n(struct cursor *c, unsigned n) {
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v |= (uint64_t)next8(c) << 8 * i;
    return v;
}

static unsigned peek8(const struct cursor *c) {
    return c->pos < c->avail ? c->p[c->pos] : 0;
}

static uint64_t sext(uint64_t v, unsigned bytes) {
    unsigned s = 64 - 8 * bytes;
    return bytes ? (uint64_t)((int64_t)(v << s) >> s) : 0;
}

/* ---- Memory operands ---- */

static void modrm16(struct cursor *c, struct dec *d, unsigned rm) {
    static const uint8_t base[8] = {R_BX, R_BX, R_BP, R_BP, R_SI, R_DI, R_BP, R_BX};
    static const uint8_t index[8] = {R_SI,       R_DI,       R_SI,       R_DI,
                                     INSN_NOREG, INSN_NOREG, INSN_NOREG, INSN_NOREG};
    struct insn *in = &d->in;
    in->base = base[rm];
    in->index = index[rm];
    in->seg = in->base == R_BP ? SEG_SS : SEG_DS;
    if (d->mod == 0 && rm == 6) {
        in->base = INSN_NOREG;
        in->seg = SEG_DS;
        in->disp = (int64_t)sext(next_n(c, 2), 2);
    } else if (d->mod) {
        in->disp = (int64_t)sext(next_n(c, d->mod), d->mod);
    }
}

/* Return: 1 when the operand is RIP-relative. */
static bool modrm32(struct cursor *c, struct dec *d, unsigned rm, unsigned rex,
                    bool code64) {
    struct insn *in = &d->in;
    bool rip_rel = false;
    unsigned disp = d->mod == 1 ? 1 : d->mod == 2 ? 4 : 0;
    in->seg = SEG_DS;
    if (rm == 4) {
        unsigned sib = next8(c);
        unsigned index = (sib >> 3 & 7) | (rex & 2) << 2;
        unsigned base = (sib & 7) | (rex & 1) << 3;
        in->scale = (uint8_t)(1u << (sib >> 6));
        if (index != 4)
            in->index = (uint8_t)index;
        if ((sib & 7) == 5 && d->mod == 0)
            disp = 4;
        else
            in->base = (uint8_t)base;
    } else if (rm == 5 && d->mod == 0) {
        disp = 4;
        rip_rel = code64;
    } else {
        in->base = (uint8_t)(rm | (rex & 1) << 3);
    }
    if (in->base == R_SP || in->base == R_BP)
        in->seg = SEG_SS;
    if (disp)
        in->disp = (int64_t)sext(next_n(c, disp), disp);
    return rip_rel;
}

/* ---- Prefixes and opcode ---- */

static unsigned prefixes(struct cursor *c, struct dec *d, bool code64) {
    for (;;) {
        unsigned b = next8(c);
        switch (b) {
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
            d->in.notrack |= b == 0x3e;
            if (!code64)
                d->seg_given = b >> 3 & 3; /* ES CS SS DS */
            break;
        case 0x64:
        case 0x65:
            d->seg_given = b == 0x64 ? SEG_FS : SEG_GS;
            break;
        case 0x66:
            d->p66 = 1;
            break;
        case 0x67:
            d->p67 = 1;
            break;
        case 0xf0:
            d->lock = 1;
            break;
        case 0xf2:
        case 0xf3:
            d->rep = (uint8_t)b;
            break;
        default:
            if (!code64 || (b & 0xf0) != 0x40)
                return b;
            d->rex = (uint8_t)b;
            continue;
        }
        if (c->rc != DECODE_OK)
            return 0;
        d->rex = 0;
    }
}

/* Return: the REX-like bits W R X B (3..0), or -1 when undefined. */
static int vex_prefix(struct cursor *c, struct dec *d, unsigned b, bool code64) {
    if (d->rex || d->p66 || d->rep || d->lock)
        return -1;
    unsigned x, rex;
    d->vex = 1;
    if (b == 0xc5) {
        x = next8(c);
        rex = x & 0x80 ? 0 : 4;
        d->map = 1;
    } else {
        unsigned y = next8(c);
        rex = ~y >> 5 & 7;
        d->map = y & 31;
        x = next8(c);
        d->w = x >> 7;
        x &= 0x7f;
    }
    d->vvvv = ~x >> 3 & 15;
    d->has_vvvv = d->vvvv != 0;
    d->l = x >> 2 & 1;
    d->pp = x & 3;
    if (!code64) {
        rex = 0;
        d->vvvv &= 7;
    }
    return d->map >= 1 && d->map <= 3 ? (int)rex : -1;
}

/* The same for the three bytes behind 62 (SDM volume 2, "Format of the EVEX Prefix"); bit 4
 * is the highest bit of the register in ModRM.reg. */
static int evex_prefix(struct cursor *c, struct dec *d, bool code64) {
    if (d->rex || d->p66 || d->rep || d->lock)
        return -1;
    unsigned p0 = next8(c), p1 = next8(c), p2 = next8(c);
    unsigned rex = (~p0 >> 5 & 7) | (~p0 & 0x10);
    d->vex = d->evex = 1;
    d->map = p0 & 7;
    d->w = p1 >> 7;
    d->vvvv = (~p1 >> 3 & 15) | (~p2 << 1 & 0x10);
    d->pp = p1 & 3;
    d->z = p2 >> 7;
    d->l = p2 >> 5 & 3;
    d->b = p2 >> 4 & 1;
    d->aaa = p2 & 7;
    if (!code64) {
        rex = 0;
        d->vvvv &= 7;
    }
    return d->map >= 1 && d->map <= 3 && !(p0 & 8) && p1 & 4 ? (int)rex : -1;
}

/* The fields of an instruction but its immediate. Return: false when undefined. */
static bool parse(struct cursor *c, struct dec *d, unsigned kind, bool *rip_rel) {
    bool code64 = kind == KIND_64;
    unsigned b = prefixes(c, d, code64);
    int rex = d->rex & 15;
    bool three = code64 || (peek8(c) & 0xc0) == 0xc0;
    d->in.addrsize =
        kind == KIND_64 ? (d->p67 ? 4 : 8) : ((kind == KIND_32) ^ d->p67 ? 4 : 2);
    if ((b == 0xc4 || b == 0xc5) && three && kind != KIND_REAL) {
        rex = vex_prefix(c, d, b, code64);
        if (rex < 0)
            return false;
        b = next8(c);
        d->has_modrm = !(d->map == 1 && b == 0x77);
    } else if (b == 0x62 && three) {
        rex = c->evex && kind != KIND_REAL ? evex_prefix(c, d, code64) : -1;
        if (rex < 0)
            return false;
        b = next8(c);
        d->has_modrm = 1;
    } else if (b == 0x8f && (peek8(c) & 0x1f) >= 8 && kind != KIND_REAL) {
        return false; /* XOP, or POP with a wrong reg field */
    } else if (b == 0x0f) {
        b = next8(c);
        d->map = 1;
        if (b == 0x38 || b == 0x3a) {
            d->map = b == 0x38 ? 2 : 3;
            b = next8(c);
        }
        d->has_modrm = d->map > 1 || (modrm_map1[b >> 4] >> (b & 15) & 1);
        d->w = rex >> 3 & 1;
    } else {
        d->has_modrm = modrm_map0[b >> 4] >> (b & 15) & 1;
        d->w = rex >> 3 & 1;
    }
    d->in.opcode = (uint8_t)b;
    if (!d->has_modrm) {
        d->rm = (b & 7) | (rex & 1) << 3; /* a register in the opcode, if any */
        if (d->map == 0 && (b & 0xfc) == 0xa0) {
            d->in.disp = (int64_t)next_n(c, d->in.addrsize);
            d->in.seg = SEG_DS;
        }
        return true;
    }
    unsigned m = next8(c);
    d->mod = m >> 6;
    d->reg = (m >> 3 & 7) | (rex & 4) << 1 | (rex & 0x10);
    d->rm = (m & 7) | (rex & 1) << 3;
    if (d->evex && d->mod == 3)
        d->rm |= (rex & 2) << 3;
    if (d->map == 1 && b >= 0x20 && b <= 0x27 && !d->vex)
        d->mod = 3; /* MOV to and from CR and DR ignore mod */
    if (d->mod != 3) {
        if (d->in.addrsize == 2)
            modrm16(c, d, m & 7);
        else
            *rip_rel = modrm32(c, d, m & 7, (unsigned)rex, code64);
    }
    return true;
}

/* ---- Shapes by key ---- */

static uint32_t shape_key(const struct dec *d, unsigned kind) {
    unsigned mod3 = d->has_modrm && d->mod == 3;
    uint32_t k = kind | d->vex << 2 | d->map << 3 | d->in.opcode << 5;
    k |= (mod3 ? 1u : 0) << 13 | (d->has_modrm ? (d->reg & 7u) : 0) << 14;
    k |= (mod3 ? (d->rm & 7u) : 0) << 17 | d->p66 << 20;
    k |= (d->rep ? (d->rep & 1u) + 1 : 0) << 21 | d->lock << 23 | d->w << 24;
    k |= d->l << 25 | d->pp << 26 | (d->has_vvvv ? 1u : 0) << 28 | d->p67 << 29;
    /* 90 is NOP, but with REX.B an exchange. REX.R names other control and debug registers,
     * most of which are undefined. */
    bool cr_dr = !d->vex && d->map == 1 && (d->in.opcode & 0xfc) == 0x20;
    k |= ((!d->has_modrm && d->rm & 8) || (cr_dr && d->reg & 8) ? 1u : 0) << 30;
    return k | 1u << 31;
}

#define SHAPES     16384u
#define SHAPES_MAX 12288u

struct decoder {
    struct shape_source *source;
    bool evex;
    unsigned used;
    struct shape table[SHAPES];
};

struct decoder *decoder_create(const struct cpu_model *model) {
    struct decoder *dc = calloc(1, sizeof *dc);
    if (dc && !(dc->source = shape_source_create(model))) {
        free(dc);
        dc = NULL;
    }
    if (dc)
        dc->evex = cpu_model_has(model, CPU_F_avx512f);
    return dc;
}

void decoder_destroy(struct decoder *dc) {
    if (dc)
        free(dc->source);
    free(dc);
}

void decoder_trim(struct decoder *dc) {
    if (dc->used < SHAPES_MAX)
        return;
    memset(dc->table, 0, sizeof dc->table);
    dc->used = 0;
}

/* Zydis is asked about this instruction. */
static const struct shape *shape_own(struct decoder *dc, const struct cursor *c,
                                     struct dec *d, unsigned kind) {
    bool enough =
        shape_make(dc->source, c->p, c->avail < 15 ? c->avail : 15, kind, d, &d->own);
    return enough ? &d->own : NULL;
}

static const struct shape *shape_find(struct decoder *dc, const struct cursor *c,
                                      struct dec *d, unsigned kind) {
    if (d->evex)
        return shape_own(dc, c, d, kind);
    uint32_t key = shape_key(d, kind);
    unsigned i = (key * 0x9e3779b1u) >> 18;
    while (dc->table[i].key && dc->table[i].key != key)
        i = (i + 1) & (SHAPES - 1);
    struct shape *s = &dc->table[i];
    if (s->key)
        return s;
    struct shape made;
    if (!shape_make(dc->source, c->p, c->avail < 15 ? c->avail : 15, kind, d, &made))
        return NULL;
    made.key = key;
    dc->used++; /* trimmed between blocks: never full */
    *s = made;
    if (made.flags & SH_NOMEMO)
        s->cls = CLS_UD, s->flags = SH_NOMEMO;
    return s;
}

/* ---- All together ---- */

static void finish(struct dec *d, unsigned kind, bool rip_rel) {
    struct insn *in = &d->in;
    if (rip_rel) {
        in->disp += (int64_t)(in->rip + in->len);
        if (in->addrsize == 4)
            in->disp = (uint32_t)in->disp;
    }
    if (d->evex && d->mod == 1)
        in->disp *= d->sh->disp_n;
    if (d->sh->reg.kind == K_GPR)
        d->reg &= 15;
    if (d->sh->rm.kind == K_GPR)
        d->rm &= 15;
    if (d->seg_given != INSN_NOREG)
        in->seg = d->seg_given;
    in->imm = sext(d->imm_raw, d->sh->imm_len);
    if (d->sh->cls >= CLS_JMP && d->sh->cls <= CLS_JCXZ && !d->has_modrm &&
        d->sh->cls != CLS_RET)
        in->imm += in->rip + in->len;
    if (d->sh->flags & SH_W0 || (kind != KIND_64 && !d->vex))
        d->w = 0;
    in->mnemonic = d->sh->mnemonic;
    in->opsize = d->sh->opsize;
    in->rep = d->rep;
    in->lock = d->lock;
}

static unsigned mode_kind(uint32_t mode) {
    if (mode & MODE_CODE64)
        return KIND_64;
    if (mode & MODE_CODE32)
        return KIND_32;
    return (mode & (MODE_PE | MODE_VM86)) == MODE_PE ? KIND_16 : KIND_REAL;
}

static void undefined(struct dec *d, const struct cursor *c) {
    static const struct shape ud = {.cls = CLS_UD};
    d->sh = &ud;
    d->in.len = (uint8_t)c->pos;
}

enum decode_rc decode(struct decoder *dc, const uint8_t *p, unsigned avail, uint64_t rip,
                      uint32_t mode, struct dec *d) {
    unsigned kind = mode_kind(mode);
    struct cursor c = {p, 0, avail, DECODE_OK, dc->evex};
    bool rip_rel = false;
    memset(d, 0, sizeof *d);
    d->in.rip = rip;
    d->in.base = d->in.index = d->seg_given = INSN_NOREG;
    d->in.seg = SEG_DS;
    d->in.scale = 1;
    bool defined = parse(&c, d, kind, &rip_rel);
    if (c.rc != DECODE_OK)
        return c.rc;
    if (!defined) {
        undefined(d, &c);
        return DECODE_OK;
    }
    const struct shape *s = shape_find(dc, &c, d, kind);
    if (s && s != &d->own && s->flags & SH_NOMEMO)
        s = shape_own(dc, &c, d, kind);
    if (!s) /* Zydis wants more bytes than there are */
        return avail >= 15 ? DECODE_TOO_LONG : DECODE_MORE;
    if (s->cls == CLS_UD) {
        undefined(d, &c);
        return DECODE_OK;
    }
    d->sh = s;
    d->imm_raw = next_n(&c, s->imm_len);
    if (c.rc != DECODE_OK)
        return c.rc;
    if (kind != KIND_64 && s->flags & SH_IS4)
        d->imm_raw &= 0x7f;
    d->in.len = (uint8_t)c.pos;
    finish(d, kind, rip_rel);
    if (s->cls == CLS_HELPER)
        shape_operands(dc->source, c.p, kind, d);
    return DECODE_OK;
}
