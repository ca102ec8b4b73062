/* SPDX-License-Identifier: MIT */
/*
 * Profiles read from JSON. A file is somebody else's input: every member is checked, and
 * the first that is wrong is named with what is allowed.
 *
 * Invariant: a profile that is returned with 0 passes pn_tlb_array_problem and has every
 * price.
 */
#include "bench/harness/profile.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

#define FILE_MAX  (1u << 20) /* bytes of a profile */
#define PRICE_MAX 1e9
#define HZ_MIN    1e6
#define HZ_MAX    1e11

/* ---- Those that are shipped ---- */

#define SHIPPED(symbol, ...)                                                             \
    extern const char profile_##symbol[], profile_##symbol##_end[];
#include "bench/harness/profiles.inc"

static const struct shipped {
    const char *name, *schema, *begin, *end;
} shipped[] = {
#define SHIPPED(symbol, name, schema, file)                                              \
    {name, schema, profile_##symbol, profile_##symbol##_end},
#include "bench/harness/profiles.inc"
};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool is_path(const char *which) {
    size_t n = strlen(which);
    return strchr(which, '/') || (n > 5 && !strcmp(which + n - 5, ".json"));
}

static int names(const char *which, const char *schema, struct err *e) {
    char list[256] = "";
    struct stat st;
    for (size_t i = 0; i < COUNT(shipped); i++)
        if (!strcmp(shipped[i].schema, schema))
            snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s",
                     *list ? ", " : "", shipped[i].name);
    if (!stat(which, &st) && S_ISREG(st.st_mode))
        return err_set(e, -ENOENT, "no profile '%s'; ./%s is a file: write ./%s", which,
                       which, which);
    return err_set(e, -ENOENT, "no profile '%s'; there are %s, or the path of a file",
                   which, list);
}

/* ---- Checking ---- */

/* What is being read, for messages. */
struct in {
    const char *name;
    struct err *e;
};

static int bad(const struct in *in, const char *member, const char *allowed) {
    return err_set(in->e, -EINVAL, "%s: '%s': %s", in->name, member, allowed);
}

/* No member but these (a list that ends with NULL). */
static int only(const struct in *in, json_t *o, const char *where,
                const char *const *allowed) {
    const char *key;
    json_t *v;
    char what[160];
    json_object_foreach(o, key, v) {
        size_t i = 0;
        while (allowed[i] && strcmp(allowed[i], key) != 0)
            i++;
        if (allowed[i])
            continue;
        snprintf(what, sizeof(what), "%s%s%.64s", where, *where ? "." : "", key);
        return bad(in, what, "no such member");
    }
    return 0;
}

/* name, what and source: those that every profile has. */
static int head(const struct in *in, json_t *doc, const char *schema,
                char name[PN_PROFILE_NAME_MAX]) {
    const char *s = json_string_value(json_object_get(doc, "schema"));
    const char *n = json_string_value(json_object_get(doc, "name"));
    json_t *source = json_object_get(doc, "source"), *line;
    size_t i;
    if (!s || strcmp(s, schema) != 0)
        return err_set(in->e, -EINVAL, "%s: 'schema': must be \"%s\"", in->name, schema);
    if (!n || !*n || strlen(n) >= PN_PROFILE_NAME_MAX)
        return bad(in, "name", "a string of 1 to 47 bytes");
    if (!json_is_string(json_object_get(doc, "what")))
        return bad(in, "what", "a string");
    if (!json_array_size(source))
        return bad(in, "source", "an array of at least one string");
    json_array_foreach(source, i, line) if (!json_is_string(line)) return bad(
        in, "source", "an array of at least one string");
    snprintf(name, PN_PROFILE_NAME_MAX, "%s", n);
    return 0;
}

/* ---- Arrays of entries ---- */

static int word(const char *const *words, const char *text) {
    for (int i = 0; text && words[i]; i++)
        if (!strcmp(words[i], text))
            return i;
    return -1;
}

static const char *const replacements[] = {"lru", "plru", "fifo", NULL};
static const char *const page_sizes[] = {"4K", "2M", "1G", NULL};

static int read_pages(const struct in *in, const json_t *pages, const char *where,
                      uint8_t *out) {
    const json_t *v;
    size_t i;
    *out = 0;
    json_array_foreach(pages, i, v) {
        int bit = word(page_sizes, json_string_value(v));
        if (bit < 0 || *out >> bit & 1)
            return bad(in, where, "pages: \"4K\", \"2M\" and \"1G\", each once");
        *out |= (uint8_t)(1u << bit);
    }
    return *out ? 0 : bad(in, where, "pages: \"4K\", \"2M\" and \"1G\", each once");
}

