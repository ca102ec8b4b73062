/* SPDX-License-Identifier: MIT */
/*
 * `penumbra bench`: the same workloads under each MMU, in turn.
 *
 * Invariants
 * 1. Each run has a process of its own (bench/harness/measure.h).
 * 2. Repetitions go round: each point under every MMU once, then all of them again. So
 *    the samples of a point spread over the whole time, and what disturbs the host for a
 *    while reaches few of each.
 * 3. An interrupt keeps each point that ran under every MMU, and drops the others.
 */
#include "cli/bench.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define FOREVER 1e18 /* seconds */

/* The process of the run at hand, and whether to stop: signal handlers reach them here. */
static volatile sig_atomic_t stop_signal;
static struct measure_child child = {.stop = &stop_signal};

static void on_signal(int sig) {
    pid_t pid = child.pid;
    if (pid > 0)
        kill(pid, SIGKILL);
    if (stop_signal) /* the second one does not wait */
        _exit(128 + sig);
    stop_signal = sig;
}

/* One point under one MMU. */
struct lane {
    struct measure_sample *samples;
    size_t n;
    struct measure_sample model; /* of the modelled run */
    bool modelled;
    uint64_t digest; /* of guest memory at the first run's end; 0: not taken */
    double seconds;  /* spent on plain runs */
    char failure[256];
    bool failed, cannot; /* cannot: nobody could, with that MMU on this host */
};

struct bench {
    struct bench_options o;
    json_t *doc, *command;
    struct bench_out json, html;
    struct lane *lane; /* of each point one for each MMU */
    double started, model_seconds;
    unsigned model_runs, kept;
    bool tty, any_failed;
};

static double now(void) {
    return (double)host_ns() / 1e9;
}

static struct lane *lane_of(const struct bench *b, unsigned point, unsigned mmu) {
    return &b->lane[point * b->o.lineup.n + mmu];
}

static unsigned rounds(const struct bench *b) {
    return b->o.warmup + b->o.repeat;
}

/* Are TLBs modelled under that MMU? Under the software CPU's alone. */
static bool has_model(const struct bench *b, unsigned mmu) {
    return b->o.model.on && !b->o.lineup.mmu[mmu].engine->host_cpu;
}

/* ---- Progress ---- */

static void clear_progress(const struct bench *b) {
    if (b->tty)
        fputs("\r\033[K", stderr);
}

/* Seconds that are left of the total; without one more than anybody waits. */
static double total_left(const struct bench *b) {
    double left =
        b->o.total_ns ? (double)b->o.total_ns / 1e9 - (now() - b->started) : FOREVER;
    return left > 0 ? left : 0;
}

/* Seconds that are left if all runs go on as they did; below 0: not known yet. */
static double time_left(const struct bench *b) {
    unsigned lanes = b->o.plan.units * b->o.lineup.n, fresh = 0, runs = 0, models = 0;
    double left = 0, spent = 0;
    for (unsigned i = 0; i < lanes; i++) {
        const struct lane *l = &b->lane[i];
        models += has_model(b, i % b->o.lineup.n);
        fresh += !l->n && !l->failed;
        runs += (unsigned)l->n;
        spent += l->seconds;
        if (l->n)
            left += (double)(rounds(b) - l->n) * l->seconds / (double)l->n;
    }
    if (!runs)
        return -1;
    left += fresh * rounds(b) * spent / runs;
    if (left > total_left(b))
        left = total_left(b);
    if (b->model_runs)
        left += (models - b->model_runs) * b->model_seconds / b->model_runs;
    return left;
}

static void show_progress(const struct bench *b, unsigned point, unsigned mmu,
                          const char *run) {
    const struct plan_unit *u = &b->o.plan.unit[point];
    double left = time_left(b);
    if (!b->tty)
        return;
    fprintf(stderr, "\r\033[K[%u/%u] %s %s  %s  %s", point + 1, b->o.plan.units,
            u->workload, u->label, b->o.lineup.mmu[mmu].label, run);
    if (left >= 0)
        fprintf(stderr, "  about %u:%02u left", (unsigned)left / 60, (unsigned)left % 60);
    fflush(stderr);
}

