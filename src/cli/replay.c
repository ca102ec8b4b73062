/* SPDX-License-Identifier: MIT */
/* `penumbra replay`: what `penumbra run --record` wrote is done to other MMUs. */
#include "cli/replay.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "base/thread.h"
#include "cli/option.h"

#define MMU_OPTS_MAX 32u

struct options {
    const char *path, *json, *csv, *html, *tlb_name;
    struct lineup lineup;
    const char *mmu_opt[MMU_OPTS_MAX];
    unsigned mmu_opts, jobs;
    bool counters;
    struct cli_model model;
};

static int set_mmus(void *options, const char *arg, struct err *e) {
    return lineup_add(&((struct options *)options)->lineup, arg, e);
}

static int set_mmu_opt(void *options, const char *arg, struct err *e) {
    struct options *o = options;
    struct pn_mmu_options trial;
    pn_mmu_options_default(&trial);
    int rc = option_of_mmu(&trial, arg, e);
    if (rc)
        return rc;
    if (o->mmu_opts == MMU_OPTS_MAX)
        return err_set(e, -EINVAL, "more than %u options of the MMU", MMU_OPTS_MAX);
    o->mmu_opt[o->mmu_opts++] = arg;
    return 0;
}

static int set_path(void *options, const char *arg, struct err *e) {
    return option_only(&((struct options *)options)->path, arg, e);
}

#define OWN(field) OPTION_FIELD(struct options, field)

static const struct option_row rows[] = {
    {.kind = OPTION_HEADING, .doc = "The MMUs:"},
    {"mmu", 0, "M[:NAME=V[/V...]+...],...",
     "MMUs, each with options of its own, as in 'penumbra bench' (default: the one that "
     "was recorded)",
     .kind = OPTION_CALL, .set = set_mmus, .list = pn_mmu_options_print},
    {"mmu-opt", 0, "NAME=VALUE",
     "Without --mmu: the recorded MMU with this option; may be repeated",
     .kind = OPTION_CALL, .set = set_mmu_opt, .list = pn_mmu_options_print},
    {"tlb", 0, "MODEL",
     "TLBs and walk caches: a shipped model, a JSON file or off (default: as recorded)",
     .kind = OPTION_TEXT, OWN(tlb_name), .min = 1, .file = 'r', .list = profile_list},
    {"jobs", 'j', "N", "MMUs at a time (default: one for each CPU)",
     .kind = OPTION_NUMBER, OWN(jobs), .min = 1, .max = LINEUP_MAX},
    {.kind = OPTION_HEADING, .doc = "What is written:"},
    {"counters", 0, NULL, "Print every counter", .kind = OPTION_FLAG, OWN(counters)},
    {"json", 0, "FILE", "All of it as JSON; see bench/FORMATS.md", .kind = OPTION_TEXT,
     OWN(json), .min = 1, .list = cli_counters, .file = 'w'},
    {"csv", 0, "FILE", "Every counter as CSV, a line for each MMU", .kind = OPTION_TEXT,
     OWN(csv), .min = 1, .file = 'w'},
    {"html", 0, "FILE", "A page with charts and tables", .kind = OPTION_TEXT, OWN(html),
     .min = 1, .file = 'w'},
};

enum { OUT_JSON, OUT_CSV, OUT_HTML, OUTS };

static const struct options defaults = {.jobs = 0};

static const struct option_command command = {
    .name = "penumbra replay",
    .args = "FILE",
    .doc = "Do to other MMUs what 'penumbra run --record FILE' saw done to one, without "
           "the guest. Into the recorded MMU it gives the same counters, which is "
           "checked. "
           "FILE may be -, standard input, for one MMU.",
    .more =
        "What a recording cannot know: accesses that the recorded MMU's TLB answered. "
        "An MMU whose TLB loses more has misses that are not there; record with --tlb "
        "MODEL, and every access is there but repeats of a page used last. The guest's "
        "accessed and dirty bits are as under the recorded MMU wherever it stored "
        "them itself.\n\n"
        "Exit codes: 0 all is done; 1 a file cannot be read or written; 2 usage, or no "
        "recording; 7 damaged or incomplete: what can be read was done; 9 the recorded "
        "MMU's counters are not what they were.\n\nExample: penumbra replay f "
        "--mmu shadow,shadow:unsync=0,tdp",
    .rows = rows,
    .count = sizeof(rows) / sizeof(rows[0]),
    .defaults = &defaults,
    .arg = set_path,
};

/* ---- Which MMUs ---- */

