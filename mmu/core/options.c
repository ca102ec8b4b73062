/* SPDX-License-Identifier: MIT */
/*
 * The options of an MMU. One table drives defaults, parsing, range checks and the help
 * text; a new option is one line here and one field in struct pn_mmu_options.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mmu/core/internal.h"

struct option {
    const char *name;
    size_t offset;
    uint32_t value, min, max; /* value: the default, good even outside of min and max */
    const char *only;         /* the kind of MMU that has it; NULL: both */
    const char *doc;
    const char *const *words; /* from 0 to max; NULL: its values are numbers */
};

#define OPTION(field, value, min, max, only, doc)                                        \
    { #field, offsetof(struct pn_mmu_options, field), value, min, max, only, doc, NULL }
#define WORDS(field, value, words, only, doc)                                            \
    {                                                                                    \
#field, offsetof(struct pn_mmu_options, field), value, 0,                        \
            sizeof(words) / sizeof((words)[0]) - 1, only, doc, words                     \
    }

static const char *const policies[] = {
    [PN_POLICY_KVM_6_1] = "kvm-6.1", [PN_POLICY_KVM_6_12] = "kvm-6.12",
    [PN_POLICY_KVM_7_3] = "kvm-7.3", [PN_POLICY_XEN_1] = "xen-1",
    [PN_POLICY_XEN_2] = "xen-2",     [PN_POLICY_XEN_3] = "xen-3",
    [PN_POLICY_FLUSH] = "flush",     [PN_POLICY_AGILE] = "agile"};
static const char *const ad_bits[] = {
    [PN_AD_NONE] = "none", [PN_AD_EPT] = "ept", [PN_AD_NPT] = "npt"};

static const char *const nested[] = {
    [PN_NESTED_WALK] = "walk", [PN_NESTED_SHADOW] = "shadow"};

static const struct option options[] = {
    WORDS(policy, PN_POLICY_KVM_7_3, policies, "shadow",
          "whose rules it follows: KVM's, Xen's, sync at flushes alone, agile paging's"),
    OPTION(
        unsync, 1, 0, 1, "shadow",
        "tables may go out of sync with the guest's: leaf tables, or what policy says"),
    OPTION(flood_threshold, 3, 0, 1000000, "shadow",
           "tracked writes to one shadow page before it is zapped; 0: never (KVM's "
           "policies)"),
    OPTION(
        prefetch, 8, 0, 512, "shadow",
        "neighbour sptes tried around a fixed fault; 0: off, also at INVLPG (kvm-6.1)"),
    OPTION(large_pages, 1, 0, 1, NULL,
           "2 MiB and 1 GiB mappings where the slot allows them"),
    OPTION(page_budget, 0, 64, 1u << 24, NULL,
           "shadow pages or tables held; 0: 2% of memory's pages, tdp: 65536"),
    OPTION(cached_roots, 15, 0, 15, NULL, "previous roots kept per vCPU"),
    OPTION(
        agile_interval, 65536, 0, 1u << 30, "shadow",
        "TLB misses until tables left to the guest are shadowed again (agile); 0: never"),
    OPTION(audit, 0, 0, 1, NULL, "check every invariant after every call (slow)"),
    OPTION(tdp_levels, 4, 4, 5, "tdp", "levels of the second-level tables"),
    OPTION(eager_split, 1, 0, 1, "tdp", "split large mappings when dirty logging begins"),
    WORDS(ad, PN_AD_NONE, ad_bits, "tdp",
          "second-level A and D bits: with them walks dirty the guest's tables"),
    WORDS(nested, PN_NESTED_WALK, nested, "tdp",
          "a guest's hypervisor's own second level: walked, or merged with ours"),
};
#define OPTIONS (sizeof(options) / sizeof(options[0]))

static uint32_t *field(struct pn_mmu_options *opt, const struct option *o) {
    return (uint32_t *)(void *)((char *)opt + o->offset);
}

void pn_mmu_options_default(struct pn_mmu_options *opt) {
    memset(opt, 0, sizeof(*opt));
    for (size_t i = 0; i < OPTIONS; i++)
        *field(opt, &options[i]) = options[i].value;
}

static const struct option *find(const char *name, size_t len) {
    for (size_t i = 0; i < OPTIONS; i++)
        if (strlen(options[i].name) == len && !memcmp(options[i].name, name, len))
            return &options[i];
    return NULL;
}

/* Return: of the word; -EINVAL: the option has none such. */
static int word_value(const struct option *o, const char *word) {
    for (uint32_t i = 0; i <= o->max; i++)
        if (!strcmp(o->words[i], word))
            return (int)i;
    return -EINVAL;
}

static bool in_range(const struct option *o, unsigned long long value) {
    return value == o->value || (value >= o->min && value <= o->max);
}

int pn_mmu_option_set(struct pn_mmu_options *opt, const char *text) {
    size_t len = strcspn(text, "=");
    const struct option *o = find(text, len);
    if (!o)
        return -ENOENT;
    if (text[len] == '=' && o->words) {
        int word = word_value(o, text + len + 1);
        if (word >= 0)
            *field(opt, o) = (uint32_t)word;
        return word < 0 ? word : 0;
    }
    /* strtoull would take blanks and signs. */
    if (text[len] != '=' || !isdigit((unsigned char)text[len + 1]))
        return -EINVAL;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text + len + 1, &end, 0);
    if (*end)
        return -EINVAL;
    if (errno == ERANGE || !in_range(o, value))
        return -ERANGE;
    *field(opt, o) = (uint32_t)value;
    return 0;
}