/* ---- Runs ---- */

/* Would another run of the lane take too long? */
static bool over_budget(const struct bench *b, const struct lane *lane) {
    double budget = b->o.budget_ns ? (double)b->o.budget_ns / 1e9 : FOREVER;
    return lane->seconds >= budget || lane->seconds / (double)lane->n >= total_left(b);
}

/* One run of a point. Return: as measure_apart; unless stopped, the lane failed then. */
static int run_once(struct bench *b, unsigned point, unsigned mmu,
                    const struct pn_tlb_model *tlb, bool digest,
                    struct measure_sample *sample, double *seconds) {
    const struct plan_unit *u = &b->o.plan.unit[point];
    struct lane *lane = lane_of(b, point, mmu);
    const struct bench_options *o = &b->o;
    char append[512];
    if (u->needs_svm && b->o.lineup.mmu[mmu].engine->host_cpu) {
        snprintf(lane->failure, sizeof(lane->failure),
                 "needs AMD's virtualization, which the software CPU alone is asked for");
        lane->failed = lane->cannot = true;
        return -ENOTSUP;
    }
    const struct measure_config cfg = {
        .engine = b->o.lineup.mmu[mmu].engine,
        .mmu = &b->o.lineup.mmu[mmu].opt,
        .append = append,
        .cpu_model = u->needs_svm ? "max,vendor=amd,+svm" : NULL,
        .ram = b->o.ram,
        .numa = b->o.numa,
        .timeout_ns = b->o.timeout_ns,
        .kernel = u->debian_guest  ? o->debian.kernel
                  : u->linux_guest ? o->kernel
                                   : NULL,
        .initrd = u->debian_guest  ? o->debian.initrd
                  : u->linux_guest ? o->initrd
                                   : NULL,
        .devices = u->debian_guest ? o->debian.devices : NULL,
        .log_dirty = u->logs_dirty && !b->o.lineup.mmu[mmu].no_log,
        .tracker = b->o.lineup.mmu[mmu].log,
        .whole = u->boots,
        .digest = digest,
        .tlb = tlb,
    };
    plan_append(u, append, sizeof(append));
    *seconds -= now();
    int rc = measure_apart(&cfg, &child, sample, lane->failure, sizeof(lane->failure));
    *seconds += now();
    lane->failed = rc != 0 && !stop_signal;
    lane->cannot = rc == -ENOTSUP;
    return rc;
}

/* Return: 0 or -ENOMEM. */
static int one_run(struct bench *b, unsigned point, unsigned mmu, unsigned round) {
    struct lane *lane = lane_of(b, point, mmu);
    char text[48];
    if (lane->failed || (lane->n && over_budget(b, lane)))
        return 0;
    struct measure_sample *all =
        reallocarray(lane->samples, lane->n + 1, sizeof(*lane->samples));
    if (!all)
        return -ENOMEM;
    lane->samples = all;
    snprintf(text, sizeof(text), "run %u of %u", round + 1, rounds(b));
    show_progress(b, point, mmu, text);
    bool digest = round == 0 && !b->o.lineup.mmu[mmu].engine->host_cpu;
    if (run_once(b, point, mmu, NULL, digest, &all[lane->n], &lane->seconds))
        return 0;
    if (digest)
        lane->digest = all[lane->n].ram_digest;
    lane->n++;
    return 0;
}

/* The run whose TLBs are modelled: one, for it is deterministic. */
static void model_run(struct bench *b, unsigned point, unsigned mmu) {
    struct lane *lane = lane_of(b, point, mmu);
    b->model_runs++;
    if (lane->failed)
        return;
    show_progress(b, point, mmu, "modelled run");
    lane->modelled =
        !run_once(b, point, mmu, &b->o.model.tlb, false, &lane->model, &b->model_seconds);
}

