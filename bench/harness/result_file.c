/* SPDX-License-Identifier: MIT */
/*
 * Result documents: read back and merged.
 *
 * Invariant: what result_load returns has every member that the rest of the program
 * reads, with the type that it expects; a file is somebody else's input.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "bench/harness/profile.h"
#include "bench/harness/rank.h"
#include "bench/harness/result_internal.h"

#define FILE_MAX ((uint64_t)256 << 20)

size_t result_samples(const json_t *result, double *out, size_t max) {
    const json_t *all = json_object_get(json_object_get(result, "time_ns"), "samples");
    size_t n = json_array_size(all);
    if (n > max)
        n = max;
    for (size_t i = 0; i < n; i++)
        out[i] = (double)json_integer_value(json_array_get(all, i));
    return n;
}

static bool good_sweep(json_t *sweep) {
    const char *parameter;
    double value;
    return json_is_null(sweep) ||
           !json_unpack(sweep, "{s:s, s:F}", "parameter", &parameter, "value", &value);
}

/* Return: what is wrong with one result, or NULL. */
static const char *check_result(json_t *r, size_t hosts) {
    const char *bad = result_check(r);
    const json_t *model = json_object_get(r, "modelled");
    if (bad)
        return bad;
    const char *kind = json_string_value(json_object_get(r, "kind"));
    json_int_t host = json_integer_value(json_object_get(r, "host"));
    if (host < 0 || (size_t)host >= hosts)
        return "host";
    if (strcmp(kind, "measured") != 0 && strcmp(kind, "simulated") != 0)
        return "kind";
    if (!good_sweep(json_object_get(r, "sweep")))
        return "sweep";
    if (!good_sweep(json_object_get(r, "mmu_sweep")))
        return "mmu_sweep";
    if (json_is_object(model) && json_number_value(json_object_get(model, "hz")) <= 0)
        return "modelled.hz";
    return NULL;
}

/* Shard i of those that a document has: index is a number, or in a merged document a list
 * of them. Return: 0: it is none. */
static size_t shard_at(const json_t *shard, size_t i) {
    const json_t *index = json_object_get(shard, "index");
    if (json_is_array(index))
        index = json_array_get(index, i);
    json_int_t v = json_integer_value(index);
    return v >= 1 && v <= PLAN_SHARDS_MAX ? (size_t)v : 0;
}

static const json_t *shard_of(const json_t *doc) {
    return json_object_get(json_object_get(doc, "settings"), "shard");
}

size_t result_shards(const json_t *doc, size_t *of) {
    const json_t *shard = shard_of(doc), *index = json_object_get(shard, "index");
    *of = (size_t)json_integer_value(json_object_get(shard, "of"));
    return !shard ? 0 : json_is_array(index) ? json_array_size(index) : 1;
}

static bool shard_is_good(const json_t *doc) {
    size_t of, n = result_shards(doc, &of);
    bool good = n && of >= 1 && of <= PLAN_SHARDS_MAX;
    for (size_t i = 0; good && i < n; i++) {
        size_t index = shard_at(shard_of(doc), i);
        good = index >= 1 && index <= of;
    }
    return good || !shard_of(doc);
}

static int check(json_t *doc, const char *path, struct err *e) {
    const char *schema = NULL, *bad;
    json_t *hosts, *settings, *results, *r;
    size_t i;
    if (json_unpack(doc, "{s:s}", "schema", &schema))
        return err_set(e, -EINVAL, "%s: no benchmark result: it names no schema", path);
    if (strcmp(schema, RESULT_SCHEMA) != 0)
        return err_set(e, -EINVAL, "%s: schema '%s', not " RESULT_SCHEMA, path, schema);
    if (json_unpack(doc, "{s:o, s:o, s:o}", "hosts", &hosts, "settings", &settings,
                    "results", &results) ||
        !json_array_size(hosts) || !json_is_object(settings) || !json_is_array(results))
        return err_set(e, -EINVAL, "%s: damaged: hosts, settings or results", path);
    if (!profile_record_good(json_object_get(settings, "tlb")) ||
        !profile_record_good(json_object_get(settings, "cost_profile")))
        return err_set(e, -EINVAL, "%s: damaged: settings.tlb or settings.cost_profile",
                       path);
    if (!shard_is_good(doc))
        return err_set(e, -EINVAL, "%s: damaged: settings.shard", path);
    json_array_foreach(results, i, r) {
        bad = check_result(r, json_array_size(hosts));
        if (bad)
            return err_set(e, -EINVAL, "%s: damaged: result %zu: %s", path, i, bad);
    }
    return 0;
}

