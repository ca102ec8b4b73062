/* SPDX-License-Identifier: MIT */
/*
 * Numbers of registers: 0 to 23 are the column gdb of penumbra/cpu_state.inc; from 24 to
 * NR_SYSTEM they are in the XSAVE area; from there on the rows of that list. The order within
 * a feature is that of gdb's features/i386/64bit-core.xml, 64bit-sse.xml, 64bit-avx.xml and
 * 64bit-avx512.xml.
 */
#include "inspect/gdb_regs.h"

#include <string.h>

enum {
    NR_RFLAGS = 17,
    NR_ST = 24,    /* st0..st7, 10 bytes */
    NR_FCTRL = 32, /* fctrl fstat ftag fiseg fioff foseg fooff fop, 4 bytes */
    NR_FTAG = 34,
    NR_XMM = 40, /* xmm0..xmm15 */
    NR_MXCSR = 56,
    NR_YMMH = 57,   /* ymm0h..ymm15h */
    NR_XMM16 = 73,  /* xmm16..xmm31 */
    NR_YMM16H = 89, /* ymm16h..ymm31h */
    NR_K = 105,     /* k0..k7 */
    NR_ZMMH = 113,  /* zmm0h..zmm31h, 32 bytes */
    NR_ZMM16H = 129,
    NR_SYSTEM = 145
};

/* SDM volume 1, "Layout of the 64-Bit Mode FXSAVE Map" and "XSAVE Area". */
#define AT_FCW    0u
#define AT_FSW    2u
#define AT_FTW    4u
#define AT_MXCSR  24u
#define AT_ST     32u
#define AT_XMM    160u
#define AT_BV     512u
#define AT_YMMH   576u
#define AT_K      832u /* from here on: src/cpu/model.h */
#define AT_ZMMH   896u
#define AT_HI16   1408u
#define FCW_INIT  0x37fu
#define COMP_X87  1u
#define COMP_SSE  2u
#define COMP_AVX  4u
#define COMP_K    0x20u
#define COMP_ZMMH 0x40u
#define COMP_HI16 0x80u
#define TAG_EMPTY 3u

/* ---- The rest of the state ---- */

#define ROW(text, member, gdb)                                                           \
    {text, offsetof(struct pn_cpu_state, member),                                        \
     sizeof(((struct pn_cpu_state *)0)->member), gdb},

