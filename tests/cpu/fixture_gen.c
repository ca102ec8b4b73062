/* SPDX-License-Identifier: MIT */
#include "fixture_gen.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "cpu/model.h"

struct template {
    uint8_t vex, map, prefix, w, l, opcode, has_modrm, mod3, reg, rm;
    uint8_t fixed_rm; /* the rm field chooses the instruction */
    uint8_t no_vvvv;
};

#define TEMPLATES 60000u

struct gen {
    uint64_t rng;
    const struct cpu_model *model;
    ZydisDecoder dec;
    unsigned count, mnemonics;
    struct template tpl[TEMPLATES];
    struct {
        unsigned first, count;
    } group[ZYDIS_MNEMONIC_MAX_VALUE + 1]; /* templates of a mnemonic */
    uint16_t present[ZYDIS_MNEMONIC_MAX_VALUE + 1];
    /* The sequence being made. */
    struct gen_seq *seq;
    uint64_t rip;
    unsigned ptr[2], small; /* registers that hold pointers and a small number */
};

uint64_t gen_random(struct gen *g) {
    uint64_t z = g->rng += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static unsigned below(struct gen *g, unsigned n) {
    return (unsigned)((gen_random(g) >> 32) * n >> 32);
}
static bool chance(struct gen *g, unsigned percent) {
    return below(g, 100) < percent;
}

/* ---- What may run ---- */

static const struct {
    ZydisISASet isa;
    int feature; /* -1: always */
} sets[] = {
    {ZYDIS_ISA_SET_I86, -1},
    {ZYDIS_ISA_SET_I186, -1},
    {ZYDIS_ISA_SET_I286REAL, -1},
    {ZYDIS_ISA_SET_I386, -1},
    {ZYDIS_ISA_SET_I486REAL, -1},
    {ZYDIS_ISA_SET_PENTIUMREAL, -1},
    {ZYDIS_ISA_SET_PPRO, -1},
    {ZYDIS_ISA_SET_FAT_NOP, -1},
    {ZYDIS_ISA_SET_PREFETCH_NOP, -1},
    {ZYDIS_ISA_SET_PAUSE, -1},
    {ZYDIS_ISA_SET_LONGMODE, -1},
    {ZYDIS_ISA_SET_X87, CPU_F_fpu},
    {ZYDIS_ISA_SET_CMOV, CPU_F_cmov},
    {ZYDIS_ISA_SET_FCMOV, CPU_F_cmov},
    {ZYDIS_ISA_SET_PENTIUMMMX, CPU_F_mmx},
    {ZYDIS_ISA_SET_SSE, CPU_F_sse},
    {ZYDIS_ISA_SET_SSE_PREFETCH, CPU_F_sse},
    {ZYDIS_ISA_SET_SSEMXCSR, CPU_F_sse},
    {ZYDIS_ISA_SET_SSE2, CPU_F_sse2},
    {ZYDIS_ISA_SET_SSE2MMX, CPU_F_sse2},
    {ZYDIS_ISA_SET_SSE3, CPU_F_pni},
    {ZYDIS_ISA_SET_SSE3X87, CPU_F_pni},
    {ZYDIS_ISA_SET_SSSE3, CPU_F_ssse3},
    {ZYDIS_ISA_SET_SSSE3MMX, CPU_F_ssse3},
    {ZYDIS_ISA_SET_SSE4, CPU_F_sse4_1},
    {ZYDIS_ISA_SET_SSE42, CPU_F_sse4_2},
    {ZYDIS_ISA_SET_POPCNT, CPU_F_popcnt},
    {ZYDIS_ISA_SET_LZCNT, CPU_F_abm},
    {ZYDIS_ISA_SET_BMI1, CPU_F_bmi1},
    {ZYDIS_ISA_SET_BMI2, CPU_F_bmi2},
    {ZYDIS_ISA_SET_ADOX_ADCX, CPU_F_adx},
    {ZYDIS_ISA_SET_AES, CPU_F_aes},
    {ZYDIS_ISA_SET_PCLMULQDQ, CPU_F_pclmulqdq},
    {ZYDIS_ISA_SET_AVX, CPU_F_avx},
    {ZYDIS_ISA_SET_AVXAES, CPU_F_aes},
    {ZYDIS_ISA_SET_AVX2, CPU_F_avx2},
    {ZYDIS_ISA_SET_AVX2GATHER, CPU_F_avx2},
    {ZYDIS_ISA_SET_FMA, CPU_F_fma},
    {ZYDIS_ISA_SET_F16C, CPU_F_f16c},
    {ZYDIS_ISA_SET_MOVBE, CPU_F_movbe},
    {ZYDIS_ISA_SET_CMPXCHG16B, CPU_F_cx16},
    {ZYDIS_ISA_SET_LAHF, CPU_F_lahf_lm},
    {ZYDIS_ISA_SET_CLFSH, CPU_F_clflush},
    {ZYDIS_ISA_SET_SHA, CPU_F_sha_ni},
};

static bool set_allowed(const struct gen *g, ZydisISASet isa) {
    if (isa == ZYDIS_ISA_SET_AVXAES && !cpu_model_has(g->model, CPU_F_avx))
        return false; /* it needs AES, too */
    for (unsigned i = 0; i < sizeof sets / sizeof *sets; i++)
        if (sets[i].isa == isa)
            return sets[i].feature < 0 ||
                   cpu_model_has(g->model, (enum cpu_feature)sets[i].feature);
    return false;
}

/* Privileged, nondeterministic, with segments, or with host addresses in its result;
 * control flow is made by hand below. */
static bool excluded(const ZydisDecodedInstruction *zi) {
    switch (zi->meta.category) {
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_IO:
    case ZYDIS_CATEGORY_IOSTRINGOP:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_SEGOP:
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_UNCOND_BR:
    case ZYDIS_CATEGORY_COND_BR:
    case ZYDIS_CATEGORY_STRINGOP:
    case ZYDIS_CATEGORY_CET:
    case ZYDIS_CATEGORY_XSAVE:
        return true;
    default:
        break;
    }
    switch (zi->mnemonic) {
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_ENTER:
    case ZYDIS_MNEMONIC_LEAVE:
    case ZYDIS_MNEMONIC_XLAT:
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDPMC:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_LDMXCSR: /* could unmask what the code generator relies on */
    case ZYDIS_MNEMONIC_VLDMXCSR:
    case ZYDIS_MNEMONIC_FLDCW:
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_STD:
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
        return true;
    default:
        return false;
    }
}

static bool decode(const struct gen *g, const uint8_t *p, ZydisDecodedInstruction *zi,
                   ZydisDecodedOperand *op) {
    return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&g->dec, p, 15, zi, op)) &&
           (zi->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
            zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) &&
           set_allowed(g, zi->meta.isa_set) && !excluded(zi);
}

