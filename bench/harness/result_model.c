/* SPDX-License-Identifier: MIT */
/*
 * What is modelled of a result: the counters of a run with modelled TLBs, and what they
 * come to in cycles. Deterministic, so of one run.
 */
#include <string.h>

#include "bench/harness/result_internal.h"

static json_t *count(const struct result_input *in, enum pn_stat id) {
    return json_integer((json_int_t)in->model->stats.v[id]);
}

/* n counters that follow one another. */
static json_t *counts(const struct result_input *in, enum pn_stat first, unsigned n) {
    json_t *a = json_array();
    for (unsigned i = 0; i < n; i++)
        json_array_append_new(a, count(in, first + i));
    return a;
}

json_t *result_histogram(const struct pn_stats *s) {
    json_t *a = json_array();
    for (unsigned i = 0; i < PN_WALK_HIST; i++)
        json_array_append_new(a, json_integer((json_int_t)s->walk_hist[i]));
    return a;
}

json_t *result_costs(const double by_cost[PN_COST_COUNT]) {
    json_t *costs = json_object();
    for (unsigned i = 0; i < PN_COST_COUNT; i++)
        json_object_set_new(costs, pn_cost_name(i), json_real(by_cost[i]));
    return costs;
}

static json_t *walks(const struct result_input *in) {
    const struct pn_stats *s = &in->model->stats;
    uint64_t all = s->v[PN_STAT_model_walk_fetch] + s->v[PN_STAT_model_walk_data];
    uint64_t refs = s->v[PN_STAT_model_refs];
    return json_pack("{s:I, s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o}", "count",
                     (json_int_t)all, "fetch", count(in, PN_STAT_model_walk_fetch),
                     "data", count(in, PN_STAT_model_walk_data), "faulted",
                     count(in, PN_STAT_model_walk_fault), "references", (json_int_t)refs,
                     "mean", all ? json_real((double)refs / (double)all) : json_null(),
                     "guest_by_level", counts(in, PN_STAT_model_guest_l1, 5),
                     "table_by_level", counts(in, PN_STAT_model_table_l1, 5), "histogram",
                     result_histogram(s));
}

static json_t *misses(const struct result_input *in) {
    const struct pn_stats *s = &in->model->stats;
    uint64_t all = s->v[PN_STAT_model_walk_fetch] + s->v[PN_STAT_model_walk_data];
    return json_pack("{s:o, s:o, s:I}", "l1i", count(in, PN_STAT_model_l1i_miss), "l1d",
                     count(in, PN_STAT_model_l1d_miss), "l2", (json_int_t)all);
}

static json_t *caches(const struct result_input *in) {
    return json_pack("{s:o, s:o, s:o, s:o}", "walk_by_level",
                     counts(in, PN_STAT_model_walk_hit_l2, 4), "second_by_level",
                     counts(in, PN_STAT_model_second_hit_l2, 4), "nested",
                     count(in, PN_STAT_model_nested_hit), "nested_missed",
                     count(in, PN_STAT_model_nested_miss));
}

/* Counters called prefix_NAME, as NAME, and the one called prefix, as "all". */
static json_t *named(const struct result_input *in, const char *prefix) {
    json_t *all = json_object();
    size_t n = strlen(prefix);
    for (unsigned i = 0; i < PN_STAT_COUNT; i++) {
        const char *name = pn_stat_name(i);
        if (!strcmp(name, prefix))
            json_object_set_new(all, "all", count(in, i));
        else if (!strncmp(name, prefix, n) && name[n] == '_')
            json_object_set_new(all, name + n + 1, count(in, i));
    }
    return all;
}

/* Bytes that 4K translations of one level of the TLB reach; null: no end, or no such. */
static json_t *reach(const struct pn_tlb_level *level) {
    for (unsigned i = 0; i < PN_TLB_ARRAYS; i++) {
        const struct pn_tlb_array *a = &level->array[i];
        if ((a->pages & PN_PAGES_4K) && a->entries && a->entries != PN_ARRAY_UNBOUNDED)
            return json_integer((json_int_t)a->entries * PN_PAGE_SIZE);
    }
    return json_null();
}

json_t *result_modelled(const struct result_input *in) {
    double by_cost[PN_COST_COUNT];
    const struct measure_sample *m = in->model;
    double cycles = pn_cost_cycles(in->cost, &m->stats, m->guest_insns, by_cost);
    return json_pack(
        "{s:s, s:s, s:{s:o, s:o}, s:f, s:I, s:f, s:f, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
        "tlb", in->tlb->name, "cost_profile", in->cost->name, "reach", "l1d",
        reach(&in->tlb->l1d), "l2", reach(&in->tlb->l2), "hz", in->cost->hz, "insns",
        (json_int_t)m->guest_insns, "cycles", cycles, "ns", cycles / in->cost->hz * 1e9,
        "cycles_by_cost", result_costs(by_cost), "walks", walks(in), "misses", misses(in),
        "l2_hits", count(in, PN_STAT_model_l2_hit), "cache_hits", caches(in), "flushes",
        named(in, "model_flush"), "vm_exits", named(in, "model_exit"));
}

/* ---- Read back ---- */

static bool numbers(const json_t *array, size_t n) {
    json_t *v;
    size_t i;
    if (json_array_size(array) != n)
        return false;
    json_array_foreach(array, i, v) if (!json_is_number(v)) return false;
    return true;
}

static bool all_numbers(json_t *object) {
    const char *name;
    json_t *v;
    if (!json_is_object(object))
        return false;
    json_object_foreach(object, name, v) if (!json_is_number(v)) return false;
    return true;
}

const char *result_check_modelled(const json_t *m) {
    const char *tlb, *cost;
    double hz, cycles, ns;
    json_int_t insns, l2, n, refs;
    json_t *walk, *costs, *missed, *caches, *flushes, *exits, *tlb_reach;
    if (json_is_null(m))
        return NULL;
    if (json_unpack(
            (json_t *)m,
            "{s:s, s:s, s:F, s:I, s:F, s:F, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
            "tlb", &tlb, "cost_profile", &cost, "hz", &hz, "insns", &insns, "cycles",
            &cycles, "ns", &ns, "l2_hits", &l2, "walks", &walk, "cycles_by_cost", &costs,
            "misses", &missed, "cache_hits", &caches, "flushes", &flushes, "vm_exits",
            &exits, "reach", &tlb_reach) ||
        !json_is_object(tlb_reach) || hz <= 0)
        return "modelled";
    json_t *mean = json_object_get(walk, "mean");
    if (json_unpack(walk, "{s:I, s:I}", "count", &n, "references", &refs) ||
        !(json_is_null(mean) || json_is_number(mean)) ||
        !numbers(json_object_get(walk, "histogram"), PN_WALK_HIST) ||
        !numbers(json_object_get(walk, "guest_by_level"), 5) ||
        !numbers(json_object_get(walk, "table_by_level"), 5))
        return "modelled: walks";
    return all_numbers(costs) && all_numbers(missed) && all_numbers(flushes) &&
                   all_numbers(exits) && json_is_object(caches)
               ? NULL
               : "modelled: counters";
}
