/* SPDX-License-Identifier: MIT */
/*
 * Rules, each for a kind and with its reason (compare.c has those that outcomes decide):
 *
 * - An instruction of a set that CPUID does not offer is left out: a host may execute it
 *   all the same (a hypervisor hides features that it cannot take away).
 * - An instruction that enters the host's kernel or hypervisor is left out: with UMIP, if
 *   the kernel emulates what it forbids, SGDT and its like do.
 * - A prefix where the manual calls it reserved is left out.
 * - A result that is the host's own (its clock, its CPUID, its tables, a random number) is
 *   not compared; faults, RIP and all other registers are.
 * - Flags that the manual leaves undefined are compared where the host's own units compute
 *   them, which is nearly everywhere; they are not where the software CPU does it in C.
 * - The x87 pointers and opcode, and what XSAVE says is in use, are not compared.
 */
#include "rules.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>

#define ALWAYS   0xffffu
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- CPUID ---- */

enum { REG_EAX, REG_EBX, REG_ECX, REG_EDX };

static const struct {
    uint32_t leaf, subleaf;
    unsigned reg;
} word_place[CPU_WORDS] = {
    [CPU_W_1_EDX] = {1, 0, REG_EDX},           [CPU_W_1_ECX] = {1, 0, REG_ECX},
    [CPU_W_6_EAX] = {6, 0, REG_EAX},           [CPU_W_7_EBX] = {7, 0, REG_EBX},
    [CPU_W_7_ECX] = {7, 0, REG_ECX},           [CPU_W_7_EDX] = {7, 0, REG_EDX},
    [CPU_W_7_1_EAX] = {7, 1, REG_EAX},         [CPU_W_7_1_EDX] = {7, 1, REG_EDX},
    [CPU_W_D1_EAX] = {0xd, 1, REG_EAX},        [CPU_W_X1_EDX] = {0x80000001, 0, REG_EDX},
    [CPU_W_X1_ECX] = {0x80000001, 0, REG_ECX}, [CPU_W_X7_EDX] = {0x80000007, 0, REG_EDX},
};

static bool host_has(unsigned feature) {
    unsigned r[4] = {0}, word = feature >> 5;
    return __get_cpuid_count(word_place[word].leaf, word_place[word].subleaf, &r[0],
                             &r[1], &r[2], &r[3]) &&
           r[word_place[word].reg] >> (feature & 31) & 1;
}

bool diff_model(char *text, size_t size, const char *vendor) {
    static const struct {
        const char *name;
        unsigned id;
    } features[] = {
#define FEATURE(name, word, bit, level, host) {#name, CPU_F_##name},
#define FEATURE_NEEDS(feature, needs)
#include "cpu/features.inc"
    };
    unsigned leaf[4] = {0};
    __get_cpuid(0, &leaf[0], &leaf[1], &leaf[2], &leaf[3]);
    bool amd = !memcmp(&leaf[1], "Auth", 4) || !memcmp(&leaf[1], "Hygo", 4);
    const char *own = amd ? "amd" : "intel";
    int n = snprintf(text, size, "max,vendor=%s", vendor ? vendor : own);
    for (size_t i = 0; i < COUNT(features); i++)
        if (!host_has(features[i].id))
            n += snprintf(text + n, size - (size_t)n, ",-%s", features[i].name);
    return !vendor || !strcmp(vendor, own);
}

/* ---- Which instructions run ---- */

static const struct {
    uint16_t isa, feature;
} sets[] = {
#define ISA(set, feature) {ZYDIS_ISA_SET_##set, CPU_F_##feature},
#define ISA_ALWAYS(set)   {ZYDIS_ISA_SET_##set, ALWAYS},
#include "cpu/isa.inc"
};

void diff_rules_init(struct diff_rules *r, const struct cpu_model *model) {
    memset(r, 0, sizeof *r);
    r->model = model;
    for (size_t i = 0; i < COUNT(sets); i++)
        r->isa[sets[i].isa] = true;
    for (size_t i = 0; i < COUNT(sets); i++)
        r->isa[sets[i].isa] &= sets[i].feature == ALWAYS ||
                               cpu_model_has(model, (enum cpu_feature)sets[i].feature);
}

/* SYSCALL, SYSENTER, INT 80H, VMCALL, VMMCALL and CPUID (a hypervisor's answer to it need
 * not end with the single step), whatever the prefixes: by bytes, so that
 * a decoder's error cannot let one through. */
static bool enters_kernel(const struct diff_case *c) {
    static const uint8_t legacy[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x26,
                                     0x2e, 0x36, 0x3e, 0x64, 0x65};
    uint8_t p[18] = {0}; /* more than code has */
    unsigned i = 0;
    memcpy(p, c->code, sizeof c->code);
    while (i < 14 &&
           (memchr(legacy, p[i], sizeof legacy) || (c->code64 && (p[i] & 0xf0) == 0x40)))
        i++;
    if (p[i] == 0xcd)
        return p[i + 1] == 0x80;
    if (p[i] != 0x0f)
        return false;
    return p[i + 1] == 0x05 || p[i + 1] == 0x34 || p[i + 1] == 0xa2 ||
           (p[i + 1] == 0x01 && (p[i + 2] == 0xc1 || p[i + 2] == 0xd9));
}

/* SDM volume 2, "SGDT": with CR4.UMIP #GP outside ring 0. */
static bool is_umip(const struct diff_insn *in) {
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_SMSW:
    case ZYDIS_MNEMONIC_STR:
        return true;
    default:
        return false;
    }
}