/* ---- Templates: every encoding that decodes ---- */

struct rex {
    unsigned r, x, b;
};

/* Return: length up to and with ModRM. */
static unsigned encode(const struct template *t, struct rex rex, unsigned vvvv,
                       bool bare_rex, unsigned modrm, uint8_t *p) {
    unsigned n = 0;
    if (t->vex) {
        static const uint8_t pp[4] = {0, 1, 2, 3};
        p[n++] = 0xc4;
        p[n++] = (uint8_t)((~(rex.r << 2 | rex.x << 1 | rex.b) & 7) << 5 | t->map);
        p[n++] = (uint8_t)(t->w << 7 | (~vvvv & 15) << 3 | t->l << 2 | pp[t->prefix]);
    } else {
        static const uint8_t pfx[4] = {0, 0x66, 0xf3, 0xf2};
        unsigned r = 0x40 | (unsigned)t->w << 3 | rex.r << 2 | rex.x << 1 | rex.b;
        if (t->prefix)
            p[n++] = pfx[t->prefix];
        if (r != 0x40 || bare_rex)
            p[n++] = (uint8_t)r;
        if (t->map)
            p[n++] = 0x0f;
        if (t->map > 1)
            p[n++] = t->map == 2 ? 0x38 : 0x3a;
    }
    p[n++] = t->opcode;
    if (t->has_modrm)
        p[n++] = (uint8_t)modrm;
    return n;
}

