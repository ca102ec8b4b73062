/* SPDX-License-Identifier: MIT */
/* The members of a result as a table: found by path, checked by kind. */
#include <string.h>

#include "bench/harness/rank.h"
#include "bench/harness/result_internal.h"

const struct result_field result_fields[] = {
#define KEY(path, kind, value) {path, RESULT_##kind, true, false, "", "", ""},
#define FIELD(path, kind, value, table, page, doc)                                       \
    {path, RESULT_##kind, false, false, table, page, doc},
#define MODELLED(path, kind, value, table, page, doc)                                    \
    {path, RESULT_##kind, false, true, table, page, doc},
#include "bench/harness/result_fields.inc"
    {NULL, RESULT_ANY, false, false, NULL, NULL, NULL},
};

json_t *result_group(const json_t *result, const char *path, const char **name) {
    json_t *group = (json_t *)result;
    const char *dot;
    char part[32];
    for (; (dot = strchr(path, '.')); path = dot + 1) {
        snprintf(part, sizeof(part), "%.*s", (int)(dot - path), path);
        group = json_is_object(group) ? json_object_get(group, part) : group;
    }
    *name = path;
    return group;
}

json_t *result_member(const json_t *result, const char *path) {
    const char *name;
    json_t *group = result_group(result, path, &name);
    return json_object_get(group, name);
}

const char *result_text(const json_t *result, const char *path) {
    return json_string_value(result_member(result, path));
}

/* ---- Checks ---- */

static bool number_or_null(const json_t *v) {
    return json_is_number(v) || json_is_null(v);
}

static bool good_samples(const json_t *all) {
    size_t n = json_array_size(all);
    for (size_t i = 0; i < n; i++)
        if (json_integer_value(json_array_get(all, i)) <= 0)
            return false;
    return n && n <= RANK_MAX;
}

static bool good_array(const json_t *all, size_t least, size_t most) {
    size_t n = json_array_size(all);
    for (size_t i = 0; i < n; i++)
        if (!number_or_null(json_array_get(all, i)))
            return false;
    return n >= least && n <= most;
}

static bool all_numbers(const json_t *object) {
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)object, name, v) if (!json_is_number(v)) return false;
    return json_is_object(object);
}

static bool good(enum result_kind kind, const json_t *v) {
    switch (kind) {
    case RESULT_TEXT:
        return json_is_string(v);
    case RESULT_TEXT_OR_NULL:
        return json_is_string(v) || json_is_null(v);
    case RESULT_FLAG_OR_NULL:
        return json_is_boolean(v) || json_is_null(v);
    case RESULT_ANY:
        return v != NULL;
    case RESULT_NUMBER:
        return json_is_number(v);
    case RESULT_COUNT:
    case RESULT_BYTES:
        return number_or_null(v);
    case RESULT_SAMPLES:
        return good_samples(v);
    case RESULT_LEVELS:
        return good_array(v, 4, 5);
    case RESULT_HISTOGRAM:
        return good_array(v, PN_WALK_HIST, PN_WALK_HIST);
    case RESULT_GROUP:
        return json_is_object(v);
    case RESULT_GROUP_OR_NULL:
        return json_is_object(v) || json_is_null(v);
    case RESULT_SUM:
        return all_numbers(v);
    }
    return false;
}

const char *result_check(const json_t *r) {
    bool failed = json_is_string(json_object_get(r, "error"));
    for (const struct result_field *f = result_fields; f->path; f++) {
        const char *name;
        const json_t *group = result_group(r, f->path, &name);
        if ((f->key || !failed) && !json_is_null(group) &&
            !good(f->kind, json_object_get(group, name)))
            return f->path;
    }
    return NULL;
}
