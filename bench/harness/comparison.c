/* SPDX-License-Identifier: MIT */
/*
 * Which differences between two results are real, and what a gate says of them.
 *
 * Invariants
 * 1. A pair's time differs when the 95% interval of its ratio leaves 1 out. Each pair is
 *    judged alone.
 * 2. A gate judges all pairs at once: each has its share of one in twenty (Bonferroni), and
 *    the hypothesis is that B takes no more than the limit. So a gate fails by chance once
 *    in twenty comparisons at most, however many pairs there are.
 * 3. A gate that judged less than everything does not pass.
 */
#include "bench/harness/comparison.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/harness/profile.h"
#include "bench/harness/rank.h"
#include "bench/harness/result.h"

struct comparing {
    const struct comparison_config *cfg;
    const json_t *doc[2];
    json_t *pairs, *unpaired;
    size_t times; /* pairs whose times are compared */
    bool same_models;
    unsigned same, slower, faster, unsure, beyond, untold;
    unsigned cycles, more, fewer, unequal;
};

static const char *const side_name[] = {"A", "B"};

static json_t *results_of(const json_t *doc) {
    return json_object_get(doc, "results");
}

/* ---- Times ---- */

/* Is b's time beyond the limit, or can that not be told? */
static bool judge_time(struct comparing *c, const double *a, size_t na, const double *b,
                       size_t nb) {
    double part = RANK_5 / (double)c->times;
    if (c->cfg->limit < 0)
        return false;
    if (rank_above_least(na, nb) > part)
        c->untold++;
    bool beyond = rank_above(a, na, b, nb, 1 + c->cfg->limit / 100) <= part;
    c->beyond += beyond;
    return beyond;
}

static json_t *compare_times(struct comparing *c, const json_t *a, const json_t *b) {
    static double va[RANK_MAX], vb[RANK_MAX];
    size_t na = result_samples(a, va, RANK_MAX), nb = result_samples(b, vb, RANK_MAX);
    const char *verdict = "same";
    struct interval r;
    if (rank_ratio(va, na, vb, nb, &r))
        return json_null();
    if (!r.known) {
        verdict = "unsure";
        c->unsure++;
    } else if (r.low > 1) {
        verdict = "slower";
        c->slower++;
    } else if (r.high < 1) {
        verdict = "faster";
        c->faster++;
    } else
        c->same++;
    bool beyond = judge_time(c, va, na, vb, nb);
    return json_pack("{s:f, s:f, s:f, s:o, s:o, s:s, s:b}", "a", rank_median(va, na), "b",
                     rank_median(vb, nb), "ratio", r.median, "low",
                     r.known ? json_real(r.low) : json_null(), "high",
                     r.known ? json_real(r.high) : json_null(), "verdict", verdict,
                     "beyond", beyond);
}

/* ---- Exact figures ---- */

/* As many digits as a file has. */
static bool equal(const json_t *a, const json_t *b) {
    double x = json_number_value(a), y = json_number_value(b);
    return json_is_number(a) && json_is_number(b) ? fabs(x - y) <= 1e-9 * fabs(x)
                                                  : json_equal(a, b);
}

static json_t *compare_cycles(struct comparing *c, const json_t *a, const json_t *b) {
    const json_t *x = result_member(a, "modelled.cycles"),
                 *y = result_member(b, "modelled.cycles");
    if (!c->same_models || !json_is_number(x) || !json_is_number(y))
        return json_null();
    double ca = json_number_value(x), cb = json_number_value(y);
    double ratio = ca > 0 ? cb / ca : cb > 0 ? INFINITY : 1;
    bool same = equal(x, y), more = ratio > 1;
    bool beyond =
        !same && c->cfg->limit >= 0 && (!(ca > 0) || (ratio - 1) * 100 > c->cfg->limit);
    c->cycles++;
    c->more += !same && more;
    c->fewer += !same && !more;
    c->beyond += beyond;
    return json_pack("{s:f, s:f, s:o, s:s, s:b}", "a", ca, "b", cb, "ratio",
                     isfinite(ratio) ? json_real(ratio) : json_null(), "verdict",
                     same   ? "same"
                     : more ? "more"
                            : "fewer",
                     "beyond", beyond);
}

static void differ(json_t *list, const char *figure, const char *member, const json_t *a,
                   const json_t *b) {
    json_array_append_new(
        list, json_pack("{s:o, s:O, s:O}", "figure",
                        json_sprintf("%s%s%s", figure, *member ? "." : "", member), "a",
                        a, "b", b));
}

/* What is the same on every host and in every run. Under kvm that is what the guest
 * computed. A counter that one file alone has is of another version, and no difference. */