/* Every point under every MMU. Return: 0 or -ENOMEM. */
static int one_round(struct bench *b, unsigned round) {
    int rc = 0;
    for (unsigned p = 0; p < b->o.plan.units && !rc; p++) {
        for (unsigned i = 0; i < b->o.lineup.n && !stop_signal && !rc; i++)
            rc = one_run(b, p, i, round);
        for (unsigned i = 0; i < b->o.lineup.n && !stop_signal && !rc && !round; i++)
            if (has_model(b, i))
                model_run(b, p, i);
    }
    return rc;
}

/* ---- What came of them ---- */

static void differs(struct bench *b, const struct plan_unit *u, unsigned mmu,
                    const char *what) {
    cli_error("%s %s: --mmu %s %s", u->workload, u->label, b->o.lineup.mmu[mmu].label,
              what);
    b->any_failed = true;
}

/* The guest must have done the same under every MMU, and with a model. */
static void check_same(struct bench *b, unsigned point) {
    const struct plan_unit *u = &b->o.plan.unit[point];
    const struct lane *first = NULL, *soft = NULL;
    for (unsigned i = 0; i < b->o.lineup.n; i++) {
        const struct lane *l = lane_of(b, point, i);
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

/* Did the point run under every MMU, and with a model where it should? */
static bool is_whole(const struct bench *b, unsigned point) {
    bool whole = true;
    for (unsigned i = 0; i < b->o.lineup.n; i++) {
        const struct lane *l = lane_of(b, point, i);
        whole = whole && (l->failed || (l->n && (l->modelled || !has_model(b, i))));
    }
    return whole;
}

static int keep(struct bench *b, unsigned point) {
    const struct plan_unit *u = &b->o.plan.unit[point];
    int rc = 0;
    for (unsigned i = 0; i < b->o.lineup.n && !rc; i++) {
        struct lane *l = lane_of(b, point, i);
        /* The first runs warm the host up; they count only where there are no others. */
        size_t warm = l->n > b->o.warmup ? b->o.warmup : l->n ? l->n - 1 : 0;
        if (l->failed) {
            cli_error("%s %s under --mmu %s: %s", u->workload, u->label,
                      b->o.lineup.mmu[i].label, l->failure);
            b->any_failed = b->any_failed || !l->cannot || b->o.mmus_named;
        }
        const struct result_input in = {
            .unit = u,
            .mmu = &b->o.lineup.mmu[i],
            .samples = l->samples + warm,
            .n = l->failed ? 0 : l->n - warm,
            .failure = l->failure,
            .model = l->modelled && !l->failed ? &l->model : NULL,
            .tlb = &b->o.model.tlb,
            .cost = &b->o.model.cost,
            .digest = l->digest,
        };
        rc = result_add(b->doc, &in);
    }
    check_same(b, point);
    b->kept++;
    return rc;
}

static json_t *settings_json(const struct bench_options *o) {
    json_t *mmus = json_array();
    for (unsigned i = 0; i < o->lineup.n; i++)
        json_array_append_new(mmus, json_string(o->lineup.mmu[i].label));
    json_t *s = json_pack(
        "{s:b, s:i, s:i, s:f, s:f, s:o, s:I, s:o, s:o}", "quick", o->quick, "repeat",
        (int)o->repeat, "warmup", (int)o->warmup, "budget_s", (double)o->budget_ns / 1e9,
        "total_s", (double)o->total_ns / 1e9, "mmus", mmus, "memory", (json_int_t)o->ram,
        "tlb", o->model.on ? profile_tlb_json(&o->model.tlb) : json_null(),
        "cost_profile", o->model.on ? profile_cost_json(&o->model.cost) : json_null());
    bool debian = *o->debian.disk;
    json_t *inputs = result_inputs(debian && !o->kernel ? o->debian.kernel : o->kernel,
                                   debian && !o->kernel ? o->debian.initrd : o->initrd);
    if (debian)
        json_object_set_new(inputs, "disk", bench_disk_json(&o->debian));
    json_object_set_new(s, "inputs", inputs);
    if (s && o->shards)
        json_object_set_new(
            s, "shard",
            json_pack("{s:i, s:i}", "index", (int)o->shard, "of", (int)o->shards));
    return s;
}

static int allocate(struct bench *b) {
    b->doc = result_new(PENUMBRA_VERSION, PENUMBRA_REVISION, b->command,
                        bench_host_json(&b->o), settings_json(&b->o));
    b->command = NULL;
    /* One more: a shard may have no points. */
    b->lane = calloc((size_t)b->o.plan.units * b->o.lineup.n + 1, sizeof(*b->lane));
    if (!b->doc || !b->lane)
        cli_error("out of memory");
    return b->doc && b->lane ? CLI_OK : CLI_HOST;
}

static void release(struct bench *b) {
    for (unsigned i = 0; b->lane && i < b->o.plan.units * b->o.lineup.n; i++) {
        struct lane *l = &b->lane[i];
        for (size_t s = 0; s < l->n; s++)
            json_decref(l->samples[s].foreign);
        free(l->samples);
    }
    free(b->lane);
    json_decref(b->doc);
    outfile_abandon(&b->json.file);
    outfile_abandon(&b->html.file);
}

static void handle_signals(void) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction sa = {.sa_handler = on_signal};
    sigemptyset(&sa.sa_mask);
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaction(signals[i], &sa, NULL);
}

/* All rounds, then the files; what is whole is written even when something fails. */
static int run_all(struct bench *b) {
    int rc = 0, code = CLI_OK;
    handle_signals();
    b->tty = isatty(STDERR_FILENO) && !b->o.quiet;
    b->started = now();
    for (unsigned r = 0; r < rounds(b) && !rc && !stop_signal; r++)
        rc = one_round(b, r);
    clear_progress(b);
    for (unsigned p = 0; p < b->o.plan.units && !rc; p++)
        if (is_whole(b, p))
            rc = keep(b, p);
    if (rc) {
        cli_error("out of memory");
        code = CLI_HOST;
    }
    if (stop_signal) {
        json_object_set_new(b->doc, "interrupted", json_true());
        cli_error("interrupted: %u of %u points have a result", b->kept, b->o.plan.units);
    }
    const struct bench_options *o = &b->o;
    bool taken = (o->json && outfile_is_stdout(o->json)) ||
                 (o->html && outfile_is_stdout(o->html));
    bench_table_print(b->doc, !b->o.quiet, taken ? stderr : stdout);
    code = cli_flush(code);
    if (bench_out_json(&b->json, b->doc) || bench_out_page(&b->html, b->doc))
        code = CLI_HOST;
    return code ? code : b->any_failed ? CLI_HOST : CLI_OK;
}

int cmd_measure(int argc, char **argv) {
    (void)argc;
    (void)argv;
    if (!measure_serve(STDIN_FILENO))
        return CLI_OK;
    cli_error("'penumbra " MEASURE_COMMAND "' is started by 'penumbra bench' alone");
    return CLI_USAGE;
}

int cmd_bench(int argc, char **argv) {
    struct bench b = {
        .json.file.fd = -1, .html.file.fd = -1, .command = cli_command(argc, argv)};
    bool done;
    int code = bench_options_parse(&b.o, argc, argv, &done);
    if (code || done) {
        json_decref(b.command);
        return code;
    }
    code = bench_out_open(&b.json, b.o.json);
    if (!code)
        code = bench_out_open(&b.html, b.o.html);
    if (!code)
        code = bench_place(&b.o);
    if (!code)
        code = allocate(&b);
    if (!code)
        code = run_all(&b);
    release(&b);
    json_decref(b.command);
    if (stop_signal) {
        /* Die of the signal, now that all is put away: what started us can tell. */
        signal(stop_signal, SIG_DFL);
        raise(stop_signal);
    }
    return code;
}
