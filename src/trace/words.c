/* SPDX-License-Identifier: MIT */
/* Values of fields as text: numbers, and words for bits, outcomes and reasons. */
#include <inttypes.h>

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

static void print_name(const char *const *name, unsigned count, uint64_t value,
                       FILE *out) {
    if (value < count && name[value])
        fputs(name[value], out);
    else
        fprintf(out, "%" PRIu64, value);
}

/* ---- A word for each bit ---- */

struct bit {
    uint64_t bit;
    const char *word;
};

static const struct bit pfec[] = {{PN_PF_PRESENT, "present"},
                                  {PN_PF_WRITE, "write"},
                                  {PN_PF_USER, "user"},
                                  {PN_PF_RSVD, "rsvd"},
                                  {PN_PF_FETCH, "fetch"},
                                  {PN_PF_PK, "pkey"},
                                  {0, NULL}};
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
 * what was printed before. */
static void print_bits(const struct bit *bits, uint64_t value, bool first, FILE *out) {
    for (; bits->word; bits++)
        if (value & bits->bit) {
            fprintf(out, "%s%s", first ? "" : ",", bits->word);
            value &= ~bits->bit;
            first = false;
        }
    if (value)
        fprintf(out, "%s0x%" PRIx64, first ? "" : ",", value);
    else if (first)
        fputc('0', out);
}

static void print_role(uint64_t value, FILE *out) {
    unsigned quadrant = value >> PN_ROLE_QUAD_SHIFT & 3;
    fprintf(out, "level%u", (unsigned)(value & PN_ROLE_LEVEL));
    value &= ~(uint64_t)(PN_ROLE_LEVEL | 3u << PN_ROLE_QUAD_SHIFT);
    if (quadrant)
        fprintf(out, ",quadrant%u", quadrant);
    print_bits(role, value, false, out);
}

void trace_print_value(enum pn_type type, uint64_t value, FILE *out) {
    switch (type) {
    case PN_TYPE_count:
    case PN_TYPE_flag:
    case PN_TYPE_level:
        fprintf(out, "%" PRIu64, value);
        break;
    case PN_TYPE_pfec:
        print_bits(pfec, value, true, out);
        break;
    case PN_TYPE_access:
        print_bits(access, value, true, out);
        break;
    case PN_TYPE_role:
        print_role(value, out);
        break;
    case PN_TYPE_mode:
        print_name(modes, PN_MODE_LEVELS + 1, value & PN_MODE_LEVELS, out);
        print_bits(mode, value & ~(uint64_t)PN_MODE_LEVELS, false, out);
        break;
    case PN_TYPE_qualification:
        print_bits(qualification, value, true, out);
        break;
    case PN_TYPE_slot_flags:
        print_bits(slot_flags, value, true, out);
        break;
    case PN_TYPE_outcome:
        print_name(outcomes, PN_OUT_COUNT, value, out);
        break;
    case PN_TYPE_zap:
        print_name(zaps, sizeof(zaps) / sizeof(zaps[0]), value, out);
        break;
    case PN_TYPE_end:
        print_name(ends, sizeof(ends) / sizeof(ends[0]), value, out);
        break;
    default:
        fprintf(out, "0x%" PRIx64, value);
        break;
    }
}