/* REP and REPNE before LOOPE and LOOPNE: "reserved" (SDM volume 2, "Instruction Prefixes"),
 * and AMD's processors take the condition from the prefix. */
static bool is_reserved(const struct diff_case *c, const struct diff_insn *in) {
    if (in->zi.mnemonic != ZYDIS_MNEMONIC_LOOPE &&
        in->zi.mnemonic != ZYDIS_MNEMONIC_LOOPNE)
        return false;
    for (unsigned i = 0; i < c->len; i++)
        if (c->code[i] == 0xf2 || c->code[i] == 0xf3)
            return true;
    return false;
}

enum diff_left diff_leave_out(const struct diff_rules *r, const struct diff_case *c,
                              const struct diff_insn *in) {
    if (enters_kernel(c))
        return DIFF_LEFT_KERNEL;
    if (!in->defined)
        return DIFF_RUN;
    if (r->umip && is_umip(in))
        return DIFF_LEFT_KERNEL;
    bool offered = r->isa[in->zi.meta.isa_set];
    if (is_reserved(c, in))
        return DIFF_LEFT_RESERVED;
    return offered ? DIFF_RUN : DIFF_LEFT_FEATURE;
}

/* ---- What is not compared ---- */

static void ignore(struct diff_case *c, const struct diff_insn *in, unsigned slot,
                   unsigned from, unsigned to) {
    uint64_t at = in->address + from - DIFF_DATA;
    if (!in->has_address || at >= DIFF_DATA_SIZE)
        return;
    uint64_t len = at + (to - from) <= DIFF_DATA_SIZE ? to - from : DIFF_DATA_SIZE - at;
    c->ignore[slot] = (struct diff_range){(uint32_t)at, (uint32_t)len};
}

/* Results that are the host's own. */
static const uint16_t own_values[] = {
    ZYDIS_MNEMONIC_RDTSC,  ZYDIS_MNEMONIC_RDTSCP, ZYDIS_MNEMONIC_RDPID,
    ZYDIS_MNEMONIC_RDRAND, ZYDIS_MNEMONIC_RDSEED, ZYDIS_MNEMONIC_XGETBV,
    ZYDIS_MNEMONIC_SGDT,   ZYDIS_MNEMONIC_SIDT,   ZYDIS_MNEMONIC_SLDT,
    ZYDIS_MNEMONIC_STR,    ZYDIS_MNEMONIC_SMSW};

static void mask_own_values(struct diff_case *c, const struct diff_insn *in,
                            struct diff_mask *m) {
    for (size_t i = 0; i < COUNT(own_values); i++) {
        if (own_values[i] != in->zi.mnemonic)
            continue;
        for (unsigned k = 0; k < in->zi.operand_count; k++) {
            const ZydisDecodedOperand *o = &in->op[k];
            if (!(o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
                continue;
            if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
                unsigned reg = ZydisRegisterGetLargestEnclosing(
                                   ZYDIS_MACHINE_MODE_LONG_64, o->reg.value) -
                               ZYDIS_REGISTER_RAX;
                m->gpr |= reg < 16 ? 1u << reg : 0;
            }
            ignore(c, in, 0, 0, o->size / 8);
        }
    }
}

/* Flags that the manual calls undefined, of instructions that the software CPU does in C.
 * SDM volume 2, under each name, "Flags Affected". */
static const struct {
    uint16_t mnemonic, flags;
} undefined[] = {
    {ZYDIS_MNEMONIC_AAA, FL_OF | FL_SF | FL_ZF | FL_PF},
    {ZYDIS_MNEMONIC_AAS, FL_OF | FL_SF | FL_ZF | FL_PF},
    {ZYDIS_MNEMONIC_AAM, FL_OF | FL_AF | FL_CF},
    {ZYDIS_MNEMONIC_AAD, FL_OF | FL_AF | FL_CF},
    {ZYDIS_MNEMONIC_DAA, FL_OF},
    {ZYDIS_MNEMONIC_DAS, FL_OF},
};

/* x87 pointers and opcode (SDM volume 1, "x87 FPU State in 32-bit Protected Mode"; "FXSAVE
 * Area"); MXCSR_MASK, where AMD's MXCSR has a bit MM (APM volume 2, "MXCSR") that no model
 * has; XSTATE_BV (SDM volume 1, "XSAVE-Supported Features": XINUSE may be 1 in any case). */
static void mask_images(struct diff_case *c, const struct diff_insn *in) {
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
        if (in->zi.operand_width == 16)
            ignore(c, in, 0, 6, 14);
        else
            ignore(c, in, 0, 12, 28);
        break;
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XSAVEC:
    case ZYDIS_MNEMONIC_XSAVEC64:
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64:
        ignore(c, in, 1, 512, 520);
        /* fall through */
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
        ignore(c, in, 0, 6, 24);
        ignore(c, in, 2, 28, 32);
        break;
    default:
        break;
    }
}

/* What TF is seen by, or what goes on after its first step. */
static bool only_steps(const struct diff_insn *in) {
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
        return true;
    default:
        return in->zi.attributes &
               (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
    }
}

void diff_mask(const struct diff_insn *in, struct diff_case *c, struct diff_mask *m) {
    *m = (struct diff_mask){.rflags = 0x3fffff, .blocks = true};
    if (!in->defined)
        return;
    mask_own_values(c, in, m);
    mask_images(c, in);
    m->blocks = !only_steps(in);
    for (size_t i = 0; i < COUNT(undefined); i++)
        if (undefined[i].mnemonic == in->zi.mnemonic)
            m->rflags &= ~(uint64_t)undefined[i].flags;
}