int result_load(const char *path, json_t **doc, struct err *e) {
    void *data;
    size_t size;
    json_error_t je;
    int rc = file_read(path, FILE_MAX, &data, &size, e);
    if (rc)
        return rc == -EINVAL ? -EIO : rc;
    *doc = json_loadb(data, size, JSON_REJECT_DUPLICATES, &je);
    free(data);
    if (!*doc)
        return err_set(e, -EINVAL, "%s: not JSON, or cut off: line %d: %s", path, je.line,
                       je.text);
    rc = check(*doc, path, e);
    if (rc) {
        json_decref(*doc);
        *doc = NULL;
    }
    return rc;
}

/* ---- Merge ---- */

/* A host without what changes from hour to hour. */
static json_t *stable_host(const json_t *host) {
    json_t *h = json_deep_copy(host);
    const char *const gone[] = {"load",       "memory_free",  "numa",        "time",
                                "pinned_cpu", "hugepages_2m", "hugepages_1g"};
    for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++)
        json_object_del(h, gone[i]);
    return h;
}

/* Return: the index of host in all, appended when it is new. */
static size_t find_host(json_t *all, json_t *host) {
    json_t *one, *wanted = stable_host(host);
    size_t i;
    json_array_foreach(all, i, one) {
        json_t *have = stable_host(one);
        bool same = json_equal(have, wanted);
        json_decref(have);
        if (same)
            break;
    }
    json_decref(wanted);
    if (i == json_array_size(all))
        json_array_append(all, host);
    return i;
}

bool result_same_key(const json_t *a, const json_t *b) {
    return !strcmp(result_text(a, "workload"), result_text(b, "workload")) &&
           !strcmp(result_text(a, "params"), result_text(b, "params")) &&
           !strcmp(result_text(a, "engine"), result_text(b, "engine")) &&
           json_equal(json_object_get(a, "mmu_options"),
                      json_object_get(b, "mmu_options"));
}

/* Put r where the plan has it: by index, and within one point in the order they came. */
static int insert(json_t *results, json_t *r) {
    json_int_t index = json_integer_value(json_object_get(r, "index"));
    size_t at = json_array_size(results);
    for (size_t i = 0; i < json_array_size(results); i++) {
        const json_t *have = json_array_get(results, i);
        if (result_same_key(have, r))
            return -EEXIST;
        if (at > i && json_integer_value(json_object_get(have, "index")) > index)
            at = i;
    }
    return json_array_insert(results, at, r) ? -ENOMEM : 0;
}

static int merge_one(json_t *out, const json_t *doc, const char *name, struct err *e) {
    json_t *r, *results = json_object_get(out, "results");
    size_t i;
    json_array_foreach(json_object_get(doc, "results"), i, r) {
        json_t *copy = json_deep_copy(r);
        size_t host = (size_t)json_integer_value(json_object_get(r, "host"));
        host = find_host(json_object_get(out, "hosts"),
                         json_array_get(json_object_get(doc, "hosts"), host));
        json_object_set_new(copy, "host", json_integer((json_int_t)host));
        int rc = insert(results, copy);
        json_decref(copy);
        if (rc == -EEXIST)
            return err_set(e, rc,
                           "%s: %s %s under --mmu %s stands in an earlier file too", name,
                           result_text(r, "workload"), result_text(r, "params"),
                           result_text(r, "mmu"));
        if (rc)
            return err_set(e, rc, "out of memory");
    }
    if (json_is_true(json_object_get(doc, "interrupted")))
        json_object_set_new(out, "interrupted", json_true());
    return 0;
}

/* Quick or not, repetitions, the plan: all but which shard it was. */
static bool same_settings(const json_t *a, const json_t *b) {
    json_t *x = json_copy(json_object_get(a, "settings"));
    json_t *y = json_copy(json_object_get(b, "settings"));
    json_object_del(x, "shard");
    json_object_del(y, "shard");
    bool same = json_equal(x, y);
    json_decref(x);
    json_decref(y);
    return same;
}

/* Into owner[shard - 1] the name of the file that has it. */
static int find_owners(json_t *const *docs, const char *const *names, size_t n,
                       const char **owner, size_t of, struct err *e) {
    for (size_t i = 0; i < n; i++) {
        size_t of_this, shards = result_shards(docs[i], &of_this);
        if (!shards)
            return err_set(e, -EINVAL, "%s is no shard, and does not go with others",
                           names[i]);
        if (of_this != of)
            return err_set(e, -EINVAL, "%s is one of %zu shards, %s one of %zu", names[0],
                           of, names[i], of_this);
        for (size_t k = 0; k < shards; k++) {
            size_t at = shard_at(shard_of(docs[i]), k) - 1;
            if (owner[at])
                return err_set(e, -EEXIST, "%s: shard %zu of %zu stands in %s too",
                               names[i], at + 1, of, owner[at]);
            owner[at] = names[i];
        }
    }
    return 0;
}

