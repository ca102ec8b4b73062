/* SPDX-License-Identifier: MIT */
/* Profiles as a result keeps them: what was in use, in the form of their files. */
#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#include "bench/harness/profile.h"

static json_t *array_json(const struct pn_tlb_array *a, bool pages) {
    static const char *const replacements[] = {"lru", "plru", "fifo"};
    static const char *const sizes[] = {"4K", "2M", "1G"};
    json_t *o = json_object();
    if (a->entries == PN_ARRAY_UNBOUNDED) {
        json_object_set_new(o, "entries", json_string("unbounded"));
    } else {
        json_object_set_new(o, "entries", json_integer(a->entries));
        json_object_set_new(o, "ways", json_integer(a->ways));
        json_object_set_new(o, "replacement", json_string(replacements[a->replace]));
    }
    json_t *list = pages ? json_array() : NULL;
    for (unsigned i = 0; i < 3 && pages; i++)
        if (a->pages >> i & 1)
            json_array_append_new(list, json_string(sizes[i]));
    if (pages)
        json_object_set_new(o, "pages", list);
    return o;
}

static void put_level(json_t *o, const char *name, const struct pn_tlb_level *l) {
    json_t *list = json_array();
    for (unsigned i = 0; i < PN_TLB_ARRAYS; i++)
        if (l->array[i].entries)
            json_array_append_new(list, array_json(&l->array[i], true));
    json_object_set_new(o, name, list);
}

static void put_walk(json_t *o, const char *name, const struct pn_tlb_array a[6]) {
    json_t *levels = json_object();
    for (unsigned i = 2; i < 6; i++) {
        const char level[] = {(char)('0' + i), 0};
        if (a[i].entries)
            json_object_set_new(levels, level, array_json(&a[i], false));
    }
    json_object_set_new(o, name, levels);
}

/* { name, xxh3 of the content, profile: the content with the head of a profile's file };
 * takes content over. */
static json_t *record(const char *schema, const char *name, json_t *content) {
    char *text = json_dumps(content, JSON_COMPACT | JSON_SORT_KEYS);
    uint64_t hash = text ? XXH3_64bits(text, strlen(text)) : 0;
    free(text);
    json_object_set_new(content, "schema", json_string(schema));
    json_object_set_new(content, "name", json_string(name));
    json_object_set_new(content, "what", json_string("as a result has it"));
    json_object_set_new(content, "source", json_pack("[s]", "a result of penumbra"));
    return json_pack("{s:s, s:o, s:o}", "name", name, "xxh3",
                     json_sprintf("%016" PRIx64, hash), "profile", content);
}

json_t *profile_tlb_json(const struct pn_tlb_model *m) {
    json_t *o = json_pack("{s:{s:b, s:b}}", "tags", "pcid", m->pcid, "vpid", m->vpid);
    put_level(o, "l1i", &m->l1i);
    put_level(o, "l1d", &m->l1d);
    put_level(o, "l2", &m->l2);
    put_level(o, "l2i", &m->l2i);
    put_walk(o, "walk_cache", m->walk);
    put_walk(o, "second_walk_cache", m->second_walk);
    if (m->nested.entries)
        json_object_set_new(o, "nested_tlb", array_json(&m->nested, false));
    return record(PROFILE_SCHEMA_TLB, m->name, o);
}

json_t *profile_cost_json(const struct pn_cost_profile *p) {
    json_t *prices = json_object();
    for (unsigned i = 0; i < PN_COST_COUNT; i++)
        json_object_set_new(prices, pn_cost_name(i),
                            json_pack("{s:f, s:s}", "cycles", p->price[i], "source", ""));
    return record(PROFILE_SCHEMA_COST, p->name,
                  json_pack("{s:f, s:o}", "hz", p->hz, "prices", prices));
}

bool profile_record_good(const json_t *r) {
    return json_is_null(r) || (json_is_string(json_object_get(r, "name")) &&
                               json_is_object(json_object_get(r, "profile")));
}

bool profile_same(const json_t *a, const json_t *b) {
    static const char *const words[] = {"name", "what", "source"};
    json_t *x = json_copy(json_object_get(a, "profile"));
    json_t *y = json_copy(json_object_get(b, "profile"));
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        json_object_del(x, words[i]);
        json_object_del(y, words[i]);
    }
    bool same = x == y || json_equal(x, y);
    json_decref(x);
    json_decref(y);
    return same;
}