static void add_template(struct gen *g, struct template t, uint16_t *mnemonic) {
    uint8_t bytes[32] = {0};
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    unsigned modrm = t.mod3 ? 0xc0u | t.reg << 3 | t.rm : (unsigned)t.reg << 3 | 4;
    struct rex none = {0, 0, 0};
    t.has_modrm = 1;
    unsigned n = encode(&t, none, t.vex ? 3 : 0, false, modrm, bytes);
    if (!t.mod3)
        bytes[n] = 0x88; /* a SIB byte: [rax + rcx * 4], or ymm1 */
    bool ok = decode(g, bytes, &zi, op);
    if (!ok && t.vex) {
        t.no_vvvv = 1;
        encode(&t, none, 0, false, modrm, bytes);
        ok = decode(g, bytes, &zi, op);
    }
    if (!ok || g->count == TEMPLATES)
        return;
    t.has_modrm = !!(zi.attributes & ZYDIS_ATTRIB_HAS_MODRM);
    if (!t.has_modrm && (!t.mod3 || t.reg || t.rm))
        return;
    mnemonic[g->count] = (uint16_t)zi.mnemonic;
    g->tpl[g->count++] = t;
}

static void make_templates(struct gen *g) {
    uint16_t *mnemonic = calloc(TEMPLATES, sizeof *mnemonic);
    struct template *sorted = calloc(TEMPLATES, sizeof *sorted);
    for (unsigned bits = 0; bits < 1u << 20; bits++) {
        struct template t = {.opcode = (uint8_t)bits,
                             .reg = bits >> 8 & 7,
                             .mod3 = bits >> 11 & 1,
                             .prefix = bits >> 12 & 3,
                             .map = bits >> 14 & 3,
                             .w = bits >> 16 & 1,
                             .l = bits >> 17 & 1,
                             .vex = bits >> 18 & 1};
        bool x87 = !t.vex && !t.map && (t.opcode & 0xf8) == 0xd8;
        if (bits >> 19 || (t.vex && !t.map) || (!t.vex && t.l))
            continue;
        /* Prefixes and escapes are no opcodes. */
        if (!t.vex && t.map == 0 &&
            ((t.opcode & 0xf0) == 0x40 || t.opcode == 0x0f || t.opcode == 0xf0 ||
             (t.opcode & 0xe7) == 0x26 || (t.opcode & 0xfc) == 0x64 ||
             (t.opcode & 0xfe) == 0xf2 || (t.opcode & 0xfe) == 0xc4 || t.opcode == 0x62))
            continue;
        if (!t.vex && t.map == 1 && (t.opcode == 0x38 || t.opcode == 0x3a))
            continue;
        /* 0f 0d with a register: NOP for Intel, undefined for AMD. */
        if (!t.vex && t.map == 1 && t.opcode == 0x0d && t.mod3)
            continue;
        t.fixed_rm = x87 && t.mod3;
        for (t.rm = 0; t.rm < (t.fixed_rm ? 8 : 1); t.rm++)
            add_template(g, t, mnemonic);
    }
    unsigned n = 0;
    for (unsigned m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++) {
        g->group[m].first = n;
        for (unsigned i = 0; i < g->count; i++)
            if (mnemonic[i] == m)
                sorted[n++] = g->tpl[i];
        g->group[m].count = n - g->group[m].first;
        if (g->group[m].count)
            g->present[g->mnemonics++] = (uint16_t)m;
    }
    memcpy(g->tpl, sorted, sizeof g->tpl);
    free(sorted);
    free(mnemonic);
}

