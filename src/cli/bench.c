/* SPDX-License-Identifier: MIT */
/*
 * `penumbra bench`: the same workloads under each MMU, in turn.
 *
 * Invariants
 * 1. Repetitions alternate between the MMUs (A B A B), so that a slow drift of the host
 *    reaches all of them.
 * 2. A point is finished under every MMU before the next begins; an interrupt keeps the
 *    finished ones and drops the one at hand.
 */
#include "cli/bench.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define FOREVER 1e18 /* seconds */

/* The one machine of this process, and whether to stop: signal handlers reach them here.
 */
static struct machine *volatile running;
static volatile sig_atomic_t stop_signal;

static void on_signal(int sig) {
    if (stop_signal) /* the second one does not wait */
        _exit(128 + sig);
    stop_signal = sig;
    struct machine *m = running;
    if (m)
        machine_quit(m);
}

/* One point under one MMU. */
struct lane {
    struct measure_sample *samples;
    size_t n;
    struct measure_sample model; /* of the modelled run */
    bool modelled;
    uint64_t digest; /* of guest memory at the first run's end; 0: not taken */
    double seconds;  /* spent on it */
    char failure[256];
    bool failed, cannot; /* cannot: nobody could, with that MMU on this host */
};

struct bench {
    struct bench_options o;
    json_t *doc;
    struct bench_out json, html;
    struct lane lane[LINEUP_MAX];
    struct spent {
        unsigned runs; /* done, or left out */
        double seconds;
    } plain[LINEUP_MAX], model[LINEUP_MAX];
    unsigned points_done;
    double started;
    double share; /* seconds that the point at hand may take under one MMU */
    bool tty, any_failed;
};

static double now(void) {
    return (double)host_ns() / 1e9;
}

/* ---- Progress ---- */

static void clear_progress(const struct bench *b) {
    if (b->tty)
        fputs("\r\033[K", stderr);
}

/* Are TLBs modelled under that MMU? Under the software CPU's alone. */
static bool has_model(const struct bench *b, unsigned mmu) {
    return b->o.model.on && !b->o.lineup.mmu[mmu].engine->host_cpu;
}

/* Seconds that are left of the total; without one more than anybody waits. */
static double total_left(const struct bench *b) {
    double left =
        b->o.total_ns ? (double)b->o.total_ns / 1e9 - (now() - b->started) : FOREVER;
    return left > 0 ? left : 0;
}

/* Seconds that `total` runs still take if they go on as they did; below 0: not known. */
static double left_of(const struct spent *s, unsigned total) {
    if (!s->runs)
        return -1;
    return total > s->runs ? (total - s->runs) * s->seconds / s->runs : 0;
}

/* Seconds that are left if all runs go on as they did; below 0: not known yet. */
static double time_left(const struct bench *b) {
    unsigned points = b->o.plan.units, per_point = b->o.repeat + b->o.warmup;
    double left = 0;
    for (unsigned i = 0; i < b->o.lineup.n; i++) {
        double plain = left_of(&b->plain[i], per_point * points);
        double model = has_model(b, i) ? left_of(&b->model[i], points) : 0;
        if (plain < 0)
            return -1;
        /* Until the first modelled run: as long as another. */
        left += plain + (model < 0 ? b->plain[i].seconds / per_point : model);
    }
    return left < total_left(b) ? left : total_left(b);
}

static void show_progress(const struct bench *b, const struct plan_unit *u, unsigned mmu,
                          const char *run) {
    double left = time_left(b);
    if (!b->tty)
        return;
    fprintf(stderr, "\r\033[K[%u/%u] %s %s  %s  %s", b->points_done + 1, b->o.plan.units,
            u->workload, u->label, b->o.lineup.mmu[mmu].label, run);
    if (left >= 0)
        fprintf(stderr, "  about %u:%02u left", (unsigned)left / 60, (unsigned)left % 60);
    fflush(stderr);
}

/* ---- Runs ---- */

/* Of the total a point may take three times its even share: most need less. */
static double share_of_point(const struct bench *b) {
    double budget = b->o.budget_ns ? (double)b->o.budget_ns / 1e9 : FOREVER;
    double share = 3 * total_left(b) / (b->o.plan.units - b->points_done) / b->o.lineup.n;
    return share < budget ? share : budget;
}

static bool over_budget(const struct bench *b, const struct lane *lane) {
    return lane->seconds >= b->share;
}