/* "before a|b" */
static void print_words(const struct option *o, const char *before, char *buf,
                        size_t size) {
    size_t at = (size_t)snprintf(buf, size, "%s", before);
    for (uint32_t i = 0; i <= o->max && at < size; i++)
        at += (size_t)snprintf(buf + at, size - at, "%s%s", i ? "|" : "", o->words[i]);
}

const char *pn_mmu_option_allowed(const char *text, char *buf, size_t size) {
    const struct option *o = find(text, strcspn(text, "="));
    buf[0] = 0;
    if (o && o->words)
        print_words(o, "one of ", buf, size);
    else if (o)
        snprintf(buf, size, "from %u to %u", o->min, o->max);
    return buf;
}

const char *pn_mmu_option_only(const char *text) {
    const struct option *o = find(text, strcspn(text, "="));
    return o ? o->only : NULL;
}

const char *pn_mmu_option_at(unsigned i, const struct pn_mmu_options *opt,
                             uint32_t *value) {
    if (i >= OPTIONS)
        return NULL;
    *value = *(const uint32_t *)(const void *)((const char *)opt + options[i].offset);
    return options[i].name;
}

const char *pn_mmu_option_word(unsigned i, uint32_t value) {
    const struct option *o = i < OPTIONS ? &options[i] : NULL;
    return o && o->words && value <= o->max ? o->words[value] : NULL;
}

void pn_mmu_options_print(FILE *out) {
    for (size_t i = 0; i < OPTIONS; i++) {
        const struct option *o = &options[i];
        const char *only = o->only ? o->only : "", *colon = o->only ? ": " : "";
        char values[96];
        if (o->words) {
            print_words(o, "", values, sizeof(values));
            fprintf(out, "  %-16s default %s, one of %s  %s%s%s\n", o->name,
                    o->words[o->value], values, only, colon, o->doc);
        } else {
            fprintf(out, "  %-16s default %-6u range %u..%-9u %s%s%s\n", o->name,
                    o->value, o->min, o->max, only, colon, o->doc);
        }
    }
}

int mmu_options_check(const struct pn_mmu_options *opt) {
    uint32_t value;
    for (unsigned i = 0; pn_mmu_option_at(i, opt, &value); i++)
        if (!in_range(&options[i], value))
            return -EINVAL;
    return 0;
}