struct gen *gen_create(const struct cpu_model *model, uint64_t seed) {
    struct gen *g = calloc(1, sizeof *g);
    g->rng = seed;
    g->model = model;
    ZydisDecoderInit(&g->dec, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    make_templates(g);
    return g;
}

void gen_destroy(struct gen *g) {
    free(g);
}

unsigned gen_mnemonics(const struct gen *g) {
    return g->mnemonics;
}

/* ---- Operands ---- */

static bool reserved(const struct gen *g, unsigned reg) {
    return reg == R_SP || reg == g->ptr[0] || reg == g->ptr[1] || reg == g->small;
}

/* align 2: and never where it faults. */
static uint64_t data_address(struct gen *g, unsigned align) {
    uint64_t a;
    if (align < 2 && chance(g, 4))
        a = (chance(g, 50) ? GEN_READONLY : GEN_ABSENT) + below(g, 4096 + 64) - 32;
    else if (chance(g, 20))
        a = GEN_DATA + 4096 * (1 + below(g, 4)) - below(g, 40);
    else
        a = GEN_DATA + 4096 + below(g, 4 * 4096);
    return chance(g, align ? 85 : 30) ? a & ~UINT64_C(31) : a;
}

/* ModRM, SIB and displacement for `address`; n bytes of p come before (with ModRM's reg
 * field in reg), `tail` immediate bytes after. Sets *rex. Return: bytes written. */
static unsigned make_address(struct gen *g, uint64_t address, unsigned reg, uint8_t *out,
                             struct rex *rex, bool vsib, bool *rip_rel) {
    unsigned form = below(g, vsib ? 1 : 10), base = g->ptr[below(g, 2)], n = 0;
    int64_t disp = (int64_t)(address - g->seq->gpr[base]);
    *rip_rel = false;
    if (form == 9) { /* RIP-relative: the caller fills the displacement */
        out[n++] = (uint8_t)(reg << 3 | 5);
        *rip_rel = true;
        memset(out + n, 0, 4);
        return n + 4;
    }
    if (form == 8) { /* absolute */
        out[n++] = (uint8_t)(reg << 3 | 4);
        out[n++] = 0x25;
        disp = (int64_t)address;
    } else if (form >= 5 || (base & 7) == 4 || vsib) {
        unsigned scale = below(g, 4), index = vsib ? below(g, 16) : g->small;
        bool use = vsib || (form >= 5 && index != R_SP);
        if (use && !vsib)
            disp -= (int64_t)(g->seq->gpr[index] << scale);
        out[n++] = (uint8_t)(0x80 | reg << 3 | 4);
        out[n++] = (uint8_t)(scale << 6 | (use ? index & 7 : 4) << 3 | (base & 7));
        rex->b = base >> 3;
        rex->x = use ? index >> 3 : 0;
    } else {
        rex->b = base >> 3;
        if (disp == (int8_t)disp) {
            out[n++] = (uint8_t)(0x40 | reg << 3 | (base & 7));
            out[n++] = (uint8_t)disp;
            return n;
        }
        out[n++] = (uint8_t)(0x80 | reg << 3 | (base & 7));
    }
    int32_t d32 = (int32_t)disp;
    memcpy(out + n, &d32, 4);
    return n + 4;
}

/* Does the instruction leave the reserved registers alone, and its memory in the data
 * area? */
static bool harmless(const struct gen *g, const ZydisDecodedInstruction *zi,
                     const ZydisDecodedOperand *op) {
    bool stack = zi->meta.category == ZYDIS_CATEGORY_PUSH ||
                 zi->meta.category == ZYDIS_CATEGORY_POP;
    for (unsigned i = 0; i < zi->operand_count; i++) {
        const ZydisDecodedOperand *o = &op[i];
        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && !stack &&
            o->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM)
            return false; /* moffs64: see below */
        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        ZydisRegister full =
            ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, o->reg.value);
        ZydisRegisterClass c = ZydisRegisterGetClass(o->reg.value);
        if (c == ZYDIS_REGCLASS_SEGMENT || c == ZYDIS_REGCLASS_CONTROL ||
            c == ZYDIS_REGCLASS_DEBUG)
            return false;
        if (full < ZYDIS_REGISTER_RAX || full > ZYDIS_REGISTER_R15 ||
            !(o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            continue;
        unsigned r = full - ZYDIS_REGISTER_RAX;
        if (reserved(g, r) &&
            !(stack && r == R_SP && o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN))
            return false;
    }
    return true;
}

static bool bit_string(const struct template *t) {
    return !t->vex && t->map == 1 && !t->mod3 &&
           (t->opcode == 0xa3 || t->opcode == 0xab || t->opcode == 0xb3 ||
            t->opcode == 0xbb);
}

static uint64_t random_imm(struct gen *g) {
    switch (below(g, 4)) {
    case 0:
        return below(g, 70);
    case 1:
        return UINT64_C(1) << below(g, 32);
    default:
        return gen_random(g);
    }
}

/* A random instruction in the making. */
struct draw {
    struct template t;
    struct rex rex;
    uint64_t address; /* of the memory operand */
    uint8_t code[40], tail[16];
    unsigned n, tail_len;
    bool gather, rip_rel;
};

/* A segment or address-size prefix, and the bytes that address memory. */
static void draw_memory(struct gen *g, struct draw *r) {
    static const uint8_t segs[2] = {0x64, 0x65};
    unsigned seg = below(g, 12);
    if (seg < 2) {
        r->code[r->n++] = segs[seg];
        r->address -= seg ? GEN_GS : GEN_FS;
    } else if (chance(g, 5)) {
        r->code[r->n++] = 0x67;
    }
    r->rex.b = 0;
    r->tail_len =
        make_address(g, r->address, r->t.reg, r->tail, &r->rex, r->gather, &r->rip_rel);
}

static void draw(struct gen *g, struct draw *r) {
    unsigned m = g->present[below(g, g->mnemonics)];
    *r = (struct draw){.t = g->tpl[g->group[m].first + below(g, g->group[m].count)]};
    struct template *t = &r->t;
    r->rex = (struct rex){below(g, 2), 0, below(g, 2)};
    r->gather = t->vex && t->map == 2 && (t->opcode & 0xfc) == 0x90;
    unsigned vvvv = t->no_vvvv ? 0 : below(g, 16);
    if (!t->vex && chance(g, 50))
        r->rex = (struct rex){0, 0, 0};
    if (bit_string(t)) {
        t->reg = g->small & 7;
        r->rex.r = g->small >> 3;
    }
    /* Which address a masked access reports is each implementation's choice. */
    bool masked = t->vex && t->map == 2 &&
                  ((t->opcode & 0xfc) == 0x2c || (t->opcode & 0xfd) == 0x8c);
    r->address = data_address(g, masked || r->gather ? 2 : 1);
    unsigned modrm = 0xc0u | t->reg << 3 | (t->fixed_rm ? t->rm : below(g, 8));
    if (!t->mod3 && t->has_modrm)
        draw_memory(g, r);
    if (!t->vex && chance(g, 8) && !t->mod3)
        r->code[r->n++] = 0xf0;
    r->n += encode(t, r->rex, vvvv, chance(g, 20), modrm, r->code + r->n);
    if (r->tail_len) {
        memcpy(r->code + r->n - 1, r->tail, r->tail_len);
        r->n += r->tail_len - 1;
    }
    uint64_t imm = random_imm(g);
    memcpy(r->code + r->n, &imm, 8);
}

/* Make a gather's indices small: vpsrld or vpsrlq by a lot. */
static void shrink_indices(struct gen *g, const struct draw *r) {
    unsigned idx = r->tail[1] >> 3 & 7, wide = r->t.opcode & 1;
    uint8_t pre[6] = {0xc4,
                      (uint8_t)(r->rex.x ? 0xc1 : 0xe1),
                      (uint8_t)((~(idx | r->rex.x << 3) & 15) << 3 | 4 | 1),
                      wide ? 0x73 : 0x72,
                      (uint8_t)(0xd0 | idx),
                      wide ? 57 : 25};
    memcpy(g->seq->code + g->seq->len, pre, sizeof pre);
    g->seq->len += sizeof pre;
    g->seq->insns++;
}

/* Append one random instruction. Return: false when this draw was no good. */
static bool add_random(struct gen *g) {
    struct draw r;
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    draw(g, &r);
    if (!decode(g, r.code, &zi, op) || !harmless(g, &zi, op))
        return false;
    /* F3 REX.B 90 is an exchange, whatever Zydis says. */
    if (!r.t.vex && !r.t.map && r.t.opcode == 0x90 &&
        (reserved(g, R_AX) || reserved(g, 8)))
        return false;
    if (r.rip_rel) {
        uint64_t next = g->rip + g->seq->len + zi.length;
        int32_t disp = (int32_t)(r.address - next);
        memcpy(r.code + zi.raw.disp.offset, &disp, 4);
    }
    if (r.gather)
        shrink_indices(g, &r);
    memcpy(g->seq->code + g->seq->len, r.code, zi.length);
    g->seq->len += zi.length;
    return true;
}

/* ---- What random encodings cannot make ---- */

static void put(struct gen *g, const void *bytes, unsigned n) {
    memcpy(g->seq->code + g->seq->len, bytes, n);
    g->seq->len += n;
}
#define PUT(...)                                                                         \
    do {                                                                                 \
        const uint8_t b_[] = {__VA_ARGS__};                                              \
        put(g, b_, sizeof b_);                                                           \
    } while (0)

static void put32(struct gen *g, uint64_t v) {
    uint32_t w = (uint32_t)v;
    put(g, &w, 4);
}

static void mov_imm32(struct gen *g, unsigned reg, uint64_t v) {
    if (reg >= 8)
        PUT(0x41);
    PUT((uint8_t)(0xb8 | (reg & 7)));
    put32(g, v);
}

static bool add_string(struct gen *g) {
    static const uint8_t ops[] = {0xa4, 0xa6, 0xaa, 0xac, 0xae};
    if (reserved(g, R_SI) || reserved(g, R_DI) || reserved(g, R_CX) || reserved(g, R_AX))
        return false;
    unsigned op = ops[below(g, 5)], size = below(g, 4), rep = below(g, 3);
    /* A comparison that faults: Intel gives the flags from before, AMD those of the last
     * iteration. */
    unsigned safe = op == 0xa6 || op == 0xae ? 2 : 0;
    mov_imm32(g, R_SI, data_address(g, safe));
    mov_imm32(g, R_DI, data_address(g, safe));
    mov_imm32(g, R_CX, below(g, 40));
    if (chance(g, 30))
        PUT(0xfd);
    if (rep)
        PUT(rep == 1 ? 0xf3 : 0xf2);
    if (chance(g, 10))
        PUT(0x64 + below(g, 2)); /* FS or GS: wild for a source, ignored else */
    if (g->seq->code[g->seq->len - 1] == 0x64 || g->seq->code[g->seq->len - 1] == 0x65) {
        if (op != 0xaa && op != 0xae)
            g->seq->len--;
    }
    if (chance(g, 10))
        PUT(0x67);
    if (size == 1)
        PUT(0x66);
    if (size == 3)
        PUT(0x48);
    PUT((uint8_t)(op | (size != 0)));
    PUT(0xfc);
    return true;
}

static bool add_branch(struct gen *g) {
    unsigned at, reg = below(g, 16);
    switch (below(g, 6)) {
    case 0: /* jcc over an instruction */
        if (chance(g, 50))
            PUT((uint8_t)(0x70 | below(g, 16)), 0);
        else
            PUT((uint8_t)(0xe0 | below(g, 4)), 0); /* LOOP, JRCXZ */
        if (g->seq->code[g->seq->len - 2] != 0xe3 &&
            (g->seq->code[g->seq->len - 2] & 0xf0) == 0xe0 && reserved(g, R_CX)) {
            g->seq->len -= 2;
            return false;
        }
        at = g->seq->len;
        while (!add_random(g))
            continue;
        g->seq->code[at - 1] = (uint8_t)(g->seq->len - at);
        return true;
    case 1: /* long jcc */
        PUT(0x0f, (uint8_t)(0x80 | below(g, 16)), 0, 0, 0, 0);
        at = g->seq->len;
        while (!add_random(g))
            continue;
        g->seq->code[at - 4] = (uint8_t)(g->seq->len - at);
        return true;
    case 2: /* call, ret, jmp */
        if (chance(g, 50))
            PUT(0xe8, 2, 0, 0, 0, 0xeb, 1, 0xc3);
        else
            PUT(0xe8, 2, 0, 0, 0, 0xeb, 3, 0xc2, (uint8_t)(8 * below(g, 3)), 0);
        return true;
    case 3: /* jmp or call through a register */
        if (reserved(g, reg))
            return false;
        at = g->seq->len + (reg >= 8 ? 6 : 5) + (reg >= 8 ? 3 : 2);
        mov_imm32(g, reg, g->rip + at);
        if (reg >= 8)
            PUT(0x41);
        PUT(0xff, (uint8_t)((chance(g, 50) ? 0xe0 : 0xd0) | (reg & 7)));
        return true;
    case 4: { /* jmp or call through memory */
        uint64_t a = GEN_DATA + 4096 + below(g, 4096);
        at = g->seq->len + 11 + 7;
        PUT(0xc7, 0x04, 0x25); /* mov dword [a], target */
        put32(g, a);
        put32(g, g->rip + at + 11);
        PUT(0xc7, 0x04, 0x25); /* mov dword [a + 4], 0 */
        put32(g, a + 4);
        put32(g, 0);
        PUT(0xff, chance(g, 50) ? 0x24 : 0x14, 0x25);
        put32(g, a);
        return true;
    }
    default: /* cmp or test, then jcc */
        PUT(0x48, 0x39, (uint8_t)(0xc0 | below(g, 64)), (uint8_t)(0x70 | below(g, 16)), 3,
            0x0f, 0x1f, 0x00);
        return true;
    }
}

static bool add_special(struct gen *g) {
    switch (below(g, 6)) {
    case 0: /* maskmovdqu, maskmovq, vmaskmovdqu */
        if (reserved(g, R_DI))
            return false;
        mov_imm32(g, R_DI, data_address(g, 2));
        switch (below(g, cpu_model_has(g->model, CPU_F_avx) ? 3 : 2)) {
        case 0:
            PUT(0x66, 0x0f, 0xf7, (uint8_t)(0xc0 | below(g, 64)));
            break;
        case 1:
            PUT(0x0f, 0xf7, (uint8_t)(0xc0 | below(g, 64)));
            break;
        default:
            PUT(0xc5, 0xf9, 0xf7, (uint8_t)(0xc0 | below(g, 64)));
        }
        return true;
    case 1:
        if (reserved(g, R_BX) || reserved(g, R_AX))
            return false;
        mov_imm32(g, R_BX, data_address(g, 0));
        PUT(0xd7); /* xlat */
        return true;
    case 2:
        if (reserved(g, R_BP))
            return false;
        mov_imm32(g, R_BP, GEN_STACK - 8 * below(g, 8));
        PUT(0xc9); /* leave */
        return true;
    case 3:
        if (reserved(g, R_BP))
            return false;
        PUT(0xc8, (uint8_t)(8 * below(g, 4)), 0, 0); /* enter */
        return true;
    case 4: /* mov with a 64-bit absolute address */
        if (reserved(g, R_AX))
            return false;
        if (chance(g, 50))
            PUT(0x48);
        PUT((uint8_t)(0xa0 | below(g, 4)));
        put32(g, data_address(g, 0));
        put32(g, 0);
        return true;
    default: /* a division that has a chance */
        if (reserved(g, R_DX) || reserved(g, R_AX))
            return false;
        if (chance(g, 50))
            PUT(0x48, 0x99); /* cqo */
        else
            PUT(0x31, 0xd2); /* xor edx, edx */
        if (chance(g, 50))
            PUT(0x48);
        PUT(0xf7, (uint8_t)(0xf0 | below(g, 16)));
        return true;
    }
}

/* ---- Sequences ---- */

static uint64_t random_value(struct gen *g) {
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
        return (uint32_t)gen_random(g);
    default:
        return gen_random(g);
    }
}