static int read_array(const struct in *in, json_t *o, const char *where, bool pages,
                      struct pn_tlb_array *a) {
    static const char *const allowed[] = {"entries", "ways", "replacement", "pages",
                                          NULL};
    const json_t *entries = json_object_get(o, "entries"), *ways, *replace;
    const char *unbounded = json_string_value(entries);
    if (!json_is_object(o))
        return bad(in, where, "an object with entries and ways");
    int rc = only(in, o, where, allowed);
    if (!rc && !pages && json_object_get(o, "pages"))
        rc = bad(in, where, "pages: only in a TLB");
    if (!rc && pages)
        rc = read_pages(in, json_object_get(o, "pages"), where, &a->pages);
    if (rc)
        return rc;
    json_int_t n = json_integer_value(entries);
    if (unbounded && !strcmp(unbounded, "unbounded")) {
        a->entries = PN_ARRAY_UNBOUNDED;
        return 0;
    }
    if (json_is_real(entries) || json_is_real(json_object_get(o, "ways")))
        return bad(in, where, "entries and ways: whole numbers");
    if (n < 1 || n > 65536)
        return bad(in, where, "entries: from 1 to 65536, or \"unbounded\"");
    ways = json_object_get(o, "ways");
    json_int_t w = ways ? json_integer_value(ways) : n;
    if (w < 1 || w > n)
        return bad(in, where, "ways: from 1 to 64; without it, entries");
    replace = json_object_get(o, "replacement");
    int r = replace ? word(replacements, json_string_value(replace)) : PN_REPLACE_LRU;
    if (r < 0)
        return bad(in, where, "replacement: lru, plru or fifo");
    a->entries = (uint32_t)n;
    a->ways = (uint32_t)w;
    a->replace = (uint8_t)r;
    const char *problem = pn_tlb_array_problem(a);
    return problem ? bad(in, where, problem) : 0;
}

static int read_level(const struct in *in, json_t *doc, const char *member,
                      struct pn_tlb_level *l) {
    json_t *list = json_object_get(doc, member), *o;
    char where[48];
    uint8_t seen = 0;
    size_t i;
    if (!list)
        return 0;
    if (!json_is_array(list) || json_array_size(list) > PN_TLB_ARRAYS)
        return bad(in, member, "an array of at most 3 objects");
    json_array_foreach(list, i, o) {
        snprintf(where, sizeof(where), "%s[%zu]", member, i);
        int rc = read_array(in, o, where, true, &l->array[i]);
        if (rc)
            return rc;
        if (seen & l->array[i].pages)
            return bad(in, where, "pages: that size stands in an array before");
        seen |= l->array[i].pages;
    }
    return 0;
}

static int read_walk(const struct in *in, json_t *doc, const char *member,
                     struct pn_tlb_array a[6]) {
    static const char *const levels[] = {"2", "3", "4", "5", NULL};
    json_t *o = json_object_get(doc, member);
    char where[48];
    if (!o)
        return 0;
    if (!json_is_object(o))
        return bad(in, member, "an object with members \"2\" to \"5\"");
    int rc = only(in, o, member, levels);
    for (unsigned i = 0; i < 4 && !rc; i++) {
        json_t *one = json_object_get(o, levels[i]);
        snprintf(where, sizeof(where), "%s.%s", member, levels[i]);
        if (one)
            rc = read_array(in, one, where, false, &a[i + 2]);
    }
    return rc;
}

static int read_tags(const struct in *in, const json_t *tags, struct pn_tlb_model *m) {
    const json_t *pcid = json_object_get(tags, "pcid"),
                 *vpid = json_object_get(tags, "vpid");
    if (!json_is_boolean(pcid) || !json_is_boolean(vpid))
        return bad(in, "tags", "an object with pcid and vpid, true or false");
    m->pcid = json_is_true(pcid);
    m->vpid = json_is_true(vpid);
    return 0;
}

static int read_tlb(const struct in *in, json_t *doc, struct pn_tlb_model *m) {
    static const char *const allowed[] = {"schema",
                                          "name",
                                          "what",
                                          "source",
                                          "tags",
                                          "l1i",
                                          "l1d",
                                          "l2",
                                          "l2i",
                                          "walk_cache",
                                          "second_walk_cache",
                                          "nested_tlb",
                                          NULL};
    json_t *nested = json_object_get(doc, "nested_tlb");
    int rc = head(in, doc, PROFILE_SCHEMA_TLB, m->name);
    if (!rc)
        rc = only(in, doc, "", allowed);
    if (!rc)
        rc = read_tags(in, json_object_get(doc, "tags"), m);
    if (!rc)
        rc = read_level(in, doc, "l1i", &m->l1i);
    if (!rc)
        rc = read_level(in, doc, "l1d", &m->l1d);
    if (!rc)
        rc = read_level(in, doc, "l2", &m->l2);
    if (!rc)
        rc = read_level(in, doc, "l2i", &m->l2i);
    if (!rc)
        rc = read_walk(in, doc, "walk_cache", m->walk);
    if (!rc)
        rc = read_walk(in, doc, "second_walk_cache", m->second_walk);
    if (!rc && nested)
        rc = read_array(in, nested, "nested_tlb", false, &m->nested);
    return rc;
}

