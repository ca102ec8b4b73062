/* SPDX-License-Identifier: MIT */
/* What a CPU model is made of: feature words in CPUID's own layout, and what follows from
 * them for control registers and XSAVE. Made once by cpuid.c, then constant. */
#pragma once

#include "cpu/cpu.h"
#include "penumbra/x86.h"

enum cpu_word {
    CPU_W_1_EDX,
    CPU_W_1_ECX,
    CPU_W_6_EAX,
    CPU_W_7_EBX,
    CPU_W_7_ECX,
    CPU_W_7_EDX,
    CPU_W_7_1_EAX,
    CPU_W_7_1_EDX,
    CPU_W_D1_EAX,
    CPU_W_X1_EDX,
    CPU_W_X1_ECX,
    CPU_W_X7_EDX,
    CPU_W_XA_EDX,
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
    uint8_t phys_bits, phys_named; /* phys_named: as --cpu has it; 0: it does not */
    uint64_t cr4_valid;            /* CR4 bits that may be set */
    uint64_t efer_valid;           /* EFER bits that may be set, LMA not included */
    uint64_t xcr0_valid;           /* XCR0 bits that may be set */
    uint64_t xss_valid;            /* IA32_XSS bits that may be set */
    uint64_t host_xcr0; /* of CPU_VEC_MASK, what the host's XSAVE carries; 0: FXSAVE */
    bool host_compact;  /* the compacted format is the one whose offsets are ours */
    bool host_tells;    /* XGETBV tells which components are in use */
    uint32_t pv;        /* EAX of CPUID leaf 0x40000001; 0: no KVM interface at all */
};

/* Standard format of the guest's XSAVE area, as leaf 0xd tells it, and of cpu->xsave. Where
 * PKRU is depends on the model. The compacted format with all vector state has the same
 * offsets. */
#define XSAVE_EXTENDED    576u
#define XSAVE_AVX         576u
#define XSAVE_AVX_SIZE    256u
#define XSAVE_OPMASK      832u
#define XSAVE_OPMASK_SIZE 64u
#define XSAVE_ZMM_HI      896u
#define XSAVE_ZMM_HI_SIZE 512u
#define XSAVE_HI16        1408u
#define XSAVE_HI16_SIZE   1024u
#define XSAVE_VECTOR_END  2432u
#define XSAVE_PKRU_SIZE   8u
/* Of the compacted format alone. */
#define XSAVE_CET_U_SIZE 16u
#define XSAVE_CET_S_SIZE 24u

/* The vector state behind the header: bit in XCR0, place and size. */
struct xsave_part {
    uint8_t nr;
    uint16_t at, size;
};
#define XSAVE_PARTS 4u
extern const struct xsave_part xsave_parts[XSAVE_PARTS];

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
/* Has it shadow stacks, indirect-branch tracking, or both? */
static inline bool cpu_model_has_cet(const struct cpu_model *m) {
    return cpu_model_has(m, CPU_F_shstk) || cpu_model_has(m, CPU_F_ibt);
}

/* What the vector state of this model consists of: x87, SSE, AVX, AVX-512. */
static inline uint64_t cpu_model_vector(const struct cpu_model *m) {
    return XSTATE_X87 | XSTATE_SSE | XSTATE_AVX | (m->xcr0_valid & XSTATE_AVX512);
}

/* Bytes of an XSAVE area that holds `mask`; compact: in the compacted format. */
uint32_t cpu_xsave_size(const struct cpu_model *m, uint64_t mask, bool compact);
/* Offset of component nr, which is in `mask`. */
uint32_t cpu_xsave_offset(const struct cpu_model *m, unsigned nr, uint64_t mask,
                          bool compact);