/* One run of a point. Return: as measure_run; the lane failed then. */
static int run_once(struct bench *b, const struct plan_unit *u, unsigned mmu,
                    const struct pn_tlb_model *tlb, bool digest,
                    struct measure_sample *sample, struct spent *spent) {
    struct lane *lane = &b->lane[mmu];
    char append[512];
    const struct measure_config cfg = {
        .engine = b->o.lineup.mmu[mmu].engine,
        .mmu = &b->o.lineup.mmu[mmu].opt,
        .append = append,
        .ram = b->o.ram,
        .numa = b->o.numa,
        .timeout_ns = b->o.timeout_ns,
        .kernel = u->linux_guest ? b->o.kernel : NULL,
        .initrd = u->linux_guest ? b->o.initrd : NULL,
        .log_dirty = u->logs_dirty,
        .whole = u->boots,
        .digest = digest,
        .tlb = tlb,
        .running = &running,
    };
    plan_append(u, append, sizeof(append));
    double took = -now();
    int rc = measure_run(&cfg, sample, lane->failure, sizeof(lane->failure));
    took += now();
    spent->seconds += took;
    lane->seconds += took;
    lane->failed = rc != 0;
    lane->cannot = rc == -ENOTSUP;
    return rc;
}

static void one_run(struct bench *b, const struct plan_unit *u, unsigned mmu,
                    unsigned run) {
    struct lane *lane = &b->lane[mmu];
    struct measure_sample s;
    char text[48];
    b->plain[mmu].runs++;
    if (lane->failed || (lane->n && over_budget(b, lane)))
        return;
    snprintf(text, sizeof(text), "run %u of %u", run + 1, b->o.repeat + b->o.warmup);
    show_progress(b, u, mmu, text);
    bool digest = run == 0 && !b->o.lineup.mmu[mmu].engine->host_cpu;
    if (run_once(b, u, mmu, NULL, digest, &s, &b->plain[mmu]))
        return;
    if (digest)
        lane->digest = s.ram_digest;
    /* A run that takes the whole budget needs no warm-up, and counts. */
    if (run < b->o.warmup && !over_budget(b, lane))
        json_decref(s.foreign);
    else
        lane->samples[lane->n++] = s;
}

/* The run whose TLBs are modelled: one, for it is deterministic. */
static void model_run(struct bench *b, const struct plan_unit *u, unsigned mmu) {
    struct lane *lane = &b->lane[mmu];
    b->model[mmu].runs++;
    if (lane->failed)
        return;
    show_progress(b, u, mmu, "modelled run");
    lane->modelled =
        !run_once(b, u, mmu, &b->o.model.tlb, false, &lane->model, &b->model[mmu]);
}

static void clear_lane(struct lane *lane) {
    for (size_t i = 0; i < lane->n; i++)
        json_decref(lane->samples[i].foreign);
    lane->n = 0;
    lane->seconds = 0;
    lane->digest = 0;
    lane->failed = lane->cannot = lane->modelled = false;
}

static void differs(struct bench *b, const struct plan_unit *u, unsigned mmu,
                    const char *what) {
    cli_error("%s %s: --mmu %s %s", u->workload, u->label, b->o.lineup.mmu[mmu].label,
              what);
    b->any_failed = true;
}

/* The guest must have done the same under every MMU, and with a model. */
static void check_same(struct bench *b, const struct plan_unit *u) {
    const struct lane *first = NULL, *soft = NULL;
    for (unsigned i = 0; i < b->o.lineup.n; i++) {
        const struct lane *l = &b->lane[i];
        const struct measure_sample *s = l->samples, *m = &l->model;
        if (l->failed)
            continue;
        if (first && strcmp(first->samples->checksum, s->checksum) != 0)
            differs(b, u, i, "computed another checksum");
        if (soft && s->guest_insns && soft->samples->guest_insns != s->guest_insns)
            differs(b, u, i, "ran another number of instructions");
        if (soft && l->digest && soft->digest != l->digest)
            differs(b, u, i, "left other bytes in guest memory");
        if (l->modelled &&
            (m->guest_insns != s->guest_insns || strcmp(m->checksum, s->checksum) != 0))
            differs(b, u, i, "did something else with modelled TLBs");
        first = l;
        soft = s->guest_insns ? l : soft;
    }
}

static int keep(struct bench *b, const struct plan_unit *u) {
    int rc = 0;
    clear_progress(b);
    for (unsigned i = 0; i < b->o.lineup.n && !rc; i++) {
        struct lane *l = &b->lane[i];
        if (l->failed) {
            cli_error("%s %s under --mmu %s: %s", u->workload, u->label,
                      b->o.lineup.mmu[i].label, l->failure);
            b->any_failed = b->any_failed || !l->cannot || b->o.mmus_named;
        }
        const struct result_input in = {
            .unit = u,
            .mmu = &b->o.lineup.mmu[i],
            .samples = l->samples,
            .n = l->failed ? 0 : l->n,
            .failure = l->failure,
            .model = l->modelled && !l->failed ? &l->model : NULL,
            .tlb = &b->o.model.tlb,
            .cost = &b->o.model.cost,
            .digest = l->digest,
        };
        rc = result_add(b->doc, &in);
    }
    check_same(b, u);
    return rc;
}

