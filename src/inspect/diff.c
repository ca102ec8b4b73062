/* SPDX-License-Identifier: MIT */
/*
 * What differs between two dumps. Ranges are compared page by page, so that one that was
 * merged otherwise is no difference: both lists are swept from bound to bound.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/dump_internal.h"

/* {section, a, b}, whose objects are new references or NULL. */
static void add(json_t *diff, const char *section, json_t *a, json_t *b) {
    json_array_append_new(diff, json_pack("{s:s, s:o, s:o}", "section", section, "a",
                                          a ? a : json_null(), "b", b ? b : json_null()));
}

/* ---- Ranges ---- */

struct cursor {
    const json_t *list;
    size_t i;
    const json_t *o; /* NULL: behind the last */
    uint64_t from, to;
};

static void advance(struct cursor *c) {
    c->o = json_array_get(c->list, c->i++);
    if (c->o &&
        (!dump_number(c->o, "from", &c->from) || !dump_number(c->o, "to", &c->to)))
        c->o = NULL;
}

/* "slot0+0x1000" without its number, which is *offset. Return: the length of the name. */
static size_t split_host(const json_t *o, const char **name, uint64_t *offset) {
    *name = json_string_value(json_object_get(o, "host"));
    const char *plus = *name ? strrchr(*name, '+') : NULL;
    *offset = plus ? strtoull(plus + 1, NULL, 16) : 0;
    return plus ? (size_t)(plus - *name) : 0;
}

/* Do both map `at` alike? */
static bool alike(const struct cursor *a, const struct cursor *b, uint64_t at) {
    uint64_t x = 0, y = 0, p, q;
    const char *m, *n;
    dump_number(a->o, "gpa", &x);
    dump_number(b->o, "gpa", &y);
    size_t k = split_host(a->o, &m, &p), l = split_host(b->o, &n, &q);
    if (x + (at - a->from) != y + (at - b->from) || k != l || (k && memcmp(m, n, k)) ||
        (k && p + (at - a->from) != q + (at - b->from)))
        return false;
    static const char *const same[] = {"page", "access", "pkey"};
    for (unsigned i = 0; i < 3; i++)
        if (!json_equal(json_object_get(a->o, same[i]), json_object_get(b->o, same[i])))
            return false;
    return true;
}

/* The part [from, to] of a range. */
static json_t *part(const struct cursor *c, uint64_t from, uint64_t to) {
    uint64_t gpa = 0, offset;
    const char *host;
    json_t *o = json_copy((json_t *)(uintptr_t)c->o);
    dump_number(c->o, "gpa", &gpa);
    int k = (int)split_host(c->o, &host, &offset);
    json_object_set_new(o, "from", json_sprintf("0x%" PRIx64, from));
    json_object_set_new(o, "to", json_sprintf("0x%" PRIx64, to));
    json_object_set_new(o, "gpa", json_sprintf("0x%" PRIx64, gpa + (from - c->from)));
    if (k)
        json_object_set_new(
            o, "host",
            json_sprintf("%.*s+0x%" PRIx64, k, host, offset + (from - c->from)));
    return o;
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static void diff_ranges(json_t *diff, const char *section, const json_t *la,
                        const json_t *lb) {
    struct cursor a = {.list = la}, b = {.list = lb};
    uint64_t at = 0;
    advance(&a);
    advance(&b);
    while (a.o || b.o) {
        bool in_a = a.o && a.from <= at, in_b = b.o && b.from <= at;
        uint64_t to = UINT64_MAX;
        if (a.o)
            to = least(to, in_a ? a.to : a.from - 1);
        if (b.o)
            to = least(to, in_b ? b.to : b.from - 1);
        if ((in_a || in_b) && !(in_a && in_b && alike(&a, &b, at)))
            add(diff, section, in_a ? part(&a, at, to) : NULL,
                in_b ? part(&b, at, to) : NULL);
        if (in_a && a.to == to)
            advance(&a);
        if (in_b && b.to == to)
            advance(&b);
        if (to == UINT64_MAX)
            return;
        at = to + 1;
    }
}

/* ---- Objects ---- */

/* Some members, by name. Return: a new reference. */
static json_t *pick(const json_t *o, const char *names) {
    json_t *list = json_array();
    char name[32];
    for (int n; sscanf(names, " %31s%n", name, &n) == 1; names += n)
        json_array_append(list, json_object_get(o, name));
    return list;
}

/* The objects by the text of their keys. */
static json_t *index_of(const struct dump_section *s, const json_t *list) {
    json_t *map = json_object(), *o;
    size_t i;
    json_array_foreach(list, i, o) {
        json_t *keys = pick(o, s->keys);
        char *text = json_dumps(keys, JSON_COMPACT);
        if (text)
            json_object_set(map, text, o);
        free(text);
        json_decref(keys);
    }
    return map;
}

static bool differs(const struct dump_section *s, const json_t *a, const json_t *b) {
    json_t *x = pick(a, s->compared), *y = pick(b, s->compared);
    bool not = !json_equal(x, y);
    json_decref(x);
    json_decref(y);
    return not ;
}

static void diff_objects(json_t *diff, const struct dump_section *s, const json_t *la,
                         const json_t *lb) {
    json_t *a = index_of(s, la), *b = index_of(s, lb), *x, *y;
    const char *key;
    json_object_foreach(a, key, x) {
        y = json_object_get(b, key);
        if (!y || differs(s, x, y))
            add(diff, s->name, json_incref(x), y ? json_incref(y) : NULL);
    }
    json_object_foreach(b, key, y) {
        if (!json_object_get(a, key))
            add(diff, s->name, NULL, json_incref(y));
    }
    json_decref(a);
    json_decref(b);
}

/* ---- All ---- */

static json_t *root_of(const json_t *dump) {
    return json_pack("{s:O, s:O, s:O}", "mmu", json_object_get(dump, "mmu"), "mode",
                     json_object_get(dump, "mode"), "cr3", json_object_get(dump, "cr3"));
}

json_t *dump_diff(const json_t *a, const json_t *b) {
    json_t *diff = json_array(), *ra = root_of(a), *rb = root_of(b);
    if (diff && !json_equal(ra, rb))
        add(diff, "root", json_incref(ra), json_incref(rb));
    json_decref(ra);
    json_decref(rb);
    for (const struct dump_section *s = dump_sections; diff && s->name; s++) {
        const json_t *x = json_object_get(a, s->name), *y = json_object_get(b, s->name);
        if (!x || !y)
            continue; /* MMUs of two kinds */
        if (s->ranges)
            diff_ranges(diff, s->name, x, y);
        else
            diff_objects(diff, s, x, y);
    }
    return diff;
}

void dump_diff_print(const json_t *diff, FILE *out) {
    const json_t *d;
    size_t i;
    json_array_foreach(diff, i, d) {
        const char *section = json_string_value(json_object_get(d, "section"));
        static const char *const side[] = {"a", "b"};
        for (unsigned k = 0; section && k < 2; k++) {
            const json_t *o = json_object_get(d, side[k]);
            if (!json_is_object(o))
                continue;
            fputs(k ? "+ " : "- ", out);
            dump_print_object(section, o, out);
        }
    }
}
