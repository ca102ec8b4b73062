/* SPDX-License-Identifier: MIT */
/*
 * Result documents: made of samples.
 *
 * Invariants
 * 1. What nobody counted is null, never 0.
 * 2. A result is "measured" (a hypervisor on the host's CPU) or "simulated" (the software
 *    CPU), and says so in its own member; what is modelled stands in a member of that
 *    name.
 */
#include "bench/harness/result_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "bench/harness/resample.h"

json_t *result_new(const char *version, json_t *host, json_t *settings) {
    char when[32];
    time_t t = time(NULL);
    struct tm tm;
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
    return json_pack("{s:s, s:s, s:s, s:o, s:b, s:[o], s:[]}", "schema", RESULT_SCHEMA,
                     "version", version, "time", when, "settings", settings,
                     "interrupted", 0, "hosts", host, "results");
}

static json_t *integer(double v) {
    return json_integer((json_int_t)(v + 0.5));
}

static json_t *time_json(const struct result_input *in) {
    double v[RESAMPLE_MAX];
    json_t *all = json_array();
    size_t n = in->n < RESAMPLE_MAX ? in->n : RESAMPLE_MAX;
    for (size_t i = 0; i < n; i++) {
        v[i] = (double)in->samples[i].ns;
        json_array_append_new(all, json_integer((json_int_t)in->samples[i].ns));
    }
    struct interval t = resample_one(v, n);
    return json_pack("{s:o, s:o, s:o, s:o}", "median", integer(t.median), "low",
                     integer(t.low), "high", integer(t.high), "samples", all);
}

static bool counted(const struct result_input *in, enum pn_stat id) {
    return !in->engine->counts || in->engine->counts(id);
}

static double stat_of(const struct result_input *in, enum pn_stat id) {
    double v[RESAMPLE_MAX];
    size_t n = in->n < RESAMPLE_MAX ? in->n : RESAMPLE_MAX;
    for (size_t i = 0; i < n; i++)
        v[i] = (double)in->samples[i].stats.v[id];
    return resample_median(v, n);
}

static json_t *stat_json(const struct result_input *in, enum pn_stat id) {
    return counted(in, id) ? integer(stat_of(in, id)) : json_null();
}

/* A counter of the hypervisor's vCPU, from the last sample. */
static json_t *foreign_json(const struct result_input *in, const char *name) {
    const json_t *vcpu = json_object_get(in->samples[in->n - 1].foreign, "vcpu0");
    json_t *v = json_object_get(vcpu, name);
    return v ? json_incref(v) : json_null();
}

/* Ours where we count, the hypervisor's of that name where it does. */
static json_t *either(const struct result_input *in, enum pn_stat id,
                      const char *foreign) {
    return counted(in, id) || !foreign ? stat_json(in, id) : foreign_json(in, foreign);
}

static json_t *faults_json(const struct result_input *in) {
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "taken",
                     either(in, PN_STAT_pf_taken, "pf_taken"), "mapped",
                     either(in, PN_STAT_pf_fixed, "pf_fixed"), "guest",
                     either(in, PN_STAT_pf_guest, "pf_guest"), "mmio",
                     stat_json(in, PN_STAT_pf_mmio), "tracked",
                     stat_json(in, PN_STAT_pf_tracked), "dirty_log",
                     stat_json(in, PN_STAT_pf_dirty_log));
}

/* What would have left the guest on a CPU: see bench/FORMATS.md. */
static json_t *exits_json(const struct result_input *in) {
    double sum = 0;
    if (!in->engine->exits)
        return foreign_json(in, "exits");
    for (const enum pn_stat *id = in->engine->exits; *id != PN_STAT_COUNT; id++)
        sum += stat_of(in, *id);
    return integer(sum);
}

static json_t *levels_json(const struct result_input *in, enum pn_stat first) {
    json_t *a = json_array();
    for (unsigned i = 0; i < 5; i++)
        json_array_append_new(a, stat_json(in, first + i));
    return a;
}

