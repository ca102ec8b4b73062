/* SPDX-License-Identifier: MIT */
/* What `penumbra replay` prints and writes. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cli/replay.h"

/* The table's columns; one in which every MMU has 0 is left out. */
static const struct column {
    const char *head;
    enum pn_stat stat;
} columns[] = {
    {"TLB misses", PN_STAT_tlb_miss},      {"faults", PN_STAT_pf_taken},
    {"mapped", PN_STAT_pf_fixed},          {"guest's #PF", PN_STAT_pf_guest},
    {"tracked", PN_STAT_pf_tracked},       {"dirty log", PN_STAT_pf_dirty_log},
    {"violations", PN_STAT_ept_violation}, {"pages made", PN_STAT_sp_created},
    {"zapped", PN_STAT_sp_zapped},         {"recycled", PN_STAT_mmu_recycled},
    {"unsync", PN_STAT_sp_unsync},         {"synced", PN_STAT_mmu_sync},
    {"flushes", PN_STAT_tlb_flush},        {"entries read", PN_STAT_walk_refs},
    {"walks", PN_STAT_model_walk_data},    {"agile: entries", PN_STAT_agile_refs},
    {"natively", PN_STAT_agile_native},    {"faults spared", PN_STAT_agile_spared},
};
#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

const char *replay_column(enum pn_stat id) {
    for (unsigned c = 0; c < COLUMNS; c++)
        if (columns[c].stat == id)
            return columns[c].head;
    return NULL;
}

static bool moved(const struct replay_study *s, enum pn_stat id) {
    for (unsigned i = 0; i < s->n; i++)
        if (s->one[i].result.total.v[id])
            return true;
    return false;
}

static unsigned label_width(const struct replay_study *s) {
    size_t width = 13;
    for (unsigned i = 0; i < s->n; i++)
        if (strlen(s->one[i].label) > width)
            width = strlen(s->one[i].label);
    return (unsigned)width;
}

/* Accesses in a second of one CPU's time, in millions. */
static double rate(const struct replay_one *one) {
    double ns = (double)one->result.cpu_ns;
    return ns > 0 ? (double)(one->result.accesses + one->result.fetches) * 1e3 / ns : 0;
}

static void print_chosen(const struct replay_study *s, FILE *out) {
    unsigned width = label_width(s);
    char buf[32];
    fprintf(out, "%-*s", (int)width, "");
    for (unsigned c = 0; c < COLUMNS; c++)
        if (moved(s, columns[c].stat))
            fprintf(out, " %14s", columns[c].head);
    fputc('\n', out);
    for (unsigned i = 0; i < s->n; i++) {
        fprintf(out, "%-*s", (int)width, s->one[i].label);
        for (unsigned c = 0; c < COLUMNS; c++)
            if (moved(s, columns[c].stat))
                fprintf(out, " %14s",
                        cli_grouped(s->one[i].result.total.v[columns[c].stat], buf));
        fputc('\n', out);
    }
}

static void print_every(const struct replay_study *s, FILE *out) {
    char buf[32];
    fprintf(out, "%-20s", "");
    for (unsigned i = 0; i < s->n; i++)
        fprintf(out, " %16s", s->one[i].label);
    fputc('\n', out);
    for (unsigned id = 0; id < PN_STAT_COUNT; id++) {
        if (!moved(s, (enum pn_stat)id))
            continue;
        fprintf(out, "%-20s", pn_stat_name((enum pn_stat)id));
        for (unsigned i = 0; i < s->n; i++)
            fprintf(out, " %16s", cli_grouped(s->one[i].result.total.v[id], buf));
        fputc('\n', out);
    }
}

