/* SPDX-License-Identifier: MIT */
/* What a CPU model is made of: feature words in CPUID's own layout, and what follows from
 * them for control registers and XSAVE. Made once by cpuid.c, then constant. */
#pragma once

#include "cpu/cpu.h"

enum cpu_word {
    CPU_W_1_EDX,
    CPU_W_1_ECX,
    CPU_W_6_EAX,
    CPU_W_7_EBX,
    CPU_W_7_ECX,
    CPU_W_7_EDX,
    CPU_W_D1_EAX,
    CPU_W_X1_EDX,
    CPU_W_X1_ECX,
    CPU_W_X7_EDX,
    CPU_WORDS
};

/* A feature is its word and bit: word * 32 + bit. */
enum cpu_feature {
#define FEATURE(name, word, bit, level, host) CPU_F_##name = CPU_W_##word * 32 + bit,
#define FEATURE_NEEDS(feature, needs)
#include "cpu/features.inc"
};

/* What depends on the vendor: vendor.inc. */
enum cpu_rule {
#define RULE(name, intel, amd) RULE_##name,
#include "cpu/vendor.inc"
};

struct cpu_model {
    char name[32];  /* of the base model, as --cpu names it */
    uint8_t vendor; /* enum cpu_vendor */
    bool vendor_named;
    uint32_t signature; /* EAX of leaf 1: family, model, stepping */
    uint32_t word[CPU_WORDS];
    uint8_t phys_bits;
    uint64_t cr4_valid;  /* CR4 bits that may be set */
    uint64_t efer_valid; /* EFER bits that may be set, LMA not included */
    uint64_t xcr0_valid; /* XCR0 bits that may be set */
    uint64_t host_xcr0;  /* of CPU_VEC_MASK, what the host's XSAVE carries; 0: FXSAVE */
    uint32_t pv;         /* EAX of CPUID leaf 0x40000001; 0: no KVM interface at all */
};

/* Standard format of the guest's XSAVE area, as leaf 0xd tells it. */
#define XSAVE_EXTENDED  576u
#define XSAVE_AVX       576u
#define XSAVE_AVX_SIZE  256u
#define XSAVE_PKRU      832u
#define XSAVE_PKRU_SIZE 8u

static inline bool cpu_model_has(const struct cpu_model *m, enum cpu_feature f) {
    return m->word[f >> 5] >> (f & 31) & 1;
}
static inline bool cpu_model_follows(const struct cpu_model *m, enum cpu_rule rule) {
    static const uint8_t holds[][2] = {
#define RULE(name, intel, amd) {intel, amd},
#include "cpu/vendor.inc"
    };
    return holds[rule][m->vendor];
}
static inline bool cpu_follows(const struct cpu *cpu, enum cpu_rule rule) {
    return cpu_model_follows(cpu->model, rule);
}
static inline bool cpu_has(const struct cpu *cpu, enum cpu_feature f) {
    return cpu_model_has(cpu->model, f);
}

/* Bytes of an XSAVE area that holds `mask`; compact: in the compacted format. */
uint32_t cpu_xsave_size(uint64_t mask, bool compact);