/* One point under every MMU. Return: 0 or -errno. */
static int one_point(struct bench *b, const struct plan_unit *u) {
    unsigned runs = b->o.warmup + b->o.repeat;
    b->share = share_of_point(b);
    for (unsigned run = 0; run < runs && !stop_signal; run++)
        for (unsigned i = 0; i < b->o.lineup.n && !stop_signal; i++)
            one_run(b, u, i, run);
    for (unsigned i = 0; i < b->o.lineup.n && !stop_signal; i++)
        if (has_model(b, i))
            model_run(b, u, i);
    int rc = stop_signal ? 0 : keep(b, u);
    for (unsigned i = 0; i < b->o.lineup.n; i++)
        clear_lane(&b->lane[i]);
    b->points_done++;
    return rc;
}

static json_t *settings_json(const struct bench_options *o) {
    json_t *mmus = json_array();
    for (unsigned i = 0; i < o->lineup.n; i++)
        json_array_append_new(mmus, json_string(o->lineup.mmu[i].label));
    json_t *s = json_pack(
        "{s:b, s:i, s:i, s:f, s:f, s:o, s:I, s:s?, s:s?}", "quick", o->quick, "repeat",
        (int)o->repeat, "warmup", (int)o->warmup, "budget_s", (double)o->budget_ns / 1e9,
        "total_s", (double)o->total_ns / 1e9, "mmus", mmus, "memory", (json_int_t)o->ram,
        "tlb", o->model.on ? o->model.tlb.name : NULL, "cost_profile",
        o->model.on ? o->model.cost.name : NULL);
    if (s && o->shards)
        json_object_set_new(
            s, "shard",
            json_pack("{s:i, s:i}", "index", (int)o->shard, "of", (int)o->shards));
    return s;
}

static int allocate(struct bench *b) {
    b->doc = result_new(PENUMBRA_VERSION, bench_host_json(&b->o), settings_json(&b->o));
    bool ok = b->doc != NULL;
    for (unsigned i = 0; i < b->o.lineup.n; i++) {
        b->lane[i].samples =
            calloc(b->o.repeat + b->o.warmup, sizeof(*b->lane[i].samples));
        ok = ok && b->lane[i].samples;
    }
    if (!ok)
        cli_error("out of memory");
    return ok ? CLI_OK : CLI_HOST;
}

static void handle_signals(void) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction sa = {.sa_handler = on_signal};
    sigemptyset(&sa.sa_mask);
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaction(signals[i], &sa, NULL);
}

/* All points, then the files; what is finished is written even when something fails. */
static int run_all(struct bench *b) {
    int code = CLI_OK;
    handle_signals();
    b->tty = isatty(STDERR_FILENO);
    b->started = now();
    for (unsigned i = 0; i < b->o.plan.units && !code && !stop_signal; i++)
        if (one_point(b, &b->o.plan.unit[i])) {
            code = cli_error("out of memory");
        }
    clear_progress(b);
    if (stop_signal) {
        json_object_set_new(b->doc, "interrupted", json_true());
        cli_error("interrupted: %u of %u points are finished",
                  b->points_done ? b->points_done - 1 : 0, b->o.plan.units);
    }
    const struct bench_options *o = &b->o;
    bool taken = (o->json && outfile_is_stdout(o->json)) ||
                 (o->html && outfile_is_stdout(o->html));
    bench_table_print(b->doc, taken ? stderr : stdout);
    code = cli_flush(code);
    if (bench_out_json(&b->json, b->doc) || bench_out_page(&b->html, b->doc))
        code = CLI_HOST;
    return code ? code : b->any_failed ? CLI_HOST : CLI_OK;
}

int cmd_bench(int argc, char **argv) {
    struct bench b = {.json.file.fd = -1, .html.file.fd = -1};
    bool done;
    int code = bench_options_parse(&b.o, argc, argv, &done);
    if (code || done)
        return code;
    code = bench_out_open(&b.json, b.o.json);
    if (!code)
        code = bench_out_open(&b.html, b.o.html);
    if (!code)
        code = bench_place(&b.o);
    if (!code)
        code = allocate(&b);
    if (!code)
        code = run_all(&b);
    for (unsigned i = 0; i < b.o.lineup.n; i++)
        free(b.lane[i].samples);
    json_decref(b.doc);
    outfile_abandon(&b.json.file);
    outfile_abandon(&b.html.file);
    if (stop_signal) {
        /* Die of the signal, now that all is put away: what started us can tell. */
        signal(stop_signal, SIG_DFL);
        raise(stop_signal);
    }
    return code;
}
