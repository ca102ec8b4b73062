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
};

#define OPTION(field, value, min, max, only, doc)                                        \
    { #field, offsetof(struct pn_mmu_options, field), value, min, max, only, doc }

static const struct option options[] = {
    OPTION(unsync, 1, 0, 1, "shadow", "leaf tables may go out of sync with the guest's"),
    OPTION(flood_threshold, 3, 0, 1000000, "shadow",
           "tracked writes to one shadow page before it is zapped; 0: never"),
    OPTION(prefetch, 8, 0, 512, "shadow",
           "neighbour sptes tried around a fixed fault; 0: off, at INVLPG too"),
    OPTION(large_pages, 1, 0, 1, NULL,
           "2 MiB and 1 GiB mappings where the slot allows them"),
    OPTION(page_budget, 0, 64, 1u << 24, NULL,
           "shadow pages or tables held; 0: 2% of memory's pages, tdp: 65536"),
    OPTION(cached_roots, 15, 0, 15, NULL, "previous roots kept per vCPU"),
    OPTION(audit, 0, 0, 1, NULL, "check every invariant after every call (slow)"),
    OPTION(tdp_levels, 4, 4, 5, "tdp", "levels of the second-level tables"),
    OPTION(eager_split, 1, 0, 1, "tdp", "split large mappings when dirty logging begins"),
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

static bool in_range(const struct option *o, unsigned long long value) {
    return value == o->value || (value >= o->min && value <= o->max);
}

int pn_mmu_option_set(struct pn_mmu_options *opt, const char *text) {
    size_t len = strcspn(text, "=");
    const struct option *o = find(text, len);
    if (!o)
        return -ENOENT;
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

const char *pn_mmu_option_allowed(const char *text, char *buf, size_t size) {
    const struct option *o = find(text, strcspn(text, "="));
    buf[0] = 0;
    if (o)
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

void pn_mmu_options_print(FILE *out) {
    for (size_t i = 0; i < OPTIONS; i++) {
        const struct option *o = &options[i];
        fprintf(out, "  %-16s default %-6u range %u..%-9u %s%s%s\n", o->name, o->value,
                o->min, o->max, o->only ? o->only : "", o->only ? ": " : "", o->doc);
    }
}

int mmu_options_check(const struct pn_mmu_options *opt) {
    uint32_t value;
    for (unsigned i = 0; pn_mmu_option_at(i, opt, &value); i++)
        if (!in_range(&options[i], value))
            return -EINVAL;
    return 0;
}