/* Vector registers: integers, doubles, floats, and what is special about them. */
static uint64_t random_lane(struct gen *g) {
    static const uint64_t special[] = {
        0x3ff0000000000000, 0x7ff0000000000000, 0x7ff8000000000000, 0x0000000000000001,
        0x3f8000003f800000, 0x7f8000007fc00000, 0x0000000180000000, 0x7ff4000000000000};
    if (chance(g, 25))
        return special[below(g, 8)] ^ (uint64_t)below(g, 2) << 63;
    if (chance(g, 30)) { /* a double of moderate size */
        double d = (double)(int64_t)gen_random(g) / (double)(1 + below(g, 1u << 31));
        uint64_t v;
        memcpy(&v, &d, 8);
        return v;
    }
    return random_value(g);
}

static void random_xsave(struct gen *g, uint8_t *x) {
    memset(x, 0, 1024);
    uint16_t fcw = (uint16_t)(0x7f | below(g, 4) << 8 | below(g, 4) << 10);
    uint32_t mxcsr = 0x1f80 | below(g, 4) << 13 | (chance(g, 20) ? 0x8040 : 0);
    if (chance(g, 3))
        fcw &= (uint16_t) ~(1u << below(g, 6));
    if (chance(g, 3))
        mxcsr &= ~(0x80u << below(g, 6));
    memcpy(x, &fcw, 2);
    uint16_t fsw = (uint16_t)(below(g, 8) << 11);
    memcpy(x + 2, &fsw, 2);
    x[4] = (uint8_t)gen_random(g);
    memcpy(x + 24, &mxcsr, 4);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t man = gen_random(g) | UINT64_C(1) << 63;
        uint16_t exp = (uint16_t)(0x3fff - 40 + below(g, 80) + (below(g, 2) << 15));
        if (chance(g, 10))
            exp = (uint16_t)gen_random(g);
        if (chance(g, 10))
            man = gen_random(g);
        memcpy(x + 32 + 16 * i, &man, 8);
        memcpy(x + 40 + 16 * i, &exp, 2);
    }
    for (unsigned i = 0; i < 32; i++) {
        uint64_t a = random_lane(g), b = random_lane(g);
        if (!cpu_model_has(g->model, CPU_F_avx))
            b = 0;
        memcpy(x + 160 + 8 * i, &a, 8);
        memcpy(x + 576 + 8 * i, &b, 8);
    }
    x[512] = 7;
}

