/* SPDX-License-Identifier: MIT */
/* What a run did: as JSON for programs, as a table for people. */
#include <inttypes.h>
#include <string.h>

#include "bench/harness/lineup.h"
#include "bench/harness/result.h"
#include "cli/run.h"
#include "cpu/cpu.h"

static json_t *hex(uint64_t v) {
    return json_sprintf("%016" PRIx64, v);
}

static json_t *or_null(const char *text) {
    return text ? json_string(text) : json_null();
}

/* As --cpu had it, or what its default is on this host. */
static json_t *cpu_json(const struct machine_config *m) {
    char err[128];
    struct cpu_model *model;
    if (m->cpu_model || cpu_model_parse("", &model, err, sizeof(err)))
        return or_null(m->cpu_model);
    json_t *name = json_string(cpu_model_name(model));
    cpu_model_free(model);
    return name;
}

static json_t *modules_json(const struct machine_config *m) {
    json_t *modules = json_array();
    for (unsigned i = 0; i < m->modules; i++)
        json_array_append_new(modules, json_string(m->module[i]));
    return modules;
}

static json_t *devices_json(const struct machine_config *m) {
    json_t *devices = json_array();
    for (const char *p = m->devices; p && *p;) {
        size_t n = strcspn(p, "\n");
        json_array_append_new(devices, json_stringn(p, n));
        p += n + (p[n] == '\n');
    }
    return devices;
}

static json_t *config_json(const struct run_report *r) {
    const struct machine_config *m = &r->options->machine;
    char pv[PN_PV_TEXT_MAX];
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:i, s:o, s:o, s:o, s:o, s:o, s:s, s:b, "
        "s:I, "
        "s:I, s:I, s:I, s:s, s:o}",
        "kernel",
        json_string(m->kernel     ? m->kernel
                    : m->firmware ? "none"
                                  : "embedded"),
        "firmware", or_null(m->firmware), "initrd", or_null(m->initrd), "modules",
        modules_json(m), "devices", devices_json(m), "append", or_null(m->append),
        "memory", (json_int_t)m->ram, "cpus", (int)m->cpus, "cpu", cpu_json(m),
        "mmu_options", lineup_options(r->mmus ? &m->mmu : NULL), "numa", or_null(m->numa),
        "numa_guest", or_null(m->numa_guest), "hugepages",
        json_string(m->hugepages ? m->hugepages : "thp"), "clock",
        m->host_clock || m->engine->threaded ? "host" : "virtual", "hpet", (int)m->hpet,
        "seed", (json_int_t)m->seed, "block_len", (json_int_t)m->max_block, "max_insns",
        (json_int_t)m->max_insns, "timeout_ns", (json_int_t)m->timeout_ns, "pv",
        pn_pv_text(m->pv, pv), "halt_poll_ns",
        m->halt_poll_ns < 0 ? json_null() : json_integer(m->halt_poll_ns));
}

/* Every counter; null where the engine does not count it. */
static json_t *counters_json(const struct run_report *r) {
    json_t *counters = json_object();
    for (unsigned i = 0; i < PN_STAT_COUNT; i++)
        json_object_set_new(counters, pn_stat_name(i),
                            r->counted[i] ? json_integer((json_int_t)r->total.v[i])
                                          : json_null());
    return counters;
}

