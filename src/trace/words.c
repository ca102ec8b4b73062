/* SPDX-License-Identifier: MIT */
/* Values of fields as text: numbers, and words for bits, outcomes and reasons. */
#include <string.h>

#include "penumbra/mmu.h"
#include "trace/trace.h"

/* ---- One word for a value ---- */

static const char *const ends[] = {
#define PN_END(name, word) word,
#include "penumbra/reasons.inc"
};
static const char *const zaps[] = {
#define PN_ZAP(name, word) word,
#include "penumbra/reasons.inc"
};
static const char *const outcomes[] = {
    "no_fault",
#define PN_OUTCOME(name, answer, counter, sum, doc) #name,
#include "penumbra/outcomes.inc"
};
static const char *const modes[PN_MODE_LEVELS + 1] = {
    [0] = "unpaged", [2] = "32bit", [3] = "pae", [4] = "4level", [5] = "5level"};

static const struct {
    enum pn_type type;
    const char *const *word;
    unsigned count;
} lists[] = {{PN_TYPE_outcome, outcomes, PN_OUT_COUNT},
             {PN_TYPE_zap, zaps, sizeof(zaps) / sizeof(zaps[0])},
             {PN_TYPE_end, ends, sizeof(ends) / sizeof(ends[0])}};

const char *trace_word(enum pn_type type, uint64_t value) {
    for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        if (lists[i].type == type && value < lists[i].count)
            return lists[i].word[value];
    return NULL;
}

/* ---- Numbers ---- */

char *trace_put_dec(uint64_t value, char *p) {
    char digit[20];
    unsigned n = 0;
    do
        digit[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n)
        *p++ = digit[--n];
    return p;
}

char *trace_put_hex(uint64_t value, char *p) {
    unsigned n = value ? (67u - (unsigned)__builtin_clzll(value)) / 4 : 1;
    *p++ = '0';
    *p++ = 'x';
    while (n--)
        *p++ = "0123456789abcdef"[value >> 4 * n & 15];
    return p;
}

/* ---- A word for each bit ---- */

struct bit {
    uint64_t bit;
    const char *word;
};

static const struct bit pfec[] = {{PN_PF_PRESENT, "present"}, {PN_PF_WRITE, "write"},
                                  {PN_PF_USER, "user"},       {PN_PF_RSVD, "rsvd"},
                                  {PN_PF_FETCH, "fetch"},     {PN_PF_PK, "pkey"},
                                  {PN_PF_SS, "shadow_stack"}, {0, NULL}};
static const struct bit access[] = {
    {PN_ACC_EXEC, "exec"}, {PN_ACC_WRITE, "write"}, {PN_ACC_USER, "user"}, {0, NULL}};
static const struct bit role[] = {{PN_ROLE_4BYTE, "4byte"},
                                  {PN_ROLE_PSE, "pse"},
                                  {PN_ROLE_LONG, "long"},
                                  {PN_ROLE_ROOT, "root"},
                                  {PN_ROLE_DIRECT, "direct"},
                                  {PN_ROLE_NX, "nx"},
                                  {PN_ROLE_WP, "wp"},
                                  {PN_ROLE_SMEP, "smep"},
                                  {PN_ROLE_SMAP, "smap"},
                                  {(uint64_t)PN_ACC_EXEC << PN_ROLE_ACC_SHIFT, "exec"},
                                  {(uint64_t)PN_ACC_WRITE << PN_ROLE_ACC_SHIFT, "write"},
                                  {(uint64_t)PN_ACC_USER << PN_ROLE_ACC_SHIFT, "user"},
                                  {PN_ROLE_INVALID, "invalid"},
                                  {PN_ROLE_AD_OFF, "ad-off"},
                                  {PN_ROLE_GUEST_MODE, "guest-mode"},
                                  {0, NULL}};