static void study_add(struct replay_study *s, const struct lineup_mmu *m) {
    struct replay_one *one = &s->one[s->n++];
    one->cfg = s->recorded;
    one->mmu = m;
    snprintf(one->label, sizeof(one->label), "%s",
             m                                   ? m->label
             : s->recorded.kind == PN_MMU_SHADOW ? "shadow"
                                                 : "tdp");
    if (!m)
        return;
    one->cfg.opt = m->opt;
    one->cfg.kind = strcmp(m->engine->name, "tdp") ? PN_MMU_SHADOW : PN_MMU_TDP;
    if (m->log && !pn_dirty_by_host(m->log))
        one->cfg.tracker = m->log;
    if (!m->engine->has_tracker(one->cfg.tracker))
        one->cfg.tracker = PN_TRACKER_WP;
}

static int add_recorded(struct replay_study *s, const struct options *o) {
    study_add(s, NULL);
    struct replay_one *one = &s->one[0];
    for (unsigned i = 0; i < o->mmu_opts; i++) {
        const char *only = pn_mmu_option_only(o->mmu_opt[i]);
        size_t used = strlen(one->label);
        if (only && strcmp(only, s->recorded.kind == PN_MMU_TDP ? "tdp" : "shadow") != 0)
            return option_error(&command, "--mmu-opt %s: only %s has it", o->mmu_opt[i],
                                only);
        pn_mmu_option_set(&one->cfg.opt, o->mmu_opt[i]);
        snprintf(one->label + used, sizeof(one->label) - used, "%c%s", i ? '+' : ':',
                 o->mmu_opt[i]);
    }
    return CLI_OK;
}

static int choose_tlb(struct replay_study *s, struct options *o) {
    char text[256];
    struct err e = {text, sizeof(text)};
    int rc = cli_model(o->tlb_name, NULL, &o->model, &e);
    if (rc)
        return rc == -EINVAL ? option_error(&command, "%s", text) : cli_error("%s", text);
    if (o->model.on && !s->recorded.tlb)
        return option_error(&command,
                            "--tlb: %s was recorded without one, and has not the "
                            "accesses that a model needs",
                            s->path);
    for (unsigned i = 0; o->tlb_name && i < s->n; i++)
        s->one[i].cfg.tlb = o->model.on ? &o->model.tlb : NULL;
    return CLI_OK;
}

static bool like_recorded(const struct replay_study *s, const struct pn_mmu_config *c) {
    const struct pn_mmu_config *r = &s->recorded;
    return c->kind == r->kind && c->tracker == r->tracker &&
           !memcmp(&c->opt, &r->opt, sizeof(c->opt)) && !c->tlb == !r->tlb &&
           (!c->tlb || !memcmp(c->tlb, r->tlb, sizeof(*c->tlb)));
}

static int choose(struct replay_study *s, struct options *o) {
    for (unsigned i = 0; i < o->lineup.n; i++) {
        if (o->lineup.mmu[i].engine->host_cpu)
            return option_error(&command, "--mmu %s: not an MMU of ours",
                                o->lineup.mmu[i].engine->name);
        study_add(s, &o->lineup.mmu[i]);
    }
    int code = s->n ? CLI_OK : add_recorded(s, o);
    if (!code)
        code = choose_tlb(s, o);
    for (unsigned i = 0; i < s->n; i++)
        s->one[i].as_recorded = like_recorded(s, &s->one[i].cfg);
    return code;
}

/* ---- The work ---- */

struct work {
    struct replay_study *study;
    struct recording *first; /* already open: the first MMU's */
    atomic_uint next;
};

static void compare(struct replay_one *one, const struct recording *r) {
    const bool *known;
    const struct pn_stats *was = recording_total(r, &known);
    for (unsigned i = 0; i < PN_STAT_COUNT; i++) {
        if (!known[i] || !replay_counts((enum pn_stat)i) ||
            was->v[i] == one->result.total.v[i] || one->differ++)
            continue;
        one->first = (enum pn_stat)i;
        one->recorded = was->v[i];
    }
}

static void do_one(struct replay_study *s, struct replay_one *one, struct recording *r) {
    struct err e = {one->err, sizeof(one->err)};
    struct recording *own = NULL;
    if (!r) {
        one->rc = recording_file_open(s->path, &own, &e);
        r = own;
    }
    if (!r)
        return;
    one->rc = replay_run(r, &one->cfg, REPLAY_MEMORY_MAX, &one->result, &e);
    one->state = recording_state(r);
    one->ops = recording_ops(r);
    if (!one->rc && one->as_recorded && one->state == RECORDING_WHOLE)
        compare(one, r);
    recording_free(own);
}

static void *worker(void *opaque) {
    struct work *w = opaque;
    for (unsigned i; (i = atomic_fetch_add(&w->next, 1)) < w->study->n;)
        do_one(w->study, &w->study->one[i], i ? NULL : w->first);
    return NULL;
}

/* This thread is one of them; fewer than `jobs` where the host has no more. */
static void do_all(struct replay_study *s, struct recording *first, unsigned jobs) {
    struct work w = {.study = s, .first = first};
    pthread_t thread[LINEUP_MAX];
    cpu_set_t cpus;
    unsigned n = 0;
    if (!jobs)
        jobs = sched_getaffinity(0, sizeof(cpus), &cpus) ? 1 : (unsigned)CPU_COUNT(&cpus);
    while (n + 1 < jobs && n + 1 < s->n && thread_start(&thread[n], worker, &w) == 0)
        n++;
    worker(&w);
    while (n)
        pthread_join(thread[--n], NULL);
}