json_t *run_report_json(const struct run_report *r) {
    json_t *counters = counters_json(r);
    json_t *j = json_pack(
        "{s:s, s:s, s:s?, s:O?, s:o, s:o, s:s, s:s, s:o, s:I, s:I, s:{s:s, s:i, s:o}, "
        "s:o, s:o}",
        "schema", "penumbra-stats-2", "version", PENUMBRA_VERSION, "revision",
        *PENUMBRA_REVISION ? PENUMBRA_REVISION : NULL, "command", r->command, "inputs",
        result_inputs(r->options->machine.kernel, r->options->machine.initrd), "host",
        host_json(), "mmu", r->options->machine.engine->name, "mmu_detail", r->mmu_detail,
        "guest_insns",
        r->result.guest_insns ? json_integer((json_int_t)r->result.guest_insns)
                              : json_null(),
        "guest_ns", (json_int_t)r->result.guest_ns, "host_ns",
        (json_int_t)r->result.host_ns, "exit", "reason", run_end_name(r->result.end),
        "code", r->code, "guest_value",
        r->result.end == END_DEBUG_EXIT ? json_integer(r->result.code >> 1) : json_null(),
        "counters", counters, "config", config_json(r));
    json_t *model = run_model_json(r);
    if (j && model)
        json_object_set(j, "model", model);
    json_decref(model);
    if (j && r->has_events)
        json_object_set_new(
            j, "events",
            json_pack("{s:I, s:I, s:o}", "records", (json_int_t)r->events.records, "lost",
                      (json_int_t)r->events.lost, "digest", hex(r->events.digest)));
    if (j && r->foreign)
        json_object_set(j, "hypervisor_counters", r->foreign);
    if (j && r->track)
        json_object_update(j, r->track);
    if (j && r->profile)
        json_object_set(j, "profile", r->profile);
    if (j && r->has_ram_digest)
        json_object_set_new(j, "ram_digest", hex(r->ram_digest));
    if (j && r->disks)
        json_object_set_new(j, "disks", r->disks);
    return j;
}

/* The rows of the summary; one without a counter is a heading. of: the MMUs that they can
 * be about, RUN_SHADOW, RUN_TDP or both; a heading, and a row with ALONE, is for exactly
 * these. */
#define EACH  (RUN_SHADOW | RUN_TDP)
#define ALONE (EACH + 1)
static const struct row {
    const char *label;
    int stat;
    unsigned of;
    bool unless_0; /* 0 says that there was nothing of the kind */
} rows[] = {
    {"Page faults, by what the MMU did", -1, 0, false},
    {"met by the MMU", PN_STAT_pf_taken, EACH, false},
    {"  mapped and retried", PN_STAT_pf_fixed, EACH, false},
    {"  given to the guest", PN_STAT_pf_guest, EACH, false},
    {"  MMIO", PN_STAT_pf_mmio, EACH, true},
    {"  writes to shadowed guest tables", PN_STAT_pf_tracked, RUN_SHADOW, false},
    {"  first write since a dirty harvest", PN_STAT_pf_dirty_log, EACH, true},
    {"MMIO from a cached entry", PN_STAT_pf_mmio_spte, RUN_SHADOW, true},
    {"Shadow pages", -1, RUN_SHADOW, false},
    {"Second-level tables", -1, RUN_TDP, false},
    {"Shadow pages, and second-level tables", -1, EACH, false},
    {"made", PN_STAT_sp_created, EACH, false},
    {"found again by (gfn, role)", PN_STAT_sp_reused, RUN_SHADOW, false},
    {"zapped", PN_STAT_sp_zapped, EACH, false},
    {"  for write flooding", PN_STAT_mmu_flooded, RUN_SHADOW, false},
    {"reclaimed to keep the page budget", PN_STAT_mmu_recycled, EACH, false},
    {"in use at the end", PN_STAT_sp_pages, EACH, false},
    {"leaf tables gone unsync", PN_STAT_sp_unsync, RUN_SHADOW, false},
    {"leaf tables synced", PN_STAT_mmu_sync, RUN_SHADOW, false},
    {"writes to guest tables followed", PN_STAT_mmu_pte_write, RUN_SHADOW, false},
    {"Mappings", -1, 0, false},
    {"of 4 KiB at the end", PN_STAT_pages_4k, EACH, false},
    {"of 2 MiB at the end", PN_STAT_pages_2m, EACH, false},
    {"of 1 GiB at the end", PN_STAT_pages_1g, EACH, true},
    {"made beside that of a fault (prefetch)", PN_STAT_mmu_prefetch, RUN_SHADOW, true},
    {"large ones split", PN_STAT_large_split, EACH, true},
    {"large ones recovered", PN_STAT_large_recovered, RUN_TDP, true},
    {"Exits for second-level entries", -1, RUN_TDP, false},
    {"Exits for second-level entries", -1, EACH, false},
    {"EPT violations", PN_STAT_ept_violation, RUN_TDP, false},
    {"EPT misconfigurations (MMIO)", PN_STAT_ept_misconfig, RUN_TDP, true},
    {"Walks", -1, 0, false},
    {"TLB misses", PN_STAT_tlb_miss, EACH, false},
    {"shadow entries read", PN_STAT_walk_refs, RUN_SHADOW | ALONE, false},
    {"second-level entries read", PN_STAT_walk_refs, RUN_TDP | ALONE, false},
    {"shadow and second-level entries read", PN_STAT_walk_refs, EACH | ALONE, false},
    {"guest entries read", PN_STAT_gpte_reads, EACH, false},
    {"A and D bits set in guest tables", PN_STAT_gpte_ad_set, EACH, false},
    {"Address spaces", -1, 0, false},
    {"CR3 loads answered from cached roots", PN_STAT_root_hit, EACH, false},
    {"CR3 loads that made a root", PN_STAT_root_miss, EACH, false},
    {"INVLPG", PN_STAT_invlpg, EACH, false},
    {"TLB flushes", PN_STAT_tlb_flush, EACH, false},
    {"Software CPU", -1, 0, false},
    {"stores beside translated code", PN_STAT_code_stores, EACH, false},
    {"blocks translated", PN_STAT_block_translated, EACH, false},
    {"  dropped, for they were written", PN_STAT_block_dropped, EACH, false},
};

