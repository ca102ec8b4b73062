/* SPDX-License-Identifier: MIT */
/*
 * Result documents: made of samples, member by member of result_fields.inc.
 *
 * Invariants
 * 1. What nobody counted is null, never 0.
 * 2. A result is "measured" (a hypervisor on the host's CPU) or "simulated" (the software
 *    CPU), and says so in its own member; what is modelled stands in a member of that name,
 *    and is of one run: it is deterministic.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <xxhash.h>

#include "base/file.h"
#include "bench/harness/rank.h"
#include "bench/harness/result_internal.h"
#include "penumbra/dirty.h"

json_t *result_input(const char *path) {
    struct err e = {NULL, 0};
    void *data;
    size_t size;
    struct stat st;
    /* What a pipe held is gone. */
    if (!path || stat(path, &st) || !S_ISREG(st.st_mode) ||
        file_read(path, UINT32_MAX, &data, &size, &e))
        return json_null();
    json_t *file = json_pack("{s:I, s:o}", "bytes", (json_int_t)size, "xxh3",
                             json_sprintf("%016" PRIx64, XXH3_64bits(data, size)));
    free(data);
    return file;
}

json_t *result_inputs(const char *kernel, const char *initrd) {
    return json_pack("{s:o, s:o}", "kernel", result_input(kernel), "initrd",
                     result_input(initrd));
}

json_t *result_new(const char *version, const char *revision, json_t *command,
                   json_t *host, json_t *settings) {
    char when[32];
    time_t t = time(NULL);
    struct tm tm;
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
    return json_pack("{s:s, s:s, s:o, s:o, s:s, s:o, s:b, s:[o], s:[]}", "schema",
                     RESULT_SCHEMA, "version", version, "revision",
                     *revision ? json_string(revision) : json_null(), "command", command,
                     "time", when, "settings", settings, "interrupted", 0, "hosts", host,
                     "results");
}

/* What members are made of. */
struct figures {
    const struct result_input *in;
    const struct plan_unit *unit;
    const struct measure_sample *last, *model; /* NULL: there is none */
    struct interval time;
    double by_cost[PN_COST_COUNT], cycles;
    uint64_t walks; /* modelled */
};

/* ---- Measured or simulated ---- */

static json_t *tracker(const struct figures *f) {
    return f->last->tracker ? json_string(pn_dirty_name(f->last->tracker)) : json_null();
}

static json_t *integer(double v) {
    return json_integer((json_int_t)(v + 0.5));
}

/* A figure of the harvests, or null: there is no dirty log. */
static json_t *harvested(const struct figures *f, uint64_t value) {
    return f->last->tracker ? json_integer((json_int_t)value) : json_null();
}

static json_t *bound(const struct figures *f, double v) {
    return f->time.known ? integer(v) : json_null();
}

static json_t *sweep(const struct figures *f) {
    return f->unit->axis ? json_pack("{s:s, s:f}", "parameter", f->unit->axis, "value",
                                     f->unit->value)
                         : json_null();
}

static size_t sample_count(const struct result_input *in) {
    return in->n < RANK_MAX ? in->n : RANK_MAX;
}

static json_t *samples(const struct figures *f) {
    json_t *all = json_array();
    for (size_t i = 0; i < sample_count(f->in); i++)
        json_array_append_new(all, json_integer((json_int_t)f->in->samples[i].ns));
    return all;
}

static bool counted(const struct figures *f, enum pn_stat id) {
    return !f->in->mmu->engine->counts || f->in->mmu->engine->counts(id);
}

static json_t *harvest_ns(const struct figures *f) {
    double v[RANK_MAX];
    size_t n = sample_count(f->in);
    for (size_t i = 0; i < n; i++) {
        const struct measure_sample *s = &f->in->samples[i];
        v[i] = s->harvests ? (double)s->harvest_ns / (double)s->harvests : 0;
    }
    return f->last->harvests ? integer(rank_median(v, n)) : json_null();
}

static double stat_of(const struct figures *f, enum pn_stat id) {
    double v[RANK_MAX];
    size_t n = sample_count(f->in);
    for (size_t i = 0; i < n; i++)
        v[i] = (double)f->in->samples[i].stats.v[id];
    return rank_median(v, n);
}

static json_t *counter(const struct figures *f, enum pn_stat id) {
    return counted(f, id) ? integer(stat_of(f, id)) : json_null();
}

/* A counter of the hypervisor's vCPU, from the last sample. */
static json_t *foreign(const struct figures *f, const char *name) {
    json_t *v = json_object_get(json_object_get(f->last->foreign, "vcpu0"), name);
    return v ? json_incref(v) : json_null();
}

/* Ours where we count, the hypervisor's of that name where it does. */
static json_t *either(const struct figures *f, enum pn_stat id, const char *name) {
    return counted(f, id) ? counter(f, id) : foreign(f, name);
}

/* What would have left the guest on a CPU: see bench/FORMATS.md. */
static json_t *exits(const struct figures *f) {
    double sum = 0;
    if (!f->in->mmu->engine->exits)
        return foreign(f, "exits");
    for (const enum pn_stat *id = f->in->mmu->engine->exits; *id != PN_STAT_COUNT; id++)
        sum += stat_of(f, *id);
    return integer(sum);
}