static json_t *compare_exact(struct comparing *c, const json_t *a, const json_t *b) {
    static const struct {
        const char *path;
        bool measured; /* under kvm, too */
    } figures[] = {{"ops", true},
                   {"checksum", true},
                   {"guest_insns", false},
                   {"memory_digest", false},
                   {"counters", false},
                   {"modelled.cycles", false},
                   {"modelled.cycles_by_cost", false},
                   {"modelled.walks.count", false},
                   {"modelled.walks.references", false},
                   {"modelled.misses", false},
                   {"modelled.flushes", false},
                   {"modelled.vm_exits", false}};
    bool measured = !strcmp(result_text(a, "kind"), "measured");
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
        const char *path = figures[i].path, *name;
        json_t *x = result_member(a, path), *y = result_member(b, path), *v;
        if ((measured && !figures[i].measured) || !x || !y || json_is_null(x) ||
            json_is_null(y) || (!strncmp(path, "modelled", 8) && !c->same_models))
            continue;
        if (!json_is_object(x) && !equal(x, y))
            differ(list, path, "", x, y);
        json_object_foreach(x, name, v) {
            const json_t *w = json_object_get(y, name);
            if (w && !equal(v, w))
                differ(list, path, name, v, w);
        }
    }
    c->unequal += json_array_size(list) > 0;
    return list;
}

/* ---- What does not pair ---- */

/* The value of `name` in "name=value name=value", and its length. Return: NULL: none. */
static const char *value_of(const char *params, const char *name, size_t n,
                            size_t *length) {
    for (const char *p = params; *p; p += strspn(p, " ")) {
        size_t word = strcspn(p, " ");
        if (word > n && !strncmp(p, name, n) && p[n] == '=') {
            *length = word - n - 1;
            return p + n + 1;
        }
        p += word;
    }
    return NULL;
}

/* In what the parameters differ: " pages=128 (A: 256)" for each into buf. Return: how many
 * do. */
static unsigned params_differ(const json_t *r, const json_t *other, const char *side,
                              char *buf, size_t size) {
    const char *params = result_text(r, "params"), *others = result_text(other, "params");
    unsigned n = 0;
    buf[0] = 0;
    for (const char *p = params; *p; p += strspn(p, " ")) {
        size_t word = strcspn(p, " "), name = strcspn(p, "="), v;
        const char *value = value_of(others, p, name < word ? name : word, &v);
        if (name < word &&
            (!value || v != word - name - 1 || strncmp(value, p + name + 1, v) != 0)) {
            size_t used = strlen(buf);
            snprintf(buf + used, size - used, "%s%.*s=%.*s (%s: %.*s)", n++ ? ", " : "",
                     (int)name, p, value ? (int)v : 4, value ? value : "none", side,
                     (int)(word - name - 1), p + name + 1);
        }
        p += word;
    }
    if (strcmp(result_text(r, "engine"), result_text(other, "engine")) != 0 ||
        !json_equal(json_object_get(r, "mmu_options"),
                    json_object_get(other, "mmu_options"))) {
        size_t used = strlen(buf);
        snprintf(buf + used, size - used, "%s--mmu %s (%s: %s)", n++ ? ", " : "",
                 result_text(other, "mmu"), side, result_text(r, "mmu"));
    }
    return n;
}

/* Why has r no partner in the other file? Into buf. */
static void explain(const struct comparing *c, unsigned side, const json_t *r, char *buf,
                    size_t size) {
    char text[512];
    unsigned least = UINT32_MAX, n;
    const char *there = side_name[!side];
    json_t *other;
    size_t i;
    snprintf(buf, size, "%s has no such point", there);
    json_array_foreach(results_of(c->doc[!side]), i, other) {
        if (strcmp(result_text(r, "workload"), result_text(other, "workload")) != 0 ||
            result_find(c->doc[side], other))
            continue;
        n = params_differ(r, other, side_name[side], text, sizeof(text));
        if (n < least)
            snprintf(buf, size, "%s has %s", there, text);
        least = n < least ? n : least;
    }
}

static void put_unpaired(struct comparing *c, unsigned side, const json_t *r,
                         const char *why) {
    json_array_append_new(c->unpaired,
                          json_pack("{s:s, s:s, s:s, s:s, s:s}", "in", side_name[side],
                                    "workload", result_text(r, "workload"), "label",
                                    result_text(r, "label"), "mmu", result_text(r, "mmu"),
                                    "why", why));
}