void replay_print(const struct replay_study *s, bool counters, FILE *out) {
    const struct replay_one *first = &s->one[0];
    char ops[32], accesses[32];
    fprintf(out, "%s: %s operations, of which %s accesses, recorded under %s%s%s\n\n",
            s->path, cli_grouped(first->ops, ops),
            cli_grouped(first->result.accesses, accesses),
            s->recorded.kind == PN_MMU_TDP ? "tdp" : "shadow",
            s->recorded.tlb ? " with TLB model " : "",
            s->recorded.tlb ? s->recorded.tlb->name : "");
    if (counters)
        print_every(s, out);
    else
        print_chosen(s, out);
    fputc('\n', out);
    for (unsigned i = 0; i < s->n; i++) {
        const struct replay_one *one = &s->one[i];
        bool equal = one->as_recorded && one->state == RECORDING_WHOLE && !one->differ;
        fprintf(out, "%s: %.1f million accesses a second and CPU%s\n", one->label,
                rate(one),
                equal && !one->rc ? "; every counter is what it was when recorded" : "");
    }
}

/* ---- Files ---- */

static json_t *tlb_name(const struct pn_mmu_config *c) {
    return c->tlb ? json_string(c->tlb->name) : json_null();
}

static json_t *json_one(const struct replay_one *one) {
    json_t *counters = json_object();
    for (unsigned i = 0; i < PN_STAT_COUNT; i++)
        if (replay_counts((enum pn_stat)i))
            json_object_set_new(counters, pn_stat_name((enum pn_stat)i),
                                json_integer((json_int_t)one->result.total.v[i]));
    bool judged = one->as_recorded && one->state == RECORDING_WHOLE && !one->rc;
    return json_pack(
        "{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:o}", "label",
        one->label, "mmu", one->cfg.kind == PN_MMU_TDP ? "tdp" : "shadow", "mmu_options",
        lineup_options(&one->cfg.opt), "mmu_sweep",
        one->mmu ? lineup_sweep(one->mmu) : json_null(), "tlb", tlb_name(&one->cfg),
        "equal", judged ? json_boolean(!one->differ) : json_null(), "error",
        one->rc ? json_string(one->err) : json_null(), "accesses",
        (json_int_t)one->result.accesses, "tlb_hits", (json_int_t)one->result.hits,
        "fetches", (json_int_t)one->result.fetches, "host_ns",
        (json_int_t)one->result.host_ns, "cpu_ns", (json_int_t)one->result.cpu_ns,
        "counters", counters);
}

json_t *replay_json(const struct replay_study *s, json_t *typed) {
    static const char *const states[] = {[RECORDING_OPEN] = "damaged",
                                         [RECORDING_WHOLE] = "whole",
                                         [RECORDING_INCOMPLETE] = "incomplete",
                                         [RECORDING_DAMAGED] = "damaged"};
    json_t *results = json_array();
    for (unsigned i = 0; i < s->n; i++)
        json_array_append_new(results, json_one(&s->one[i]));
    return json_pack("{s:s, s:s, s:s?, s:O?, s:{s:s, s:I, s:s, s:o, s:o}, s:o}", "schema",
                     "penumbra-replay-1", "version", PENUMBRA_VERSION, "revision",
                     *PENUMBRA_REVISION ? PENUMBRA_REVISION : NULL, "command", typed,
                     "recording", "state", states[s->one[0].state], "operations",
                     (json_int_t)s->one[0].ops, "mmu",
                     s->recorded.kind == PN_MMU_TDP ? "tdp" : "shadow", "mmu_options",
                     lineup_options(&s->recorded.opt), "tlb", tlb_name(&s->recorded),
                     "results", results);
}

int replay_csv(const struct replay_study *s, int fd) {
    FILE *out = outfile_stream(fd);
    if (!out)
        return -errno;
    fputs("mmu,accesses,tlb_hits,fetches,host_ns,cpu_ns", out);
    for (unsigned i = 0; i < PN_STAT_COUNT; i++)
        if (replay_counts((enum pn_stat)i))
            fprintf(out, ",%s", pn_stat_name((enum pn_stat)i));
    fputc('\n', out);
    for (unsigned k = 0; k < s->n; k++) {
        const struct replay_result *r = &s->one[k].result;
        fprintf(out, "%s,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64,
                s->one[k].label, r->accesses, r->hits, r->fetches, r->host_ns, r->cpu_ns);
        for (unsigned i = 0; i < PN_STAT_COUNT; i++)
            if (replay_counts((enum pn_stat)i))
                fprintf(out, ",%" PRIu64, r->total.v[i]);
        fputc('\n', out);
    }
    return outfile_close_stream(out);
}