static unsigned other_register(struct gen *g, unsigned a, unsigned b) {
    unsigned r;
    do
        r = below(g, 16);
    while (r == R_SP || r == a || r == b);
    return r;
}

void gen_sequence(struct gen *g, uint64_t rip, struct gen_seq *seq) {
    g->seq = seq;
    g->rip = rip;
    seq->len = seq->insns = 0;
    for (unsigned i = 0; i < 16; i++)
        seq->gpr[i] = random_value(g);
    g->ptr[0] = other_register(g, R_SP, R_SP);
    g->ptr[1] = chance(g, 30) ? R_SP : other_register(g, g->ptr[0], R_SP);
    g->small = other_register(g, g->ptr[0], g->ptr[1]);
    seq->gpr[g->ptr[0]] = data_address(g, 0);
    seq->gpr[g->ptr[1]] = data_address(g, 0);
    seq->gpr[g->small] = below(g, 64);
    seq->gpr[R_SP] = GEN_STACK - 8 * below(g, 16) - (chance(g, 10) ? below(g, 8) : 0);
    seq->rflags = 0x202 | (gen_random(g) & 0x8d5);
    random_xsave(g, seq->xsave);
    unsigned want = 1 + below(g, 10);
    while (seq->insns < want && seq->len < 300) {
        unsigned kind = below(g, 20);
        bool ok = kind == 0   ? add_string(g)
                  : kind == 1 ? add_branch(g)
                  : kind == 2 ? add_special(g)
                              : add_random(g);
        seq->insns += ok;
    }
}

void gen_print(const struct gen_seq *seq, uint64_t rip) {
    ZydisDisassembledInstruction di;
    for (unsigned at = 0; at < seq->len; at += di.info.length) {
        if (!ZYAN_SUCCESS(ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, rip + at,
                                                seq->code + at, seq->len - at, &di)))
            break;
        fprintf(stderr, "  %" PRIx64 "  ", rip + at);
        for (unsigned i = 0; i < di.info.length; i++)
            fprintf(stderr, "%02x", seq->code[at + i]);
        fprintf(stderr, "  %s\n", di.text);
    }
}
