/* SPDX-License-Identifier: MIT */
/* --tlb and --cost: what the report says of modelled TLBs and costs. */
#include <inttypes.h>
#include <string.h>

#include "bench/harness/result.h"
#include "cli/run.h"

json_t *run_model_json(const struct run_report *r) {
    const struct run_options *o = r->options;
    double by[PN_COST_COUNT];
    if (!o->model.on)
        return NULL;
    double sum = pn_cost_cycles(&o->model.cost, &r->total, r->result.guest_insns, by);
    return json_pack("{s:s, s:s, s:s, s:{s:o, s:o}, s:f, s:f, s:f, s:o, s:o}", "label",
                     "modelled", "tlb", o->model.tlb.name, "cost", o->model.cost.name,
                     "profiles", "tlb", profile_tlb_json(&o->model.tlb), "cost",
                     profile_cost_json(&o->model.cost), "hz", o->model.cost.hz, "cycles",
                     sum, "seconds", sum / o->model.cost.hz, "cycles_by_cost",
                     result_costs(by), "walks_by_references",
                     result_histogram(&r->total));
}

/* Per thousand guest instructions. */
static void rate(const struct run_report *r, const char *label, uint64_t n, FILE *out) {
    double insns = (double)r->result.guest_insns;
    fprintf(out, "  %-40s %16" PRIu64 " %10.3f\n", label, n,
            insns > 0 ? (double)n * 1000 / insns : 0);
}

void run_print_model(const struct run_report *r, FILE *out) {
    const struct run_options *o = r->options;
    const uint64_t *n = r->total.v;
    if (!o->model.on)
        return;
    uint64_t walks = n[PN_STAT_model_walk_fetch] + n[PN_STAT_model_walk_data];
    double by[PN_COST_COUNT];
    double sum = pn_cost_cycles(&o->model.cost, &r->total, r->result.guest_insns, by);
    fprintf(out, "\nModelled: TLB %s, costs %s %28s\n", o->model.tlb.name,
            o->model.cost.name, "per 1000 instructions");
    rate(r, "L1 instruction TLB misses", n[PN_STAT_model_l1i_miss], out);
    rate(r, "L1 data TLB misses", n[PN_STAT_model_l1d_miss], out);
    rate(r, "answered by the L2 TLB", n[PN_STAT_model_l2_hit], out);
    rate(r, "walks", walks, out);
    rate(r, "table entries read by walks", n[PN_STAT_model_refs], out);
    rate(r, "VM exits", n[PN_STAT_model_exit], out);
    fprintf(out, "  %-40s %16.2f\n", "entries per walk",
            walks ? (double)n[PN_STAT_model_refs] / (double)walks : 0);
    fprintf(out, "  %-40s %14.6f s\n", "modelled time", sum / o->model.cost.hz);
    for (unsigned i = 0; i < PN_COST_COUNT; i++)
        if (by[i] * 1000 >= sum)
            fprintf(out, "    %-38s %15.1f%%\n", pn_cost_name(i), by[i] * 100 / sum);
}
