/* SPDX-License-Identifier: MIT */
/*
 * CPU models: `--cpu name[,+feature][,-feature]...[,vendor=V]`, and the CPUID leaves of
 * each.
 *
 * Invariants
 * 1. A feature that the host's own units execute is in a model only if the host has it.
 * 2. No feature is in a model without those it needs (features.inc).
 * 3. A model never changes after it is made; the same text on two hosts that accept it
 *    gives the same CPUID, but for `max` and the default.
 */
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/control.h"
#include "cpu/model.h"

enum level { V1, V2, V3, MAX, LEVELS, NONE };

/* Beyond LEVELS: other names of the first. */
/* Behind the levels: what others call them. */
static const char *const level_name[] = {"x86-64-v1", "x86-64-v2", "x86-64-v3", "max",
                                         "x86-64",    "qemu64",    "host"};
static const enum level level_meant[] = {V1, V2, V3, MAX, V1, V1, MAX};

static const struct feature {
    const char *name;
    uint16_t id;
    uint8_t level;
    uint8_t host;
} features[] = {
#define FEATURE(name, word, bit, level, host) {#name, CPU_F_##name, level, host},
#define FEATURE_NEEDS(feature, needs)
#include "cpu/features.inc"
};

static const struct {
    uint16_t feature, needs;
} feature_needs[] = {
#define FEATURE(name, word, bit, level, host)
#define FEATURE_NEEDS(feature, needs) {CPU_F_##feature, CPU_F_##needs},
#include "cpu/features.inc"
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Where each feature word is in CPUID: leaf, subleaf, index in EAX EBX ECX EDX. */
static const struct {
    uint32_t leaf, subleaf;
    uint8_t reg;
} word_place[CPU_WORDS] = {
    [CPU_W_1_EDX] = {1, 0, 3},           [CPU_W_1_ECX] = {1, 0, 2},
    [CPU_W_6_EAX] = {6, 0, 0},           [CPU_W_7_EBX] = {7, 0, 1},
    [CPU_W_7_ECX] = {7, 0, 2},           [CPU_W_7_EDX] = {7, 0, 3},
    [CPU_W_7_1_EAX] = {7, 1, 0},         [CPU_W_7_1_EDX] = {7, 1, 3},
    [CPU_W_D1_EAX] = {0xd, 1, 0},        [CPU_W_X1_EDX] = {0x80000001, 0, 3},
    [CPU_W_X1_ECX] = {0x80000001, 0, 2}, [CPU_W_X7_EDX] = {0x80000007, 0, 3},
    [CPU_W_XA_EDX] = {0x8000000a, 0, 3},
};

#define PHYS_BITS     46u
#define PHYS_BITS_MIN 36u
#define BITS_OPTION   "phys-bits="

/* Of leaf 1: family 6, model 0x70 is Intel's, family 0x1a, model 1 AMD's, but none that
 * Linux 6.1 has quirks or bug lists for. */
static const struct {
    const char *option, *name;
    uint32_t signature, max_basic;
} vendors[] = {
    [CPU_INTEL] = {"vendor=intel", "GenuineIntel", 0x00070601, 0x16},
    [CPU_AMD] = {"vendor=amd", "AuthenticAMD", 0x00b00f11, 0xd},
};

/* ---- The host ---- */

struct host {
    uint32_t word[CPU_WORDS];
    uint64_t xcr0;
    bool avx512;  /* its state can be saved in a format whose offsets are ours, */
    bool compact; /* namely the compacted one */
};

const struct xsave_part xsave_parts[XSAVE_PARTS] = {
    {2, XSAVE_AVX, XSAVE_AVX_SIZE},
    {5, XSAVE_OPMASK, XSAVE_OPMASK_SIZE},
    {6, XSAVE_ZMM_HI, XSAVE_ZMM_HI_SIZE},
    {7, XSAVE_HI16, XSAVE_HI16_SIZE},
};

static uint64_t host_xgetbv(void) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* AMD's standard format has our offsets; Intel's, with room for MPX, does not. */
static void host_layout(struct host *h) {
    uint64_t need = XSTATE_X87 | XSTATE_SSE | XSTATE_AVX | XSTATE_AVX512;
    const unsigned xsavec = 2, aligned = 2;
    bool known = (h->xcr0 & need) == need;
    for (unsigned i = 0; known && i < XSAVE_PARTS; i++) {
        unsigned a, b, c, d;
        const struct xsave_part *p = &xsave_parts[i];
        known = __get_cpuid_count(0xd, p->nr, &a, &b, &c, &d) && a == p->size &&
                !(c & aligned);
        h->compact |= known && b != p->at;
    }
    h->avx512 = known && (!h->compact || h->word[CPU_W_D1_EAX] & xsavec);
}

static void host_probe(struct host *h) {
    memset(h, 0, sizeof(*h));
    for (unsigned w = 0; w < CPU_WORDS; w++) {
        unsigned r[4];
        if (__get_cpuid_count(word_place[w].leaf, word_place[w].subleaf, &r[0], &r[1],
                              &r[2], &r[3]))
            h->word[w] = r[word_place[w].reg];
    }
    if (h->word[CPU_W_1_ECX] >> 27 & 1)
        h->xcr0 = host_xgetbv();
    host_layout(h);
}

static bool host_has(const struct host *h, const struct feature *f) {
    if (!f->host)
        return true;
    if (!(h->word[f->id >> 5] >> (f->id & 31) & 1))
        return false;
    if (f->id == CPU_F_xsave)
        return (h->xcr0 & 3) == 3;
    if (f->id == CPU_F_avx)
        return (h->xcr0 & 7) == 7;
    if (f->id == CPU_F_avx512f)
        return h->avx512;
    return true;
}

/* ---- Sets of features ---- */

static void set_feature(struct cpu_model *m, unsigned f, bool on) {
    uint32_t bit = (uint32_t)1 << (f & 31);
    m->word[f >> 5] = (m->word[f >> 5] & ~bit) | (on ? bit : 0);
}

static const char *feature_name(unsigned id) {
    for (size_t i = 0; i < COUNT(features); i++)
        if (features[i].id == id)
            return features[i].name;
    return "?";
}

/* Take away what lacks something it needs, until nothing changes. */
static void drop_unsupported(struct cpu_model *m) {
    for (bool again = true; again;) {
        again = false;
        for (size_t i = 0; i < COUNT(feature_needs); i++)
            if (cpu_model_has(m, feature_needs[i].feature) &&
                !cpu_model_has(m, feature_needs[i].needs)) {
                set_feature(m, feature_needs[i].feature, false);
                again = true;
            }
    }
}

/* Fill m with a level's features. Return: NULL, or the first one the host lacks. */
static const char *fill_level(struct cpu_model *m, const struct host *h, enum level l) {
    const char *lacks = NULL;
    memset(m->word, 0, sizeof(m->word));
    for (size_t i = 0; i < COUNT(features); i++) {
        const struct feature *f = &features[i];
        if (f->level > l)
            continue;
        if (host_has(h, f))
            set_feature(m, f->id, true);
        else if (l != MAX && !lacks)
            lacks = f->name;
    }
    snprintf(m->name, sizeof(m->name), "%s", level_name[l]);
    return lacks;
}

/* What the features mean for control registers. */
static void derive(struct cpu_model *m, const struct host *h) {
    static const struct {
        uint16_t feature;
        uint32_t cr4;
    } bits[] = {
        {CPU_F_tsc, CR4_TSD},           {CPU_F_de, CR4_DE},
        {CPU_F_pse, CR4_PSE},           {CPU_F_pae, CR4_PAE},
        {CPU_F_mce, CR4_MCE},           {CPU_F_pge, CR4_PGE},
        {CPU_F_fxsr, CR4_OSFXSR},       {CPU_F_sse, CR4_OSXMMEXCPT},
        {CPU_F_umip, CR4_UMIP},         {CPU_F_la57, CR4_LA57},
        {CPU_F_fsgsbase, CR4_FSGSBASE}, {CPU_F_pcid, CR4_PCIDE},
        {CPU_F_xsave, CR4_OSXSAVE},     {CPU_F_smep, CR4_SMEP},
        {CPU_F_smap, CR4_SMAP},         {CPU_F_pku, CR4_PKE},
        {CPU_F_pks, CR4_PKS},           {CPU_F_shstk, CR4_CET},
        {CPU_F_ibt, CR4_CET},           {CPU_F_vmx, CR4_VMXE},
        {CPU_F_vme, CR4_VME | CR4_PVI},
    };
    m->phys_bits = m->phys_named ? m->phys_named : PHYS_BITS;
    m->cr4_valid = CR4_PCE;
    for (size_t i = 0; i < COUNT(bits); i++)
        if (cpu_model_has(m, bits[i].feature))
            m->cr4_valid |= bits[i].cr4;
    m->efer_valid = (cpu_model_has(m, CPU_F_syscall) ? EFER_SCE : 0) |
                    (cpu_model_has(m, CPU_F_lm) ? EFER_LME : 0) |
                    (cpu_model_has(m, CPU_F_nx) ? EFER_NXE : 0) |
                    (cpu_model_has(m, CPU_F_svm) ? EFER_SVME : 0);
    m->xcr0_valid = 0;
    if (cpu_model_has(m, CPU_F_xsave))
        m->xcr0_valid = XSTATE_X87 | XSTATE_SSE |
                        (cpu_model_has(m, CPU_F_avx) ? XSTATE_AVX : 0) |
                        (cpu_model_has(m, CPU_F_avx512f) ? XSTATE_AVX512 : 0) |
                        (cpu_model_has(m, CPU_F_pku) ? XSTATE_PKRU : 0);
    m->xss_valid =
        cpu_model_has_cet(m) && cpu_model_has(m, CPU_F_xsaves) ? XSTATE_CET : 0;
    m->host_xcr0 = (h->xcr0 & 3) == 3 ? h->xcr0 & cpu_model_vector(m) : 0;
    m->host_compact = h->compact && m->host_xcr0 & XSTATE_AVX512;
    m->host_tells = m->host_xcr0 && h->word[CPU_W_D1_EAX] >> 2 & 1;
}

/* ---- The option ---- */

/* Return: the level of a name, or -1. */
static int find_level(const char *name, size_t len) {
    for (int l = 0; l < (int)COUNT(level_name); l++)
        if (strlen(level_name[l]) == len && !memcmp(level_name[l], name, len))
            return level_meant[l];
    return -1;
}

static int fail(char *err, size_t err_size, const char *what, size_t what_len,
                const char *why, const char *detail) {
    snprintf(err, err_size, "--cpu %.*s: %s%s", (int)(what_len > 64 ? 64 : what_len),
             what, why, detail);
    return -EINVAL;
}

static const struct feature *find_feature(const char *name, size_t len) {
    for (size_t i = 0; i < COUNT(features); i++)
        if (strlen(features[i].name) == len && !memcmp(features[i].name, name, len))
            return &features[i];
    return NULL;
}

/* One "+feature" or "-feature". asked: the features that were asked for by +. */
static int toggle(struct cpu_model *m, struct cpu_model *asked, const struct host *h,
                  const char *text, size_t len, char *err, size_t err_size) {
    if (len < 2 || (text[0] != '+' && text[0] != '-'))
        return fail(err, err_size, text, len, "expected +feature or -feature", "");
    const struct feature *f = find_feature(text + 1, len - 1);
    if (!f)
        return fail(err, err_size, text, len, "no such feature (see --cpu help)", "");
    if (text[0] == '+' && !host_has(h, f))
        return fail(err, err_size, text, len, "this host does not have it", "");
    set_feature(m, f->id, text[0] == '+');
    set_feature(asked, f->id, text[0] == '+');
    return 0;
}

/* "vendor=intel", "vendor=amd". */
static int choose_vendor(struct cpu_model *m, const char *text, size_t len, char *err,
                         size_t err_size) {
    for (unsigned v = 0; v < COUNT(vendors); v++)
        if (strlen(vendors[v].option) == len && !memcmp(vendors[v].option, text, len)) {
            m->vendor = (uint8_t)v;
            m->vendor_named = true;
            return 0;
        }
    return fail(err, err_size, text, len, "expected vendor=intel or vendor=amd", "");
}

/* "phys-bits=40": what the guest is told, and what is reserved in its tables then. */
static int choose_bits(struct cpu_model *m, const char *text, size_t len, char *err,
                       size_t err_size) {
    char *end;
    unsigned long bits = strtoul(text + sizeof(BITS_OPTION) - 1, &end, 10);
    if (end != text + len || bits < PHYS_BITS_MIN || bits > PHYS_BITS)
        return fail(err, err_size, text, len, "expected phys-bits=N, N from 36 to 46",
                    "");
    m->phys_named = (uint8_t)bits;
    return 0;
}

/* CPUID that comes with a vendor. */
static void set_vendor(struct cpu_model *m, enum cpu_vendor vendor) {
    const uint32_t alt_mov_cr8 = 1u << 4, no_fcs_fds = 1u << 13;
    m->vendor = (uint8_t)vendor;
    m->signature = vendors[vendor].signature;
    m->word[CPU_W_X1_ECX] &= ~alt_mov_cr8;
    if (cpu_model_follows(m, RULE_lock_cr8))
        m->word[CPU_W_X1_ECX] |= alt_mov_cr8;
    m->word[CPU_W_7_EBX] &= ~no_fcs_fds;
    if (cpu_model_follows(m, RULE_no_fcs_fds))
        m->word[CPU_W_7_EBX] |= no_fcs_fds;
    if (!cpu_model_follows(m, RULE_ibt))
        set_feature(m, CPU_F_ibt, false);
    if (!cpu_model_follows(m, RULE_token_block))
        set_feature(m, CPU_F_cet_sss, false);
    if (!cpu_model_follows(m, RULE_svm)) {
        set_feature(m, CPU_F_svm, false);
        drop_unsupported(m);
    }
    if (!cpu_model_follows(m, RULE_vmx))
        set_feature(m, CPU_F_vmx, false);
}

static int fill_base(struct cpu_model *m, const struct host *h, const char *name,
                     size_t len, char *err, size_t err_size) {
    if (len == 0 || (len == 7 && !memcmp(name, "default", 7))) {
        for (int l = V3; l > V1; l--)
            if (!fill_level(m, h, l))
                return 0;
        fill_level(m, h, V1);
        return 0;
    }
    int level = find_level(name, len);
    if (level < 0)
        return fail(err, err_size, name, len,
                    "no such model; there are x86-64-v1, x86-64-v2, x86-64-v3, max", "");
    const char *lacks = fill_level(m, h, level);
    if (lacks)
        return fail(err, err_size, name, len, "this host has no ", lacks);
    return 0;
}

int cpu_model_parse(const char *text, struct cpu_model **out, char *err,
                    size_t err_size) {
    struct host host;
    struct cpu_model asked = {0};
    struct cpu_model *m = calloc(1, sizeof(*m));
    if (!m) {
        snprintf(err, err_size, "--cpu: out of memory");
        return -ENOMEM;
    }
    host_probe(&host);
    size_t len = strcspn(text, ",");
    int rc = fill_base(m, &host, text, len, err, err_size);
    for (text += len; rc == 0 && *text == ','; text += len) {
        text++;
        len = strcspn(text, ",");
        if (!strncmp(text, "vendor", 6))
            rc = choose_vendor(m, text, len, err, err_size);
        else if (!strncmp(text, BITS_OPTION, sizeof(BITS_OPTION) - 1))
            rc = choose_bits(m, text, len, err, err_size);
        else
            rc = toggle(m, &asked, &host, text, len, err, err_size);
    }
    if (rc == 0)
        drop_unsupported(m);
    for (size_t i = 0; rc == 0 && i < COUNT(feature_needs); i++) {
        unsigned f = feature_needs[i].feature;
        if (cpu_model_has(&asked, f) && !cpu_model_has(m, f) &&
            !cpu_model_has(m, feature_needs[i].needs)) {
            const char *name = feature_name(f);
            rc = fail(err, err_size, name, strlen(name), "needs ",
                      feature_name(feature_needs[i].needs));
        }
    }
    if (rc == 0 && cpu_model_has(m, CPU_F_svm) && !cpu_model_follows(m, RULE_svm))
        rc = fail(err, err_size, "svm", 3, "needs vendor=amd", "");
    if (rc == 0 && cpu_model_has(m, CPU_F_vmx) && !cpu_model_follows(m, RULE_vmx))
        rc = fail(err, err_size, "vmx", 3, "needs vendor=intel", "");
    if (rc) {
        free(m);
        return rc;
    }
    set_vendor(m, m->vendor);
    derive(m, &host);
    *out = m;
    return 0;
}

void cpu_model_free(struct cpu_model *model) {
    free(model);
}

void cpu_model_set_pv(struct cpu_model *model, uint32_t cpuid) {
    model->pv = cpuid;
}

/* The vendor of that leaf 0; a third one's processors follow Intel's rules. */
static enum cpu_vendor vendor_of(const uint32_t leaf[4]) {
    return memcmp(&leaf[1], vendors[CPU_AMD].name, 4) ? CPU_INTEL : CPU_AMD;
}

void cpu_model_take_host_vendor(struct cpu_model *model) {
    uint32_t leaf[4];
    __cpuid(0, leaf[0], leaf[1], leaf[2], leaf[3]);
    set_vendor(model, vendor_of(leaf));
}

void cpu_model_follow(struct cpu_model *model, cpu_leaf_fn fn, void *opaque) {
    struct host host;
    uint32_t leaf[4];
    fn(opaque, 0, 0, leaf);
    set_vendor(model, vendor_of(leaf));
    fn(opaque, 1, 0, leaf);
    model->signature = leaf[0];
    for (unsigned w = 0; w < CPU_WORDS; w++) {
        fn(opaque, word_place[w].leaf, word_place[w].subleaf, leaf);
        model->word[w] &= leaf[word_place[w].reg];
    }
    drop_unsupported(model);
    host_probe(&host);
    derive(model, &host);
    fn(opaque, 0x80000008u, 0, leaf);
    if ((leaf[0] & 0xff) < model->phys_bits)
        model->phys_bits = leaf[0] & 0xff;
}

bool cpu_model_names_vendor(const struct cpu_model *model) {
    return model->vendor_named;
}

unsigned cpu_model_named_bits(const struct cpu_model *model) {
    return model->phys_named;
}

const char *cpu_model_hypervisor(const struct cpu_model *model) {
    return cpu_model_has(model, CPU_F_svm)   ? "svm"
           : cpu_model_has(model, CPU_F_vmx) ? "vmx"
                                             : NULL;
}

const char *cpu_model_name(const struct cpu_model *model) {
    return model->name;
}

void cpu_model_print(FILE *out) {
    struct host host;
    struct cpu_model m;
    host_probe(&host);
    fprintf(out, "CPU models:\n");
    for (int l = 0; l < LEVELS; l++) {
        const char *lacks = fill_level(&m, &host, l);
        fprintf(out, "  %-10s %s%s\n", level_name[l],
                lacks ? "not on this host, which has no " : "available",
                lacks ? lacks : "");
    }
    for (size_t i = LEVELS; i < COUNT(level_name); i++)
        fprintf(out, "  %-10s means %s\n", level_name[i], level_name[level_meant[i]]);
    fprintf(out,
            "Features, as +name or -name after the model (* the host has it not):\n");
    unsigned column = 0;
    for (size_t i = 0; i < COUNT(features); i++) {
        unsigned width = (unsigned)strlen(features[i].name) + 2;
        if (column + width > 78)
            fputc('\n', out), column = 0;
        fprintf(out, " %s%s", features[i].name, host_has(&host, &features[i]) ? "" : "*");
        column += width;
    }
    fprintf(out,
            "\nvendor=intel or vendor=amd: whose rules hold where they differ, and the"
            " CPUID that\ngoes with them (default intel)\nphys-bits=N: bits of physical "
            "addresses, from 36 to 46, which is the default; OVMF wants 40 at most\n");
}

/* ---- The leaves ---- */

#define MAX_EXTENDED 0x80000008u
#define LEAF_SVM     0x8000000au
#define ASIDS        0x8000u
#define HYPERVISOR   0x40000000u

uint32_t cpu_xsave_offset(const struct cpu_model *m, unsigned nr, uint64_t mask,
                          bool compact) {
    uint32_t below = XSAVE_EXTENDED;
    for (unsigned i = 0; i < XSAVE_PARTS; i++) {
        const struct xsave_part *p = &xsave_parts[i];
        if (p->nr == nr && !compact)
            return p->at;
        if (p->nr < nr && (compact ? mask : m->xcr0_valid | XSTATE_AVX) >> p->nr & 1)
            below += p->size;
    }
    if (nr > XSTATE_PKRU_NR && mask & XSTATE_PKRU)
        below += XSAVE_PKRU_SIZE;
    if (nr > XSTATE_CET_U_NR && mask & XSTATE_CET_U)
        below += XSAVE_CET_U_SIZE;
    return below;
}

uint32_t cpu_xsave_size(const struct cpu_model *m, uint64_t mask, bool compact) {
    uint32_t size = XSAVE_EXTENDED;
    for (unsigned i = 0; i < XSAVE_PARTS; i++) {
        const struct xsave_part *p = &xsave_parts[i];
        if (mask >> p->nr & 1)
            size = (compact ? size : p->at) + p->size;
    }
    if (mask & XSTATE_PKRU)
        size = cpu_xsave_offset(m, XSTATE_PKRU_NR, mask, compact) + XSAVE_PKRU_SIZE;
    if (compact && mask & XSTATE_CET_U)
        size += XSAVE_CET_U_SIZE;
    if (compact && mask & XSTATE_CET_S)
        size += XSAVE_CET_S_SIZE;
    return size;
}

static uint32_t max_extended(const struct cpu_model *m) {
    return cpu_model_has(m, CPU_F_svm) ? LEAF_SVM : MAX_EXTENDED;
}

static void text_regs(const char *text, size_t at, uint32_t out[4]) {
    char buf[16] = {0};
    size_t len = strlen(text);
    for (size_t i = 0; i < 16 && at + i < len; i++)
        buf[i] = text[at + i];
    memcpy(out, buf, 16);
}

/* The vendor's name as leaf 0 gives it: EBX, EDX, ECX. */
static void vendor_regs(const struct cpu_model *m, uint32_t out[4]) {
    const char *name = vendors[m->vendor].name;
    memcpy(&out[1], name, 4);
    memcpy(&out[3], name + 4, 4);
    memcpy(&out[2], name + 8, 4);
}

/* Deterministic cache parameters: type, level, ways, sets; 64-byte lines. */
static void leaf_cache(uint32_t subleaf, uint32_t out[4]) {
    static const struct {
        uint8_t type, level;
        uint16_t ways, sets;
    } caches[] = {{1, 1, 8, 64}, {2, 1, 8, 64}, {3, 2, 16, 1024}, {3, 3, 16, 16384}};
    if (subleaf >= COUNT(caches))
        return;
    out[0] = caches[subleaf].type | (uint32_t)caches[subleaf].level << 5 | 1u << 8;
    out[1] = 63u | (uint32_t)(caches[subleaf].ways - 1) << 22;
    out[2] = caches[subleaf].sets - 1u;
}

static void leaf_xsave(const struct cpu_model *m, uint32_t subleaf, uint32_t out[4]) {
    if (!cpu_model_has(m, CPU_F_xsave))
        return;
    for (unsigned i = 0; i < XSAVE_PARTS; i++)
        if (xsave_parts[i].nr == subleaf && m->xcr0_valid >> subleaf & 1)
            out[0] = xsave_parts[i].size, out[1] = xsave_parts[i].at;
    switch (subleaf) {
    case 0:
        out[0] = (uint32_t)m->xcr0_valid;
        out[1] = out[2] = cpu_xsave_size(m, m->xcr0_valid, false);
        break;
    case 1:
        out[0] = m->word[CPU_W_D1_EAX];
        out[1] = out[0] & 0xa ? cpu_xsave_size(m, m->xcr0_valid, true) : 0;
        out[2] = (uint32_t)m->xss_valid;
        break;
    case XSTATE_CET_U_NR:
    case XSTATE_CET_S_NR:
        if (m->xss_valid >> subleaf & 1) {
            out[0] = subleaf == XSTATE_CET_U_NR ? XSAVE_CET_U_SIZE : XSAVE_CET_S_SIZE;
            out[2] = 1; /* a supervisor component */
        }
        break;
    case XSTATE_PKRU_NR:
        if (m->xcr0_valid & XSTATE_PKRU)
            out[0] = XSAVE_PKRU_SIZE,
            out[1] = cpu_xsave_offset(m, XSTATE_PKRU_NR, 0, false);
        break;
    }
}

static void leaf_extended(const struct cpu_model *m, uint32_t leaf, uint32_t out[4]) {
    char brand[48];
    switch (leaf) {
    case 0x80000000u:
        if (m->vendor == CPU_AMD)
            vendor_regs(m, out);
        out[0] = max_extended(m);
        break;
    case 0x80000001u:
        out[2] = m->word[CPU_W_X1_ECX], out[3] = m->word[CPU_W_X1_EDX];
        break;
    case 0x80000002u:
    case 0x80000003u:
    case 0x80000004u:
        snprintf(brand, sizeof(brand), "penumbra %s", m->name);
        text_regs(brand, (leaf - 0x80000002u) * 16, out);
        break;
    case 0x80000006u:
        out[2] = 1024u << 16 | 8u << 12 | 64u; /* L2: 1 MiB, 16 ways, 64-byte lines */
        break;
    case LEAF_SVM:
        if (cpu_model_has(m, CPU_F_svm))
            out[0] = 1, out[1] = ASIDS, out[3] = m->word[CPU_W_XA_EDX];
        break;
    case 0x80000007u:
        out[3] = m->word[CPU_W_X7_EDX];
        break;
    case 0x80000008u:
        out[0] = m->phys_bits | (cpu_model_has(m, CPU_F_la57) ? 57u : 48u) << 8;
        out[1] = cpu_model_follows(m, RULE_pointers_at_fault) ? 1u << 2 : 0;
        break;
    }
}

static void leaf_basic(const struct cpu_model *m, uint32_t leaf, uint32_t subleaf,
                       uint32_t out[4]) {
    switch (leaf) {
    case 0:
        vendor_regs(m, out);
        out[0] = vendors[m->vendor].max_basic;
        break;
    case 1:
        out[0] = m->signature;
        out[1] = 1u << 16 | (64u / 8) << 8; /* one logical CPU per package; CLFLUSH */
        out[2] = m->word[CPU_W_1_ECX], out[3] = m->word[CPU_W_1_EDX];
        break;
    case 2:
        if (m->vendor == CPU_INTEL)
            out[0] = 0x00feff01u; /* caches are in leaf 4, TLBs nowhere */
        break;
    case 4:
        if (m->vendor == CPU_INTEL)
            leaf_cache(subleaf, out);
        break;
    case 6:
        out[0] = m->word[CPU_W_6_EAX];
        break;
    case 7:
        if (subleaf == 0)
            out[0] =
                (m->word[CPU_W_7_1_EAX] | m->word[CPU_W_7_1_EDX]) != 0, /* the last */
                out[1] = m->word[CPU_W_7_EBX], out[2] = m->word[CPU_W_7_ECX],
            out[3] = m->word[CPU_W_7_EDX];
        else if (subleaf == 1)
            out[0] = m->word[CPU_W_7_1_EAX], out[3] = m->word[CPU_W_7_1_EDX];
        break;
    case 0xb:
        /* Level 0: threads of a core (one); level 1: cores of a package. */
        out[2] = (subleaf & 0xff) | (subleaf < 2 ? (subleaf + 1) << 8 : 0);
        if (subleaf < 2)
            out[0] = subleaf ? 8 : 0, out[1] = 1;
        break;
    case 0xd:
        leaf_xsave(m, subleaf, out);
        break;
    case 0x15: /* TSC = crystal * 1 / 1; the crystal, which clocks the APIC, is 1 GHz */
        out[0] = out[1] = 1, out[2] = 1000000000u;
        break;
    case 0x16:
        out[0] = out[1] = 1000, out[2] = 100;
        break;
    }
}

/* With paravirtual features the hypervisor calls itself KVM, whose interface they are. */
static void leaf_hypervisor(const struct cpu_model *m, uint32_t leaf, uint32_t out[4]) {
    if (!cpu_model_has(m, CPU_F_hypervisor))
        return;
    if (leaf == HYPERVISOR) {
        out[0] = m->pv ? HYPERVISOR + 1 : HYPERVISOR;
        memcpy(&out[1], m->pv ? "KVMKVMKVM\0\0\0" : "penumbra\0\0\0\0", 12);
    } else if (leaf == HYPERVISOR + 1) {
        out[0] = m->pv;
    }
}

void cpu_model_leaf(const struct cpu_model *model, uint32_t leaf, uint32_t subleaf,
                    uint32_t out[4]) {
    memset(out, 0, 4 * sizeof(out[0]));
    if (leaf >= HYPERVISOR && leaf < HYPERVISOR + 0x10000u) {
        leaf_hypervisor(model, leaf, out);
    } else if (leaf >= 0x80000000u && leaf <= max_extended(model)) {
        leaf_extended(model, leaf, out);
    } else {
        /* Beyond the last leaf, Intel's answer with the last basic one, AMD's with 0. */
        uint32_t last = vendors[model->vendor].max_basic;
        if (leaf > last && model->vendor == CPU_INTEL)
            leaf = last;
        if (leaf <= last)
            leaf_basic(model, leaf, subleaf, out);
    }
}