static const struct bit mode[] = {
    {PN_MODE_PSE, "pse"},   {PN_MODE_NX, "nx"},     {PN_MODE_WP, "wp"},
    {PN_MODE_SMEP, "smep"}, {PN_MODE_SMAP, "smap"}, {PN_MODE_PKE, "pke"},
    {PN_MODE_PKS, "pks"},   {PN_MODE_LMA, "lma"},   {0, NULL}};
/* SDM volume 3, "Exit Qualification for EPT Violations". */
static const struct bit qualification[] = {
    {0x001, "read"},     {0x002, "write"},     {0x004, "fetch"},
    {0x008, "may-read"}, {0x010, "may-write"}, {0x020, "may-fetch"},
    {0x080, "linear"},   {0x100, "final"},     {0, NULL}};
static const struct bit slot_flags[] = {
    {PN_SLOT_READONLY, "read-only"}, {PN_SLOT_LOG_DIRTY, "log-dirty"}, {0, NULL}};

/* The words of the bits that are set, then other bits as a number; 0 for none. first:
 * nothing was put before. */
static char *put_bits(const struct bit *bits, uint64_t value, bool first, char *p) {
    for (; bits->word; bits++)
        if (value & bits->bit) {
            p = stpcpy(stpcpy(p, first ? "" : ","), bits->word);
            value &= ~bits->bit;
            first = false;
        }
    if (value)
        return trace_put_hex(value, stpcpy(p, first ? "" : ","));
    if (first)
        *p++ = '0';
    return p;
}

static char *put_role(uint64_t value, char *p) {
    unsigned quadrant = value >> PN_ROLE_QUAD_SHIFT & 3;
    p = trace_put_dec(value & PN_ROLE_LEVEL, stpcpy(p, "level"));
    value &= ~(uint64_t)(PN_ROLE_LEVEL | 3u << PN_ROLE_QUAD_SHIFT);
    if (quadrant)
        p = trace_put_dec(quadrant, stpcpy(p, ",quadrant"));
    return value ? put_bits(role, value, false, p) : p;
}

static char *put_mode(uint64_t value, char *p) {
    const char *levels = modes[value & PN_MODE_LEVELS];
    p = levels ? stpcpy(p, levels) : trace_put_dec(value & PN_MODE_LEVELS, p);
    value &= ~(uint64_t)PN_MODE_LEVELS;
    return value ? put_bits(mode, value, false, p) : p;
}

static char *put_word(enum pn_type type, uint64_t value, char *p) {
    const char *word = trace_word(type, value);
    return word ? stpcpy(p, word) : trace_put_dec(value, p);
}

/* Up to the first NUL; a blank is '_', what would break a line apart else '?', no text '-'. */
static char *put_text(uint64_t value, char *p) {
    if (!(value & 0xff))
        *p++ = '-';
    for (; value & 0xff; value >>= 8) {
        char c = (char)value;
        *p++ = c == ' ' ? '_' : c > ' ' && c <= '~' && !strchr("\"\\=,", c) ? c : '?';
    }
    return p;
}

char *trace_put_value(enum pn_type type, uint64_t value, char *p) {
    switch (type) {
    case PN_TYPE_count:
    case PN_TYPE_flag:
    case PN_TYPE_level:
        return trace_put_dec(value, p);
    case PN_TYPE_pfec:
        return put_bits(pfec, value, true, p);
    case PN_TYPE_access:
        return put_bits(access, value, true, p);
    case PN_TYPE_role:
        return put_role(value, p);
    case PN_TYPE_mode:
        return put_mode(value, p);
    case PN_TYPE_qualification:
        return put_bits(qualification, value, true, p);
    case PN_TYPE_slot_flags:
        return put_bits(slot_flags, value, true, p);
    case PN_TYPE_outcome:
    case PN_TYPE_zap:
    case PN_TYPE_end:
        return put_word(type, value, p);
    case PN_TYPE_text:
        return put_text(value, p);
    default:
        return trace_put_hex(value, p);
    }
}

void trace_print_value(enum pn_type type, uint64_t value, FILE *out) {
    char text[TRACE_VALUE_MAX];
    fwrite(text, 1, (size_t)(trace_put_value(type, value, text) - text), out);
}