/* Return: 0, or -ENODATA: "shards 2, 5 of 8 are missing", with the first few. */
static int find_missing(const char *const *owner, size_t of, struct err *e) {
    char list[128];
    size_t missing = 0, used = 0;
    for (size_t i = 0; i < of; i++) {
        if (owner[i])
            continue;
        if (missing++ < 8)
            used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%zu",
                                     used ? ", " : "", i + 1);
    }
    if (!missing)
        return 0;
    return err_set(e, -ENODATA, "shard%s %s%s of %zu %s missing", missing > 1 ? "s" : "",
                   list, missing > 8 ? ", ..." : "", of, missing > 1 ? "are" : "is");
}

/* *shard: settings.shard of the whole; NULL: it is of one file that is no shard. */
static int join_shards(json_t *const *docs, const char *const *names, size_t n,
                       bool partial, json_t **shard, struct err *e) {
    size_t of, shards = result_shards(docs[0], &of);
    *shard = NULL;
    if (!shards && n == 1)
        return 0;
    const char **owner = calloc(of + 1, sizeof(*owner));
    json_t *list = json_array();
    int rc = owner && list ? find_owners(docs, names, n, owner, of, e)
                           : err_set(e, -ENOMEM, "out of memory");
    if (!rc && !partial)
        rc = find_missing(owner, of, e);
    for (size_t i = 0; !rc && i < of; i++)
        if (owner[i])
            json_array_append_new(list, json_integer((json_int_t)i + 1));
    if (!rc)
        *shard = json_pack("{s:O, s:I}", "index", list, "of", (json_int_t)of);
    json_decref(list);
    free(owner);
    return rc;
}

int result_merge(json_t *const *docs, const char *const *names, size_t n, bool partial,
                 json_t **out, struct err *e) {
    json_t *shard;
    for (size_t i = 1; i < n; i++)
        if (!same_settings(docs[0], docs[i]))
            return err_set(e, -EINVAL, "%s and %s were made with different settings",
                           names[0], names[i]);
    int rc = join_shards(docs, names, n, partial, &shard, e);
    if (rc)
        return rc;
    *out = json_deep_copy(docs[0]);
    json_object_set_new(*out, "results", json_array());
    json_object_set_new(*out, "hosts", json_array());
    if (shard)
        json_object_set_new(json_object_get(*out, "settings"), "shard", shard);
    for (size_t i = 0; !rc && i < n; i++)
        rc = merge_one(*out, docs[i], names[i], e);
    if (rc) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

/* ---- Several invocations ---- */

json_t *result_find(const json_t *doc, const json_t *like) {
    json_t *r;
    size_t i;
    json_array_foreach(json_object_get(doc, "results"), i, r) {
        if (result_same_key(r, like))
            return r;
    }
    return NULL;
}

static int add_median(json_t *medians, const json_t *r) {
    static double v[RANK_MAX];
    size_t n = result_samples(r, v, RANK_MAX);
    return n ? json_array_append_new(medians, json_integer((json_int_t)rank_median(v, n)))
             : 0;
}

/* One result of the first document, with the medians of all. Of a point that failed in one
 * of them that failure is the result. */
static int fold_one(json_t *const *docs, const char *const *names, size_t n, size_t at,
                    struct err *e) {
    json_t *results = json_object_get(docs[0], "results");
    json_t *first = json_array_get(results, at), *medians = json_array();
    int rc = medians ? add_median(medians, first) : -1;
    for (size_t i = 1; !rc && i < n; i++) {
        json_t *r = result_find(docs[i], first);
        if (!r) {
            json_decref(medians);
            return err_set(e, -EINVAL,
                           "%s has no %s %s under --mmu %s, which %s has: the files of a "
                           "side come from one command",
                           names[i], result_text(first, "workload"),
                           result_text(first, "label"), result_text(first, "mmu"),
                           names[0]);
        }
        if (result_text(r, "error")) {
            json_decref(medians);
            return json_array_set(results, at, r) ? err_set(e, -ENOMEM, "out of memory")
                                                  : 0;
        }
        rc = add_median(medians, r);
    }
    if (!rc && !result_text(first, "error"))
        rc = json_object_set(json_object_get(first, "time_ns"), "samples", medians);
    json_decref(medians);
    return rc ? err_set(e, -ENOMEM, "out of memory") : 0;
}

int result_fold(json_t *const *docs, const char *const *names, size_t n, struct err *e) {
    size_t results = json_array_size(json_object_get(docs[0], "results"));
    for (size_t i = 1; i < n; i++) {
        if (!json_equal(json_object_get(docs[0], "settings"),
                        json_object_get(docs[i], "settings")))
            return err_set(e, -EINVAL, "%s and %s were made with different settings",
                           names[0], names[i]);
        if (json_array_size(json_object_get(docs[i], "results")) != results)
            return err_set(e, -EINVAL,
                           "%s has other results than %s: the files of a side come from "
                           "one command",
                           names[i], names[0]);
    }
    int rc = 0;
    for (size_t at = 0; !rc && n > 1 && at < results; at++)
        rc = fold_one(docs, names, n, at, e);
    return rc;
}