/* What a hypervisor counted for itself, zeroes left out. */
static void print_foreign(json_t *groups, FILE *out) {
    const char *group, *name;
    json_t *counters, *value;
    char buf[32];
    json_object_foreach(groups, group, counters) {
        fprintf(out, "\nThe hypervisor's counters, %s\n", group);
        json_object_foreach(counters, name, value) if (json_integer_value(value))
            fprintf(out, "  %-40s %16s\n", name,
                    cli_grouped((uint64_t)json_integer_value(value), buf));
    }
}

static void print_counters(const struct run_report *r, FILE *out) {
    char buf[32];
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *row = &rows[i];
        unsigned of = row->of & EACH;
        if (row->stat < 0 && (!of || of == r->mmus))
            fprintf(out, "\n%s\n", row->label);
        else if (row->stat >= 0 && (row->of & ALONE ? of == r->mmus : of & r->mmus) &&
                 (r->total.v[row->stat] || !row->unless_0))
            fprintf(out, "  %-40s %16s\n", row->label,
                    cli_grouped(r->total.v[row->stat], buf));
    }
}

/* Which MMU it began under, and which it went on under. */
static void print_head(const struct run_report *r, FILE *out) {
    const json_t *s, *all = json_object_get(r->track, "handovers");
    size_t i;
    fprintf(out, "\npenumbra %s --mmu %s", PENUMBRA_VERSION,
            r->options->machine.engine->name);
    json_array_foreach(all, i, s) fprintf(out, ", then %s", cli_text(s, "to"));
    fprintf(out, ": %s, exit code %d\n%s\n", run_end_name(r->result.end), r->code,
            r->mmu_detail);
    if (json_array_size(all))
        fputs("Counters are sums over all MMUs that ran the guest.\n", out);
}

/* Instructions are known of the parts that an engine of ours ran; a rate, of no part. */
static void print_time(const struct run_report *r, FILE *out) {
    char buf[32];
    double host = (double)r->result.host_ns / 1e9;
    uint64_t insns = r->result.guest_insns;
    fprintf(out, "\nTime\n  %-40s %14.3f s\n", "host time", host);
    if (insns)
        fprintf(out, "  %-40s %16s\n",
                r->uncounted_insns ? "guest instructions, without kvm's"
                                   : "guest instructions",
                cli_grouped(insns, buf));
    if (insns && !r->uncounted_insns)
        fprintf(out, "  %-40s %16.1f\n", "million instructions per second",
                host > 0 ? (double)insns / host / 1e6 : 0);
}

void run_report_print(const struct run_report *r, FILE *out) {
    char buf[32];
    print_head(r, out);
    if (r->mmus)
        print_counters(r, out);
    print_foreign(r->foreign, out);
    run_print_model(r, out);
    run_print_track(r->track, out);
    print_time(r, out);
    if (r->has_events)
        fprintf(out, "  %-40s %16s\n  %-40s %16" PRIx64 "\n", "events recorded",
                cli_grouped(r->events.records, buf), "digest of the events",
                r->events.digest);
}