static const struct row {
    const char *name;
    uint16_t offset;
    uint8_t size;
    int8_t gdb; /* not -1: it has a number below NR_SYSTEM */
} rows[] = {
#define PN_SEG(id, name, gdb, kvm, sel_, attr_, base_)                                   \
    ROW(#name, seg[PN_##id].sel, gdb)                                                    \
    ROW(#name "_base", seg[PN_##id].base, -1)                                            \
    ROW(#name "_limit", seg[PN_##id].limit, -1)                                          \
    ROW(#name "_attr", seg[PN_##id].attr, -1)
#define PN_REG(name, type, digits, gdb, soft, kvm, reset, init) ROW(#name, name, gdb)
#define PN_REG_BY(name, type, digits, gdb, kvm)                 ROW(#name, name, gdb)
#define PN_MSR(name, index, soft, present, take, reset)         ROW(#name, msr[PN_MSR_##name], -1)
#define PN_MSR_BUS(name, index, present)                        ROW(#name, msr[PN_MSR_##name], -1)
#include "penumbra/cpu_state.inc"
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* `info registers` prints every row, and 28 MTRRs that nothing acts on hide the others. */
static bool shown(const struct row *r) {
    return r->gdb < 0 && strncmp(r->name, "mtrr_", 5) != 0;
}

static const struct pn_cpu_field *core(unsigned nr) {
    for (unsigned i = 0; i < pn_cpu_field_count; i++)
        if (pn_cpu_fields[i].gdb == (int)nr)
            return &pn_cpu_fields[i];
    return NULL;
}

unsigned gdb_reg_end(void) {
    return NR_SYSTEM + ROWS;
}

/* ---- The XSAVE area ---- */

struct place {
    unsigned at, size; /* in the area; size 0: the register is none of it */
    unsigned shown;    /* bytes that gdb has */
    unsigned component;
};

static struct place place_of(unsigned nr) {
    static const uint8_t control[8][2] = {{0, 2}, {2, 2},  {4, 1},  {12, 2},
                                          {8, 4}, {20, 2}, {16, 4}, {6, 2}};
    if (nr >= NR_ZMM16H && nr < NR_SYSTEM)
        return (struct place){AT_HI16 + 64 * (nr - NR_ZMM16H) + 32, 32, 32, COMP_HI16};
    if (nr >= NR_ZMMH && nr < NR_SYSTEM)
        return (struct place){AT_ZMMH + 32 * (nr - NR_ZMMH), 32, 32, COMP_ZMMH};
    if (nr >= NR_K && nr < NR_SYSTEM)
        return (struct place){AT_K + 8 * (nr - NR_K), 8, 8, COMP_K};
    if (nr >= NR_YMM16H && nr < NR_SYSTEM)
        return (struct place){AT_HI16 + 64 * (nr - NR_YMM16H) + 16, 16, 16, COMP_HI16};
    if (nr >= NR_XMM16 && nr < NR_SYSTEM)
        return (struct place){AT_HI16 + 64 * (nr - NR_XMM16), 16, 16, COMP_HI16};
    if (nr >= NR_YMMH && nr < NR_SYSTEM)
        return (struct place){AT_YMMH + 16 * (nr - NR_YMMH), 16, 16, COMP_AVX};
    if (nr == NR_MXCSR)
        return (struct place){AT_MXCSR, 4, 4, 0};
    if (nr >= NR_XMM && nr < NR_MXCSR)
        return (struct place){AT_XMM + 16 * (nr - NR_XMM), 16, 16, COMP_SSE};
    if (nr >= NR_FCTRL && nr < NR_XMM)
        return (struct place){control[nr - NR_FCTRL][0], control[nr - NR_FCTRL][1], 4,
                              COMP_X87};
    if (nr >= NR_ST && nr < NR_FCTRL)
        return (struct place){AT_ST + 16 * (nr - NR_ST), 10, 10, COMP_X87};
    return (struct place){0};
}

/* Two bits a register, as FSTENV has it, of one bit in the area: 0 valid, 1 zero, 2
 * special, 3 empty (SDM volume 1, "x87 FPU Tag Word"). */
static uint16_t full_tags(const uint8_t *area) {
    unsigned top = area[AT_FSW + 1] >> 3 & 7, tags = 0;
    for (unsigned i = 0; i < 8; i++) {
        const uint8_t *st = area + AT_ST + 16 * ((i - top) & 7);
        unsigned exponent = (st[9] & 0x7fu) << 8 | st[8], tag = 0;
        uint64_t mantissa;
        memcpy(&mantissa, st, 8);
        if (!(area[AT_FTW] >> i & 1))
            tag = TAG_EMPTY;
        else if (!exponent && !mantissa)
            tag = 1;
        else if (!exponent || exponent == 0x7fff || !(mantissa >> 63))
            tag = 2;
        tags |= tag << 2 * i;
    }
    return (uint16_t)tags;
}

static uint8_t short_tags(uint16_t full) {
    unsigned tags = 0;
    for (unsigned i = 0; i < 8; i++)
        tags |= (unsigned)((full >> 2 * i & 3) != TAG_EMPTY) << i;
    return (uint8_t)tags;
}

static uint64_t components(const uint8_t *area) {
    uint64_t bv;
    memcpy(&bv, area + AT_BV, sizeof(bv));
    return bv;
}

static void area_get(const uint8_t *area, unsigned nr, const struct place *p,
                     uint8_t *out) {
    memset(out, 0, p->shown);
    if (p->component && !(components(area) & p->component)) {
        const uint16_t fcw = FCW_INIT, tags = 0xffff;
        if (nr == NR_FCTRL || nr == NR_FTAG)
            memcpy(out, nr == NR_FCTRL ? &fcw : &tags, 2);
        return;
    }
    memcpy(out, area + p->at, p->size);
    if (nr == NR_FTAG) {
        uint16_t tags = full_tags(area);
        memcpy(out, &tags, sizeof(tags));
    }
}

/* Let the area hold a component that was in its initial state. */
static void begin_component(uint8_t *area, unsigned component) {
    static const struct {
        uint16_t component, at, size;
    } wide[] = {{COMP_SSE, AT_XMM, 256},
                {COMP_AVX, AT_YMMH, 256},
                {COMP_K, AT_K, 64},
                {COMP_ZMMH, AT_ZMMH, 512},
                {COMP_HI16, AT_HI16, 1024}};
    const uint16_t fcw = FCW_INIT;
    uint64_t bv = components(area);
    if (!component || bv & component)
        return;
    if (component == COMP_X87) {
        memset(area, 0, AT_MXCSR);
        memcpy(area + AT_FCW, &fcw, sizeof(fcw));
        memset(area + AT_ST, 0, AT_XMM - AT_ST);
    }
    for (unsigned i = 0; i < sizeof(wide) / sizeof(wide[0]); i++)
        if (component == wide[i].component)
            memset(area + wide[i].at, 0, wide[i].size);
    bv |= component;
    memcpy(area + AT_BV, &bv, sizeof(bv));
}

static void area_set(uint8_t *area, unsigned nr, const struct place *p,
                     const uint8_t *in) {
    begin_component(area, p->component);
    if (nr == NR_FTAG)
        area[AT_FTW] = short_tags((uint16_t)(in[0] | in[1] << 8));
    else
        memcpy(area + p->at, in, p->size);
}

/* ---- One register ---- */

/* To gdb 17 and newer pl3_ssp is a user program's shadow-stack pointer: in ring 3 that is SSP,
 * and the MSR has an old one. */
static bool is_users_ssp(const struct pn_cpu_state *s, size_t offset) {
    return offset == offsetof(struct pn_cpu_state, msr[PN_MSR_pl3_ssp]) &&
           (s->seg[PN_SS].attr >> 5 & 3) == 3;
}

/* Where it is in the state, and how many bytes of it gdb has. */
static size_t find(const struct pn_cpu_state *s, unsigned nr, size_t *offset,
                   size_t *held) {
    if (nr < NR_ST) {
        const struct pn_cpu_field *f = core(nr);
        if (!f)
            return 0;
        *offset = f->offset;
        *held = f->size;
        return nr < NR_RFLAGS ? 8 : 4;
    }
    if (nr < NR_SYSTEM || nr - NR_SYSTEM >= ROWS || !shown(&rows[nr - NR_SYSTEM]))
        return 0;
    *offset = rows[nr - NR_SYSTEM].offset;
    if (is_users_ssp(s, *offset))
        *offset = offsetof(struct pn_cpu_state, ssp);
    return *held = rows[nr - NR_SYSTEM].size;
}

size_t gdb_reg_get(const struct pn_cpu_state *s, unsigned nr,
                   uint8_t out[GDB_REG_BYTES]) {
    struct place p = place_of(nr);
    size_t offset, held, size;
    if (p.size) {
        area_get(s->xsave, nr, &p, out);
        return p.shown;
    }
    size = find(s, nr, &offset, &held);
    memset(out, 0, GDB_REG_BYTES);
    if (size)
        memcpy(out, (const char *)s + offset, held < size ? held : size);
    return size;
}

bool gdb_reg_set(struct pn_cpu_state *s, unsigned nr, const uint8_t *in, size_t size) {
    struct place p = place_of(nr);
    size_t offset, held;
    if (p.size && p.shown == size) {
        area_set(s->xsave, nr, &p, in);
        return true;
    }
    if (p.size || !size || find(s, nr, &offset, &held) != size)
        return false;
    memcpy((char *)s + offset, in, held < size ? held : size);
    return true;
}

/* ---- The description ---- */

static const char eflags[] =
    "<flags id=\"i386_eflags\" size=\"4\">"
    "<field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"\" start=\"1\" end=\"1\"/>"
    "<field name=\"PF\" start=\"2\" end=\"2\"/><field name=\"AF\" start=\"4\" end=\"4\"/>"
    "<field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/>"
    "<field name=\"TF\" start=\"8\" end=\"8\"/><field name=\"IF\" start=\"9\" end=\"9\"/>"
    "<field name=\"DF\" start=\"10\" end=\"10\"/>"
    "<field name=\"OF\" start=\"11\" end=\"11\"/>"
    "<field name=\"NT\" start=\"14\" end=\"14\"/>"
    "<field name=\"RF\" start=\"16\" end=\"16\"/>"
    "<field name=\"VM\" start=\"17\" end=\"17\"/>"
    "<field name=\"AC\" start=\"18\" end=\"18\"/>"
    "<field name=\"VIF\" start=\"19\" end=\"19\"/>"
    "<field name=\"VIP\" start=\"20\" end=\"20\"/>"
    "<field name=\"ID\" start=\"21\" end=\"21\"/></flags>\n";

static const char vectors[] =
    "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>"
    "<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
    "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/>"
    "<vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
    "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
    "<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
    "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/>"
    "<field name=\"v2_double\" type=\"v2d\"/><field name=\"v16_int8\" type=\"v16i8\"/>"
    "<field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>"
    "<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/>"
    "</union>\n"
    "<flags id=\"i386_mxcsr\" size=\"4\">"
    "<field name=\"IE\" start=\"0\" end=\"0\"/><field name=\"DE\" start=\"1\" end=\"1\"/>"
    "<field name=\"ZE\" start=\"2\" end=\"2\"/><field name=\"OE\" start=\"3\" end=\"3\"/>"
    "<field name=\"UE\" start=\"4\" end=\"4\"/><field name=\"PE\" start=\"5\" end=\"5\"/>"
    "<field name=\"DAZ\" start=\"6\" end=\"6\"/><field name=\"IM\" start=\"7\" "
    "end=\"7\"/>"
    "<field name=\"DM\" start=\"8\" end=\"8\"/><field name=\"ZM\" start=\"9\" end=\"9\"/>"
    "<field name=\"OM\" start=\"10\" end=\"10\"/>"
    "<field name=\"UM\" start=\"11\" end=\"11\"/>"
    "<field name=\"PM\" start=\"12\" end=\"12\"/>"
    "<field name=\"FZ\" start=\"15\" end=\"15\"/></flags>\n";

static void reg(FILE *out, const char *name, unsigned bits, const char *type,
                unsigned nr) {
    fprintf(out, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\" regnum=\"%u\"/>\n", name,
            bits, type, nr);
}

static void xml_core(FILE *out) {
    static const char *const control[8] = {"fctrl", "fstat", "ftag",  "fiseg",
                                           "fioff", "foseg", "fooff", "fop"};
    char name[8];
    fprintf(out, "<feature name=\"org.gnu.gdb.i386.core\">\n%s", eflags);
    for (unsigned nr = 0; nr < NR_ST; nr++) {
        const struct pn_cpu_field *f = core(nr);
        if (!f)
            continue;
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(f->name, "."), f->name);
        if (nr < NR_RFLAGS)
            reg(out, name, 64,
                !strcmp(name, "rip")                           ? "code_ptr"
                : !strcmp(name, "rsp") || !strcmp(name, "rbp") ? "data_ptr"
                                                               : "int64",
                nr);
        else
            reg(out, nr == NR_RFLAGS ? "eflags" : name, 32,
                nr == NR_RFLAGS ? "i386_eflags" : "int32", nr);
    }
    for (unsigned i = 0; i < 8; i++) {
        snprintf(name, sizeof(name), "st%u", i);
        reg(out, name, 80, "i387_ext", NR_ST + i);
    }
    for (unsigned i = 0; i < 8; i++)
        fprintf(out,
                "<reg name=\"%s\" bitsize=\"32\" type=\"int\" group=\"float\" "
                "regnum=\"%u\"/>\n",
                control[i], NR_FCTRL + i);
    fprintf(out, "</feature>\n");
}

static void regs(FILE *out, const char *prefix, unsigned first, unsigned count,
                 const char *suffix, unsigned bits, const char *type, unsigned nr) {
    char name[16];
    for (unsigned i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "%s%u%s", prefix, first + i, suffix);
        reg(out, name, bits, type, nr + i);
    }
}

static void xml_vectors(FILE *out) {
    fprintf(out, "<feature name=\"org.gnu.gdb.i386.sse\">\n%s", vectors);
    regs(out, "xmm", 0, 16, "", 128, "vec128", NR_XMM);
    fprintf(out,
            "<reg name=\"mxcsr\" bitsize=\"32\" type=\"i386_mxcsr\" group=\"vector\" "
            "regnum=\"%u\"/>\n</feature>\n<feature name=\"org.gnu.gdb.i386.avx\">\n",
            NR_MXCSR);
    regs(out, "ymm", 0, 16, "h", 128, "uint128", NR_YMMH);
    fprintf(out, "</feature>\n");
}

/* Types are a feature's own. */
static void xml_avx512(FILE *out) {
    fprintf(out,
            "<feature name=\"org.gnu.gdb.i386.avx512\">\n%s"
            "<vector id=\"v2ui128\" type=\"uint128\" count=\"2\"/>\n",
            vectors);
    regs(out, "xmm", 16, 16, "", 128, "vec128", NR_XMM16);
    regs(out, "ymm", 16, 16, "h", 128, "uint128", NR_YMM16H);
    regs(out, "k", 0, 8, "", 64, "uint64", NR_K);
    regs(out, "zmm", 0, 32, "h", 256, "v2ui128", NR_ZMMH);
    fprintf(out, "</feature>\n");
}

/* Those that gdb has features for. Of any other it only prints the value. */
static const struct {
    const char *row, *feature, *type;
} featured[] = {
    {"fs_base", "org.gnu.gdb.i386.segments", "int"},
    {"gs_base", "org.gnu.gdb.i386.segments", "int"},
    {"pl3_ssp", "org.gnu.gdb.i386.pl3_ssp", "data_ptr"},
};
#define FEATURED (sizeof(featured) / sizeof(featured[0]))

/* Return: its index; FEATURED when gdb has none for it. */
static unsigned feature_of(const struct row *r) {
    unsigned i = 0;
    while (i < FEATURED && strcmp(featured[i].row, r->name) != 0)
        i++;
    return i;
}

static void xml_feature(FILE *out, const char *feature) {
    fprintf(out, "<feature name=\"%s\">\n", feature);
    for (unsigned i = 0; i < ROWS; i++) {
        unsigned f = feature_of(&rows[i]);
        if (f < FEATURED && !strcmp(featured[f].feature, feature))
            reg(out, rows[i].name, rows[i].size * 8u, featured[f].type, NR_SYSTEM + i);
    }
    fprintf(out, "</feature>\n");
}

static void xml_rows(FILE *out) {
    fprintf(out, "<feature name=\"org.penumbra.x86.system\">\n");
    for (unsigned i = 0; i < ROWS; i++)
        if (shown(&rows[i]) && feature_of(&rows[i]) == FEATURED)
            fprintf(out,
                    "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\" regnum=\"%u\" "
                    "group=\"system\"/>\n",
                    rows[i].name, rows[i].size * 8u,
                    rows[i].size == 8   ? "uint64"
                    : rows[i].size == 4 ? "uint32"
                                        : "uint16",
                    NR_SYSTEM + i);
    fprintf(out, "</feature>\n");
}

void gdb_reg_xml(FILE *out) {
    fprintf(out, "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n"
                 "<target>\n<architecture>i386:x86-64</architecture>\n");
    xml_core(out);
    xml_vectors(out);
    xml_avx512(out);
    xml_feature(out, "org.gnu.gdb.i386.segments");
    xml_feature(out, "org.gnu.gdb.i386.pl3_ssp");
    xml_rows(out);
    fprintf(out, "</target>\n");
}
