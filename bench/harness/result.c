/* SPDX-License-Identifier: MIT */
/*
 * Result documents: made and written.
 *
 * Invariants
 * 1. What nobody counted is null, never 0.
 * 2. A result is "measured" (a hypervisor on the host's CPU) or "simulated" (the software
 * CPU), and says so in its own member.
 */
#include "bench/harness/result.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/harness/resample.h"

/* The whole of one result's samples under one engine. */
struct input {
    const struct pn_engine_ops *ops;
    const struct measure_sample *samples;
    size_t n;
};

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

static json_t *time_json(const struct input *in) {
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

static bool counted(const struct input *in, enum pn_stat id) {
    return !in->ops->counts || in->ops->counts(id);
}

static double stat_of(const struct input *in, enum pn_stat id) {
    double v[RESAMPLE_MAX];
    size_t n = in->n < RESAMPLE_MAX ? in->n : RESAMPLE_MAX;
    for (size_t i = 0; i < n; i++)
        v[i] = (double)in->samples[i].stats.v[id];
    return resample_median(v, n);
}

static json_t *stat_json(const struct input *in, enum pn_stat id) {
    return counted(in, id) ? integer(stat_of(in, id)) : json_null();
}

/* A counter of the hypervisor's vCPU, from the last sample. */
static json_t *foreign_json(const struct input *in, const char *name) {
    const json_t *vcpu = json_object_get(in->samples[in->n - 1].foreign, "vcpu0");
    json_t *v = json_object_get(vcpu, name);
    return v ? json_incref(v) : json_null();
}

/* Ours where we count, the hypervisor's of that name where it does. */
static json_t *either(const struct input *in, enum pn_stat id, const char *foreign) {
    return counted(in, id) || !foreign ? stat_json(in, id) : foreign_json(in, foreign);
}

static json_t *faults_json(const struct input *in) {
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "taken",
                     either(in, PN_STAT_pf_taken, "pf_taken"), "mapped",
                     either(in, PN_STAT_pf_fixed, "pf_fixed"), "guest",
                     either(in, PN_STAT_pf_guest, "pf_guest"), "mmio",
                     stat_json(in, PN_STAT_pf_mmio), "tracked",
                     stat_json(in, PN_STAT_pf_tracked), "dirty_log",
                     stat_json(in, PN_STAT_pf_dirty_log));
}

/* What would have left the guest on a CPU: see bench/README.md. */
static json_t *exits_json(const struct input *in) {
    static const enum pn_stat shadow[] = {
        PN_STAT_pf_taken, PN_STAT_pf_mmio_spte, PN_STAT_io_exits, PN_STAT_halt_exits,
        PN_STAT_invlpg,   PN_STAT_invpcid,      PN_STAT_root_hit, PN_STAT_root_miss,
    };
    static const enum pn_stat tdp[] = {
        PN_STAT_ept_violation,
        PN_STAT_ept_misconfig,
        PN_STAT_io_exits,
        PN_STAT_halt_exits,
    };
    bool is_tdp = !strcmp(in->ops->name, "tdp");
    const enum pn_stat *id = is_tdp ? tdp : shadow;
    size_t n = is_tdp ? sizeof(tdp) / sizeof(*tdp) : sizeof(shadow) / sizeof(*shadow);
    double sum = 0;
    if (in->ops->threaded)
        return foreign_json(in, "exits");
    for (size_t i = 0; i < n; i++)
        sum += stat_of(in, id[i]);
    return integer(sum);
}

static json_t *levels_json(const struct input *in, enum pn_stat first) {
    json_t *a = json_array();
    for (unsigned i = 0; i < 5; i++)
        json_array_append_new(a, stat_json(in, first + i));
    return a;
}