/* ---- The end ---- */

/* What is to be said of one replay. Return: its exit code. */
static int conclude(const struct replay_study *s, const struct replay_one *one) {
    if (one->rc) {
        cli_error("%s: %s: %s", s->path, one->label, one->err);
        return one->rc == -EBADMSG ? CLI_DAMAGED : CLI_HOST;
    }
    if (one->differ)
        cli_error("%s: %s: %u counters are not what they were when it was recorded, the "
                  "first %s: %" PRIu64 ", then %" PRIu64,
                  s->path, one->label, one->differ, pn_stat_name(one->first),
                  one->result.total.v[one->first], one->recorded);
    return one->differ ? CLI_DIFFERS : CLI_OK;
}

static int conclude_all(const struct replay_study *s) {
    int code = CLI_OK;
    for (unsigned i = 0; i < s->n; i++) {
        int one = conclude(s, &s->one[i]);
        code = code ? code : one;
    }
    const struct replay_one *first = &s->one[0];
    if (first->rc)
        return code;
    if (first->state == RECORDING_INCOMPLETE)
        cli_error("%s: incomplete: it ends after %" PRIu64 " operations, without its end",
                  s->path, first->ops);
    else if (first->state == RECORDING_DAMAGED)
        cli_error("%s: damaged, behind %" PRIu64 " operations", s->path, first->ops);
    return first->state == RECORDING_WHOLE ? code : CLI_DAMAGED;
}

static int write_csv(const struct replay_study *s, struct bench_out *out) {
    if (!out->path)
        return CLI_OK;
    int rc = replay_csv(s, out->file.fd);
    if (!rc)
        rc = outfile_commit(&out->file);
    return rc ? cli_cannot_write(out->path, rc) : CLI_OK;
}

static int write_files(const struct replay_study *s, json_t *typed,
                       struct bench_out out[OUTS]) {
    json_t *doc = replay_json(s, typed);
    int code = bench_out_json(&out[OUT_JSON], doc);
    if (!code)
        code = bench_out_with(&out[OUT_HTML], doc, replay_write_page);
    json_decref(doc);
    return code ? code : write_csv(s, &out[OUT_CSV]);
}

static int study(struct options *o, json_t *typed, struct bench_out out[OUTS]) {
    char text[256];
    struct err e = {text, sizeof(text)};
    static struct replay_study s; /* of this process's one command; it is large */
    struct recording *r = NULL;
    int rc = recording_file_open(o->path, &r, &e);
    if (rc) {
        cli_error("%s", text);
        return rc == -EINVAL ? CLI_USAGE : rc == -EBADMSG ? CLI_DAMAGED : CLI_HOST;
    }
    s.path = o->path;
    s.recorded = *recording_config(r);
    int code = choose(&s, o);
    if (!code) {
        bool beside = false;
        for (unsigned i = 0; i < OUTS; i++)
            beside |= out[i].path && outfile_is_stdout(out[i].path);
        do_all(&s, r, o->jobs);
        replay_print(&s, o->counters, beside ? stderr : stdout);
        code = write_files(&s, typed, out);
        int end = conclude_all(&s);
        code = code ? code : end;
    }
    recording_free(r);
    return code;
}

int cmd_replay(int argc, char **argv) {
    struct options o = defaults;
    struct bench_out out[OUTS];
    bool done;
    int code = option_parse(&command, argc, argv, &o, &done);
    if (code || done)
        return code;
    if (!o.path)
        return option_error(&command, "which file?");
    if (o.mmu_opts && o.lineup.n)
        return option_error(&command, "--mmu-opt: --mmu has each MMU's options");
    if (!strcmp(o.path, "-") && o.lineup.n > 1)
        return option_error(&command, "standard input does for one MMU alone");
    const char *const names[] = {"json", "csv", "html"};
    const char *const to[] = {o.json, o.csv, o.html};
    for (unsigned i = 0; i < OUTS; i++)
        if (to[i] && strcmp(o.path, "-") != 0 && outfile_same(to[i], o.path))
            return option_error(&command, "--%s %s would replace the recording", names[i],
                                to[i]);
    json_t *typed = cli_command(argc, argv);
    for (unsigned i = 0; i < OUTS; i++)
        out[i] = (struct bench_out){.file.fd = -1};
    for (unsigned i = 0; i < OUTS && !code; i++)
        code = bench_out_open(&out[i], to[i]);
    if (!code)
        code = study(&o, typed, out);
    for (unsigned i = 0; i < OUTS; i++)
        outfile_abandon(&out[i].file);
    json_decref(typed);
    return code;
}
