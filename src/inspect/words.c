/* SPDX-License-Identifier: MIT */
/* Entries of tables, and what they come to, in words. */
#include <inttypes.h>
#include <string.h>

#include "inspect/explain.h"
#include "mmu/shadow/spte.h"
#include "mmu/tdp/ept.h"
#include "trace/trace.h"

struct bit {
    uint64_t bit;
    const char *word;
};

/* SDM volume 3, "Paging": the figures of the entry formats. */
static const struct bit gpte_bits[] = {
    {1ull << 1, "write"},  {1ull << 2, "user"},        {1ull << 3, "pwt"},
    {1ull << 4, "pcd"},    {1ull << 5, "accessed"},    {1ull << 6, "dirty"},
    {1ull << 8, "global"}, {1ull << 63, "no-execute"}, {0, NULL}};
static const struct bit spte_bits[] = {{SPTE_X, "exec"},
                                       {SPTE_W, "write"},
                                       {SPTE_U, "user"},
                                       {SPTE_D, "dirty"},
                                       {SPTE_HOST_W, "host-writable"},
                                       {SPTE_MMU_W, "mmu-writable"},
                                       {SPTE_TLB_W, "tlb-write"},
                                       {SPTE_TLB_X, "tlb-fetch"},
                                       {SPTE_TLB, "tlb"},
                                       {0, NULL}};
static const struct bit ept_bits[] = {
    {EPT_R, "read"},     {EPT_W, "write"}, {EPT_X, "exec"}, {EPT_IPAT, "ipat"},
    {EPT_A, "accessed"}, {EPT_D, "dirty"}, {0, NULL}};

static void print_bits(const struct bit *bits, uint64_t v, FILE *out) {
    for (; bits->word; bits++)
        if (v & bits->bit)
            fprintf(out, " %s", bits->word);
}

static bool is_long(const struct pn_explanation *x) {
    return (x->mode & PN_MODE_LEVELS) >= 4;
}

static bool maps_page(const struct pn_explanation *x, const struct pn_step *s) {
    return x->found && s->level == x->level;
}

static void gpte_print(const struct pn_explanation *x, const struct pn_step *s,
                       FILE *out) {
    uint64_t v = s->entry;
    bool page = maps_page(x, s);
    fputs(v & 1 ? "present" : "not present", out);
    if (!(v & 1))
        return;
    print_bits(gpte_bits, v, out);
    if (s->level > 1 && v & 1 << 7)
        fputs(" large", out);
    if (page && is_long(x) && x->pkey)
        fprintf(out, " pkey %u", x->pkey);
}

void spte_print(uint64_t v, FILE *out) {
    if (spte_mmio(v)) {
        fputs("MMIO mark", out);
        return;
    }
    if (!spte_present(v)) {
        fputs("not present", out);
        return;
    }
    fputs(spte_leaf(v) ? "page" : "table", out);
    print_bits(spte_bits, v, out);
    if (spte_pkey(v))
        fprintf(out, " pkey %u", spte_pkey(v));
}

static void ept_print(const struct pn_step *s, FILE *out) {
    uint64_t v = s->entry;
    if ((v & EPT_RWX) == EPT_MMIO) {
        fputs("MMIO mark (misconfigured)", out);
        return;
    }
    if (!ept_present(v)) {
        fputs("not present", out);
        return;
    }
    fputs(ept_leaf(v, s->level) ? "page" : "table", out);
    print_bits(ept_bits, v, out);
}

void entry_print(const struct pn_explanation *x, const struct pn_step *s, FILE *out) {
    switch (s->dimension) {
    case PN_DIM_GUEST:
    case PN_DIM_NESTED:
        gpte_print(x, s, out);
        break;
    case PN_DIM_SHADOW:
        spte_print(s->entry, out);
        break;
    case PN_DIM_SECOND:
        ept_print(s, out);
        break;
    }
}

const char *words_of(unsigned type, uint64_t value, char buf[WORDS_MAX]) {
    FILE *f = fmemopen(buf, WORDS_MAX, "w");
    *buf = 0;
    if (f) {
        trace_print_value(type, value, f);
        fclose(f);
    }
    buf[WORDS_MAX - 1] = 0;
    return buf;
}

const char *mode_words(unsigned mode) {
    static const char *const words[] = {[PN_TLB_USER] = "CPL 3",
                                        [PN_TLB_SUPER] = "CPL 0-2",
                                        [PN_TLB_SUPER_AC] = "CPL 0-2, AC"};
    return words[mode];
}

const char *access_words(unsigned access) {
    static const char *const words[] = {[PN_READ] = "read",
                                        [PN_WRITE] = "write",
                                        [PN_FETCH] = "fetch",
                                        [PN_SS_READ] = "shadow-stack read",
                                        [PN_SS_WRITE] = "shadow-stack write"};
    return words[access];
}

const char *page_words(unsigned level, bool pse) {
    static const char *const words[] = {"", "4 KiB", "2 MiB", "1 GiB"};
    return pse && level == 2 ? "4 MiB" : level < 4 ? words[level] : "";
}

const char *outcome_words(enum pn_outcome outcome) {
    static const char *const names[] = {
        "no_fault",
#define PN_OUTCOME(name, answer, counter, sum, doc) #name,
#include "penumbra/outcomes.inc"
    };
    return outcome < PN_OUT_COUNT ? names[outcome] : "";
}

const char *outcome_means(enum pn_outcome outcome) {
    static const char *const docs[] = {
        "the tables in use answer it",
#define PN_OUTCOME(name, answer, counter, sum, doc) doc,
#include "penumbra/outcomes.inc"
    };
    return outcome < PN_OUT_COUNT ? docs[outcome] : "";
}