static json_t *walks_json(const struct input *in) {
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

static json_t *counters_json(const struct input *in) {
    json_t *all = json_object();
    for (unsigned i = 0; i < PN_STAT_COUNT; i++)
        if (counted(in, i))
            json_object_set_new(all, pn_stat_name(i), stat_json(in, i));
    return all;
}

/* Did every repetition do the same? Instructions and output, and the counters that do not
 * depend on how the translator cut its blocks. */
static bool repeatable(const struct input *in) {
    const struct measure_sample *a = &in->samples[0];
    for (size_t i = 1; i < in->n; i++)
        if (in->samples[i].guest_insns != a->guest_insns ||
            strcmp(in->samples[i].checksum, a->checksum) != 0 ||
            memcmp(&in->samples[i].stats, &a->stats, sizeof(a->stats)) != 0)
            return false;
    return true;
}

static json_t *insns_json(const struct input *in) {
    uint64_t n = in->samples[in->n - 1].guest_insns;
    return n ? json_integer((json_int_t)n) : json_null();
}

static void fill(json_t *j, const struct input *in) {
    const struct measure_sample *last = &in->samples[in->n - 1];
    bool tables = counted(in, PN_STAT_sp_pages);
    double pages = tables ? stat_of(in, PN_STAT_sp_pages) : 0;
    json_object_set_new(j, "mmu_detail", json_string(last->detail));
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
                        in->ops->threaded ? json_null() : json_boolean(repeatable(in)));
    json_object_set_new(j, "ops", json_integer((json_int_t)last->ops));
    json_object_set_new(j, "checksum", json_string(last->checksum));
    json_object_set_new(j, "counters", counters_json(in));
    json_object_set_new(j, "hypervisor_counters",
                        last->foreign ? json_incref(last->foreign) : json_null());
}

int result_add(json_t *doc, const struct plan_unit *unit,
               const struct pn_engine_ops *engine, const struct measure_sample *samples,
               size_t n, const char *failure) {
    const struct input in = {engine, samples, n};
    json_t *axis = unit->axis ? json_pack("{s:s, s:f}", "parameter", unit->axis, "value",
                                          unit->value)
                              : json_null();
    json_t *j = json_pack(
        "{s:i, s:s, s:s, s:s, s:o, s:s, s:s, s:i, s:o}", "index", (int)unit->index,
        "workload", unit->workload, "params", unit->params, "label", unit->label, "sweep",
        axis, "mmu", engine->name, "kind", engine->threaded ? "measured" : "simulated",
        "host", 0, "error", n ? json_null() : json_string(failure));
    if (!j)
        return -ENOMEM;
    if (n)
        fill(j, &in);
    return json_array_append_new(json_object_get(doc, "results"), j) ? -ENOMEM : 0;
}

static int write_all(int fd, const char *p, size_t size) {
    while (size) {
        ssize_t n = write(fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

int result_write(const json_t *doc, int fd) {
    char *text = json_dumps(doc, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
    int rc = text ? write_all(fd, text, strlen(text)) : -ENOMEM;
    free(text);
    return rc ? rc : write_all(fd, "\n", 1);
}

/* ---- The page ---- */

extern const char bench_page[], bench_page_end[], bench_script[], bench_script_end[],
    bench_chart[], bench_chart_end[];

/* The page's template up to `marker`, and then what stands for it. Return: 0 or -errno.
 */
static int put_until(int fd, const char **at, const char *marker, const char *text,
                     size_t size) {
    const char *m = memmem(*at, (size_t)(bench_page_end - *at), marker, strlen(marker));
    if (!m)
        return -EINVAL;
    int rc = write_all(fd, *at, (size_t)(m - *at));
    *at = m + strlen(marker);
    return rc ? rc : write_all(fd, text, size);
}

/* The document as text that may stand inside a script element: '<' occurs in JSON's
 * strings alone, and is written as an escape there. Return: NULL: no memory. */
static char *page_data(const json_t *doc) {
    char *text =
        json_dumps(doc, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(12));
    char *out = text ? malloc(strlen(text) * 6 + 1) : NULL, *to = out;
    for (const char *p = text; out && *p; p++) {
        if (*p == '<')
            to = stpcpy(to, "\\u003c");
        else
            *to++ = *p;
    }
    if (out)
        *to = 0;
    free(text);
    return out;
}

int result_page(const json_t *doc, int fd) {
    const char *at = bench_page;
    char *data = page_data(doc);
    int rc = data ? put_until(fd, &at, "@DATA@", data, strlen(data)) : -ENOMEM;
    free(data);
    if (!rc)
        rc = put_until(fd, &at, "@CHART@", bench_chart,
                       (size_t)(bench_chart_end - bench_chart));
    if (!rc)
        rc = put_until(fd, &at, "@SCRIPT@", bench_script,
                       (size_t)(bench_script_end - bench_script));
    return rc ? rc : write_all(fd, at, (size_t)(bench_page_end - at));
}