static json_t *levels(const struct figures *f, enum pn_stat first) {
    json_t *a = json_array();
    for (unsigned i = 0; i < 5; i++)
        json_array_append_new(a, counter(f, first + i));
    return a;
}

static double references(const struct figures *f) {
    return stat_of(f, PN_STAT_gpte_reads) + stat_of(f, PN_STAT_walk_refs);
}

static json_t *per_miss(const struct figures *f) {
    double misses = stat_of(f, PN_STAT_tlb_miss);
    return misses > 0 ? json_real(references(f) / misses) : json_null();
}

static json_t *table_bytes(const struct figures *f) {
    return counted(f, PN_STAT_sp_pages)
               ? integer(stat_of(f, PN_STAT_sp_pages) * PN_PAGE_SIZE)
               : json_null();
}

static json_t *counters(const struct figures *f) {
    json_t *all = json_object();
    for (unsigned i = 0; i < PN_STAT_COUNT; i++)
        if (counted(f, i) && pn_stat_kind(i) != PN_STAT_KIND_MODEL)
            json_object_set_new(all, pn_stat_name(i), counter(f, i));
    return all;
}

static json_t *hypervisor(const struct figures *f) {
    return f->last->foreign ? json_incref(f->last->foreign) : json_null();
}

/* Did every repetition do the same? Instructions and output, and the counters that do not
 * depend on how the translator cut its blocks. */
static json_t *repeatable(const struct figures *f) {
    const struct measure_sample *a = f->in->samples, *s = a;
    bool same = true;
    if (f->in->mmu->engine->host_cpu)
        return json_null();
    for (; s < a + f->in->n; s++)
        same = same && s->guest_insns == a->guest_insns &&
               !strcmp(s->checksum, a->checksum) &&
               !memcmp(&s->stats, &a->stats, sizeof(a->stats));
    return json_boolean(same);
}

static json_t *insns(const struct figures *f) {
    uint64_t n = f->last->guest_insns;
    return n ? json_integer((json_int_t)n) : json_null();
}

static json_t *digest(uint64_t value) {
    return value ? json_sprintf("%016" PRIx64, value) : json_null();
}

/* ---- Modelled ---- */

static json_t *count(const struct figures *f, enum pn_stat id) {
    return json_integer((json_int_t)f->model->stats.v[id]);
}

/* n counters that follow one another. */
static json_t *counts(const struct figures *f, enum pn_stat first, unsigned n) {
    json_t *a = json_array();
    for (unsigned i = 0; i < n; i++)
        json_array_append_new(a, count(f, first + i));
    return a;
}

/* Counters called prefix_NAME, as NAME, and the one called prefix, as "all". */
static json_t *named(const struct figures *f, const char *prefix) {
    json_t *all = json_object();
    size_t n = strlen(prefix);
    for (unsigned i = 0; i < PN_STAT_COUNT; i++) {
        const char *name = pn_stat_name(i);
        if (!strcmp(name, prefix))
            json_object_set_new(all, "all", count(f, i));
        else if (!strncmp(name, prefix, n) && name[n] == '_')
            json_object_set_new(all, name + n + 1, count(f, i));
    }
    return all;
}

static json_t *mean_walk(const struct figures *f) {
    double refs = (double)f->model->stats.v[PN_STAT_model_refs];
    return f->walks ? json_real(refs / (double)f->walks) : json_null();
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

/* ---- Put together ---- */

static void get_figures(struct figures *f) {
    const struct result_input *in = f->in;
    double ns[RANK_MAX];
    for (size_t i = 0; i < sample_count(in); i++)
        ns[i] = (double)in->samples[i].ns;
    f->time = rank_one(ns, sample_count(in));
    f->last = &in->samples[in->n - 1];
    f->model = in->model;
    if (!f->model)
        return;
    const struct pn_stats *s = &f->model->stats;
    f->cycles = pn_cost_cycles(in->cost, s, f->model->guest_insns, f->by_cost);
    f->walks = s->v[PN_STAT_model_walk_fetch] + s->v[PN_STAT_model_walk_data];
}

/* Members of a group that is null are not made: nothing is there to make them of. */
#define MEMBER(path, kind, value, ...)                                                   \
    group = result_group(j, path, &name);                                                \
    if (json_is_object(group))                                                           \
        json_object_set_new(group, name, value);
#define NOTHING(...)

static void put_key(json_t *j, const struct figures *f) {
    const char *name;
    json_t *group;
#define KEY      MEMBER
#define FIELD    NOTHING
#define MODELLED NOTHING
#include "bench/harness/result_fields.inc"
}

static void put_fields(json_t *j, const struct figures *f) {
    const char *name;
    json_t *group;
#define KEY      NOTHING
#define FIELD    MEMBER
#define MODELLED MEMBER
#include "bench/harness/result_fields.inc"
}

int result_add(json_t *doc, const struct result_input *in) {
    struct figures f = {.in = in, .unit = in->unit};
    json_t *j = json_object();
    if (!j)
        return -ENOMEM;
    put_key(j, &f);
    if (in->n) {
        get_figures(&f);
        put_fields(j, &f);
    }
    return json_array_append_new(json_object_get(doc, "results"), j) ? -ENOMEM : 0;
}
