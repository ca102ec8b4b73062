/* SPDX-License-Identifier: MIT */
/* --dirty-log and --handover: their part of the report. */
#include <inttypes.h>
#include <string.h>

#include "cli/run.h"

#define NS_PER_MS 1000000.0

static json_t *harvest_json(const struct machine_harvest *h) {
    json_t *j = json_pack("{s:s, s:I, s:I, s:I, s:I}", "by", h->by, "round",
                          (json_int_t)h->round, "at_ns", (json_int_t)h->at_ns, "host_ns",
                          (json_int_t)h->host_ns, "pages", (json_int_t)h->pages);
    if (h->verified) {
        json_object_set_new(j, "missed", json_integer((json_int_t)h->missed));
        json_object_set_new(j, "same", json_integer((json_int_t)h->same));
    }
    if (h->gfns)
        json_object_set_new(j, "gfns", json_string(h->gfns));
    return j;
}

static json_t *dirty_json(const struct run_options *o, struct machine *m) {
    unsigned count;
    const struct machine_harvest *h = machine_harvests(m, &count);
    json_t *list = json_array();
    uint64_t pages = 0, missed = 0;
    for (unsigned i = 0; i < count; i++) {
        json_array_append_new(list, harvest_json(&h[i]));
        pages += h[i].pages;
        missed += h[i].missed;
    }
    json_t *j =
        json_pack("{s:s, s:I, s:I, s:o}", "tracker", pn_dirty_name(o->machine.dirty),
                  "every_ns", (json_int_t)o->machine.dirty_every_ns, "pages",
                  (json_int_t)pages, "harvests", list);
    if (o->machine.dirty_verify)
        json_object_set_new(j, "missed", json_integer((json_int_t)missed));
    return j;
}

static json_t *handovers_json(struct machine *m) {
    unsigned count;
    const struct machine_switch *s = machine_switches(m, &count);
    json_t *list = json_array();
    for (unsigned i = 0; i < count; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:I, s:I, s:s}", "from", s[i].from, "to", s[i].to,
                            "at_ns", (json_int_t)s[i].at_ns, "host_ns",
                            (json_int_t)s[i].host_ns, "mmu_detail", s[i].detail));
    return list;
}

json_t *run_track_json(const struct run_options *o, struct machine *m) {
    json_t *j = json_object();
    if (o->machine.dirty)
        json_object_set_new(j, "dirty_log", dirty_json(o, m));
    if (o->machine.handovers)
        json_object_set_new(j, "handovers", handovers_json(m));
    return j;
}

int run_check_dirty(struct machine *m) {
    unsigned count;
    const struct machine_harvest *h = machine_harvests(m, &count);
    for (unsigned i = 0; i < count; i++) {
        if (!h[i].missed)
            continue;
        cli_error("the dirty log missed %" PRIu64
                  " pages in harvest %u; the first is %" PRIx64,
                  h[i].missed, i, h[i].missed_gpa);
        return CLI_MISSED;
    }
    return CLI_OK;
}

void run_say_switches(const struct run_options *o, struct machine *m,
                      unsigned handovers) {
    unsigned count;
    const struct machine_switch *s = machine_switches(m, &count);
    for (unsigned i = 0; i < count; i++)
        if (pn_engine_find(s[i].to)->host_cpu && !o->quiet)
            cli_error("--handover %s: %s", s[i].to, s[i].detail);
    if (count < handovers)
        cli_error("warning: the guest ended before its handover number %u", count + 1);
}

void run_print_track(const json_t *track, FILE *out) {
    const json_t *dirty = json_object_get(track, "dirty_log"), *s;
    size_t i;
    if (dirty)
        fprintf(out, "\nDirty log (%s)\n  %-40s %16zu\n  %-40s %16lld\n",
                cli_text(dirty, "tracker"), "harvests",
                json_array_size(json_object_get(dirty, "harvests")), "pages in them",
                cli_number(dirty, "pages"));
    json_array_foreach(json_object_get(track, "handovers"), i, s) fprintf(
        out, "\nFrom %s to %s at %.3f ms, in %.3f ms\n  %s\n", cli_text(s, "from"),
        cli_text(s, "to"), (double)cli_number(s, "at_ns") / NS_PER_MS,
        (double)cli_number(s, "host_ns") / NS_PER_MS, cli_text(s, "mmu_detail"));
}