static json_t *walks_json(const struct result_input *in) {
    json_t *per_miss = json_null();
    if (!counted(in, PN_STAT_tlb_miss))
        return json_null();
    double misses = stat_of(in, PN_STAT_tlb_miss);
    double refs = stat_of(in, PN_STAT_gpte_reads) + stat_of(in, PN_STAT_walk_refs);
    if (misses > 0)
        per_miss = json_real(refs / misses);
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "references", integer(refs),
                     "guest_entries", stat_json(in, PN_STAT_gpte_reads), "table_entries",
                     stat_json(in, PN_STAT_walk_refs), "per_miss", per_miss,
                     "guest_by_level", levels_json(in, PN_STAT_gpte_reads_l1),
                     "table_by_level", levels_json(in, PN_STAT_walk_refs_l1));
}

static json_t *counters_json(const struct result_input *in) {
    json_t *all = json_object();
    for (unsigned i = 0; i < PN_STAT_COUNT; i++)
        if (counted(in, i) && !pn_stat_modelled(i))
            json_object_set_new(all, pn_stat_name(i), stat_json(in, i));
    return all;
}

/* Did every repetition do the same? Instructions and output, and the counters that do not
 * depend on how the translator cut its blocks. */
static bool repeatable(const struct result_input *in) {
    const struct measure_sample *a = &in->samples[0];
    for (size_t i = 1; i < in->n; i++)
        if (in->samples[i].guest_insns != a->guest_insns ||
            strcmp(in->samples[i].checksum, a->checksum) != 0 ||
            memcmp(&in->samples[i].stats, &a->stats, sizeof(a->stats)) != 0)
            return false;
    return true;
}

static json_t *insns_json(const struct result_input *in) {
    uint64_t n = in->samples[in->n - 1].guest_insns;
    return n ? json_integer((json_int_t)n) : json_null();
}

static json_t *digest_json(uint64_t digest) {
    return digest ? json_sprintf("%016" PRIx64, digest) : json_null();
}

static void fill(json_t *j, const struct result_input *in) {
    const struct measure_sample *last = &in->samples[in->n - 1];
    bool tables = counted(in, PN_STAT_sp_pages);
    double pages = tables ? stat_of(in, PN_STAT_sp_pages) : 0;
    json_object_set_new(j, "mmu_detail", json_string(last->detail));
    json_object_set_new(j, "dirty_tracker",
                        last->tracker ? json_string(last->tracker) : json_null());
    json_object_set_new(j, "time_ns", time_json(in));
    json_object_set_new(j, "guest_insns", insns_json(in));
    json_object_set_new(j, "rounds", json_integer((json_int_t)last->rounds));
    json_object_set_new(j, "faults", faults_json(in));
    json_object_set_new(j, "walks", walks_json(in));
    json_object_set_new(j, "tlb_misses", stat_json(in, PN_STAT_tlb_miss));
    json_object_set_new(j, "exits", exits_json(in));
    json_object_set_new(j, "shadow_pages", tables ? integer(pages) : json_null());
    json_object_set_new(j, "table_bytes",
                        tables ? integer(pages * PN_PAGE_SIZE) : json_null());
    json_object_set_new(j, "repeatable",
                        in->engine->host_cpu ? json_null()
                                             : json_boolean(repeatable(in)));
    json_object_set_new(j, "ops", json_integer((json_int_t)last->ops));
    json_object_set_new(j, "checksum", json_string(last->checksum));
    json_object_set_new(j, "memory_digest", digest_json(in->digest));
    json_object_set_new(j, "modelled", in->model ? result_modelled(in) : json_null());
    json_object_set_new(j, "counters", counters_json(in));
    json_object_set_new(j, "hypervisor_counters",
                        last->foreign ? json_incref(last->foreign) : json_null());
}

int result_add(json_t *doc, const struct result_input *in) {
    const struct plan_unit *unit = in->unit;
    json_t *axis = unit->axis ? json_pack("{s:s, s:f}", "parameter", unit->axis, "value",
                                          unit->value)
                              : json_null();
    json_t *j =
        json_pack("{s:i, s:s, s:s, s:s, s:o, s:s, s:s, s:i, s:o}", "index",
                  (int)unit->index, "workload", unit->workload, "params", unit->params,
                  "label", unit->label, "sweep", axis, "mmu", in->engine->name, "kind",
                  in->engine->host_cpu ? "measured" : "simulated", "host", 0, "error",
                  in->n ? json_null() : json_string(in->failure));
    if (!j)
        return -ENOMEM;
    if (in->n)
        fill(j, in);
    return json_array_append_new(json_object_get(doc, "results"), j) ? -ENOMEM : 0;
}
