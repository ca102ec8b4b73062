/* SPDX-License-Identifier: MIT */
/* --dirty-log and --handover: their options, and their part of the report. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/run.h"

#define NS_PER_MS 1000000.0

/* Milliseconds, "2" or "0.5", as nanoseconds. Return: 0, -EINVAL or -ERANGE. */
static int parse_ms(const char *text, uint64_t *ns) {
    int rc = parse_seconds(text, ns);
    if (rc == 0)
        *ns = (*ns + 500) / 1000;
    return rc == 0 && !*ns ? -ERANGE : rc;
}

static void list_trackers(void) {
    for (int i = PN_TRACKER_OFF + 1; i < PN_TRACKERS; i++)
        printf("%-8s %s\n", pn_dirty_name(i), pn_dirty_doc(i));
}

error_t run_parse_dirty(struct run_options *o, enum run_dirty_option option, char *arg,
                        struct argp_state *state, bool *listed) {
    struct machine_config *m = &o->machine;
    int rc;
    switch (option) {
    case RUN_DIRTY_LOG:
        if (!strcmp(arg, "help")) {
            list_trackers();
            *listed = true;
            return 0;
        }
        rc = pn_dirty_find(arg);
        if (rc <= PN_TRACKER_OFF)
            return cli_bad_arg(state, "--dirty-log %s: no such way ('--dirty-log help')",
                               arg);
        m->dirty = rc;
        return 0;
    case RUN_DIRTY_EVERY:
        if (parse_ms(arg, &m->dirty_every_ns))
            return cli_bad_arg(state, "--dirty-every %s: not milliseconds", arg);
        return 0;
    case RUN_DIRTY_VERIFY:
        m->dirty_verify = true;
        return 0;
    case RUN_DIRTY_PAGES:
        m->dirty_pages = true;
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

error_t run_parse_handover(struct run_options *o, char *arg, struct argp_state *state) {
    struct machine_config *m = &o->machine;
    struct machine_handover *h = &m->handover[m->handovers];
    if (m->handovers == MACHINE_HANDOVERS_MAX)
        return cli_bad_arg(state, "--handover: more than %u", MACHINE_HANDOVERS_MAX);
    char *at = strchr(arg, '@');
    char name[16];
    snprintf(name, sizeof(name), "%.*s", at ? (int)(at - arg) : (int)strlen(arg), arg);
    h->to = pn_engine_find(name);
    h->at_ns = 0;
    if (!h->to)
        return cli_bad_arg(state, "--handover %s: not one of shadow, tdp, kvm", arg);
    if (at && parse_ms(at + 1, &h->at_ns))
        return cli_bad_arg(state, "--handover %s: not MMU@MILLISECONDS", arg);
    m->handovers++;
    return 0;
}

const char *run_check_track(const struct run_options *o) {
    const struct machine_config *m = &o->machine;
    if (m->dirty)
        return m->handovers ? "--dirty-log does not go with --handover" : NULL;
    if (m->dirty_every_ns)
        return "--dirty-every needs --dirty-log";
    if (m->dirty_verify)
        return "--dirty-verify needs --dirty-log";
    return m->dirty_pages ? "--dirty-pages needs --dirty-log" : NULL;
}

/* ---- After the run ---- */

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
        cli_error("the dirty log missed %" PRIu64 " pages in harvest %u; the first is "
                  "%" PRIx64,
                  h[i].missed, i, h[i].missed_gpa);
        return CLI_HOST;
    }
    return CLI_OK;
}

void run_say_switches(struct machine *m, unsigned handovers) {
    unsigned count;
    const struct machine_switch *s = machine_switches(m, &count);
    for (unsigned i = 0; i < count; i++)
        if (pn_engine_find(s[i].to)->threaded)
            cli_error("--handover %s: %s", s[i].to, s[i].detail);
    if (count < handovers)
        cli_error("the guest ended before its handover number %u", count + 1);
}

void run_print_track(const json_t *track, FILE *out) {
    const json_t *dirty = json_object_get(track, "dirty_log"), *s;
    size_t i;
    if (dirty)
        fprintf(out, "\nDirty log (%s)\n  %-40s %16zu\n  %-40s %16lld\n",
                json_string_value(json_object_get(dirty, "tracker")), "harvests",
                json_array_size(json_object_get(dirty, "harvests")), "pages in them",
                (long long)json_integer_value(json_object_get(dirty, "pages")));
    json_array_foreach(json_object_get(track, "handovers"), i, s)
        fprintf(out, "\nFrom %s to %s at %.3f ms, in %.3f ms\n  %s\n",
                json_string_value(json_object_get(s, "from")),
                json_string_value(json_object_get(s, "to")),
                (double)json_integer_value(json_object_get(s, "at_ns")) / NS_PER_MS,
                (double)json_integer_value(json_object_get(s, "host_ns")) / NS_PER_MS,
                json_string_value(json_object_get(s, "mmu_detail")));
}