/* ---- Costs ---- */

static int read_price(const struct in *in, json_t *prices, enum pn_cost cost,
                      double *price) {
    static const char *const allowed[] = {"cycles", "source", NULL};
    json_t *o = json_object_get(prices, pn_cost_name(cost));
    const json_t *cycles = json_object_get(o, "cycles");
    char where[64];
    snprintf(where, sizeof(where), "prices.%s", pn_cost_name(cost));
    if (!json_is_object(o))
        return bad(in, where, "an object with cycles and source");
    int rc = only(in, o, where, allowed);
    double v = json_number_value(cycles);
    if (!rc && (!json_is_number(cycles) || !(v >= 0 && v <= PRICE_MAX)))
        rc = bad(in, where, "cycles: from 0 to 1e9");
    if (!rc && !json_is_string(json_object_get(o, "source")))
        rc = bad(in, where, "source: a string");
    *price = v;
    return rc;
}

static int read_cost(const struct in *in, json_t *doc, struct pn_cost_profile *p) {
    static const char *const allowed[] = {"schema", "name",   "what", "source",
                                          "hz",     "prices", NULL};
    const char *costs[PN_COST_COUNT + 1] = {NULL};
    json_t *prices = json_object_get(doc, "prices");
    for (unsigned i = 0; i < PN_COST_COUNT; i++)
        costs[i] = pn_cost_name(i);
    int rc = head(in, doc, PROFILE_SCHEMA_COST, p->name);
    if (!rc)
        rc = only(in, doc, "", allowed);
    p->hz = json_number_value(json_object_get(doc, "hz"));
    if (!rc && !(p->hz >= HZ_MIN && p->hz <= HZ_MAX))
        rc = bad(in, "hz", "from 1e6 to 1e11");
    if (!rc && !json_is_object(prices))
        rc = bad(in, "prices", "an object with every cost");
    if (!rc)
        rc = only(in, prices, "prices", costs);
    for (unsigned i = 0; i < PN_COST_COUNT && !rc; i++)
        rc = read_price(in, prices, i, &p->price[i]);
    return rc;
}

/* ---- The two calls ---- */

static int parse(const struct in *in, const void *data, size_t size, json_t **doc) {
    json_error_t je;
    *doc = json_loadb(data, size, JSON_REJECT_DUPLICATES, &je);
    if (!*doc)
        return err_set(in->e, -EINVAL, "%s: not JSON: line %d: %s", in->name, je.line,
                       je.text);
    if (json_is_object(*doc))
        return 0;
    json_decref(*doc);
    *doc = NULL;
    return err_set(in->e, -EINVAL, "%s: not a JSON object", in->name);
}

static int load(const char *which, const char *schema, const struct in *in,
                json_t **doc) {
    void *data;
    size_t size;
    if (is_path(which)) {
        int rc = file_read(which, FILE_MAX, &data, &size, in->e);
        if (rc)
            return rc;
        rc = parse(in, data, size, doc);
        free(data);
        return rc;
    }
    for (size_t i = 0; i < COUNT(shipped); i++)
        if (!strcmp(shipped[i].name, which) && !strcmp(shipped[i].schema, schema))
            return parse(in, shipped[i].begin,
                         (size_t)(shipped[i].end - shipped[i].begin), doc);
    return names(which, schema, in->e);
}

int profile_tlb(const char *which, struct pn_tlb_model *out, struct err *e) {
    const struct in in = {which, e};
    json_t *doc;
    memset(out, 0, sizeof(*out));
    int rc = load(which, PROFILE_SCHEMA_TLB, &in, &doc);
    if (rc)
        return rc;
    rc = read_tlb(&in, doc, out);
    json_decref(doc);
    return rc;
}

int profile_cost(const char *which, struct pn_cost_profile *out, struct err *e) {
    const struct in in = {which, e};
    json_t *doc;
    memset(out, 0, sizeof(*out));
    int rc = load(which, PROFILE_SCHEMA_COST, &in, &doc);
    if (rc)
        return rc;
    rc = read_cost(&in, doc, out);
    json_decref(doc);
    return rc;
}

void profile_list(FILE *out) {
    for (size_t i = 0; i < COUNT(shipped); i++) {
        const struct shipped *s = &shipped[i];
        json_t *doc = json_loadb(s->begin, (size_t)(s->end - s->begin), 0, NULL);
        fprintf(out, "%-10s %s%s\n", s->name,
                strcmp(s->schema, PROFILE_SCHEMA_COST) ? "" : "(costs) ",
                json_string_value(json_object_get(doc, "what")));
        json_decref(doc);
    }
}