/* The partner of a result of that side, if both ran; a line about those that have none. */
static json_t *partner(struct comparing *c, unsigned side, const json_t *r, bool tell) {
    json_t *other = result_find(c->doc[!side], r);
    char why[640];
    bool failed = other && (result_text(r, "error") || result_text(other, "error"));
    if (failed)
        snprintf(why, sizeof(why), "%s: failed: %s",
                 side_name[result_text(r, "error") ? side : !side],
                 result_text(result_text(r, "error") ? r : other, "error"));
    else if (!other)
        explain(c, side, r, why, sizeof(why));
    if (tell && (!other || (failed && !side)))
        put_unpaired(c, side, r, why);
    return failed ? NULL : other;
}

/* ---- All ---- */

static void compare_pair(struct comparing *c, const json_t *a, const json_t *b) {
    json_t *time = c->cfg->exact ? json_null() : compare_times(c, a, b);
    json_array_append_new(
        c->pairs,
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "workload",
                  result_text(a, "workload"), "label", result_text(a, "label"), "params",
                  result_text(a, "params"), "mmu", result_text(a, "mmu"), "kind",
                  result_text(a, "kind"), "time", time, "cycles", compare_cycles(c, a, b),
                  "differences", compare_exact(c, a, b)));
}

/* Runs of each side that a gate over n pairs needs. */
static unsigned runs_needed(size_t n) {
    unsigned runs = 1;
    while (runs < RANK_MAX && rank_above_least(runs, runs) > RANK_5 / (double)n)
        runs++;
    return runs;
}

static json_t *reasons(const struct comparing *c) {
    json_t *all = json_array();
    size_t alone = json_array_size(c->unpaired);
    if (!json_array_size(c->pairs))
        json_array_append_new(all, json_string("nothing was compared"));
    if (alone)
        json_array_append_new(all, json_sprintf("%zu results have no partner", alone));
    if (c->untold)
        json_array_append_new(
            all, json_sprintf("%u of %zu pairs have too few samples: a limit needs %u of "
                              "each (--repeat)",
                              c->untold, c->times, runs_needed(c->times)));
    if (!c->same_models)
        json_array_append_new(all, json_string("the TLB models or prices differ"));
    return all;
}

static json_t *put_together(struct comparing *c) {
    bool gate = c->cfg->limit >= 0 || c->cfg->exact;
    bool crossed = c->beyond || (c->cfg->exact && c->cfg->limit < 0 && c->unequal);
    json_t *why = reasons(c);
    json_t *verdict = !gate                  ? json_null()
                      : crossed              ? json_string("crossed")
                      : json_array_size(why) ? json_string("untold")
                                             : json_string("passed");
    json_t *files[2] = {json_array(), json_array()};
    for (unsigned i = 0; i < 2 * c->cfg->files; i++)
        json_array_append_new(files[i >= c->cfg->files], json_string(c->cfg->path[i]));
    json_t *counts =
        json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "same", c->same,
                  "slower", c->slower, "faster", c->faster, "unsure", c->unsure, "beyond",
                  c->beyond, "cycles", c->cycles, "more_cycles", c->more, "fewer_cycles",
                  c->fewer, "unequal", c->unequal);
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:b, s:b, s:o, s:o, s:o, s:o, s:o}",
                     "schema", COMPARISON_SCHEMA, "a", c->cfg->path[0], "b",
                     c->cfg->path[c->cfg->files], "a_files", files[0], "b_files",
                     files[1], "limit",
                     c->cfg->limit < 0 ? json_null() : json_real(c->cfg->limit), "exact",
                     c->cfg->exact, "same_models", c->same_models, "pairs", c->pairs,
                     "unpaired", c->unpaired, "counts", counts, "reasons",
                     gate ? why : (json_decref(why), json_array()), "verdict", verdict);
}

json_t *comparison_make(const json_t *a, const json_t *b,
                        const struct comparison_config *cfg) {
    struct comparing c = {.cfg = cfg, .doc = {a, b}};
    const json_t *sa = json_object_get(a, "settings"),
                 *sb = json_object_get(b, "settings");
    json_t *r, *other;
    size_t i;
    c.pairs = json_array();
    c.unpaired = json_array();
    c.same_models =
        profile_same(json_object_get(sa, "tlb"), json_object_get(sb, "tlb")) &&
        profile_same(json_object_get(sa, "cost_profile"),
                     json_object_get(sb, "cost_profile"));
    json_array_foreach(results_of(a), i, r) c.times +=
        !cfg->exact && partner(&c, 0, r, false);
    json_array_foreach(results_of(a), i, r) {
        other = partner(&c, 0, r, true);
        if (other)
            compare_pair(&c, r, other);
    }
    json_array_foreach(results_of(b), i, r) partner(&c, 1, r, true);
    return put_together(&c);
}
